"""What the widgets on one text share: a head of a kind, one answer to a change, remarks on odd input."""

import os.path
from collections.abc import Sequence
from typing import Any

import traitlets

from workbench.bert import Bert
from workbench.text import Encoding
from workbench.widgets.base import WorkbenchWidget

FOR_PAIRS = ("nsp", "nli")  # heads of kind "sentence" that read two texts


class OneTextWidget(WorkbenchWidget):
    """Base of `SentenceClassifier` and `TokenTagger`.

    Args:
        bert: a checkpoint.
        kind: of the heads that fit.
        usual: the head to begin with, if there is one of that name.

    Raises:
        ValueError: the checkpoint has no such head.
    """

    text = traitlets.Unicode(help="The text, as it was typed.").tag(sync=True)
    head = traitlets.Unicode(help="The name of the head.").tag(sync=True)
    choices = traitlets.List(help="Heads of the checkpoint that fit.").tag(sync=True)
    note = traitlets.Unicode(help="A remark about a text that should be read with care.").tag(sync=True)

    def __init__(self, bert: Bert, kind: str, usual: str, **options: Any) -> None:
        fitting = [name for name, head in bert.heads.items() if head.kind == kind]
        choices = [name for name in fitting if name not in FOR_PAIRS]
        head = options.pop("head", None) or (usual if usual in choices else next(iter(choices), usual))
        if head not in fitting:
            have = ", ".join(bert.heads) or "none"
            raise ValueError(
                f"{bert.name} has no head {head!r} for this; the heads that it has: {have}. "
                "Lesson 03 and lesson 04 train one."
            )
        self.bert, self.kind = bert, kind
        self._good = ""  # the last text that could be read
        options["choices"] = choices if head in choices else [*choices, head]
        super().__init__(head=head, **options)

    def _watch(self, *names: str) -> None:
        """From now on the model reads anew when one of these traits changes."""
        self._show()
        self._when(list(names), self._on_change)

    def _on_change(self, _: dict) -> None:
        if self.head not in self.choices:
            raise ValueError(f"There is no head {self.head!r} here; there are: {', '.join(self.choices)}.")
        self._show()

    def _show(self) -> None:
        """Runs the model; nothing is changed if the text cannot be read."""
        raise NotImplementedError

    def _encode(self) -> Encoding:
        tokenizer = self.bert.tokenizer
        encoding = tokenizer.pack(tokenizer.pieces(self.text))
        limit = self.bert.config.max_position_embeddings
        if len(encoding) > limit:
            raise ValueError(
                f"The text has {len(encoding):,} word pieces; this checkpoint reads {limit} at once: "
                "please shorten it. The last text that fitted is still shown."
            )
        return encoding

    def _remark(self, encoding: Encoding) -> str:
        """One sentence about a text in another language, or nothing."""
        pieces = [token for token in encoding.tokens if token.word is not None]
        count = len({token.word for token in pieces})
        unknown = sum(token.id == self.bert.tokenizer.unk_id for token in pieces)
        foreign = sum(letter.isalpha() and not letter.isascii() for letter in self.text)
        if unknown > 0.1 * count or foreign > 0.3 * len(self.text):
            return "Much of this is in letters or words unknown to this checkpoint: do not trust the answer."
        if count > 3 and len(pieces) > 1.4 * count:
            return (
                f"The {count} words fall into {len(pieces)} pieces, as words do that this checkpoint hardly "
                "knows (another language?): do not trust the answer."
            )
        return ""


def moved_spans(spans: Sequence[Sequence], old: str, new: str) -> list[tuple]:
    """Spans (start, end, ...) after a text was edited, where the text around them stayed the same."""
    before = len(os.path.commonprefix([old, new]))
    after = len(os.path.commonprefix([old[before:][::-1], new[before:][::-1]]))
    shift = len(new) - len(old)
    kept = [tuple(span) for span in spans if span[1] <= before]
    moved = [(start + shift, end + shift, *rest) for start, end, *rest in spans if start >= len(old) - after]
    return kept + [span for span in moved if span not in kept]
