"""AttentionExplorer without a browser: its numbers are the model's own, its errors are sentences."""

import numpy as np
import pytest
import torch
from tiny import attends, our_bert

import workbench as wb
from workbench.attention import ablate, clearest_head, head_effects, record_attention
from workbench.bert import Bert
from workbench.vit import ViT
from workbench.widgets import AttentionExplorer
from workbench.widgets.samples import sample_image

TEXT = "The cat sat on the [MASK]."


@pytest.fixture(scope="module")
def bert() -> Bert:
    return wb.load_bert(device="cpu")


@pytest.fixture(scope="module")
def vit() -> ViT:
    return wb.load_vit(device="cpu")


def maps_of(bert: Bert, first: str, second: str | None = None) -> torch.Tensor:
    encoding = bert.tokenizer.encode(first, second)
    with torch.inference_mode(), record_attention(bert) as attention:
        bert(**encoding.tensors())
    return torch.stack([attention[layer][0] for layer in sorted(attention)])


def large(widget: AttentionExplorer) -> np.ndarray:
    count = len(widget.tokens)
    special = np.array([kind == "special" for _, _, kind in widget.tokens])
    of_special, of_others = np.frombuffer(widget.scales, np.float16).astype(float).reshape(2, count, 1)
    scales = np.where(special, of_special, of_others)
    return np.frombuffer(widget.matrix, np.uint8).reshape(count, count) / 255 * scales


def test_the_map_shown_large_is_the_heads_own(bert: Bert) -> None:
    maps = maps_of(bert, TEXT).numpy()
    widget = AttentionExplorer(bert, TEXT, layer=2, head=5)
    np.testing.assert_allclose(large(widget), maps[2, 5], atol=3e-3)
    widget.head = -1
    np.testing.assert_allclose(large(widget), maps[2].mean(0), atol=3e-3)
    widget.chosen = [1, 4]
    np.testing.assert_allclose(large(widget), maps[2, [1, 4]].mean(0), atol=3e-3)
    thumbnails = np.frombuffer(widget.thumbnails, np.uint8).reshape(6, 12, widget.side, widget.side)
    np.testing.assert_allclose(thumbnails[3, 7] / 255, maps[3, 7] / maps[3, 7].max(), atol=3e-3)


def test_what_is_not_there_is_not_named(bert: Bert) -> None:
    widget = AttentionExplorer(bert, TEXT, layer=100, head=12, query=99, key=99)
    assert (widget.layer, widget.head, widget.query, widget.key) == (5, -1, -1, -1)
    np.testing.assert_allclose(large(widget), maps_of(bert, TEXT).numpy()[5].mean(0), atol=3e-3)
    widget.layer = -3
    assert widget.layer == 5 and widget.error == ""


def test_what_the_switches_leave_out_is_zero(bert: Bert) -> None:
    widget = AttentionExplorer(bert, "A cat sat.", "It was red.", layer=1, head=3, hide_special=True)
    special = np.array([kind == "special" for _, _, kind in widget.tokens])
    assert special.sum() == 3 and not large(widget)[special].any() and not large(widget)[:, special].any()
    widget.hide_special = False
    widget.pair = "first to second"
    segment = np.array([segment for _, segment, _ in widget.tokens])
    shown = large(widget)
    assert shown[np.ix_(segment == 0, segment == 1)].any()
    assert not shown[segment == 1].any() and not shown[:, segment == 0].any()
    widget.pair = "all"
    widget.mass = 0.5
    kept, every = large(widget), maps_of(bert, "A cat sat.", "It was red.")[1, 3].numpy()
    assert (kept.sum(-1) >= 0.49).all() and (kept > 0).sum() < (every > 0).sum()


def test_a_weight_is_explained_by_its_own_query_and_key(bert: Bert) -> None:
    widget = AttentionExplorer(bert, TEXT, layer=3, head=2, query=2, key=4)
    steps = widget.steps
    assert steps["score"] == pytest.approx(sum(steps["product"]), abs=0.05)
    assert steps["scaled"] == pytest.approx(steps["score"] / len(steps["query"]) ** 0.5, abs=1e-3)
    assert steps["probability"] == pytest.approx(steps["exponential"] / steps["total"], rel=1e-4)
    assert steps["probability"] == pytest.approx(float(maps_of(bert, TEXT)[3, 2, 2, 4]), abs=1e-5)
    widget.head = -1
    assert widget.steps == {}


def test_heads_off_change_the_answer_as_ablate_does(bert: Bert) -> None:
    widget = AttentionExplorer(bert, TEXT)
    before = {label: now for label, now, _ in widget.answers}
    best = max(before, key=before.get)
    assert wb.fill_mask(bert, TEXT)[0].candidates[0].label == best
    widget.off = [[5, 3], [2, 2]]
    with ablate(bert, [(5, 3), (2, 2)]):
        expected = {c.label: c.probability for c in wb.fill_mask(bert, TEXT, top_k=50)[0].candidates}
    for label, now, was in widget.answers:
        assert now == pytest.approx(expected[label], abs=1e-4)
        assert was == pytest.approx(before.get(label, was), abs=1e-4)
    assert not np.frombuffer(widget.thumbnails, np.uint8).reshape(6, 12, -1)[5, 3].any()


def test_all_heads_are_tried_each_alone(bert: Bert) -> None:
    widget = AttentionExplorer(bert, TEXT)
    best, before, _ = widget.answers[0]
    told = []
    widget.send = lambda content: told.append(content["layers done"])
    widget.try_all_heads()
    assert told == [1, 2, 3, 4, 5, 6]
    effects = np.frombuffer(widget.effects, np.float16).reshape(6, 12)
    for layer, head in ((0, 4), (5, 7)):
        with ablate(bert, [(layer, head)]):
            candidates = {c.label: c.probability for c in wb.fill_mask(bert, TEXT, top_k=50)[0].candidates}
        assert effects[layer, head] == pytest.approx(before - candidates[best], abs=2e-3)
    with pytest.raises(ZeroDivisionError):
        list(head_effects(bert, lambda copies: 1 / 0))
    assert not any(layer.attention.watchers for layer in bert.encoder.layers)


def test_bad_texts_get_a_sentence_and_change_nothing(bert: Bert) -> None:
    widget = AttentionExplorer(bert, TEXT)
    shown = widget.matrix
    for text, message in (("", "empty"), ("a " * 20_000, "shorten"), ("\ud800", "half a character")):
        widget.text = text
        assert message in widget.error and widget.matrix == shown and widget.tokens
    widget.text = "Добрый день, 中文!"
    assert not widget.error and widget.matrix != shown
    assert widget.tasks == [
        name for name, head in bert.heads.items() if head.kind == "sentence" and name not in ("nsp", "nli")
    ]
    with pytest.raises(ValueError, match="not a picture|cannot be read|no picture"):
        AttentionExplorer(wb.load_vit(device="cpu"), image=b"junk")


def test_long_texts_stay_small_on_the_way(bert: Bert) -> None:
    widget = AttentionExplorer(bert, "a cat sat on the red mat and " * 63)
    assert len(widget.tokens) > 500
    assert len(widget.thumbnails) + len(widget.matrix) + len(widget.scales) < 1.7e6 / 2


def test_small_maps_of_a_long_text_are_averaged() -> None:
    bert = our_bert(max_position_embeddings=128)
    maps = attends(bert, 96)
    widget = AttentionExplorer(bert, "cat " * 94, layer=2, head=3)
    assert widget.side == 48
    shown = np.frombuffer(widget.thumbnails, np.uint8).reshape(5, 4, 48, 48) / 255
    known = maps.reshape(5, 4, 48, 2, 48, 2).mean((3, 5))
    np.testing.assert_allclose(shown, known / known.amax((2, 3), keepdim=True), atol=3e-3)
    np.testing.assert_allclose(large(widget), maps[2, 3], atol=3e-3)


def test_patches_are_tokens_as_well(vit: ViT, tmp_path) -> None:
    widget = AttentionExplorer(vit, image=sample_image("astronaut"), layer=1, head=2)
    rows, columns = widget.grid
    assert len(widget.tokens) == rows * columns + 1 and widget.tokens[0][2] == "special"
    assert widget.picture.startswith(b"\x89PNG") and widget.tasks == ["class"]
    label, probability, _ = widget.answers[0]
    said = wb.classify_image(vit, sample_image("astronaut"))[0]
    assert (label, probability) == (said.label, pytest.approx(said.probability, abs=1e-4))
    widget.try_all_heads()
    assert len(widget.effects) == 2 * widget.layers * widget.heads
    for ending in ("png", "svg", "html"):
        assert widget.save(tmp_path / f"view.{ending}").stat().st_size > 5000


def test_small_weights_are_told_beside_those_of_the_class_token(vit: ViT) -> None:
    """In the first layer the class token keeps nearly all for itself; what it gives to patches is seen."""
    widget = AttentionExplorer(vit, sample="elephant", layer=0, head=0)
    pixels = wb.prepare_image(sample_image("elephant"), vit.preprocessing)
    with torch.inference_mode(), record_attention(vit) as attention:
        vit(pixels)
    row = attention[0][0, 0, 0]
    assert row[0] > 0.9 and row[1:].max() < 0.01
    most = float(row[1:].max())
    np.testing.assert_allclose(large(widget)[0, 1:], row[1:], atol=most / 200)
    over = np.frombuffer(widget.large, np.uint8) / 255 * widget.tops[0]
    np.testing.assert_allclose(over, row[1:], atol=most / 200)
    assert widget.keeps == [pytest.approx(float(row[0]))]
    assert widget.titles == ["layer 1, head 1, class token looks"]
    shares = np.frombuffer(widget.shares, np.float16).reshape(6, 3, 2)
    own = torch.stack([attention[layer][0, :, 0, 0] for layer in range(6)])
    np.testing.assert_allclose(shares[..., 1], own, atol=1e-3)
    widget.mass = 0.5  # of what goes to patches
    kept = np.frombuffer(widget.large, np.uint8) > 0
    assert row[1:][kept].sum() >= 0.5 * row[1:].sum() > row[1:][kept].sum() - row[1:][kept].min()


def test_it_opens_on_the_head_that_shows_most(bert: Bert, vit: ViT) -> None:
    maps, count = maps_of(bert, TEXT), len(bert.tokenizer.encode(TEXT).tokens)
    words = torch.tensor([0 < at < count - 1 for at in range(count)])
    opened = AttentionExplorer(bert, TEXT)
    assert (opened.layer, opened.head) == clearest_head(maps, words, words)
    shown = AttentionExplorer(vit, sample="elephant")
    row = AttentionExplorer(vit, sample="elephant", layer=0, head=0)
    assert shown.keeps[0] < 0.1 and shown.tops[0] > 10 * row.tops[0]
    before = shown.layer, shown.head
    shown.sample = "boat"
    assert (shown.layer, shown.head) == before and not shown.error  # what is pinned stays
    assert (AttentionExplorer(bert, TEXT, head=3).head, AttentionExplorer(bert, TEXT, layer=1).layer) == (
        3,
        1,
    )


def test_a_map_is_kept_to_compare_with(bert: Bert) -> None:
    widget = AttentionExplorer(bert, TEXT, layer=1, head=1)
    first = widget.matrix
    widget.keep_to_compare()
    widget.text = "Another sentence."
    assert widget.compared_matrix == first != widget.matrix and "layer 2, head 2" in widget.compared["title"]
    widget.keep_to_compare()
    assert widget.compared == {} and widget.compared_matrix == b""
