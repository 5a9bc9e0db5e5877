"""ViT (arXiv:2010.11929): picture patches -> embeddings -> the shared encoder -> a class."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.encoder import Encoder, EncoderConfig, find_problem_type, initialize, to_answers

if TYPE_CHECKING:
    from workbench.image import Preprocessing

# How learned positions are stretched to another size of picture, by where a checkpoint comes from.
POSITION_INTERPOLATION = {
    "bicubic": dict(mode="bicubic", align_corners=False),  # HF
    "bicubic-antialias": dict(mode="bicubic", align_corners=False, antialias=True),  # timm
    "bilinear-corners": dict(mode="bilinear", align_corners=True),  # Google: order-1 zoom
}


@dataclass(frozen=True, kw_only=True)
class ViTConfig(EncoderConfig):
    """ViT's sizes; the defaults are ViT-B/16 at 224 pixels. `image_size` is (height, width)."""

    layer_norm_eps: float = 1e-6
    norm_first: bool = True
    image_size: tuple[int, int] = (224, 224)
    patch_size: int = 16
    num_channels: int = 3
    num_prefix_tokens: int = 1  # class token, then distillation or register tokens
    num_prefix_positions: int = 1  # how many of these, the first ones, have a position embedding
    num_head_tokens: int = 1  # 2 for a distilled DeiT: one classifier each, averaged
    representation_size: int | None = None  # Google's extra tanh layer before the head
    position_interpolation: str = "bicubic"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.patch_size <= min(self.image_size):
            raise ValueError(f"A picture of {self.image_size} has no patches of {self.patch_size} pixels.")
        if self.num_prefix_positions > self.num_prefix_tokens:
            raise ValueError(
                f"{self.num_prefix_positions} positions come before those of the patches, but there are "
                f"only {self.num_prefix_tokens} tokens there."
            )
        if self.position_interpolation not in POSITION_INTERPOLATION:
            known = ", ".join(POSITION_INTERPOLATION)
            raise ValueError(
                f"position_interpolation is one of {known}, not {self.position_interpolation!r}."
            )

    @property
    def grid(self) -> tuple[int, int]:
        """Patches down and across at the size that the positions were learned for."""
        return self.image_size[0] // self.patch_size, self.image_size[1] // self.patch_size


def split_patches(pixel_values: Tensor, patch_size: int) -> Tensor:
    """Cuts pictures into flattened patches, row by row (ViT, section 3.1): (batch, channels, height, width)
    -> (batch, patches, channels * patch_size ** 2).

    Raises `ValueError` for sides that are no multiples of `patch_size`.
    """
    height, width = pixel_values.shape[-2:]
    if height % patch_size or width % patch_size or not height * width:
        raise ValueError(
            f"A picture of {width} x {height} pixels cannot be cut into patches of "
            f"{patch_size} x {patch_size}: both sides must be multiples of {patch_size}."
        )
    # (batch, channels, rows, patch, columns, patch) -> (batch, rows, columns, channels, patch, patch)
    patches = pixel_values.unflatten(3, (-1, patch_size)).unflatten(2, (-1, patch_size))
    return patches.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def join_patches(patches: Tensor, grid: tuple[int, int], patch_size: int) -> Tensor:
    """Undoes `split_patches`: (batch, rows * columns, values) -> (batch, channels, height, width)."""
    pixels = patches.unflatten(2, (-1, patch_size, patch_size)).unflatten(1, grid)
    # (batch, rows, columns, channels, patch, patch) -> (batch, channels, rows, patch, columns, patch)
    return pixels.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


class PatchEmbeddings(nn.Module):
    """ViT's front door: patches -> one linear map, prefix tokens in front, positions added (equation 1)."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        rows, columns = config.grid
        positions = config.num_prefix_positions + rows * columns
        self.projection = nn.Linear(config.num_channels * config.patch_size**2, config.hidden_size)
        self.prefix_tokens = nn.Parameter(torch.empty(1, config.num_prefix_tokens, config.hidden_size))
        self.position_embeddings = nn.Parameter(torch.empty(1, positions, config.hidden_size))
        nn.init.trunc_normal_(self.prefix_tokens, std=0.02)
        nn.init.trunc_normal_(self.position_embeddings, std=0.02)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """Position embeddings for a map of any size: (1, prefix positions + rows * columns, hidden)."""
        if grid == self.config.grid:
            return self.position_embeddings
        prefix, patches = self.position_embeddings.tensor_split([self.config.num_prefix_positions], dim=1)
        # (1, rows * columns, hidden) -> (1, hidden, rows, columns), stretched, and back
        patches = patches.transpose(1, 2).unflatten(2, self.config.grid)
        options = POSITION_INTERPOLATION[self.config.position_interpolation]
        patches = F.interpolate(patches.float(), size=grid, **options).to(prefix.dtype)
        return torch.cat([prefix, patches.flatten(2).transpose(1, 2)], dim=1)

    def project(self, patches: Tensor) -> Tensor:
        """Flattened pixels, of any precision, through the linear map: (..., values) -> (..., hidden)."""
        return self.projection(patches.to(self.projection.weight.dtype))

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(batch, channels, height, width) -> (batch, prefix + patches, hidden)."""
        size = self.config.patch_size
        patches = self.project(split_patches(pixel_values, size))  # (batch, patches, hidden)
        grid = (pixel_values.shape[2] // size, pixel_values.shape[3] // size)
        # Prefix tokens without a position come after those with one: pad with zeros in between.
        with_position = self.config.num_prefix_positions
        prefix, patch_positions = self.positions(grid).tensor_split([with_position], dim=1)
        prefix = self.prefix_tokens + F.pad(prefix, (0, 0, 0, self.config.num_prefix_tokens - with_position))
        prefix = prefix.expand(len(patches), -1, -1)
        return self.dropout(torch.cat([prefix, patches + patch_positions], dim=1))


class ViT(nn.Module):
    """Patch embeddings, encoder, final norm and a linear head on the class token (equation 4).

    Args:
        labels: names of the classes; empty for a ViT without a head.
        preprocessing: goes along as `vit.preprocessing`: how a picture becomes numbers.
        problem_type: what the classes are, see `find_problem_type`; None: one of several, or a number.

    Example:
        >>> config = ViTConfig(hidden_size=8, num_attention_heads=2, image_size=(32, 32))
        >>> vit = ViT(config, labels=["cat", "dog"])
        >>> vit.logits(vit(torch.zeros(1, 3, 32, 48))[-1]).shape
        torch.Size([1, 2])
    """

    def __init__(
        self,
        config: ViTConfig,
        labels: Sequence[str] = (),
        preprocessing: "Preprocessing | None" = None,
        problem_type: str | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.labels = tuple(labels)
        self.problem_type = find_problem_type(problem_type, len(labels))
        self.preprocessing = preprocessing
        self.name = "a new ViT"
        self.embeddings = PatchEmbeddings(config)
        self.encoder = Encoder(config)
        self.norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        size = config.representation_size or config.hidden_size
        self.pre_logits = nn.Linear(config.hidden_size, size) if config.representation_size else None
        self.heads = nn.ModuleList(
            nn.Linear(size, len(labels)) for _ in range(config.num_head_tokens if labels else 0)
        )
        self.apply(initialize)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.embeddings.position_embeddings.device

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        """(batch, channels, height, width), both sides multiples of the patch size -> `num_hidden_layers + 1`
        hidden states (batch, prefix + patches, hidden), before the final norm."""
        return self.encoder(self.embeddings(pixel_values))

    def logits(self, hidden_states: Tensor) -> Tensor:
        """Class scores from one layer's output: (batch, tokens, hidden) -> (batch, classes). Raises
        `ValueError` for a checkpoint without a head."""
        if not self.heads:
            raise ValueError(f"{self.name} has no head for classes; it gives hidden states and attention.")
        tokens = self.norm(hidden_states[:, : len(self.heads)])  # (batch, head tokens, hidden)
        if self.pre_logits is not None:
            tokens = self.pre_logits(tokens).tanh()
        return sum(head(tokens[:, i]) for i, head in enumerate(self.heads)) / len(self.heads)

    def answers(self, hidden_states: Tensor) -> Tensor:
        """What these scores say, in the same shape: see `to_answers`."""
        return to_answers(self.logits(hidden_states), self.problem_type)
