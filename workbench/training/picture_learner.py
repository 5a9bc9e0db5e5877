"""What a ViT learns pictures with: crops, turns and colours, start weights."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.encoder import SelfAttention, find_problem_type
from workbench.image import Preprocessing, normalize
from workbench.training.loop import Learner
from workbench.vit import ViT, ViTConfig

DRAWS = 18  # random numbers for each picture of a batch
LEAST_AREA = 0.3  # of a picture that a crop keeps
ERASED = 0.25  # share of the pictures with a part painted grey


# --- changing pictures ---------------------------------------------------------------------------


def points(height: int, width: int) -> Tensor:
    """Where the pixels of a picture lie, x and y, -1 to 1: (height, width, 2)."""
    y, x = ((torch.arange(n) * 2 + 1) / n - 1 for n in (height, width))
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)


def in_box(points: Tensor, x: Tensor, y: Tensor, share: Tensor) -> Tensor:
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
        (batch, 3, height, width), 0 to 255.
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
    grey_part = in_box(points, x, y, 0.02 + 0.2 * size) & (erased < ERASED)
    return pictures.clamp(0, 255).masked_fill(grey_part[:, None], 127.5)


# --- what is learned -----------------------------------------------------------------------------


class PictureLearner(Learner):
    """A ViT's classes, of pictures as they are or changed anew at each step."""

    names, weights, unit = ("class",), (1.0,), "pictures"

    def __init__(self, vit: ViT) -> None:
        super().__init__()
        self.vit = vit

    def answers(
        self, pixels: Tensor, targets: Tensor, states: Tensor | None = None, **changes: Tensor
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Pictures, (batch, 3, height, width) of uint8, and their classes, (batch,); `states`, (batch,
        tokens, hidden), if the last layer's are known already; `changes` that `augment` makes."""
        if states is None:
            pictures = augment(pixels, **changes) if changes else pixels
            states = self.vit(normalize(pictures, self.vit.preprocessing))[-1]
        return {"class": (self.vit.logits(states), targets)}


@torch.inference_mode()
def picture_logits(vit: ViT, pixels: Tensor) -> Tensor:
    """Class scores: (pictures, 3, height, width) of uint8 -> (pictures, classes), on the CPU."""
    logits = []
    for part in pixels.split(64):
        values = normalize(part.to(vit.device), vit.preprocessing)
        logits.append(vit.logits(vit(values)[-1]).float().cpu())
    return torch.cat(logits)


# --- where it starts -----------------------------------------------------------------------------


def new_head(vit: ViT, labels: Sequence[str]) -> ViT:
    """Puts a linear map of zeros for other classes on a ViT (ViT, section 3.2); changes and returns it."""
    config = vit.config
    size = config.representation_size or config.hidden_size
    vit.heads = nn.ModuleList(nn.Linear(size, len(labels)) for _ in range(config.num_head_tokens))
    for parameter in vit.heads.parameters():
        nn.init.zeros_(parameter)
    vit.heads.to(vit.device)
    vit.labels, vit.problem_type = tuple(labels), find_problem_type(None, len(labels))
    return vit


def new_vit(labels: Sequence[str], size: int = 96, patch: int = 8, layers: int = 6, hidden: int = 192) -> ViT:
    """A plain ViT with start weights that suit little data: mimetic layers, positions that are waves.

    Args:
        labels: names of the classes.
        size, patch: sides of a picture and of a patch in pixels.
        layers, hidden: sizes; a head for each 64 of the hidden size, as in the paper.
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
