"""Numbers about front doors, heads and vectors: what is added up for a word or a patch, what a projection and
positions learned, patches rearranged, a head's last matrix, and one word in several sentences."""

from collections.abc import Iterable, Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.attention import record_modules
from workbench.bert import Bert
from workbench.checks import check_model, check_place, check_ready, check_text, check_whole
from workbench.encoder import MODEL_LOCK
from workbench.vit import ViT, split_patches

Positions = Literal["own", "place", "none"]


def cut_size(image_size: tuple[int, int], side: int, patch_size: int) -> tuple[int, int]:
    """(height, width) for a picture of this size: about `side` x `side` pixels, in its own shape, both
    sides multiples of `patch_size`."""
    height, width = image_size
    shape = min(4.0, max(0.25, height / width)) ** 0.5  # a very narrow one is squeezed
    return tuple(max(1, round(side * part / patch_size)) * patch_size for part in (shape, 1 / shape))


def token_names(grid: tuple[int, int], prefix_tokens: int = 1) -> list[str]:
    """What a ViT's tokens are called: class token, other prefix tokens, then patches by row and column."""
    extra = [f"extra token {number}" for number in range(1, prefix_tokens)]
    rows, columns = grid
    patches = [f"patch {row + 1}, {column + 1}" for row in range(rows) for column in range(columns)]
    return ["class token", *extra][:prefix_tokens] + patches


def _grid(vit: ViT, pixel_values: Tensor) -> tuple[int, int]:
    """Patches down and across of a picture (..., height, width)."""
    height, width = pixel_values.shape[-2:]
    return height // vit.config.patch_size, width // vit.config.patch_size


def projection_steps(vit: ViT, pixel_values: Tensor, patch: int) -> dict[str, Tensor]:
    """How one patch becomes a token (ViT, equation 1).

    `pixel_values` is (1, channels, height, width). Patches count row by row; -1 is the class token, which is
    learned and not projected, -2 the next token in front, and so on.

    Gives "values", the flattened pixels (channels * patch_size ** 2,), not for a token in front; "projected",
    "position" and their sum "token", all (hidden,).
    """
    check_model(vit, ViT)
    front, first = vit.embeddings, vit.config.num_prefix_positions
    if patch < 0:
        check_place("prefix token", -1 - patch, vit.config.num_prefix_tokens, vit.name)
        projected, steps = front.prefix_tokens[0, -1 - patch], {}
        position = (
            front.position_embeddings[0, -1 - patch] if -patch <= first else torch.zeros_like(projected)
        )
    else:
        patches = split_patches(pixel_values, vit.config.patch_size)[0]
        check_place("patch", patch, len(patches), "this picture")
        projected, steps = front.project(patches[patch]), {"values": patches[patch]}
        position = front.positions(_grid(vit, pixel_values))[0, first + patch]
    return steps | {"projected": projected, "position": position, "token": projected + position}


@torch.no_grad()
def embedding_steps(bert: Bert, token: int, **inputs: Tensor) -> dict[str, Tensor]:
    """The vectors that BERT's front door adds up for one token (BERT, figure 2).

    `inputs` are the ids that `BertEmbeddings` takes, of one text. Gives "word", "segment" (not of a
    checkpoint that knows none) and "position", their "sum", and what goes into the encoder, the sum after
    layer norm, "normed"; each (hidden,).
    """
    check_model(bert, Bert)
    front = bert.embeddings
    segment, position = front.token_type_embeddings, front.position_embeddings
    tables = {"word": front.word_embeddings, "segment": segment, "position": position}
    tables = {name: table for name, table in tables.items() if table is not None}
    with record_modules(*tables.values(), front.norm) as found:
        check_place("token", token, front(**inputs).shape[1], "this text")
    vectors = {name: found[table][1] for name, table in tables.items()}
    vectors |= dict(zip(("sum", "normed"), found[front.norm], strict=True))
    return {name: rows.flatten(0, -2)[token].float() for name, rows in vectors.items()}


@torch.no_grad()
def linear_steps(model: Bert | ViT, hidden_states: Tensor, head: str = "") -> dict[str, Tensor]:
    """The last step of a head, which is a linear map: logits = matrix @ vector + bias.

    `hidden_states` is the vector that a BERT's head (a name in `bert.heads`) reads, (1, 1, hidden), a word's
    or [CLS]'s; of a ViT, which has one head only, all: (1, tokens, hidden).

    Gives "vector" (width,), what is made of the vectors that are read: by the pooler, by the first steps of
    the masked-word head, or by a ViT's last norm; "matrix" (classes, width), "bias" and "logits", (classes,).
    Of a ViT that averages two heads, both vectors and half of both matrices side by side.
    """
    check_model(model, Bert, ViT)
    is_vit = isinstance(model, ViT)
    if not is_vit and head not in model.heads:
        model.logits(head, hidden_states)  # says which there are
    maps = list(model.heads) if is_vit else [model.heads[head]]
    maps = [getattr(module, "decoder", module) for module in maps]
    with record_modules(*maps) as found:
        logits = model.logits(hidden_states) if is_vit else model.logits(head, hidden_states)
    vectors = [found[module][0].flatten(0, -2)[0] for module in maps]
    matrices = [module.weight.detach() for module in maps]
    whole = matrices[0] if len(maps) == 1 else torch.cat(matrices, 1) / len(maps)
    bias = sum(module.bias for module in maps) / len(maps)
    return {"vector": torch.cat(vectors), "matrix": whole, "bias": bias, "logits": logits.flatten()}


def filter_components(vit: ViT, count: int = 28) -> Tensor:
    """Principal components of the projection's filters, the strongest first (ViT, figure 7 left): up to
    `count`, (components, channels, patch_size, patch_size), each of length 1, its largest number positive."""
    check_model(vit, ViT)
    check_whole("count", count)
    filters = vit.embeddings.projection.weight.detach().float().cpu()  # (hidden, channels * patch * patch)
    *_, directions = torch.linalg.svd(filters - filters.mean(0), full_matrices=False)
    directions = directions[:count]
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    size = vit.config.patch_size
    return (directions * largest.sign()).unflatten(1, (-1, size, size))


def position_similarity(vit: ViT) -> Tensor:
    """Cosine similarity of the position embeddings of all patches (ViT, figure 7 centre): (rows, columns,
    rows, columns), of the patch at the first two to that at the others."""
    check_model(vit, ViT)
    grid = vit.config.grid
    positions = vit.embeddings.positions(grid).detach()[0, vit.config.num_prefix_positions :].cpu()
    return similarity(positions).unflatten(1, grid).unflatten(0, grid)


def rearranged(
    vit: ViT,
    pixel_values: Tensor,
    hidden: Iterable[int] = (),
    order: Sequence[int] | None = None,
    positions: Positions = "own",
) -> tuple[Tensor, Tensor]:
    """What the encoder gets when patches are hidden or shuffled: `vit.encoder(*rearranged(...))`.

    Args:
        pixel_values: (batch, channels, height, width).
        hidden: patches that nobody may look at, row by row.
        order: which patch comes at each place of the sequence; None as in the picture.
        positions: "own": each patch brings the position along that it has in the picture; "place": the
            first one in sight gets the first position, and so on, whichever it is; "none": no patch has one.

    Returns embeddings (batch, prefix + patches, hidden) and the mask (1, prefix + patches), 0 where hidden.
    """
    check_model(vit, ViT)
    prefix, grid = vit.config.num_prefix_tokens, _grid(vit, pixel_values)
    count, hidden = grid[0] * grid[1], {int(patch) for patch in hidden}
    order = list(range(count)) if order is None else [int(patch) for patch in order]
    if sorted(order) != list(range(count)):
        raise ValueError(f"An order of {count} patches holds each number from 0 to {count - 1} once.")
    if not hidden <= set(order):
        raise ValueError(f"There are patches 0 to {count - 1}; {max(hidden - set(order))} cannot be hidden.")
    if positions not in get_args(Positions):
        raise ValueError(f"positions is own, place or none, not {positions!r}.")
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
    """Answers (class probabilities, or numbers) read after every layer, (layers + 1, classes): the head was
    trained on the last layer alone; on the others this is a lens, not a promise."""
    check_model(vit, ViT)
    return torch.stack([vit.answers(state)[0] for state in states])


@torch.inference_mode()
def word_vectors(bert: Bert, sentences: Sequence[str], word: str) -> Tensor:
    """The vectors of a word in each of the sentences (the mean over its pieces, where it first stands):
    (layers + 1, sentences, hidden), the embeddings first.

    Raises `ValueError` for a sentence that does not hold the word.

    Example:
        >>> word_vectors(bert, ["The bank was closed.", "The river bank."], "bank").shape  # doctest: +SKIP
        torch.Size([7, 2, 384])
    """
    check_model(bert, Bert)
    check_ready(bert)
    check_text(word, "word")
    sentences = [sentences] if isinstance(sentences, str) else list(sentences)
    if not sentences:
        raise ValueError("There is no sentence to look into.")
    found = []
    for sentence in sentences:
        check_text(sentence, "sentence")
        place = bert.tokenizer.find_word(sentence, word, ignore_case=True)
        if place is None:
            raise ValueError(f"The sentence {sentence!r} does not hold the word {word!r}.")
        encoding = bert.tokenizer.encode(sentence, max_length=bert.config.max_position_embeddings)
        pieces = [
            index
            for index, token in enumerate(encoding.tokens)
            if place.start() < token.end and token.start < place.end()  # not of [CLS] and [SEP], 0 to 0
        ]
        states = torch.stack(bert(**encoding.tensors(bert.device)))[:, 0]  # (layers + 1, tokens, hidden)
        found.append(states[:, pieces].float().mean(1).cpu())
    return torch.stack(found, dim=1)


def similarity(vectors: Tensor) -> Tensor:
    """Cosine of the angle between all pairs: (..., vectors, hidden) -> (..., vectors, vectors), -1 to 1."""
    directions = F.normalize(vectors.float(), dim=-1)
    return directions @ directions.mT


def principal_components(vectors: Tensor, count: int = 2) -> Tensor:
    """Where vectors lie along the directions in which they differ most: (..., vectors, hidden) -> (...,
    vectors, count), or fewer where there are fewer directions."""
    check_whole("count", count)
    centred = vectors.float() - vectors.float().mean(-2, keepdim=True)
    # Singular vectors have no sign of their own: the largest entry of each is made positive.
    left, sizes, _ = torch.linalg.svd(centred, full_matrices=False)
    places = (left * sizes[..., None, :])[..., :count]
    largest = places.gather(-2, places.abs().argmax(-2, keepdim=True))
    return places * torch.where(largest < 0, -1.0, 1.0)


def moving_places(vectors: Tensor, before: Tensor | None = None) -> Tensor:
    """Where vectors lie at several times, all along the two directions in which the last ones differ most:
    (times, vectors, hidden) -> (times, vectors, 2).

    `before` is what this gave for fewer times: the plane is turned so that its last places move least.
    """
    centred = vectors - vectors[-1].mean(0)
    *_, directions = torch.linalg.svd(centred[-1], full_matrices=False)
    places = centred @ F.pad(directions[:2], (0, 0, 0, max(0, 2 - len(directions)))).T
    if before is not None:
        one, _, other = torch.linalg.svd(places[len(before) - 1].T @ before[-1])
        places = places @ one @ other
    return places


@torch.inference_mode()
def patch_colors(vit: ViT, pixel_values: Tensor) -> Tensor:
    """Patches painted by their last vectors: the first three principal components as red, green and blue
    (DINOv2, figure 1). What has one colour is alike to the model; show it with `plots.picture`.

    (1, channels, height, width) -> (rows, columns, 3), each colour from 0 to 1, on the CPU.
    """
    check_model(vit, ViT)
    with MODEL_LOCK:
        vectors = vit.norm(vit(pixel_values)[-1])[0, vit.config.num_prefix_tokens :]
    colors = principal_components(vectors.cpu(), 3)  # (patches, 3)
    colors = F.pad(colors - colors.amin(0), (0, 3 - colors.shape[1]))
    return (colors / colors.amax(0).clamp(min=1e-9)).unflatten(0, _grid(vit, pixel_values))
