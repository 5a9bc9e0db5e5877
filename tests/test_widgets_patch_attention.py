"""PatchAttention without a browser: its maps are the model's own, its test can be trusted."""

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.attention import (
    attention_distance,
    attention_relevance,
    attention_rollout,
    outlier_patches,
    received_attention,
    record_attention,
)
from workbench.image import Preprocessing, prepare_image
from workbench.vit import ViT, ViTConfig
from workbench.widgets import PatchAttention
from workbench.widgets.samples import sample_image

ASTRONAUT = sample_image("astronaut")
SIZES = dict(hidden_size=24, num_hidden_layers=3, num_attention_heads=2, intermediate_size=40)


@pytest.fixture(scope="module")
def vit() -> ViT:
    """4 x 6 patches, five classes, and two tokens in front."""
    torch.manual_seed(0)
    config = ViTConfig(**SIZES, image_size=(32, 48), patch_size=8, num_prefix_tokens=2)
    vit = ViT(config, [f"class {n}" for n in range(5)], Preprocessing(size=(32, 48))).eval()
    for parameter in vit.parameters():  # weights large enough for maps that differ
        parameter.data += 0.3 * torch.randn(parameter.shape)
    return vit


@pytest.fixture(scope="module")
def maps(vit: ViT) -> torch.Tensor:
    with torch.inference_mode(), record_attention(vit) as attention:
        vit(prepare_image(ASTRONAUT, vit.preprocessing))
    return torch.stack([attention[layer][0] for layer in sorted(attention)])


def large(widget: PatchAttention) -> np.ndarray:
    roots = np.frombuffer(widget.large, np.uint8).reshape(len(widget.titles), -1) / 255
    return roots**2 * np.array(widget.tops)[:, None]


def test_maps_are_the_models_own(vit: ViT, maps: torch.Tensor) -> None:
    widget = PatchAttention(vit, ASTRONAUT, query=7, layer=1, head=1)
    assert (widget.grid, widget.prefix, widget.titles) == ([4, 6], 2, ["layer 2, head 2, patch 1, 6 looks"])
    np.testing.assert_allclose(large(widget)[0], maps[1, 1, 7, 2:], rtol=0.05, atol=1e-4)  # small ones, too
    small = (np.frombuffer(widget.maps, np.uint8).reshape(3, 2, 24) / 255) ** 2
    rows = maps[:, :, 7, 2:]
    np.testing.assert_allclose(small, rows / rows.amax(-1, keepdim=True), atol=3e-3)
    widget.method = "mean"
    np.testing.assert_allclose(large(widget)[0], maps[1, :, 7, 2:].mean(0), atol=3e-3)
    widget.method, widget.layer, widget.query = "max", -1, 0
    np.testing.assert_allclose(large(widget)[0], maps[2, :, 0, 2:].amax(0), atol=3e-3)
    distances = np.frombuffer(widget.distances, np.float16).reshape(3, 2)
    expected = attention_distance(maps, grid=(4, 6), patch_size=8, prefix_tokens=2)
    np.testing.assert_allclose(distances, expected, rtol=2e-3)


def test_what_a_token_keeps_for_itself_is_told(vit: ViT, maps: torch.Tensor) -> None:
    widget = PatchAttention(vit, ASTRONAUT, query=7, layer=1, head=1)
    assert widget.keeps == [pytest.approx(float(maps[1, 1, 7, 7]))]
    shares = np.frombuffer(widget.shares, np.float16).reshape(3, 2, 2)
    np.testing.assert_allclose(shares[..., 0], maps[:, :, 7, 2:].amax(-1), rtol=2e-3)
    np.testing.assert_allclose(shares[..., 1], maps[:, :, 7, 7], rtol=2e-3)
    widget.method = "mean"
    assert widget.keeps == [pytest.approx(float(maps[1, :, 7, 7].mean()))]
    for method in ("max", "relevance"):  # no shares of anything
        widget.method = method
        assert widget.keeps == [None]


def test_it_opens_on_the_head_that_shows_most(vit: ViT, maps: torch.Tensor) -> None:
    rows = maps[:, :, 0, 2:]  # of the class token
    shares = rows / rows.sum(-1, keepdim=True)
    even = -(shares * shares.log()).sum(-1) / np.log(24)
    clear = rows.sum(-1) * (1 - even)
    assert divmod(int(clear.argmax()), 2)[0] == 0  # but of three layers the upper two count
    layer, head = divmod(int(clear[1:].argmax()), 2)
    widget = PatchAttention(vit, ASTRONAUT)
    assert (widget.layer, widget.head) == (1 + layer, head)
    widget.layer = 0
    widget.sample = "boat"
    assert widget.layer == 0  # what is pinned stays
    assert PatchAttention(vit, ASTRONAUT, method="mean").titles[0].startswith("layer 3, mean")


def test_a_click_needs_no_forward_pass(vit: ViT, monkeypatch: pytest.MonkeyPatch) -> None:
    widget = PatchAttention(vit, ASTRONAUT, layer=99, head=99, query=999)  # which are not there
    assert (widget.layer, widget.head, widget.query) == (2, 0, 0)
    widget = PatchAttention(vit, ASTRONAUT, layer=-1)
    shown = widget.maps
    monkeypatch.setattr(vit, "forward", None)
    widget.query = 9
    assert not widget.error and widget.maps != shown
    for method in ("mean", "max", "rollout", "head"):
        widget.method = method
        assert not widget.error
    widget.method = "relevance"  # needs the gradient, so another pass
    assert "NoneType" in widget.error and widget.titles[0].startswith("layer 3")


def test_rollout_and_relevance_are_those_of_the_package(vit: ViT, maps: torch.Tensor) -> None:
    widget = PatchAttention(vit, ASTRONAUT, method="rollout", fusion="max", discard=0.5, query=3)
    options = dict(head_fusion="max", discard_ratio=0.5, prefix_tokens=2)
    rollout = attention_rollout(list(maps[:, None]), **options)[0, 3, 2:]
    np.testing.assert_allclose(large(widget)[0], rollout, atol=3e-3)
    widget.method, widget.target, widget.second = "relevance", 4, 1
    assert widget.titles == ["relevance for “class 4”", "relevance for “class 1”"]
    pixels = prepare_image(ASTRONAUT, vit.preprocessing)
    for row, target in zip(large(widget), (4, 1), strict=True):
        relevance = attention_relevance(vit, lambda target=target: vit.logits(vit(pixels)[-1])[:, target])
        expected = relevance[0, 0, 2:].detach()
        np.testing.assert_allclose(row, expected, atol=4e-3 * float(expected.max()))


def test_the_mass_mask_keeps_the_fewest_patches(vit: ViT, maps: torch.Tensor) -> None:
    widget = PatchAttention(vit, ASTRONAUT, layer=0, head=0, mass=0.6)
    weights = maps[0, 0, 0, 2:].numpy()
    kept = large(widget)[0] > 0
    assert weights[kept].sum() >= 0.6 * weights.sum() > weights[kept].sum() - weights[kept].min()
    assert weights[kept].min() >= weights[~kept].max()


def test_flagged_patches_are_far_above_the_median(vit: ViT, maps: torch.Tensor) -> None:
    assert received_attention(torch.eye(3)[None]).tolist() == pytest.approx([1 / 3] * 3)
    column = torch.zeros(2, 2, 4, 4)
    column[..., 2] = 1  # all look at one
    assert outlier_patches(received_attention(column) + 0.01).tolist() == [False, False, True, False]
    widget = PatchAttention(vit, ASTRONAUT, times=1.5)
    received = maps.mean((0, 1, 2))[2:]
    expected = (received > 1.5 * received.median()).nonzero().flatten().tolist()
    ratios = np.frombuffer(widget.ratios, np.float16).reshape(2, 24)
    np.testing.assert_allclose(ratios[0], received / received.median(), rtol=2e-3)
    assert widget.outliers == expected
    widget.measure = "nothing"
    assert widget.outliers == []


def test_bytes_are_few_for_a_large_model() -> None:
    config = ViTConfig(hidden_size=96, num_attention_heads=12, intermediate_size=16)  # 144 maps, 196 patches
    vit = ViT(config, ["a", "b"], Preprocessing()).eval()
    widget = PatchAttention(vit, ASTRONAUT)
    assert len(widget.maps) == 144 * 196 and len(widget.maps) + len(widget.large) < 60_000
    config = ViTConfig(
        hidden_size=96,
        num_attention_heads=12,
        intermediate_size=16,
        image_size=(384, 384),
        num_hidden_layers=12,
    )
    vit = ViT(config, preprocessing=Preprocessing(size=(384, 384))).eval()
    widget = PatchAttention(vit, ASTRONAUT)
    assert widget.cells == [16, 16] and len(widget.maps) + len(widget.large) < 60_000
    widget.method = "relevance"
    assert "has no classes" in widget.error and widget.classes == []


def test_the_test_tells_its_progress_and_is_kept(vit: ViT) -> None:
    widget = PatchAttention(vit, ASTRONAUT, method="rollout")
    told: list[dict] = []
    widget.send = told.append
    widget._on_message(None, {"do": "test"}, None)
    widget.method = "relevance"
    widget.test_map()
    assert not widget.error and told[-1] == {"tested": 1.0}
    assert [test["title"].split()[0] for test in widget.tests] == ["rollout", "relevance"]
    test = widget.tests[-1]
    weights = large(widget)[0][test["order"]]
    assert (np.diff(weights) <= 1e-6).all() and sorted(test["order"]) == list(range(24))
    deleted, inserted, lowest, highest, mean = test["areas"]
    assert test["hides"] == (deleted < lowest) and test["shows"] == (inserted > highest)
    assert lowest <= mean <= highest
    assert np.trapezoid(test["deletion"], test["shares"]) == pytest.approx(deleted, abs=1e-3)
    widget.sample = "coffee"
    assert not widget.error and widget.tests == []


def test_other_pictures_and_bad_ones(vit: ViT) -> None:
    widget = PatchAttention(vit, ASTRONAUT, query=7, layer=-1)
    shown = widget.maps
    widget.upload = b"junk"
    assert "no picture" in widget.error and widget.maps == shown and widget.query == 7
    widget.sample = "cat"
    assert not widget.error and widget.maps != shown and widget.query == 7
    widget.query = 999  # no such token: the class token
    assert widget.titles == ["layer 3, head 1, class token looks"]
    with pytest.raises(TypeError, match="no option"):
        PatchAttention(vit, ASTRONAUT, queri=1)
    one, two = (wb.classify_image(vit, ASTRONAUT)[0], PatchAttention(vit, ASTRONAUT))
    assert (one.label, pytest.approx(one.probability, abs=1e-4)) == (
        vit.labels[two.classes[0][0]],
        two.classes[0][1],
    )
