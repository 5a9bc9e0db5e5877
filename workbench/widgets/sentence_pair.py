"""SentencePair: one class for two sentences, which words look at which, and what an edit changes."""

from typing import Any

import torch
import traitlets

from workbench import plots
from workbench.attention import sum_over_words
from workbench.bert import Bert
from workbench.widgets.base import FEW, best_first, now_and_before, read_front, there, to_bytes
from workbench.widgets.samples import SENTENCE_PAIRS
from workbench.widgets.text import TextWidget


class SentencePair(TextWidget):
    """A premise and a hypothesis, a bar for each class, and attention between their words.

    `head` is a name in `bert.heads`; None is "nli", or the only head for sentences.

    Example:
        >>> SentencePair(wb.load_bert(), "A man is asleep.", "Nobody sleeps.")  # doctest: +SKIP
    """

    _esm, _css = read_front("sentence_pair")
    fields = ("premise", "hypothesis")
    pairs = SENTENCE_PAIRS
    show_on = ("premise", "hypothesis")
    _typing = False  # `editing`, as it was when the text was typed
    look_on = ("attention_layer", "attention_head", "direction")

    premise = traitlets.Unicode(help="What is known, segment 0.")
    hypothesis = traitlets.Unicode(help="What is claimed, segment 1.")
    attention_layer = traitlets.Int(-1, help="The layer whose attention is shown, from 0; -1: the last.")
    attention_head = traitlets.Int(-1, help="The head whose attention is shown; -1: the mean.")
    direction = traitlets.Enum(["hypothesis", "premise"], "hypothesis", help="Whose words look.")
    pinned = traitlets.Int(-1, help="The word whose lines stay, as a number in `words`; -1: none.")
    lines = traitlets.Bool(False, help="Show the words, and lines between those that look at each other.")
    editing = traitlets.Bool(False, help="A text is being typed: ticks stay where they are.")

    classes = traitlets.List(help="[label, its answer, its answer before the edit].")
    hides = traitlets.Int(help="How many classes have no bar.")
    words = traitlets.List(help="Words of both: text, segment, pieces, special.")
    weights = traitlets.Bytes(help="float16 (words that look, words looked at) of the two sentences.")

    def __init__(
        self,
        bert: Bert,
        premise: str = "A woman is playing the guitar on a stage.",
        hypothesis: str = "A woman is making music.",
        head: str | None = None,
        **options: Any,
    ) -> None:
        examples = [" / ".join(pair[:2]) for pair in SENTENCE_PAIRS]
        texts = {"premise": premise, "hypothesis": hypothesis, "examples": examples}
        super().__init__(bert, "sentence", "nli", head=head, choices=[], **texts | options)
        self.observe(self._on_editing, "editing")

    def rehearse(self) -> list[dict]:
        """Both orders with every head, in both directions."""
        layers = [self.attention_layer, *range(self.layers)]
        looks = {"attention_layer": layers, "attention_head": range(-1, self.heads)}
        swap = [{"do": "swap"}]
        heads = {"direction": ["hypothesis", "premise"]} | looks | {"do": swap}
        return [heads, *self._rehearse_stages(do=swap), self._rehearse_points(do=swap)]

    def _on_editing(self, change: dict) -> None:
        self._typing, self._before = change["new"], self._now

    def _show(self) -> None:
        encoding, head = self._encode(), self.model.heads[self.head]
        states, attention = self._pass(**encoding.tensors(self.model.device))
        now = self.model.answers(self.head, states[-1])[0].cpu()
        if not self._typing:  # while somebody types, the ticks stay at the answer before the first key
            self._before = getattr(self, "_now", now)
        self._now, self.problem_type = now, head.problem_type
        order = best_first(now, self._probable) if len(now) > FEW else [*range(len(now))]
        if (best := int(self._before.argmax())) not in order:
            order.append(best)
        self.classes = now_and_before(head.labels, now, self._before, order)
        self.hides = len(now) - len(order)
        words, place = self._words(encoding), encoding.word_numbers
        counts = torch.bincount(torch.tensor(place)).to(self.model.device)
        paid = sum_over_words(attention, place)  # (layers, heads, token, word)
        # (layers, heads, word, word): the mean over the looking word's pieces
        self._maps = sum_over_words(paid.mT, place).mT / counts[:, None]
        at = self.pinned
        word = words[at] if 0 <= at < len(words) else {"special": True}
        if word["special"] or (self.words and self.words[at : at + 1] != [word]):
            self._settle(pinned=-1)  # another word stands there now
        self.words = words
        self._way = self._way_of(encoding, [0], known=states)

    @property
    def _best(self) -> tuple[str, float]:
        return max(self.classes, key=lambda one: one[1])[:2]

    def _look(self) -> None:
        heads = self._maps[there(self.attention_layer, self.layers, -1)]
        attention = self._of_head(heads, self.attention_head)
        rows, columns = self._sides() if self.direction == "premise" else self._sides()[::-1]
        self._links = attention[rows][:, columns]  # (words that look, words looked at)
        self.weights = to_bytes(self._links)

    def _sides(self) -> list[list[int]]:
        """Numbers of the premise's words and of the hypothesis's."""
        return [
            [at for at, word in enumerate(self.words) if word["segment"] == side and not word["special"]]
            for side in (0, 1)
        ]

    def figure(self) -> plots.StillFigure:
        """The sentences and a bar for each class, or with `lines` how much their words look at each other."""
        bars = plots.bars(self.classes, percent=self._probable)
        sides = [[self.words[at]["text"] for at in side] for side in self._sides()]
        if not self.lines:
            texts = plots.words(*[[plots.Chip(word) for word in side] for side in sides])
            return plots.stack(texts, bars, status=self.status)
        looking, seen = sides if self.direction == "premise" else sides[::-1]
        other = "hypothesis" if self.direction == "premise" else "premise"
        title = f"words of the {self.direction} (rows) look at those of the {other}"
        return plots.stack(bars, plots.heat(self._links, looking, seen, title=title), status=self.status)
