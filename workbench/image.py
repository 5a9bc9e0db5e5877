"""Any picture in, numbers out: opening, turning upright, resizing, normalising.

How a picture becomes numbers belongs to the checkpoint (`Preprocessing`), never to the model.
"""

import io
import math
import os
import re
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from workbench.checks import check_size

MAX_PIXELS = 64_000_000  # larger pictures are refused before they are unpacked
RESAMPLE = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3}  # the codes of PIL and of HF
KNOWN_STEPS = {"do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb"}
IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]  # timm's, where a file is silent
LARGEST = 2**20  # a mean, deviation or factor of more than this no file has
HEIC = re.compile(rb"....ftyp(hei[cmsx]|hev[cmsx]|mif1|msf1)", re.DOTALL)  # ISO/IEC 23008-12, annex B
NO_HEIC = "This is a HEIC picture, as phones take them, which is not read here: save it as JPEG or PNG first."
NO_PICTURE = "This is no picture that can be read, or it is damaged: try PNG, JPEG or WebP."
TOO_LARGE = f"The picture is too large: at most {MAX_PIXELS // 1_000_000} million pixels are accepted."
ImageSource = (
    str | os.PathLike | bytes | bytearray | memoryview | BinaryIO | Image.Image | np.ndarray | Tensor
)


@dataclass(frozen=True)
class Preprocessing:
    """What is done to a picture before the model sees it (HF's preprocessor_config.json).

    Args:
        size: (height, width) in pixels that the model gets.
        crop_share: the picture is scaled to `size / crop_share`, then the middle is cut out (timm's
            `crop_pct`); 1 cuts nothing off.
        keep_shape: scale by the short side and cut the long one; else the picture is squeezed.
        resample: "nearest", "bilinear", "bicubic" or "lanczos".
        mean, std: per channel, of values between 0 and 1; of one channel for a model of grey pictures.
        round_crop: half a pixel of margin is rounded to even (torchvision, timm), not down (HF).
    """

    size: tuple[int, int] = (224, 224)
    crop_share: float = 1.0
    keep_shape: bool = False
    resample: str = "bilinear"
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    round_crop: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.resample, str) or self.resample not in RESAMPLE:
            raise ValueError(f"a resampling {self.resample!r}; known are {', '.join(RESAMPLE)}")
        if type(self.crop_share) not in (int, float) or not 0 < self.crop_share <= 1:
            raise ValueError(f"a crop of {self.crop_share} times the picture")

    def __str__(self) -> str:
        how = "short side" if self.keep_shape else "whole picture"
        how += f" to {self.scaled[0]} x {self.scaled[1]}, middle of" if self.crops else " to"
        size = f"{self.size[0]} x {self.size[1]}"
        return f"{how} {size}, {self.resample}, mean {list(self.mean)}, std {list(self.std)}"

    @property
    def crops(self) -> bool:
        """Whether the edges of a picture are cut off."""
        return self.keep_shape or self.crop_share < 1

    @property
    def scaled(self) -> tuple[int, int]:
        """(height, width) before the crop."""
        return _scaled(self.size, self.crop_share)

    @classmethod
    def from_hf(
        cls, settings: dict[str, Any], default_size: tuple[int, int], channels: int = 3
    ) -> "Preprocessing":
        """From preprocessor_config.json, for a model that takes pictures of so many channels.

        Raises `ValueError` for a recipe that is not known here, such as steps of other names that are on.
        """
        for name, value in settings.items():  # null is an answer, too: a step that is not taken
            if name.startswith("do_") and (name not in KNOWN_STEPS if value else name == "do_resize"):
                raise ValueError(f"a {name} of {value}")

        def sides(name: str, default: Any = None, square: Any = True) -> tuple[int, ...]:
            """(height, width), or only the short side."""
            size = settings.get(name, default)
            if isinstance(size, dict):
                keys = ["shortest_edge"] if len(size) == 1 else ["height", "width"]
                found = [size[key] if size.keys() == {*keys} else None for key in keys]
            elif isinstance(size, list | tuple) and len(size) == 2:
                found = size
            else:
                found = [size, size] if square else [size]
            if not all(type(side) is int and side > 0 for side in found):
                raise ValueError(f"a {name} of {size}")
            return tuple(found)

        size = sides("size", default_size, settings.get("default_to_square", True))
        target = sides("crop_size") if settings.get("do_center_crop") else size
        # Only "shortest_edge" keeps the shape; DeiT's plain 256 means 256 x 256, whatever the shape was.
        keep_shape = len(size) == 1
        if len(target) == 1:
            raise ValueError(f"a size of {size} without a crop in both directions")
        round_crop = bool(settings.get("workbench_round_crop", False))
        share = settings.get("workbench_crop_share", (min(target) if keep_shape else target[0]) / size[0])
        if type(share) not in (int, float) or not 0 < share <= 1:
            raise ValueError(f"a workbench_crop_share of {share}")
        scaled = _scaled(target, share)
        square = round_crop or target[0] == target[1]  # of the short side HF cuts squares only
        if not (square and min(scaled) == size[0] if keep_shape else scaled == size):
            raise ValueError(f"a size of {size} with a crop_size of another shape, {target}")
        if not settings.get("do_normalize", True):
            settings = settings | {"image_mean": [0.0] * channels, "image_std": [1.0] * channels}
        mean, std = (
            _channels(settings, name, [0.5] * channels, channels) for name in ("image_mean", "image_std")
        )
        factor = settings.get("rescale_factor", 1 / 255) if settings.get("do_rescale", True) else 1
        if type(factor) not in (int, float) or not 0 < factor < LARGEST:
            raise ValueError(f"a rescale_factor of {factor}")
        resample = settings.get("resample", 2)
        scale = 255 * factor  # (v * factor - mean) / std = (v / 255 - mean / scale) / (std / scale)
        return cls(
            size=target,
            crop_share=share,
            keep_shape=keep_shape,
            resample=next((name for name, code in RESAMPLE.items() if code == resample), resample),
            mean=tuple(value / scale for value in mean),
            std=tuple(value / scale for value in std),
            round_crop=round_crop,
        )

    @classmethod
    def from_timm(cls, settings: dict[str, Any], size: tuple[int, int], channels: int = 3) -> "Preprocessing":
        """From timm's `pretrained_cfg`; `size` is (height, width). Raises `ValueError` as `from_hf`."""
        settings = {"crop_mode": "center"} | {name: settings[name] for name in settings if settings[name]}
        if settings["crop_mode"] not in ("center", "squash"):
            raise ValueError(f"a crop_mode of {settings['crop_mode']!r}")
        return cls(
            size=size,
            crop_share=settings.get("crop_pct", 0.875),
            keep_shape=settings["crop_mode"] == "center",
            resample=settings.get("interpolation", "bicubic"),
            mean=_channels(settings, "mean", IMAGENET_MEAN, channels),
            std=_channels(settings, "std", IMAGENET_STD, channels),
            round_crop=True,
        )

    def to_hf(self) -> dict[str, Any]:
        """The content of preprocessor_config.json."""
        scaled, size = ({"height": height, "width": width} for height, width in (self.scaled, self.size))
        settings = {
            "image_processor_type": "ViTImageProcessor",
            "do_resize": True,
            "size": {"shortest_edge": min(self.scaled)} if self.keep_shape else scaled,
            "resample": RESAMPLE[self.resample],
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
        }
        if self.crops:
            settings |= {"do_center_crop": True, "crop_size": size}
        if self.round_crop:  # HF's layout has no word for that, and tells of a share whole pixels only
            settings["workbench_round_crop"] = True
            settings["workbench_crop_share"] = float(self.crop_share)
        return settings


def _channels(settings: dict[str, Any], name: str, default: list[float], count: int) -> tuple[float, ...]:
    """One number a channel, the default where a file is silent; a deviation is above 0."""
    values, least = settings.get(name, default), -LARGEST if name.endswith("mean") else 1e-9
    fits = isinstance(values, list | tuple) and len(values) == count
    if not fits or not all(type(value) in (int, float) and least <= value <= LARGEST for value in values):
        raise ValueError(f"a {name} of {values} for {count} channels")
    return tuple(values)


def _scaled(size: tuple[int, int], crop_share: float) -> tuple[int, int]:
    return math.floor(size[0] / crop_share + 1e-6), math.floor(size[1] / crop_share + 1e-6)


def load_image(source: ImageSource) -> Image.Image:
    """Opens any picture as upright RGB; raises `ValueError` for one that is damaged, too large, or none.

    `source` is a path, a file or its bytes, a PIL picture, or numbers of uint8, uint16, or floats between 0
    and 1: an array (height, width[, channels]), or a tensor, which may have its channels first.
    """
    content = b""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, about what is odd in a file
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            if isinstance(source, Image.Image):
                return _upright(source)
            if isinstance(source, Tensor):
                source = _to_array(source)
            if not isinstance(source, np.ndarray):
                content = _read(source)
                return _upright(Image.open(io.BytesIO(content)))
    except FileNotFoundError as error:
        raise ValueError(f"There is no picture {str(source)[:200]!r}.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(TOO_LARGE) from error
    except Exception as error:  # damaged files show themselves in many kinds of errors
        raise ValueError(NO_HEIC if HEIC.match(content) else NO_PICTURE) from error
    return _from_array(source)


def _read(source: str | os.PathLike | bytes | bytearray | memoryview | BinaryIO) -> bytes:
    if hasattr(source, "read"):
        with suppress(AttributeError, OSError):  # a stream has no way back
            source.seek(0)
        source = source.read()
    elif isinstance(source, str | os.PathLike):
        source = Path(source).expanduser().read_bytes()
    return memoryview(source).tobytes()


def _upright(image: Image.Image) -> Image.Image:
    if 0 in image.size:
        raise ValueError
    if image.width * image.height > MAX_PIXELS:
        raise Image.DecompressionBombError
    image.seek(0)  # the first frame of an animation
    image = ImageOps.exif_transpose(image)  # as the camera was held
    return _to_rgb(image)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        image = _to_grey(image)
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _to_grey(image: Image.Image) -> Image.Image:
    """Grey of 16 or 32 bits or floats in 8 bits: scaled, not clipped, what is below 0 or above 65535, too."""
    low, top = 0.0, 65535.0
    if not image.mode.startswith("I;16"):
        grey = np.asarray(image).astype(np.float32)
        finite = grey[np.isfinite(grey)]
        low, high = float(finite.min(initial=0)), float(finite.max(initial=0))
        top = next((top for top in [1] * (image.mode == "F") + [255, 65535] if high <= top), high)
        image = Image.fromarray(np.nan_to_num(grey, posinf=top, neginf=low))
    scale, image = 255 / (top - low), image if image.mode == "F" else image.convert("I")
    grey = image.point(lambda value: value * scale + (0.5 - low * scale)).convert("L")
    grey.info.pop("transparency", None)  # of 16 bits, which is no colour any more
    return grey


def _to_array(tensor: Tensor) -> np.ndarray:
    """(height, width[, channels]), with the channels where arrays have them."""
    array = (tensor.float() if tensor.is_floating_point() else tensor).detach().cpu().numpy()
    return np.moveaxis(array, 0, -1) if array.ndim == 3 and len(array) in (1, 3, 4) else array


def _from_array(array: np.ndarray) -> Image.Image:
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] not in (3, 4)) or 0 in array.shape:
        raise ValueError(f"An array picture is (height, width[, 3 or 4]), not {array.shape}.")
    if array.shape[0] * array.shape[1] > MAX_PIXELS:
        raise ValueError(TOO_LARGE)
    if array.dtype.kind == "u" and array.dtype.itemsize == 2:
        array = array // 257 + (array % 257 > 128)  # rounded
    elif array.dtype.kind == "f":
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise ValueError("An array picture of floats needs values between 0 and 1.")
        array = (array * 255).round()
    elif array.dtype == bool:
        array = array * 255
    elif array.dtype != np.uint8:
        raise ValueError(f"An array picture is of uint8, uint16, bool or float, not {array.dtype}.")
    return _to_rgb(Image.fromarray(array.astype(np.uint8)))


def prepare_image(
    source: ImageSource, preprocessing: Preprocessing, size: tuple[int, int] | None = None
) -> Tensor:
    """A picture as the model wants it, normalised: (1, 3, height, width), or (1, 1, height, width) in grey.

    Args:
        source: anything that `load_image` opens.
        preprocessing: that of the checkpoint, `vit.preprocessing`.
        size: another (height, width) in pixels; the map of patches grows with it.
    """
    if size is not None:
        check_size(size)
    image = load_image(source).convert("L" if len(preprocessing.mean) == 1 else "RGB")
    height, width = size or preprocessing.size
    tall, wide = _scaled((height, width), preprocessing.crop_share)  # before the crop
    if preprocessing.keep_shape:
        ratio = min(image.height / tall, image.width / wide)
        sides = image.height / ratio, image.width / ratio
        whole = round if preprocessing.round_crop and tall != wide else lambda side: int(side + 1e-6)
        tall, wide = map(whole, sides)
    if tall * wide > MAX_PIXELS:
        raise ValueError(f"A picture of {image.width} x {image.height} pixels is too narrow to be scaled.")
    margins = wide - width, tall - height
    left, top = (round(margin / 2) if preprocessing.round_crop else margin // 2 for margin in margins)
    image = image.resize((wide, tall), RESAMPLE[preprocessing.resample])
    image = image.crop((left, top, left + width, top + height))
    pixels = torch.from_numpy(np.array(image).reshape(height, width, -1)).permute(2, 0, 1)[None]
    return normalize(pixels, preprocessing).contiguous()


def normalize(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Pixels, 0 to 255, as the model takes them: (..., channels, height, width) to the same."""
    mean, std = torch.tensor([preprocessing.mean, preprocessing.std], device=pixels.device)[..., None, None]
    return (pixels / 255 - mean) / std


def as_seen(pixels: Tensor, preprocessing: Preprocessing) -> np.ndarray:
    """What a model is given as a picture again: (1, 3 or 1, height, width) -> (height, width, 3), bytes."""
    mean, std = torch.tensor([preprocessing.mean, preprocessing.std])[..., None, None]
    array = (pixels[0].cpu().float() * std + mean).clamp(0, 1) * 255
    return array.round().byte().expand(3, -1, -1).permute(1, 2, 0).numpy()
