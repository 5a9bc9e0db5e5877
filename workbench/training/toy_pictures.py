"""Pictures so plain that a tiny ViT learns them from nothing in a minute or two.

Each is drawn by code when it is needed, so that none is ever seen twice: a shape with a texture on a
background, in colours that tell nothing about the class. It learns the classes, or the colours of hidden
patches, as BERT learns masked words (ViT, section 4.6).
"""

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Categorical

from workbench.attention import record_attention
from workbench.image import normalize
from workbench.training import loop
from workbench.training.picture_learner import PictureLearner, new_vit, picture_logits
from workbench.vit import ViT, split_patches

SHAPES = ("square", "triangle", "cross")
TEXTURES = ("plain", "striped", "dotted")
LABELS = [f"{texture} {shape}" for shape in SHAPES for texture in TEXTURES]
COLORS = np.array(
    [[225, 60, 55], [250, 160, 40], [245, 225, 70], [60, 170, 80], [60, 190, 210], [50, 90, 210]]
    + [[150, 70, 190], [225, 225, 225]]
)
SIDE, PATCH = 24, 4  # of a picture and of a patch, in pixels
HIDDEN = 0.5  # share of the patches that are to be guessed (ViT, appendix B.1.2)
CODES = 512  # mean colours with 3 bits for each of red, green and blue


# --- pictures ----------------------------------------------------------------------------------


def draw_pictures(
    count: int, seed: int | tuple[int, ...] = 0, size: int = SIDE, shapes: np.ndarray | None = None
) -> tuple[Tensor, Tensor]:
    """Shapes of any place, size, turn, texture and colours; those of `shapes`, indices of `SHAPES`, or any.

    Returns:
        (count, 3, size, size) of uint8, and the class of each, an index of `LABELS`.
    """
    random = np.random.default_rng(seed)
    targets = random.integers(len(LABELS), size=count)
    if shapes is not None:
        targets = len(TEXTURES) * shapes + targets % len(TEXTURES)
    shapes, textures = np.divmod(targets[:, None, None], len(TEXTURES))
    places = (np.arange(size) + 0.5) / size * 2 - 1
    x, y, radius, turn = random.uniform(
        [-0.15, -0.15, 0.65, -0.2], [0.15, 0.15, 0.85, 0.2], size=(count, 4)
    ).T[..., None, None]
    across, down = places - x, places[:, None] - y  # (count, size, size) once they meet
    u = (across * np.cos(turn) + down * np.sin(turn)) / radius
    v = (down * np.cos(turn) - across * np.sin(turn)) / radius
    far, near = np.maximum(abs(u), abs(v)), np.minimum(abs(u), abs(v))
    inside = np.choose(
        shapes,
        [far < 0.8, (v > -0.55) & (v < 1.1 - 1.75 * abs(u)), (near < 0.3) & (far < 1)],
    )
    wave = 2 * math.pi / 0.5  # a stripe and its gap: a quarter of the picture
    u, v = u * radius * wave, v * radius * wave
    second = np.choose(textures, [u > np.inf, np.sin(u) > 0, np.sin(u) * np.sin(v) > 0.25])
    layers = np.where(inside, 1 + second, 0)  # 0 background, 1 shape, 2 texture
    colors = COLORS[random.integers(len(COLORS), size=count)][:, None] * [[0], [1], [0.25]]
    colors = colors + random.integers(20, 50, size=(count, 3, 3))
    pixels = np.take_along_axis(colors, layers.reshape(count, -1, 1), axis=1).reshape(count, size, size, 3)
    pixels = pixels + random.integers(-8, 9, size=pixels.shape)
    pixels = torch.from_numpy(pixels.clip(0, 255).astype(np.uint8))
    return pixels.permute(0, 3, 1, 2).contiguous(), torch.from_numpy(targets)


def mean_colors(pixels: Tensor, patch: int) -> Tensor:
    """The mean colour of each patch: (batch, 3, height, width), 0 to 255 -> (batch, patches, 3)."""
    return split_patches(pixels.float(), patch).unflatten(-1, (3, -1)).mean(-1)


def color_codes(colors: Tensor) -> Tensor:
    """Colours with 3 bits for each of red, green and blue: (..., 3), 0 to 255 -> (...), 0 to 511."""
    red, green, blue = (colors / 32).long().clamp(0, 7).unbind(-1)
    return red * 64 + green * 8 + blue


def code_colors(codes: Tensor) -> Tensor:
    """The middle of what has a code: (...) -> (..., 3), 0 to 255."""
    return torch.stack([codes // 64, codes // 8 % 8, codes % 8], dim=-1) * 32.0 + 16


def color_loss(count: int = 1000) -> float:
    """The loss of who only knows how often each colour occurs (the entropy of the codes, in nats)."""
    codes = color_codes(mean_colors(draw_pictures(count)[0], PATCH))
    return float(Categorical(codes.flatten().bincount() / codes.numel()).entropy())


# --- what is learned ---------------------------------------------------------------------------


def toy_vit(hidden_size: int = 64, layers: int = 3, seed: int = 0) -> ViT:
    """A new ViT for the drawn pictures."""
    torch.manual_seed(seed)
    vit = new_vit(LABELS, SIDE, PATCH, layers, hidden_size)
    vit.name = "toy ViT"
    return vit


class MaskedPatches(PictureLearner):
    """Half of the patches are chosen, and the mean colour of each is guessed (ViT, appendix B.1.2). Of these,
    80 % become a learned mask, 10 % another patch of the picture, and 10 % stay: BERT's rule."""

    names = ("patch",)

    def __init__(self, vit: ViT) -> None:
        super().__init__(vit)
        self.mask = nn.Parameter(torch.zeros(vit.config.hidden_size))
        self.head = nn.Linear(vit.config.hidden_size, CODES)

    def logits(self, pixels: Tensor, chosen: Tensor, kinds: Tensor, others: Tensor) -> Tensor:
        """Scores of the colours of all patches: (batch, patches, 512).

        Args:
            pixels: (batch, 3, height, width) of uint8.
            chosen: (batch, patches), True where a patch is to be guessed.
            kinds: (batch, patches), 0 to 1: what becomes of a chosen patch.
            others: (batch, patches), another patch to take its place.
        """
        prefix, patch = self.vit.config.num_prefix_tokens, self.vit.config.patch_size
        grid = pixels.shape[-2] // patch, pixels.shape[-1] // patch
        embedded = self.vit.embeddings(normalize(pixels, self.vit.preprocessing))
        places = self.vit.embeddings.positions(grid)[:, self.vit.config.num_prefix_positions :]
        patches = embedded[:, prefix:] - places  # a place is known, what is there is not
        swapped = patches.gather(1, others[..., None].expand_as(patches))
        masked = (chosen & (kinds < 0.8))[..., None]
        patches = torch.where((chosen & (kinds > 0.9))[..., None], swapped, patches)
        patches = torch.where(masked, self.mask.to(patches.dtype), patches)
        states = self.vit.encoder(torch.cat([embedded[:, :prefix], patches + places], dim=1))
        return self.head(self.vit.norm(states[-1][:, prefix:])).float()

    def answers(self, pixels: Tensor, chosen: Tensor, **how: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Takes what `logits` does."""
        codes = color_codes(mean_colors(pixels, self.vit.config.patch_size))
        return {"patch": (self.logits(pixels, chosen, **how)[chosen], codes[chosen])}


def hidden_batch(vit: ViT, count: int, seed: int | tuple[int, ...] = 0) -> loop.Batch:
    """Drawn pictures and which of their patches are to be guessed: what `MaskedPatches` takes."""
    pixels, _ = draw_pictures(count, seed, vit.config.image_size[0])
    random = np.random.default_rng(seed)
    patches = math.prod(vit.config.grid)
    order = random.random((count, patches)).argsort(-1)
    return {
        "pixels": pixels,
        "chosen": torch.from_numpy(order < HIDDEN * patches),
        "kinds": torch.from_numpy(random.random((count, patches), dtype=np.float32)),
        "others": torch.from_numpy(random.integers(patches, size=(count, patches))),
    }


@torch.inference_mode()
def guess_patches(learner: MaskedPatches, count: int = 4, seed: int = 12_345) -> dict[str, np.ndarray]:
    """New pictures with half of their patches masked, for `plots.picture_rows`: `pictures`, `masked` and
    `guessed`, all (count, height, width, 3) of uint8; in `guessed` a hidden patch has the colour guessed."""
    batch = hidden_batch(learner.vit, count, seed)
    batch["kinds"] = torch.zeros_like(batch["kinds"])
    device = learner.vit.device
    logits = learner.logits(**{name: part.to(device) for name, part in batch.items()}).cpu()
    pictures, hidden = batch["pixels"], enlarge(batch["chosen"][..., None], learner.vit) > 0
    guessed = enlarge(code_colors(logits.argmax(-1)), learner.vit)
    parts = {
        "pictures": pictures,
        "masked": torch.where(hidden, 128, pictures),
        "guessed": torch.where(hidden, guessed, pictures),
    }
    return {name: part.permute(0, 2, 3, 1).to(torch.uint8).numpy() for name, part in parts.items()}


def enlarge(patches: Tensor, vit: ViT) -> Tensor:
    """Each patch in one colour: (batch, patches, channels) -> (batch, channels, height, width)."""
    return F.interpolate(patches.float().mT.unflatten(2, vit.config.grid), scale_factor=vit.config.patch_size)


def shape_and_texture(vit: ViT, count: int = 500, seed: int = 2) -> dict[str, float]:
    """How often the "shape" and the "texture" of new pictures are right, each for itself."""
    pixels, targets = draw_pictures(count, seed, vit.config.image_size[0])
    said = picture_logits(vit, pixels).argmax(-1)
    parts = {"shape": lambda of: of // len(TEXTURES), "texture": lambda of: of % len(TEXTURES)}
    right = {name: (part(said) == part(targets)).float().mean() for name, part in parts.items()}
    return {name: round(float(share), 3) for name, share in right.items()}


@torch.inference_mode()
def looked_at(vit: ViT, pixels: Tensor) -> np.ndarray:
    """Pictures whose patches are the darker the less the class token looks at them in the last layer (mean
    of the heads): (count, 3, height, width) of uint8 -> (count, height, width, 3) of uint8."""
    with record_attention(vit) as attention:
        vit(normalize(pixels.to(vit.device), vit.preprocessing))
    weights = attention[len(attention) - 1].mean(1)[:, 0, vit.config.num_prefix_tokens :].float().cpu()
    light = enlarge((weights / weights.amax(-1, keepdim=True))[..., None], vit)
    return (pixels * light).permute(0, 2, 3, 1).to(torch.uint8).numpy()


# --- training ----------------------------------------------------------------------------------


def toy_training(
    learner: PictureLearner,
    folder: Path,
    *,
    steps: int = 300,
    batch: int = 48,
    learning_rate: float = 1e-3,
    seed: int = 0,
    maps: dict[str, np.ndarray] | None = None,
) -> loop.Progress:
    """Trains on pictures drawn for each step, and scores 480 others along the way.

    Args:
        maps: is filled at the end with eight of the others and, by step, what `looked_at` gives for them: for
            `plots.picture_rows`.

    Returns:
        Where it ended; `.log` holds the losses, and `accuracy` (of classes or of colours) on the others.
    """
    vit, looks = learner.vit, max(20, steps // 5)

    def draw(count: int, seed: tuple[int, int]) -> loop.Batch:
        if isinstance(learner, MaskedPatches):
            return hidden_batch(vit, count, seed)
        drawn = draw_pictures(count, seed, vit.config.image_size[0])
        return dict(zip(("pixels", "targets"), drawn, strict=True))

    held_out = draw(480, (seed, 2**40))  # no step has this number
    pixels = held_out["pixels"]

    def batch_at(step: int, process: int = 0, processes: int = 1) -> loop.Batch:
        return {name: part[process::processes] for name, part in draw(batch, (seed, step)).items()}

    looked = [looked_at(vit, pixels[:8])]

    def evaluate() -> dict[str, float]:
        looked.append(looked_at(vit, pixels[:8]))
        _, said, right = loop.score(learner, [held_out])
        return {"accuracy": float((said == right).float().mean())}

    settings = loop.Settings(
        learning_rate=learning_rate,
        steps=steps,
        warmup=30,
        weight_decay=0.05,
        save_every=looks,
        log_every=10,
        seed=seed,
    )
    progress = loop.train(learner, batch_at, settings, folder, evaluate=evaluate)
    if maps is not None:
        maps["new pictures"] = pixels[:8].permute(0, 2, 3, 1).numpy()
        seen = [0, *(line["step"] for line in progress.log if "accuracy" in line)]
        maps |= {f"step {step}": each for step, each in zip(seen, looked, strict=True)}
    return progress
