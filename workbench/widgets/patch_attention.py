"""PatchAttention: what any patch looks at, in all heads at once, and whether such a map is true."""

from typing import Any

import torch
import traitlets
from torch import Tensor

from workbench import plots
from workbench.attention import (
    attention_distance,
    attention_relevance,
    attention_rollout,
    clearest_head,
    outlier_patches,
    received_attention,
)
from workbench.explain import delete_and_insert
from workbench.image import ImageSource
from workbench.patches import token_names
from workbench.vit import ViT
from workbench.widgets.base import read_front, rounded, there, to_bytes
from workbench.widgets.picture import MapWidget

KEPT = 4  # answers to "is this map true?" that stay in the table


class PatchAttention(MapWidget):
    """All heads as small maps for one patch, one map large over the picture, and a test of it.

    Example:
        >>> PatchAttention(wb.load_vit(), "dog.jpg", method="rollout")  # doctest: +SKIP
    """

    _esm, _css = read_front("patch_attention")
    look_on = ("query", "layer", "head", "method", "fusion", "discard", "target", "second", "mass")
    look_on += ("times", "measure")

    query = traitlets.Int(0, min=0, help="The token that looks: 0 is the class token, patches follow.")
    method = traitlets.Enum(["head", "mean", "max", "rollout", "relevance"], "head", help="Of the large map.")
    fusion = traitlets.Enum(["mean", "max", "min"], "mean", help="How rollout makes heads one map.")
    discard = traitlets.Float(0.0, min=0, max=0.95, help="Share of the smallest weights rollout drops.")
    target = traitlets.Int(-1, help="The class that relevance and the test are about; -1: the best.")
    second = traitlets.Int(-1, help="Another class to show the relevance for beside it; -1: none.")
    times = traitlets.Float(3.0, min=1, help="Flag patches above so many times the median.")
    measure = traitlets.Enum(["attention", "norm", "nothing"], "attention", help="What flags a patch.")

    labels = traitlets.List(help="Names of all classes.")
    classes = traitlets.List(help="[class, its answer], best first.")
    distances = traitlets.Bytes(help="float16 (layers, heads): how far each looks, in pixels.")
    ratios = traitlets.Bytes(help="float16 (2, patches): attention received, and norm, over their medians.")
    outliers = traitlets.List(help="Flagged patches.")
    tests = traitlets.List(help="What hiding patches in a map's order did, the latest last.")

    def __init__(self, vit: ViT, image: ImageSource | None = None, **options: Any) -> None:
        own = {"labels": list(vit.labels), "problem_type": vit.problem_type}
        super().__init__(vit, image, **own | options)

    def _act(self, content: dict) -> None:
        if content.get("do") == "test":
            self.test_map()

    def rehearse(self) -> list[dict]:
        """Every token with every head, rollout, mean and maximum; relevance for the first classes, if any."""
        tokens, layers = {"query": range(self._attention.shape[-1])}, {"layer": range(self.layers)}
        relevance = {"method": ["relevance"], "target": [-1, *(index for index, _ in self.classes)]}
        return [
            tokens | {"method": ["head"]} | layers | {"head": range(self.heads)},
            tokens | {"method": ["rollout"]},
            *([relevance] if self.classes else []),
            *self._rehearse_stages(),
            tokens | {"method": [self.method]},
            tokens | {"method": ["mean", "max"]} | layers,
        ]

    def _show(self) -> None:
        """The forward pass that everything but relevance and the test is read from."""
        self._pixels = self._see()
        states, attention = self._pass(pixel_values=self._pixels)
        answers = self.model.answers(states[-1])[0].cpu() if self.labels else torch.empty(0)
        self._attention = attention.cpu()  # (layers, heads, query, key)
        self._norms = states[-1][0, self.prefix :].float().norm(dim=-1).cpu()
        self._relevance: dict[int, Tensor] = {}
        self._random: dict[int, Tensor] = {}  # of a test of a class: the same for all maps
        self.tests = []
        best = answers.topk(min(5, len(answers))).indices.tolist()
        self._way = self._way_of(self._pixels, known=states)
        self.classes = [[index, rounded(float(answers[index]))] for index in best]
        geometry = {"grid": tuple(self.grid), "patch_size": self.model.config.patch_size}
        self._distances = attention_distance(self._attention, **geometry, prefix_tokens=self.prefix)
        self.distances = to_bytes(self._distances)
        if self.method not in ("mean", "max"):
            tokens, lower = torch.arange(self._attention.shape[-1]), self.layers // 2
            shown = tokens == self._query, tokens >= self.prefix
            layer, head = clearest_head(self._attention[lower:], *shown)  # below many look at one patch only
            self._open(lower + layer, head)

    @property
    def _class(self) -> int:
        """The class that is asked about."""
        if not self.classes:
            raise ValueError(f"{self.model.name} has no classes, so there is nothing to explain or to lose.")
        return there(self.target, len(self.labels), self.classes[0][0])

    def _relevance_of(self, target: int) -> Tensor:
        """Tokens that speak for a class: (tokens). Computed once for each class and picture."""
        if target not in self._relevance:
            model, pixels = self.model, self._pixels
            relevance = attention_relevance(model, lambda: model.logits(model(pixels)[-1])[:, target])
            self._relevance[target] = relevance[0, : model.config.num_head_tokens].mean(0).cpu()
        return self._relevance[target]

    def _large_maps(self) -> list[tuple[str, Tensor]]:
        """Titles and weights (tokens) of the maps shown large."""
        if self.method == "relevance":
            shown = [self._class] + ([self.second] if 0 <= self.second < len(self.labels) else [])
            return [(f"relevance for “{self.labels[one]}”", self._relevance_of(one)) for one in shown]
        looks = f"{token_names(self.grid, self.prefix)[self._query]} looks"
        if self.method == "rollout":
            options = {"head_fusion": self.fusion, "discard_ratio": self.discard}
            rollout = attention_rollout(self._attention[:, None], **options, prefix_tokens=self.prefix)
            without = f", {100 * self.discard:.0f} % left out" if self.discard else ""
            return [(f"rollout ({self.fusion}{without}), {looks}", rollout[0, self._query])]
        layer = there(self.layer, self.layers, self.layers - 1)
        heads = self._attention[layer, :, self._query]  # (heads, tokens)
        if self.method == "head":
            head = there(self.head, self.heads, 0)
            return [(f"layer {layer + 1}, head {head + 1}, {looks}", heads[head])]
        weights = heads.mean(0) if self.method == "mean" else heads.amax(0)
        return [(f"layer {layer + 1}, {self.method} of heads, {looks}", weights)]

    @property
    def _query(self) -> int:
        return there(self.query, self._attention.shape[-1], 0)

    def _look(self) -> None:
        """Reads maps for another token, or others, from the last pass."""
        large = self._large_maps()  # first, because it may be refused
        layer, head = there(self.layer, self.layers, self.layers - 1), there(self.head, self.heads, 0)
        self._settle(layer=layer, head=head, query=self._query)
        self._lay(self._attention, self._query, large)
        if self.method in ("max", "relevance"):  # which are no shares
            self.keeps = [None] * len(large)
        received = received_attention(self._attention)[self.prefix :]
        both = torch.stack([received, self._norms])
        self.ratios = to_bytes(both / both.median(-1, keepdim=True).values)
        flagged = outlier_patches(self._norms if self.measure == "norm" else received, self.times)
        self.outliers = [] if self.measure == "nothing" else flagged.nonzero().flatten().tolist()

    @property
    def _best(self) -> tuple[str, float] | None:
        return (self.labels[self.classes[0][0]], self.classes[0][1]) if self.classes else None

    def test_map(self) -> None:
        """Hides and uncovers patches in the order of the (first) large map, and at random."""
        target, (title, weights) = self._class, self._large_maps()[0]
        weights = weights[self.prefix :]
        found = delete_and_insert(
            self.model,
            self._pixels,
            weights,
            target,
            random=self._random.get(target),
            progress=lambda share: self.send({"tested": share}),  # at once; traits wait for the end
        )
        self._random[target] = found.random
        random, order = found.random_areas, weights.argsort(descending=True, stable=True)
        areas = torch.tensor([found.deletion_area, found.insertion_area, *random.aminmax(), random.mean()])
        curves = {"shares": found.shares, "deletion": found.deletion, "insertion": found.insertion}
        curves |= {"random": found.random.mean(0)}  # deletion; insertion is the same backwards
        answer = {name: rounded(curve) for name, curve in (curves | {"areas": areas}).items()}
        answer |= {"title": title, "label": self.labels[target], "order": order.tolist()}
        answer |= {"hides": bool(areas[0] < areas[2]), "shows": bool(areas[1] > areas[3])}
        self.tests = [*self.tests, answer][-KEPT:]

    def figure(self) -> plots.StillFigure:
        """The large map over the picture, all heads, how far they look, and the test if there was one."""
        names = range(1, self.layers + 1), range(1, self.heads + 1)
        tiles = self._small / self._small.amax((2, 3), keepdim=True).clamp(min=1e-9)
        small = plots.heat(plots.tiled(tiles), *names, title="layers (down) and heads, each of its strongest")
        marks = [plots.heat(self._distances, *names, title="attention distance in pixels", height=2.4)]
        for test in self.tests[-1:]:
            shares, random = test["shares"], f"random, area {test['areas'][4]:.2f}"
            for kind, area in zip(("deletion", "insertion"), test["areas"], strict=False):
                places = shares if kind == "deletion" else [1 - share for share in shares]  # in sight
                ours = {f"map, area {area:.2f}": [*zip(shares, test[kind], strict=True)]}
                other = {random: [*zip(places, test["random"], strict=True)]}
                title = f"{kind}: “{test['label']}”\n{test['title']}"
                label = "share of patches hidden or shown"
                marks.append(plots.curves(ours, other, title=title, label=label))
        return plots.stack((*self._still_maps(self.outliers), small), tuple(marks), status=self.status)
