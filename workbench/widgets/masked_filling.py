"""MaskedFilling: click words to mask them and see what BERT puts in their place."""

from collections.abc import Sequence
from typing import Any

import torch
import traitlets

from workbench import plots
from workbench.attention import sum_over_words
from workbench.bert import Bert
from workbench.checks import check_tuples
from workbench.tasks import MaskGuess, mask_guesses
from workbench.text import Token, visible_tokens, word_spans
from workbench.widgets.base import read_front, rounded, there, to_bytes
from workbench.widgets.text import TextWidget

CARDS = 6  # masks whose guesses are on the screen at once


class MaskedFilling(TextWidget):
    """A sentence of words to click: a click masks a word, a second click brings it back; a typed [MASK] is a
    mask, too. The checkpoint needs the head "mlm". The option `masked` may hold words, or be one.

    Example:
        >>> MaskedFilling(wb.load_bert(), "She drank a cup of tea.", masked="tea")  # doctest: +SKIP
    """

    _esm, _css = read_front("masked_filling")
    show_on = ("text", "masked", "hide", "pinned")
    points = ("masked", "pinned")
    look_on = ("layer", "stage", "top_k")

    text = traitlets.Unicode(help="The sentence, as it was typed.")
    masked = traitlets.List(help="Masked characters: (start, end[, 'mask' | 'random' | 'keep']).")
    pinned = traitlets.Int(0, help="Which mask (counted from 0) the attention and the layers are shown for.")
    top_k = traitlets.Int(5, min=1, max=20, help="Candidates for each mask.")
    hide = traitlets.Enum(["nothing", "left", "right"], "nothing", help="Words beside the pinned mask.")
    attention_layer = traitlets.Int(-1, help="The layer whose attention is shown, from 0; -1: the last.")
    attention_head = traitlets.Int(-1, help="The head whose attention is shown; -1: the mean of all.")
    lines = traitlets.Bool(False, help="Attention as lines between words, not only as shading.")
    seed = traitlets.Int(0, help="Of the random masking.")

    words = traitlets.List(help="What the chips show; [CLS] and [SEP] are words without characters.")
    guesses = traitlets.Dict(help="For the masks on screen; after `layer`, if that stage is open.")
    weights = traitlets.Bytes(help="float16 (masks on screen, words): attention from each mask.")

    def __init__(self, bert: Bert, text: str = "I drink a cup of tea every morning.", **options: Any) -> None:
        options["masked"] = word_spans(text, options.get("masked", []))
        super().__init__(bert, "mlm", "mlm", text=text, **options)
        self._when(["attention_layer", "attention_head"], lambda _: self._weigh())

    def _act(self, content: dict) -> None:
        if content.get("do") == "mask at random":
            self.mask_at_random(self.seed + 1)

    def rehearse(self) -> list[dict]:
        """No word masked, one, or one more or less than now: the guesses, and each head."""
        masked = [self.masked, []]
        for word in self.words:
            span = (word["start"], word["end"])
            rest = [tuple(other) for other in self.masked if other[0] >= span[1] or other[1] <= span[0]]
            if word["kind"] == "word":
                masked += [[span], sorted([*rest, span])]
            elif word["kind"] not in ("special", "typed"):
                masked += [[span], rest]
        heads = {"attention_layer": range(self.layers), "attention_head": range(-1, self.heads)}
        single = [spans for spans in masked if spans == self.masked or len(spans) < 2]
        cards = {"pinned": range(max(1, self.guesses["count"])), "stage": self._stages}
        moved = self._rehearse_points(masked=masked)
        stages = self._rehearse_stages(masked=single)
        return [{"masked": masked}, *stages, {"masked": masked} | heads, cards, moved]

    def mask_at_random(self, seed: int) -> None:
        """Masks 15 % of the words anew, by BERT's rule (80 % [MASK], 10 % another word, 10 % as they are)."""
        spans = self.model.tokenizer.choose_spans(self.model.tokenizer.pieces(self.text), seed)
        self._change(seed=seed, pinned=0, masked=spans)

    def _show(self) -> None:
        masked = self._moved(check_tuples("masked", self.masked, "start, end[, action]"))
        encoding = self._encode(masked, self.seed)
        masks = encoding.masks
        pinned = min(max(self.pinned, 0), max(0, len(masks) - 1))
        visible = None
        if self.hide != "nothing" and masks:
            visible = visible_tokens(encoding, self.hide, masks[pinned]).to(self.model.device)
        inputs = encoding.tensors(self.model.device)
        self._full = None if visible is None else self._pass(**inputs)[0]  # nothing hidden, to compare with
        self._states, maps = self._pass(**inputs, attention_mask=visible)
        words = self._words(encoding)
        for chip, word in zip(words, encoding.words, strict=True):
            chip["kind"] = self._kind(encoding.tokens[word.tokens.start])
            if visible is not None:
                chip["hidden"] = not bool(visible[0, word.tokens.start])
        self._attention, self._encoding = maps[:, :, masks], encoding  # (layers, heads, masks, key)
        self._way = self._way_of(encoding, masks, mask=visible, known=self._states)
        self._settle(masked=masked, pinned=pinned, words=words)

    @property
    def _at(self) -> int | None:
        return self._encoding.masks[self.pinned] if self._encoding.masks else None

    @property
    def _best(self) -> Sequence | None:
        if self._read_after < self.layers:  # and so are the cards
            return next(iter(self._by_layer()[-1:]), None)
        cards = self.guesses["cards"]
        return cards[self.pinned - self.guesses["first"]]["candidates"][0][:2] if cards else None

    def _look(self) -> None:
        """Reads cards, and the attention of their masks, from the last pass."""
        encoding = self._encoding
        masks = encoding.masks
        first = self.pinned // CARDS * CARDS
        shown = masks[first : first + CARDS]
        layer = self._read_after
        guesses = mask_guesses(self.model, encoding, self._states[layer], self.top_k, shown)
        compare = guesses
        if self._full is not None:  # candidates that are not among the first 1000 get a tick at zero
            compare = mask_guesses(self.model, encoding, self._full[layer], 1000, shown)
        place = encoding.word_numbers
        self.guesses = {
            "count": len(masks),
            "first": first,
            "cards": [self._card(guess, full, place) for guess, full in zip(guesses, compare, strict=True)],
        }
        self._weigh()

    def _weigh(self) -> None:
        """What the masks on screen look at, of the layer and the head that are chosen."""
        first = self.guesses["first"]
        layer = there(self.attention_layer, self.layers, self.layers - 1)
        self._settle(attention_layer=layer)
        rows = self._attention[layer][:, first : first + CARDS]  # (heads, masks, key)
        rows = self._of_head(rows, self.attention_head)
        self._rows = sum_over_words(rows, self._encoding.word_numbers)  # (masks on screen, words)
        self.weights = to_bytes(self._rows)

    def _kind(self, token: Token) -> str:
        """What a word is: special, word, typed (a [MASK]), or what was done to a masked one."""
        if not token.masked:
            return "special" if token.word is None else "word"
        if token.original_id is None:
            return "typed"
        return {self.model.tokenizer.mask_id: "mask", token.original_id: "keep"}.get(token.id, "random")

    @staticmethod
    def _card(guess: MaskGuess, full: MaskGuess, place: Sequence[int]) -> dict:
        """Numbers of one mask; candidates are [word piece, probability, the same with nothing hidden]."""
        known = {candidate.label: candidate.probability for candidate in full.candidates}
        return {
            "word": place[guess.position],
            "original": guess.original,
            "rank": guess.rank,
            "probability": guess.probability and rounded(guess.probability),
            "candidates": [
                [candidate.label, rounded(candidate.probability), rounded(known.get(candidate.label, 0))]
                for candidate in guess.candidates
            ],
        }

    def figure(self) -> plots.StillFigure:
        """The sentence with its masks, and the guesses for up to three of them as bars."""
        first, chips, cards = self.guesses["first"], [], []
        weights = self._rows[self.pinned - first] if len(self._rows) else torch.zeros(len(self.words))
        for word, share in zip(self.words, weights / weights.max().clamp(min=1e-9), strict=True):
            text = "".join(word["pieces"]) if word["kind"] in ("mask", "random") else word["text"]
            paper, is_mask = plots.shade(plots.BLUE, float(share)), word["kind"] not in ("special", "word")
            chips.append(plots.Chip(text, "hidden" if word.get("hidden") else "", paper, is_mask))
        shown = max(0, min(self.pinned - first - 1, len(self.guesses["cards"]) - 3))  # around the pinned one
        for number, card in enumerate(self.guesses["cards"][shown : shown + 3], first + shown + 1):
            title = f"mask {number}"
            if card["original"] is not None:
                share = plots.in_percent(card["probability"])
                title += f", was “{card['original']}” (rank {card['rank']}, {share})"
            if self._read_after < self.layers:
                title += f", after layer {self._read_after}"
            cards.append(plots.bars(card["candidates"], title=title))
        return plots.stack(plots.words(chips), tuple(cards), status=self.status)
