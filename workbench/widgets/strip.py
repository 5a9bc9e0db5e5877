"""The strip on top of every widget: a front door, the same encoder, a head; and the drawer of a stage."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import traitlets
from torch import Tensor

from workbench.attention import fetched_vectors
from workbench.bert import Bert
from workbench.checks import check_ready, counted
from workbench.encoder import to_answers
from workbench.patches import embedding_steps, linear_steps, projection_steps
from workbench.vit import ViT
from workbench.widgets.base import FEW, WorkbenchWidget, rounded, sentence, there, to_bytes

READS = {  # what a head reads, by its kind
    "mlm": "[MASK]",
    "sentence": "[CLS]",
    "word": "first piece of each word",
    "span": "every token, twice",
    "class": "*",
}
BEST = 6  # of many classes, and of the tokens that add most
LARGEST = 10  # products that are written out
VECTORS = 8  # most that are drawn of those that a head reads

NOTHING_READ = "Nothing is masked, so the head reads nothing: click a word."

Drawer = tuple[dict, list[Tensor]]


@dataclass
class Way:
    """The way of one input through a model.

    `inputs` are what the front door is given, a batch of one, `tokens` what it makes of them. The `head`
    reads the tokens `reads`; none may look at those where `mask` (1, tokens) is 0. `known` are the hidden
    states, if they are there already.
    """

    model: Bert | ViT
    inputs: dict[str, Tensor]
    tokens: list[str]
    head: str = ""
    reads: Sequence[int] = ()
    mask: Tensor | None = None
    known: Sequence[Tensor] = ()

    @cached_property
    def states(self) -> Sequence[Tensor]:
        """`num_hidden_layers + 1` hidden states (1, tokens, hidden); only a stage that is open needs them."""
        if self.known:
            return self.known
        check_ready(self.model)
        return self.model(**self.inputs, attention_mask=self.mask)

    @property
    def kind(self) -> str:
        """That of the head; "class" of a ViT's."""
        return "class" if isinstance(self.model, ViT) else self.model.heads[self.head].kind


class StripWidget(WorkbenchWidget):
    """Base of the widgets: the strip says where in the model we are, and one of its stages may be open.

    A widget's `_show` runs the model on the input and keeps what came of it, such as its `_way`, or changes
    nothing if the input cannot be read; its `_look` puts a part of that on the screen. They answer changes of
    the traits that `show_on` and `look_on` name. What is closed is not computed. `ValueError` for a stage
    that is not there.
    """

    show_on: tuple[str, ...] = ()
    look_on: tuple[str, ...] = ()

    stage = traitlets.Unicode(help="The open stage: embeddings, layer, read, head or softmax; empty: none.")
    token = traitlets.Int(-1, help="The token that embeddings and layer tell of; -1: one that is read.")
    layer = traitlets.Int(-1, help="After which layer the stage “layer” is (0: embeddings; -1: the last).")
    row = traitlets.Int(-1, help="Number of the class whose products the stage “head” shows; -1: the best.")

    line = traitlets.List(help="The strip: [stage, name, numbers]; what cannot be opened has no stage.")
    drawer = traitlets.Dict(help="What the open stage tells; `shapes` are those of `numbers`.")
    numbers = traitlets.Bytes(help="float16, tables of the open stage, one after the other.")

    def __init__(self, model: Bert | ViT, **options: object) -> None:
        super().__init__(model, **options)
        self._when(self.show_on, self._on_show)
        self._when(self.look_on, self._on_look)
        free = {"stage", "token", "layer", "row"} - {*self.show_on, *self.look_on}
        self._when(sorted(free), self._strip)

    def _on_show(self, _: dict) -> None:
        self._refresh()

    def _on_look(self, _: dict) -> None:
        self._refresh(run=False)

    @torch.inference_mode()
    def _refresh(self, run: bool = True) -> None:
        """Shows what the model says now, or, unless it has to `run`, what it said last, in another way."""
        if run:
            check_ready(self.model)  # which may have been put into training mode
            self._show()
            self._unread = ""
        self._look()
        self._strip()

    def _look(self) -> None:
        """To override, see above."""

    def _change(self, **values: object) -> None:
        """Sets traits, and shows what comes of it; if nothing can, all but typed texts are as before."""
        before = {name: getattr(self, name) for name in values if name not in self.fields}
        self._settle(**values)
        try:
            self._refresh()
        except Exception as error:
            self._settle(**before)
            if len(before) < len(values):
                self._unread = sentence(error)
            raise

    @property
    def _stages(self) -> list[str]:
        """The values that `stage` may have."""
        return ["", *(stage for stage, *_ in self.line if stage)]

    def _rehearse_stages(self, **axes: Sequence) -> list[dict]:
        """Every stage, with each layer; each token (in short texts, with each layer); the classes on screen.
        `axes` are values of other traits that the drawers depend on, and messages."""
        stages = {"stage": self._stages}
        tokens = {"token": [self.token, *range(len(self._way.tokens))]}
        layers = {"layer": [self.layer, *range(self.layers + 1)]}
        groups = [axes | stages, {"stage": ["embeddings"]} | tokens, layers | stages]
        groups.append({"stage": ["layer"]} | tokens | (layers if len(self._way.tokens) <= 12 else {}))
        if "head" in self._stages and self._at is not None:
            rows = [self.row, *(row for row, *_ in self._head_drawer()[0]["rows"])]
            reading = ["head", "softmax"] if self._way.kind == "span" else ["head"]
            groups += [{"stage": [stage], "row": rows} for stage in reading]
        return groups

    # --- what a widget says of itself

    @property
    def _at(self) -> int | None:
        """The token that is read, and that head and softmax tell of; None: nothing is read."""
        return next(iter(self._way.reads), None)

    @property
    def _best(self) -> tuple[str, float] | None:
        """The answer: a class and its probability, or number."""
        return None

    @property
    def _depth(self) -> int:
        """After which layer: 0 are the embeddings."""
        return there(self.layer, self.layers + 1, self.layers)

    @property
    def _read_after(self) -> int:
        """After which layer a view reads its own answers, if it follows the open stage."""
        return self._depth if self.stage == "layer" else self.layers

    @property
    def _token(self) -> int:
        return there(self.token, len(self._way.tokens), self._at or 0)

    # --- the line

    @torch.inference_mode()
    def _strip(self, _: dict | None = None) -> None:
        """Sets the line and the open drawer."""
        line = self._line()
        before, stages = ([stage for stage, *_ in stops if stage] for stops in (self.line, line))
        if self.stage and self.stage not in stages:
            if self.stage not in before:
                there_are = f"there are: {', '.join(stages)}" if stages else "none can be opened"
                raise ValueError(f"There is no stage {self.stage!r} here; {there_are}.")
            self._settle(stage="")  # another head answers now
        drawer, tables = {}, []
        if self.stage:
            if self.stage in ("read", "head", "softmax") and self._at is None:
                drawer = {"empty": NOTHING_READ}
            else:
                drawer, tables = getattr(self, f"_{self.stage}_drawer")()
            drawer |= {"stage": self.stage, "shapes": [list(table.shape) for table in tables]}
        self.line, self.drawer, self.numbers = line, drawer, b"".join(map(to_bytes, tables))

    def _before_head(self, count: int | None = None) -> list[list[str]]:
        """The stops of front door and encoder, for so many tokens."""
        config = self.model.config
        start, front, prefix = "tokens", "word + segment + position", 0
        if isinstance(self.model, ViT):
            prefix = config.num_prefix_tokens
            more = f" and {prefix - 1} more" if prefix > 1 else ""
            start, front = "patches", f"flattened × E, *{more} in front, + position"
        elif not config.type_vocab_size:
            front = "word + position"
        vectors = f"vectors of {config.hidden_size}"
        return [
            ["", start, "of an example" if count is None else f"{count - prefix}"],
            ["embeddings", front, vectors if count is None else f"{count} {vectors}"],
            ["layer", f"layer 1 … {self.layers}", f"{counted(self.heads, 'head')} in each"],
        ]

    def _line(self) -> list[list[str]]:
        """The stops, see `line`."""
        config, way, count = self.model.config, self._way, len(self._way.tokens)
        line = self._before_head(count)
        if not way.head:
            return line
        classes, size = config.vocab_size if way.kind == "mlm" else len(self._labels), config.hidden_size
        if way.kind == "class":
            size = sum(head.in_features for head in self.model.heads)
        line += [
            ["read", READS[way.kind], f"{len(way.reads)} of {count}"],
            ["head", "matrix", f"{classes:,} × {size}"],
        ]
        if self._probable:
            over = " over tokens" if way.kind == "span" else ""
            sigmoid = self.problem_type.startswith("multi")
            line.append(["softmax", "sigmoid" if sigmoid else "softmax", f"0 to 100 %{over}"])
        if classes > 1 and self.problem_type == "regression":
            return [*line, ["", "answer", f"{classes} numbers"]]
        label, answer = self._best or ("", None)
        return [*line, ["", label or "answer", "–" if answer is None else self._written(answer)]]

    # --- the drawers: what they tell, and tables of numbers

    @property
    def _labels(self) -> Sequence[str]:
        """Names of the classes, but those of "mlm", which are word pieces."""
        return self.model.labels if self._way.kind == "class" else self.model.heads[self._way.head].labels

    def _class_name(self, index: int) -> str:
        if self._way.kind == "span":
            return f"{'SE'[index]}, for the {self._labels[index]}"
        return self.model.tokenizer.word_piece(index) if self._way.kind == "mlm" else self._labels[index]

    @property
    def _patches(self) -> Sequence[int]:
        """Which patch stands at each place."""
        return range(len(self._way.tokens))

    def _embeddings_drawer(self) -> Drawer:
        way, token = self._way, self._token
        name = way.tokens[token]
        if isinstance(self.model, ViT):
            prefix = self.model.config.num_prefix_tokens
            patch = self._patches[token - prefix] if token >= prefix else -1 - token
            steps = projection_steps(self.model, way.inputs["pixel_values"], patch)
            steps.pop("values", None)
            names = [f"{name} × E" if token >= prefix else f"{name}, learned", "+ position", "= sum"]
        else:
            steps = embedding_steps(self.model, token, **way.inputs)
            steps.pop("normed")
            numbers = {name: ids[0, token].item() for name, ids in way.inputs.items()}
            segment = min(numbers.get("token_type_ids", 0), self.model.config.type_vocab_size - 1)
            place = numbers.get("position_ids", token)
            known = {"word": f"word “{name}”", "segment": f"+ segment {segment}"}
            known |= {"position": f"+ position {place}", "sum": "= sum"}
            names = [known[step] for step in steps]
        return self._of_vectors(names, torch.stack(list(steps.values())))

    def _of_vectors(self, names: Sequence[str], vectors: Tensor, **more: object) -> Drawer:
        """Vectors (rows, hidden) with their names and lengths."""
        lengths = rounded(vectors.float().norm(dim=-1), 3)
        rows = [list(row) for row in zip(names, lengths, strict=True)]
        return {"tokens": self._way.tokens, "token": self._token, "rows": rows} | more, [vectors]

    def _layer_drawer(self) -> Drawer:
        """What a token looks at and fetches in one layer, and the answer after every layer."""
        way, token, depth = self._way, self._token, self._depth
        told = {"depth": depth, "by_layer": self._by_layer()}
        if not depth:
            return {"tokens": way.tokens, "token": token} | told, []
        found = fetched_vectors(self.model, way.states[depth - 1], depth - 1, token, way.mask)
        added, weights = found["added"], found["weights"].mean(0)
        best = added.norm(dim=-1).topk(min(BEST, len(added))).indices
        names, rows, shares = [way.tokens[at] for at in best.tolist()], [*added[best]], weights[best].tolist()
        if rest := len(added) - len(best):
            names.append(f"{rest} others")
            rows.append(added.sum(0) - added[best].sum(0))
            shares.append(1 - sum(shares))
        names += ["bias", "= sum"]
        rows += [found["bias"], added.sum(0) + found["bias"]]
        drawer, tables = self._of_vectors(names, torch.stack(rows), **told)
        weights = torch.cat([found["weights"], weights[None]])
        return drawer | {"shares": [rounded(share) for share in shares]}, [weights, *tables]

    def _by_layer(self) -> list[list]:
        """[best class, its answer] after each layer, the embeddings first: the head was trained on the last
        one; on the others it is a lens. Nothing for spans, which need all tokens."""
        way = self._way
        if not way.head or way.kind == "span" or self._at is None:
            return []
        states = torch.cat([self._given(state) for state in way.states])
        answers = self.model.answers(states) if way.kind == "class" else self.model.answers(way.head, states)
        best = answers.flatten(0, -2).max(-1)
        names = map(self._class_name, best.indices.tolist())
        return [list(one) for one in zip(names, rounded(best.values), strict=True)]

    def _given(self, state: Tensor) -> Tensor:
        """What the head is given of a hidden state: (1, tokens that it reads at once, hidden)."""
        return state[:, list(self._way.reads) if self._way.kind == "class" else [self._at]]

    def _read_drawer(self) -> Drawer:
        way = self._way
        some = [*way.reads][:VECTORS]
        if self._at not in some:
            some[-1:] = [self._at]
        names = [way.tokens[at] for at in some]
        drawer, tables = self._of_vectors(names, way.states[-1][0, some])
        return drawer | {"kind": way.kind, "reads": list(way.reads), "shown": some}, tables

    @torch.inference_mode()
    def _scores(self) -> tuple[dict[str, Tensor], Tensor]:
        """The last step of the head, and the answer that each of its logits becomes."""
        way = self._way
        steps = linear_steps(self.model, self._given(way.states[-1]), way.head)
        steps = {name: values if name == "matrix" else values.float() for name, values in steps.items()}
        if way.kind == "span":
            return steps, self.model.answers(way.head, way.states[-1])[0, self._at]
        return steps, to_answers(steps["logits"], self.problem_type)

    def _head_drawer(self) -> Drawer:
        """Rows of the matrix, and the products of one of them with the vector."""
        steps, answers = self._scores()
        vector, logits = steps["vector"], steps["logits"]
        row = there(self.row, len(logits), int(logits.argmax()))
        best = logits.topk(min(BEST, len(logits))).indices.tolist()
        shown = list(range(len(logits))) if len(logits) <= FEW else list(dict.fromkeys([*best, row]))
        matrix = steps["matrix"][shown].float()
        products = matrix[shown.index(row)] * vector
        largest = products.abs().topk(min(LARGEST, len(products))).indices
        numbers = [rounded(part[largest], 3) for part in (vector, matrix[shown.index(row)], products)]
        told = {
            "kind": self._way.kind,
            "name": self._way.tokens[self._at],
            "row": row,
            "rows": [
                [at, self._class_name(at), *rounded(torch.stack([logits[at], answers[at]]))] for at in shown
            ],
            "largest": [list(one) for one in zip(largest.tolist(), *numbers, strict=True)],
            "sum": rounded(torch.stack([products.sum(), steps["bias"][row], logits[row]]), 4),
            "classes": len(logits),
        }
        return told, [vector[None], matrix, products[None]]

    def _softmax_drawer(self) -> Drawer:
        """Scores and what they become: [name, score, e to (score - the best one), answer]."""
        way = self._way
        steps, answers = self._scores()
        scores, name = steps["logits"], self._class_name
        row = there(self.row, len(scores), 0)
        if way.kind == "span":
            scores = self.model.logits(way.head, way.states[-1])[0, :, row].float()
            answers, name = scores.softmax(-1), way.tokens.__getitem__
        best = scores.topk(min(BEST, len(scores)))
        shares, most = answers[best.indices], answers.max()
        numbers = zip(rounded(best.values), rounded(shares / most), rounded(shares), strict=True)
        rows = [[name(at), *each] for at, each in zip(best.indices.tolist(), numbers, strict=True)]
        others = max(0.0, float(answers.sum() - shares.sum()))
        told = {"kind": way.kind, "row": row, "rows": rows, "count": len(scores), "total": 1 / float(most)}
        return told | {"others": [rounded(others / float(most)), rounded(others)]}, []
