"""Answers given beforehand: what lets a saved view answer clicks with no kernel behind it.

Packed is which value of a trait belongs to which values of those that it depends on, so that clicks that have
nothing to do with each other need not be played together. `answerer` in shared.js reads it.
"""

import gzip
import json
import math
import zlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from workbench.widgets.base import WorkbenchWidget

NO_ANSWERS = ("status", "revision", "rehearsal", "layout", "tabbable", "tooltip")


class State(NamedTuple):
    """A widget as it was once: all that it held, and the places of its traits' values."""

    inside: dict[str, Any]
    values: dict[str, int]


class Record(NamedTuple):
    """One click: places of the traits' values, and of the click, when it was answered and afterwards."""

    group: int
    asked: dict[str, int]
    after: dict[str, int]


Rows = list[tuple[dict[str, int], int]]  # places of what a value may depend on, and that of the value


class Rehearsal:
    """Plays the clicks that `widget.rehearse()` lists and packs what they change.

    Args:
        widget: stays as it is meanwhile, and tells nobody.
        limit: bytes when compressed; clicks that come when they are full are left out.
    """

    def __init__(self, widget: "WorkbenchWidget", limit: int) -> None:
        self.widget, self.limit, self.packed = widget, limit, b""
        self._names = [name for name in widget.keys if not name.startswith("_") and name not in NO_ANSWERS]
        self._places: dict[bytes | str, int] = {}  # every value once: bytes, or JSON
        self._packer, self._size = zlib.compressobj(), 0
        self._records: list[Record] = []

    def play(self) -> Iterator[None]:
        """Plays all, then packs. Between two steps, each as long as one answer, the widget may be used."""
        groups = self.widget.rehearse()
        planned, played = 0, 0
        for number, group in enumerate(groups):
            axes = [(name, list(values)) for name, values in group.items() if name not in ("do", "after")]
            planned += math.prod(len(values) for _, values in axes)
            inside = self.widget._inside()
            start = State(inside, self._values_of(inside))
            nothing = {"click": self._place([])}
            self._records.append(Record(number, start.values | nothing, start.values))
            if "after" in group:
                start = self._click(number, start, group["after"])
            states = [start] if start else []
            for state in states:  # which grow, as messages find others
                for _ in self._combine(number, state, axes):
                    played += 1
                    yield
                for message in group.get("do", []):
                    found = self._click(number, state, message)
                    if found and all(found.values != state.values for state in states):
                        states.append(found)
                    yield
        yield from self._pack(played, planned)

    def _combine(self, group: int, state: State, axes: Sequence[tuple[str, list]]) -> Iterator[None]:
        """Every combination of these values, one click after the other."""
        if not axes:
            yield
            return
        (name, values), *rest = axes
        for value in values:
            there = state.values[name] == self._place(value)
            found = state if there else self._click(group, state, {name: value})
            if found:
                yield from self._combine(group, found, rest)

    def _click(self, group: int, before: State, click: dict) -> State | None:
        """What a click leads to; nothing if it cannot be answered, or if there is no room for it."""
        if self._size + 12 * len(self._records) > self.limit:  # about what a line of a table takes
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

    def _place(self, value: Any) -> int:
        value = value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":"))
        if value not in self._places:
            self._places[value] = len(self._places)
            self._size += len(self._packer.compress(value if isinstance(value, bytes) else value.encode()))
        return self._places[value]

    # --- packing

    def _pack(self, played: int, planned: int) -> Iterator[None]:
        """Sets `packed`: the length of a JSON text as 4 bytes, that text, and all values that are bytes."""
        values = list(self._places)
        varying = [name for name in self._names if len({one.after[name] for one in self._records}) > 1]
        inputs = [name for name in varying if name in self.widget._answering]
        answers, changes = {}, {}  # what follows from the inputs; what only a click tells
        for name in (name for name in varying if name not in inputs):
            answers[name] = self._answers_of(name, inputs)
            yield
        told = [name for name in answers if not answers[name]]
        known = [name for name in told if isinstance(values[self._records[0].after[name]], str)]
        for name in [*inputs, *told]:
            rows = [(record.asked, record.after[name]) for record in self._records]
            changed = [(asked, after) for asked, after in rows if asked[name] != after]
            if changed and (table := _table(rows, changed, [*known, *inputs, "click"])):
                changes[name] = [table]
            yield
        places = {name: set() for name in [*inputs, *known, "click"]}
        for record in self._records:
            for name, found in places.items():
                found |= {record.asked[name], record.after.get(name, record.asked[name])}
        front, data = [], bytearray()
        for value in values:
            if isinstance(value, bytes):
                front.append(json.dumps({"bytes": [len(data), len(value)]}))
                data += value
            else:
                front.append(value)
        note = f"Only the first {played:,} of {planned:,} clicks are saved, for all would be too large."
        parts = {
            "places": {name: sorted(found) for name, found in places.items()},
            "changes": changes,
            "answers": {name: tables for name, tables in answers.items() if tables},
            "note": note if played < planned else "",
        }
        text = f'{json.dumps(parts)[:-1]}, "values": [{",".join(front)}]}}'.encode()
        self.packed = gzip.compress(len(text).to_bytes(4, "little") + text + data, mtime=0)
        yield

    def _answers_of(self, name: str, inputs: Sequence[str]) -> list[dict]:
        """Tables of a trait by the inputs, one for each group of clicks, or none if they do not settle it."""
        rows = [(record.after, record.after[name]) for record in self._records]
        tables = []
        for group in range(self._records[-1].group + 1):
            own = [row for row, record in zip(rows, self._records, strict=True) if record.group == group]
            table = _table(rows, own, inputs)
            if table is None:
                return []
            same = next((one for one in tables if one["of"] == table["of"]), None)
            if same:
                same["at"] |= table["at"]
            else:
                tables.append(table)
        return tables


def _table(rows: Rows, own: Rows, names: Sequence[str]) -> dict | None:
    """What the values of `own` depend on, `of`, and each value `at` the places of those; None if something
    else decides, too. What is left out of `of` makes no difference to any of the `rows`."""

    def settled(of: Sequence[str]) -> dict[tuple, int] | None:
        found = {tuple(row[name] for name in of): value for row, value in own}
        same = all(found.get(tuple(row[name] for name in of), value) == value for row, value in rows)
        return found if same else None

    of = list(names)
    if settled(of) is None:
        return None
    for name in names:
        less = [one for one in of if one != name]
        of = of if settled(less) is None else less
    return {"of": of, "at": {",".join(map(str, key)): value for key, value in settled(of).items()}}
