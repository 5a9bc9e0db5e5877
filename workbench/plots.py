"""Matplotlib figures: the static face of every widget. No pyplot, so threads and backends do not matter."""

from collections.abc import Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

INK, MUTED, BLUE, AMBER, GREEN = "#1f2328", "#59636e", "#1f6feb", "#b35900", "#1a7f37"
MOST_WORDS = 120  # of a long text, a still picture shows the beginning
MASK_COLORS = {"mask": BLUE, "typed": BLUE, "random": AMBER, "keep": GREEN}


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def masked_filling(
    words: Sequence[dict[str, Any]],
    guesses: dict[str, Any],
    weights: Sequence[float] | None = None,
    status: str = "",
    width: float = 9.0,
) -> Figure:
    """The sentence with its masks framed (its first 120 words), and below it bars for up to three masks.

    Args:
        words, guesses: as `MaskedFilling` holds them.
        weights: attention from the pinned mask to each word, drawn as shading.
        status: a line of small print.
        width: inches; the height follows from the text.
    """
    figure = _figure(width, 1.0)
    if len(words) > MOST_WORDS:
        words = [*words[:MOST_WORDS], {"text": "…", "pieces": ["…"], "kind": "special"}]
        weights = [*weights[:MOST_WORDS], 0.0] if weights else None
    lines = _place_words(figure, words, width)
    sentence = 0.34 * lines + 0.15
    cards = guesses["cards"][:3]
    bars = max((len(card["candidates"]) for card in cards), default=0)
    height = sentence + (0.24 * bars + 0.5 if bars else 0) + 0.3
    figure.clear()
    figure.set_size_inches(width, height)
    _place_words(figure, words, width, height, weights)
    for column, card in enumerate(cards):
        bottom, share = 0.4 / height, 1 / len(cards)
        box = [column * share + 0.11, bottom, share - 0.16, 0.24 * bars / height]
        axes = figure.add_axes(box)
        labels = [label for label, *_ in card["candidates"]][::-1]
        values = [100 * value for _, value, _ in card["candidates"]][::-1]
        drawn = axes.barh(range(len(values)), values, color=BLUE, height=0.66)
        axes.bar_label(drawn, [f"{value:.1f} %" for value in values], padding=3, fontsize=8, color=INK)
        axes.set_yticks(range(len(values)), labels, fontsize=9, parse_math=False)
        axes.set_xlim(0, max(values) * 1.3)
        axes.xaxis.set_visible(False)
        axes.spines[["top", "right", "bottom"]].set_visible(False)
        title = f"mask {guesses['first'] + column + 1}"
        if card["original"] is not None:
            title += f", was “{card['original']}” (rank {card['rank']}, {100 * card['probability']:.1f} %)"
        axes.set_title(title, fontsize=9, loc="left", color=MUTED, parse_math=False)
    figure.text(0.01, 0.06 / height, status, fontsize=7, color=MUTED, parse_math=False)
    return figure


def _place_words(
    figure: Figure,
    words: Sequence[dict[str, Any]],
    width: float,
    height: float = 1.0,
    weights: Sequence[float] | None = None,
) -> int:
    """Draws words in lines, as wide as they are; returns the number of lines."""
    renderer = figure.canvas.get_renderer()
    strongest = max(weights, default=0.0) if weights else 0.0
    x, line = 0.1, 0
    for index, word in enumerate(words):
        kind = word["kind"]
        shown = "".join(word["pieces"]) if kind in ("mask", "random") else word["text"]
        color = MASK_COLORS.get(kind, MUTED if kind == "special" or word.get("hidden") else INK)
        shade = 0.45 * weights[index] / strongest if weights and strongest else 0.0
        text = figure.text(
            x / width,
            1 - (0.25 + 0.34 * line) / height,
            shown,
            fontsize=11,
            color=color,
            va="center",
            parse_math=False,
            bbox={
                "boxstyle": "round,pad=0.2",
                "facecolor": (0.12, 0.44, 0.92, shade),
                "edgecolor": color if kind in MASK_COLORS else "none",
            },
        )
        extent = text.get_window_extent(renderer).width / figure.dpi
        if x + extent > width - 0.1 and x > 0.1:
            x, line = 0.1, line + 1
            text.set_position((x / width, 1 - (0.25 + 0.34 * line) / height))
        x += extent + 0.16
    return line + 1
