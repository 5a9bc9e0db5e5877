"""NextSentence: does the second sentence follow the first? With [CLS], [SEP] and segments in sight."""

import random
from typing import Any

import torch
import traitlets

from workbench import plots
from workbench.attention import attention_between, attention_rollout
from workbench.bert import Bert
from workbench.tasks import next_sentence
from workbench.text import place_cls
from workbench.widgets.base import read_front, rounded, there, to_bytes
from workbench.widgets.samples import NEXT_SENTENCES, SAME_TOPIC
from workbench.widgets.text import TextWidget

ROUNDS = 10


class NextSentence(TextWidget):
    """Two sentences, and the probability that the second one follows the first (BERT, section 3.1); the
    checkpoint needs the head "nsp".

    Example:
        >>> NextSentence(wb.load_bert(), "It began to rain.", "She opened her umbrella.")  # doctest: +SKIP
    """

    _esm, _css = read_front("next_sentence")
    fields = ("first", "second")
    pairs = NEXT_SENTENCES
    show_on = ("first", "second", "cls_at", "positions")
    points = ("cls_at",)
    look_on = ("attention_layer", "attention_head")

    first = traitlets.Unicode(help="The first sentence, segment 0.")
    second = traitlets.Unicode(help="The second sentence, segment 1.")
    cls_at = traitlets.Enum(["front", "middle", "end"], "front", help="Where [CLS] stands.")
    positions = traitlets.Enum(["follow", "stay"], "follow", help="With [CLS] moved: see `place_cls`.")
    attention_layer = traitlets.Int(-1, help="Whose attention is shown, from 0; `layers`: of all (rollout).")
    attention_head = traitlets.Int(-1, help="The head whose attention is shown; -1: the mean.")
    seed = traitlets.Int(0, help="Of random sentences and of the game.")

    tokens = traitlets.List(help="What the chips show: text, id, segment, position, kind.")
    is_next = traitlets.Float(help="Probability that the second sentence follows.")
    at_front = traitlets.Float(help="The same with [CLS] in front, to compare with.")
    of_first = traitlets.Float(help="The same read from the first token; with [CLS] moved a plain word.")
    weights = traitlets.Bytes(help="float16 (tokens): attention from [CLS].")
    between = traitlets.Bytes(help="float16 (layers, 3, 3): see `attention_between`.")
    game = traitlets.Dict(help="The round that is played now, or nothing.")

    def __init__(
        self,
        bert: Bert,
        first: str = "It began to rain just as we left the house.",
        second: str = "We ran back inside to fetch an umbrella.",
        **options: Any,
    ) -> None:
        if (head := options.pop("head", None)) not in (None, "nsp"):
            raise ValueError(f"NextSentence asks the head 'nsp', not {head!r}: SentencePair shows others.")
        super().__init__(bert, "sentence", "nsp", choices=["nsp"], first=first, second=second, **options)

    def rehearse(self) -> list[dict]:
        """Both orders with every place of [CLS] and every head, and one game but for its look inside."""
        looks = {
            "cls_at": ["front", "middle", "end"],
            "positions": ["follow", "stay"],
            "attention_layer": [self.attention_layer, *range(self.layers + 1)],
            "attention_head": range(-1, self.heads),
        }
        moves = ({"do": "guess", "is_next": True}, {"do": "guess", "is_next": False}, {"do": "next round"})
        game = {"after": {"do": "play"}, "do": [*moves, {"do": "stop"}]}
        swap = {"do": [{"do": "swap"}]}
        places = {name: looks[name] for name in ("cls_at", "positions")}
        moved = self._rehearse_points(cls_at=looks["cls_at"], **swap)
        return [looks | swap, game, *self._rehearse_stages(**places, **swap), moved]

    def _act(self, content: dict) -> None:
        match content.get("do"):
            case "random second":
                others = [pair[1] for pair in NEXT_SENTENCES if self.second not in pair]
                self._change(seed=self.seed + 1, second=random.Random(self.seed + 1).choice(others))
            case "play":
                self.play(self.seed + 1, bool(content.get("same_topic")))
            case "guess":
                self.guess(bool(content["is_next"]))
            case "next round" if self.game:
                self._ask()
            case "look inside" if self.game:
                self._change(first=self.game["first"], second=self.game["second"])
            case "stop":
                self.game = {}
            case _:
                super()._act(content)

    def _show(self) -> None:
        moved, position_ids, index = place_cls(self._encode(), self.cls_at, self.positions)
        device = self.model.device
        states, maps = self._pass(**moved.tensors(device), position_ids=position_ids.to(device))
        # The pooler reads token 0: roll [CLS] there. Attention saw it where it stands.
        self.is_next = float(self.model.answers("nsp", states[-1].roll(-index, dims=1))[0, 0])
        self.of_first = float(self.model.answers("nsp", states[-1])[0, 0])
        self.at_front = self.is_next
        if self.cls_at != "front":
            self.at_front = next_sentence(self.model, self.first, self.second).is_next
        self._from_cls = maps[:, :, index].clone()  # (layers, heads, key)
        self._between = torch.stack([attention_between(heads, moved) for heads in maps])
        self._rollout = attention_rollout(maps[:, None])[0, index]
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
        self._way = self._way_of(moved, [index], known=states)
        self._way.inputs["position_ids"] = position_ids.to(device)

    @property
    def _best(self) -> tuple[str, float]:
        is_next, other = self.model.heads["nsp"].labels
        return (is_next, self.is_next) if self.is_next >= 0.5 else (other, 1 - self.is_next)

    def _look(self) -> None:
        self._row, self._shares = self._rollout, self._of_head(self._between, self.attention_head, axis=1)
        if self.attention_layer != self.layers:
            heads = self._from_cls[there(self.attention_layer, self.layers, -1)]
            self._row = self._of_head(heads, self.attention_head)
        self.weights, self.between = to_bytes(self._row), to_bytes(self._shares)

    # --- the game

    def play(self, seed: int, same_topic: bool = False) -> None:
        """Begins a game: ten pairs, half of them with a second sentence from elsewhere, about something else
        or on the same topic."""
        draw = random.Random(seed)
        chosen = draw.sample(range(len(NEXT_SENTENCES)), 2 * ROUNDS)
        true = draw.sample([True, False] * (ROUNDS // 2), ROUNDS)
        self._rounds = []
        for one, other, follows in zip(chosen[:ROUNDS], chosen[ROUNDS:], true, strict=True):
            first, second = NEXT_SENTENCES[one]
            if not follows:
                second = SAME_TOPIC[one] if same_topic else NEXT_SENTENCES[other][1]
            self._rounds.append((first, second, follows))
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
        model = next_sentence(self.model, first, second).is_next
        self.game = self.game | {
            "guess": is_next,
            "truth": truth,
            "model": rounded(model),
            "you": self.game["you"] + (is_next == truth),
            "bert": self.game["bert"] + ((model > 0.5) == truth),
        }

    def figure(self) -> plots.StillFigure:
        """The tokens with their ids, the probability, and attention between the sentences by layer."""
        chips = []
        for token, weight in zip(self.tokens, self._row.tolist(), strict=True):
            note = f"{token['segment']} · {token['position']} · {plots.in_percent(weight)}"
            paper = (plots.FIRST, plots.SECOND)[token["segment"]]
            chips.append(plots.Chip(token["text"], note, paper if token["kind"] == "word" else plots.SPECIAL))
        answer = plots.bars([["second follows first", self.is_next, self.at_front]])
        layers, groups = range(1, self.layers + 1), ("first", "second", "[CLS] and [SEP]")
        looks = [
            plots.heat(shares.T, groups, layers, title=f"{name} looks at, by layer", height=1.8)
            for name, shares in zip(("[CLS]", *groups), self._shares.unbind(1), strict=False)
        ]
        legend = "below a token: segment · position · attention from [CLS]"
        return plots.stack(plots.words(chips, title=legend), answer, tuple(looks), status=self.status)
