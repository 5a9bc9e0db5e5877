"""The Transformer encoder that BERT and ViT share.

One class for both: `norm_first` says whether layer norm stands before each block (ViT, pre-norm)
or after it (BERT, post-norm). Everything else is the same computation.

Shapes are written as comments where they change, with these names:
batch, tokens, hidden (`hidden_size`), heads (`num_attention_heads`), head_size = hidden / heads,
query and key (both run over the tokens), intermediate (`intermediate_size`).
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Notebook callbacks may run beside a running cell. An encoder that runs, and whoever changes how one runs,
# holds this lock, so that nobody records another's attention.
MODEL_LOCK = threading.RLock()

# How to switch from config.json's `hidden_act` to a function. "gelu" is the exact (erf) form.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_pytorch_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "quick_gelu": lambda x: x * (1.702 * x).sigmoid(),  # CLIP's
    "relu": F.relu,
    "tanh": torch.tanh,
}


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Sizes of an encoder; the field names are those of config.json.

    Raises `ValueError` for sizes that cannot work together.
    """

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    qkv_bias: bool = True
    norm_first: bool = False  # False: BERT (post-norm), True: ViT (pre-norm)

    def __post_init__(self) -> None:
        for name in ("hidden_size", "num_attention_heads", "intermediate_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} cannot be {getattr(self, name)}.")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} cannot be split into "
                f"{self.num_attention_heads} attention heads of equal size."
            )
        if self.hidden_act not in ACTIVATIONS:
            raise ValueError(
                f"The activation {self.hidden_act!r} is unknown; known are {', '.join(ACTIVATIONS)}."
            )


class SelfAttention(nn.Module):
    """Multi-head self-attention ("Attention Is All You Need", section 3.2).

    `watchers` is empty unless somebody looks (see `attention.py`). Each watcher is given the
    attention probabilities, (batch, heads, query, key), and returns those to go on with.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.dropout_prob = config.attention_probs_dropout_prob
        self.query_key_value = nn.Linear(config.hidden_size, 3 * config.hidden_size, config.qkv_bias)
        self.output = nn.Linear(config.hidden_size, config.hidden_size)
        self.watchers: list[Callable[[Tensor], Tensor]] = []

    def forward(self, hidden_states: Tensor, mask: Tensor | None = None) -> Tensor:
        """(batch, tokens, hidden) to the same shape; `mask` is (batch, 1, 1, key), True = may be seen."""
        dropout = self.dropout_prob if self.training else 0.0
        # (batch, tokens, 3 * hidden) -> three of (batch, heads, tokens, head_size)
        heads = self.query_key_value(hidden_states).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        if self.watchers:
            # At least in float32, as inside the fused step: rows of half precision do not sum to one.
            wide = torch.promote_types(query.dtype, torch.float32)
            query = query.to(wide) * query.shape[-1] ** -0.5
            scores = query @ key.to(wide).mT  # (batch, heads, query, key)
            if mask is not None:
                scores.masked_fill_(~mask, -torch.inf)
            probabilities = scores.softmax(-1)
            if mask is not None:  # of a row in which nothing may be seen the softmax is no number
                probabilities = probabilities.masked_fill(~mask, 0)
            for watcher in self.watchers:
                probabilities = watcher(probabilities)
            context = F.dropout(probabilities, dropout).to(value.dtype) @ value
        else:  # the same in one fused step
            context = F.scaled_dot_product_attention(query, key, value, mask, dropout)
        # (batch, heads, tokens, head_size) -> (batch, tokens, hidden)
        return self.output(context.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Two linear maps with an activation between, at each token alone (section 3.3)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.expand = nn.Linear(config.hidden_size, config.intermediate_size)
        self.activation = ACTIVATIONS[config.hidden_act]
        self.contract = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """(batch, tokens, hidden) -> (batch, tokens, intermediate) -> (batch, tokens, hidden)."""
        return self.contract(self.activation(self.expand(hidden_states)))


class EncoderLayer(nn.Module):
    """Attention, then feed-forward, each added to what came in (residual connection)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.norm_first = config.norm_first
        self.attention = SelfAttention(config)
        self.attention_norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.feed_forward = FeedForward(config)
        self.feed_forward_norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(batch, tokens, hidden) to the same shape."""
        if self.norm_first:  # ViT, equations 2 and 3
            x = x + self.dropout(self.attention(self.attention_norm(x), mask))
            return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))
        x = self.attention_norm(x + self.dropout(self.attention(x, mask)))
        return self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))


class Encoder(nn.Module):
    """A stack of layers, the same for words and for patches.

    Example:
        >>> encoder = Encoder(EncoderConfig(hidden_size=8, num_attention_heads=2, num_hidden_layers=3))
        >>> len(encoder(torch.zeros(1, 5, 8)))
        4
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.num_hidden_layers))

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None) -> tuple[Tensor, ...]:
        """`num_hidden_layers + 1` tensors (batch, tokens, hidden): the input, then each layer's output.

        `hidden_states` is what the front door made; `attention_mask` is (batch, tokens), 0 or False where a
        token must not be looked at (padding). No other encoder runs meanwhile.
        """
        mask = None if attention_mask is None else attention_mask[:, None, None, :].bool()
        states = [hidden_states]
        with MODEL_LOCK:
            for layer in self.layers:
                states.append(layer(states[-1], mask))
        return tuple(states)


# What a classifier's numbers are (config.json's `problem_type`).
PROBLEM_TYPES = ("single_label_classification", "multi_label_classification", "regression")


def find_problem_type(named: str | None, classes: int) -> str:
    """What a classifier was trained for: what is named, but one class alone is a number, unless it is said
    to be true or false (transformers' losses do the same).

    Raises `ValueError` for a name that is not in `PROBLEM_TYPES`.
    """
    if named not in (None, *PROBLEM_TYPES):
        raise ValueError(f"The problem_type {named!r} is unknown; known are {', '.join(PROBLEM_TYPES)}.")
    if classes == 1 and named != "multi_label_classification":
        return "regression"
    return named or "single_label_classification"


def to_answers(logits: Tensor, problem_type: str) -> Tensor:
    """What a classifier's logits say, in float32, (..., classes): probabilities that sum to one, those of
    each class for itself, or, for "regression", numbers as they are. Only here logits become an answer."""
    if problem_type == "regression":
        return logits.float()
    return logits.float().sigmoid() if problem_type.startswith("multi") else logits.float().softmax(-1)


def initialize(module: nn.Module, std: float = 0.02) -> None:
    """Start weights as in BERT's code: normal with `std`, cut at two deviations; biases zero.

    Use it as `model.apply(initialize)`; layer norms keep weight 1 and bias 0.
    """
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


def lay_out_for_cpu(module: nn.Module) -> None:
    """Stores the matrix of a linear map column by column: the same numbers in another order of memory.

    With few rows, as in one sentence or one picture, a CPU multiplies by it up to 15 % faster.
    Use it as `model.encoder.apply(lay_out_for_cpu)`.
    """
    if isinstance(module, nn.Linear):
        module.weight.data = module.weight.data.T.contiguous().T
