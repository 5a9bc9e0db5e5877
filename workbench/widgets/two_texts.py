"""What the widgets on two texts share: the head needed, one answer to a change, remarks on odd input."""

from typing import Any

import traitlets

from workbench.bert import Bert
from workbench.text import Encoding
from workbench.widgets.base import WorkbenchWidget


class TwoTextsWidget(WorkbenchWidget):
    """Base of `NextSentence`, `SentencePair` and `SpanExtraction`.

    Raises:
        ValueError: the checkpoint lacks the head.
    """

    note = traitlets.Unicode(help="A remark about texts that can be read, but should be read with care.").tag(
        sync=True
    )
    layers = traitlets.Int(help="Layers of the checkpoint.").tag(sync=True)
    heads = traitlets.Int(help="Attention heads in a layer.").tag(sync=True)

    def __init__(self, bert: Bert, head: str, what: str, **options: Any) -> None:
        if head not in bert.heads:
            have = ", ".join(bert.heads) or "none"
            raise ValueError(f"{bert.name} has no head {head!r} to {what}; the heads that it has: {have}.")
        self.bert = bert
        super().__init__(
            layers=bert.config.num_hidden_layers, heads=bert.config.num_attention_heads, **options
        )

    def _watch(self, read: list[str], look: list[str]) -> None:
        """From now on: texts and the like are read anew when they change, views only drawn anew."""
        self._show()
        self._when(read, lambda _: self._show())
        self._when(look, self._on_look)

    def _on_look(self, _: dict) -> None:
        self._look()

    def _show(self) -> None:
        """Runs the model; nothing is changed if the texts cannot be read."""
        raise NotImplementedError

    def _look(self) -> None:
        """Reads what is on the screen from the last pass."""
        raise NotImplementedError

    def _chosen(self, layer: int) -> int:
        """A layer that is there, counted from 0."""
        return layer if 0 <= layer < self.layers else self.layers - 1

    def _fits(self, encoding: Encoding) -> Encoding:
        limit = self.bert.config.max_position_embeddings
        if len(encoding) > limit:
            raise ValueError(
                f"The two texts have {len(encoding):,} word pieces together; this checkpoint reads {limit} "
                f"at once: please shorten them. The last texts that fitted are still shown."
            )
        return encoding

    def _remark(self, encoding: Encoding, first: str, second: str) -> str:
        """One sentence about texts that the model reads but does not know much about, or nothing."""
        if first.strip().lower() == second.strip().lower():
            return "Both texts are the same. Training has hardly any such pairs, so do not expect much sense."
        pieces = [token for token in encoding.tokens if token.word is not None]
        words = {(token.segment, token.word) for token in pieces}
        unknown = [token for token in pieces if token.id == self.bert.tokenizer.unk_id]
        foreign = sum(letter.isalpha() and not letter.isascii() for letter in first + second)
        if len(unknown) > 0.1 * len(words) or foreign > 0.3 * len(first + second):
            return (
                "Much of this is not English, or unknown to this checkpoint: it answers all the "
                "same, but do not trust it."
            )
        if len(words) > 3 and len(pieces) > 1.6 * len(words):
            return (
                f"The {len(words)} words fall into {len(pieces)} pieces, as words do that this checkpoint "
                "hardly knows (another language?): it answers all the same, but do not trust it."
            )
        return ""


def words_of(encoding: Encoding, first: str, second: str) -> tuple[list[dict], list[int]]:
    """Words of both texts as they were typed, and the number of each token's word.

    A word is {"text", "segment", "pieces", "special"}.
    """
    words: list[dict] = []
    place: list[int] = []
    last = None
    for token in encoding.tokens:
        key = (token.segment, token.word)
        if token.word is None or key != last:
            special = token.word is None
            words.append({"text": token.text, "segment": token.segment, "pieces": [], "special": special})
            start = token.start
        if token.word is not None:
            words[-1]["text"] = (second if token.segment else first)[start : token.end]
        words[-1]["pieces"].append(token.text)
        place.append(len(words) - 1)
        last = key
    return words, place
