"""Numbers about a ViT's front door: what its projection and its positions learned, and patches rearranged."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.vit import ViT, split_patches

Positions = Literal["own", "place", "none"]


def cut_size(image_size: tuple[int, int], side: int, patch_size: int) -> tuple[int, int]:
    """(height, width) for a picture of this size: about `side` x `side` pixels, in its own shape, both
    sides multiples of `patch_size`."""
    height, width = image_size
    shape = min(4.0, max(0.25, height / width)) ** 0.5  # a very narrow one is squeezed
    return tuple(max(1, round(side * part / patch_size)) * patch_size for part in (shape, 1 / shape))


def projection_steps(vit: ViT, pixel_values: Tensor, patch: int) -> dict[str, Tensor]:
    """How one patch becomes a token (ViT, equation 1).

    Args:
        pixel_values: (1, channels, height, width).
        patch: which one, row by row.

    Returns:
        "values", the flattened pixels (channels * patch_size ** 2,); then "projected", "position" and their
        sum "token", all (hidden,).
    """
    front, size = vit.embeddings, vit.config.patch_size
    values = split_patches(pixel_values, size)[0, patch]
    grid = (pixel_values.shape[-2] // size, pixel_values.shape[-1] // size)
    position = front.positions(grid)[0, vit.config.num_prefix_positions + patch]
    projected = front.projection(values)
    return {"values": values, "projected": projected, "position": position, "token": projected + position}


def filter_components(vit: ViT, count: int = 28) -> Tensor:
    """Principal components of the projection's filters (ViT, figure 7 left).

    Returns:
        (components, channels, patch_size, patch_size), the strongest first, each of length 1; fewer than
        `count` if the projection has fewer. The largest number of each is positive.
    """
    filters = vit.embeddings.projection.weight.detach().float().cpu()  # (hidden, channels * patch * patch)
    *_, directions = torch.linalg.svd(filters - filters.mean(0), full_matrices=False)
    directions = directions[:count]
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    size = vit.config.patch_size
    return (directions * largest.sign()).unflatten(1, (-1, size, size))


def position_similarity(vit: ViT, grid: tuple[int, int] | None = None) -> Tensor:
    """Cosine similarity of the position embeddings of all patches (ViT, figure 7 centre).

    Args:
        grid: patches down and across, for another size than the checkpoint's.

    Returns:
        (rows, columns, rows, columns): of the patch at the first two to that at the others.
    """
    grid = grid or vit.config.grid
    positions = vit.embeddings.positions(grid).detach()[0, vit.config.num_prefix_positions :].float().cpu()
    positions = F.normalize(positions, dim=-1)
    return (positions @ positions.T).unflatten(1, grid).unflatten(0, grid)


def rearranged(
    vit: ViT,
    pixel_values: Tensor,
    hidden: Iterable[int] = (),
    order: Sequence[int] | None = None,
    positions: Positions = "own",
) -> tuple[Tensor, Tensor]:
    """What the encoder gets when patches are hidden or shuffled: `vit.encoder(*rearranged(...))`.

    Args:
        pixel_values: (1, channels, height, width).
        hidden: patches that nobody may look at, row by row.
        order: which patch comes at each place of the sequence; None as in the picture.
        positions: "own": each patch brings the position along that it has in the picture; "place": the
            first one in sight gets the first position, and so on, whichever it is; "none": no patch has one.

    Returns:
        Embeddings (1, prefix + patches, hidden) and the mask (1, prefix + patches), 0 where hidden.

    Raises:
        ValueError: an order that is none, or a patch that is not there.
    """
    size, prefix = vit.config.patch_size, vit.config.num_prefix_tokens
    grid = (pixel_values.shape[-2] // size, pixel_values.shape[-1] // size)
    count, hidden = grid[0] * grid[1], set(hidden)
    order = list(range(count)) if order is None else list(order)
    if sorted(order) != list(range(count)):
        raise ValueError(f"An order of {count} patches holds each number from 0 to {count - 1} once.")
    if not hidden <= set(order):
        raise ValueError(f"There are patches 0 to {count - 1}; {max(hidden)} cannot be hidden.")
    front, patches = vit.embeddings(pixel_values).tensor_split([prefix], dim=1)
    learned = vit.embeddings.positions(grid)[:, vit.config.num_prefix_positions :]
    visible = torch.tensor([patch not in hidden for patch in order], device=patches.device)
    if positions != "own":
        patches = patches - learned
    patches = patches[:, order]
    if positions == "place":  # those in sight close ranks
        patches = patches + learned[:, (visible.cumsum(0) - 1).clamp(min=0)]
    mask = torch.cat([visible.new_ones(prefix), visible])
    return torch.cat([front, patches], dim=1), mask[None].long()


def class_by_layer(vit: ViT, states: Sequence[Tensor]) -> Tensor:
    """Class probabilities read from the class token after every layer: (layers + 1, classes).

    The head was trained on the last layer alone; on the others this is a lens, not a promise.
    """
    return torch.stack([vit.logits(state)[0].float().softmax(-1) for state in states])


def check_tokens(answers: Mapping[tuple[int, int, int], int | None]) -> str:
    """Checks the exercise of lesson 07: how many tokens a ViT makes of a picture.

    Args:
        answers: by (height, width, patch size) in pixels, the number of tokens with the class token;
            None for what is still to be done.

    Returns:
        A line for each: right, still to do, or a hint.
    """
    lines = []
    for (height, width, patch), given in answers.items():
        start = f"{height} x {width} in patches of {patch}: "
        if height % patch or width % patch:
            lines.append(start + f"cannot be cut without a rest; both sides must be multiples of {patch}.")
            continue
        rows, columns = height // patch, width // patch
        if given is None:
            hint = "still to do. How many patches are there down, and how many across?"
        elif given == rows * columns + 1:
            hint = f"right, {rows} x {columns} patches and the class token."
        elif given == rows * columns:
            hint = "nearly. Something stands in front of the patches."
        elif given == rows + columns or given == rows + columns + 1:
            hint = "not yet. A picture has rows and columns: multiply them."
        elif given in (height * width, height * width + 1, 3 * height * width):
            hint = "not yet. These are the pixels; a token is a whole patch."
        else:
            hint = f"not yet. Divide {height} by {patch} to get the rows."
        lines.append(start + hint)
    return "\n".join(lines)
