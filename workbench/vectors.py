"""What the encoder puts out, made visible: the vectors of one word in several sentences, layer by layer."""

import re
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.bert import Bert
from workbench.encoder import MODEL_LOCK


@torch.inference_mode()
def word_vectors(bert: Bert, sentences: Sequence[str], word: str) -> Tensor:
    """The vectors of a word in each of the sentences (the mean over its pieces, where it first stands).

    Returns:
        (layers + 1, sentences, hidden), the embeddings first.

    Raises:
        ValueError: a sentence does not hold the word.

    Example:
        >>> word_vectors(bert, ["The bank was closed.", "The river bank."], "bank").shape  # doctest: +SKIP
        torch.Size([7, 2, 384])
    """
    found = []
    for sentence in sentences:
        place = re.search(rf"\b{re.escape(word)}\b", sentence, flags=re.IGNORECASE)
        if place is None:
            raise ValueError(f"The sentence {sentence!r} does not hold the word {word!r}.")
        encoding = bert.tokenizer.encode(sentence, max_length=bert.config.max_position_embeddings)
        pieces = [
            index
            for index, token in enumerate(encoding.tokens)
            if token.word is not None and place.start() < token.end and token.start < place.end()
        ]
        with MODEL_LOCK:
            states = torch.stack(bert(**encoding.tensors(bert.device)))[:, 0]  # (layers + 1, tokens, hidden)
        found.append(states[:, pieces].mean(1).float().cpu())
    return torch.stack(found, dim=1)


def similarity(vectors: Tensor) -> Tensor:
    """Cosine of the angle between all pairs: (..., vectors, hidden) -> (..., vectors, vectors), -1 to 1."""
    directions = F.normalize(vectors.float(), dim=-1)
    return directions @ directions.mT


def two_dimensions(vectors: Tensor) -> Tensor:
    """The two directions in which vectors differ most (principal components).

    (..., vectors, hidden) -> (..., vectors, 2).
    """
    centred = vectors.float() - vectors.float().mean(-2, keepdim=True)
    # Singular vectors have no sign of their own: the largest entry of each is made positive.
    left, sizes, _ = torch.linalg.svd(centred, full_matrices=False)
    places = (left * sizes[..., None, :])[..., :2]
    largest = places.gather(-2, places.abs().argmax(-2, keepdim=True))
    return places * torch.where(largest < 0, -1.0, 1.0)
