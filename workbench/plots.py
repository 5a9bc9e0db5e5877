"""Matplotlib figures: the static face of every widget. No pyplot, so threads and backends do not matter."""

import base64
import io
from collections.abc import Sequence
from colorsys import hls_to_rgb
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

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
        below = figure.text(0, 0, small, fontsize=6, color=MUTED, va="center")
        sizes = [part.get_window_extent(renderer).width / figure.dpi for part in (drawn, below)]
        if x + max(sizes) > width - 0.1 and x > 0.1:
            x, line = 0.1, line + 1
        y = 1 - (top + 0.46 * line) / height
        for part, size, drop in zip((drawn, below), sizes, (0, 0.2), strict=True):
            part.set_position(((x + (max(sizes) - size) / 2) / width, y - drop / height))
        x += max(sizes) + 0.12
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
    height = 0.46 * lines + 0.75 + 0.2 * len(between) + 0.65
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
        axes.set_yticks(range(1, len(between) + 1))
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
    words: list[list[Any]] = []  # text, start, end, whether it is in the answer
    for index in range(low, min(low + MOST_WORDS, len(view["tokens"]))):
        gap, text = view["tokens"][index]
        start, end = (float(row[index]) for row in bars)
        inside = view["answered"] and at[0] <= index <= at[1]
        if words and not gap and words[-1][0][-1:].isalnum() and text[:1].isalnum():  # pieces of one word
            words[-1] = [
                words[-1][0] + text,
                words[-1][1] + start,
                words[-1][2] + end,
                words[-1][3] or inside,
            ]
        else:
            words.append([text, start, end, inside])
    items = []
    for text, start, end, inside in words:
        small = f"s {100 * start:.0f} % · e {100 * end:.0f} %" if max(start, end) >= 0.05 else ""
        items.append((text, small, FIRST if inside else "white"))
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


def sentence_classes(
    bars: Sequence[Sequence[Any]],
    words: Sequence[dict[str, Any]],
    relevance: Sequence[float],
    left_out: Sequence[float],
    chosen: str,
    status: str = "",
    width: float = 9.0,
) -> Figure:
    """Bars of the classes, and the sentence twice: gradient relevance, and what leaving out a word does.

    Args:
        bars: [class, probability, the same with all words in sight].
        words: as `SentenceClassifier` holds them; the first 120 are drawn.
        relevance, left_out: of each word, for the class `chosen`.
    """
    drawings = []
    for values, small in ((relevance, "{:.0f} %"), (left_out, "{:+.1f}")):
        strongest = max(map(abs, values), default=0.0) or 1.0
        items = []
        for word, value in zip(words[:MOST_WORDS], values, strict=False):
            face = AMBER if value < 0 else BLUE
            shade = to_rgba(face, 0.4 * abs(value) / strongest)
            note = small.format(round(100 * value, 1) + 0.0)  # never "-0.0"
            note = "hidden" if word["hidden"] else "" if word["special"] else note
            items.append((word["text"], note, "white" if word["special"] else shade))
        drawings.append((items, _flow(_figure(width, 1.0), items, width, 1.0, 0.0)))
    bar_height = 0.26 * len(bars)
    height = bar_height + sum(0.46 * lines + 0.5 for _, lines in drawings) + 0.5
    figure = _figure(width, height)
    axes = figure.add_axes([0.2, 1 - (bar_height + 0.1) / height, 0.6, bar_height / height])
    before = [full for *_, full in bars] if any(word["hidden"] for word in words) else ()
    _bars(axes, [label for label, *_ in bars], [value for _, value, _ in bars], before)
    top = bar_height + 0.45
    titles = ("gradient relevance for", "leave one out: fall in points of the probability of")
    for title, (items, lines) in zip(titles, drawings, strict=True):
        title = f"{title} “{chosen}”"
        figure.text(0.01, 1 - top / height, title, fontsize=9, color=MUTED, parse_math=False)
        _flow(figure, items, width, height, top + 0.28)
        top += 0.46 * lines + 0.5
    figure.text(0.01, 0.05 / height, status, fontsize=7, color=MUTED, parse_math=False)
    return figure


def class_color(label: int, count: int) -> tuple[float, float, float]:
    """A light colour for the number of a class, of so many; neighbours are far apart."""
    return hls_to_rgb(label * (7 if count > 8 else 1) % count / count, 0.86, 0.75)


def word_classes(
    words: Sequence[dict[str, Any]],
    labels: Sequence[str],
    pinned: int,
    logits: Sequence[float],
    status: str = "",
    width: float = 9.0,
) -> Figure:
    """The words with their classes (the first 120), and the logits of the pinned word.

    Args:
        words: as `TokenTagger` holds them.
        logits: of each class, for the word number `pinned`.
    """
    items = [
        (
            word["text"],
            f"{labels[word['label']]} {100 * word['probability']:.0f} %",
            class_color(word["label"], len(labels)),
        )
        for word in words[:MOST_WORDS]
    ]
    lines = _flow(_figure(width, 1.0), items, width, 1.0, 0.0)
    bar_height = 0.2 * len(labels)
    height = 0.46 * lines + bar_height + 1.0
    figure = _figure(width, height)
    _flow(figure, items, width, height, 0.25)
    axes = figure.add_axes([0.12, 0.3 / height, 0.6, bar_height / height])
    places = range(len(labels))[::-1]
    colors = [class_color(label, len(labels)) for label in range(len(labels))]
    drawn = axes.barh(places, logits, color=colors, height=0.7)
    axes.bar_label(drawn, [f"{value:.1f}" for value in logits], padding=3, fontsize=7, color=INK)
    axes.set_yticks(places, labels, fontsize=7, parse_math=False)
    axes.margins(x=0.12)
    axes.axvline(0, color=MUTED, linewidth=0.6)
    axes.xaxis.set_visible(False)
    axes.spines[["top", "right", "bottom", "left"]].set_visible(False)
    title = f"“{words[pinned]['text']}”: logit of each class"
    axes.set_title(title, fontsize=9, loc="left", color=MUTED, parse_math=False)
    figure.text(0.01, 0.05 / height, status, fontsize=7, color=MUTED, parse_math=False)
    return figure


def fine_tuning(
    curves: dict[str, Sequence[Sequence[float]]],
    tables: dict[str, dict[str, Any]],
    status: str = "",
    width: float = 9.0,
) -> Figure:
    """Accuracy, loss and held-out answers of two trainings, side by side.

    Args:
        curves: by training, (step, loss, accuracy, held-out loss, held-out accuracy) of each look.
        tables: by training, its `labels` and `counts` (true class, class said).
    """
    height = 5.6 if tables else 2.6
    figure = _figure(width, height)
    for column, name in enumerate(("frozen", "fine-tuned")):
        points = np.array(curves.get(name) or np.zeros((0, 5)))
        left = 0.07 + 0.5 * column
        for part, (title, seen, fresh) in enumerate((("accuracy", 2, 4), ("loss", 1, 3))):
            axes = figure.add_axes([left + 0.235 * part, 1 - 2.1 / height, 0.18, 1.7 / height])
            axes.plot(points[:, 0], points[:, seen], "--", color=AMBER, label="learned from")
            axes.plot(points[:, 0], points[:, fresh], "o-", color=BLUE, markersize=3, label="held out")
            axes.set_ylim(0, 1.02 if title == "accuracy" else None)
            axes.set_title(f"{name}: {title}", fontsize=9, loc="left", color=MUTED)
            axes.tick_params(labelsize=7)
            axes.spines[["top", "right"]].set_visible(False)
            if part == 0 and len(points):
                axes.legend(fontsize=7, frameon=False, loc="lower right")
        if name not in tables:
            continue
        labels, counts = tables[name]["labels"], np.array(tables[name]["counts"])
        axes = figure.add_axes([left + 0.05, 0.5 / height, 0.34, 2.2 / height])
        axes.imshow(counts, cmap="Blues", vmin=0, aspect="auto")
        font = 8 if len(labels) <= 6 else 5
        for (row, said), count in np.ndenumerate(counts):
            if count:
                ink = "white" if count > 0.6 * counts.max() else INK
                axes.text(said, row, count, ha="center", va="center", fontsize=font, color=ink)
        turned = 0 if len(labels) <= 6 else 90
        axes.set_xticks(range(len(labels)), labels, fontsize=font, rotation=turned, parse_math=False)
        axes.set_yticks(range(len(labels)), labels, fontsize=font, parse_math=False)
        axes.set_title("held out: true class down, answer across", fontsize=8, loc="left", color=MUTED)
    figure.text(0.01, 0.05 / height, status, fontsize=7, color=MUTED, parse_math=False)
    return figure


# --- pictures: attention over patches --------------------------------------------------------------


def patch_attention(
    picture: bytes,
    large: np.ndarray,
    titles: Sequence[str],
    maps: np.ndarray,
    distances: np.ndarray,
    test: dict[str, Any] | None = None,
    *,
    outliers: Sequence[int] = (),
    style: tuple[str, float, bool] = ("magma", 0.7, False),
    status: str = "",
    width: float = 9.0,
) -> Figure:
    """A picture with maps over it, all heads small, how far they look, and the test of a map.

    Args:
        picture: a file, what the model sees.
        large: (maps, rows, columns), 0 to 1.
        titles: of the large maps.
        maps: (layers, heads, rows, columns) of small maps.
        distances: (layers, heads), in pixels.
        test: one of `PatchAttention.tests`.
        outliers: patches that are framed.
        style: colours ("magma", "viridis" or "light"), opacity, and whether maps are interpolated.
    """
    image = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))
    tall, wide = image.shape[:2]
    rows, columns = large.shape[1:]
    colors, opacity, smooth = style
    across = width / 3
    figure = _figure(width, 2 * across)
    for column, (weights, title) in enumerate(zip(large, titles, strict=True)):
        axes = figure.add_axes([0.01 + 0.335 * column, 0.53, 0.31, 0.4])
        axes.imshow(image, extent=(0, wide, tall, 0))
        options = dict(vmin=0, vmax=1, cmap=colors, alpha=opacity)
        if colors == "light":  # what is not looked at lies in the dark
            options = dict(vmin=0, vmax=1, cmap="gray", alpha=opacity * (1 - weights))
            weights = np.zeros_like(weights)
        kind = "bilinear" if smooth else "nearest"
        axes.imshow(weights, extent=(0, wide, tall, 0), interpolation=kind, **options)
        for patch in outliers:
            corner = patch % columns * wide / columns, patch // columns * tall / rows
            axes.add_patch(Rectangle(corner, wide / columns, tall / rows, fill=False, edgecolor="#ff5f52"))
        axes.set_title(title, fontsize=8, loc="left", color=MUTED, parse_math=False)
        axes.axis("off")
    layers, heads = maps.shape[:2]
    # One image of all small maps, each with an empty row and column behind it.
    tiles = np.pad(maps.astype(float), ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=np.nan)
    axes = figure.add_axes([0.71 if len(large) > 1 else 0.4, 0.53, 0.27 if len(large) > 1 else 0.58, 0.4])
    axes.imshow(np.vstack([np.hstack(list(layer)) for layer in tiles]), cmap="magma", vmin=0)
    axes.set_anchor("W")
    axes.set_xticks((np.arange(heads) + 0.5) * tiles.shape[3], range(1, heads + 1), fontsize=6)
    axes.set_yticks((np.arange(layers) + 0.5) * tiles.shape[2], range(1, layers + 1), fontsize=6)
    axes.set_title("all layers (down) and heads (across)", fontsize=8, loc="left", color=MUTED)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes = figure.add_axes([0.06, 0.1, 0.38, 0.33])
    for head in range(heads):
        axes.plot(range(1, layers + 1), distances[:, head], "o", color=BLUE, markersize=4, alpha=0.7)
    axes.set_ylim(0, 1.08 * float(distances.max()))
    axes.set_title("mean attention distance of each head (pixels) by layer", fontsize=8, loc="left")
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    for column, kind in enumerate(("deletion", "insertion") if test else ()):
        axes = figure.add_axes([0.52 + 0.25 * column, 0.1, 0.21, 0.33])
        shares = 100 * np.array(test["shares"])
        random = test["random"][:: -1 if column else 1]
        axes.plot(shares, random, "--", color=AMBER, label=f"random, area {test['areas'][4]:.2f}")
        axes.plot(shares, test[kind], color=BLUE, label=f"map, area {test['areas'][column]:.2f}")
        axes.set_ylim(0)
        axes.set_title(f"{kind}: “{test['label']}”", fontsize=8, loc="left", parse_math=False)
        axes.set_xlabel(f"% of patches {'shown' if column else 'hidden'}", fontsize=7, color=MUTED)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=6, frameon=False)
    figure.text(0.01, 0.005, status, fontsize=7, color=MUTED, parse_math=False)
    return figure


# --- patches of a picture ------------------------------------------------------------------------


def _picture(axes: Any, png: bytes, title: str = "") -> np.ndarray:
    """Draws PNG bytes without ticks; returns the pixels (height, width, 3)."""
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    axes.imshow(pixels, interpolation="nearest")
    axes.axis("off")
    axes.set_title(title, fontsize=9, loc="left", color=MUTED, parse_math=False)
    return pixels


def patch_splitting(
    png: bytes,
    grid: Sequence[int],
    patch: int,
    colors: np.ndarray,
    vectors: np.ndarray,
    status: str = "",
    width: float = 9.0,
) -> Figure:
    """A picture with its grid, one patch flattened, and the vectors that become its token.

    Args:
        png: what the model sees.
        grid: patches down and across.
        patch: the pinned one; -1 for the class token.
        colors: (size, size, 3) of uint8, its pixels.
        vectors: (3, hidden): patch times matrix, position, their sum; or empty.
    """
    figure = _figure(width, 4.2)
    axes = figure.add_axes([0.01, 0.08, 0.42, 0.84])
    pixels = _picture(axes, png, f"{grid[0]} x {grid[1]} patches")
    size = len(colors)
    for place in np.arange(1, grid[0]) * size - 0.5:
        axes.axhline(place, color="white", linewidth=0.7, alpha=0.8)
    for place in np.arange(1, grid[1]) * size - 0.5:
        axes.axvline(place, color="white", linewidth=0.7, alpha=0.8)
    axes.set_xlim(-0.5, pixels.shape[1] - 0.5)
    rows = []
    if patch >= 0:
        corner = (patch % grid[1] * size - 0.5, patch // grid[1] * size - 0.5)
        axes.add_patch(Rectangle(corner, size, size, fill=False, edgecolor=BLUE, linewidth=2.5))
        enlarged = figure.add_axes([0.47, 0.6, 0.16, 0.32])
        enlarged.imshow(colors, interpolation="nearest")
        enlarged.axis("off")
        enlarged.set_title(f"patch {patch + 1}", fontsize=9, loc="left", color=MUTED)
        flat = np.zeros((3, 3 * size**2, 3), np.uint8)
        for band in range(3):  # each value in its own colour
            flat[:, band * size**2 : (band + 1) * size**2, band] = colors[..., band].flatten()
        axes = figure.add_axes([0.66, 0.72, 0.32, 0.08])
        axes.imshow(flat, aspect="auto", interpolation="nearest")
        axes.axis("off")
        axes.set_title(f"flattened: {3 * size**2} values", fontsize=8, loc="left", color=MUTED)
        rows = [("patch x matrix", 0)]
    else:
        rows = [("class token", 0)]
    for name, index in [*rows, ("+ position", 1), ("= token", 2)] if len(vectors) else ():
        axes = figure.add_axes([0.6, 0.42 - 0.14 * index, 0.38, 0.09])
        most = max(float(np.abs(vectors[index]).max()), 1e-9)
        axes.imshow(vectors[index][None], cmap="PuOr", vmin=-most, vmax=most, aspect="auto")
        axes.set_xticks([])
        axes.set_yticks([0], [name], fontsize=8)
    figure.text(0.01, 0.01, status, fontsize=7, color=MUTED, parse_math=False)
    return figure


def embedding_filters(components: Any) -> Figure:
    """Principal components of the projection as small pictures, seven in a row (ViT, figure 7 left).

    Args:
        components: (components, 3, size, size), see `filter_components`.
    """
    components = np.asarray(components).transpose(0, 2, 3, 1)
    rows = -(-len(components) // 7)
    figure = _figure(6.3, 0.9 * rows)
    for axes, filters in zip(figure.subplots(rows, 7, squeeze=False).flatten(), components, strict=False):
        axes.imshow(0.5 + filters / (2 * np.abs(filters).max() + 1e-9), interpolation="nearest")
    for axes in figure.axes:
        axes.axis("off")
    figure.subplots_adjust(wspace=0.08, hspace=0.08)
    return figure


def position_similarity(similar: Any, most: int = 12) -> Figure:
    """How similar each patch's position is to all others: a small map for each (ViT, figure 7 centre).

    Args:
        similar: (rows, columns, rows, columns), cosines.
        most: maps down and across; of a larger grid, evenly spaced ones are drawn.
    """
    similar = np.asarray(similar)
    rows, columns = (
        np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))
        for count in similar.shape[:2]
    )
    figure = _figure(6.3, 6.3 * len(rows) / len(columns))
    grid = figure.subplots(len(rows), len(columns), squeeze=False)
    for (row, column), axes in np.ndenumerate(grid):
        drawn = axes.imshow(
            similar[rows[row], columns[column]], cmap="viridis", vmin=similar.min(), vmax=1, aspect="auto"
        )
        axes.set_xticks([])
        axes.set_yticks([])
        if column == 0:
            axes.set_ylabel(rows[row] + 1, fontsize=7)
        if row == len(rows) - 1:
            axes.set_xlabel(columns[column] + 1, fontsize=7)
    figure.subplots_adjust(wspace=0.08, hspace=0.08, left=0.05, right=0.86, bottom=0.05, top=0.86)
    figure.colorbar(drawn, cax=figure.add_axes([0.89, 0.25, 0.025, 0.4]), label="cosine similarity")
    return figure


def patch_hiding(
    png: bytes,
    title: str,
    bars: Sequence[Sequence[Any]],
    layers: Sequence[Sequence[Any]],
    layer: int,
    kept: Sequence[dict[str, Any]] = (),
    status: str = "",
    width: float = 9.0,
) -> Figure:
    """A picture with some patches covered, its classes, and below it others to compare with.

    Args:
        png: the picture as it is shown.
        bars: [class, probability, the same with all in place].
        layers: [best class, its probability] after each layer.
        layer: the one that the bars are read from.
        kept: as `PatchHiding` holds them; the first six are drawn.
    """
    top = max(3.2, 0.26 * len(bars) + 0.2 * len(layers) + 1.2)
    height = top + (2.1 if kept else 0)
    figure = _figure(width, height)
    _picture(figure.add_axes([0.01, 1 - (top - 0.2) / height, 0.38, (top - 0.6) / height]), png, title)
    axes = figure.add_axes([0.6, 1 - (0.26 * len(bars) + 0.4) / height, 0.36, 0.26 * len(bars) / height])
    _bars(axes, [label for label, *_ in bars], [now for _, now, _ in bars], [old for *_, old in bars])
    after = "the last layer" if layer == len(layers) - 1 else f"layer {layer}"
    axes.set_title(f"class after {after}", fontsize=9, loc="left", color=MUTED)
    axes = figure.add_axes([0.6, 1 - (top - 0.3) / height, 0.36, 0.2 * len(layers) / height])
    _bars(axes, [f"{at}: {label}" for at, (label, _) in enumerate(layers)], [part for _, part in layers])
    axes.tick_params(labelsize=7)
    for column, other in enumerate(kept[:6]):
        axes = figure.add_axes([0.01 + column / 6.2, 0.75 / height, 0.14, 1.2 / height])
        _picture(axes, base64.b64decode(other["picture"]), other["name"][:18])
        text = "\n".join(f"{100 * part:.0f} %  {label[:16]}" for label, part, _ in other["bars"][:3])
        figure.text(0.01 + column / 6.2, 0.7 / height, text, fontsize=7, va="top", parse_math=False)
    figure.text(0.01, 0.03 / height, status, fontsize=7, color=MUTED, parse_math=False)
    return figure


def masked_patches(guesses: dict[str, np.ndarray], width: float = 9.0) -> Figure:
    """Pictures, the same with patches hidden, and with what was guessed in their place, a row each.

    Args:
        guesses: by title, (pictures, height, width, 3) of uint8.
    """
    columns = len(next(iter(guesses.values())))
    figure = _figure(width, width * (1.06 * len(guesses) + 0.3) / columns)
    for cells, (title, pictures) in zip(
        figure.subplots(len(guesses), columns, squeeze=False), guesses.items(), strict=True
    ):
        for axes, picture in zip(cells, pictures, strict=True):
            axes.imshow(picture)
            axes.axis("off")
        cells[0].set_title(title, fontsize=10, loc="left", color=MUTED)
    figure.subplots_adjust(
        left=0.01, right=0.99, bottom=0.01, top=1 - 0.3 / (len(guesses) + 1), wspace=0.08, hspace=0.24
    )
    return figure
