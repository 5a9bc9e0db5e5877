"""Matplotlib figures: the static face of every widget. No pyplot, so threads and backends do not matter."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

INK, MUTED, BLUE, AMBER, GREEN = "#1f2328", "#59636e", "#1f6feb", "#b35900", "#1a7f37"
MOST_WORDS = 120  # of a long text, a still picture shows the beginning
MASK_COLORS = {"mask": BLUE, "typed": BLUE, "random": AMBER, "keep": GREEN}


class StillFigure(Figure):
    """A figure that notebooks show by themselves, with no pyplot behind it."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png", dpi=100, bbox_inches="tight")
        return file.getvalue()


def _figure(width: float, height: float) -> Figure:
    figure = StillFigure(figsize=(width, height), facecolor="white")
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


def attention_matrix(
    weights: np.ndarray, tokens: Sequence[str], title: str = "", status: str = "", size: float = 6.0
) -> Figure:
    """One attention map: a row for each token that looks, a column for each that is looked at.

    Args:
        weights: (query, key).
        tokens: their names; written when there is room for them.
        title: above it.
        status: a line of small print.
        size: inches, of both sides.
    """
    figure = _figure(size, size)
    axes = figure.add_axes([0.2, 0.08, 0.76, 0.76])
    axes.imshow(weights, cmap="Blues", vmin=0, aspect="equal", interpolation="nearest")
    if len(tokens) <= 60:
        font = 9 if len(tokens) <= 30 else 5
        axes.set_xticks(range(len(tokens)), tokens, rotation=90, fontsize=font, parse_math=False)
        axes.set_yticks(range(len(tokens)), tokens, fontsize=font, parse_math=False)
        axes.xaxis.tick_top()
    axes.set_title(title, fontsize=10, loc="left", color=MUTED, parse_math=False)
    figure.text(0.01, 0.01, status, fontsize=7, color=MUTED, parse_math=False)
    return figure


def learning_curves(
    log: Sequence[dict[str, float]],
    panels: dict[str, Sequence[str]],
    baselines: dict[str, float] | None = None,
) -> Figure:
    """Figures of a training's log by step, a panel for each group of them.

    Args:
        log: lines of log.jsonl, or `Progress.log`.
        panels: titles, and the names in the log that are drawn there.
        baselines: by title, a level to compare with, drawn as a dashed line.
    """
    figure = _figure(4.6 * len(panels), 3.0)
    for axes, (title, names) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        for name, color in zip(names, (BLUE, AMBER, GREEN, MUTED) * len(names), strict=False):
            points = [(line["step"], line[name]) for line in log if name in line]
            axes.plot(*zip(*points, strict=True), color=color, label=name.replace("_", " "))
        if baselines and title in baselines:
            axes.axhline(baselines[title], color=MUTED, linestyle="--", label="baseline")
        axes.set_title(title, fontsize=10, loc="left")
        axes.set_xlabel("step", fontsize=9, color=MUTED)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=8, frameon=False)
    figure.subplots_adjust(wspace=0.25)
    return figure


def by_head(values: dict[str, np.ndarray]) -> Figure:
    """Numbers of every head, a panel for each: (layers, heads) as squares, the darker the larger."""
    columns = min(3, len(values))
    rows = -(-len(values) // columns)
    figure = _figure(3.4 * columns, 2.3 * rows)
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, (title, table) in zip(grid, values.items(), strict=False):
        table = np.asarray(table)
        drawn = axes.imshow(table, cmap="Blues", vmin=0, aspect="auto")
        best = np.unravel_index(table.argmax(), table.shape)
        axes.set_title(f"{title}: most in layer {best[0] + 1}, head {best[1] + 1}", fontsize=8, loc="left")
        axes.set_xticks(range(0, table.shape[1], 2), range(1, table.shape[1] + 1, 2), fontsize=7)
        axes.set_yticks(range(table.shape[0]), range(1, table.shape[0] + 1), fontsize=7)
        axes.set_ylabel("layer", fontsize=7)
        axes.set_xlabel("head", fontsize=7)
        figure.colorbar(drawn, ax=axes).ax.tick_params(labelsize=7)
    for axes in grid[len(values) :]:
        axes.axis("off")
    figure.subplots_adjust(hspace=0.6, wspace=0.3)
    return figure


def word_senses(similar: np.ndarray, places: np.ndarray, sentences: Sequence[str]) -> Figure:
    """One word in several sentences: how similar its vectors are, and where they lie, layer by layer.

    Args:
        similar: (layers + 1, sentences, sentences), cosines.
        places: (layers + 1, sentences, 2).
        sentences: numbered from 1 in the figure, in this order.
    """
    layers, count = len(similar), len(sentences)
    figure = _figure(1.75 * layers, 4.4 + 0.2 * count)
    grid = figure.subplots(2, layers, squeeze=False)
    names = [str(number) for number in range(1, count + 1)]
    for layer, (top, bottom) in enumerate(grid.T):
        top.imshow(similar[layer], cmap="Blues", vmin=0, vmax=1)
        top.set_title("embeddings" if layer == 0 else f"layer {layer}", fontsize=9)
        top.set_xticks(range(count), names, fontsize=7)
        top.set_yticks(range(count), names, fontsize=7)
        for name, (x, y) in zip(names, places[layer], strict=True):
            bottom.plot(x, y, "o", color=BLUE, markersize=12, alpha=0.25)
            bottom.text(x, y, name, ha="center", va="center", fontsize=8)
        bottom.margins(0.25)
        bottom.set_xticks([])
        bottom.set_yticks([])
    figure.subplots_adjust(bottom=0.1 + 0.2 * count / (4.4 + 0.2 * count), wspace=0.25)
    text = "\n".join(f"{name}  {sentence}" for name, sentence in zip(names, sentences, strict=True))
    figure.text(0.12, 0.02, text, fontsize=8, color=INK, va="bottom", parse_math=False)
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


# --- two texts: next sentence, pairs, spans ------------------------------------------------------

FIRST, SECOND, SPECIAL = "#cfe0fb", "#fbdcb8", "#e4e6ea"  # a segment's paper colour; [CLS] and [SEP]
FIRST_INK, SECOND_INK, SPECIAL_INK = "#1f6feb", "#c76a00", "#8a929c"


def _flow(
    figure: Figure, items: Sequence[tuple[str, str, str]], width: float, height: float, top: float
) -> int:
    """Places boxes (text, small print below, colour) in lines from `top` inches on; returns the lines."""
    renderer = figure.canvas.get_renderer()
    x, line = 0.1, 0
    for text, small, face in items:
        box = {"boxstyle": "round,pad=0.2", "facecolor": face, "edgecolor": "none"}
        drawn = figure.text(0, 0, text, fontsize=10, color=INK, va="center", parse_math=False, bbox=box)
        extent = drawn.get_window_extent(renderer).width / figure.dpi
        if x + extent > width - 0.1 and x > 0.1:
            x, line = 0.1, line + 1
        y = 1 - (top + 0.46 * line) / height
        drawn.set_position((x / width, y))
        middle = (x + extent / 2) / width
        figure.text(middle, y - 0.2 / height, small, fontsize=6, color=MUTED, ha="center", va="center")
        x += extent + 0.15
    return line + 1


def _bars(axes: Any, names: Sequence[str], values: Sequence[float], before: Sequence[float] = ()) -> None:
    """Horizontal bars of probabilities, the first on top, with a tick where each was before."""
    places = range(len(values))[::-1]
    drawn = axes.barh(places, [100 * value for value in values], color=BLUE, height=0.6)
    axes.bar_label(drawn, [f"{100 * value:.1f} %" for value in values], padding=3, fontsize=8, color=INK)
    for place, value in zip(places, before, strict=False):
        axes.plot([100 * value] * 2, [place - 0.4, place + 0.4], color=AMBER, linewidth=1.5)
    axes.set_yticks(places, names, fontsize=9, parse_math=False)
    axes.set_xlim(0, 115)
    axes.set_ylim(-0.6, len(values) - 0.4)
    axes.xaxis.set_visible(False)
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def next_sentence(
    tokens: Sequence[dict[str, Any]],
    weights: Sequence[float],
    is_next: float,
    at_front: float,
    between: Any,
    status: str = "",
    width: float = 9.0,
) -> Figure:
    """Tokens coloured by segment with their ids, the probability, and who looks at whom by layer.

    Args:
        tokens: as `NextSentence` holds them; the first 120 are drawn.
        weights: attention from [CLS] to each token, in percent below it.
        between: (layers, 3, 3), see `attention_between`.
    """
    colors = {"cls": SPECIAL, "sep": SPECIAL}
    items = []
    for token, weight in list(zip(tokens, weights, strict=True))[:MOST_WORDS]:
        face = colors.get(token["kind"], (FIRST, SECOND)[token["segment"]])
        items.append(
            (token["text"], f"{token['segment']} · {token['position']} · {100 * weight:.0f} %", face)
        )
    lines = _flow(_figure(width, 1.0), items, width, 1.0, 0.25)
    height = 0.46 * lines + 0.9 + 0.2 * len(between) + 0.75
    figure = _figure(width, height)
    _flow(figure, items, width, height, 0.25)
    axes = figure.add_axes([0.2, 1 - (0.46 * lines + 0.6) / height, 0.75, 0.36 / height])
    _bars(axes, ["second follows first"], [is_next], [at_front])
    for column, name in enumerate(("[CLS]", "first", "second")):
        box = [0.08 + 0.31 * column, 0.4 / height, 0.27, 0.2 * len(between) / height]
        axes, left = figure.add_axes(box), [0.0] * len(between)
        for group, color in enumerate((FIRST_INK, SECOND_INK, SPECIAL_INK)):
            share = [float(layer[column][group]) for layer in between]
            axes.barh(range(1, len(between) + 1), share, left=left, color=color, height=0.7)
            left = [a + b for a, b in zip(left, share, strict=True)]
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.xaxis.set_visible(False)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right", "bottom"]].set_visible(False)
        axes.set_title(f"{name} looks at", fontsize=8, color=MUTED, loc="left")
        if column == 0:
            axes.set_ylabel("layer", fontsize=8)
    legend = (
        "Below a token: segment · position · attention from [CLS]. Bars: blue first, orange second sentence"
    )
    figure.text(0.01, 0.2 / height, legend + ", grey [CLS] and [SEP].", fontsize=7, color=MUTED)
    figure.text(0.01, 0.05 / height, status, fontsize=7, color=MUTED, parse_math=False)
    return figure


def sentence_pair(
    first: Sequence[str],
    second: Sequence[str],
    weights: Any,
    classes: Sequence[Sequence[Any]],
    status: str = "",
    width: float = 9.0,
) -> Figure:
    """Two sentences with lines between their words, and a bar for each class.

    Args:
        first, second: the words; the first 40 of each are drawn.
        weights: (first, second), how strong the line between two words is.
        classes: [label, probability, probability before].
    """
    figure = _figure(width, 2.4 + 0.26 * len(classes))
    height = figure.get_size_inches()[1]
    places = []
    for words, y, face in ((first[:40], height - 0.3, FIRST), (second[:40], height - 1.6, SECOND)):
        size, step = min(10.0, 200 / max(1, sum(len(word) + 2 for word in words)) * 4.2), []
        x = 0.15
        for word in words:
            box = {"boxstyle": "round,pad=0.2", "facecolor": face, "edgecolor": "none"}
            text = figure.text(
                x / width, y / height, word, fontsize=size, color=INK, va="center", parse_math=False, bbox=box
            )
            extent = text.get_window_extent(figure.canvas.get_renderer()).width / figure.dpi
            step.append(x + extent / 2)
            x += extent + 0.15
        places.append((step, y))
    (above, top), (below, bottom) = places
    axes = figure.add_axes([0, 0, 1, 1], zorder=-1)
    axes.set_xlim(0, width)
    axes.set_ylim(0, height)
    axes.axis("off")
    strongest = max((float(value) for row in weights for value in row), default=0.0) or 1.0
    for row, x in zip(weights, above, strict=False):
        for value, to in zip(row, below, strict=False):
            share = float(value) / strongest
            if share > 0.08:
                axes.plot([x, to], [top - 0.16, bottom + 0.16], color=BLUE, alpha=share, linewidth=2 * share)
    axes = figure.add_axes([0.2, 0.3 / height, 0.72, 0.26 * len(classes) / height])
    _bars(axes, [name for name, *_ in classes], [now for _, now, _ in classes], [old for *_, old in classes])
    figure.text(0.01, 0.05 / height, status, fontsize=7, color=MUTED, parse_math=False)
    return figure


def span_extraction(
    question: str,
    view: dict[str, Any],
    bars: Any,
    answers: Sequence[Sequence[Any]],
    status: str = "",
    width: float = 9.0,
) -> Figure:
    """The passage around the answer with start and end bars, and the best answers.

    Args:
        view: as `SpanExtraction` holds it; 120 word pieces around the answer are drawn.
        bars: (2, tokens), probabilities of start and end.
        answers: [text, start, end, probability, window].
    """
    at = view["answer"] or [0, -1]
    low = max(0, min(at[0] - MOST_WORDS // 2, len(view["tokens"]) - MOST_WORDS))
    items = []
    for index in range(low, min(low + MOST_WORDS, len(view["tokens"]))):
        inside = view["answered"] and at[0] <= index <= at[1]
        start, end = (float(row[index]) for row in bars)
        small = f"s {100 * start:.0f} % · e {100 * end:.0f} %" if max(start, end) >= 0.01 else ""
        items.append((view["tokens"][index][1], small, FIRST if inside else "white"))
    lines = _flow(_figure(width, 1.0), items, width, 1.0, 0.65)
    height = 0.46 * lines + 0.26 * (len(answers) + 1) + 0.95
    figure = _figure(width, height)
    figure.text(0.1 / width, 1 - 0.22 / height, question, fontsize=11, weight="bold", parse_math=False)
    _flow(figure, items, width, height, 0.65)
    axes = figure.add_axes([0.36, 0.25 / height, 0.58, 0.26 * (len(answers) + 1) / height])
    names = [text if len(text) < 34 else text[:32] + " …" for text, *_ in answers] + ["no answer"]
    _bars(axes, names, [answer[3] for answer in answers] + [view["no_answer_probability"]])
    figure.text(0.01, 0.05 / height, status, fontsize=7, color=MUTED, parse_math=False)
    return figure
