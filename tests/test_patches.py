"""Numbers about a ViT's front door, and vectors of words: by hand, and beside the model's own."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny import close, our_bert, our_vit, patch_vit

import workbench as wb
from workbench import patches, plots
from workbench.vit import ViT


@pytest.fixture
def vit() -> ViT:
    return patch_vit()


def test_one_patch_becomes_the_token_that_the_model_makes_of_it(vit: ViT) -> None:
    pixels = torch.randn(1, 3, 24, 32)  # 3 x 4 patches: positions are stretched
    with torch.inference_mode():
        steps, tokens = patches.projection_steps(vit, pixels, 6), vit.embeddings(pixels)
    torch.testing.assert_close(steps["token"], tokens[0, 2 + 6], atol=1e-5, rtol=1e-5)
    values = pixels[0, :, 8:16, 16:24].flatten()  # row 1, column 2
    torch.testing.assert_close(steps["values"], values)
    weight, bias = vit.embeddings.projection.weight, vit.embeddings.projection.bias
    torch.testing.assert_close(steps["projected"], weight @ values + bias, atol=1e-4, rtol=1e-4)
    for token in (0, 1):  # in front; the second one has no position
        steps = patches.projection_steps(vit, pixels, -1 - token)
        torch.testing.assert_close(steps["token"], tokens[0, token])
        assert bool(steps["position"].any()) == (token == 0)
    with pytest.raises(ValueError, match="no prefix token 2"):
        patches.projection_steps(vit, pixels, -3)


def test_filter_components_are_those_of_the_covariance(vit: ViT) -> None:
    found = patches.filter_components(vit, 5)
    assert found.shape == (5, 3, 8, 8)
    filters = vit.embeddings.projection.weight.detach().double().numpy()
    values, vectors = np.linalg.eigh(np.cov(filters, rowvar=False))
    for component, right in zip(found.flatten(1), vectors[:, ::-1].T, strict=False):
        assert abs(component.double().numpy() @ right) == pytest.approx(1, abs=1e-4)
        assert component.max() == component.abs().max()
    assert (np.diff(values) >= -1e-9).all()


def test_positions_are_compared_by_cosine(vit: ViT) -> None:
    similar = patches.position_similarity(vit)
    assert similar.shape == (4, 6, 4, 6)
    position = vit.embeddings.position_embeddings[0, 1:]  # the class token's comes first
    right = F.cosine_similarity(position[1 * 6 + 2], position[3 * 6 + 5], dim=0)
    assert float(similar[1, 2, 3, 5]) == pytest.approx(float(right.detach()), abs=1e-6)


def test_rearranged_hides_shuffles_and_strips(vit: ViT) -> None:
    pixels, order = torch.randn(1, 3, 32, 48), torch.randperm(24).tolist()

    def class_token(*arguments: object, **options: object) -> torch.Tensor:
        with torch.inference_mode():
            return vit.encoder(*patches.rearranged(vit, pixels, *arguments, **options))[-1][0, 0]

    whole = class_token()
    with torch.inference_mode():
        torch.testing.assert_close(whole, vit(pixels)[-1][0, 0])
        front, tokens = vit.embeddings(pixels).split([2, 24], dim=1)
        fewer = vit.encoder(torch.cat([front, tokens[:, 5:]], dim=1))[-1][0, 0]
        own = vit.embeddings.positions((4, 6))[:, 1:]
        closed = torch.cat([front, tokens[:, 5:] - own[:, 5:] + own[:, :19]], dim=1)
        closed = vit.encoder(closed)[-1][0, 0]
    near = {"atol": 1e-4, "rtol": 1e-4}
    torch.testing.assert_close(class_token(order=order), whole, **near)  # a set has no order
    torch.testing.assert_close(class_token(range(5)), fewer, **near)  # hidden is the same as gone
    torch.testing.assert_close(class_token(range(5), positions="place"), closed, **near)
    bare = class_token(positions="none")
    torch.testing.assert_close(class_token(order=order, positions="none"), bare, **near)
    for other in (bare, fewer, class_token(order=order, positions="place")):
        assert (other - whole).abs().max() > 1e-3
    assert torch.isfinite(class_token(range(24))).all()  # nothing but the class token
    with pytest.raises(ValueError, match="holds each number"):
        class_token(order=[0] * 24)
    with pytest.raises(ValueError, match="24 cannot be hidden"):
        class_token([24])


def test_vectors_of_a_word() -> None:
    bert = wb.load_bert(device="cpu")
    sentences = ["The bank was closed.", "Bank on it!", "An unaffable bank"]
    vectors = patches.word_vectors(bert, sentences, "bank")
    assert vectors.shape == (7, 3, 384)
    torch.testing.assert_close(vectors[-1, 0], wb.embed(bert, sentences[0])[2], atol=1e-5, rtol=0)
    angles = patches.similarity(vectors)
    assert angles.shape == (7, 3, 3) and angles.diagonal(dim1=-2, dim2=-1).allclose(
        torch.ones(7, 3), atol=1e-5
    )
    (vector,) = patches.word_vectors(bert, ["An unaffable man"], "unaffable")[-1]
    pieces = [token.word == 1 for token in bert.tokenizer.encode("An unaffable man").tokens]
    assert sum(pieces) > 1
    torch.testing.assert_close(vector, wb.embed(bert, "An unaffable man")[pieces].mean(0), atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="does not hold the word 'bank'"):
        patches.word_vectors(bert, ["The banks"], "bank")
    points = torch.tensor([[3.0, 0, 0], [-3, 0, 0], [0, 1, 0], [0, -1, 0]])
    flat = patches.principal_components(points)
    torch.testing.assert_close(flat.abs(), points[:, :2].abs(), atol=1e-5, rtol=0)
    assert patches.principal_components(points, 3).shape == (4, 3)


def test_words_that_are_more_than_letters() -> None:
    bert, sentence = wb.load_bert(device="cpu"), "Today the Café took $5 for C++ until 9 p.m. or so"
    for word in ("C++", "$5", "p.m.", "Cafe\u0301", "today"):
        assert patches.word_vectors(bert, [sentence], word).shape[1] == 1


def test_vectors_move_in_the_plane_of_the_last() -> None:
    last = torch.tensor([[3.0, 0, 0], [-3, 0, 0], [0, 1, 0], [0, -1, 0]])
    first = torch.tensor([[0.0, 0, 5], [1, 0, 5], [0, 2, 0], [0, 0, 0]])
    places = patches.moving_places(torch.stack([first, last]))
    torch.testing.assert_close(places.abs(), torch.stack([first, last])[..., :2].abs(), atol=1e-5, rtol=0)
    turn = torch.tensor([[0.0, -1], [1, 0]])
    before = places[:1] @ turn  # the plane as it was: the old places stay where they were
    torch.testing.assert_close(
        patches.moving_places(torch.stack([first, last]), before), places @ turn, atol=1e-5, rtol=0
    )
    assert patches.moving_places(torch.ones(3, 1, 5)).shape == (3, 1, 2)  # one vector, no direction


def test_patches_are_painted_by_their_vectors() -> None:
    """The colours are an affine map of the vectors' three strongest components, and follow the patches."""
    vit = patch_vit()
    pixels = torch.randn(1, 3, 32, 48)
    colors = patches.patch_colors(vit, pixels)
    assert colors.shape == (4, 6, 3)
    assert torch.equal(colors.amin((0, 1)), torch.zeros(3)) and torch.equal(
        colors.amax((0, 1)), torch.ones(3)
    )
    with torch.no_grad():
        vectors = vit.norm(vit(pixels)[-1])[0, 2:]
    *_, directions = torch.linalg.svd(vectors - vectors.mean(0), full_matrices=False)
    for color, direction in zip(colors.flatten(0, 1).T, directions[:3], strict=True):
        found = torch.corrcoef(torch.stack([color, vectors @ direction]))[0, 1]
        assert abs(found) > 0.9999
    assert patches.patch_colors(vit, pixels[..., :8, :8]).shape == (1, 1, 3)  # one patch, no direction
    assert plots.stack(plots.picture(colors.numpy()))


@pytest.mark.parametrize("segments", [2, 1, 0])
def test_what_a_word_is_made_of(segments: int) -> None:
    bert = our_bert("mlm", type_vocab_size=segments)
    ids, kinds = torch.tensor([[2, 60, 61, 3, 62, 3]]), torch.tensor([[0, 0, 0, 0, 1, 1]])
    places = torch.tensor([[0, 1, 2, 5, 6, 7]])
    front = bert.embeddings
    for token in range(6):
        steps = patches.embedding_steps(bert, token, input_ids=ids, token_type_ids=kinds, position_ids=places)
        known = {"word": front.word_embeddings.weight[ids[0, token]]}
        if segments:
            known["segment"] = front.token_type_embeddings.weight[kinds[0, token] if segments > 1 else 0]
        known["position"] = front.position_embeddings.weight[places[0, token]]
        assert list(steps) == [*known, "sum", "normed"]
        for name, vector in known.items():
            close(steps[name], vector)
        close(steps["sum"], sum(known.values()))
        close(steps["normed"], bert(ids, kinds, position_ids=places)[0][0, token])
    with pytest.raises(ValueError, match="There is no token 6"):
        patches.embedding_steps(bert, 6, input_ids=ids)


@pytest.mark.parametrize("head", ["mlm", "sentiment", "pos", "span"])
def test_the_last_step_of_a_head(head: str) -> None:
    bert = our_bert("mlm", "sentiment", "pos", "span")
    states = bert(torch.tensor([[2, 60, 61, 3]]))[-1][:, [2]]
    steps = patches.linear_steps(bert, states, head)
    assert steps["matrix"].shape == (len(steps["logits"]), 36) and steps["vector"].shape == (36,)
    close(steps["matrix"] @ steps["vector"] + steps["bias"], steps["logits"])
    close(steps["logits"], bert.logits(head, states).flatten())


def test_the_last_step_of_one_head_and_of_two() -> None:
    for vit in (our_vit(), our_vit(distilled=True, heads=2)):
        states = vit(torch.randn(1, 3, 32, 48))[-1]
        steps = patches.linear_steps(vit, states)
        close(steps["matrix"] @ steps["vector"] + steps["bias"], vit.logits(states)[0])


def test_patches_may_be_numbers_of_any_kind() -> None:
    vit, pixels = patch_vit(), torch.zeros(1, 3, 32, 48)
    order = torch.arange(24).flip(0)
    given, _ = patches.rearranged(vit, pixels, torch.tensor([1, 2]), order)
    expected, _ = patches.rearranged(vit, pixels, [1, 2], order.tolist())
    torch.testing.assert_close(given, expected)
