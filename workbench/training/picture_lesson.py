"""A new head for a handful of pictures, in a lesson: trained alone, or together with the encoder."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from workbench.encoder import MODEL_LOCK
from workbench.image import ImageSource, load_image, prepare_image
from workbench.training import loop
from workbench.training.lessons import copy_without_heads, train_and_look
from workbench.training.picture_learner import DRAWS, PictureLearner, new_head, points
from workbench.training.toy_pictures import LABELS, draw_pictures
from workbench.vit import ViT

LabelledPicture = tuple[ImageSource, str]
# What a new linear map needs to get anywhere in few steps, and what a trained encoder can take.
RATES = {"frozen": 1e-2, "fine-tuned": 4e-4}
BATCH = 16
SHAPES = ("triangle", "cross")
FEWEST = 3  # pictures of each class: two to learn from, one held out


@dataclass
class PictureLesson:
    """What a training gave: `vit` with its new head; `log`, for each look the "step", "loss", "accuracy",
    "held_out_loss" and "held_out_accuracy"; and `mistakes`, held-out (picture, class, class said)."""

    vit: ViT
    log: list[dict[str, float]] = field(default_factory=list)
    mistakes: list[tuple[Image.Image, str, str]] = field(default_factory=list)


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


def split_pictures(pictures: Sequence[LabelledPicture], seed: int = 0) -> tuple[list[int], list[int]]:
    """Numbers of the pictures to learn from, and of those held out: one in four of each class.

    Raises:
        ValueError: too few pictures, or only one class.
    """
    groups: dict[str, list[int]] = {}
    for number, (_, label) in enumerate(pictures):
        groups.setdefault(label, []).append(number)
    if len(groups) < 2:
        raise ValueError(f"There is {len(groups) or 'no'} class in these pictures: at least two are needed.")
    small = min(groups, key=lambda label: len(groups[label]))
    if len(groups[small]) < FEWEST:
        count = len(groups[small])
        raise ValueError(f"The class {small!r} has {count} pictures; give each at least {FEWEST}.")
    chosen = random.Random(seed)
    held_out = {
        number for group in groups.values() for number in chosen.sample(group, max(1, len(group) // 4))
    }
    return sorted(set(range(len(pictures))) - held_out), sorted(held_out)


def fine_tune_pictures(
    vit: ViT,
    pictures: Sequence[LabelledPicture],
    *,
    frozen: bool = False,
    steps: int = 30,
    looks: int = 6,
    seed: int = 0,
    watch: Callable[[dict[str, float]], None] | None = None,
    stop: Event | None = None,
) -> PictureLesson:
    """Trains a new linear head on a copy of a ViT (ViT, section 3.2: the old head is removed).

    Args:
        pictures: with their classes; one in four is held out.
        frozen: the encoder stays as it is, and only the head learns.
        steps: how long; a step takes 16 pictures.
        looks: how often it is looked at how far it came.
        watch: is called with each line of the log.
        stop: ends the training after the step at which it is set; what was learned is kept.

    Raises:
        ValueError: pictures that nothing can be learned from.
    """
    if vit.preprocessing is None:
        raise ValueError(f"{vit.name} came without a preprocessing, so it cannot read pictures.")
    train, held_out = split_pictures(pictures, seed)
    labels = sorted({label for _, label in pictures})
    targets = torch.tensor([labels.index(label) for _, label in pictures])
    images = [load_image(image) for image, _ in pictures]
    height, width = vit.preprocessing.size
    resized = [np.asarray(image.resize((width, height), Image.Resampling.BILINEAR)) for image in images]
    pixels = torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2)
    prepared = torch.cat([prepare_image(image, vit.preprocessing) for image in images])
    with MODEL_LOCK:
        fresh = new_head(copy_without_heads(vit, frozen), labels)
        fresh.name = f"{vit.name} with a new head"
    result = PictureLesson(fresh)

    def batch_at(step: int, *_: int) -> loop.Batch:
        drawn = np.random.default_rng((seed, step))
        rows = torch.from_numpy(drawn.choice(train, BATCH))
        draws = torch.from_numpy(drawn.random((BATCH, DRAWS), dtype=np.float32))
        batch = {"pixels": pixels[rows], "targets": targets[rows], "draws": draws}
        return batch | {"points": points(height, width)}

    @torch.inference_mode()
    def logits_of(rows: list[int]) -> Tensor:
        with MODEL_LOCK:
            fresh.eval()
            parts = prepared[rows].to(fresh.device).split(BATCH)
            return torch.cat([fresh.logits(fresh(part)[-1]).float().cpu() for part in parts])

    def look(step: int) -> None:
        line: dict[str, float] = {"step": step}
        for start, rows in (("", train[: 3 * BATCH]), ("held_out_", held_out)):
            logits, right = logits_of(rows), targets[rows]
            line[f"{start}loss"] = float(F.cross_entropy(logits, right))
            line[f"{start}accuracy"] = float((logits.argmax(-1) == right).float().mean())
        result.log.append(line)
        if watch is not None:
            watch(line)

    train_and_look(
        PictureLearner(fresh),
        batch_at,
        look,
        learning_rate=RATES["frozen" if frozen else "fine-tuned"],
        steps=steps,
        looks=looks,
        seed=seed,
        stop=stop,
    )
    for number, said in zip(held_out, logits_of(held_out).argmax(-1).tolist(), strict=True):
        if said != targets[number]:
            result.mistakes.append((images[number], pictures[number][1], labels[said]))
    return result
