"""What the widgets on one picture share: an own picture or a sample, and what the model sees of it."""

import io
from typing import Any

import numpy as np
import traitlets
from PIL import Image
from torch import Tensor

from workbench.image import ImageSource, as_seen, load_image, prepare_image
from workbench.vit import ViT
from workbench.widgets.base import WorkbenchWidget
from workbench.widgets.samples import FIRST_PICTURE, PICTURES, sample_image

LARGEST = 1024  # pixels of the long side that are kept


def to_png(picture: np.ndarray) -> bytes:
    """A PNG file of (height, width, 3) bytes."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="png")
    return file.getvalue()


def _shrunk(image: Image.Image) -> Image.Image:
    """Large pictures are shrunk once, not at each answer."""
    image.thumbnail((LARGEST, LARGEST), Image.Resampling.BOX, reducing_gap=None)
    return image


class PictureWidget(WorkbenchWidget):
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

    def __init__(self, vit: ViT, image: ImageSource | None = None, **options: Any) -> None:
        if vit.preprocessing is None:
            raise ValueError(f"{vit.name} came without a preprocessing, so it cannot read pictures.")
        if image is None:
            options.setdefault("sample", FIRST_PICTURE)
        super().__init__(vit, **options)
        self._image = _shrunk(sample_image(self.sample) if image is None else load_image(image))
        self._on_picture()
        self._name = self.sample or "picture"
        self._when(["upload"], self._on_upload)
        self._when(["sample"], self._on_sample)

    def _on_picture(self) -> None:
        """Shows another picture, `self._image`; what this raises is told, and the last picture stays."""
        self._show()

    def _see(self, size: tuple[int, int] | None = None, patch: int | None = None) -> Tensor:
        """What the model is given, (1, 3, height, width); sets `picture` and `grid`, by default for the
        checkpoint's own size and patches."""
        pixels = prepare_image(self._image, self.model.preprocessing, size)
        patch = patch or self.model.config.patch_size
        self._seen = as_seen(pixels, self.model.preprocessing)
        self.picture = to_png(self._seen)
        self.grid = [pixels.shape[-2] // patch, pixels.shape[-1] // patch]
        return pixels.to(self.model.device)

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
