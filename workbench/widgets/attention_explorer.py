"""AttentionExplorer: one viewer for the attention of any head, between words or between patches."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
import traitlets
from torch import Tensor

from workbench import plots
from workbench.attention import (
    ablate,
    attention_difference,
    clearest_head,
    head_effects,
    mass_mask,
    weight_steps,
)
from workbench.bert import Bert
from workbench.checks import check_model, check_ready, counted
from workbench.encoder import PROBLEM_TYPES
from workbench.image import ImageSource, prepare_image
from workbench.patches import token_names
from workbench.text import Encoding
from workbench.vit import ViT
from workbench.widgets.base import (
    check_maps_fit,
    now_and_before,
    read_front,
    rounded,
    there,
    to_bytes,
    to_bytes8,
)
from workbench.widgets.picture import MapWidget
from workbench.widgets.strip import Way
from workbench.widgets.text import FOR_PAIRS

FIRST_TEXT = "The cat sat on the [MASK]."
FIT = "their maps cannot be laid beside each other."
MARKED = 10  # differences that are marked, and from which share of attention on
LEAST = 0.01
THUMBNAIL = 24  # most cells of a thumbnail's side; longer inputs are averaged down
FINE = 64  # tokens of which weights are told to their last digit


class AttentionExplorer(MapWidget):
    """All heads of all layers as thumbnails, one of them large, and what it does to the answer.

    A BERT reads a text, where a typed [MASK] is a mask, and perhaps a second one; a ViT reads `image`, or a
    sample. `beside` is another checkpoint of as many layers and heads: both read the same input, what its
    heads do differently is marked, and `TypeError` or `ValueError` say why one does not fit.

    Example:
        >>> AttentionExplorer(wb.load_bert(), "The cat sat on the [MASK].")  # doctest: +SKIP
    """

    _esm, _css = read_front("attention_explorer")
    reads = (Bert, ViT)
    fields = ("text", "second")
    show_on = ("text", "second", "off", "task")
    look_on = ("layer", "head", "chosen", "mass", "hide_special", "pair", "query", "key")

    text = traitlets.Unicode(help="The text, as it was typed.")
    second = traitlets.Unicode(help="The second text, or empty.")
    task = traitlets.Unicode(help="The head whose answer is watched: a name in `tasks`.")
    chosen = traitlets.List(traitlets.Int(), help="Heads whose mean is shown; empty: all.")
    off = traitlets.List(traitlets.Tuple(traitlets.Int(), traitlets.Int()), help="Switched off: layer, head.")
    hide_special = traitlets.Bool(False, help="Leave out [CLS], [SEP] and the class token.")
    pair = traitlets.Enum(["all", "first to second", "second to first"], "all", help="Who looks at whom.")
    query = traitlets.Int(-1, help="The pinned token that looks; -1: none.")
    key = traitlets.Int(-1, help="The pinned token that is looked at; -1: none.")
    view = traitlets.Enum(["lines", "matrix"], "lines", help="Lines between tokens, or a matrix.")

    tasks = traitlets.List(help="Heads that can answer this input.")
    tokens = traitlets.List(help="Text, segment and kind of each token.")
    thumbnails = traitlets.Bytes(help="8 bit (layers, heads, side, side), each as bright as it can be.")
    side = traitlets.Int(help="Cells on a side of a thumbnail.")
    matrix = traitlets.Bytes(help="(query, key) of what is shown large: float16, or 8 bit with `scales`.")
    scales = traitlets.Bytes(help="float16 (2, query): largest weights of each row, of special tokens first.")
    steps = traitlets.Dict(help="How the pinned pair's weight comes about, or empty.")
    answers = traitlets.List(help="[label, its answer now, that which `ticks` tells].")
    ticks = traitlets.Unicode(help="What answers stand beside those of now: 'with all heads on', or whose.")
    effects = traitlets.Bytes(help="float16 (layers, heads): what the answer loses without each.")
    other = traitlets.Unicode(help="The name of the checkpoint beside this one; or empty.")
    apart = traitlets.Bytes(help="float16 (layers, heads): how differently both look; see `beside`.")
    differences = traitlets.List(help="Where they look most differently: [query, key, here, beside].")
    patch_differences = traitlets.List(help="The same over a picture, in the row of the token that looks.")
    compared = traitlets.Dict(help="Tokens and title of another map: kept to compare with, or that beside.")
    compared_matrix = traitlets.Bytes(help="As `matrix`, of `compared`.")
    compared_scales = traitlets.Bytes(help="As `scales`, of `compared`.")

    def __init__(
        self,
        model: Bert | ViT,
        text: str | None = None,
        second: str = "",
        *,
        image: ImageSource | None = None,
        beside: Bert | ViT | None = None,
        **options: Any,
    ) -> None:
        if isinstance(model, ViT):
            if text or second:
                raise TypeError(f"{model.name} is a ViT, which reads a picture: give it as image=...")
        elif image is not None:
            raise TypeError(f"{model.name} is a BERT, which reads text, no picture: load_vit() loads a ViT.")
        else:
            options |= {"text": FIRST_TEXT if text is None else text, "second": second}
        check_ready(model)
        self._models = [model] if beside is None else [model, beside]
        if beside is not None:
            _check_fit(model, beside)
            options["other"] = beside.name if beside.name != model.name else f"another {model.name}"
            self._beside = f" beside {options['other']}"
        super().__init__(model, image, **options)

    def rehearse(self) -> list[dict]:
        """Every layer and head, with and without special tokens; every token that looks; every task."""
        heads = {"layer": range(self.layers), "head": range(-1, self.heads)}
        tokens = {"query": range(-1, len(self.tokens))}
        tasks = {"task": self.tasks} if self.tasks else {}
        return [heads, tokens, *self._rehearse_stages(**tasks), {"hide_special": [False, True]} | heads]

    def _act(self, content: dict) -> None:
        if content.get("do") == "all heads":
            self.try_all_heads()
        elif content.get("do") == "all on":  # and what was tried is forgotten
            self._change(off=[])
        elif content.get("do") == "compare":
            self.keep_to_compare()

    def _on_show(self, change: dict) -> None:
        if change["name"] in ("text", "second"):
            self._read()
            self._settle(query=-1, key=-1)
        super()._on_show(change)

    def _on_picture(self) -> None:
        self._read()
        super()._on_picture()

    def _read(self) -> None:
        """Turns the input into what the model takes; nothing is changed if it cannot be read."""
        if isinstance(self.model, ViT):
            self._see()
            pixels = [prepare_image(self._image, model.preprocessing) for model in self._models]
            inputs, self._encoding = [{"pixel_values": one} for one in pixels], None
            names = enumerate(token_names(self.grid, self.prefix))
            self.tokens = [[name, 0, "patch" if at >= self.prefix else "special"] for at, name in names]
        else:
            encodings = [self._encoded(model) for model in self._models]
            tokens, *others = [
                [[token.text, token.segment, "special" if token.word is None else "word"] for token in each]
                for each in (encoding.tokens for encoding in encodings)
            ]
            if others not in ([], [tokens]):
                raise ValueError(f"{self.model.name} and {self.other} cut this text into other tokens: {FIT}")
            inputs = [encoding.tensors() for encoding in encodings]
            check_maps_fit(self.model, **inputs[0])
            self.tokens, self._encoding = tokens, encodings[0]
        self._special = torch.tensor([kind == "special" for *_, kind in self.tokens])
        self._inputs, *self._inputs_beside = [
            {name: part.to(model.device) for name, part in one.items()}
            for one, model in zip(inputs, self._models, strict=True)
        ]

    def _encoded(self, bert: Bert) -> Encoding:
        limit = bert.config.max_position_embeddings
        return bert.tokenizer.encode(self.text, self.second or None, max_length=limit)

    def _answers(self, hidden_states: Sequence[Tensor], model: Bert | ViT | None = None) -> Tensor:
        """What the watched head says, (batch, classes): of "mlm" at the first mask, of "span" how likely each
        token is the start of the answer."""
        last, model = hidden_states[-1], model or self.model
        if isinstance(model, ViT):
            return model.answers(last)
        if self.task == "mlm":
            return model.answers("mlm", last[:, self._encoding.masks[0]])
        answers = model.answers(self.task, last)
        return answers[..., 0] if model.heads[self.task].kind == "span" else answers

    @property
    def _is_pair(self) -> bool:
        """Whether two texts were read, whatever is typed now."""
        return any(segment for _, segment, _ in self.tokens)

    def _possible(self) -> list[str]:
        """Heads that can answer this input."""
        if isinstance(self.model, ViT):
            return ["class"] if self.model.labels else []
        pairs = self._is_pair
        fits = {"mlm": bool(self._encoding.masks), "sentence": True, "word": False, "span": pairs}
        fits |= dict.fromkeys(FOR_PAIRS, pairs) | {"sentiment": not pairs}
        return [name for name, head in self.model.heads.items() if fits.get(name, fits[head.kind])]

    def _show(self) -> None:
        for model in self._models:
            check_ready(model)
        tasks = self._possible()
        task = self.task if self.task in tasks else next(iter(tasks), "")
        off = [pair for pair in self.off if 0 <= pair[0] < self.layers and 0 <= pair[1] < self.heads]
        answering = self.model if isinstance(self.model, ViT) or not task else self.model.heads[task]
        problem_type = getattr(answering, "problem_type", PROBLEM_TYPES[0])
        self._settle(tasks=tasks, task=task, off=off, problem_type=problem_type)
        passes = []
        for model, inputs in zip(self._models, [self._inputs, *self._inputs_beside], strict=True):
            with ablate(model, off):
                passes.append(self._pass(model, **inputs))
        self._states = passes[0][0]
        self._maps = [attention.cpu() for _, attention in passes]  # (layers, heads, query, key) of each
        self._way = self._way_now()
        self.answers, self.ticks = [], "with all heads on" if off else ""
        if task:
            now = self._answers(self._states)[0]
            self._before = before = self._answers(self.model(**self._inputs))[0] if off else now
            best = {*before.topk(min(3, len(before))).indices.tolist(), int(now.argmax())}
            if self.other and self._same_classes:
                before = self._answers(passes[1][0], self._models[1])[0].to(now)
                best, self.ticks = best | {int(before.argmax())}, f"of {self.other}"
            best = sorted(best, key=lambda index: (-float(self._before[index]), index))
            name = self._way.tokens.__getitem__ if self._way.kind == "span" else self._class_name
            self.answers = now_and_before({index: name(index) for index in best}, now, before, best)
        self.effects = b""
        if self.other:  # it opens on the head that differs most
            apart = attention_difference(*self._maps)
            self.apart, clearest = to_bytes(apart), divmod(int(apart.argmax()), self.heads)
        else:
            looks = torch.arange(len(self.tokens)) == max(self.query, 0) if self.grid else ~self._special
            clearest = clearest_head(self._maps[0], looks, ~self._special)
        self._open(*clearest)
        self.side = min(THUMBNAIL, len(self.tokens))
        thumbnails = F.adaptive_avg_pool2d(self._maps[0], self.side)
        self.thumbnails = to_bytes8(thumbnails.flatten(2))

    @property
    def _same_classes(self) -> bool:
        """Whether the other checkpoint answers with the same classes, too."""
        if isinstance(self.model, ViT):
            return len({(model.labels, model.problem_type) for model in self._models}) == 1
        if self.task == "mlm":
            ours, theirs = (model.tokenizer.backend.get_vocab() for model in self._models)
            return ours == theirs and "mlm" in self._models[1].heads
        heads = [model.heads[self.task] for model in self._models if self.task in model.heads]
        return len(heads) == 2 and len({(head.kind, head.labels, head.problem_type) for head in heads}) == 1

    def _way_now(self) -> Way:
        if isinstance(self.model, ViT):
            return self._way_of(self._inputs["pixel_values"], known=self._states)
        tokens = [text for text, *_ in self.tokens]
        kind = self.model.heads[self.task].kind if self.task else ""
        reads = {"mlm": self._encoding.masks, "span": range(len(tokens)), "": ()}.get(kind, [0])
        return Way(self.model, self._inputs, tokens, self.task, reads, known=self._states)

    def _strip(self, change: dict | None = None) -> None:
        with ablate(self.model, self.off):
            super()._strip(change)

    @property
    def _at(self) -> int | None:
        at = super()._at
        if at is not None and self._way.kind == "span":
            return self.query if self.query >= 0 else int(self._before.argmax())
        return at

    @property
    def _best(self) -> tuple[str, float] | None:
        return max(self.answers, key=lambda one: one[1])[:2] if self.answers else None

    def _map(self, attention: Tensor) -> Tensor:
        """The map shown large, (query, key): one head or a mean of heads."""
        maps = attention[self.layer]  # (heads, query, key)
        chosen = [head for head in self.chosen if 0 <= head < self.heads]
        return maps[self.head].clone() if self.head >= 0 else maps[chosen or slice(None)].mean(0)

    def _switched(self, large: Tensor) -> Tensor:
        """A map with what the switches leave out set to zero."""
        segment = torch.tensor([segment for _, segment, _ in self.tokens])
        if self.hide_special:
            large[self._special] = 0
            large[:, self._special] = 0
        if self.pair != "all" and self._is_pair:
            looks = 0 if self.pair == "first to second" else 1
            large[segment != looks] = 0
            large[:, segment == looks] = 0
        return large * mass_mask(large, self.mass) if self.mass < 1 else large

    def _packed(self, large: Tensor) -> tuple[bytes, bytes]:
        """A map (query, key) as `matrix` and `scales`. Of many tokens it takes half the bytes, or saved pages
        would hold half of the heads; small weights stay visible beside [CLS] and [SEP]."""
        if len(large) <= FINE:
            return to_bytes(large), b""
        parts = torch.stack([large * self._special, large * ~self._special])
        shares = (parts / parts.amax(-1, keepdim=True).clamp(min=1e-7)).sum(0)
        return to_bytes8(shares), to_bytes(parts.amax(-1))

    def _look(self) -> None:
        """Shows another head, or the same in another way: no new forward pass."""
        count = len(self.tokens)
        self._settle(
            layer=self._depth - 1,
            head=there(self.head, self.heads, -1),
            query=there(self.query, count, -1),
            key=there(self.key, count, -1),
        )
        large, query = [self._map(maps) for maps in self._maps], max(self.query, 0)
        names = [f"{self.model.name}: ", f"{self.other}: "] if self.other else [""]
        self._names = [f"{name}{self._title}" for name in names]
        if self.grid:
            looks = [f"{title}, {self.tokens[query][0]} looks" for title in self._names]
            rows = [(title, map[query]) for title, map in zip(looks, large, strict=True)]
            self._lay(self._maps[0], query, rows, one_scale=True)
            self.patch_differences = self._largest(*large, query) if self.other else []
        self._shown = [self._switched(map) for map in large]
        self.matrix, self.scales = self._packed(self._shown[0])
        if self.other:
            self.compared_matrix, self.compared_scales = self._packed(self._shown[1])
            self.compared = {"tokens": self.tokens, "title": self._names[1], "own": self._names[0]}
            self.differences = self._largest(*self._shown)
        weight, steps = (self.head, self.query, self.key), {}
        if min(weight) >= 0:
            steps = weight_steps(self.model, self._states[self.layer], self.layer, *weight)
        self.steps = {name: rounded(step, 3) if step.ndim else float(step) for name, step in steps.items()}

    def _largest(self, here: Tensor, beside: Tensor, patches_of: int | None = None) -> list[list]:
        """Where two maps differ most: in the row of the token that looks, if one was chosen; or in that of
        `patches_of`, of which the picture shows patches alone."""
        change, numbers = (beside - here).abs(), torch.arange(len(here))
        if patches_of is not None or self.query >= 0:
            change = change * (numbers == (self.query if patches_of is None else patches_of))[:, None]
        if patches_of is not None:
            change = change * (numbers >= self.prefix)
        best = change.flatten().topk(min(MARKED, change.numel())).indices.tolist()
        places = [divmod(place, len(change)) for place in best]
        return [[*at, float(here[at]), float(beside[at])] for at in places if change[at] >= LEAST]

    @property
    def _title(self) -> str:
        """Which map is shown large."""
        some = ", ".join(str(head + 1) for head in self.chosen if 0 <= head < self.heads)
        which = f"head {self.head + 1}" if self.head >= 0 else f"mean of heads {some}".rstrip()
        off = f", {counted(len(self.off), 'head')} off" if self.off else ""
        return f"layer {self.layer + 1}, {which}{off}"

    @property
    def _without(self) -> str:
        """What is left out of the matrix."""
        left_out = ["without special tokens"] if self.hide_special else []
        left_out += [self.pair] if self.pair != "all" and self._is_pair else []
        left_out += [f"what makes up {plots.in_percent(self.mass)} of each row"] if self.mass < 1 else []
        return "".join(f", {one}" for one in left_out)

    def try_all_heads(self) -> None:
        """Switches each head off alone and keeps what the best answer loses; shows progress."""
        if not self.task:
            raise ValueError("No head of this checkpoint answers this input, so there is nothing to lose.")
        best, effects = int(self._before.argmax()), torch.zeros(self.layers, self.heads)

        def answer(copies: int) -> Tensor:
            inputs = {name: part.expand(copies, *part.shape[1:]) for name, part in self._inputs.items()}
            return self._answers(self.model(**inputs))[:, best]

        with torch.inference_mode():
            for layer, effect in head_effects(self.model, answer):
                effects[layer] = effect.cpu()
                self.send({"layers done": layer + 1})  # at once; traits wait for the end
        self.effects = to_bytes(effects)

    def keep_to_compare(self) -> None:
        """Keeps the map of now beside those that follow, to compare inputs, layers or heads."""
        if self.compared:
            self.compared, self.compared_matrix, self.compared_scales = {}, b"", b""
            return
        self.compared_matrix, self.compared_scales = self.matrix, self.scales
        self.compared = {"tokens": self.tokens, "title": f"kept: {self._title}"}

    def figure(self) -> plots.StillFigure:
        """The map shown large, as a matrix with its tokens."""
        if self.grid and self.view == "lines":
            return plots.stack(tuple(self._still_maps()), status=self.status)
        tokens, marks = [text for text, *_ in self.tokens], []
        for name, shown in zip(self._names, self._shown, strict=True):
            title = f"{name}: rows look at columns{self._without}"
            most = max(float(map.max()) for map in self._shown)
            marks.append(plots.heat(shown, tokens, tokens, title=title, most=most, height=6.0))
        return plots.stack(*marks, status=self.status, width=6.0)


def _check_fit(model: Bert | ViT, beside: Bert | ViT) -> None:
    """Refuses, in a sentence, a checkpoint whose maps cannot be laid beside those of another."""
    check_model(beside, type(model))
    for name, what in (("num_hidden_layers", "layers"), ("num_attention_heads", "heads in a layer")):
        ours, theirs = getattr(model.config, name), getattr(beside.config, name)
        if ours != theirs:
            raise ValueError(f"{model.name} has {ours} {what} and {beside.name} {theirs}: {FIT}")
    check_ready(beside)
    if isinstance(model, ViT):
        ours, theirs = (
            (one.preprocessing.size, one.config.patch_size, one.config.num_prefix_tokens)
            for one in (model, beside)
        )
        if ours != theirs:
            raise ValueError(f"{model.name} and {beside.name} cut pictures into other patches: {FIT}")
