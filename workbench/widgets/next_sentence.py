"""NextSentence: does the second sentence follow the first? With [CLS], [SEP] and segments in sight."""

import random
from typing import Any

import numpy as np
import torch
import traitlets
from matplotlib.figure import Figure

from workbench import plots
from workbench.attention import attention_rollout, record_attention
from workbench.bert import Bert
from workbench.tasks import attention_between, next_sentence
from workbench.text import place_cls
from workbench.widgets.base import read_front, to_bytes
from workbench.widgets.samples import NEXT_SENTENCES
from workbench.widgets.two_texts import TwoTextsWidget

ROUNDS = 10


class NextSentence(TwoTextsWidget):
    """Two sentences, and the probability that the second one follows the first (BERT, section 3.1).

    Args:
        bert: a checkpoint with the head "nsp".
        first, second: the sentences.
        options: any trait below.

    Raises:
        ValueError: a checkpoint without the head, or a text that cannot be read.

    Example:
        >>> NextSentence(wb.load_bert(), "It began to rain.", "She opened her umbrella.")  # doctest: +SKIP
    """

    _esm, _css = read_front("next_sentence")

    first = traitlets.Unicode(help="The first sentence, segment 0.").tag(sync=True)
    second = traitlets.Unicode(help="The second sentence, segment 1.").tag(sync=True)
    cls_at = traitlets.Enum(["front", "middle", "end"], "front", help="Where [CLS] stands.").tag(sync=True)
    positions = traitlets.Enum(
        ["follow", "stay"],
        "follow",
        help="With [CLS] moved, tokens are numbered anew, or each keeps the position that it had.",
    ).tag(sync=True)
    attention_layer = traitlets.Int(
        -1,
        help="The layer whose attention from [CLS] is shown, counted from 0; -1: the last; `layers`: all "
        "layers together (attention rollout).",
    ).tag(sync=True)
    attention_head = traitlets.Int(-1, help="The head whose attention is shown; -1: the mean.").tag(sync=True)
    seed = traitlets.Int(0, help="Of random sentences and of the game.").tag(sync=True)

    examples = traitlets.List(help="Pairs to pick: their first sentences.").tag(sync=True)
    tokens = traitlets.List(help="What the chips show: text, id, segment, position, kind.").tag(sync=True)
    is_next = traitlets.Float(help="Probability that the second sentence follows.").tag(sync=True)
    at_front = traitlets.Float(help="The same with [CLS] in front, to compare with.").tag(sync=True)
    weights = traitlets.Bytes(help="float16 (tokens): attention from [CLS].").tag(sync=True)
    between = traitlets.Bytes(
        help="float16 (layers, 3, 3): what [CLS], first and second look at: first, second, [CLS] and [SEP]."
    ).tag(sync=True)
    game = traitlets.Dict(help="The round that is played now, or nothing.").tag(sync=True)

    def __init__(
        self,
        bert: Bert,
        first: str = "It began to rain just as we left the house.",
        second: str = "We ran back inside to fetch an umbrella.",
        **options: Any,
    ) -> None:
        examples = [pair[0] for pair in NEXT_SENTENCES]
        super().__init__(
            bert,
            "nsp",
            "judge pairs with",
            **{"first": first, "second": second, "examples": examples} | options,
        )
        self._read: tuple[str, str] | None = None
        self._watch(["first", "second", "cls_at", "positions"], ["attention_layer", "attention_head"])

    def _act(self, content: dict) -> None:
        match content.get("do"):
            case "swap":
                self._change(first=self.second, second=self.first)
            case "random second":
                others = [pair[1] for pair in NEXT_SENTENCES if self.second not in pair]
                self._change(seed=self.seed + 1, second=random.Random(self.seed + 1).choice(others))
            case "example":
                first, second = NEXT_SENTENCES[int(content["index"])]
                self._change(first=first, second=second)
            case "play":
                self.play(self.seed + 1)
            case "guess":
                self.guess(bool(content["is_next"]))
            case "next round":
                self._ask()
            case "look inside":
                self._change(first=self.game["first"], second=self.game["second"])
            case "stop":
                self.game = {}

    def _change(self, **values: Any) -> None:
        self._settle(**values)
        self._show()

    def _show(self) -> None:
        tokenizer = self.bert.tokenizer
        pieces = tokenizer.pieces(self.first), tokenizer.pieces(self.second, segment=1)
        encoding = self._fits(tokenizer.pack(*pieces))
        moved, position_ids, index = place_cls(encoding, self.cls_at, self.positions)
        device = self.bert.device
        if (self.first, self.second) != self._read and self.cls_at != "front":
            self.at_front = next_sentence(self.bert, self.first, self.second).is_next
        with torch.inference_mode(), record_attention(self.bert) as attention, self.timed(self.bert):
            states = self.bert(**moved.tensors(device), position_ids=position_ids.to(device))
            # The pooler reads token 0: roll [CLS] there. Attention saw it where it stands.
            logits = self.bert.logits("nsp", states[-1].roll(-index, dims=1))
            self.is_next = float(logits[0].float().softmax(-1)[0])
        if self.cls_at == "front":
            self.at_front = self.is_next
        self._read = self.first, self.second
        maps = [attention[layer][0].float() for layer in range(self.layers)]
        self._from_cls = torch.stack([heads[:, index] for heads in maps])  # (layers, heads, key)
        self._between = torch.stack([attention_between(heads, moved) for heads in maps])
        self._rollout = attention_rollout([heads.mean(0)[None, None] for heads in maps])[0, index]
        self.tokens = [
            {
                "text": token.text,
                "id": token.id,
                "segment": token.segment,
                "position": position,
                "kind": "cls" if at == index else "sep" if token.word is None else "word",
            }
            for at, (token, position) in enumerate(zip(moved.tokens, position_ids[0].tolist(), strict=True))
        ]
        self.note = self._remark(encoding, self.first, self.second)
        self._look()

    def _look(self) -> None:
        head = self.attention_head if 0 <= self.attention_head < self.heads else None
        if self.attention_layer == self.layers:
            row = self._rollout
        else:
            rows = self._from_cls[self._chosen(self.attention_layer)]
            row = rows.mean(0) if head is None else rows[head]
        self.weights = to_bytes(row)
        self.between = to_bytes(self._between.mean(1) if head is None else self._between[:, head])

    # --- the game

    def play(self, seed: int) -> None:
        """Begins a game: ten pairs, about half of them with a second sentence from elsewhere."""
        draw = random.Random(seed)
        pairs = draw.sample(NEXT_SENTENCES, 2 * ROUNDS)
        true = draw.sample([True, False] * (ROUNDS // 2), ROUNDS)
        self._rounds = [
            (first, second if follows else other, follows)
            for (first, second), (_, other), follows in zip(pairs[:ROUNDS], pairs[ROUNDS:], true, strict=True)
        ]
        self._settle(seed=seed)
        self.game = {}
        self._ask()

    def _ask(self) -> None:
        number = self.game.get("round", 0) + 1
        if number > ROUNDS:
            self.game = self.game | {"over": True}
            return
        first, second, _ = self._rounds[number - 1]
        scores = {name: self.game.get(name, 0) for name in ("you", "bert")}
        self.game = {"round": number, "rounds": ROUNDS, "first": first, "second": second, **scores}

    def guess(self, is_next: bool) -> None:
        """The learner's answer to the round; then the model's answer and the score are shown."""
        if not self.game or "truth" in self.game:
            return
        first, second, truth = self._rounds[self.game["round"] - 1]
        model = next_sentence(self.bert, first, second).is_next
        self.game = self.game | {
            "guess": is_next,
            "truth": truth,
            "model": round(model, 4),
            "you": self.game["you"] + (is_next == truth),
            "bert": self.game["bert"] + ((model > 0.5) == truth),
        }

    def figure(self) -> Figure:
        """The tokens with their ids, the probability, and attention between the sentences by layer."""
        weights = np.frombuffer(self.weights, np.float16).tolist()
        between = np.frombuffer(self.between, np.float16).reshape(-1, 3, 3).astype(float)
        return plots.next_sentence(self.tokens, weights, self.is_next, self.at_front, between, self.status)
