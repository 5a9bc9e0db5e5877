"""What the widgets on pictures share: an own picture or a sample, what the model sees of it, maps over it."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import traitlets
from PIL import Image
from torch import Tensor

from workbench import plots
from workbench.attention import mass_mask
from workbench.bert import Bert
from workbench.checks import check_ready
from workbench.image import ImageSource, as_seen, load_image, prepare_image
from workbench.patches import token_names
from workbench.vit import ViT
from workbench.widgets.base import there, to_bytes, to_bytes8
from workbench.widgets.samples import FIRST_PICTURE, PICTURES, sample_image
from workbench.widgets.strip import StripWidget, Way

LARGEST = 1024  # pixels of the long side that are kept
SIDE = 16  # most cells of a small map's side; larger ones are averaged down


def to_png(picture: np.ndarray) -> bytes:
    """A PNG file of (height, width, 3) bytes."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="png")
    return file.getvalue()


def _shrunk(image: Image.Image) -> Image.Image:
    """Large pictures are shrunk once, not at each answer."""
    image.thumbnail((LARGEST, LARGEST), Image.Resampling.BOX, reducing_gap=None)
    return image


class PictureWidget(StripWidget):
    """Base of the widgets on one picture: `pictureInput` in picture.js is its other half.

    `image` is anything that `load_image` opens; None is the sample named by the option `sample`. `ValueError`
    for what cannot be read, or a checkpoint without a preprocessing.
    """

    reads = (ViT,)

    upload = traitlets.Bytes(help="A file from the browser; emptied as soon as it is read.").tag(
        from_json=lambda value, _: bytes(memoryview(value)), echo_update=False
    )
    upload_name = traitlets.Unicode(help="What the uploaded file is called.")
    sample = traitlets.Unicode(help="The sample shown; empty for a picture of one's own.")
    samples = traitlets.List(list(PICTURES), help="Samples to choose from.")
    picture = traitlets.Bytes(help="PNG of what the model sees.")
    grid = traitlets.List(help="Patches down and across.")
    prefix = traitlets.Int(help="Tokens before the patches.")

    def __init__(self, vit: ViT, image: ImageSource | None = None, **options: Any) -> None:
        check_ready(vit)
        if image is None:
            options.setdefault("sample", FIRST_PICTURE)
        super().__init__(vit, **{"prefix": vit.config.num_prefix_tokens} | options)
        self._image = _shrunk(sample_image(self.sample) if image is None else load_image(image))
        self._on_picture()
        self._name = self.sample or "picture"
        self._when(["upload"], self._on_upload)
        self._when(["sample"], self._on_sample)

    def _on_picture(self) -> None:
        """Shows another picture, `self._image`; what this raises is told, and the last picture stays."""
        self._refresh()

    def _see(self, size: tuple[int, int] | None = None, patch: int | None = None) -> Tensor:
        """What the model is given, (1, 3, height, width); sets `picture` and `grid`, by default for the
        checkpoint's own size and patches."""
        pixels = prepare_image(self._image, self.model.preprocessing, size)
        patch = patch or self.model.config.patch_size
        self._seen = as_seen(pixels, self.model.preprocessing)
        self.picture = to_png(self._seen)
        self.grid = [pixels.shape[-2] // patch, pixels.shape[-1] // patch]
        return pixels.to(self.model.device)

    def _way_of(self, pixels: Tensor, **known: Any) -> Way:
        """What the strip tells of the picture."""
        tokens = ["*" if name == "class token" else name for name in token_names(self.grid, self.prefix)]
        head, reads = "class" if self.model.heads else "", range(len(self.model.heads))
        return Way(self.model, {"pixel_values": pixels}, tokens, head, reads, **known)

    def _on_upload(self, _: dict) -> None:
        data, name = self.upload, self.upload_name
        self._settle(upload=b"")  # neither kept nor sent back
        try:
            self._show_other(load_image(data), "", name)
        except ValueError as error:
            raise ValueError(f"{name}: {error}" if name else str(error)) from error

    def _on_sample(self, _: dict) -> None:
        if self.sample:
            self._show_other(sample_image(self.sample), self.sample, self.sample)

    def _show_other(self, image: Image.Image, sample: str, name: str) -> None:
        before = self._image
        self._image = _shrunk(image)
        try:
            self._on_picture()
        except Exception:
            self._image = before
            self._on_picture()
            raise
        self._name = name
        self._settle(sample=sample)


class MapWidget(PictureWidget):
    """Base of the widgets that lay maps over a picture: `mapBoards` in picture.js is its other half. One that
    reads a BERT, too, has no picture then, and answers `_on_picture` all the same.

    Patches are scaled apart from the class token, so that their weights stay visible beside its own.
    """

    layer = traitlets.Int(-1, help="Shown large, counted from 0 (the view from 1); -1: the last.")
    head = traitlets.Int(0, help="Shown large, counted from 0 (the view from 1).")
    mass = traitlets.Float(1.0, min=0, max=1, help="Show the fewest weights that make this up.")
    opacity = traitlets.Float(0.8, min=0, max=1, help="Of the largest weight; others are paler.")
    smooth = traitlets.Bool(False, help="Interpolate large maps, instead of one square a patch.")

    looker = traitlets.Unicode(help="Name of the token that looks.")
    maps = traitlets.Bytes(help="8 bit (layers, heads, rows, columns) of `cells`, for the token that looks.")
    cells = traitlets.List(help="(rows, columns) of a small map.")
    shares = traitlets.Bytes(help="float16 (layers, heads, 2): largest weight, and what the token keeps.")
    large = traitlets.Bytes(help="8 bit (maps, patches) of what is shown large, as in `maps`.")
    tops = traitlets.List(help="The largest weight of each large map.")
    keeps = traitlets.List(help="What the token that looks keeps for itself in each; or none.")
    titles = traitlets.List(help="What each large map is.")

    def __init__(self, model: Bert | ViT, image: ImageSource | None = None, **options: Any) -> None:
        self._opens = options.keys().isdisjoint(("layer", "head"))
        if isinstance(model, ViT):
            super().__init__(model, image, **options)
        else:
            StripWidget.__init__(self, model, **options)
            self._on_picture()

    def _rehearse_stages(self, **axes: Sequence) -> list[dict]:
        """Every stage with every layer; the embeddings of every token."""
        layers = {"layer": dict.fromkeys([self.layer, *range(self.layers)])}
        tokens = {"query": dict.fromkeys([self.query, *range(len(self._way.tokens))])}
        return [axes | layers | {"stage": self._stages}, {"stage": ["embeddings"]} | tokens]

    @property
    def _depth(self) -> int:
        return there(self.layer, self.layers, self.layers - 1) + 1

    @property
    def _token(self) -> int:
        return there(self.query, len(self._way.tokens), self._at or 0)

    def _open(self, layer: int, head: int) -> None:
        """Shows this head at first, if no other was asked for."""
        if self._opens:
            self._settle(layer=layer, head=head)
        self._opens = False

    def _lay(
        self, attention: Tensor, query: int, large: Sequence[tuple[str, Tensor]], one_scale: bool = False
    ) -> None:
        """Shows what a token looks at: in all heads of `attention` (layers, heads, query, key) small, and
        `large`, by title (tokens), each on a scale of its own or all on one."""
        rows, columns = self.grid
        self.looker = token_names(self.grid, self.prefix)[query]
        small = attention[:, :, query, self.prefix :].unflatten(-1, (rows, columns))
        self.cells = [min(rows, SIDE), min(columns, SIDE)]
        self._small = F.adaptive_avg_pool2d(small, self.cells)  # (layers, heads, rows, columns)
        self.maps = to_bytes8(self._small.flatten(2))
        kept = attention[:, :, query, query]
        self.shares = to_bytes(torch.stack([self._small.amax((2, 3)), kept], -1))
        weights = torch.stack([weights[self.prefix :] for _, weights in large])
        tops = weights.amax(-1, keepdim=True)
        tops = tops.amax().expand_as(tops) if one_scale else tops
        self.titles, self.tops = [title for title, _ in large], tops.flatten().tolist()
        self.keeps = [float(weights[query]) for _, weights in large]
        self._large = weights * mass_mask(weights, self.mass) if self.mass < 1 else weights  # (maps, patches)
        self.large = to_bytes8(self._large, tops)

    def _still_maps(self, framed: Sequence[int] = ()) -> list[plots.Mark]:
        """The large maps over the picture."""
        marks, maps = [], self._large.unflatten(1, tuple(self.grid))
        # Relevance is no share of anything.
        write = "{:.2g}".format if getattr(self, "method", "") == "relevance" else plots.in_percent
        for title, weights, top, keeps in zip(self.titles, maps, self.tops, self.keeps, strict=True):
            style = {"most": top, "opacity": self.opacity, "smooth": self.smooth, "framed": framed}
            own = "" if keeps is None else f"; keeps {plots.in_percent(keeps)} for itself"
            note = f"largest: {write(float(weights.max()))}{own}"
            marks.append(plots.picture(self._seen, weights, title=title, note=note, **style))
        return marks
