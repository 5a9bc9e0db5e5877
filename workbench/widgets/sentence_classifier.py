"""SentenceClassifier: the class of a sentence, and which of its words mattered."""

from collections.abc import Callable
from typing import Any

import torch
import traitlets

from workbench import plots
from workbench.bert import Bert
from workbench.explain import gradient_relevance, head_answers, hide_words, leave_one_out
from workbench.widgets.base import best_first, now_and_before, read_front, to_bytes
from workbench.widgets.text import TextWidget

AT_ONCE = 300  # tokens that one answer may cost while words are left out; the view asks for the next
IN_ALL = 8000  # of a long text only the most relevant words are left out


class SentenceClassifier(TextWidget):
    """A sentence and the bars of its classes; a click on a word hides it from the model. The option `head` is
    "sentiment" unless said otherwise.

    Example:
        >>> SentenceClassifier(wb.load_bert(), "The soup was cold.", head="sentiment")  # doctest: +SKIP
    """

    _esm, _css = read_front("sentence_classifier")
    show_on = ("text", "head", "target", "hidden")

    text = traitlets.Unicode(help="The sentence, as it was typed.")
    target = traitlets.Unicode(help="The class whose reasons are shown; empty: the most probable one.")
    hidden = traitlets.List(traitlets.Tuple(traitlets.Int(), traitlets.Int()), help="Spans of hidden words.")

    bars = traitlets.List(help="[class, its answer, the same with all words in sight].")
    hides = traitlets.Int(help="How many classes have no bar.")
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

    def rehearse(self) -> list[dict]:
        """The reasons of every class on screen, and every single word hidden."""
        words = [(word["start"], word["end"]) for word in self.words if not word["special"]]
        hidden = [self.hidden, [], *([span] for span in words)]
        targets = {"target": ["", *(name for name, *_ in self.bars)]}
        return [targets, *self._rehearse_stages(hidden=hidden)]

    def _show(self) -> None:
        """Reads the sentence: first the bars; which words mattered follows when the view asks for it."""
        spans, encoding = self._moved(self.hidden), self._encode()
        labels, words = self.model.heads[self.head].labels, self._words(encoding)
        if self.target and self.target not in labels:
            self._settle(target="")  # of another head
        for word in words:
            touched = any(start < word["end"] and word["start"] < end for start, end in spans)
            word["hidden"] = touched and not word["special"]
        self._off = [number for number, word in enumerate(words) if word["hidden"]]
        with self.timed():
            sets = [self._off, []] if self._off else [[]]
            answers = head_answers(self.model, self.head, encoding, sets)
        self.problem_type = self.model.heads[self.head].problem_type
        order = best_first(answers[0], self._probable)
        if self.target and labels.index(self.target) not in order:
            order.append(labels.index(self.target))
        self._encoding, self.words = encoding, words
        self._settle(hidden=[(words[number]["start"], words[number]["end"]) for number in self._off])
        self.hides = len(labels) - len(order)
        self.bars = now_and_before(labels, answers[0], answers[-1], order)
        self.chosen = self.target or labels[order[0]]
        self._todo: list[int] | None = None
        self._relevance, self._falls = torch.zeros(len(words)), torch.zeros(len(words))
        self.tried, self.waiting = [], True
        self.relevance = self.left_out = to_bytes(self._falls)
        mask = hide_words(encoding, [self._off]).to(self.model.device) if self._off else None
        self._way = self._way_of(encoding, [0], mask=mask)

    @property
    def _best(self) -> tuple[str, float]:
        return self.bars[0][:2]

    def _act(self, content: dict) -> None:
        if content.get("do") == "explain":
            self._explain_some()

    def _complete(self) -> None:
        while self.waiting:
            self._explain_some()

    def _explain_some(self) -> None:
        """First the gradient relevance; then a few words more are left out, the most relevant first."""
        encoding, label = self._encoding, self.model.heads[self.head].labels.index(self.chosen)
        if self._todo is None:
            self._relevance = gradient_relevance(self.model, self.head, encoding, label, self._off)
            self.relevance = to_bytes(self._relevance)
            order = self._relevance.argsort(descending=True).tolist()
            free = [at for at in order if not (self.words[at]["special"] or self.words[at]["hidden"])]
            self._todo = free[: max(1, IN_ALL // len(encoding))]
        else:
            some = self._todo[: max(1, AT_ONCE // len(encoding))]
            self._todo = self._todo[len(some) :]
            falls = leave_one_out(self.model, self.head, encoding, label, some, self._off)
            self._falls = self._falls.index_copy(0, torch.tensor(some), falls)
            self.left_out = to_bytes(self._falls)
            self.tried = [*self.tried, *some]
        self.waiting = bool(self._todo)

    def figure(self) -> plots.StillFigure:
        """The bars, and the sentence shaded by relevance and by what leaving out each word does.

        No model runs: what has not been found out yet (see `complete`) is not drawn.
        """
        marks = [plots.bars(self.bars, percent=self._probable)]
        if self._todo is None:
            marks.append(self._shaded({}, str, "which words mattered: not found out yet"))
        else:
            scale, what = (100, "in points of the probability of") if self._probable else (1, "of the number")
            shares = dict(enumerate(self._relevance.tolist()))
            # Never "-0.0":
            falls = {number: round(scale * float(self._falls[number]), 1) + 0.0 for number in self.tried}
            marks.append(self._shaded(shares, plots.in_percent, f"gradient relevance for “{self.chosen}”"))
            marks.append(self._shaded(falls, "{:+.1f}".format, f"leave one out: fall {what} “{self.chosen}”"))
        return plots.stack(*marks, status=self.status)

    def _shaded(self, values: dict[int, float], write: Callable[[float], str], title: str) -> plots.Mark:
        """The sentence; words that have a number are as dark as it is large: blue above zero, amber below."""
        most, chips = max(map(abs, values.values()), default=0) or 1, []
        for number, word in enumerate(self.words):
            value = values.get(number, 0)
            note = "hidden" if word["hidden"] else write(value) if number in values else ""
            paper = plots.shade(plots.AMBER if value < 0 else plots.BLUE, abs(value) / most)
            chips.append(plots.Chip(word["text"], "" if word["special"] else note, paper))
        return plots.words(chips, title=title)
