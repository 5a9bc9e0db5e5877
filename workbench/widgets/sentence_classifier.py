"""SentenceClassifier: the class of a sentence, and which of its words mattered."""

from pathlib import Path
from typing import Any

import torch
import traitlets
from matplotlib.figure import Figure

from workbench import plots
from workbench.bert import Bert
from workbench.explain import gradient_relevance, head_answers, leave_one_out
from workbench.widgets.base import guarded, now_and_before, read_front, to_bytes
from workbench.widgets.text import TextWidget, moved_spans

AT_ONCE = 300  # tokens that one answer may cost while words are left out; the view asks for the next
IN_ALL = 8000  # of a long text only the most relevant words are left out


class SentenceClassifier(TextWidget):
    """A sentence and the bars of its classes; a click on a word hides it from the model.

    Args:
        bert: a checkpoint with a head for sentences.
        text: the sentence.
        options: any trait below; `head` is "sentiment" unless said otherwise.

    Raises:
        ValueError: a checkpoint without such a head, or a text that cannot be read.

    Example:
        >>> SentenceClassifier(wb.load_bert(), "The soup was cold.", head="sentiment")  # doctest: +SKIP
    """

    _esm, _css = read_front("sentence_classifier")

    text = traitlets.Unicode(help="The sentence, as it was typed.")
    target = traitlets.Unicode(help="The class whose reasons are shown; empty: the most probable one.")
    hidden = traitlets.List(
        traitlets.Tuple(traitlets.Int(), traitlets.Int()),
        help="Spans of characters (start, end) of words that the model must not see.",
    )

    bars = traitlets.List(help="[class, its answer, the same with all words in sight].")
    words = traitlets.List(help="{text, start, end, special, hidden, pieces} for each word.")
    chosen = traitlets.Unicode(help="The class whose reasons are on the screen.")
    relevance = traitlets.Bytes(help="float16 (words): share of the gradient relevance.")
    left_out = traitlets.Bytes(help="float16 (words): fall of the answer without the word.")
    tried = traitlets.List(help="Numbers of the words that have been left out so far.")
    waiting = traitlets.Bool(help="More words are still to be left out.")

    def __init__(
        self, bert: Bert, text: str = "The food was good, but the service was slow.", **options: Any
    ) -> None:
        super().__init__(bert, "sentence", "sentiment", text=text, **options)
        self._good = text  # the last text that could be read
        self._show()
        self._watch(["text", "head", "target", "hidden"])

    def _show(self) -> None:
        """Reads the sentence: first the bars; which words mattered follows when the view asks for it."""
        encoding = self._encode()
        head = self.model.heads[self.head]
        labels = head.labels
        if self.target and self.target not in labels:
            self._settle(target="")  # of another head
        words = encoding.words
        spans = self.hidden if self.text == self._good else moved_spans(self.hidden, self._good, self.text)
        self._off = [
            number
            for number, word in enumerate(words)
            if not word.special and any(start < word.end and word.start < end for start, end in spans)
        ]
        with self.timed():
            sets = [self._off, []] if self._off else [[]]
            answers = head_answers(self.model, self.head, encoding, sets)
        order = answers[0].argsort(descending=True, stable=True).tolist()
        self._read, self._good = encoding, self.text
        self._settle(hidden=[(words[number].start, words[number].end) for number in self._off])
        self.problem_type = head.problem_type
        self.bars = now_and_before(labels, answers[0], answers[-1], order)
        self.words = [
            chip | {"hidden": number in self._off} for number, chip in enumerate(self._words(encoding))
        ]
        self.chosen = self.target or labels[order[0]]
        self._todo: list[int] | None = None
        self._relevance, self._falls = torch.zeros(len(words)), torch.zeros(len(words))
        self.tried, self.waiting = [], True
        self.relevance = self.left_out = to_bytes(self._falls)

    def _act(self, content: dict) -> None:
        if content.get("do") == "explain":
            self._explain_some()

    @guarded
    def explain(self) -> None:
        """Finds out which words mattered, all at once; the view does the same in small steps."""
        while self.waiting:
            self._explain_some()

    def _explain_some(self) -> None:
        """First the gradient relevance; then a few words more are left out, the most relevant first."""
        encoding, label = self._read, self.model.heads[self.head].labels.index(self.chosen)
        if self._todo is None:
            relevance = gradient_relevance(self.model, self.head, encoding, label, self._off)
            order = relevance.argsort(descending=True).tolist()
            free = [
                number for number in order if not self.words[number]["special"] and number not in self._off
            ]
            self._todo = free[: max(1, IN_ALL // len(encoding))]
            self._relevance, self.relevance = relevance, to_bytes(relevance)
        else:
            some = self._todo[: max(1, AT_ONCE // len(encoding))]
            self._todo = self._todo[len(some) :]
            self._falls[some] = leave_one_out(self.model, self.head, encoding, label, some, self._off)
            self.left_out = to_bytes(self._falls)
            self.tried = [*self.tried, *some]
        self.waiting = bool(self._todo)

    def save(self, path: str | Path) -> Path:
        """As every widget; before, it is found out which words mattered (see `explain`)."""
        self.explain()
        return super().save(path)

    def figure(self) -> Figure:
        """The bars, and the sentence shaded by relevance and by what leaving out each word does.

        No model runs: what has not been found out yet (see `explain`) is not drawn.
        """
        labels, now, full = zip(*self.bars, strict=True)
        shares = [f"{100 * share:.0f} %" for share in self._relevance.tolist()]
        points = self._falls * (100 if self._probable else 1)
        points = [f"{round(point, 1) + 0.0:+.1f}" for point in points.tolist()]  # never "-0.0"
        points = [note if number in self.tried else "" for number, note in enumerate(points)]
        if self._todo is None:
            sentences = [self._shaded(self._falls, points, "which words mattered: not found out yet")]
        else:
            what = "in points of the probability of" if self._probable else "of the number"
            title = f"leave one out: fall {what} “{self.chosen}”"
            sentences = [
                self._shaded(self._relevance, shares, f"gradient relevance for “{self.chosen}”"),
                self._shaded(self._falls, points, title),
            ]
        bars = plots.bars(labels, now, full if self._off else (), percent=self._probable)
        return plots.stack(bars, *sentences, status=self.status)

    def _shaded(self, values: torch.Tensor, notes: list[str], title: str) -> plots.Mark:
        """The sentence, each word as dark as its number is large: blue above zero, amber below."""
        strongest = float(values.abs().max()) or 1.0
        chips = []
        for word, value, note in zip(self.words, values.tolist(), notes, strict=True):
            note = "hidden" if word["hidden"] else "" if word["special"] else note
            paper = plots.shade(plots.AMBER if value < 0 else plots.BLUE, abs(value) / strongest)
            ink = plots.MUTED if word["special"] else plots.INK
            chips.append(plots.Chip(word["text"], note, paper, ink))
        return plots.words(chips, title=title)
