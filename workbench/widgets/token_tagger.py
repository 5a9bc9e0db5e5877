"""TokenTagger: a class for every word."""

from typing import Any

import traitlets

from workbench import plots
from workbench.bert import Bert
from workbench.encoder import to_answers
from workbench.widgets.base import read_front, rounded
from workbench.widgets.text import TextWidget

# fmt: off
MEANINGS = {  # universal part-of-speech tags (universaldependencies.org), and examples
    "ADJ": "adjective: old, green", "ADP": "adposition: in, under, during", "ADV": "adverb: very, here",
    "AUX": "auxiliary: is, has, will", "CCONJ": "coordinating conjunction: and, or",
    "DET": "determiner: the, a, this", "INTJ": "interjection: oh, hello", "NOUN": "noun: tree, beauty",
    "NUM": "numeral: two, 2024", "PART": "particle: not, to (go)", "PRON": "pronoun: she, my, who",
    "PROPN": "proper noun: Mary, London", "PUNCT": "punctuation: . , ?",
    "SCONJ": "subordinating conjunction: if, that", "SYM": "symbol: $, %", "VERB": "verb: run, eats",
    "X": "something else",
}
# fmt: on


class TokenTagger(TextWidget):
    """A sentence with a coloured class for every word; a click on a word pins it for the strip, whose
    stage "head" shows how its class came about. The option `head` is "pos" unless said otherwise.

    Example:
        >>> TokenTagger(wb.load_bert(), "They walk the dog.", pinned=1, stage="head")  # doctest: +SKIP
    """

    _esm, _css = read_front("token_tagger")
    show_on = ("text", "head")
    points = ("pinned",)
    look_on = ("pinned",)

    text = traitlets.Unicode(help="The sentence, as it was typed.")
    pinned = traitlets.Int(0, help="Number of the word whose class is explained, counted from 0.")

    labels = traitlets.List(help="The classes.")
    meanings = traitlets.List(help="What each class means, where that is known.")
    words = traitlets.List(help="{text, label (number), answer, pieces} for each word.")
    pieces = traitlets.List(help="[piece, class, answer] for each piece of the pinned word.")

    def __init__(
        self, bert: Bert, text: str = "They light the light in a light room.", **options: Any
    ) -> None:
        super().__init__(bert, "word", "pos", text=text, **options)

    def rehearse(self) -> list[dict]:
        """Every word, with every class."""
        words = range(len(self.words))
        classes = {"stage": ["head"], "pinned": words, "row": range(-1, len(self.labels))}
        return [*self._rehearse_stages(pinned=words), classes, self._rehearse_points(pinned=words)]

    def _show(self) -> None:
        """The class of a word is that of its first piece (BERT, section 5.3)."""
        before = [(word["start"], word["end"]) for word in self.words[self.pinned :][:1]]
        before, encoding, head = self._moved(before), self._encode(), self.model.heads[self.head]
        with self.timed():
            states = self.model(**encoding.tensors(self.model.device))
            logits = self.model.logits(self.head, states[-1])[0]
        self._logits = logits.float().cpu()
        self._answers = to_answers(self._logits, head.problem_type)
        self._tokens = [word.tokens for word in encoding.words if not word.special]
        first = [tokens.start for tokens in self._tokens]
        best = self._answers[first].max(-1)
        words = [word for word in self._words(encoding) if not word["special"]]
        for word, label, answer in zip(words, best.indices.tolist(), rounded(best.values), strict=True):
            word |= {"label": label, "answer": answer}
        places = [(word["start"], word["end"]) for word in words]
        kept = [places.index(place) for place in before if place in places]  # the pinned word stays pinned
        self._settle(
            problem_type=head.problem_type,
            labels=list(head.labels),
            meanings=[MEANINGS.get(label, "") for label in head.labels],
            words=words,
            pinned=kept[0] if kept else self.pinned,
        )
        self._way = self._way_of(encoding, first, known=states)

    @property
    def _at(self) -> int:
        return self._tokens[self.pinned].start

    @property
    def _best(self) -> tuple[str, float]:
        word = self.words[self.pinned]
        return self.labels[word["label"]], word["answer"]

    def _look(self) -> None:
        self._settle(pinned=min(max(self.pinned, 0), len(self.words) - 1))
        best = self._answers[list(self._tokens[self.pinned])].max(-1)
        names = [self.labels[label] for label in best.indices.tolist()]
        pieces = self.words[self.pinned]["pieces"]
        self.pieces = [list(piece) for piece in zip(pieces, names, rounded(best.values), strict=True)]

    def figure(self) -> plots.StillFigure:
        """The sentence, the class under each word, and the dot products of the pinned word."""
        count, chips = len(self.labels), []
        for word in self.words:
            paper = plots.shade(plots.class_color(word["label"], count), 0.6)
            note = f"{self.labels[word['label']]} {self._written(word['answer'])}"
            chips.append(plots.Chip(word["text"], note, paper))
        logits = self._logits[self._tokens[self.pinned].start].tolist()
        title = f"“{self.words[self.pinned]['text']}”: logit of each class"
        bars = plots.bars([*zip(self.labels, logits, strict=True)], percent=False, title=title)
        return plots.stack(plots.words(chips), bars, status=self.status)
