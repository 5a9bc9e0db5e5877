"""Reasons: which words mattered, and whether hiding what a map marks does what it says."""

import pytest
import torch
from tiny import patch_vit, sentence_bert

import workbench as wb
from workbench.attention import attention_relevance
from workbench.explain import (
    Faithfulness,
    delete_and_insert,
    gradient_relevance,
    head_answers,
    hide_patches,
    hiding_steps,
    leave_one_out,
)
from workbench.patches import rearranged
from workbench.vit import ViT, ViTConfig

TEXT = "The unplayful cat sat, the dog ran."


@pytest.fixture
def bert():
    return sentence_bert()


@pytest.fixture
def vit() -> ViT:
    return patch_vit()


# --- which words mattered


def test_words_hold_all_their_pieces(bert):
    words = bert.tokenizer.encode(TEXT).words
    assert [TEXT[word.start : word.end] for word in words if not word.special] == (
        ["The", "unplayful", "cat", "sat", ",", "the", "dog", "ran", "."]
    )
    assert words[2].pieces == ("un", "##play", "##ful") and words[2].tokens == range(2, 5)
    assert words[0].special and words[-1].special


def test_leaving_out_in_one_pass_is_leaving_out_one_by_one(bert):
    encoding = bert.tokenizer.encode(TEXT)
    every = [n for n, word in enumerate(encoding.words) if not word.special]
    falls = leave_one_out(bert, "sentiment", encoding, 2, every)
    full = {c.label: c.probability for c in wb.classify_sentence(bert, TEXT)}["positive"]
    for number, fall in zip(every, falls.tolist(), strict=True):
        alone = head_answers(bert, "sentiment", encoding, [[number]])[0, 2].item()
        assert fall == pytest.approx(full - alone, abs=1e-5)
    assert falls.abs().max() > 1e-3


def test_a_hidden_word_cannot_matter(bert):
    """Whatever stands behind a hidden word, the answer is the same."""
    one, other = (bert.tokenizer.encode(f"The cat {word} .") for word in ("sat", "ran"))
    hidden = [head_answers(bert, "sentiment", text, [[3]]) for text in (one, other)]
    torch.testing.assert_close(*hidden)
    shown = [head_answers(bert, "sentiment", text) for text in (one, other)]
    assert (shown[0] - shown[1]).abs().max() > 1e-3


def test_relevance_is_shares_of_words(bert):
    encoding = bert.tokenizer.encode(TEXT)
    shares = gradient_relevance(bert, "sentiment", encoding, 1)
    assert shares.sum().item() == pytest.approx(1, abs=1e-5) and (shares >= 0).all()
    assert shares[0] == shares[-1] == 0, "[CLS] and [SEP] are no words"
    assert gradient_relevance(bert, "sentiment", encoding, 1, hidden=[3])[3] == 0
    assert not torch.equal(shares, gradient_relevance(bert, "sentiment", encoding, 0))
    inputs = encoding.tensors()
    row = attention_relevance(bert, lambda: bert.logits("sentiment", bert(**inputs)[-1])[:, 1])[0, 0]
    own = row[2:5].sum() / row[1:-1].sum()  # un, ##play and ##ful
    assert float(shares[2]) == pytest.approx(float(own), rel=1e-4)


@pytest.mark.parametrize("other", ["playplayful", "uningful", "unplaying"])
def test_a_hidden_word_is_hidden_with_all_its_pieces(bert, other):
    texts = [bert.tokenizer.encode(f"The {word} cat sat.") for word in ("unplayful", other)]
    hidden = [head_answers(bert, "sentiment", text, [[2]]) for text in texts]
    torch.testing.assert_close(*hidden)


# --- is a map true?


def test_hidden_patches_are_seen_by_nobody(vit: ViT) -> None:
    """Left out, they are as behind a mask; of each picture of a batch others may be."""
    pixels, hidden = torch.randn(1, 3, 32, 48), torch.zeros(2, 24, dtype=torch.bool)
    hidden[0, 5:9] = hidden[1, [0, 3, 20, 23]] = True
    other = pixels.clone()
    other[:, :, :8, 40:] = 3.0  # patch 5
    other[:, :, 8:16, :24] = -3.0  # patches 6 to 8
    with torch.inference_mode():
        one, two = hide_patches(vit, pixels, hidden), hide_patches(vit, other, hidden)
        assert one.shape[1] == vit.config.num_prefix_tokens + 20
        torch.testing.assert_close(hide_patches(vit, pixels, hidden < 0), vit(pixels)[-1].expand(2, -1, -1))
        for row, state in zip(hidden, one, strict=True):
            tokens, mask = rearranged(vit, pixels, row.nonzero()[:, 0].tolist())
            masked = vit.encoder(tokens, mask)[-1][0, mask[0].bool()]
            torch.testing.assert_close(state, masked, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(one[0], two[0], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(one[1, 0], two[1, 0], atol=1e-3)


def test_areas_and_steps_by_hand() -> None:
    shares = torch.tensor([0, 0.5, 1])
    curves = torch.tensor([[1.0, 0.5, 0.0], [1.0, 0.0, 0.0], [0.5, 0.5, 0.5]])
    found = Faithfulness(shares, *curves[:2], curves)
    assert [found.deletion_area, found.insertion_area] == pytest.approx([0.5, 0.25])
    assert found.random_areas.tolist() == pytest.approx([0.5, 0.25, 0.5])
    assert hiding_steps(torch.tensor([2, 0, 3, 1]), 2).int().tolist() == [
        [0, 0, 0, 0],
        [1, 0, 1, 0],
        [1, 1, 1, 1],
    ]


def test_where_rounding_meets_a_half() -> None:
    """0, 1.5, 3, 4.5 ... patches: halves go to the even number, as Python's round() has them."""
    hidden = hiding_steps(torch.arange(24), 16)
    assert hidden.sum(-1).tolist() == [0, 2, 3, 4, 6, 8, 9, 10, 12, 14, 15, 16, 18, 20, 21, 22, 24]


def test_as_many_are_uncovered_as_are_hidden(vit: ViT) -> None:
    """Half of 9 patches are 4, and the strongest 4 in both tests."""
    pixels, weights = torch.randn(1, 3, 24, 24), torch.tensor([3.0, 9, 1, 8, 2, 7, 5, 4, 6])
    found = delete_and_insert(vit, pixels, weights, 1, steps=2, random_orders=5)
    assert found.shares.tolist() == pytest.approx([0, 4 / 9, 1])
    strongest = torch.zeros(1, 9, dtype=torch.bool)
    strongest[0, [1, 3, 5, 8]] = True
    for curve, hidden in ((found.deletion, strongest), (found.insertion, ~strongest)):
        known = vit.logits(hide_patches(vit, pixels, hidden)).softmax(-1)[0, 1].detach()
        assert float(curve[1]) == pytest.approx(float(known), abs=1e-5)


def test_all_orders_begin_and_end_alike(vit: ViT) -> None:
    pixels = torch.randn(1, 3, 32, 48)
    told: list[float] = []
    weights = torch.rand(24, generator=torch.Generator().manual_seed(1))
    found = delete_and_insert(vit, pixels, weights, 2, random_orders=4, progress=told.append)
    assert told == sorted(told) and told[-1] == 1 and found.random.shape == (4, 13)
    with torch.inference_mode():
        full = vit.logits(vit(pixels)[-1]).softmax(-1)[0, 2]
    for curve in (found.deletion, found.insertion.flip(0), *found.random):
        assert float(curve[0]) == pytest.approx(float(full), abs=1e-5)
        assert float(curve[-1]) == pytest.approx(float(found.deletion[-1]), abs=1e-5)
    again = delete_and_insert(vit, pixels, weights, 2, random_orders=4)
    torch.testing.assert_close(found.random, again.random)
    seen: list[int] = []
    vit.encoder.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    known = delete_and_insert(vit, pixels, weights, 2, random=found.random)
    assert sum(seen) == 2 * 13 - 2 and known.random is found.random, "two orders; nothing and all hidden once"
    torch.testing.assert_close(known.deletion, found.deletion, atol=1e-5, rtol=1e-4)
    opposite = delete_and_insert(vit, pixels, -weights, 2, random_orders=1)
    torch.testing.assert_close(found.deletion, opposite.insertion.flip(0), atol=1e-5, rtol=1e-4)
    for wrong in (dict(weights=weights[1:]), dict(target=5), dict(steps=0), dict(random=torch.ones(2, 3))):
        with pytest.raises(ValueError, match="weights|class|step|answers"):
            delete_and_insert(vit, pixels, **dict(weights=weights, target=2) | wrong)


def test_a_map_that_is_true_beats_random_and_a_false_one_does_not() -> None:
    """A ViT made by hand: the class token adds up what it sees, and bright patches speak for class 1."""
    config = ViTConfig(
        hidden_size=4,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=4,
        image_size=(32, 32),
        patch_size=8,
    )
    vit = ViT(config, ["dark", "bright"]).eval()
    with torch.no_grad():
        for name, parameter in vit.named_parameters():
            if "norm" not in name:
                parameter.zero_()
        bright = torch.tensor([1.0, -1, 0, 0])
        vit.embeddings.projection.weight.copy_((bright / 64)[:, None].expand(4, 192))
        vit.embeddings.prefix_tokens.copy_(torch.tensor([0.0, 0, 4, -4]))
        layer = vit.encoder.layers[0].attention  # equal attention to all that is seen
        layer.query_key_value.weight[8:].copy_(torch.eye(4))
        layer.output.weight.copy_(torch.eye(4))
        vit.heads[0].weight[1].copy_(3 * bright)
    pixels = torch.zeros(1, 3, 32, 32)
    pixels[..., 8:24, 8:24] = 1.0  # four of sixteen patches
    truth = torch.zeros(4, 4)
    truth[1:3, 1:3] = 1
    found = delete_and_insert(vit, pixels, truth.flatten(), 1, steps=16, random_orders=8)
    assert found.deletion_area < found.random_areas.min()
    assert found.insertion_area > found.random_areas.max()
    wrong = delete_and_insert(vit, pixels, -truth.flatten(), 1, steps=16, random_orders=8)
    assert wrong.deletion_area > wrong.random_areas.max() > wrong.insertion_area
