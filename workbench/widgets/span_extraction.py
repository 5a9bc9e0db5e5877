"""SpanExtraction: where in a passage the answer to a question stands, and how two vectors find it."""

from typing import Any

import torch
import torch.nn.functional as F
import traitlets
from torch import Tensor

from workbench import plots
from workbench.bert import Bert
from workbench.tasks import best_spans, span_windows, surest_window
from workbench.widgets.base import read_front, rounded, there, to_bytes
from workbench.widgets.samples import PASSAGES
from workbench.widgets.text import TextWidget

MAP = 20  # most tokens on a side of the start x end map: as many words as can be read on its axes


def _where_it_is(joint: Tensor, first: int, last: int) -> tuple[int, int]:
    """The tokens of the map: from `first` to `last`, on to other probable spans while they fit, and one
    more on either side; all tokens, if they fit. `joint` is (starts, ends)."""
    if len(joint) <= MAP:
        return 0, len(joint)
    last = min(last, first + MAP - 1)
    for cell in joint.flatten().topk(MAP).indices.tolist():
        start, end = divmod(cell, len(joint))
        if joint[start, end] > 0.001 and max(last, end) - min(first, start) < MAP:
            first, last = min(first, start), max(last, end)
    return max(0, first - 1), min(len(joint), last + 2)


class SpanExtraction(TextWidget):
    """A passage and a question; the answer is a span of the passage (BERT, section 4.2). A passage may be
    longer than the model reads at once; the checkpoint needs a head for spans.

    Example:
        >>> SpanExtraction(wb.load_bert(), "Who slept?", "The cat slept all day.")  # doctest: +SKIP
    """

    _esm, _css = read_front("span_extraction")
    fields = ("question", "passage")
    pairs = [(question, passage) for passage, question in PASSAGES]
    show_on = ("question", "passage", "head")
    points = ("pinned", "window", "chosen")
    _begins: int | None = None  # where the window that was shown last begins in the passage
    look_on = ("top_k", "longest", "threshold", "pinned", "window", "chosen")

    question = traitlets.Unicode(help="The question, segment 0.")
    passage = traitlets.Unicode(help="The passage, segment 1.")
    top_k = traitlets.Int(5, min=1, max=20, help="How many answers are listed.")
    longest = traitlets.Int(30, min=1, max=100, help="Most word pieces in an answer.")
    threshold = traitlets.Float(0.0, help="By how much an answer must beat no answer, in scores.")
    pinned = traitlets.Int(0, help="Which answer is highlighted, 0: the best.")
    window = traitlets.Int(-1, help="Which window is shown; -1: that of the pinned answer.")
    chosen = traitlets.Int(-1, help="Token of the window that the strip tells of; -1: the answer's first.")

    start_by_end = traitlets.Bool(False, help="Show the map of starts and ends.")

    answers = traitlets.List(help="[text, start, end, probability, window], best first.")
    view = traitlets.Dict(help="The window on the screen; see `_look`.")
    bars = traitlets.Bytes(help="float16 (2, tokens): start and end of each token of the window.")
    joint = traitlets.Bytes(help="float16 (starts, longest): spans of the map, by first token and length.")

    def __init__(
        self, bert: Bert, question: str = PASSAGES[0][1], passage: str = PASSAGES[0][0], **options: Any
    ) -> None:
        super().__init__(bert, "span", "span", question=question, passage=passage, **options)

    def rehearse(self) -> list[dict]:
        """Every answer with every token of its window, every threshold, every window."""
        tokens, answers = range(len(self.view["tokens"])), range(len(self.answers))
        return [
            {"chosen": tokens[:1], "pinned": answers},
            {"pinned": answers, "chosen": tokens},
            *self._rehearse_stages(chosen=tokens),
            {"threshold": [step / 2 for step in range(-24, 25)]},
            {"chosen": tokens[:1], "window": range(len(self._windows)), "pinned": answers},
            {"pinned": answers, "stage": self._stages, "token": [self.token, 0]},
            self._rehearse_points(chosen=tokens),
            self._rehearse_points(pinned=answers),
        ]

    def _on_look(self, change: dict) -> None:
        if change["name"] in ("pinned", "window"):
            self._settle(chosen=-1)  # it was a token of the other window
        if change["name"] == "pinned":
            self._settle(window=-1)
        super()._on_look(change)

    def _show(self) -> None:
        with self.timed():
            windows = span_windows(self.model, self.question, self.passage, self._progress, self.head)
        if self.answers:  # not what was asked for at the beginning
            self._settle(pinned=0, window=-1)
        if self._read[1] != self.passage:
            self._settle(chosen=-1)
        self._windows, self._read = windows, self.texts

    def _progress(self, done: int, count: int) -> None:
        if count > 1:  # at once: traits wait until the answer is there
            self.send({"window": done, "windows": count})

    def _look(self) -> None:
        """What is on the screen of one window; `view` holds

        tokens: [text between, text] of each word piece of the passage, where only the first of a
        character's pieces has a text; before, after: the rest of it;
        answer, chosen: indices of tokens; map: first and last token of the map, mapped: its share of what is
        probable; window, windows;
        no_answer, best: scores; no_answer_probability; answered.
        """
        text = self._read[1]
        found = best_spans(self._windows, text, self.top_k, self.longest)
        self.answers = [[a.text, a.start, a.end, rounded(a.probability, 6), number] for a, number in found]
        pinned = min(max(self.pinned, 0), len(found) - 1)
        number = there(self.window, len(self._windows), found[pinned][1])
        window = self._windows[number]
        tokens, answer = window.tokens, found[pinned][0]
        span = window.span(answer.start, answer.end)
        if self._begins not in (None, tokens[0].start):
            self._settle(chosen=-1)  # it was a token of another window
        self._begins = tokens[0].start
        chosen = there(self.chosen, len(tokens), (span or [0])[0])
        ends = [tokens[0].start, *(token.end for token in tokens)]
        joint = window.joint(self.longest)
        seen = _where_it_is(joint, *((span[0], span[-1]) if span else (chosen, chosen)))
        best, none = self._windows[found[0][1]], surest_window(self._windows)
        score = best.score(best.span(found[0][0].start, found[0][0].end))
        self.view = {
            "tokens": [
                [text[end : token.start], text[max(end, token.start) : token.end]]
                for end, token in zip(ends, tokens, strict=False)
            ],
            "before": text[: tokens[0].start],
            "after": text[tokens[-1].end :],
            "answer": [span[0], span[-1]] if span else [],
            "chosen": chosen,
            "map": list(seen),
            "mapped": rounded(float(joint[slice(*seen), slice(*seen)].sum() / joint.sum())),
            "window": number,
            "windows": len(self._windows),
            "no_answer": round(none.no_answer_score, 3),
            "no_answer_probability": rounded(none.no_answer, 6),
            "best": round(score, 3),
            "answered": score > none.no_answer_score + self.threshold,
        }
        self._settle(pinned=pinned)
        if window is not getattr(self, "_shown", None):
            self._way = self._way_of(window.encoding, range(len(window.encoding)))
        self._shown, self.note = window, self._remark(window.encoding)
        self.bars = to_bytes(window.probabilities[list(window.inside)].T.contiguous())
        # Rows are first tokens, columns how many tokens follow: little is possible of the whole map.
        joint = F.pad(joint, (0, self.longest))
        band = [joint[row, row : row + self.longest] for row in range(*seen)]
        self.joint = to_bytes(torch.stack(band))

    @property
    def _at(self) -> int:
        return self._shown.inside[self.view["chosen"]]

    @property
    def _best(self) -> tuple[str, float]:
        text, _, _, probability, _ = self.answers[self.pinned]
        none = "no answer", self.view["no_answer_probability"]
        return (text, probability) if self.view["answered"] else none

    def figure(self) -> plots.StillFigure:
        """The passage with the answer, what starts and ends it, and the best answers."""
        window, chips, at = self._shown, [], 0
        first, last = self.view["answer"] or (0, -1)
        answer = set(window.inside[first : last + 1])
        for word in (word for word in window.encoding.words if word.segment == 1 and not word.special):
            chances = window.probabilities[list(word.tokens)].sum(0).tolist()
            note = "s {} · e {}".format(*map(plots.in_percent, chances)) if max(chances) >= 0.05 else ""
            at = len(chips) if answer and word.tokens.start <= min(answer) else at
            paper = plots.FIRST if self.view["answered"] and answer.intersection(word.tokens) else "none"
            chips.append(plots.Chip(self._read[1][word.start : word.end], note, paper))
        chips = chips[max(0, min(at, len(chips) - plots.MOST_WORDS // 2) - plots.MOST_WORDS // 2) :]
        question = plots.words([plots.Chip(word) for word in self._read[0].split()], title="question")
        passage = plots.words(chips, title="passage, and how likely the answer starts (s) or ends (e) there")
        answers = [[text, probability] for text, _, _, probability, _ in self.answers]
        answers.append(["no answer", self.view["no_answer_probability"]])
        none = f"no answer: none wins by more than {plots.in_digits(self.threshold)}"
        bars = plots.bars(answers, title="" if self.view["answered"] else none)
        return plots.stack(question, passage, bars, status=self.status)
