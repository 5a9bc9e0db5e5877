"""PatchHiding: hide, shuffle or strip patches of a picture and see its classes change."""

import base64
import math
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import traitlets
from PIL import Image
from torch import Tensor

from workbench import plots
from workbench.encoder import MODEL_LOCK
from workbench.image import ImageSource, prepare_image
from workbench.patches import class_by_layer, rearranged
from workbench.vit import ViT, join_patches, split_patches
from workbench.widgets.base import now_and_before, read_front
from workbench.widgets.picture import PictureWidget, to_png
from workbench.widgets.samples import held_out_pictures
from workbench.widgets.strip import Drawer, Way

MOST_KEPT = 6  # pictures side by side
GREY = 150  # of what is hidden
POSITIONS = {"own": "", "place": ", positions of the new places", "none": ", no positions"}
PORTION = 10  # pictures that are judged at once


class PatchHiding(PictureWidget):
    """A picture whose patches can be hidden and shuffled, and its classes after every layer.

    Example:
        >>> PatchHiding(wb.load_vit(), "my_cat.jpg", hidden=[0, 1, 2])  # doctest: +SKIP
    """

    _esm, _css = read_front("patch_hiding")
    show_on = ("hidden", "order", "positions")
    look_on = ("layer", "top_k", "stage")

    hidden = traitlets.List(traitlets.Int(), help="Patches that nobody may look at, row by row.")
    order = traitlets.List(traitlets.Int(), help="Which patch is at each place; empty: as it was.")
    positions = traitlets.Enum(["own", "place", "none"], "own", help="Of patches: see `rearranged`.")
    top_k = traitlets.Int(5, min=1, max=50, help="How many classes are shown.")

    bars = traitlets.List(help="[class, its answer now, with all patches in place], best first.")
    kept = traitlets.List(help="Pictures kept to compare: name, base64 PNG, bars.")
    judges = traitlets.Bool(help="Whether the checkpoint knows the classes of the held-out pictures.")
    judged = traitlets.List(help="Held-out pictures: judged so far, of how many, right before, right now.")

    def __init__(self, vit: ViT, image: ImageSource | None = None, **options: Any) -> None:
        self._kept: list[np.ndarray] = []  # the pictures of `kept`
        self._right: list[bool] = []  # whether each held-out picture is right with all patches in place
        options["judges"] = {label for _, label in held_out_pictures()} <= set(vit.labels)
        super().__init__(vit, image, **{"problem_type": vit.problem_type} | options)

    def rehearse(self) -> list[dict]:
        """Every stage: as it is now, with what is hidden shown, and with everything in its place."""
        return self._rehearse_stages(do=[{"do": "reset"}, {"do": "invert"}])

    def _act(self, content: dict) -> None:
        match content.get("do"):
            case "hide":
                self.hide_at_random(min(1.0, max(0.0, float(content.get("share", 0.5)))))
            case "invert":
                self._change(hidden=sorted(set(range(self._count)) - set(self.hidden)))
            case "reset":
                self._change(hidden=[], order=[], positions="own")
            case "shuffle" | "keep" | "judge" as do:
                getattr(self, do)()
            case "forget":
                self._kept, self.kept = [], []

    def hide_at_random(self, share: float, seed: int | None = None) -> None:
        """Hides this share of the patches, chosen anew each time, and shows the others."""
        chosen = np.random.default_rng(seed).permutation(self._count)[: round(share * self._count)]
        self._change(hidden=sorted(chosen.tolist()))

    def shuffle(self, seed: int | None = None) -> None:
        """Puts the patches into another order."""
        self._change(order=np.random.default_rng(seed).permutation(self._count).tolist())

    def judge(self) -> None:
        """Hides, shuffles or strips the same patches of fifty held-out pictures: how many are right still?
        What was judged so far is shown after each few.

        Raises:
            ValueError: a checkpoint that does not know the classes of these pictures.
        """
        if not self.judges:
            raise ValueError(f"{self.model.name} has other classes than the held-out pictures.")
        pictures, like_this = held_out_pictures(), []
        for start in range(0, len(pictures), PORTION):
            part = pictures[start : start + PORTION]
            if len(self._right) < len(pictures):
                self._right += self._are_right(part)
            like_this += self._are_right(part, self.hidden, self.order or None, self.positions)
            done = len(like_this)
            judged = [done, len(pictures), sum(self._right[:done]), sum(like_this)]
            self.send({"judged": judged})  # at once; traits wait for the end
        self.judged = judged

    @torch.inference_mode()
    def _are_right(self, pictures: Sequence[tuple[Image.Image, str]], *arrangement: Any) -> list[bool]:
        """Whether each picture is given its class; see `rearranged`."""
        vit, size = self.model, tuple(self._pixels.shape[-2:])
        pixels = torch.cat([prepare_image(image, vit.preprocessing, size) for image, _ in pictures])
        with MODEL_LOCK:
            tokens, mask = rearranged(vit, pixels.to(self._pixels), *arrangement)
            states = vit.encoder(tokens[:, mask[0].bool()])  # who is hidden is seen by nobody, nor read here
            best = vit.logits(states[-1]).argmax(-1).tolist()
        return [vit.labels[number] == label for number, (_, label) in zip(best, pictures, strict=True)]

    def keep(self) -> None:
        """Keeps the picture, as it is shown now, with its classes in a row below."""
        if len(self.kept) == MOST_KEPT:
            raise ValueError(f"{MOST_KEPT} pictures fit side by side: forget these first.")
        name = self._name + ", shuffled" * bool(self.order)
        name += f", {len(self.hidden)} hidden" * bool(self.hidden) + POSITIONS[self.positions]
        if self._read_after < self.layers:
            name += f", after layer {self._read_after}"
        picture = self._covered()
        self._kept = [*self._kept, picture]
        encoded = base64.b64encode(to_png(picture)).decode()
        kept = {"name": name, "picture": encoded, "bars": self.bars[:3]}
        self.kept = [*self.kept, kept]

    def _on_picture(self) -> None:
        self._pixels, self._count = self._see(), math.prod(self.grid)  # patches
        hidden = self.hidden if all(0 <= patch < self._count for patch in self.hidden) else []
        order = self.order if len(self.order) == self._count else []
        self._settle(hidden=hidden, order=order)
        self._whole, _ = self._run()
        super()._on_picture()

    @torch.inference_mode()
    def _run(self, *arrangement: Any) -> tuple[Tensor, Way]:
        """Answers after every layer, (layers + 1, classes), and the way there; see `rearranged`."""
        with MODEL_LOCK:
            tokens, mask = rearranged(self.model, self._pixels, *arrangement)
            states = self.model.encoder(tokens, mask)
            answers = class_by_layer(self.model, states).cpu()
        return answers, self._way_of(self._pixels, mask=mask, known=states)

    def _show(self) -> None:
        """Runs the encoder on what is in sight; nothing is changed if that cannot be done."""
        with self.timed():
            self._now, self._way = self._run(self.hidden, self.order or None, self.positions)
        self.judged = []  # it was of another arrangement
        self._way.tokens[self.prefix :] = [self._way.tokens[self.prefix + at] for at in self._patches]

    @property
    def _patches(self) -> Sequence[int]:
        return self.order or range(self._count)

    def _embeddings_drawer(self) -> Drawer:
        """With the positions that patches have now."""
        drawer, (rows,) = super()._embeddings_drawer()
        if self._token < self.prefix:
            return drawer, [rows]
        whole = self._way.states[0][0, self._token].float()
        rows = torch.stack([rows[0].float(), whole - rows[0], whole])
        return self._of_vectors([name for name, _ in drawer["rows"]], rows)

    @property
    def _best(self) -> tuple[str, float]:
        best = self._now[-1].max(-1)
        return self.model.labels[int(best.indices)], float(best.values)

    def _look(self) -> None:
        """Classes after the layer that is open, or after the last one."""
        now, layer = self._now, self._read_after
        best = now[layer].topk(min(self.top_k, now.shape[1])).indices.tolist()
        if not self._probable:
            best.sort()  # numbers are no rivals
        best = dict.fromkeys([*best, int(self._whole[layer].argmax())])
        labels = self.model.labels
        self.bars = now_and_before(labels, now[layer], self._whole[layer], best)

    def _covered(self) -> np.ndarray:
        """The picture with its patches in order and the hidden ones grey."""
        size = self.model.config.patch_size
        order = self.order or list(range(self._count))
        pixels = torch.from_numpy(self._seen).permute(2, 0, 1)[None]  # (1, 3, height, width)
        patches = split_patches(pixels, size)[:, order]
        patches[:, torch.tensor([patch in self.hidden for patch in order])] = GREY
        return join_patches(patches, tuple(self.grid), size)[0].permute(1, 2, 0).numpy()

    def figure(self) -> plots.StillFigure:
        """The picture as it is shown, its classes, and those kept to compare with."""
        title = f"{len(self.hidden)} of {self._count} patches hidden{', shuffled' * bool(self.order)}"
        title += POSITIONS[self.positions]
        picture = plots.picture(self._covered(), title=title, height=3.4)
        now = plots.bars(self.bars, title=f"after layer {self._read_after}", percent=self._probable)
        best, indices = (part.tolist() for part in self._now.max(-1))
        names = [f"{layer}: {self.model.labels[at]}" for layer, at in enumerate(indices)]
        best = [*zip(names, best, strict=True)]
        best = plots.bars(best, title="best after each layer", percent=self._probable)
        kept = []
        for covered, other in zip(self._kept, self.kept, strict=True):
            note = "\n".join(f"{self._written(value)}  {label[:20]}" for label, value, _ in other["bars"])
            title = textwrap.fill(other["name"], 18)
            kept.append(plots.picture(covered, title=title, note=note, height=2.1))
        return plots.stack((picture, [now, best]), tuple(kept), status=self.status)
