"""FineTuning: a new linear layer learns before your eyes, on an encoder frozen or learning too."""

import base64
import io
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import traitlets
from PIL import Image

from workbench import plots
from workbench.bert import Bert
from workbench.checks import check_characters, check_ready, check_rows
from workbench.image import ImageSource, load_image
from workbench.patches import moving_places
from workbench.vit import ViT
from workbench.widgets.base import read_front, sentence, to_bytes
from workbench.widgets.strip import READS, StripWidget

if TYPE_CHECKING:
    from workbench.training.lessons import FineTuned

RUNS = {"frozen": "frozen", "fine-tuned": "tuned"}  # the trainings, and the trait of their curves
PAGE = 8  # rows of the table on the screen
FIGURES = ("step", "loss", "accuracy", "held_out_loss", "held_out_accuracy")
MOST = 5000  # examples, if not more came along
MOST_POINTS = 400  # held-out vectors on the screen
THUMBNAIL = 56  # pixels of a side
COLUMNS = {  # of the table of examples, by kind; the last is what is to be learned
    "sentence": ["Text", "Class"],
    "word": ["Words", "Classes"],
    "pair": ["First", "Second", "Class"],
    "span": ["Passage", "Question", "Answer"],
    "picture": ["Picture", "Class"],
}


def _thumbnail(image: ImageSource) -> Image.Image:
    return load_image(image).resize((THUMBNAIL, THUMBNAIL))


def _address(image: ImageSource) -> str:
    """A small picture as an address that holds it."""
    file = io.BytesIO()
    _thumbnail(image).save(file, format="webp")
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


class FineTuning(StripWidget):
    """A table of examples, two trainings side by side with growing curves, what the new layer reads in two
    dimensions, and what they got wrong.

    Args:
        model: a BERT or a ViT; stays as it is.
        examples: what the columns of the table hold, by `kind`: (text, class), (words, classes), both
            between spaces, (first, second, class), (passage, question, answer), or (picture, class).
        train: what trains: `workbench.training.lessons.fine_tune`.

    `trained` holds what was learned, by "frozen" and "fine-tuned": `.model`, `.confusion` and so on.

    Example:
        >>> FineTuning(bert, read_labelled("sentences_intents"), fine_tune)  # doctest: +SKIP
    """

    _esm, _css = read_front("fine_tuning")

    look_on = ("first",)

    kind = traitlets.Enum(list(COLUMNS), "sentence", help="What has a class, or an answer.")
    columns = traitlets.List(help="Names of the columns of the table.")
    steps = traitlets.Int(45, min=1, max=1000, help="Steps of each training.")
    first = traitlets.Int(0, min=0, help="Number of the first example on the screen.")

    planned = traitlets.Int(45, help="Steps of the trainings that are shown.")
    awaited = traitlets.Bool(False, help="A cell waits in `finish`, so no button reaches the kernel.")
    state = traitlets.Enum(["ready", "training", "stopped", "done"], "ready", help="Of the training.")
    now = traitlets.Unicode(help="The training that is running, or empty.")
    rows = traitlets.List(help="The examples on the screen.")
    count = traitlets.Int(help="Examples in all.")
    classes = traitlets.List(help="[class, how many examples (or words) have it].")
    frozen = traitlets.Bytes(help="float16 (looks, figures): the curves, see FIGURES.")
    tuned = traitlets.Bytes(help="The same, of the encoder that learns too.")
    frozen_places = traitlets.Bytes(help="float16 (looks, answers, 2): see `moving_places`.")
    tuned_places = traitlets.Bytes(help="The same, of the encoder that learns too.")
    true = traitlets.List(help="The class of each of these answers, as a number in `labels`.")
    labels = traitlets.List(help="The classes.")
    moment = traitlets.Float(1.0, min=0, max=1, help="Which look is drawn; 0: the first, 1: the last.")
    tables = traitlets.Dict(help="By training: labels and counts of what was held out; or answers.")
    cell = traitlets.List(help="The cell of a table that is looked into: [training, true, said].")
    shown = traitlets.List(help="Held-out examples in that cell.")

    def __init__(
        self,
        model: Bert | ViT,
        examples: Sequence[tuple[Any, ...]],
        train: "Callable[..., FineTuned]",
        **options: Any,
    ) -> None:
        check_ready(model)
        self.trained: dict[str, FineTuned] = {}
        self._places: dict[str, torch.Tensor] = {}
        self._train, self._stop, self._thread, self._failed = train, threading.Event(), None, ""
        usual = {"kind": "picture"} if isinstance(model, ViT) else {}
        super().__init__(model, **usual | options)
        if (self.kind == "picture") != isinstance(model, ViT):
            raise ValueError(f"{model.name} does not learn from examples of the kind {self.kind!r}.")
        self.columns, self.planned = COLUMNS[self.kind], self.steps
        check_rows(examples, [name.lower() for name in self.columns])
        self._examples = self._shipped = [tuple(example) for example in examples]
        self._check(self._shipped)
        self._say("nothing trained yet")
        self._refresh(run=False)

    # --- the table

    @property
    def examples(self) -> list[tuple[Any, ...]]:
        """What is learned from: the table without its empty rows."""
        return [row for row in self._examples if self.kind == "picture" or any(map(str.strip, row))]

    def _look(self) -> None:
        """Puts a page of the table on the screen."""
        last = max(0, (len(self._examples) - 1) // PAGE * PAGE)
        self._settle(first=min(self.first // PAGE * PAGE, last))
        rows = self._examples[self.first : self.first + PAGE]
        if self.kind == "picture":
            rows = [(_address(image), label) for image, label in rows]
        self.rows = [list(row) for row in rows]
        labels = [] if self.kind == "span" else [label for *_, label in self.examples]  # answers are none
        names = (label.split() if self.kind == "word" else [label.strip()] for label in labels)
        counts = Counter(name for each in names for name in each if name)
        self.count, self.classes = len(self._examples), [list(pair) for pair in sorted(counts.items())]

    def _line(self) -> list[list[str]]:
        """What learns: a new matrix, and perhaps all before it; no stage can be opened."""
        kind = {"pair": "sentence", "picture": "class"}.get(self.kind, self.kind)
        classes = 2 if kind == "span" else len(self.classes)
        stops = [stop for _, *stop in self._before_head()]
        stops += [[READS[kind], "is read"], ["new matrix", f"{classes} × {self.model.config.hidden_size}"]]
        return [["", *stop] for stop in [*stops, ["softmax", "0 to 100 %"], ["answer", "is learned"]]]

    def rehearse(self) -> list[dict]:
        """Every page of examples, and every number in the tables of held-out answers."""
        cells = [
            [run, true, said]
            for run, table in self.tables.items()
            for true, row in zip(table.get("labels", []), table.get("counts", []), strict=True)
            for said, count in zip(table["labels"], row, strict=True)
            if count
        ]
        pages = range(0, self.count, PAGE)
        return [{"first": pages}, {"do": [{"do": "look", "cell": cell} for cell in cells]}]

    def _act(self, content: dict) -> None:
        match content.get("do"):
            case "train":
                self.start()
            case "stop":
                self.stop()
            case "look":
                self._look_into(content["cell"])
            case "write" | "add" | "remove" | "clear" | "restore" as do:
                self._edit(do, content.get("row", 0), content.get("column", 0), content.get("rows", []))

    def _edit(self, do: str, row: int, column: int, rows: Sequence[Sequence[Any]]) -> None:
        """Fields typed or pasted from a row and a column on, a new row, one row less, none, or the shipped
        ones."""
        if self.kind == "picture":
            raise ValueError("Pictures are changed in their folders; then run this cell again.")
        if self.state == "training":
            raise ValueError("A training is running on these examples: stop it to change them.")
        empty = ("",) * len(self.columns)
        examples = list(self._examples)
        if do == "write":
            self._write(examples, row, column, rows)
        elif do == "add":
            examples.append(empty)
        elif do == "remove":
            del examples[row : row + 1]
        else:
            examples = self._shipped if do == "restore" else [empty] * PAGE
        most = max(MOST, len(self._shipped))
        if len(examples) > most:
            raise ValueError(f"These would be {len(examples):,} examples; {most:,} are the most.")
        self._check(examples[row : row + len(rows)])
        self._examples = examples
        if do == "add":
            self._settle(first=len(examples) - 1)
        self._refresh(run=False)

    def _write(self, examples: list[tuple], row: int, column: int, rows: Sequence[Sequence[Any]]) -> None:
        """Writes fields over examples. What is beside them stays; a row that was empty gets what the first
        one has before that column, a passage for instance."""
        count = len(self.columns)
        examples += [("",) * count] * (row + len(rows) - len(examples))
        for number, fields in enumerate(rows, row):
            new = [str(field) for field in fields][:count]
            start, old = min(column, count - len(new)), examples[number]
            if not any(map(str.strip, old)):
                old = (*examples[row][:start], *old[start:])
            examples[number] = (*old[:start], *new, *old[start + len(new) : count])

    def _check(self, rows: Sequence[Sequence[Any]]) -> None:
        for part in (part for fields in rows for part in fields[self.kind == "picture" :]):
            check_characters(part)
            if len(part) > 2000:
                raise ValueError("A text is longer than 2,000 characters: cut it into sentences, one a row.")

    # --- training

    def start(self) -> None:
        """Trains in the background: first with the encoder frozen, then with all of it learning."""
        with self._lock:
            if self.state == "training":
                return
            self._before, self._failed = self.state, ""
            self._stop.clear()
            self.state, self.now, self.planned = "training", "frozen", self.steps
            self._thread = threading.Thread(target=self._run, args=(self.examples,), daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Ends the training after its step; what was learned is kept."""
        self._stop.set()

    def finish(self) -> "FineTuned":
        """Waits until the training is over (and starts it, if nobody has or it failed); Ctrl-C stops it.

        Returns:
            What was learned last: with the whole encoder, or with a frozen one if it was stopped before.

        Raises `ValueError` for examples that nothing can be learned from.
        """
        if self.state == "ready" or self._failed:
            self.start()
        try:
            self._tell(awaited=self.state == "training")
            while self._thread is not None and self._thread.is_alive():
                self._thread.join(0.2)
        except KeyboardInterrupt:
            self.stop()
            self._thread.join()
        finally:
            self._tell(awaited=False)
        if self._failed:
            raise ValueError(self._failed)
        return list(self.trained.values())[-1]

    def _run(self, examples: list[tuple[str, ...]]) -> None:
        started = time.perf_counter()
        try:
            for name in RUNS:
                if not self._stop.is_set():
                    options = {"kind": self.kind, "frozen": name == "frozen", "steps": self.planned}
                    grow = partial(self._grow, name)
                    self._train(self.model, examples, **options, watch=grow, stop=self._stop)
            with self._lock:
                self._say(f"trained in {time.perf_counter() - started:.0f} s")
                self._tell(state="stopped" if self._stop.is_set() else "done", now="", error="")
        except Exception as error:  # nobody sees a traceback of a thread
            self._failed = sentence(error)
            self._tell(state=self._before, now="", error=self._failed)

    def _tell(self, **values: Any) -> None:
        with self._lock, self.hold_sync():
            self.revision += 1
            self._settle(**values)

    def _grow(self, name: str, result: "FineTuned") -> None:
        """The curves so far; at the end also the table of held-out answers."""
        points = torch.tensor([[look[figure] for figure in FIGURES] for look in result.log])
        values: dict[str, Any] = {RUNS[name]: to_bytes(points), "now": name}
        with self._lock:  # not in the middle of a rehearsal
            if name == "frozen" and len(result.log) == 1:  # a new training begins
                self.trained, self._places = {}, {}
                values |= {"tuned": b"", "tuned_places": b"", "moment": 1.0}
                values |= {"tables": {}, "cell": [], "shown": []}
            self.trained[name] = result
            if result.vectors:
                vectors = torch.stack(result.vectors)[:, :MOST_POINTS]
                self._places[name] = moving_places(vectors, self._places.get(name))
                values |= {"true": result.targets[:MOST_POINTS], "labels": list(result.labels)}
                values[f"{RUNS[name]}_places"] = to_bytes(self._places[name])
        if result.answers:  # the training is over
            if self.kind == "span":
                table = {"answers": [list(answer) for answer in result.answers]}
            else:
                table = {"labels": list(result.labels), "counts": result.confusion.tolist()}
            values["tables"] = self.tables | {name: table}
        self._tell(**values)

    def _look_into(self, cell: Sequence[Any]) -> None:
        """Puts the held-out examples of one cell of a table on the screen."""
        name, true, said = cell
        if self.cell == list(cell) or name not in self.trained:
            self.cell, self.shown = [], []
            return
        found = [one for one, *pair in self.trained[name].answers if pair == [true, said]][:12]
        self.cell, self.shown = list(cell), [*map(_address, found)] if self.kind == "picture" else found

    def figure(self) -> plots.StillFigure:
        """The curves and the tables as they are now; before any training, the examples on the screen."""
        if not self.trained and self.kind == "picture":
            pictures = np.stack([_thumbnail(image) for image, _ in self._examples[:16]])
            return plots.picture_rows({"examples": pictures}, self.status)
        if not self.trained:
            rows = [
                [*map(plots.Chip, " / ".join(texts).split()), plots.Chip(label, paper=plots.FIRST)]
                for *texts, label in self.rows
            ]
            return plots.stack(plots.words(*rows, title="examples and their classes"), status=self.status)
        parts, answers = [], []
        logs = {name: list(result.log) for name, result in self.trained.items()}  # which may grow meanwhile
        for figure, top in (("accuracy", 1.02), ("loss", None)):
            new = {
                f"{name}, held out": plots.by_step(log, f"held_out_{figure}") for name, log in logs.items()
            }
            seen = {f"{name}, learned from": plots.by_step(log, figure) for name, log in logs.items()}
            parts.append(plots.curves(new, seen, title=figure, top=top))
        colors = [plots.class_color(label, len(self.labels)) for label in self.true]
        for name, places in self._places.items():
            look = round(self.moment * (len(places) - 1))
            title = f"{name}: what the new layer reads of held-out examples, step {logs[name][look]['step']}"
            parts.append(plots.points(places[look].numpy(), colors, title=title))
        for name, table in self.tables.items():
            if self.kind == "span":
                rows = [
                    [plots.Chip(question), plots.Chip(said, "" if said == true else f"right: {true}")]
                    for question, true, said in table["answers"][:PAGE]
                ]
                answers.append(plots.words(*rows, title=f"{name}: held-out questions and what it answers"))
            else:
                title, names = f"{name}: true class down, answer across", table["labels"]
                parts.append(plots.heat(table["counts"], names, names, title=title))
        rows = [tuple(parts[first : first + 2]) for first in range(0, len(parts), 2)]
        return plots.stack(*rows, *answers, status=self.status)
