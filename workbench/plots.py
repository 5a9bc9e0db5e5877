"""Still pictures, made of six marks and `stack`: the static face of every widget, and the lessons' plots.

A mark (`words`, `bars`, `heat`, `curves`, `points`, `picture`) says how it is drawn and how much room it
takes; `stack` puts marks under and beside each other. No pyplot, so threads and backends do not matter.
"""

import functools
import html
import io
import math
import re
import textwrap
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from colorsys import hls_to_rgb
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.gridspec import SubplotSpec
from matplotlib.patches import FancyBboxPatch, Rectangle

INK, MUTED, BLUE, AMBER, GREEN = "#1f2328", "#59636e", "#1f6feb", "#b35900", "#1a7f37"
RED, PAPER = "#ff5f52", "#eef0f3"
# Paper of the two segments; of [CLS] and [SEP]. All paper lets the page through, as it may be dark.
FIRST, SECOND, SPECIAL = to_rgba(BLUE, 0.22), to_rgba(AMBER, 0.28), to_rgba(MUTED, 0.15)
# What stands for our colours on a notebook's page, light or dark.
ON_PAGE = {
    "#000000": "var(--jp-ui-font-color1, currentColor)",
    INK: "var(--jp-ui-font-color1, currentColor)",
    MUTED: "color-mix(in srgb, var(--jp-ui-font-color1, currentColor) 78%, transparent)",
    PAPER: "var(--jp-layout-color2, #eef0f3)",
}
# From what a number below 0 is to nothing, and from nothing to what one above 0 is.
SIGNED = LinearSegmentedColormap.from_list("signed", [AMBER, to_rgba(AMBER, 0), to_rgba(BLUE, 0), BLUE])
SHADES = LinearSegmentedColormap.from_list("shades", [to_rgba(BLUE, 0), BLUE])
WIDTH = 9.0  # inches of a still picture
DOTS = 80  # an inch of it, at least
MOST_WORDS = 120  # of a long text, a still picture shows the beginning
MOST_NAMES = 60  # rows or columns of a map that are named; more are numbered
MOST_CELLS = 40  # counts that stand in their cells; more would not fit
SMALL = {"fontsize": 7, "color": MUTED, "parse_math": False}
_RENDERER = RendererAgg(1, 1, 72)  # for the widths of words, in points


@contextmanager
def _quiet() -> Iterator[None]:
    """A letter that matplotlib's font lacks is drawn as a box, without a warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield


class StillFigure(Figure):
    """A figure that notebooks show by themselves; `says` is what is seen on it, in words."""

    says = ""

    @_quiet()
    def drawn(self, kind: str, dpi: int, **options: Any) -> bytes:
        """A file of that kind, as `savefig` writes it."""
        file = io.BytesIO()
        self.savefig(file, format=kind, dpi=dpi, **options)
        return file.getvalue()

    def _repr_html_(self) -> str:
        """In the colours of the page; a picture is left where there is no page."""
        svg = self.drawn("svg", 144, facecolor="none").decode()
        svg = re.sub("|".join(ON_PAGE), lambda color: ON_PAGE[color[0]], svg)
        style = f"max-width: 100%; height: auto; fill: {ON_PAGE[INK]}"
        head = f'<svg role="img" aria-label="{html.escape(self.says)}" style="{style}"'
        return svg[svg.index("<svg") :].replace("<svg", head, 1)

    def _repr_png_(self) -> tuple[bytes, dict[str, str]]:
        return self.drawn("png", 100), {"alt": self.says}


@dataclass(frozen=True)
class Mark:
    """Something to draw into axes, `height` inches high; `says` is what is seen there, beside its title."""

    draw: Callable[[Axes], None]
    height: float
    title: str = ""
    says: str = ""


Part: TypeAlias = "Mark | list[Part] | tuple[Part, ...]"  # a list stands in a column, a tuple in a row


@_quiet()
def stack(*parts: Part, status: str = "", width: float = WIDTH) -> StillFigure:
    """Parts under each other, `width` inches wide, and `status` in small print below; the height follows."""
    column = [part for part in parts if part]
    height = _height(column) + 0.14 * len(status.splitlines()) + 0.1
    # Letters are widest where dots are fewest: what has room there has room everywhere.
    figure = StillFigure(figsize=(width, height), dpi=DOTS, facecolor="white", layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.06, wspace=0.0, hspace=0.0)
    figure.supxlabel(status, x=0.1 / width, ha="left", **SMALL)
    _place(figure, figure.add_gridspec()[0], column)
    figure.get_layout_engine().execute(figure)
    figure.set_layout_engine(None)  # laid out once, not with each drawing
    said = (f"{mark.title}: {mark.says}".strip(" :.") for mark in _marks(column))
    said = ". ".join(filter(None, said)).replace("?.", "?")
    figure.says = textwrap.shorten(said, 400, placeholder=" …")
    return figure


def _marks(part: Part) -> list[Mark]:
    return [part] if isinstance(part, Mark) else [mark for one in part for mark in _marks(one)]


def _height(part: Part) -> float:
    if isinstance(part, Mark):
        return part.height
    return (max if isinstance(part, tuple) else sum)(map(_height, part))


def _place(figure: Figure, room: SubplotSpec, part: Part) -> None:
    if isinstance(part, Mark):
        axes = figure.add_subplot(room, facecolor="none", anchor="NW")
        axes.set_title(part.title, loc="left", **SMALL | {"fontsize": 9})
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0, labelsize=8)
        part.draw(axes)
        return
    if isinstance(part, tuple):
        grid = room.subgridspec(1, len(part))
    else:
        grid = room.subgridspec(len(part), 1, height_ratios=[_height(one) for one in part])
    for number, one in enumerate(part):
        _place(figure, grid[number], one)


# --- the six marks


class Chip(NamedTuple):
    """A word's box: its text, small print below, the colour of its paper, and whether it has a frame."""

    text: str
    note: str = ""
    paper: Any = "none"
    framed: bool = False


def shade(color: Any, share: float) -> tuple[float, ...]:
    """A word's paper: nothing for 0, as dark as words stay legible on for 1."""
    return to_rgba(color, 0.45 * share)


def class_color(at: int, count: int) -> tuple[float, float, float]:
    """The colour of one class of so many, as in all views: neighbours are far apart. Many go round by the
    third power of the golden section, so that none is met again."""
    return hls_to_rgb(0.236068 * at % 1 if count > 8 else at / count, 0.5, 0.75)


@functools.lru_cache(10_000)
def _wide(text: str, size: float) -> float:
    return _RENDERER.get_text_width_height_descent(text, FontProperties(size=size), False)[0]


@_quiet()
def words(*sentences: Sequence[Chip], title: str = "") -> Mark:
    """Word boxes in lines as wide as the picture, each sentence on a new one."""
    boxes: list[tuple[Chip, float, float]] = []  # a word, and its middle from the left and the top, in points
    pitch = 32 if any(word.note for sentence in sentences for word in sentence) else 23
    top = 32 if title else 14
    for sentence in sentences:
        left = 7
        for word in [*sentence[:MOST_WORDS], *[Chip("…")] * (len(sentence) > MOST_WORDS)]:
            word = word._replace(text=_cut(word.text, 60))
            wide = max(_wide(word.text, 10) + 6, _wide(word.note, 6))
            if left > 7 and left + wide > 72 * WIDTH - 14:
                left, top = 7, top + pitch
            boxes.append((word, left + wide / 2, top))
            left += wide + 7
        top += pitch

    def draw(axes: Axes) -> None:
        def write(text: str, x: float, y: float, size: float, color: str = MUTED, **style: Any) -> None:
            corner = {"xycoords": ("figure fraction", "axes fraction"), "textcoords": "offset points"}
            style |= corner | {"va": "center", "parse_math": False, "in_layout": False}
            axes.annotate(text, (0, 1), (x, -y), fontsize=size, color=color, **style)

        axes.axis("off")
        write(title, 7, 7, 9)
        for word, x, y in boxes:
            edge = BLUE if word.framed else "none"
            frame = {"boxstyle": "round,pad=0.2", "facecolor": word.paper, "edgecolor": edge}
            write(word.text, x, y, 10, INK, ha="center", bbox=frame)
            write(word.note, x, y + 14, 6, ha="center")

    chips = [[f"{word.text} ({word.note})" if word.note else word.text for word in one] for one in sentences]
    said = " / ".join(map(" ".join, chips))
    return Mark(draw, (top - pitch / 2 + 11) / 72, says=f"{title}: {_cut(said, 160)}")


def in_percent(share: float) -> str:
    """A number between 0 and 1 as shared.js writes it: with more digits at both ends.

    Example:
        >>> in_percent(0.003), in_percent(0.42), in_percent(0.997), in_percent(0.99999)
        ('0.3 %', '42 %', '99.7 %', '> 99.9 %')
    """
    value = 100 * share
    if value in (0, 100):
        return f"{value:.0f} %"
    if value < 0.1 or value >= 99.95:
        return "< 0.1 %" if value < 0.1 else "> 99.9 %"
    digits = Decimal("1" if 9.95 <= value < 99 else "0.1")
    return f"{Decimal(value).quantize(digits, ROUND_HALF_UP)} %"  # as JavaScript does, not to the even one


def in_digits(value: float) -> str:
    """The number of a regression as shared.js writes it: three digits or more.

    Example:
        >>> in_digits(3.14159), in_digits(-0.0012), in_digits(250)
        ('3.14', '−0.0012', '250')
    """
    if not math.isfinite(value):
        return str(value)
    digits = min(max(2 - math.floor(math.log10(max(abs(value), 0.01))), 0), 4)
    rounded = math.floor(value * 10**digits + 0.5) / 10**digits
    return f"{rounded:.{digits}f}".replace("-", "−")


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 2] + " …"


def bars(rows: Sequence[Sequence[Any]], *, title: str = "", percent: bool = True) -> Mark:
    """Horizontal bars, the first on top: probabilities, on a scale from 0 to 100 %, or, without `percent`,
    any numbers. `rows` are [name, value], or [name, value, what it was before], where a tick is drawn."""
    rows = [[name, *map(float, numbers)] for name, *numbers in rows]
    names, values = [_cut(str(row[0]), 34) for row in rows], [row[1] for row in rows]
    written = in_percent if percent else in_digits

    def draw(axes: Axes) -> None:
        places = range(len(rows))
        if percent:
            axes.barh(places, 1, color=PAPER, height=0.7)
            axes.set_xlim(0, 1)
        else:
            axes.axvline(0, color=MUTED, linewidth=0.6)
        axes.barh(places, values, color=BLUE, height=0.7)
        beside = axes.get_yaxis_transform()
        for place, (_, value, *before) in enumerate(rows):
            axes.text(1.01, place, written(value), fontsize=8, color=INK, va="center", transform=beside)
            if before != [value]:
                axes.vlines(before, place - 0.45, place + 0.45, color=AMBER)
        axes.set_yticks(places, names, fontsize=8, parse_math=False)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.xaxis.set_visible(False)

    said = ", ".join(f"{names[place]} {written(values[place])}" for place in np.argsort(values)[:-4:-1])
    return Mark(draw, 0.23 * len(rows) + (0.4 if title else 0.2), title, said)


def heat(
    table: Any,
    rows: Sequence[Any] = (),
    columns: Sequence[Any] = (),
    *,
    title: str = "",
    low: float = 0.0,
    most: float | None = None,
    height: float = 3.0,
) -> Mark:
    """A map, its rows and columns named, and below it what its colours stand for.

    From clear to blue; where a number is below 0, to orange and blue on either side of clear. Counts stand in
    their cells, too, if few are other than 0.

    Args:
        table: (rows, columns); several cells may share a name, see `tiled`.
        low: what is clear, if nothing is below 0.
        most: the other end of the scale; by default the largest number.
    """
    counts = np.count_nonzero(table) <= MOST_CELLS and np.asarray(table).dtype == int
    table = np.asarray(table, float)
    most = np.nanmax(np.abs(table)) if most is None else most
    ends = {"orange": -most, "blue": most} if np.nanmin(table) < 0 else {"clear": low, "blue": most}

    def draw(axes: Axes) -> None:
        legend = ", ".join(f"{color} {end:.3g}" for color, end in ends.items())
        axes.set_xlabel(legend, loc="left", **SMALL)
        least, colors = min(ends.values()), SIGNED if "orange" in ends else SHADES
        shape = "equal" if len(columns) else "auto"
        axes.imshow(table, cmap=colors, vmin=least, vmax=most, aspect=shape, interpolation="nearest")
        for axis, names, count in zip((axes.yaxis, axes.xaxis), (rows, columns), table.shape, strict=True):
            if len(names) <= MOST_NAMES:
                places = (np.arange(len(names)) + 0.5) * count / max(1, len(names)) - 0.5
                names = [_cut(str(name), 24) for name in names]
                axis.set_ticks(
                    places, names, fontsize=min(8, 30 * height / (len(names) or 1)), parse_math=False
                )
        longest = max((len(str(name)) for name in columns), default=0)
        if longest > 2 and 10 * height < longest * len(columns) and len(columns) <= MOST_NAMES:
            axes.tick_params("x", rotation=90)
        options = {"ha": "center", "va": "center", "in_layout": False, "fontsize": min(8, 85 / len(table))}
        for row, column in np.argwhere(table) if counts else ():
            ink = "white" if table[row, column] > 0.6 * most else INK
            axes.text(column, row, f"{table[row, column]:.0f}", color=ink, **options)

    says = ""
    if table.shape == (len(rows), len(columns)):
        row, column = np.unravel_index(np.nanargmax(np.abs(table)), table.shape)
        says = f"{rows[row]}, {columns[column]}: {table[row, column]:.3g} at most"
    return Mark(draw, height, title, says)


def curves(
    lines: Mapping[str, Any],
    compare: Mapping[str, Any] | None = None,
    *,
    title: str = "",
    label: str = "step",
    top: float | None = None,
) -> Mark:
    """Lines by step, on a scale from 0 to `top`, or to the largest number.

    Args:
        lines: by name, (points, 2): step and value.
        compare: dashed: lines too, or numbers, which are levels.
        label: what a step is.
    """

    def draw(axes: Axes) -> None:
        axes.set_xlabel(label, loc="left", **SMALL)
        axes.spines[["left", "bottom"]].set_visible(True)
        for group, style in ((lines, "-"), (compare or {}, "--")):
            axes.set_prop_cycle(color=[BLUE, AMBER, GREEN, MUTED])
            for name, points in group.items():
                if np.ndim(points) == 0:
                    axes.axhline(points, linestyle=style, color=MUTED)
                    above = {"xycoords": axes.get_yaxis_transform(), "textcoords": "offset points"}
                    axes.annotate(name, (1, points), (0, 1), ha="right", va="bottom", **SMALL | above)
                else:
                    axes.plot(*np.reshape(points, (-1, 2)).T, style, label=name)
        axes.locator_params(nbins=6)
        axes.tick_params(length=3, labelsize=7)
        axes.set_ylim(0, top)
        if len(axes.get_legend_handles_labels()[1]) > 1:
            axes.legend(fontsize=7, frameon=False)

    ends = ((name, points[0][1], points[-1][1]) for name, points in lines.items() if len(points))
    said = ", ".join(f"{name} from {first:.3g} to {last:.3g}" for name, first, last in ends)
    return Mark(draw, 2.4, title, said)


def points(places: np.ndarray, colors: Any, names: Sequence[Any] = (), *, title: str = "") -> Mark:
    """Places (points, 2) in a plane of two directions; a point is a dot, or its name on one."""

    def draw(axes: Axes) -> None:
        axes.spines[:].set_visible(True)
        axes.scatter(*places.T, s=160 if names else 20, c=colors, edgecolors="none")
        for name, place in zip(names, places, strict=False):
            axes.text(*place, str(name), fontsize=8, ha="center", va="center")
        axes.margins(0.2)
        axes.set(xticks=[], yticks=[])
        axes.set_xlabel("direction 1", **SMALL)
        axes.set_ylabel("direction 2", **SMALL)

    return Mark(draw, 2.0, title)


def by_step(log: Sequence[Mapping[str, float]], name: str) -> list[tuple[float, float]]:
    """Points for `curves`: the figure of that name at each step of a training's log that has it."""
    return [(line["step"], line[name]) for line in log if name in line]


def picture(
    pixels: np.ndarray,
    weights: Any = None,
    *,
    title: str = "",
    note: str = "",
    grid: Sequence[int] = (),
    framed: Sequence[int] = (),
    most: float | None = None,
    opacity: float = 0.7,
    smooth: bool = False,
    height: float = 3.0,
) -> Mark:
    """A picture, with a map over it whose opacity follows the weight.

    Args:
        pixels: (height, width, 3), bytes, or 0 to 1.
        weights: (rows, columns) of patches; the largest, or `most`, is as opaque as `opacity` says.
        grid: patches down and across, drawn as white lines.
        framed: patches with a frame, counted row by row.
        smooth: the map is interpolated, instead of one square a patch.
    """

    def draw(axes: Axes) -> None:
        axes.set_xlabel(note, loc="left", **SMALL)
        tall, wide = pixels.shape[:2]
        rows, columns = grid or np.shape(weights) or (1, 1)
        clear = np.isnan(pixels).any(-1, keepdims=True)  # of the gaps in `tiled`
        shown = np.concatenate([pixels, ~clear], -1) if clear.any() else pixels
        axes.imshow(shown, extent=(0, wide, tall, 0), interpolation="nearest")
        if weights is not None:
            share = np.asarray(weights, float)
            share = share / max(share.max() if most is None else most, 1e-9)
            cover = colormaps["autumn_r"](share)  # from yellow to red, as the widgets' `heat`
            cover[..., 3] = opacity * share
            axes.imshow(cover, extent=(0, wide, tall, 0), interpolation="bilinear" if smooth else "nearest")
        if grid:
            axes.hlines(np.arange(1, rows) * tall / rows, 0, wide, color="white", linewidth=0.7)
            axes.vlines(np.arange(1, columns) * wide / columns, 0, tall, color="white", linewidth=0.7)
        for row, column in (divmod(patch, columns) for patch in framed):
            corner, size = (column * wide / columns, row * tall / rows), (wide / columns, tall / rows)
            axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=RED, linewidth=2.5, zorder=3))
        axes.set(xticks=[], yticks=[])

    return Mark(draw, height, title, "" if title else "picture")


def tiled(maps: Any) -> np.ndarray:
    """Maps (down, across, height, width), or pictures with 3 colours behind, as one; gaps lie between."""
    maps = np.asarray(maps, float)
    gap = 1 + maps.shape[2] // 16
    around = [(0, 0), (0, 0), (0, gap), (0, gap), (0, 0)][: maps.ndim]
    maps = np.pad(maps, around, constant_values=np.nan).swapaxes(1, 2)
    return maps.reshape(maps.shape[0] * maps.shape[1], maps.shape[2] * maps.shape[3], *maps.shape[4:])


# --- the lessons' plots


def learning_curves(
    log: Sequence[dict[str, float]],
    panels: Mapping[str, Sequence[str]],
    baselines: Mapping[str, Mapping[str, float]] | None = None,
) -> StillFigure:
    """Figures of a training's log by step.

    Args:
        log: lines of log.jsonl, or `Progress.log`.
        panels: titles, and the names in the log that are drawn there.
        baselines: by title, levels to compare with, by name.
    """
    marks = []
    for title, names in panels.items():
        lines = {name.replace("_", " "): by_step(log, name) for name in names}
        marks.append(curves(lines, (baselines or {}).get(title), title=title))
    return stack(*_rows(marks, 2), width=4 * min(2, len(marks)))


def two_front_doors(sentence: str, word: str, image: Any, label: str) -> StillFigure:
    """The one encoder with its two front doors and two heads (BERT, figure 1; ViT, figure 1): a sentence
    above, a picture below, and what each head answers."""

    def draw(axes: Axes) -> None:
        write = functools.partial(axes.text, color=INK, parse_math=False)  # "$" is a letter
        axes.axis("off")
        axes.set(xlim=(0, 9.1), ylim=(0.1, 3.5), aspect="equal")

        def box(x: float, y: float, width: float, height: float, text: str, color: str) -> None:
            shape = {"boxstyle": "round,pad=0.06", "facecolor": shade(color, 0.5), "edgecolor": color}
            axes.add_patch(FancyBboxPatch((x, y), width, height, **shape))
            write(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=11)

        rows = (
            (2.2, "word\n+ segment\n+ position", "[MASK]", word),
            (0.3, "flattened × E,\n* in front,\n+ position", "*", label),
        )
        for y, door, read, answer in rows:
            box(2.25, y, 1.5, 1, door, AMBER)
            box(6.85, y, 0.9, 1, "matrix,\nsoftmax", GREEN)
            write(6.48, y + 0.62, read, ha="center", fontsize=9)
            write(8.2, y + 0.5, answer, va="center", fontsize=12)
            for x in (1.85, 3.86, 6.33, 7.85):
                arrow = {"arrowstyle": "->", "color": MUTED}
                axes.annotate("", (x + 0.3, y + 0.5), (x, y + 0.5), arrowprops=arrow)
        box(4.25, 0.3, 1.85, 2.9, "the same encoder\n\nlayer 1\n...\nlayer N", BLUE)
        write(0, 2.7, textwrap.fill(sentence, 16), va="center", fontsize=11)
        axes.imshow(np.asarray(image), extent=(0, 1.4, 0.1, 1.5))
        axes.vlines(np.linspace(0, 1.4, 7), 0.1, 1.5, color="white", linewidth=0.6)
        axes.hlines(np.linspace(0.1, 1.5, 7), 0, 1.4, color="white", linewidth=0.6)
        names = {"input": 0, "front door": 2.25, "encoder": 4.25, "head": 6.85, "answer": 8.2}
        for name, x in names.items():
            write(x, 3.35, name, fontsize=10, color=MUTED)

    return stack(Mark(draw, 3.2, says=f"two front doors, one encoder, two heads: {word}; {label}"))


def by_head(values: Mapping[str, np.ndarray]) -> StillFigure:
    """Numbers of every head, (layers, heads) by title, a panel for each: layers down, heads across."""
    panels = []
    for title, table in values.items():
        layer, head = np.unravel_index(table.argmax(), table.shape)
        title += f":\nmost in layer {layer + 1}, head {head + 1}"
        names = (range(1, count + 1) for count in table.shape)
        panels.append(heat(table, *names, title=title, height=max(2.6, 0.2 * len(table))))
    return stack(*_rows(panels, 3), width=3.2 * min(3, len(panels)))


def _rows(parts: Sequence[Part], most: int) -> list[Part]:
    """So many parts in a row; what is left of the last row stays free."""
    free = Mark(lambda axes: axes.axis("off"), 0)
    parts = [*parts, *[free] * (-len(parts) % most if len(parts) > most else 0)]
    return [tuple(parts[first : first + most]) for first in range(0, len(parts), most)]


def word_senses(
    similar: np.ndarray, places: np.ndarray, sentences: Sequence[str], groups: Sequence[str]
) -> StillFigure:
    """One word in several sentences: how similar its vectors are, and where they lie, layer by layer.

    Args:
        similar: (layers + 1, sentences, sentences), cosines.
        places: (layers + 1, sentences, 2).
        sentences: numbered from 1 in the figure, in this order.
        groups: which sense is meant in each sentence: those of one have one colour.
    """
    names, columns = range(1, len(sentences) + 1), []
    kinds = list(dict.fromkeys(groups))
    colors = [shade(class_color(kinds.index(group), len(kinds)), 1) for group in groups]
    for layer, (table, plane) in enumerate(zip(similar, places, strict=True)):
        title = f"layer {layer}" if layer else "embeddings"
        columns.append([heat(table, names, names, title=title, height=1.8), points(plane, colors, names)])
    lines = zip(names, sentences, groups, strict=True)
    text = "\n".join(f"{name}  {sentence} ({group})" for name, sentence, group in lines)
    text = f"Above: cosine between sentences (down and across); below: their first two directions.\n{text}"
    return stack(*_rows(columns, 4), status=text, width=1.7 * min(4, len(columns)))


def embedding_filters(components: Any) -> StillFigure:
    """Principal components of the projection as small pictures, seven in a row (ViT, figure 7 left).

    `components` is (components, 3, size, size), see `filter_components`.
    """
    filters = np.asarray(components).transpose(0, 2, 3, 1)
    filters = np.broadcast_to(filters, (*filters.shape[:3], 3))  # of grey pictures, too
    filters = 0.5 + filters / (2 * np.abs(filters).max((1, 2, 3), keepdims=True) + 1e-9)
    filters = np.pad(filters, [(0, -len(filters) % 7), (0, 0), (0, 0), (0, 0)], constant_values=np.nan)
    rows = filters.reshape(-1, 7, *filters.shape[1:])
    return stack(picture(tiled(rows), height=0.9 * len(rows)), width=6.3)


def position_maps(similar: Any, most: int = 14) -> StillFigure:
    """How similar each patch's position is to all others: a small map for each (ViT, figure 7 centre).

    Args:
        similar: (rows, columns, rows, columns), cosines, see `position_similarity`.
        most: maps down and across; of a larger grid, every second patch (or third, ...) has one.
    """
    step = math.ceil(max(similar.shape) / most)
    maps = tiled(similar[::step, ::step])
    names = (range(1, count + 1, step) for count in similar.shape[:2])
    return stack(heat(maps, *names, title="cosine similarity", low=np.nanmin(maps), height=6.3), width=6.3)


def picture_rows(pictures: Mapping[str, np.ndarray], status: str = "") -> StillFigure:
    """Pictures in rows, such as the same ones whole, with patches hidden, and with what was guessed there.

    `pictures` are, by title of the row, (pictures, height, width, 3) of bytes.
    """
    marks = []
    for title, row in pictures.items():
        marks.append(picture(tiled(row[None] / 255), title=title, height=WIDTH / len(row) + 0.3))
    return stack(*marks, status=status)
