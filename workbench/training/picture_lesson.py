"""A new head for a handful of pictures, in a lesson: trained alone, or together with the encoder."""

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from workbench.encoder import MODEL_LOCK
from workbench.image import ImageSource, load_image, prepare_image
from workbench.training import loop
from workbench.training.lessons import FineTuned, copy_without_heads, split_by_class, train_and_look
from workbench.training.picture_learner import DRAWS, PictureLearner, new_head, points
from workbench.training.toy_pictures import LABELS, draw_pictures
from workbench.vit import ViT

LabelledPicture = tuple[ImageSource, str]
# What a new linear map needs to get anywhere in few steps, and what a trained encoder can take.
RATES = {"frozen": 1e-2, "fine-tuned": 4e-4}
BATCH = 16
SHAPES = ("triangle", "cross")
FEWEST = 3  # pictures of each class: two to learn from, one held out


def read_folders(folder: str | Path) -> list[LabelledPicture]:
    """Pictures in folders that are named after their classes; `ValueError` if there are none."""
    kinds = Image.registered_extensions()
    files = [file for file in sorted(Path(folder).rglob("*")) if file.suffix.lower() in kinds]
    found = [file for file in files if file.parent != Path(folder) and not file.name.startswith(".")]
    if not found:
        raise ValueError(f"{folder} holds no pictures in folders named after their classes.")
    return [(load_image(file), file.parent.name) for file in found]


def draw_shapes(count: int = 48, seed: int = 0, side: int = 96) -> list[LabelledPicture]:
    """Pictures of triangles and of crosses, drawn by code, in turn; colours and textures tell nothing."""
    pixels, classes = draw_pictures(6 * count, seed, side)
    shapes = [LABELS[number].split()[-1] for number in classes.tolist()]
    images = [Image.fromarray(picture.permute(1, 2, 0).numpy()) for picture in pixels]
    drawn = {name: [i for i, shape in zip(images, shapes, strict=True) if shape == name] for name in SHAPES}
    return [(drawn[SHAPES[number % 2]][number // 2], SHAPES[number % 2]) for number in range(count)]


def contact_sheet(pictures: Sequence[LabelledPicture], most: int = 16, side: int = 72) -> Image.Image:
    """The first pictures in one, eight in a row."""
    shown = [load_image(image).resize((side, side)) for image, _ in pictures[:most]]
    sheet = Image.new("RGB", (8 * (side + 4), -(-len(shown) // 8) * (side + 4)), "white")
    for number, image in enumerate(shown):
        sheet.paste(image, (number % 8 * (side + 4), number // 8 * (side + 4)))
    return sheet


def fine_tune_pictures(
    vit: ViT,
    pictures: Sequence[LabelledPicture],
    *,
    frozen: bool = False,
    steps: int = 30,
    looks: int = 6,
    seed: int = 0,
    watch: Callable[[FineTuned], None] | None = None,
    stop: Event | None = None,
) -> FineTuned[ViT]:
    """Trains a new linear head on a copy of a ViT (ViT, section 3.2: the old head is removed).

    Args:
        pictures: with their classes; one in four is held out.
        frozen: the encoder stays as it is, and only the head learns.
        steps: how long; a step takes 16 pictures.
        looks: how often it is looked at how far it came.
        watch, stop: as of `train_and_look`.

    Raises:
        ValueError: pictures that nothing can be learned from.
    """
    if vit.preprocessing is None:
        raise ValueError(f"{vit.name} came without a preprocessing, so it cannot read pictures.")
    classes = [label for _, label in pictures]
    labels = tuple(sorted(set(classes)))
    if len(labels) < 2:
        raise ValueError(f"There is {len(labels) or 'no'} class in these pictures: at least two are needed.")
    small = min(labels, key=classes.count)
    if classes.count(small) < FEWEST:
        raise ValueError(
            f"The class {small!r} has {classes.count(small)} pictures; give each at least {FEWEST}."
        )
    train, held_out = split_by_class(classes, 4, seed)
    targets = torch.tensor([labels.index(label) for label in classes])
    images = [load_image(image) for image, _ in pictures]
    height, width = vit.preprocessing.size
    resized = [np.asarray(image.resize((width, height), Image.Resampling.BILINEAR)) for image in images]
    pixels = torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2)
    prepared = torch.cat([prepare_image(image, vit.preprocessing) for image in images])
    with MODEL_LOCK:
        fresh = new_head(copy_without_heads(vit, frozen), labels)
        fresh.name = f"{vit.name} with a new head"

    def batch_at(step: int, *_: int) -> loop.Batch:
        drawn = np.random.default_rng((seed, step))
        rows = torch.from_numpy(drawn.choice(train, BATCH))
        draws = torch.from_numpy(drawn.random((BATCH, DRAWS), dtype=np.float32))
        batch = {"pixels": pixels[rows], "targets": targets[rows], "draws": draws}
        return batch | {"points": points(height, width)}

    @torch.inference_mode()
    def answers(rows: list[int]) -> tuple[Tensor, Tensor]:
        parts = prepared[rows].to(fresh.device).split(BATCH)
        return torch.cat([fresh.logits(fresh(part)[-1]).float().cpu() for part in parts]), targets[rows]

    result = FineTuned(fresh, labels)
    train_and_look(
        result,
        PictureLearner(fresh),
        batch_at,
        [images[number] for number in held_out],
        lambda: answers(train[: 3 * BATCH]),
        lambda: answers(held_out),
        learning_rate=RATES["frozen" if frozen else "fine-tuned"],
        steps=steps,
        looks=looks,
        seed=seed,
        watch=watch,
        stop=stop,
    )
    return result
