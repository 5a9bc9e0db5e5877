"""MaskedFilling: click words to mask them and see what BERT puts in their place."""

from typing import Any

import numpy as np
import torch
import traitlets
from matplotlib.figure import Figure

from workbench import plots
from workbench.attention import record_attention, sum_over_words
from workbench.bert import Bert
from workbench.tasks import MaskGuess, guess_by_layer, mask_guesses
from workbench.text import Encoding, visible_tokens
from workbench.widgets.base import WorkbenchWidget, read_front, to_bytes
from workbench.widgets.one_text import moved_spans

CARDS = 6  # masks whose guesses are on the screen at once


class MaskedFilling(WorkbenchWidget):
    """A sentence of words to click: a click masks a word, a second click brings it back.

    Args:
        bert: a checkpoint with the head "mlm".
        text: the sentence; a typed [MASK] is a mask.
        options: any trait below.

    Raises:
        ValueError: a checkpoint without the head, or a text that cannot be read.

    Example:
        >>> MaskedFilling(wb.load_bert(), "She drank a cup of tea.", masked=[(19, 22)])  # doctest: +SKIP
    """

    _esm, _css = read_front("masked_filling")

    text = traitlets.Unicode(help="The sentence, as it was typed.").tag(sync=True)
    masked = traitlets.List(
        help="Masked spans of characters: (start, end) or (start, end, 'mask' | 'random' | 'keep')."
    ).tag(sync=True)
    pinned = traitlets.Int(
        0, help="Which mask (counted from 0) the attention and the layers are shown for."
    ).tag(sync=True)
    top_k = traitlets.Int(5, min=1, max=20, help="Candidates for each mask.").tag(sync=True)
    hide = traitlets.Enum(
        ["nothing", "left", "right"], "nothing", help="Words of one side of the pinned mask can be hidden."
    ).tag(sync=True)
    layer = traitlets.Int(-1, help="Guesses after this layer (0: the embeddings; -1: the last).").tag(
        sync=True
    )
    attention_layer = traitlets.Int(
        -1, help="The layer whose attention is shown, counted from 0 (menus count from 1); -1: the last."
    ).tag(sync=True)
    attention_head = traitlets.Int(-1, help="The head whose attention is shown; -1: the mean of all.").tag(
        sync=True
    )
    lines = traitlets.Bool(False, help="Attention as lines between words, not only as shading.").tag(
        sync=True
    )
    seed = traitlets.Int(0, help="Of the random masking.").tag(sync=True)

    layers = traitlets.Int(help="Layers of the checkpoint.").tag(sync=True)
    heads = traitlets.Int(help="Attention heads in a layer.").tag(sync=True)
    words = traitlets.List(help="What the chips show; [CLS] and [SEP] are words without characters.").tag(
        sync=True
    )
    guesses = traitlets.Dict(
        help="The cards: guesses for the masks on screen, and by layer for the pinned one."
    ).tag(sync=True)
    weights = traitlets.Bytes(help="float16 (masks on screen, words): attention from each mask.").tag(
        sync=True
    )

    def __init__(self, bert: Bert, text: str = "I drink a cup of tea every morning.", **options: Any) -> None:
        if "mlm" not in bert.heads:
            have = ", ".join(bert.heads) or "none"
            raise ValueError(
                f"{bert.name} has no head 'mlm' to guess words with; the heads that it has: {have}."
            )
        self.bert = bert
        options = {
            "layers": bert.config.num_hidden_layers,
            "heads": bert.config.num_attention_heads,
        } | options
        super().__init__(text=text, **options)
        self._show()
        self._when(["text"], self._on_text)
        self._when(["masked", "hide", "attention_layer", "pinned"], lambda _: self._show())
        self._when(["layer", "top_k", "attention_head"], lambda _: self._look())

    def _act(self, content: dict) -> None:
        if content.get("do") == "mask at random":
            self.mask_at_random(self.seed + 1)

    def _on_text(self, change: dict) -> None:
        self._show(moved_spans(self.masked, change["old"], change["new"]))

    def mask_at_random(self, seed: int) -> None:
        """Masks 15 % of the words anew, by BERT's rule (80 % [MASK], 10 % another word, 10 % as they are)."""
        spans = self.bert.tokenizer.choose_spans(self.bert.tokenizer.pieces(self.text), seed)
        self._settle(seed=seed, pinned=0)
        self._show(spans)

    def _encode(self, masked: list) -> Encoding:
        tokenizer = self.bert.tokenizer
        tokens = tokenizer.mask_spans(tokenizer.pieces(self.text), masked, self.seed)
        encoding = tokenizer.pack(tokens)
        limit = self.bert.config.max_position_embeddings
        if len(encoding) > limit:
            raise ValueError(
                f"The text has {len(encoding):,} word pieces; this checkpoint reads {limit} at once: "
                "please shorten it. The last text that fitted is still shown."
            )
        return encoding

    def _show(self, masked: list | None = None) -> None:
        """Runs the model on the text and masks of now; nothing is changed if they cannot be read."""
        masked = self.masked if masked is None else masked
        encoding = self._encode(masked)
        words = self._words(encoding, masked)
        masks = encoding.masks
        pinned = min(max(self.pinned, 0), max(0, len(masks) - 1))
        layer = self.attention_layer if 0 <= self.attention_layer < self.layers else self.layers - 1
        visible = None
        if self.hide != "nothing" and masks:
            visible = visible_tokens(encoding, self.hide, masks[pinned]).to(self.bert.device)
        inputs = encoding.tensors(self.bert.device)
        with torch.inference_mode(), record_attention(self.bert, [layer]) as attention:
            # To compare with: the same with nothing hidden. The map that stays is that of the last pass.
            self._full = None if visible is None else self.bert(**inputs)
            with self.timed(self.bert):
                self._states = self.bert(**inputs, attention_mask=visible)
        if visible is not None:
            for word in words:
                word["hidden"] = not bool(visible[0, word["tokens"][0]])
        self._attention = attention[layer][0]  # (heads, query, key)
        self._read = encoding, words
        self._settle(masked=masked, pinned=pinned, attention_layer=layer, words=words)
        self._look()

    @torch.inference_mode()
    def _look(self) -> None:
        """Reads cards and attention from the last pass."""
        encoding, words = self._read
        masks = encoding.masks
        first = self.pinned // CARDS * CARDS
        shown = masks[first : first + CARDS]
        layer = self.layer if 0 <= self.layer <= self.layers else self.layers
        head = self.attention_head if 0 <= self.attention_head < self.heads else None
        guesses = mask_guesses(self.bert, encoding, self._states[layer], self.top_k, shown)
        compare = guesses
        if self._full is not None:  # candidates that are not among the first 1000 get a tick at zero
            compare = mask_guesses(self.bert, encoding, self._full[layer], 1000, shown)
        place = {index: at for at, word in enumerate(words) for index in range(*word["tokens"])}
        by_layer = guess_by_layer(self.bert, self._states, masks[self.pinned]) if masks else []
        self.guesses = {
            "count": len(masks),
            "first": first,
            "cards": [self._card(guess, full, place) for guess, full in zip(guesses, compare, strict=True)],
            "layers": [[guess.label, round(guess.probability, 4)] for guess in by_layer],
        }
        rows = self._attention[:, shown]  # (heads, masks, key)
        rows = rows.mean(0) if head is None else rows[head]
        words_of_tokens = [place[index] for index in range(len(encoding))]
        self.weights = to_bytes(sum_over_words(rows.float(), words_of_tokens))

    def _words(self, encoding: Encoding, masked: list) -> list[dict]:
        """One entry a word: its characters, pieces, kind, and its tokens (first, behind last)."""
        words: list[dict] = []
        last = None
        for index, token in enumerate(encoding.tokens):
            if token.word is not None and token.word == last:
                words[-1]["tokens"][1] = index + 1
                words[-1]["end"] = token.end
                words[-1]["pieces"].append(token.text)
            else:
                words.append({"start": token.start, "end": token.end, "pieces": [token.text]})
                words[-1]["tokens"] = [index, index + 1]
                kind = "special" if token.word is None else "word"
                if token.masked:
                    kind = "typed" if token.original_id is None else "mask"
                    spans = [(*span, "mask")[:3] for span in masked]
                    actions = [action for a, b, action in spans if a < token.end and token.start < b]
                    kind = actions[0] if actions and kind == "mask" else kind
                words[-1]["kind"] = kind
            last = token.word
        for word in words:
            word["text"] = self.text[word["start"] : word["end"]] or word["pieces"][0]
        return words

    @staticmethod
    def _card(guess: MaskGuess, full: MaskGuess, place: dict[int, int]) -> dict:
        """Numbers of one mask; candidates are [word piece, probability, the same with nothing hidden]."""
        known = {candidate.label: candidate.probability for candidate in full.candidates}
        return {
            "word": place[guess.position],
            "original": guess.original,
            "rank": guess.rank,
            "probability": guess.probability and round(guess.probability, 5),
            "candidates": [
                [candidate.label, round(candidate.probability, 5), round(known.get(candidate.label, 0), 5)]
                for candidate in guess.candidates
            ],
        }

    def figure(self) -> Figure:
        """The sentence with its masks, and the guesses as bars."""
        rows = np.frombuffer(self.weights, np.float16).reshape(-1, len(self.words))
        row = self.pinned - self.guesses["first"]
        weights = rows[row].tolist() if row < len(rows) else None
        return plots.masked_filling(self.words, self.guesses, weights, self.status)
