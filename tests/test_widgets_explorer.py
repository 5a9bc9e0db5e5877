"""AttentionExplorer without a browser: its numbers are the model's own, its errors are sentences."""

import numpy as np
import pytest
import torch
from tiny import VOCABULARY, attends, our_bert, patch_vit, randomize

import workbench as wb
from workbench.attention import ablate, clearest_head, head_effects, record_attention
from workbench.bert import Bert
from workbench.image import Preprocessing
from workbench.text import Tokenizer
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


def large(widget: AttentionExplorer, which: str = "") -> np.ndarray:
    count = len(widget.tokens)
    matrix = getattr(widget, f"{which}matrix")
    if count <= 64:
        return np.frombuffer(matrix, np.float16).reshape(count, count)
    special = np.array([kind == "special" for _, _, kind in widget.tokens])
    scales = np.frombuffer(getattr(widget, f"{which}scales"), np.float16).astype(float).reshape(2, count, 1)
    return (np.frombuffer(matrix, np.uint8).reshape(count, count) / 255) ** 2 * np.where(special, *scales)


def test_the_map_shown_large_is_the_heads_own(bert: Bert) -> None:
    maps = maps_of(bert, TEXT).numpy()
    widget = AttentionExplorer(bert, TEXT, layer=2, head=5)
    np.testing.assert_allclose(large(widget), maps[2, 5], atol=5e-4)
    widget.head = -1
    np.testing.assert_allclose(large(widget), maps[2].mean(0), atol=5e-4)
    widget.chosen = [1, 4]
    np.testing.assert_allclose(large(widget), maps[2, [1, 4]].mean(0), atol=5e-4)
    thumbnails = np.frombuffer(widget.thumbnails, np.uint8).reshape(6, 12, widget.side, widget.side)
    np.testing.assert_allclose((thumbnails[3, 7] / 255) ** 2, maps[3, 7] / maps[3, 7].max(), atol=4e-3)


def test_what_is_not_there_is_not_named(bert: Bert) -> None:
    widget = AttentionExplorer(bert, TEXT, layer=100, head=12, query=99, key=99)
    assert (widget.layer, widget.head, widget.query, widget.key) == (5, -1, -1, -1)
    np.testing.assert_allclose(large(widget), maps_of(bert, TEXT).numpy()[5].mean(0), atol=5e-4)
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
    assert len(widget.thumbnails) + len(widget.matrix) < 1.7e6 / 2


def test_small_maps_of_a_long_text_are_averaged() -> None:
    bert = our_bert(max_position_embeddings=128)
    maps = attends(bert, 96)
    widget = AttentionExplorer(bert, "cat " * 94, layer=2, head=3)
    assert widget.side == 24
    shown = (np.frombuffer(widget.thumbnails, np.uint8).reshape(5, 4, 24, 24) / 255) ** 2
    known = maps.reshape(5, 4, 24, 4, 24, 4).mean((3, 5))
    np.testing.assert_allclose(shown, known / known.amax((2, 3), keepdim=True), atol=4e-3)
    np.testing.assert_allclose(large(widget), maps[2, 3], atol=4e-3)


def test_patches_are_tokens_as_well(vit: ViT) -> None:
    widget = AttentionExplorer(vit, image=sample_image("astronaut"), layer=1, head=2)
    rows, columns = widget.grid
    assert len(widget.tokens) == rows * columns + 1 and widget.tokens[0][2] == "special"
    assert widget.picture.startswith(b"\x89PNG") and widget.tasks == ["class"]
    label, probability, _ = widget.answers[0]
    said = wb.classify_image(vit, sample_image("astronaut"))[0]
    assert (label, probability) == (said.label, pytest.approx(said.probability, abs=1e-4))
    widget.try_all_heads()
    assert len(widget.effects) == 2 * widget.layers * widget.heads


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
    over = (np.frombuffer(widget.large, np.uint8) / 255) ** 2 * widget.tops[0]
    np.testing.assert_allclose(over, row[1:], atol=most / 200)
    assert widget.keeps == [pytest.approx(float(row[0]))]
    assert widget.titles == ["layer 1, head 1, class token looks"]
    shares = np.frombuffer(widget.shares, np.float16).reshape(8, 4, 2)
    own = torch.stack([attention[layer][0, :, 0, 0] for layer in range(8)])
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


# --- two checkpoints beside each other ---------------------------------------------------------


def test_two_checkpoints_read_the_same_and_their_differences_are_marked() -> None:
    ours, theirs = our_bert("sentiment"), randomize(our_bert("sentiment"), seed=3)
    ours.name, theirs.name = "before", "after"
    widget = AttentionExplorer(ours, "the cat sat", layer=1, head=2, beside=theirs, task="sentiment")
    here, there = (maps_of(bert, "the cat sat") for bert in (ours, theirs))
    np.testing.assert_allclose(large(widget), here[1, 2], atol=5e-4)
    np.testing.assert_allclose(large(widget, "compared_"), there[1, 2], atol=5e-4)
    names = [widget.compared[whose] for whose in ("own", "title")]
    assert names == ["before: layer 2, head 3", "after: layer 2, head 3"]
    still = [axes.get_title(loc="left") for axes in widget.figure().get_axes()]
    assert still == [f"{name}: rows look at columns" for name in names]
    assert widget.status.startswith("before beside after · ")
    apart = np.frombuffer(widget.apart, np.float16).reshape(5, 4)
    np.testing.assert_allclose(apart, (here - there).abs().sum(-1).mean(-1) / 2, atol=1e-3)
    change = (here - there)[1, 2].abs()
    assert [change[q, k] for q, k, *_ in widget.differences] == change.flatten().topk(10).values.tolist()
    for query, key, one, other in widget.differences:
        assert (one, other) == pytest.approx((float(here[1, 2, query, key]), float(there[1, 2, query, key])))
    widget._act({"do": "all heads"})
    assert widget.effects
    widget._act({"do": "all on"})
    assert not widget.effects, "frames tell how the two differ again"
    widget.query = 3
    assert {query for query, *_ in widget.differences} == {3}
    said = {one.label: one.probability for one in wb.classify_sentence(theirs, "the cat sat")}
    assert widget.ticks == "of after"
    assert {label: other for label, _, other in widget.answers} == pytest.approx(said, abs=1e-4)
    theirs.heads["sentiment"].problem_type = "regression"  # no scale holds both
    alone = AttentionExplorer(ours, "the cat sat", beside=theirs)
    assert alone.ticks == "" and all(now == before for _, now, before in alone.answers)
    widget.off = [[0, 0], [1, 2]]  # in both
    assert not large(widget).any() and not large(widget, "compared_").any() and widget.differences == []
    widget.off, widget.text = [], "a"  # of three tokens
    assert len(widget.differences) <= 9 and not widget.error
    widget.text = "a dog"
    np.testing.assert_allclose(large(widget, "compared_"), maps_of(theirs, "a dog")[1, 2], atol=5e-4)
    assert AttentionExplorer(ours, "the cat", beside=ours).other == "another before"
    opened = AttentionExplorer(ours, "the cat sat", beside=theirs)  # on what differs most
    assert (opened.layer, opened.head) == divmod(int(apart.argmax()), 4)


def test_two_vits_read_the_same_picture(vit: ViT) -> None:
    ours, theirs = patch_vit(), randomize(patch_vit(), seed=3)
    theirs.name = "another"
    widget = AttentionExplorer(ours, image=sample_image("cat"), layer=1, head=2, query=7, beside=theirs)
    rows = []
    for model in (ours, theirs):
        with torch.inference_mode(), record_attention(model) as attention:
            model(wb.prepare_image(sample_image("cat"), model.preprocessing))
        rows.append(attention[1][0, 2, 7])
    shown = (np.frombuffer(widget.large, np.uint8).reshape(2, 24) / 255) ** 2 * np.array(widget.tops)[:, None]
    np.testing.assert_allclose(shown, torch.stack(rows)[:, 2:], atol=3e-3)
    assert widget.keeps == pytest.approx([float(row[7]) for row in rows])
    change = (rows[0] - rows[1]).abs()[2:]
    assert [key - 2 for _, key, *_ in widget.patch_differences][0] == int(change.argmax())
    assert {query for query, *_ in widget.differences} == {7}
    before = widget.patch_differences
    widget.hide_special = True  # of the matrix
    assert widget.patch_differences == before
    widget.query = -1
    assert len({query for query, *_ in widget.differences}) > 1, "a matrix shows all rows"
    assert {query for query, *_ in widget.patch_differences} == {0}
    maps = [next(image.get_array() for image in axes.images[1:]) for axes in widget.figure().get_axes()]
    opacities = [float(map[..., 3].max()) for map in maps]
    largest = [float(map[0, 2:].max()) for map in (m[1, 2] for m in widget._maps)]
    assert opacities == pytest.approx([widget.opacity * one / max(largest) for one in largest], abs=0.01)
    widget.sample = "boat"
    assert not widget.error and len(widget.titles) == 2
    with pytest.raises(ValueError, match="workbench-vit has 8 layers and .* 3: their maps cannot be laid"):
        AttentionExplorer(vit, beside=ours)
    theirs.preprocessing = Preprocessing(size=(48, 48))
    with pytest.raises(ValueError, match="cut pictures into other patches"):
        AttentionExplorer(ours, beside=theirs)
    theirs.preprocessing = None
    with pytest.raises(ValueError, match="another came without a preprocessing, so it cannot read pictures"):
        AttentionExplorer(ours, beside=theirs)


def test_a_checkpoint_that_does_not_fit_is_refused_in_a_sentence(bert: Bert, vit: ViT) -> None:
    ours = our_bert("mlm")
    with pytest.raises(TypeError, match="A BERT is needed here, not a ViT"):
        AttentionExplorer(ours, "the cat", beside=vit)
    with pytest.raises(TypeError, match="A ViT is needed here, not a Bert"):
        AttentionExplorer(vit, beside=bert)
    with pytest.raises(TypeError, match="A BERT is needed here, not a name"):
        AttentionExplorer(ours, "the cat", beside="bert-base-uncased")
    with pytest.raises(
        ValueError, match="has 5 layers and .* 2: their maps cannot be laid beside each other"
    ):
        AttentionExplorer(ours, "the cat", beside=our_bert(num_hidden_layers=2))
    with pytest.raises(ValueError, match="has 4 heads in a layer and .* 2"):
        AttentionExplorer(ours, "the cat", beside=our_bert(num_attention_heads=2))
    other = our_bert("mlm")
    other.tokenizer = Tokenizer.from_words([word for word in VOCABULARY if word != "cat"])
    widget = AttentionExplorer(ours, "the [MASK] ran", beside=other)
    assert widget.task == "mlm" and widget.ticks == "", "another word has another number there"
    shown = widget.matrix
    widget.text = "the cat ran"
    assert "cut this text into other tokens" in widget.error and widget.matrix == shown
    widget.text = "a dog"
    assert not widget.error
    other.tokenizer = None
    with pytest.raises(ValueError, match="came without a tokenizer"):
        AttentionExplorer(ours, "the cat", beside=other)


def test_a_mean_of_some_heads_is_called_so() -> None:
    widget = AttentionExplorer(our_bert("mlm"), "the [MASK] sat", layer=1, head=-1, chosen=[0, 2])
    assert (
        widget.figure().get_axes()[0].get_title(loc="left")
        == "layer 2, mean of heads 1, 3: rows look at columns"
    )
