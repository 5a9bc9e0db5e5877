"""BERT (arXiv:1810.04805): word pieces -> embeddings -> the shared encoder -> heads by name."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from workbench.encoder import ACTIVATIONS, Encoder, EncoderConfig, find_problem_type, initialize, to_answers

if TYPE_CHECKING:
    from workbench.text import Tokenizer


@dataclass(frozen=True, kw_only=True)
class BertConfig(EncoderConfig):
    """BERT's sizes; the defaults are bert-base-uncased."""

    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    vocab_size: int = 30522
    max_position_embeddings: int = 512
    type_vocab_size: int = 2  # 0: no segments (DistilBERT)
    tie_word_embeddings: bool = True
    pooler_act: str = "tanh"


class BertEmbeddings(nn.Module):
    """BERT's front door: word piece + position + segment, then layer norm (figure 2 of the paper)."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = None
        if config.type_vocab_size:
            self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        input_ids: Tensor,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
    ) -> Tensor:
        """(batch, tokens) of ids -> (batch, tokens, hidden).

        Without `token_type_ids`, and if the checkpoint knows one segment only, all tokens are of the first
        segment; if it knows none, nothing is added for it. Without `position_ids` the positions are
        0, 1, 2, ... Raises `ValueError` for more tokens than there are positions.
        """
        if position_ids is None:
            count, limit = input_ids.shape[1], self.position_embeddings.num_embeddings
            if count > limit:
                raise ValueError(f"The text has {count} word pieces; this checkpoint reads {limit} at once.")
            position_ids = torch.arange(count, device=input_ids.device)
        embeddings = self.word_embeddings(input_ids)
        if self.token_type_embeddings is not None:
            if token_type_ids is None or self.token_type_embeddings.num_embeddings == 1:
                token_type_ids = torch.zeros_like(input_ids)
            embeddings = embeddings + self.token_type_embeddings(token_type_ids)
        return self.dropout(self.norm(embeddings + self.position_embeddings(position_ids)))


class Pooler(nn.Module):
    """The vector of [CLS] through a linear map and `pooler_act`, tanh in BERT and ReLU in DistilBERT:
    (batch, tokens, hidden) -> (batch, hidden)."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = ACTIVATIONS[config.pooler_act]

    def forward(self, hidden_states: Tensor) -> Tensor:
        return self.activation(self.dense(hidden_states[:, 0]))


class TallLinear(nn.Linear):
    """`nn.Linear` for far more outputs than vectors, such as 30,522 words for two masks.

    It multiplies the matrix by the vectors, not the vectors by the matrix: the same numbers, up to ten times
    sooner on a CPU.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        vectors = input.reshape(-1, self.in_features)  # (vectors, in_features)
        count = len(vectors)
        vectors = vectors.repeat(2, 1) if count == 1 else vectors  # one alone would take three times as long
        logits = (self.weight @ vectors.mT).mT[:count] + self.bias  # (vectors, out_features)
        return logits.reshape(*input.shape[:-1], self.out_features)


class MaskedWordHead(nn.Module):
    """Scores every word of the vocabulary: (..., hidden) -> (..., vocab_size); section 3.1, task 1.

    The last matrix is the table of word embeddings itself, unless `tie_word_embeddings` is off.
    """

    kind = "mlm"
    labels: tuple[str, ...] = ()
    problem_type = "single_label_classification"

    def __init__(self, config: BertConfig, word_embeddings: nn.Embedding) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = ACTIVATIONS[config.hidden_act]
        self.norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.decoder = TallLinear(config.hidden_size, config.vocab_size)
        if config.tie_word_embeddings:
            self.decoder.weight = word_embeddings.weight

    def forward(self, hidden_states: Tensor) -> Tensor:
        return self.decoder(self.norm(self.activation(self.dense(hidden_states))))


class LinearHead(nn.Linear):
    """One linear map; `kind` says which vectors it is meant for.

    "sentence": the pooled [CLS] vector (also for pairs of sentences), "word": each token's vector,
    "span": each token's vector, to two numbers, start and end of an answer (section 4.2).
    """

    def __init__(
        self, config: BertConfig, kind: str, labels: Sequence[str], problem_type: str | None = None
    ) -> None:
        super().__init__(config.hidden_size, len(labels))
        self.kind, self.labels = kind, tuple(labels)
        self.problem_type = find_problem_type(problem_type, len(labels))


class Bert(nn.Module):
    """Embeddings, encoder, pooler and any number of heads, each with a name.

    Heads of kind "sentence" need the pooler. The tokenizer goes along as `bert.tokenizer`; the model itself
    only reads ids.

    Example:
        >>> bert = Bert(BertConfig(hidden_size=8, num_attention_heads=2, num_hidden_layers=1))
        >>> bert.add_head("sentiment", "sentence", ["negative", "positive"])
        >>> hidden_states = bert(torch.tensor([[101, 7592, 102]]))
        >>> bert.logits("sentiment", hidden_states[-1]).shape
        torch.Size([1, 2])
    """

    def __init__(
        self, config: BertConfig, *, pooler: bool = True, tokenizer: "Tokenizer | None" = None
    ) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.name = "a new BERT"
        self.embeddings = BertEmbeddings(config)
        self.encoder = Encoder(config)
        self.pooler = Pooler(config) if pooler else None
        self.heads = nn.ModuleDict()
        self.apply(initialize)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.embeddings.word_embeddings.weight.device

    def add_head(
        self, name: str, kind: str, labels: Sequence[str] = (), problem_type: str | None = None
    ) -> None:
        """Adds a new, untrained head.

        Args:
            name: no dots in it, "mlm" for the kind "mlm" and no other; a head of that name is replaced.
            kind: "mlm", "sentence", "word" or "span".
            labels: the classes, in the order of the logits; not for "mlm" and "span".
            problem_type: see `find_problem_type`.

        Raises `ValueError` for an unknown kind, a name with dots, no labels, and without the pooler that a
        sentence needs.
        """
        if (kind == "mlm") != (name == "mlm"):
            raise ValueError("The name and the kind 'mlm' go together.")
        if not isinstance(name, str) or not name or "." in name:
            raise ValueError(f"A head has a name, without dots, not {name!r}.")
        if kind == "mlm":
            head = MaskedWordHead(self.config, self.embeddings.word_embeddings)
            initialize(head.dense)
            nn.init.zeros_(head.decoder.bias)
        elif kind in ("sentence", "word", "span"):
            labels = ("start", "end") if kind == "span" else labels
            if not labels:
                raise ValueError(f"A head of kind {kind!r} needs the names of its classes.")
            if kind == "sentence" and self.pooler is None:
                raise ValueError("This BERT has no pooler, which a head for sentences reads from.")
            head = LinearHead(self.config, kind, labels, problem_type)
            initialize(head)
        else:
            raise ValueError(f"Heads are of kind mlm, sentence, word or span, not {kind!r}.")
        weight = self.embeddings.word_embeddings.weight
        self.heads[name] = head.to(weight.device, weight.dtype)

    def forward(
        self,
        input_ids: Tensor,
        token_type_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """All four (batch, tokens), see `BertEmbeddings` and `Encoder`; gives `num_hidden_layers + 1` hidden
        states (batch, tokens, hidden), the embeddings first."""
        return self.encoder(self.embeddings(input_ids, token_type_ids, position_ids), attention_mask)

    def logits(self, head: str, hidden_states: Tensor) -> Tensor:
        """What a head makes of any layer's output; raises `ValueError` if the checkpoint lacks it.

        "sentence": (batch, tokens, hidden) -> (batch, classes); others: (..., hidden) -> (..., classes),
        which are `vocab_size` for "mlm".
        """
        if head not in self.heads:
            have = ", ".join(self.heads) or "none"
            raise ValueError(f"{self.name} has no head {head!r}; it has: {have}.")
        module = self.heads[head]
        return module(self.pooler(hidden_states) if module.kind == "sentence" else hidden_states)

    def answers(self, head: str, hidden_states: Tensor) -> Tensor:
        """What these logits say, in the same shape: see `to_answers`; of "span", how likely each token is
        the start and the end."""
        logits, module = self.logits(head, hidden_states), self.heads[head]
        if module.kind == "span":
            return logits.float().softmax(-2)
        return to_answers(logits, module.problem_type)
