"""What the widgets on texts share: texts that fit, a head, examples, and remarks on odd input."""

import os.path
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import traitlets

from workbench.bert import Bert
from workbench.tasks import find_head
from workbench.text import Encoding
from workbench.widgets.strip import StripWidget, Way

FOR_PAIRS = ("nsp", "nli")  # heads of kind "sentence" that read two texts


class TextWidget(StripWidget):
    """Base of the widgets on one text or two, which the heads of one `kind` answer.

    It begins with the head `usual`, or the option `head`; `ValueError` if the checkpoint has no such head.
    """

    head = traitlets.Unicode(help="The name of the head that answers.")
    choices = traitlets.List(help="Heads of the checkpoint that fit.")
    examples = traitlets.List(help="What the texts of `pairs` are called in a menu.")
    note = traitlets.Unicode(help="A remark about texts that can be read, but should be read with care.")

    reads = (Bert,)
    fields = ("text",)
    points: tuple[str, ...] = ()  # traits that choose a token: the strip goes there, too
    pairs: Sequence[tuple] = ()  # examples to pick, a text for each field

    def __init__(self, bert: Bert, kind: str, usual: str, **options: Any) -> None:
        fitting = [name for name, head in bert.heads.items() if head.kind == kind]
        choices = options.pop("choices", [name for name in fitting if name not in FOR_PAIRS])
        name = options.pop("head", None) or (usual if usual in fitting else next(iter(choices), None))
        head = find_head(bert, name, kind, usual)
        choices = choices if head in choices else [*choices, head]
        examples = [pair[0] for pair in self.pairs]
        super().__init__(bert, **{"head": head, "choices": choices, "examples": examples} | options)
        if "head" not in self.show_on:
            self._when(["head"], self._on_show)
        self._read = self.texts  # the last ones that could be read
        self._refresh()

    @property
    def texts(self) -> list[str]:
        """The texts as they were typed, one for each segment."""
        return [getattr(self, name) for name in self.fields]

    def _on_show(self, change: dict) -> None:
        if self.head not in self.choices:
            raise ValueError(f"There is no head {self.head!r} here; there are: {', '.join(self.choices)}.")
        token, note, read = self.token, self.note, self._read
        self._point(change)
        try:
            super()._on_show(change)
        except ValueError as error:
            self._settle(token=token, note=note)
            self._read = read
            raise ValueError(f"{error} What was read last is still shown.") from error

    def _on_look(self, change: dict) -> None:
        self._point(change)
        super()._on_look(change)

    def _rehearse_points(self, **clicks: Sequence) -> dict:
        """What lets a token go that was clicked in the strip."""
        return {"after": {"token": 0}} | clicks

    def _point(self, change: dict) -> None:
        """Another text, or another choice: the token that was clicked in the strip is told of no more."""
        if change["name"] in (*self.fields, *self.points):
            self._settle(token=-1)

    def _change(self, **values: object) -> None:
        super()._change(token=-1, **values)

    def _act(self, content: dict) -> None:
        if content.get("do") == "swap":
            self._change(**dict(zip(self.fields, reversed(self.texts), strict=True)))
        elif content.get("do") == "example" and self.pairs:
            self._change(**dict(zip(self.fields, self.pairs[int(content["index"])], strict=False)))

    def _encode(self, masked: Sequence = (), seed: int = 0) -> Encoding:
        """The texts as the model reads them, with a remark in `note`."""
        limit = self.model.config.max_position_embeddings
        encoding = self.model.tokenizer.encode(*self.texts, masks=masked, max_length=limit, seed=seed)
        self.note, self._read = self._remark(encoding), self.texts
        return encoding

    def _way_of(self, encoding: Encoding, reads: Sequence[int], **known: Any) -> Way:
        """What the strip tells of these tokens, which the widget's head reads at `reads`."""
        inputs = encoding.tensors(self.model.device)
        tokens = [token.text for token in encoding.tokens]
        return Way(self.model, inputs, tokens, self.head, reads, **known)

    def _moved(self, spans: Sequence[Sequence]) -> list[tuple]:
        """Spans (start, end, ...) of the text that was read last, where they are now; those that an edit
        changed are left out."""
        old, new = self._read[0], self.texts[0]
        if old == new:
            return list(spans)
        before = len(os.path.commonprefix([old, new]))
        after = len(os.path.commonprefix([old[before:][::-1], new[before:][::-1]]))
        shift = len(new) - len(old)
        kept = [tuple(span) for span in spans if span[1] <= before]
        last = [span for span in spans if span[0] >= len(old) - after]
        moved = [(start + shift, end + shift, *rest) for start, end, *rest in last]
        return kept + [span for span in moved if span not in kept]

    @cached_property
    def _reads_latin(self) -> bool:
        """Whether other letters are foreign to it: they are if nearly all its pieces are ASCII."""
        pieces = self.model.tokenizer.backend.get_vocab()
        return sum(map(str.isascii, pieces)) > 0.8 * len(pieces)

    def _remark(self, encoding: Encoding) -> str:
        """One sentence about texts that the model reads but does not know much about, or nothing."""
        texts = self.texts
        if len(texts) == 2 and texts[0].strip().lower() == texts[1].strip().lower():
            return "Both texts are the same. Training has hardly any such pairs, so do not expect much sense."
        pieces = [token for token in encoding.tokens if token.word is not None]
        words = sum(not word.special for word in encoding.words)
        unknown = sum(token.id == self.model.tokenizer.unk_id for token in pieces)
        letters = "".join(texts)
        foreign = self._reads_latin * sum(letter.isalpha() and not letter.isascii() for letter in letters)
        advice = "it answers all the same, but do not trust it."
        if unknown > 0.1 * words or foreign > 0.3 * len(letters):
            return f"Much of this is not English, or unknown to this checkpoint: {advice}"
        if words > 3 and len(pieces) > 1.4 * words:
            return (
                f"The {words} words fall into {len(pieces)} pieces, as words do that this checkpoint hardly "
                f"knows (another language?): {advice}"
            )
        return ""

    def _words(self, encoding: Encoding) -> list[dict]:
        """What the chips show: words as they were typed; [CLS] and [SEP] are words without characters."""
        texts = self.texts
        return [
            {name: getattr(word, name) for name in ("start", "end", "segment", "special")}
            | {
                "text": texts[word.segment][word.start : word.end] or word.pieces[0],
                "pieces": list(word.pieces),
            }
            for word in encoding.words
        ]
