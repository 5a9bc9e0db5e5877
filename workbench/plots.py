"""Still pictures, made of five marks and `stack`: the static face of every widget, and the lessons' plots.

A mark (`words`, `bars`, `heat`, `curves`, `picture`) says how it is drawn and how much room it takes; `stack`
puts marks under and beside each other. No pyplot, so threads and backends do not matter.
"""

import functools
import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from colorsys import hls_to_rgb
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.gridspec import SubplotSpec
from matplotlib.patches import Rectangle
from matplotlib.transforms import ScaledTranslation, Transform, blended_transform_factory

INK, MUTED, BLUE, AMBER, GREEN = "#1f2328", "#59636e", "#1f6feb", "#b35900", "#1a7f37"
ORANGE, GREY, RED, PAPER = "#c76a00", "#8a929c", "#ff5f52", "#eef0f3"
FIRST, SECOND, SPECIAL = "#cfe0fb", "#fbdcb8", "#e4e6ea"  # paper of the two segments; of [CLS] and [SEP]
WIDTH = 9.0  # inches of a still picture
MOST_WORDS = 120  # of a long text, a still picture shows the beginning
MOST_NAMES = 60  # rows or columns of a map that are named; more are numbered
SMALL = {"color": MUTED, "parse_math": False}
ENDS = {  # the colours of the smallest and the largest number
    "Blues": ("white", "dark blue"),
    "PuOr": ("orange", "violet"),
    "magma": ("black", "yellow"),
    "viridis": ("violet", "yellow"),
}
_RENDERER = RendererAgg(1, 1, 72)  # for the sizes of words, in points


@contextmanager
def _quiet() -> Iterator[None]:
    """A letter that matplotlib's font lacks is drawn as a box, without a warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield


class StillFigure(Figure):
    """A figure that notebooks show by themselves, with no pyplot behind it."""

    def savefig(self, *args: Any, **options: Any) -> None:
        """As matplotlib's, without warnings about letters."""
        with _quiet():
            super().savefig(*args, **options)

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png", dpi=100)
        return file.getvalue()


@dataclass(frozen=True)
class Mark:
    """Something to draw into axes; `height` in inches, `width` in shares of its row."""

    draw: Callable[[Axes], None]
    height: float
    width: float = 1.0


Part: TypeAlias = "Mark | list[Part] | tuple[Part, ...]"  # a list stands in a column, a tuple in a row


def stack(*parts: Part, status: str = "", width: float = WIDTH) -> StillFigure:
    """Parts under each other, and a line of small print.

    Args:
        parts: marks; a tuple of parts stands side by side, a list of parts below each other.
        status: the small print.
        width: inches; the height follows from the parts.
    """
    column = [part for part in (*parts, _text(status) if status else ()) if part]
    figure = StillFigure(figsize=(width, _size(column, "height")), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.06, wspace=0.0, hspace=0.0)
    with _quiet():
        _place(figure, figure.add_gridspec()[0], column)
        figure.get_layout_engine().execute(figure)
    figure.set_layout_engine("none")  # laid out once, not with each drawing
    return figure


def _size(part: Part, side: str) -> float:
    """How high or wide a part is: a row is as wide as its parts together and as high as the highest."""
    if isinstance(part, Mark):
        return getattr(part, side)
    return (sum if isinstance(part, tuple) == (side == "width") else max)(_size(one, side) for one in part)


def _place(figure: Figure, room: SubplotSpec, part: Part) -> None:
    if isinstance(part, Mark):
        part.draw(figure.add_subplot(room))
        return
    if isinstance(part, tuple):
        grid = room.subgridspec(1, len(part), width_ratios=[_size(one, "width") for one in part])
    else:
        grid = room.subgridspec(len(part), 1, height_ratios=[_size(one, "height") for one in part])
    for number, one in enumerate(part):
        _place(figure, grid[number], one)


def _from_the_left(axes: Axes) -> Transform:
    """Inches from the left edge of the figure and from the top of the axes."""
    corner = blended_transform_factory(axes.figure.transFigure, axes.transAxes)
    return axes.figure.dpi_scale_trans + ScaledTranslation(0, 1, corner)


def _text(text: str) -> Mark:
    """Small print."""

    def draw(axes: Axes) -> None:
        axes.axis("off")
        options = {"transform": _from_the_left(axes), "in_layout": False} | SMALL
        axes.text(0.1, -0.05, text, fontsize=7, va="top", **options)

    return Mark(draw, 0.28 + 0.14 * text.count("\n"))


# --- the five marks


class Chip(NamedTuple):
    """A word's box: its text, small print below, the colours of its paper and ink, and its frame."""

    text: str
    note: str = ""
    paper: Any = "none"
    ink: str = INK
    framed: bool = False


def shade(color: str, share: float) -> tuple[float, ...]:
    """A word's paper: nothing for 0, as dark as words stay legible on for 1."""
    return to_rgba(color, 0.45 * share)


@functools.lru_cache(10_000)
def _inches(text: str, size: float) -> float:
    with _quiet():
        return _RENDERER.get_text_width_height_descent(text, FontProperties(size=size), False)[0] / 72


def words(*sentences: Sequence[Chip], title: str = "", links: Any = (), most: int = MOST_WORDS) -> Mark:
    """Word boxes in lines as wide as the picture, each sentence on a new one; of each, `most` are drawn.

    Args:
        links: (words of the first sentence, words of the second), how strong a line between them is.
    """
    boxes: list[list[tuple[Chip, float, float]]] = []  # by sentence: word, middle and line, in inches
    pitch = 0.44 if any(word.note for sentence in sentences for word in sentence) else 0.32
    top = 0.45 if title else 0.2
    for sentence in sentences:
        shown = [word._replace(text=_cut(word.text, 60)) for word in sentence[:most]]
        shown += [Chip("…", ink=MUTED)] * (len(sentence) > most)
        x, row = 0.1, []
        for word in shown:
            wide = max(_inches(word.text, 10) + 0.08, _inches(word.note, 6))
            if x + wide > WIDTH - 0.2 and row:
                x, top = 0.1, top + pitch
            row.append((word, x + wide / 2, top))
            x += wide + 0.1
        boxes.append(row)
        top += pitch + (0.9 if len(links) and len(boxes) == 1 else 0)

    def draw(axes: Axes) -> None:
        axes.axis("off")
        inches = _from_the_left(axes)
        options = {"transform": inches, "va": "center", "parse_math": False, "in_layout": False}
        axes.text(0.1, -0.1, title, fontsize=9, color=MUTED, **options)
        for word, x, y in (box for row in boxes for box in row):
            frame = {"boxstyle": "round,pad=0.2", "facecolor": word.paper, "edgecolor": "none"}
            if word.framed:
                frame["edgecolor"] = word.ink
            axes.text(x, -y, word.text, fontsize=10, color=word.ink, ha="center", bbox=frame, **options)
            if word.note:
                axes.text(x, -y - 0.19, word.note, fontsize=6, color=MUTED, ha="center", **options)
        strongest = np.max(links, initial=1e-9)
        for a, b in np.argwhere(np.asarray(links) > 0.08 * strongest):
            if a < most and b < most:
                (_, x, y), (_, to, below), share = boxes[0][a], boxes[1][b], links[a][b] / strongest
                line = axes.plot([x, to], [-y - 0.15, 0.15 - below], color=BLUE, alpha=share)[0]
                line.set(transform=inches, linewidth=2 * share, clip_on=False, in_layout=False)

    return Mark(draw, top - pitch / 2 + 0.15)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 2] + " …"


def bars(
    names: Sequence[str],
    values: Any,
    before: Sequence[float] = (),
    *,
    title: str = "",
    colors: Sequence[Any] = (BLUE,),
    percent: bool = True,
) -> Mark:
    """Horizontal bars, the first on top, and their numbers.

    Args:
        values: (names), or (names, parts) for bars of several parts, which are drawn without numbers.
        before: a tick for what each value was.
        colors: for each part, one colour or one for each bar.
        percent: probabilities, on a scale from 0 to 100 %; else any numbers.
    """
    parts = np.reshape(np.asarray(values, float), (len(names), -1)).T  # (parts, names)

    def draw(axes: Axes) -> None:
        places = np.arange(len(names))
        if percent:
            axes.barh(places, 1, color=PAPER, height=0.7)
            axes.set_xlim(0, 1)
        else:
            axes.axvline(0, color=MUTED, linewidth=0.6)
        for part, left, color in zip(parts, parts.cumsum(0) - parts, colors, strict=True):
            axes.barh(places, part, left=left, color=color, height=0.7)
        axes.vlines(before, places[: len(before)] - 0.45, places[: len(before)] + 0.45, color=AMBER)
        for place, value in enumerate(parts[0] if len(parts) == 1 else ()):
            number = f"{100 * value:.1f} %" if percent else f"{value:.1f}"
            room = axes.get_yaxis_transform()
            axes.text(1.01, place, number, fontsize=8, color=INK, va="center", transform=room)
        axes.set_yticks(places, [_cut(str(name), 34) for name in names], fontsize=8, parse_math=False)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.xaxis.set_visible(False)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_title(title, fontsize=9, loc="left", **SMALL)

    return Mark(draw, 0.23 * len(names) + (0.4 if title else 0.2))


def heat(
    table: Any,
    rows: Sequence[Any] = (),
    columns: Sequence[Any] = (),
    *,
    title: str = "",
    colors: str = "",
    low: float | None = None,
    high: float | None = None,
    number: str = "{:.3g}",
    label: str = "",
    written: bool = False,
    square: bool = False,
    height: float = 3.0,
    width: float = 1.0,
) -> Mark:
    """A map, its rows and columns named, and below it what its colours stand for.

    Args:
        table: (rows, columns); several cells may share a name, see `tiled`.
        colors: one of `ENDS`; by default white to blue, and orange to violet if there is a number below 0.
        low, high: numbers with the first and the last colour; by default 0 and the largest, or both as far
            from 0 as the largest is.
        number: how they are written.
        label: what the columns are.
        written: the numbers stand in their cells.
        square: cells are squares.
    """
    table = np.asarray(table, float)
    below = bool(np.nanmin(table) < 0)
    colors = colors or ("PuOr" if below else "Blues")
    high = float(np.nanmax(np.abs(table))) if high is None else high
    low = (-high if below else 0.0) if low is None else low

    def draw(axes: Axes) -> None:
        aspect = "equal" if square else "auto"
        axes.imshow(table, cmap=colors, vmin=low, vmax=high, aspect=aspect, interpolation="nearest")
        for axis, names, count in zip((axes.yaxis, axes.xaxis), (rows, columns), table.shape, strict=True):
            if len(names) <= MOST_NAMES:
                places = (np.arange(len(names)) + 0.5) * count / max(1, len(names)) - 0.5
                size = 8 if len(names) <= 16 else 6 if len(names) <= 30 else 4.5
                axis.set_ticks(places, names, fontsize=size, parse_math=False)
            else:
                axis.set_tick_params(labelsize=8)
        axes.tick_params(length=0)
        if 6 < len(columns) <= MOST_NAMES and max(len(str(name)) for name in columns) > 2:
            axes.tick_params("x", rotation=90)
        axes.spines[:].set_visible(False)
        for (row, column), value in np.ndenumerate(table if written else np.zeros((0, 0))):
            if value:
                ink = "white" if value > 0.6 * high else INK
                size = 8 if len(table) <= 6 else 5
                text = number.format(value)
                axes.text(
                    column, row, text, fontsize=size, color=ink, ha="center", va="center", in_layout=False
                )
        scale = ", ".join(
            f"{name} {number.format(end)}" for name, end in zip(ENDS[colors], (low, high), strict=True)
        )
        axes.set_xlabel(f"{label} · {scale}" if label else scale, fontsize=7, loc="left", **SMALL)
        axes.set_title(title, fontsize=9, loc="left", **SMALL)
        axes.set_anchor("NW")

    return Mark(draw, height, width)


def curves(
    lines: Mapping[str, Any],
    compare: Mapping[str, Any] | None = None,
    *,
    title: str = "",
    label: str = "step",
    style: str = "-",
    bottom: float | None = None,
    top: float | None = None,
) -> Mark:
    """Lines by step.

    Args:
        lines: by name, (points, 2): step and value.
        compare: dashed: lines too, or numbers, which are levels.
        label: what a step is.
        style: matplotlib's, such as "o" for points.
        bottom, top: the ends of the scale, where they are given.
    """

    def draw(axes: Axes) -> None:
        for (name, points), color in zip(
            lines.items(), (BLUE, AMBER, GREEN, MUTED) * len(lines), strict=False
        ):
            axes.plot(*np.reshape(points, (-1, 2)).T, style, color=color, label=name, markersize=3)
        for name, points in (compare or {}).items():
            if np.ndim(points) == 0:
                axes.axhline(points, linestyle="--", color=MUTED, label=name)
            else:
                axes.plot(*np.reshape(points, (-1, 2)).T, "--", color=AMBER, label=name)
        axes.set_title(title, fontsize=9, loc="left", **SMALL)
        axes.set_xlabel(label, fontsize=7, **SMALL)
        axes.locator_params(nbins=6)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_ylim(bottom, top)
        if len(lines) + len(compare or ()) > 1:
            axes.legend(fontsize=7, frameon=False)

    return Mark(draw, 2.4)


def picture(
    pixels: np.ndarray,
    weights: Any = None,
    *,
    title: str = "",
    note: str = "",
    grid: Sequence[int] = (),
    framed: Sequence[int] = (),
    colors: str = "magma",
    opacity: float = 0.7,
    smooth: bool = False,
    aspect: float = 1.0,
    height: float = 3.0,
    width: float = 1.0,
) -> Mark:
    """A picture, with a map over it whose opacity follows the weight.

    Args:
        pixels: (height, width, 3), bytes, or 0 to 1.
        weights: (rows, columns) of patches; the largest is as opaque as `opacity` says.
        note: small print below.
        grid: patches down and across, drawn as white lines.
        framed: patches with a frame, counted row by row.
        colors: matplotlib's name of a scale; "light": what has no weight lies in the dark.
        smooth: the map is interpolated, instead of one square a patch.
        aspect: how many times as high as wide a pixel is.
    """

    def draw(axes: Axes) -> None:
        tall, wide = pixels.shape[:2]
        axes.imshow(pixels, extent=(0, wide, tall, 0), interpolation="nearest")
        rows, columns = grid or np.shape(weights) or (1, 1)
        if weights is not None:
            share = np.asarray(weights, float)
            share = share / max(share.max(), 1e-9)
            cover = np.zeros((rows, columns, 4)) if colors == "light" else colormaps[colors](share)
            cover[..., 3] = opacity * (1 - share if colors == "light" else share)
            axes.imshow(cover, extent=(0, wide, tall, 0), interpolation="bilinear" if smooth else "nearest")
        if grid:
            axes.hlines(np.arange(1, rows) * tall / rows, 0, wide, color="white", linewidth=0.7)
            axes.vlines(np.arange(1, columns) * wide / columns, 0, tall, color="white", linewidth=0.7)
        for row, column in (divmod(patch, columns) for patch in framed):
            size = wide / columns, tall / rows
            corner = column * size[0], row * size[1]
            axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=RED, linewidth=2.5, zorder=3))
        axes.set_aspect(aspect)
        axes.axis("off")
        axes.set_anchor("NW")
        axes.set_title(title, fontsize=9, loc="left", **SMALL)
        if note:
            axes.text(0, -0.03, note, fontsize=7, va="top", transform=axes.transAxes, **SMALL)

    return Mark(draw, height, width)


def tiled(maps: Any) -> np.ndarray:
    """Many small maps or pictures as one, with white between them.

    Args:
        maps: (down, across, height, width), or the same with 3 colours behind.

    Returns:
        (down * (height + gap), across * (width + gap)), with colours behind if there were any.
    """
    maps = np.asarray(maps, float)
    gap = 1 + maps.shape[2] // 16
    white = 1.0 if maps.ndim == 5 else np.nan
    around = [(0, 0), (0, 0), (0, gap), (0, gap), (0, 0)][: maps.ndim]
    maps = np.pad(maps, around, constant_values=white).swapaxes(1, 2)
    return maps.reshape(maps.shape[0] * maps.shape[1], maps.shape[2] * maps.shape[3], *maps.shape[4:])


def class_color(label: int, count: int) -> tuple[float, float, float]:
    """A light colour for the number of a class, of so many; neighbours are far apart."""
    return hls_to_rgb(label * (7 if count > 8 else 1) % count / count, 0.86, 0.75)


# --- the lessons' plots


def learning_curves(
    log: Sequence[dict[str, float]],
    panels: dict[str, Sequence[str]],
    baselines: dict[str, float] | None = None,
) -> StillFigure:
    """Figures of a training's log by step, a panel for each group of them.

    Args:
        log: lines of log.jsonl, or `Progress.log`.
        panels: titles, and the names in the log that are drawn there.
        baselines: by title, a level to compare with, drawn as a dashed line.
    """

    def panel(title: str) -> Mark:
        lines = {
            name.replace("_", " "): [(line["step"], line[name]) for line in log if name in line]
            for name in panels[title]
        }
        compare = {"baseline": baselines[title]} if title in (baselines or {}) else None
        return curves(lines, compare, title=title)

    return stack(tuple(map(panel, panels)), width=4 * len(panels))


def by_head(values: dict[str, np.ndarray]) -> StillFigure:
    """Numbers of every head, a panel for each: (layers, heads) as squares, the darker the larger."""

    def panel(title: str) -> Mark:
        table = np.asarray(values[title])
        layers, heads = (range(1, count + 1) for count in table.shape)
        layer, head = np.unravel_index(table.argmax(), table.shape)
        title += f": most in layer {layer + 1}, head {head + 1}"
        return heat(table, layers, heads, title=title, label="layers down, heads across", height=2.3)

    panels = list(map(panel, values))
    rows = [tuple(panels[first : first + 3]) for first in range(0, len(panels), 3)]
    return stack(*rows, width=4 * min(3, len(panels)))


def word_senses(similar: np.ndarray, places: np.ndarray, sentences: Sequence[str]) -> StillFigure:
    """One word in several sentences: how similar its vectors are, and where they lie, layer by layer.

    Args:
        similar: (layers + 1, sentences, sentences), cosines.
        places: (layers + 1, sentences, 2).
        sentences: numbered from 1 in the figure, in this order.
    """
    names = range(1, len(sentences) + 1)
    titles = ["embeddings", *(f"layer {layer}" for layer in range(1, len(similar)))]
    maps = [
        heat(table, names, names, title=title, high=1, square=True, height=1.8)
        for table, title in zip(similar, titles, strict=True)
    ]

    def points(layer: int, axes: Axes) -> None:
        circle = {"boxstyle": "circle", "facecolor": shade(BLUE, 0.6), "edgecolor": "none"}
        for name, place in zip(names, places[layer], strict=True):
            axes.plot(*place, "none")
            axes.text(*place, str(name), fontsize=8, ha="center", va="center", bbox=circle)
        axes.margins(0.25)
        axes.set(xticks=[], yticks=[])

    planes = [Mark(functools.partial(points, layer), 1.6) for layer in range(len(similar))]
    text = "\n".join(f"{name}  {sentence}" for name, sentence in zip(names, sentences, strict=True))
    return stack(tuple(maps), tuple(planes), status=text, width=1.6 * len(similar))


def embedding_filters(components: Any) -> StillFigure:
    """Principal components of the projection as small pictures, seven in a row (ViT, figure 7 left).

    Args:
        components: (components, 3, size, size), see `filter_components`.
    """
    filters = np.asarray(components).transpose(0, 2, 3, 1)
    filters = 0.5 + filters / (2 * np.abs(filters).max((1, 2, 3), keepdims=True) + 1e-9)
    missing = -len(filters) % 7
    filters = np.concatenate([filters, np.ones((missing, *filters.shape[1:]))])
    rows = tiled(filters.reshape(-1, 7, *filters.shape[1:]))
    return stack(picture(rows, height=0.9 * len(filters) / 7), width=6.3)


def position_maps(similar: Any, most: int = 12) -> StillFigure:
    """How similar each patch's position is to all others: a small map for each (ViT, figure 7 centre).

    Args:
        similar: (rows, columns, rows, columns), cosines, see `position_similarity`.
        most: maps down and across; of a larger grid, evenly spaced ones are drawn.
    """
    similar = np.asarray(similar)
    rows, columns = (
        np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))
        for count in similar.shape[:2]
    )
    maps = tiled(similar[np.ix_(rows, columns)])
    options = {"colors": "viridis", "low": similar.min(), "high": 1, "number": "{:.2f}", "square": True}
    label = "cosine similarity"
    return stack(heat(maps, rows + 1, columns + 1, label=label, height=6.3, **options), width=6.3)


def picture_rows(pictures: dict[str, np.ndarray], width: float = WIDTH) -> StillFigure:
    """Pictures in rows, such as the same ones whole, with patches hidden, and with what was guessed there.

    Args:
        pictures: by title of the row, (pictures, height, width, 3) of bytes.
    """
    count = len(next(iter(pictures.values())))
    rows = [
        picture(tiled(row[None] / 255), title=title, height=width / count + 0.3)
        for title, row in pictures.items()
    ]
    return stack(*rows, width=width)
