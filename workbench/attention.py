"""Numbers about attention: record it, switch parts of it off, and sum it up over layers.

Works on `Bert` and `ViT` alike, because both hold the same encoder. Attention maps are tensors
(batch, heads, query, key): row q says how much token q takes from each token k; rows sum to one.
"""

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from numbers import Real
from typing import Literal

import torch
from torch import Tensor, nn

from workbench.bert import Bert
from workbench.checks import (
    check_maps,
    check_model,
    check_place,
    check_ready,
    check_size,
    check_tuples,
    check_whole,
)
from workbench.encoder import MODEL_LOCK, SelfAttention
from workbench.text import Encoding
from workbench.vit import ViT

Head = tuple[int, int]  # layer, head
Edge = tuple[int, int, int, int]  # layer, head, query, key


def _attention_layers(model: Bert | ViT, layers: Iterable[int] | None = None) -> dict[int, SelfAttention]:
    """The attention of some layers (None: all); raises `TypeError` or `ValueError` for what is no layer."""
    check_model(model, Bert, ViT)
    there = model.encoder.layers
    if not hasattr(layers, "__iter__") and layers is not None:
        raise TypeError(f"layers is a list of layers, such as [0, 1], not {layers!r}.")
    chosen = range(len(there)) if layers is None else list(layers)
    for layer in chosen:
        check_place("layer", layer, len(there), model.name)
    return {layer: there[layer].attention for layer in chosen}


@contextmanager
def record_attention(
    model: Bert | ViT, layers: Iterable[int] | None = None, *, keep_gradient: bool = False
) -> Iterator[dict[int, Tensor]]:
    """Records attention while the block runs; layers that are not recorded run as ever.

    Layers are counted from 0; None for all. With `keep_gradient` maps stay in the graph, so that gradients
    with respect to them can be taken.

    Yields a dict that each forward pass fills: {layer: (batch, heads, query, key)}, on the model's device,
    in float32 also for a model in half precision.

    Example:
        >>> with record_attention(bert, layers=[0]) as attention:  # doctest: +SKIP
        ...     states = bert(torch.tensor([[101, 7592, 102]]))
        >>> attention[0].shape  # doctest: +SKIP
        torch.Size([1, 12, 3, 3])
    """
    maps: dict[int, Tensor] = {}

    def store(layer: int, probabilities: Tensor) -> Tensor:
        if keep_gradient and not probabilities.requires_grad:
            probabilities.requires_grad_()
        maps[layer] = probabilities if keep_gradient else probabilities.detach()
        return probabilities

    with _watching(model, layers, store):
        yield maps


@contextmanager
def _watching(
    model: Bert | ViT,
    layers: Iterable[int] | None,
    watch: Callable[[int, Tensor], Tensor],
    first: bool = False,
) -> Iterator[None]:
    """Lets `watch` see the number of each of these layers and its maps, and return those to go on with; who
    changes maps comes first, so that whoever records sees the change."""
    watchers = [
        (layer.watchers, partial(watch, at)) for at, layer in _attention_layers(model, layers).items()
    ]
    with MODEL_LOCK:
        try:
            for among, watcher in watchers:
                among.insert(0 if first else len(among), watcher)
            yield
        finally:
            for among, watcher in watchers:
                if watcher in among:
                    among.remove(watcher)


@contextmanager
def record_modules(*modules: nn.Module) -> Iterator[dict[nn.Module, tuple[Tensor, Tensor]]]:
    """Records what goes into parts of a model and what comes out while the block runs, of their last call:
    {module: (input, output)}."""
    found: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    owner = threading.get_ident()  # a head or a front door may be run by others meanwhile

    def store(module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        if threading.get_ident() == owner:
            found[module] = given[0], output

    with MODEL_LOCK:
        hooks = [module.register_forward_hook(store) for module in modules]
        try:
            yield found
        finally:
            for hook in hooks:
                hook.remove()


@contextmanager
def ablate(model: Bert | ViT, heads: Iterable[Head] = (), edges: Iterable[Edge] = ()) -> Iterator[None]:
    """Switches off heads, or single connections, while the block runs; maps recorded meanwhile show it.

    Args:
        heads: (layer, head) pairs whose output becomes zero; `ValueError` for one that is not there.
        edges: (layer, head, query, key): this query no longer sees this key; the rest of the row is
            scaled up to one again, as if the key had been hidden by a mask.
    """
    check_model(model, Bert, ViT)
    heads = check_tuples("heads", heads, "layer, head")
    edges = check_tuples("edges", edges, "layer, head, query, key")
    for _, head, *_ in heads + edges:
        check_place("head", head, model.config.num_attention_heads, model.name)

    def change(layer: int, probabilities: Tensor) -> Tensor:
        tokens = probabilities.shape[-1]
        seen = torch.ones_like(probabilities[0], dtype=torch.bool)  # (heads, query, key)
        for head, query, key in [edge for at, *edge in edges if at == layer]:
            if not (0 <= query < tokens and 0 <= key < tokens):
                raise ValueError(f"There is no connection {query} -> {key}: the input has {tokens} tokens.")
            seen[head, query, key] = False
        left = probabilities * seen
        left = torch.where(seen.all(-1, keepdim=True), left, left / _sum(left))
        left[:, [head for at, head in heads if at == layer]] = 0
        return left

    with _watching(model, {layer for layer, *_ in heads + edges}, change, first=True):
        yield


def head_effects(model: Bert | ViT, score: Callable[[int], Tensor]) -> Iterator[tuple[int, Tensor]]:
    """What an answer loses without each single head, a layer at a time, all its heads in one pass.

    `score(copies)` runs the model on so many copies of the input and returns its answer (such as a class's
    probability) in each, (copies,). Yields the layer, and for each of its heads the answer with all heads
    minus that without it, (heads,).
    """
    count = model.config.num_attention_heads
    before = score(1)[0]

    def one_off_each(_: int, probabilities: Tensor) -> Tensor:
        probabilities = probabilities.clone()
        probabilities[range(count), range(count)] = 0  # copy number h goes without head h
        return probabilities

    for layer in range(model.config.num_hidden_layers):
        with _watching(model, [layer], one_off_each, first=True):
            yield layer, before - score(count)


def _check_states(model: Bert | ViT, hidden_states: Tensor, *tokens: int) -> None:
    wide, found = model.config.hidden_size, getattr(hidden_states, "shape", ())
    if len(found) != 3 or (found[0], found[2]) != (1, wide):
        raise ValueError(f"hidden_states are (1, tokens, {wide}), a tensor of a model.")
    for token in tokens:
        check_place("token", token, found[1], "this input")


def weight_steps(
    model: Bert | ViT, hidden_states: Tensor, layer: int, head: int, query: int, key: int
) -> dict[str, Tensor]:
    """How the weight of token `key` for token `query` comes about ("Attention Is All You Need", equation 1);
    `hidden_states` (1, tokens, hidden) is what goes into the layer: `model(...)[layer]`.

    Returns:
        The vectors "query" and "key" and their "product", each (head_size,); then numbers: "score", the sum
        of the products; "scaled" by sqrt(head_size); its "exponential"; the "total" of the exponentials of
        all keys; and "probability", the weight.
    """
    attention = _attention_layers(model, [layer])[layer]
    check_place("head", head, model.config.num_attention_heads, model.name)
    _check_states(model, hidden_states, query, key)
    norm = model.encoder.layers[layer].attention_norm
    inputs = norm(hidden_states) if model.config.norm_first else hidden_states
    vectors = attention.query_key_value(inputs)[0].unflatten(-1, (3, attention.num_heads, -1)).float()
    asked, keys = vectors[query, 0, head], vectors[:, 1, head]  # (head_size), (key, head_size)
    scores = keys @ asked
    scaled = scores / len(asked) ** 0.5
    return {
        "query": asked,
        "key": keys[key],
        "product": asked * keys[key],
        "score": scores[key],
        "scaled": scaled[key],
        "exponential": scaled[key].exp(),
        "total": scaled.exp().sum(),
        "probability": scaled.softmax(-1)[key],
    }


@torch.no_grad()
def fetched_vectors(
    model: Bert | ViT, hidden_states: Tensor, layer: int, token: int, attention_mask: Tensor | None = None
) -> dict[str, Tensor]:
    """What one token fetches in a layer: the value vector of every token, times the weight that the token
    gives it, through the output matrix ("Attention Is All You Need", section 3.2.2; how long each of these
    vectors is says more than its weight does: Kobayashi et al. 2020, arXiv:2004.10102).

    `hidden_states` (1, tokens, hidden) is what goes into the layer, `model(...)[layer]`; `attention_mask`
    (1, tokens) is 0 where a token must not be looked at. Gives "weights" (heads, tokens); "added" (tokens,
    hidden), from each token by all heads together; "bias" (hidden,), of the output matrix. All of "added" and
    "bias" sum up to what attention gives the token.
    """
    attention = _attention_layers(model, [layer])[layer]
    _check_states(model, hidden_states, token)
    mask = None if attention_mask is None else attention_mask[:, None, None, :].bool()
    with record_modules(attention.query_key_value) as vectors, record_attention(model, [layer]) as maps:
        model.encoder.layers[layer](hidden_states, mask)
    weights = maps[layer][0, :, token].float()  # (heads, key)
    values = vectors[attention.query_key_value][1][0].unflatten(-1, (3, attention.num_heads, -1))[:, 2]
    context = weights.T[..., None] * values.float()  # (key, heads, head_size)
    added = context.flatten(1) @ attention.output.weight.float().T  # (key, hidden)
    return {"weights": weights, "added": added, "bias": attention.output.bias.detach().float()}


def _sum(rows: Tensor) -> Tensor:
    """Sums over the keys, kept as an axis, and never zero, so that one may divide by them."""
    return rows.sum(-1, keepdim=True).clamp(min=torch.finfo(rows.dtype).tiny)


Maps = Mapping[int, Tensor] | Sequence[Tensor]


def _stack(attention: Maps) -> list[Tensor]:
    """Maps from the first layer to the last, whatever order a dict was filled in."""
    if not isinstance(attention, Mapping | Sequence | Tensor) or isinstance(attention, str):
        raise TypeError(f"Attention is what record_attention gave, not a {type(attention).__name__}.")
    if isinstance(attention, Mapping):
        attention = [attention[layer] for layer in sorted(attention)]
    if not len(attention):
        raise ValueError(
            "No attention was recorded: the model has to run inside `with record_attention(model)`, and for "
            "relevance inside the score, as in `lambda: vit.logits(vit(pixels)[-1])[:, 1]`."
        )
    for maps in attention:
        check_maps(maps, "batch, heads, query, key")
    if len({maps.shape[-1] for maps in attention}) > 1:
        raise ValueError("These layers have different numbers of tokens: record one forward pass at a time.")
    return list(attention)


def attention_rollout(
    attention: Maps,
    *,
    head_fusion: Literal["mean", "max", "min"] = "mean",
    discard_ratio: float = 0.0,
    prefix_tokens: int = 1,
) -> Tensor:
    """How much of each input token reaches each token of the last layer, if information only flows by
    attention and residual connections (Abnar & Zuidema 2020, arXiv:2005.00928, section 3).

    Args:
        attention: what `record_attention` gave, or a list of (batch, heads, query, key), first layer first.
        head_fusion: how heads become one map.
        discard_ratio: share of each row's smallest weights set to zero first, 0 to 1. Padding (weight
            zero) does not count, and the first `prefix_tokens` columns ([CLS], class token) are kept.

    Returns (batch, tokens, tokens); rows sum to one.
    """
    is_share = isinstance(discard_ratio, Real) and 0 <= discard_ratio <= 1
    if head_fusion not in ("mean", "max", "min") or not is_share:
        raise ValueError("head_fusion is mean, max or min; discard_ratio lies between 0 and 1.")
    check_whole("prefix_tokens", prefix_tokens, 0)
    result = None
    for heads in _stack(attention):
        heads = heads.float()
        fused = heads.mean(1) if head_fusion == "mean" else getattr(heads, f"a{head_fusion}")(1)
        if discard_ratio:
            fused = _discard(fused, discard_ratio, prefix_tokens)
        with_residual = fused + torch.eye(fused.shape[-1], device=fused.device)
        with_residual = with_residual / _sum(with_residual)
        result = with_residual if result is None else with_residual @ result
    return result


def _discard(maps: Tensor, ratio: float, prefix_tokens: int) -> Tensor:
    weights = maps[..., prefix_tokens:]
    real = (weights > 0).sum(-1, keepdim=True)
    order = weights.masked_fill(weights <= 0, torch.inf).argsort(-1).argsort(-1)  # 0 = the smallest
    kept = weights.masked_fill(order < (real * ratio).floor(), 0)
    return torch.cat([maps[..., :prefix_tokens], kept], dim=-1)


def attention_relevance(model: Bert | ViT, score: Callable[[], Tensor]) -> Tensor:
    """Which tokens speak for a score: attention weighted by its gradient, summed up over the layers
    (Chefer et al. 2021, arXiv:2103.15679, equations 5 and 6).

    `score` runs the model and returns what is to be explained, one number for each row of the batch. Gives
    (batch, tokens, tokens); row q says how much each token speaks for the score through token q.

    Example:
        >>> relevance = attention_relevance(vit, lambda: vit.logits(vit(pixels)[-1])[:, 3])  # doctest: +SKIP
    """
    check_model(model, Bert, ViT)
    if not callable(score):
        raise TypeError("score is a function that runs the model and returns what is to be explained.")
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        record_attention(model, keep_gradient=True) as attention,
    ):
        try:  # only maps need a gradient; so the input may even come from inference mode
            for parameter in learning:
                parameter.requires_grad_(False)
            total = score()
            maps = _stack(attention)
            if not getattr(total, "requires_grad", False):
                raise ValueError("score returns what the model computed: a tensor that keeps its gradient.")
            total = total.sum()
            gradients = torch.autograd.grad(total, maps, allow_unused=True)
        finally:
            for parameter in learning:
                parameter.requires_grad_(True)
    relevance = torch.eye(maps[0].shape[-1], device=total.device).expand(len(maps[0]), -1, -1)
    for layer, gradient in zip(maps, gradients, strict=True):  # same order for both: first layer first
        if gradient is not None:  # None: the score does not depend on this map
            change = (layer.detach() * gradient).relu().mean(1).float()
            relevance = relevance + change @ relevance
    return relevance


def attention_distance(
    maps: Tensor,
    *,
    grid: tuple[int, int] | None = None,
    patch_size: int = 1,
    prefix_tokens: int | None = None,
    attention_mask: Tensor | None = None,
) -> Tensor:
    """How far each head looks, on average (ViT, figure 7 right, and appendix D.7).

    Args:
        maps: (batch, heads, query, key).
        grid: (rows, columns) of patches for a picture; None for words, where it is |i - j| of tokens i and j.
        patch_size: pixels between neighbouring patches.
        prefix_tokens: how many in front have no place (class token); None is 1 with a grid, 0 for words.
        attention_mask: (batch, tokens), 0 for padding, whose rows are left out.

    Returns (batch, heads), in tokens or pixels: distances weighted by attention, averaged over the queries.
    """
    check_maps(maps, "batch, heads, query, key")
    prefix = (0 if grid is None else 1) if prefix_tokens is None else prefix_tokens
    check_whole("prefix_tokens", prefix, 0, maps.shape[-1] - 1)
    maps = maps[..., prefix:, prefix:]
    tokens = maps.shape[-1]
    if grid is None:
        places = torch.arange(tokens)[:, None]
    else:
        check_size(grid)
        places = torch.cartesian_prod(*map(torch.arange, grid)) * patch_size
    if len(places) != tokens:
        raise ValueError(f"A grid of {grid} has {len(places)} patches, but the maps have {tokens}.")
    distances = (places[:, None] - places).float().norm(dim=-1).to(maps.device)  # (query, key)
    each = (maps.float() / _sum(maps.float()) * distances).sum(-1)  # (batch, heads, query)
    return _mean_over_queries(each, attention_mask, prefix)


def _mean_over_queries(each: Tensor, attention_mask: Tensor | None, prefix: int = 0) -> Tensor:
    if attention_mask is None:
        return each.mean(-1)
    if attention_mask.shape != (len(each), each.shape[-1] + prefix):
        raise ValueError(f"attention_mask is (batch, tokens), not {tuple(attention_mask.shape)}.")
    real = attention_mask[:, None, prefix:].to(each.dtype)
    return (each * real).sum(-1) / real.sum(-1)


def attention_entropy(maps: Tensor, attention_mask: Tensor | None = None) -> Tensor:
    """How widely each head spreads its attention: the entropy of its rows in bits, 0 for a head that looks at
    one token, log2(tokens) for one that looks at all alike; (batch, heads, query, key) -> (batch, heads),
    averaged over the queries that are not padding."""
    check_maps(maps, "batch, heads, query, key")
    each = torch.special.entr(maps.float()).sum(-1) / math.log(2)
    return _mean_over_queries(each, attention_mask)


def mass_mask(weights: Tensor, mass: float) -> Tensor:
    """The fewest entries of each row that make up a share of its sum (DINO, arXiv:2104.14294, figure 4):
    (..., key) -> (..., key) of True and False."""
    if not isinstance(mass, Real) or not 0 <= mass <= 1:
        raise ValueError(f"The share of attention to show lies between 0 and 1, not {mass!r}.")
    ordered, order = weights.float().sort(dim=-1, descending=True)
    ordered = ordered / _sum(ordered)
    # An entry is needed while those before it do not reach the mass.
    needed = ordered.cumsum(-1) - ordered < mass - 1e-6
    return torch.zeros_like(needed).scatter(-1, order, needed)


def sum_over_words(weights: Tensor, words: Sequence[int]) -> Tensor:
    """Attention paid to whole words: (..., tokens) -> (..., words), summed over the pieces of each; `words`
    gives the number of each token's word."""
    if len(words) != weights.shape[-1] or min(words) < 0:
        raise ValueError(f"words holds the number of a word for each of {weights.shape[-1]} tokens.")
    index = torch.tensor(words, device=weights.device)
    empty = torch.zeros(*weights.shape[:-1], int(index.max()) + 1, device=weights.device)
    return empty.index_add(-1, index, weights.float())


def attention_patterns(maps: Tensor, tokens: Sequence[str]) -> dict[str, Tensor]:
    """How much of its attention each head spends on a simple habit (Clark et al. 2019, arXiv:1906.04341,
    section 3): the share of the rows' weight that goes there, averaged over the tokens that have such a
    place. `maps` is (..., query, key), of a text's `tokens`, [CLS] and [SEP] included; for each habit (...).
    """
    check_maps(maps)
    count = len(tokens)
    if count != maps.shape[-1]:
        raise ValueError(f"The maps are of {maps.shape[-1]} tokens, but {count} are named.")
    offset = torch.arange(count) - torch.arange(count)[:, None]  # (query, key)
    cls, sep = (torch.tensor([token == name for token in tokens]) for name in ("[CLS]", "[SEP]"))
    same = torch.tensor([[a == b for b in tokens] for a in tokens])
    places = {
        "itself": offset == 0,
        "previous token": offset == -1,
        "next token": offset == 1,
        "[CLS]": cls.expand(count, -1),
        "[SEP]": sep.expand(count, -1),
        "same word elsewhere": same & (offset != 0) & ~(cls | sep),
    }
    found = {}
    for name, where in places.items():
        rows = where.any(-1)
        shares = (maps.float() * where.to(maps.device)).sum(-1)[..., rows]
        found[name] = shares.mean(-1) if rows.any() else torch.zeros(maps.shape[:-2], device=maps.device)
    return found


@torch.inference_mode()
def habits(bert: Bert, text: str) -> dict[str, Tensor]:
    """What `attention_patterns` finds in all heads of a BERT that reads this text: (layers, heads) each, on
    the CPU."""
    check_model(bert, Bert)
    check_ready(bert)
    encoding = bert.tokenizer.encode(text, max_length=bert.config.max_position_embeddings)
    with record_attention(bert) as attention:
        bert(**encoding.tensors(bert.device))
    maps = torch.stack([attention[layer][0] for layer in sorted(attention)]).cpu()
    return attention_patterns(maps, [token.text for token in encoding.tokens])


def attention_between(maps: Tensor, encoding: Encoding) -> Tensor:
    """How attention (heads, query, key) is shared between two texts, [CLS] wherever it stands.

    Gives (heads, 3, 3): [CLS], the words of the first and those of the second text (on average) look at the
    words of the first, those of the second, and at [CLS] and [SEP]; rows sum to one.
    """
    check_maps(maps, "heads, query, key")
    special = torch.tensor([token.word is None for token in encoding.tokens])
    segment = torch.tensor([token.segment for token in encoding.tokens])
    cls = torch.tensor([token.text == "[CLS]" for token in encoding.tokens]) & special
    first, second = ~special & (segment == 0), ~special & (segment == 1)
    to = torch.stack([maps.float()[..., group].sum(-1) for group in (first, second, special)], -1)
    return torch.stack([to[:, group].mean(1) for group in (cls, first, second)], 1)


def clearest_head(maps: Tensor, queries: Tensor, keys: Tensor) -> Head:
    """The layer and head with most to show: the share of its attention that goes to `keys`, times how far
    that is from being spread evenly over them (1 - entropy / its most), averaged over `queries`.

    `maps` is (layers, heads, query, key); `queries` and `keys` are masks (tokens).
    """
    check_maps(maps, "layers, heads, query, key")
    rows = maps.float()[:, :, queries][..., keys]
    entropy = torch.special.entr(rows / _sum(rows)).sum(-1) / max(math.log(rows.shape[-1]), 1e-9)
    best = int((rows.sum(-1) * (1 - entropy)).mean(-1).argmax())
    return divmod(best, maps.shape[1])


def attention_difference(maps: Tensor, others: Tensor) -> Tensor:
    """How differently two heads look at the same tokens: the share of a row's weight that lies elsewhere
    (total variation), 0 to 1, averaged over the rows; (..., query, key) twice -> (...)."""
    check_maps(maps)
    check_maps(others)
    if maps.shape != others.shape:
        raise ValueError(f"Maps of {tuple(maps.shape)} and {tuple(others.shape)} are of other tokens.")
    return (maps.float() - others.float()).abs().sum(-1).mean(-1) / 2


def received_attention(maps: Tensor) -> Tensor:
    """How much each token is looked at: the mean of its column, over queries, heads and what is before;
    (..., query, key) -> (key), 1 / tokens where all are looked at alike."""
    check_maps(maps)
    return maps.float().flatten(0, -2).mean(0)


def outlier_patches(values: Tensor, times: float = 3.0) -> Tensor:
    """True for patches far above the others, as those that large ViTs use as registers (arXiv:2309.16588,
    section 2): `times` the median of `values` (patches), the attention that each receives or, as in the
    paper, the norm of its output vector."""
    return values > times * values.float().median()
