"""The recipe of the shipped ViT: a plain one, trained from nothing on pictures of everyday things."""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from workbench.attention import attention_relevance, attention_rollout, record_attention
from workbench.checkpoint import load_vit, save_checkpoint
from workbench.encoder import SelfAttention
from workbench.image import Preprocessing, load_image, prepare_image
from workbench.training import loop
from workbench.training.pictures import (
    HELD_OUT,
    OTHER,
    TRAIN,
    Picture,
    Pictures,
    find_pictures,
    prepare_pictures,
    read_boxes,
    read_masks,
    read_pixels,
)
from workbench.vit import ViT, ViTConfig

DRAWS = 18  # random numbers for each picture of a batch
RESHAPED = 0.25  # share of the steps at another size and shape, so that larger maps are no surprise
LEAST_AREA = 0.3  # of a picture that a crop keeps
ERASED = 0.25  # share of the pictures with a part painted grey


# --- what is learned ---------------------------------------------------------------------------


class Batches:
    """`batch_at` of the loop: pictures drawn anew at each step, and the random numbers to change them by.

    A picture is drawn with a probability of one over the square root of its class's size, so that a class
    of four times the size is seen twice as often (arXiv:1805.00932, section 2.2).

    Args:
        pictures: those to learn from, and others.
        batch: pictures in a batch, over all processes.
        size: sides in pixels, a multiple of `patch`, of what the model sees at most steps; at the others
            each side is up to two patches longer or shorter.
        patch: side of a patch in pixels.
        seed: of all that is drawn.
        small_steps: the first steps, at which all sides are two thirds of that: less than half the work,
            and hardly worse once the last steps have got used to the full size (arXiv:1906.06423).
    """

    def __init__(
        self, pictures: Pictures, batch: int, size: int, patch: int, seed: int = 0, small_steps: int = 0
    ) -> None:
        self.pictures, self.rows = pictures, pictures.rows(TRAIN)
        self.batch, self.size, self.patch, self.seed = batch, size, patch, seed
        self.small_steps = small_steps
        targets = pictures.targets[self.rows]
        weights = np.bincount(targets)[targets] ** -0.5
        self.chances = np.cumsum(weights) / weights.sum()

    def __call__(self, step: int, process: int = 0, processes: int = 1) -> loop.Batch:
        """This process's pictures of a step. Those that are mixed are half a batch apart, so both are here
        if the batch is a multiple of twice the processes; what is drawn does not depend on these."""
        random = np.random.default_rng((self.seed, step))
        places = np.searchsorted(self.chances, random.random(self.batch)).clip(max=len(self.rows) - 1)
        rows = self.rows[places[process::processes]]
        draws = random.random((self.batch, DRAWS), dtype=np.float32)[process::processes]
        shape = np.full(2, self.size // self.patch)
        if step < self.small_steps:
            shape = (2 * shape + 1) // 3
        if random.random() < RESHAPED:
            shape = (shape + random.integers(-2, 3, size=2)).clip(min=1)
        return {
            "pixels": torch.from_numpy(self.pictures.pixels[rows]),
            "targets": torch.from_numpy(self.pictures.targets[rows]),
            "draws": torch.from_numpy(draws),
            "points": points(*(shape * self.patch).tolist()),
        }


def points(height: int, width: int) -> Tensor:
    """Where the pixels of a picture lie, x and y, -1 to 1: (height, width, 2)."""
    y, x = ((torch.arange(n) * 2 + 1) / n - 1 for n in (height, width))
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)


def _box(points: Tensor, x: Tensor, y: Tensor, share: Tensor) -> Tensor:
    """Whether points lie in a box with its centre at x, y (0 to 1) and a share of the area."""
    half = share.sqrt()
    return ((points[..., 0] - 2 * x + 1).abs() < half) & ((points[..., 1] - 2 * y + 1).abs() < half)


@torch.no_grad()
def augment(pixels: Tensor, draws: Tensor, points: Tensor) -> Tensor:
    """Crops, mirrors, turns and recolours pictures, and paints a part of some grey (arXiv:1708.04896).

    All in one resampling and a few operations on the whole batch.

    Args:
        pixels: (batch, 3, side, side) of uint8.
        draws: (batch, DRAWS), 0 to 1.
        points: (height, width, 2), where the pixels of the result lie.

    Returns:
        (batch, 3, height, width), -1 to 1.
    """
    area, shape, left, top, mirrored, turn, lean, bright, contrast, colour, erased, size, x, y = (
        draws[:, :14].T[..., None, None]
    )  # fmt: skip
    spread = 2 * torch.stack([shape, turn, lean, bright, contrast, colour]) - 1  # -1 to 1
    shape, turn, lean, bright, contrast, colour = spread
    area = LEAST_AREA + (1 - LEAST_AREA) * area
    shape = (4 / 3) ** shape
    width, height = (area * shape).sqrt().clamp(max=1), (area / shape).sqrt().clamp(max=1)
    turn, lean = 0.35 * turn**3, 0.35 * lean**3  # up to 20 degrees, but mostly little
    across, down = points.unbind(-1)
    # Element by element, not as a matrix product, which would be done in half precision.
    column = across * turn.cos() - down * (turn.sin() - lean)
    row = across * turn.sin() + down * turn.cos()
    column = (column * width + (2 * left - 1) * (1 - width)) * torch.where(mirrored < 0.5, -1.0, 1.0)
    row = row * height + (2 * top - 1) * (1 - height)
    grid = torch.stack([column, row], dim=-1)  # (batch, height, width, 2)
    pictures = F.grid_sample(pixels.float(), grid, padding_mode="reflection", align_corners=False)
    # Colour moves away from grey, light from the mean, and all of it up or down; by up to 0.3.
    bright, contrast, colour = (0.3 * each[:, None] for each in (bright, contrast, colour))
    grey = pictures.mean(1, keepdim=True)
    pictures = torch.lerp(grey, pictures, 1 + colour)
    mean = grey.mean((2, 3), keepdim=True)
    pictures = (pictures - mean) * ((1 + contrast) * (1 + bright)) + mean * (1 + bright)
    pictures = (pictures / 127.5 - 1).clamp(-1, 1)
    grey_part = _box(points, x, y, 0.02 + 0.2 * size) & (erased < ERASED)
    return pictures.masked_fill(grey_part[:, None], 0.0)


@torch.no_grad()
def own_shares(draws: Tensor, points: Tensor, probability: float) -> Tensor:
    """How much of each pixel stays when a picture is mixed with another: MixUp (arXiv:1710.09412) and
    CutMix (arXiv:1905.04899), half of the mixed pictures each. (batch, height, width), 0 to 1."""
    which, share, x, y = draws[:, 14:18].T[..., None, None]
    cut = torch.where(_box(points, x, y, 1 - share), 0.0, 1.0)
    mixed = torch.where(which < probability / 2, share.expand_as(cut), cut)
    return torch.where(which < probability, mixed, 1.0)


class PictureLosses(nn.Module):
    """Cross entropy with smoothed targets (arXiv:1512.00567, section 7) on mixed pictures; if there is a
    teacher, its classes for the same pictures are learned, too (DeiT, arXiv:2012.12877, section 3).

    Args:
        model: gives `model.logits(model(pixels)[-1])`.
        mix: probability of mixing a picture with another.
        teacher: a trained model of the same classes.
        weight: of the teacher's loss; that of the classes is one minus it.
        hard: learn the class that the teacher takes for the best, else its probabilities.
    """

    unit = "pictures"

    def __init__(
        self,
        model: nn.Module,
        mix: float = 0.5,
        teacher: nn.Module | None = None,
        weight: float = 0.5,
        hard: bool = False,
    ) -> None:
        super().__init__()
        self.model, self.mix, self.hard = model, mix, hard
        self.teacher = (teacher,) if teacher else ()  # in a tuple: neither trained nor saved along
        self.names = ("class", "teacher") if teacher else ("class",)
        self.weights = (1 - weight, weight) if teacher else (1.0,)

    def forward(
        self, pixels: Tensor, targets: Tensor, draws: Tensor, points: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What `Batches` gives -> the sums of the losses, and how many were summed; both (names,)."""
        pictures, half = augment(pixels, draws, points), len(pixels) // 2
        shares = own_shares(draws, points, self.mix)
        pictures = torch.lerp(pictures.roll(half, 0), pictures, shares[:, None])
        logits, share = self.model.logits(self.model(pictures)[-1]).float(), shares.mean((1, 2))
        both = [
            F.cross_entropy(logits, these, reduction="none", label_smoothing=0.1)
            for these in (targets, targets.roll(half, 0))
        ]
        losses = [(share * both[0] + (1 - share) * both[1]).sum()]
        for teacher in self.teacher:
            with torch.no_grad():
                taught = teacher.logits(teacher(pictures)[-1]).float()
                taught = taught.argmax(-1) if self.hard else taught.softmax(-1)
            losses.append(F.cross_entropy(logits, taught, reduction="sum"))
        return torch.stack(losses), torch.full((len(losses),), float(len(targets)), device=logits.device)

    def size(self, batch: loop.Batch) -> int:
        """Pictures in a batch."""
        return len(batch["targets"])


# --- where it starts ---------------------------------------------------------------------------


def new_vit(
    labels: Sequence[str],
    size: int = 96,
    patch: int = 8,
    layers: int = 6,
    hidden: int = 192,
    drop: float = 0.0,
) -> ViT:
    """A plain ViT with start weights that suit little data: mimetic layers, positions that are waves.

    Args:
        labels: names of the classes.
        size, patch: sides of a picture and of a patch in pixels.
        layers, hidden: sizes; a head for each 64 of the hidden size, as in the paper.
        drop: probability that the last layer is skipped; it grows from 0 at the first (arXiv:1603.09382).
    """
    if size % patch or hidden % 4 or layers < 1:
        raise ValueError(f"No ViT has {size} pixels, patches of {patch}, {layers} layers of {hidden}.")
    config = ViTConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=max(1, hidden // 64),
        intermediate_size=4 * hidden,
        image_size=(size, size),
        patch_size=patch,
    )
    vit = ViT(config, labels, Preprocessing(size=(size, size)))
    nn.init.xavier_uniform_(vit.embeddings.projection.weight)
    with torch.no_grad():
        vit.embeddings.position_embeddings.zero_()[0, 1:] = waves(*config.grid, hidden)
        for layer in vit.encoder.layers:
            start_mimetic(layer.attention)
    return drop_layers(vit, drop)


def drop_layers(vit: ViT, drop: float) -> ViT:
    """Stochastic depth (arXiv:1603.09382): the last layer is skipped with probability `drop`, 0 to 1, the
    first never, those between in even steps. Changes the model and returns it."""
    layers = vit.encoder.layers
    for index, layer in enumerate(layers):
        layer.dropout = StochasticDepth(drop * index / max(1, len(layers) - 1))
    return vit


def waves(rows: int, columns: int, hidden: int) -> Tensor:
    """Sines and cosines of the row and the column of each patch: (rows * columns, hidden)."""
    frequencies = 10_000 ** -(torch.arange(hidden // 4) * 4 / hidden)
    places = torch.cartesian_prod(torch.arange(rows), torch.arange(columns))
    angles = (places[..., None] * frequencies).flatten(1)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def start_mimetic(attention: SelfAttention) -> None:
    """Start weights with the look of trained ones (arXiv:2305.09828, section 3): for each head
    W_Q W_K^T ~ 0.7 Z + 0.7 I, for all W_V W_out ~ 0.4 Z - 0.4 I, where Z is noise."""
    hidden, heads = attention.output.in_features, attention.num_heads

    def factors(noise: float, identity: float, rank: int) -> tuple[Tensor, Tensor]:
        product = noise * torch.randn(hidden, hidden) * hidden**-0.5 + identity * torch.eye(hidden)
        left, values, right = torch.linalg.svd(product)
        root = values[:rank].sqrt()
        return left[:, :rank] * root, root[:, None] * right[:rank]

    queries, keys = zip(*(factors(0.7, 0.7, hidden // heads) for _ in range(heads)), strict=True)
    value, output = factors(0.4, -0.4, hidden)
    # A linear map holds its matrix transposed.
    attention.query_key_value.weight.copy_(torch.cat([*(query.T for query in queries), *keys, value.T]))
    attention.output.weight.copy_(output.T)


class StochasticDepth(nn.Module):
    """Takes the place of a layer's dropout: leaves out what the layer adds, for whole pictures."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, added: Tensor) -> Tensor:
        """(batch, tokens, hidden) to the same shape."""
        if not self.training:
            return added
        return added * F.dropout(added.new_ones(len(added), 1, 1), self.probability)


class ConvNet(nn.Module):
    """A small residual network (arXiv:1512.03385), only to teach: called as a ViT is.

    Args:
        labels: names of the classes.
        width: channels of the first stage; each of the other three has twice as many as the one before.
    """

    def __init__(self, labels: Sequence[str], width: int = 32) -> None:
        super().__init__()
        self.labels, self.width = tuple(labels), width
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        stem = [nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        stages = [
            nn.Sequential(Residual(before, after, 1 if index == 0 else 2), Residual(after, after))
            for index, (before, after) in enumerate(zip(widths, widths[1:], strict=False))
        ]
        self.stages = nn.Sequential(*stem, *stages, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(widths[-1], len(labels))
        self.to(memory_format=torch.channels_last)

    def forward(self, pixels: Tensor) -> tuple[Tensor]:
        """(batch, 3, height, width) -> a tuple of one, (batch, features)."""
        return (self.stages(pixels.contiguous(memory_format=torch.channels_last)),)

    def logits(self, features: Tensor) -> Tensor:
        """(batch, features) -> (batch, classes)."""
        return self.head(features)


class Residual(nn.Module):
    """Two convolutions, added to what came in."""

    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(after), nn.BatchNorm2d(after)])
        self.short = nn.Identity() if stride == 1 else nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, before, height, width) -> (batch, after, height / stride, width / stride)."""
        inner = self.norms[0](self.first(x)).relu()
        return (self.norms[1](self.second(inner)) + self.short(x)).relu()


def load_teacher(folder: Path, labels: Sequence[str]) -> ConvNet:
    """What `workbench train image --model teacher` left in a folder; `ValueError` if it has other classes."""
    file = folder / "teacher.safetensors"
    try:
        with safe_open(file, "pt") as stored:
            facts = json.loads(stored.metadata()["teacher"])
        teacher = ConvNet(facts["labels"], facts["width"])
        teacher.load_state_dict(load_file(file))
    except (OSError, SafetensorError, KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"{folder} holds no teacher: train one with --model teacher.") from error
    if teacher.labels != tuple(labels):
        raise ValueError(f"The teacher in {folder} has other classes than the pictures.")
    return teacher.eval().requires_grad_(False)


def save_teacher(teacher: ConvNet, folder: Path) -> None:
    """Writes a teacher for `load_teacher`."""
    facts = {"labels": teacher.labels, "width": teacher.width}
    tensors = {name: tensor.cpu().contiguous() for name, tensor in teacher.state_dict().items()}
    save_file(tensors, folder / "teacher.safetensors", {"teacher": json.dumps(facts)})


# --- how well it is learned --------------------------------------------------------------------


@torch.inference_mode()
def scores(model: nn.Module, pixels: np.ndarray, hidden: Tensor | None = None, half: bool = False) -> Tensor:
    """Class scores: (pictures, 3, height, width) of uint8 -> (pictures, classes), on the CPU.

    Args:
        hidden: (pictures, patches), True for patches that no token of a ViT may look at.
        half: compute in bfloat16.
    """
    found = []
    for rows, values in _batches(model, pixels):
        with torch.autocast(values.device.type, torch.bfloat16, enabled=half):
            if hidden is None:
                states = model(values)
            else:
                seen = F.pad(~hidden[rows], (model.config.num_prefix_tokens, 0), value=True)
                states = model.encoder(model.embeddings(values), seen.to(values.device))
            found.append(model.logits(states[-1]).float().cpu())
    return torch.cat(found)


def _batches(model: nn.Module, pixels: np.ndarray) -> Iterator[tuple[slice, Tensor]]:
    """Parts of the pictures, as numbers between -1 and 1 on the model's device."""
    device = next(model.parameters()).device
    for start in range(0, len(pixels), 64):
        rows = slice(start, start + 64)
        yield rows, torch.from_numpy(pixels[rows]).to(device).float() / 127.5 - 1


def class_accuracies(logits: Tensor, targets: Tensor, top_k: int = 1) -> Tensor:
    """How often a class is among the best `top_k`: (classes,), NaN for a class without pictures."""
    best = logits.topk(min(top_k, logits.shape[1]), dim=-1).indices
    right = (best == targets[:, None]).any(-1).float()
    return torch.bincount(targets, right, logits.shape[1]) / torch.bincount(
        targets, minlength=logits.shape[1]
    )


def accuracy(logits: Tensor, targets: Tensor, top_k: int = 1) -> float:
    """`class_accuracies`, mean over the classes that there are."""
    return float(class_accuracies(logits, targets, top_k).nanmean())


def calibration_error(logits: Tensor, targets: Tensor, bins: int = 15) -> float:
    """Expected calibration error (arXiv:1706.04599, equation 3)."""
    certainty, guess = logits.softmax(-1).max(-1)
    places = (certainty * bins).long().clamp(max=bins - 1)
    return float(torch.bincount(places, (guess == targets).float() - certainty).abs().sum() / len(targets))


def fit_temperature(logits: Tensor, targets: Tensor) -> float:
    """What to divide scores by for the likeliest probabilities (arXiv:1706.04599, section 4.2)."""
    return float(
        min(torch.logspace(-1, 1, 201), key=lambda choice: F.cross_entropy(logits / choice, targets))
    )


def calibrate(vit: ViT, logits: Tensor, targets: Tensor) -> float:
    """Fits a temperature on every other picture, and folds it into the head if the rest gains by it. (The
    rest is what `workbench evaluate image` takes the calibration error of.)"""
    temperature = fit_temperature(logits[::2], targets[::2])
    rest, answers = logits[1::2], targets[1::2]
    if F.cross_entropy(rest / temperature, answers) >= F.cross_entropy(rest, answers):
        return 1.0
    for parameter in vit.heads.parameters():
        parameter.data /= temperature
    return temperature


def own_shape_scores(vit: ViT, found: Sequence[Picture]) -> Tensor:
    """Class scores of pictures in their own proportions, the short side as it was learned, the long one at
    most twice that, both rounded to whole patches: (pictures, classes), on the CPU."""
    short, patch = min(vit.config.image_size), vit.config.patch_size
    rows: dict[tuple[int, int], list[int]] = {}
    images = [load_image(picture.open()) for picture in found]
    for row, image in enumerate(images):
        ratios = (min(2, side / min(image.size)) for side in (image.height, image.width))
        rows.setdefault(tuple(round(ratio * short / patch) * patch for ratio in ratios), []).append(row)
    logits = torch.empty(len(found), len(vit.labels))
    with torch.inference_mode():
        for shape, same in rows.items():
            for part in torch.tensor(same).split(64):
                values = torch.cat([prepare_image(images[row], vit.preprocessing, shape) for row in part])
                logits[part] = vit.logits(vit(values.to(vit.device))[-1]).float().cpu()
    return logits


def confusion_figure(guesses: Tensor, targets: Tensor, labels: Sequence[str]) -> Figure:
    """Which class is taken for which: a row for each true class, in percent of its pictures."""
    table = torch.bincount(targets * len(labels) + guesses, minlength=len(labels) ** 2).view(len(labels), -1)
    table = 100 * table / table.sum(1, keepdim=True).clamp(min=1)
    figure = Figure(figsize=[3 + 0.26 * len(labels)] * 2, layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(table.numpy(), cmap="Blues", vmin=0, vmax=100)
    axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=8, parse_math=False)
    axes.set_yticks(range(len(labels)), labels, fontsize=8, parse_math=False)
    axes.set(xlabel="guessed", ylabel="true", title="Held-out pictures, percent of each true class")
    for row, column in (table >= 1).nonzero().tolist():
        value = float(table[row, column])
        style = dict(color="white" if value > 55 else "black", fontsize=6, ha="center", va="center")
        axes.text(column, row, f"{value:.0f}", **style)
    return figure


# --- where it looks ----------------------------------------------------------------------------


def patch_maps(vit: ViT, pixels: np.ndarray) -> dict[str, Tensor]:
    """What the class token takes from each patch, by name: each head of the second half of the layers,
    rollout, and relevance for the best class. (pictures, 3, height, width) -> (pictures, patches) each."""
    parts: dict[str, list[Tensor]] = {}
    for _, values in _batches(vit, pixels):
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
            parts.setdefault(name, []).append(tokens[:, 0, vit.config.num_prefix_tokens :].float().cpu())
    return {name: torch.cat(each) for name, each in parts.items()}


def pointing(maps: Tensor, inside: Tensor) -> float:
    """How often the largest entry of a map is on the thing (pointing game, arXiv:1608.00507): both
    (pictures, patches), `inside` is the share of the patch that the thing covers."""
    return float((inside.gather(1, maps.argmax(-1, keepdim=True)) >= 0.5).float().mean())


def masks_on_grid(masks: Sequence[np.ndarray], grid: tuple[int, int]) -> Tensor:
    """The share of each patch that a mask (height, width) covers: (pictures, patches)."""
    squares = [F.adaptive_avg_pool2d(torch.from_numpy(mask)[None].float(), grid) for mask in masks]
    return torch.cat(squares).flatten(1)


def boxes_on_grid(boxes: Sequence[Sequence[float]], grid: tuple[int, int]) -> Tensor:
    """The share of each patch that a box (left, top, right, bottom; 0 to 1) covers: (pictures, patches)."""
    left, top, right, bottom = torch.tensor(boxes).T[..., None]

    def covered(low: Tensor, high: Tensor, count: int) -> Tensor:
        edges = torch.arange(count + 1) / count
        return (high.minimum(edges[1:]) - low.maximum(edges[:-1])).clamp(min=0) * count

    return (covered(top, bottom, grid[0])[:, :, None] * covered(left, right, grid[1])[:, None]).flatten(1)


# --- `workbench train image` and `workbench evaluate image` ------------------------------------

DATA_HELP = "the data kit; a folder or zip with a folder of pictures for each class; or a Hub set"
OPTIONS = (  # of `workbench train image`: name, default, meaning
    ("--batch", 128, "pictures in a batch"),
    ("--size", 96, "side of a picture in pixels"),
    ("--patch", 8, "side of a patch in pixels"),
    ("--layers", 6, "layers of the ViT"),
    ("--hidden", 192, "width of the ViT"),
    ("--width", 32, "channels of the teacher's first stage"),
    ("--small-steps", 0, "first steps, with sides of two thirds"),
    ("--warmup", 500, "steps with a rising learning rate"),
    ("--learning-rate", 1e-3, "the highest"),
    ("--mix", 0.5, "share of pictures that are mixed with others"),
    ("--drop", 0.1, "stochastic depth of the last layer"),
    ("--teacher-weight", 0.5, "share of the loss that the teacher gives"),
    ("--seed", 0, "of all that is drawn"),
)


def add_train_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `workbench train image`."""
    parser.add_argument("--data", required=True, help=DATA_HELP)
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for the log, the state and the checkpoint"
    )
    parser.add_argument("--model", choices=("vit", "teacher"), default="vit", help="(default: %(default)s)")
    parser.add_argument("--teacher", type=Path, help="the --out of a teacher, which is learned from, too")
    parser.add_argument("--initial", help="a ViT to go on from (default: random weights)")
    parser.add_argument("--hard", action="store_true", help="learn the teacher's best class alone")
    parser.add_argument("--hours", type=float, help="how long to train")
    parser.add_argument("--steps", type=int, help="how many steps to train")
    for name, default, meaning in OPTIONS:
        parser.add_argument(
            name, type=type(default), default=default, help=f"{meaning} (default: %(default)s)"
        )
    parser.add_argument(
        "--resume", action="store_true", help="go on where the last training in --out stopped"
    )


def train(options: argparse.Namespace) -> None:
    """`workbench train image`: trains, then writes `--out`/checkpoint (float16), or the teacher."""
    settings = loop.Settings(
        learning_rate=options.learning_rate,
        weight_decay=0.05,
        steps=options.steps,
        hours=options.hours,
        warmup=options.warmup,
        seed=options.seed,
    )
    team = loop.processes()
    if options.batch < 2 or options.batch % (2 * team.num_processes):
        raise ValueError(f"--batch has to be a multiple of {2 * team.num_processes}, not {options.batch}.")
    kept = options.out / "pictures.npz"
    if team.is_main_process and not (options.resume and kept.exists()):
        prepare_pictures(options.data, options.size).save(kept)
    team.wait_for_everyone()
    pictures = Pictures.load(kept)
    pixels, targets = pictures.held_out()
    labels = pictures.labels.tolist()
    torch.manual_seed(options.seed)  # start weights are the same in all processes
    if options.model == "teacher":
        model: nn.Module = ConvNet(labels, options.width)
    elif options.initial:
        model = drop_layers(load_vit(options.initial, device="cpu"), options.drop)
        sizes = (*model.config.image_size, model.config.patch_size)
        if model.labels != tuple(labels) or sizes != (options.size, options.size, options.patch):
            raise ValueError(f"{model.name} has other classes or another size than these pictures.")
        for parameter in model.parameters():  # rows first again, which training is faster with
            parameter.data = parameter.data.contiguous()
    else:
        model = new_vit(labels, options.size, options.patch, options.layers, options.hidden, options.drop)
    teacher = load_teacher(options.teacher, labels).to(team.device) if options.teacher else None

    def evaluate() -> dict[str, float]:
        logits = scores(model, pixels, half=loop.bfloat16_is_faster(team.device.type))
        return {f"top_{k}": accuracy(logits, targets, k) for k in (1, 5)}

    progress = loop.train(
        PictureLosses(model, options.mix, teacher, options.teacher_weight, options.hard),
        Batches(pictures, options.batch, options.size, options.patch, options.seed, options.small_steps),
        settings,
        options.out,
        resume=options.resume,
        evaluate=evaluate,
    )
    if team.is_main_process:
        if isinstance(model, ConvNet):
            save_teacher(model, options.out)
        else:
            temperature = calibrate(model, scores(model, pixels), targets)
            save_checkpoint(model, options.out / "checkpoint", torch.float16)
            print(f"The head's scores were divided by a temperature of {temperature:.2f}.")
        print(
            f"{progress.step} steps; top-1 {progress.log[-1]['top_1']:.1%}; the weights are in {options.out}."
        )


def add_evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `workbench evaluate image`."""
    parser.add_argument("--data", required=True, help=DATA_HELP)
    parser.add_argument("--checkpoint", help="a folder or a Hub id (default: the shipped one)")
    parser.add_argument("--confusion", type=Path, metavar="FILE", help="draw the confusion matrix there")
    parser.add_argument(
        "--most", type=int, default=512, help="pictures whose patches are hidden (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of these and the patches (default: %(default)s)")


def evaluate(options: argparse.Namespace) -> None:
    """`workbench evaluate image`: prints how well held-out pictures are classified, and where it looks."""
    started, vit = time.monotonic(), load_vit(options.checkpoint)
    side, grid = vit.config.image_size[0], vit.config.grid
    if vit.preprocessing != Preprocessing(size=(side, side)):
        raise ValueError(f"{vit.name} wants pictures prepared in another way than this recipe does.")
    pictures = prepare_pictures(options.data, side)
    if pictures.labels.tolist() != list(vit.labels):
        raise ValueError(f"{vit.name} has other classes than the pictures.")
    found = find_pictures(options.data)
    shown = [found[place] for place in pictures.places[pictures.rows(HELD_OUT)]]
    pixels, targets = pictures.held_out()
    logits = scores(vit, pixels)
    lines = []

    def line(what: str, measure: str, value: float, count: int = len(targets), form: str = ".1%") -> None:
        lines.append(f"{what:<40}{measure:<24}{value:>8{form}}{count:>8,}")

    line("held-out pictures, mean over classes", "top-1", accuracy(logits, targets))
    line("", "top-5", accuracy(logits, targets, 5))
    line("in their own proportions", "top-1", accuracy(own_shape_scores(vit, shown), targets))
    each = class_accuracies(logits, targets)
    for index in each.argsort()[:5].tolist():
        sources = {picture.source for picture in found if picture.label == vit.labels[index]}
        what = f"worst: {vit.labels[index]} ({', '.join(sorted(sources))})"
        line(what, "top-1", each[index], int((targets == index).sum()))
    temperature = fit_temperature(logits[::2], targets[::2])
    rest, answers = logits[1::2], targets[1::2]
    line("calibration error", "as it is", calibration_error(rest, answers), len(rest))
    line("", f"temperature {temperature:.2f}", calibration_error(rest / temperature, answers), len(rest))
    if len(others := pictures.pixels[pictures.rows(OTHER)]):
        certainty = scores(vit, others).softmax(-1).amax(-1)
        line("pictures of none of the classes", "mean certainty", certainty.mean(), len(others))
        line("", "over 90 % certain", (certainty > 0.9).float().mean(), len(others))

    names = ["rollout", "relevance"]
    if masked := read_masks(options.data):
        inside = masks_on_grid([open_mask() for _, open_mask in masked], grid)
        maps = patch_maps(vit, read_pixels([picture for picture, _ in masked], side))
        score = torch.tensor([picture.part == HELD_OUT for picture, _ in masked])
        heads = [name for name in maps if name not in names]  # the best one where it is not scored
        names.insert(0, max(heads, key=lambda name: pointing(maps[name][~score], inside[~score])))
        for name in names:
            line("pointing game", name, pointing(maps[name][score], inside[score]), int(score.sum()))
        on_thing = (inside[score] >= 0.5).float()
        line("", "a random patch", on_thing.mean(), int(score.sum()))
        centre = on_thing.unflatten(1, grid)[:, (grid[0] - 1) // 2 : grid[0] // 2 + 1]
        centre = centre[:, :, (grid[1] - 1) // 2 : grid[1] // 2 + 1]
        line("", "the picture's centre", centre.mean(), int(score.sum()))
    boxes = read_boxes(options.data)
    boxed = {
        row: boxes[name] for row, picture in enumerate(shown) if (name := Path(picture.name).stem) in boxes
    }
    if boxed:
        inside = boxes_on_grid(list(boxed.values()), grid)
        maps = patch_maps(vit, pixels[list(boxed)])
        for name in names:
            share = (maps[name] * inside).sum(1) / maps[name].sum(1) / inside.mean(1)
            line("attention in the box / its area", name, share.mean(), len(boxed), ".2f")
    rows = np.random.default_rng(options.seed).permutation(len(pixels))[: options.most]
    line("all patches seen", "top-1", accuracy(logits[rows], targets[rows]), len(rows))
    maps = patch_maps(vit, pixels[rows])
    torch.manual_seed(options.seed)
    maps["random ones"] = torch.rand_like(maps["rollout"])
    for name in (*names, "random ones"):
        hidden = maps[name].argsort(-1).argsort(-1) < round(0.3 * maps[name].shape[1])
        value = accuracy(scores(vit, pixels[rows], hidden), targets[rows])
        line("the lowest 30 % of patches hidden", name, value, len(rows))

    if options.confusion:
        confusion_figure(logits.argmax(-1), targets, vit.labels).savefig(options.confusion, dpi=150)
    print(f"\n{'what':<40}{'measure':<24}{'value':>8}{'number':>8}", *lines, sep="\n")
    print(f"{vit.name}, seed {options.seed}, {vit.device.type}, {time.monotonic() - started:.0f} seconds")
