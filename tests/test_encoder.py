"""The shared encoder: sizes, both norm orders, masks, and the two ways to compute attention."""

from typing import Any

import pytest
import torch
from tiny import close
from torch import nn

from workbench.encoder import (
    ACTIVATIONS,
    Encoder,
    EncoderConfig,
    SelfAttention,
    initialize,
    lay_out_for_cpu,
)

SIZES = dict(hidden_size=12, num_hidden_layers=3, num_attention_heads=3, intermediate_size=17)


def encoder(**changes: Any) -> Encoder:
    model = Encoder(EncoderConfig(**SIZES | changes)).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_it_is_the_encoder_of_torch(norm_first: bool, activation: str) -> None:
    """`nn.TransformerEncoderLayer` has both norm orders, too."""
    ours = encoder(norm_first=norm_first, hidden_act=activation)
    theirs = nn.TransformerEncoderLayer(
        12, 3, 17, 0.0, activation, layer_norm_eps=1e-12, batch_first=True, norm_first=norm_first
    )
    x = torch.randn(2, 5, 12)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]).bool()
    for index, state in enumerate(ours(x, mask)[1:]):
        layer = ours.layers[index]
        pairs = {
            "self_attn.in_proj_": layer.attention.query_key_value,
            "self_attn.out_proj.": layer.attention.output,
            "linear1.": layer.feed_forward.expand,
            "linear2.": layer.feed_forward.contract,
            "norm1.": layer.attention_norm,
            "norm2.": layer.feed_forward_norm,
        }
        weights = {
            f"{name}{part}": getattr(m, part) for name, m in pairs.items() for part in ("weight", "bias")
        }
        theirs.load_state_dict(weights)
        x = theirs.train()(x, src_key_padding_mask=~mask)  # in training it takes no shortcut
        close(state[mask], x[mask], 1e-4)
        x = state


def test_states_are_the_input_and_each_layers_output() -> None:
    model, x = encoder(), torch.randn(2, 5, 12)
    states = model(x)
    assert len(states) == 4
    assert states[0] is x
    assert torch.equal(states[2], model.layers[1](states[1]))


@pytest.mark.parametrize("mask", [None, [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]])
def test_watched_and_unwatched_agree(mask: list | None) -> None:
    model, x = encoder(), torch.randn(2, 5, 12)
    mask = None if mask is None else torch.tensor(mask)
    plain = model(x, mask)
    seen = []

    def watch(probabilities: torch.Tensor) -> torch.Tensor:
        seen.append(probabilities)
        return probabilities

    model.layers[1].attention.watchers.append(watch)
    for watched, unwatched in zip(model(x, mask), plain, strict=True):
        close(watched, unwatched)
    assert [maps.shape for maps in seen] == [(2, 3, 5, 5)]
    close(seen[0].sum(-1), torch.ones(2, 3, 5))
    if mask is not None:
        assert (seen[0][1, :, :, 2:] == 0).all()


def test_what_a_watcher_returns_is_used() -> None:
    model, x = encoder(), torch.randn(1, 5, 12)
    attention = model.layers[0].attention
    attention.watchers.append(torch.zeros_like)
    close(attention(x), attention.output.bias.expand(1, 5, 12))


def test_dropout_only_in_training() -> None:
    model = encoder(hidden_dropout_prob=0.5, attention_probs_dropout_prob=0.5)
    x = torch.randn(1, 5, 12)
    assert torch.equal(model(x)[-1], model(x)[-1])
    model.train()
    assert not torch.equal(model(x)[-1], model(x)[-1])


def test_no_bias_for_queries_keys_and_values() -> None:
    attention = SelfAttention(EncoderConfig(**SIZES, qkv_bias=False))
    assert attention.query_key_value.bias is None
    assert attention.output.bias is not None


def test_gelu_has_two_forms() -> None:
    x = torch.tensor([-2.0, -1.0, 0.5, 3.0])
    close(ACTIVATIONS["gelu"](x), x * 0.5 * (1 + torch.erf(x / 2**0.5)), 1e-6)
    tanh = 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3)))
    close(ACTIVATIONS["gelu_new"](x), tanh, 1e-6)
    close(ACTIVATIONS["gelu_pytorch_tanh"](x), tanh, 1e-6)
    assert (ACTIVATIONS["gelu"](x) - tanh).abs().max() > 1e-5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_attention_heads": 5}, "cannot be split into 5"),
        ({"num_attention_heads": 0}, "cannot be 0"),
        ({"hidden_size": -12}, "hidden_size cannot be -12"),
        ({"hidden_act": "swish"}, "'swish' is unknown; known are gelu"),
    ],
)
def test_sizes_that_do_not_fit_are_one_sentence(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EncoderConfig(**SIZES | changes)


def test_start_weights() -> None:
    layer = nn.Linear(400, 400)
    initialize(layer)
    assert layer.bias.abs().max() == 0
    assert 0.016 < layer.weight.std() < 0.02  # cut at two deviations
    assert layer.weight.abs().max() <= 0.04


def test_the_layout_for_a_cpu_changes_no_number() -> None:
    model = encoder()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    x = torch.randn(2, 5, 12)
    expected = model(x)[-1]
    model.apply(lay_out_for_cpu)
    torch.testing.assert_close(model(x)[-1], expected)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    model(x)[-1].sum().backward()
    weight = model.layers[0].feed_forward.expand.weight
    assert weight.grad.shape == weight.shape and weight.stride() == (1, weight.shape[0])
