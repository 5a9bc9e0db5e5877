"""TokenTagger: a class for every word, and the linear layer that decides it, as what it is."""

from typing import Any

import numpy as np
import torch
import traitlets
from matplotlib.figure import Figure

from workbench import plots
from workbench.bert import Bert
from workbench.encoder import MODEL_LOCK
from workbench.explain import words_of
from workbench.widgets.base import read_front, to_bytes
from workbench.widgets.one_text import OneTextWidget, moved_spans

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


class TokenTagger(OneTextWidget):
    """A sentence with a coloured class for every word; a click on a word shows how its class came about.

    Args:
        bert: a checkpoint with a head for words.
        text: the sentence.
        options: any trait below; `head` is "pos" unless said otherwise.

    Raises:
        ValueError: a checkpoint without such a head, or a text that cannot be read.

    Example:
        >>> TokenTagger(wb.load_bert(), "They walk the dog.", pinned=1)  # doctest: +SKIP
    """

    _esm, _css = read_front("token_tagger")

    pinned = traitlets.Int(0, help="Number of the word whose class is explained, counted from 0.").tag(
        sync=True
    )
    row = traitlets.Int(-1, help="Number of the class whose dot product is shown; -1: the word's own.").tag(
        sync=True
    )

    labels = traitlets.List(help="The classes.").tag(sync=True)
    meanings = traitlets.List(help="What each class means, where that is known.").tag(sync=True)
    words = traitlets.List(help="{text, label (number), probability, pieces} for each word.").tag(sync=True)
    pieces = traitlets.List(help="[piece, class, probability] for each piece of the pinned word.").tag(
        sync=True
    )
    probabilities = traitlets.List(help="Of each class, for the pinned word.").tag(sync=True)
    logits = traitlets.Bytes(help="float16 (classes): of the pinned word.").tag(sync=True)
    vector = traitlets.Bytes(help="float16 (hidden): the pinned word's vector T.").tag(sync=True)
    products = traitlets.Bytes(help="float16 (hidden): weight times vector, of the chosen class.").tag(
        sync=True
    )
    bias = traitlets.Bytes(help="float16 (classes).").tag(sync=True)
    matrix = traitlets.Bytes(help="float16 (classes, hidden): the weights of the linear layer.").tag(
        sync=True
    )

    def __init__(
        self, bert: Bert, text: str = "They light the light with a light match.", **options: Any
    ) -> None:
        super().__init__(bert, "word", "pos", text=text, **options)
        self._drawn = ""
        self._watch("text", "head", "pinned", "row")

    def _show(self) -> None:
        if (self.text, self.head) != (self._good, self._drawn):
            self._tag()
        self._look()

    @torch.inference_mode()
    def _tag(self) -> None:
        """Runs the model; the class of a word is that of its first piece (BERT, section 5.3)."""
        encoding = self._encode()
        layer = self.bert.heads[self.head]
        with MODEL_LOCK, self.timed(self.bert):
            states = self.bert(**encoding.tensors(self.bert.device))[-1]
            logits = self.bert.logits(self.head, states)[0]
        # The pinned word stays pinned where the text around it stayed the same.
        kept = moved_spans([self._spans[self.pinned]], self._good, self.text) if self._good else []
        words = [word for word in words_of(encoding) if not word.special]
        self._spans = [(word.start, word.end) for word in words]
        self._states, self._logits = states[0].float().cpu(), logits.float().cpu()
        self._tokens, self._texts = [word.tokens for word in words], [word.pieces for word in words]
        shares = self._logits.softmax(-1)
        firsts = [word.tokens[0] for word in words]
        values, classes = (column.tolist() for column in shares[firsts].max(-1))
        self._settle(
            labels=list(layer.labels),
            meanings=[MEANINGS.get(label, "") for label in layer.labels],
            words=[
                {
                    "text": self.text[word.start : word.end],
                    "label": classes[number],
                    "probability": round(values[number], 5),
                    "pieces": list(word.pieces),
                }
                for number, word in enumerate(words)
            ],
            matrix=to_bytes(layer.weight.float()),
            bias=to_bytes(layer.bias.float()),
            note=self._remark(encoding),
        )
        if kept and kept[0] in self._spans:
            self._settle(pinned=self._spans.index(kept[0]))
        self._good, self._drawn = self.text, self.head

    @torch.inference_mode()
    def _look(self) -> None:
        """Reads the pinned word's numbers from the last pass."""
        if not 0 <= self.pinned < len(self.words):
            self._settle(pinned=min(max(self.pinned, 0), len(self.words) - 1))
        first, end = self._tokens[self.pinned]
        vector, logits = self._states[first], self._logits[first]
        row = self.row if 0 <= self.row < len(self.labels) else int(logits.argmax())
        weights = self.bert.heads[self.head].weight[row].detach().float().cpu()
        best = self._logits[first:end].softmax(-1).max(-1)
        self.pieces = [
            [piece, self.labels[label], round(value, 5)]
            for piece, value, label in zip(
                self._texts[self.pinned], best.values.tolist(), best.indices.tolist(), strict=True
            )
        ]
        self.probabilities = [round(value, 5) for value in logits.softmax(-1).tolist()]
        self.logits, self.vector = to_bytes(logits), to_bytes(vector)
        self.products = to_bytes(weights * vector)

    def figure(self) -> Figure:
        """The sentence, the class under each word, and the dot products of the pinned word."""
        logits = np.frombuffer(self.logits, np.float16).tolist()
        return plots.word_classes(self.words, self.labels, self.pinned, logits, self.status)
