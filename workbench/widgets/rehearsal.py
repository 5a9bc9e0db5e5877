"""Answers given beforehand: what lets a saved view answer clicks with no kernel behind it.

Packed is which value of a trait belongs to which values of those that it depends on, so that clicks that have
nothing to do with each other need not be played together. `answerer` in shared.js reads it.
"""

import asyncio
import base64
import gzip
import html
import json
import math
import random
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain, repeat
from operator import eq
from typing import TYPE_CHECKING, Any, NamedTuple

from IPython import get_ipython
from tqdm.auto import tqdm

if TYPE_CHECKING:
    from workbench.widgets.base import WorkbenchWidget

NOT_SAVED = ("_esm", "_css", "layout", "tabbable", "tooltip")
NO_ANSWERS = ("status", "revision", "rehearsal", *NOT_SAVED)
# Bytes of answers of all widgets; as text, a third more. In a notebook each widget has its code besides.
NOTEBOOK, WHOLE_PAGE = 1_800_000, 1_350_000
PASSING = -1  # the group of clicks that are not kept, see `_look_around`
AROUND = 12  # so many of them for each group and each trait that others click
QUIET = 3.0  # seconds without a click and without a cell that runs, before answers are given beforehand
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>{head}<style>
body {{ margin: 0; padding: 16px; background: light-dark(#fff, #111418); color-scheme: light dark; }}
{css}</style></head>
<body>{body}<script type="module">
const kinds = {{
{kinds}}};
for (const [id, state] of Object.entries({states})) {{
const {{ widget, savedModel }} = kinds[state._anywidget_id]();
const model = savedModel({{ ...state, shared: {shared} }});
for (const el of document.querySelectorAll(`[data-widget="${{id}}"]`)) widget.render({{ model, el }});
}}
</script></body></html>
"""


def page(title: str, body: str, states: Mapping[str, dict], head: str = "", shared: str = "") -> str:
    """A page of HTML that asks nobody for anything, in which saved widgets live.

    Args:
        body: HTML, with an element `<div data-widget="name">` for each widget.
        states: by that name, all that a widget told the browser; bytes are {"bytes": base64}.
        head: more HTML for the page's head.
        shared: values that their answers share, packed, as base64.
    """
    kinds = {state["_anywidget_id"]: (state["_esm"], state["_css"]) for state in states.values()}
    shown = {
        name: {trait: value for trait, value in state.items() if trait not in NOT_SAVED}
        for name, state in states.items()
    }
    scripts = (
        f"{json.dumps(name)}: () => {{\n{script.replace('export default', 'const widget =')}\n"
        "return { widget, savedModel: shared_js.savedModel };\n},\n"
        for name, (script, _) in kinds.items()
    )
    return PAGE.format(
        title=html.escape(title),
        head=head,
        css="".join(css for _, css in kinds.values()),
        body=body,
        kinds="".join(scripts),
        shared=json.dumps({"bytes": shared}),
        states=json.dumps(shown).replace("<", "\\u003c"),  # a typed </script> must not end the script
    )


def picture(png: str, says: str) -> str:
    """HTML of a still picture: a PNG as base64, and what is seen on it."""
    return f'<img src="data:image/png;base64,{png}" alt="{html.escape(says)}" style="max-width: 100%">'


class State(NamedTuple):
    """A widget as it was once: all that it held, and the places of its traits' values."""

    inside: dict[str, Any]
    values: dict[str, int]


class Record(NamedTuple):
    """One click: places of the traits' values, and of the click, when it was answered and afterwards."""

    group: int
    asked: dict[str, int]
    after: dict[str, int]


class Values:
    """Every value once: bytes, or JSON. Several rehearsals may share them."""

    def __init__(self) -> None:
        self.places: dict[bytes | str, int] = {}
        self.size = self.length = 0  # about, when compressed; of all values
        self._packer = zlib.compressobj()

    def place(self, value: Any) -> int:
        """The number by which it is found."""
        value = _encoded(value)
        if value not in self.places:
            self.places[value] = len(self.places)
            self.size += len(self._packer.compress(value if isinstance(value, bytes) else value.encode()))
            self.length += len(value)
        return self.places[value]

    def pack(self, **parts: Any) -> bytes:
        """Values and other parts: the length of a JSON text as 4 bytes, that text, and all that is bytes."""
        front, data = [], bytearray()
        for value in self.places:
            if isinstance(value, bytes):
                front.append(json.dumps({"bytes": [len(data), len(value)]}))
                data += value
            else:
                front.append(value)
        text = f"{json.dumps({**parts, 'values': None})[:-5]}[{','.join(front)}]}}".encode()
        return gzip.compress(len(text).to_bytes(4, "little") + text + data, mtime=0)


Rows = list[tuple[dict[str, int], int]]  # places of what a value may depend on, and that of the value


class Rehearsal:
    """Plays the clicks that `widget.rehearse()` lists and packs what they change.

    Args:
        widget: stays as it is meanwhile, and tells nobody.
        limit: bytes when compressed; clicks that come when they are full are left out.
        shared: values of other rehearsals, too, which are packed elsewhere and take no room here.
    """

    def __init__(self, widget: "WorkbenchWidget", limit: int, shared: Values | None = None) -> None:
        self.widget, self.limit, self.packed = widget, limit, b""
        self._shared, self._values = shared, Values() if shared is None else shared
        self._before, self._place = self._values.size, self._values.place
        self._groups = [
            ([(name, list(values)) for name, values in group.items() if name not in ("do", "after")], group)
            for group in widget.rehearse()
        ]
        self.played = self.lines = 0
        self.planned = sum(math.prod(len(values) for _, values in axes) for axes, _ in self._groups)
        self._names = [name for name in widget.keys if not name.startswith("_") and name not in NO_ANSWERS]
        self._found: list[list[State]] = [[] for _ in self._groups]  # some of each
        self._random = random.Random(0)
        self._records: list[Record] = []

    def run(self) -> bytes:
        """Plays and packs, with a bar if it takes long; Ctrl-C stops it, and what was played is kept."""
        name = type(self.widget).__name__
        with suppress(KeyboardInterrupt):
            for _ in tqdm(self.play(), f"{name}: answers for later", self.planned, leave=False, delay=2):
                pass
        for _ in self.pack():
            pass
        return self.packed

    @property
    def left(self) -> int:
        """How many clicks had no room; some of the others may be played more than once."""
        return max(0, self.planned - self.played)

    def knows(self, name: str, value: Any) -> bool:
        """Whether a trait may have this value in what was played; for traits that nothing asks for, too."""
        return name not in self._names or hash(_encoded(value)) in self._seen[name]

    def play(self) -> Iterator[None]:
        """Plays all: the first group of clicks whole, then always the one that took least so far, so that
        where room is short only the large ones lose their last clicks. Between two steps, each as long as one
        answer, the widget may be used."""
        plays = (self._play_group(number, *group) for number, group in enumerate(self._groups))
        took = {play: 0.0 if number else -math.inf for number, play in enumerate(plays)}
        while took:
            group, before = min(took, key=took.get), self._values.length
            if next(group, "over") == "over":
                del took[group]
            else:
                took[group] += self._values.length - before + 50  # of the record
                yield
        yield from self._look_around()

    def _look_around(self) -> Iterator[None]:
        """From some of what each group found, clicks of the other groups, drawn at random: they are not kept,
        and tell what the group's answers depend on besides what was clicked in it."""
        places, others = self._values.places, {}

        def place(value: Any) -> int:
            value = _encoded(value)
            return places[value] if value in places else others.setdefault(value, ~len(others))

        self._place = place
        axes: dict[str, list] = {}
        for name, values in chain(*(group for group, _ in self._groups)):
            axes.setdefault(name, []).extend(values)
        for (group, _), found in zip(self._groups, self._found, strict=True):
            for name in (name for name in axes if name not in dict(group)):
                for state in found:
                    self._click(PASSING, state, {name: self._random.choice(axes[name])})
                    yield

    def _play_group(self, number: int, axes: Sequence[tuple[str, list]], group: dict) -> Iterator[None]:
        inside = self.widget._inside()
        start = State(inside, self._values_of(inside))
        nothing = {"click": self._place([])}
        self._records.append(Record(number, start.values | nothing, start.values))
        if "after" in group:
            start = self._click(number, start, group["after"])
        states = [start] if start else []
        for state in states:  # which grow, as messages find others
            for count, found in enumerate(self._combine(number, state, axes)):
                if len(self._found[number]) < AROUND:
                    self._found[number].append(found)
                elif (place := self._random.randint(0, count)) < AROUND:  # all are as likely to stay
                    self._found[number][place] = found
                self.played += 1
                yield
            for message in group.get("do", []):
                found = self._click(number, state, message)
                if found and all(found.values != state.values for state in states):
                    states.append(found)
                yield

    def _combine(self, group: int, state: State, axes: Sequence[tuple[str, list]]) -> Iterator[State]:
        """What every combination of these values leads to, one click after the other."""
        if not axes:
            yield state
            return
        (name, values), *rest = axes
        for value in values:
            there = state.values[name] == self._place(value)
            found = state if there else self._click(group, state, {name: value})
            if found:
                yield from self._combine(group, found, rest)

    def _click(self, group: int, before: State, click: dict) -> State | None:
        """What a click leads to; nothing if it cannot be answered, or if there is no room for it."""
        if group != PASSING:
            self.lines = 12 * len(self._records)  # about the bytes of what it has to say besides
            if self._values.size - self._before + self.lines > self.limit:
                return None
        message = "do" in click
        asked = before.values | {"click": self._place(click if message else list(click))}
        asked |= {} if message else {name: self._place(value) for name, value in click.items()}
        try:
            with self.widget._aside(before.inside):
                self.widget._play(click)
                inside = self.widget._inside()
        except Exception:  # a saved view does not answer it, either
            return None
        after = State(inside, self._values_of(inside, before))
        self._records.append(Record(group, asked, after.values))
        return after

    def _values_of(self, inside: dict, before: State | None = None) -> dict[str, int]:
        """Places of the traits' values; most are the same objects as before a click."""
        now, then = inside["_trait_values"], before.inside["_trait_values"] if before else {}
        return {
            name: before.values[name] if name in then and then[name] is now[name] else self._place(now[name])
            for name in self._names
        }

    # --- packing

    def pack(self) -> Iterator[None]:
        """Sets `packed`."""
        values = list(self._values.places)
        kept = [record for record in self._records if record.group != PASSING]
        varying = [name for name in self._names if len({one.after[name] for one in kept}) > 1]
        inputs = [name for name in varying if name in self.widget._answering]
        answers, changes = {}, {}  # what follows from the inputs; what only a click tells
        for name in (name for name in varying if name not in inputs):
            answers[name] = self._answers_of(name, inputs)
            yield
        told = [name for name in answers if not answers[name]]
        known = [name for name in told if isinstance(values[self._records[0].after[name]], str)]
        for name in [*inputs, *told]:
            rows = [(record.asked, record.after[name]) for record in self._records]
            changed = [(r.asked, r.after[name]) for r in kept if r.asked[name] != r.after[name]]
            if changed and (table := _table(rows, changed, [*known, *inputs, "click"])):
                changes[name] = [table]
            yield
        places = {name: set() for name in [*inputs, *known, "click"]}
        for record in kept:
            for name, found in places.items():
                found |= {record.asked[name], record.after.get(name, record.asked[name])}
        parts = {
            "places": {name: sorted(found) for name, found in places.items()},
            "changes": changes,
            "answers": {name: tables for name, tables in answers.items() if tables},
            "note": f"Only {self.played:,} of {self.planned:,} clicks are saved." if self.left else "",
        }
        self.packed = (self._values if self._shared is None else Values()).pack(**parts)
        self._seen = {name: {hash(values[one.after[name]]) for one in kept} for name in self._names}
        del self._records, self._found, self._values, self._place  # which are large
        yield

    def _answers_of(self, name: str, inputs: Sequence[str]) -> list[dict]:
        """Tables of a trait by the inputs, one for each group of clicks, or none if they do not settle it."""
        rows = [(record.after, record.after[name]) for record in self._records]
        tables: dict[tuple, dict] = {}  # those that ask for the same are one, which JavaScript finds first
        for group in range(len(self._groups)):
            own = [row for row, record in zip(rows, self._records, strict=True) if record.group == group]
            table = _table(rows, own, inputs)
            if table is None:
                return []
            tables.setdefault(tuple(table["of"]), table)["at"].update(table["at"])
        return list(tables.values())


def _encoded(value: Any) -> bytes | str:
    return value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":"))


def _table(rows: Rows, own: Rows, names: Sequence[str]) -> dict | None:
    """What the values of `own` depend on, `of`, and each value `at` the places of those; None if something
    else decides, too. What is left out of `of` makes no difference to any of the `rows`."""
    columns = [{name: [row[name] for row, _ in some] for name in names} for some in (own, rows)]
    own_values, values = ([value for _, value in some] for some in (own, rows))

    def settled(of: Sequence[str]) -> dict[tuple, int] | None:
        own_keys, keys = (zip(*map(each.get, of), strict=True) if of else repeat(()) for each in columns)
        found = dict(zip(own_keys, own_values, strict=False))
        return found if all(map(eq, map(found.get, keys, values), values)) else None

    of = list(names)
    if settled(of) is None:
        return None
    for name in names:
        less = [one for one in of if one != name]
        of = of if settled(less) is None else less
    return {"of": of, "at": {",".join(map(str, key)): value for key, value in settled(of).items()}}


class Background:
    """Plays what the widgets of a notebook may be asked while nobody asks them, so that a notebook that is
    saved with its widgets answers clicks when it is opened again.

    It works between two cells, in the kernel's own thread: no cell ever runs in the middle of an answer.
    """

    def __init__(self) -> None:
        self.shown: dict[WorkbenchWidget, dict] = {}  # and the cells that show it, and which run of each
        self.touched = 0.0  # when a widget changed last
        self._task: asyncio.Task | None = None

    @property
    def share(self) -> int:
        """Bytes of answers that each widget may have."""
        return NOTEBOOK // max(1, len(self.shown))

    def show(self, widget: "WorkbenchWidget") -> None:
        """Takes in a widget that is displayed; those of an earlier run of its cell have left the page."""
        parent = getattr(getattr(get_ipython(), "kernel", None), "get_parent", dict)()
        cell, run = parent.get("metadata", {}).get("cellId"), parent.get("header", {}).get("msg_id")
        self.shown.setdefault(widget, {})[cell] = run
        for other, runs in list(self.shown.items()):
            if cell is not None and runs.get(cell, run) != run:
                del runs[cell]
            if other.comm is None or not runs:
                del self.shown[other]
                other.rehearsal = b""
        with suppress(RuntimeError):  # where no loop runs there is no notebook
            if self._task is None or self._task.done():
                self._task = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(QUIET)
            busy = self.touched > began or time.monotonic() > began + 2 * QUIET  # with a cell
            waiting = (widget for widget in self.shown if widget.unrehearsed(self.share))
            widget = None if busy else next(waiting, None)
            if widget:
                try:
                    await self._rehearse(widget)
                except Exception:  # nobody sees a traceback; its saved view says that it does not answer
                    self.shown.pop(widget, None)

    async def _rehearse(self, widget: "WorkbenchWidget") -> None:
        """Plays one, answer by answer, unless it changes meanwhile."""
        widget.complete()
        rehearsal, before = Rehearsal(widget, self.share), widget.revision
        for _ in chain(rehearsal.play(), rehearsal.pack()):
            await asyncio.sleep(0)
            while time.monotonic() < self.touched + QUIET:  # somebody clicks, or a training goes on
                await asyncio.sleep(QUIET)
            if widget.revision != before:
                return
        widget.remember(rehearsal)

    def finish(self) -> dict[str, Any]:
        """For a page of all widgets: plays them, and then what had no room in what the others left of it.
        Returns the `values` that they share, as base64, and their `stills` by model."""
        values, played = Values(), {}
        for _ in range(2):
            todo = [one for one in self.shown if one not in played or played[one].left]
            for number, widget in enumerate(todo):
                spare = max(0, WHOLE_PAGE - values.size - sum(one.lines for one in played.values()))
                before = played[widget].lines if widget in played else 0
                widget.complete()
                rehearsal = Rehearsal(widget, before + spare // (len(todo) - number), values)
                rehearsal.run()
                widget.remember(rehearsal)
                played[widget] = rehearsal
        stills = {widget.model_id: widget.still() for widget in self.shown}
        return {"values": base64.b64encode(values.pack()).decode(), "stills": stills}


BACKGROUND = Background()
