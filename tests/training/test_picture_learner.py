"""What a ViT learns pictures with: changed pictures, start weights, a new head."""

from pathlib import Path

import pytest
import torch

from workbench.checkpoint import load_vit, save_checkpoint
from workbench.image import normalize
from workbench.training import picture_learner
from workbench.training.picture_learner import DRAWS, PictureLearner, augment, new_vit, points

LABELS = ["blue square", "green disc", "red bar"]


def test_changed_pictures_keep_their_range_and_what_they_show() -> None:
    pixels = torch.randint(256, (16, 3, 32, 32), dtype=torch.uint8)
    draws = torch.rand(16, DRAWS)
    for height, width in ((32, 32), (24, 48)):
        where = points(height, width)
        changed = augment(pixels, draws, where)
        assert changed.shape == (16, 3, height, width) and changed.dtype == torch.float32
        assert changed.min() >= 0 and changed.max() <= 255
        assert torch.equal(changed, augment(pixels, draws, where))
    still = torch.full((16, DRAWS), 0.5)
    still[:, [0, 4, 10]] = torch.tensor([1.0, 1.0, 1.0])  # all of it, not mirrored, nothing painted
    plain = pixels.float()
    torch.testing.assert_close(augment(pixels, still, points(32, 32)), plain, atol=0.02, rtol=0)
    still[:, 4] = 0.0
    mirrored = augment(pixels, still, points(32, 32))
    torch.testing.assert_close(mirrored, plain.flip(-1), atol=0.02, rtol=0)
    still[:, 10] = 0.0
    painted = (augment(pixels, still, points(32, 32)) == 127.5).all(1).float().mean()
    assert 0.05 < painted < 0.2
    # A red thing stays red, a green one green.
    swatches = torch.zeros(3, 3, 32, 32, dtype=torch.uint8)
    for channel in range(3):
        swatches[channel, channel] = 200
    for seed in range(5):
        draws = torch.rand(3, DRAWS, generator=torch.Generator().manual_seed(seed))
        draws[:, 10] = 1
        assert augment(swatches, draws, points(32, 32)).mean((2, 3)).argmax(1).tolist() == [0, 1, 2]


@pytest.mark.parametrize("changed", [False, True])
def test_what_it_is_taught_is_learned(changed: bool) -> None:
    torch.manual_seed(0)
    vit = new_vit(LABELS, 32, 8, 2, 32)
    pixels = torch.randint(256, (16, 3, 32, 32), dtype=torch.uint8)
    targets = torch.zeros(16, dtype=torch.long)
    learner = PictureLearner(vit).train()
    optimizer = torch.optim.AdamW(vit.parameters(), 1e-3)
    for _ in range(12):
        changes = {"draws": torch.rand(16, DRAWS), "points": points(32, 32)} if changed else {}
        losses, counts = learner(pixels=pixels, targets=targets, **changes)
        optimizer.zero_grad()
        (losses / counts).sum().backward()
        optimizer.step()
    assert counts.tolist() == [16]
    assert (picture_learner.picture_logits(vit.eval(), pixels).argmax(-1) == 0).all()


def test_a_new_vit_starts_mimetic_and_is_a_plain_one(tmp_path: Path) -> None:
    vit = new_vit(LABELS, 96, 8, 2, 192)
    attention = vit.encoder.layers[1].attention
    assert vit.config.num_attention_heads == 3 and vit.config.grid == (12, 12)
    query, key, value = attention.query_key_value.weight.detach().chunk(3)
    for head in range(3):
        product = query[64 * head : 64 * head + 64].T @ key[64 * head : 64 * head + 64]
        assert 0.2 < product.trace() / 192 < 0.8  # rank 64 of 0.7 I + noise
        assert product.trace() / 192 > 5 * (product - torch.diag(product.diag())).abs().mean()
    product = value.T @ attention.output.weight.detach().T
    assert product.trace() / 192 == pytest.approx(-0.4, abs=0.05)
    positions = vit.embeddings.position_embeddings[0].detach()
    assert not positions[0].any() and positions[1:].norm(dim=1).eq(0).sum() == 0
    alike = torch.cosine_similarity(positions[1 + 66], positions[1:], dim=-1)  # row 5, column 6
    assert alike.argmax() == 66 and alike[67] > alike[69] > alike[71]
    save_checkpoint(vit.eval(), tmp_path, torch.float32)
    again, pixels = load_vit(tmp_path, device="cpu"), torch.rand(1, 3, 96, 64)
    torch.testing.assert_close(again.logits(again(pixels)[-1]), vit.logits(vit(pixels)[-1]))
    with pytest.raises(ValueError, match="No ViT has"):
        new_vit(LABELS, 96, 7)


def test_pictures_are_classified_in_parts() -> None:
    torch.manual_seed(0)
    vit = new_vit(LABELS, 32, 8, 2, 32).eval()
    pixels = torch.randint(256, (70, 3, 32, 32), dtype=torch.uint8)
    logits = picture_learner.picture_logits(vit, pixels)
    for at in (0, 63, 64, 69):
        alone = vit.logits(vit(normalize(pixels[at : at + 1], vit.preprocessing))[-1])[0].detach()
        torch.testing.assert_close(logits[at], alone, atol=1e-5, rtol=1e-4)


def test_a_new_head_knows_nothing() -> None:
    vit = picture_learner.new_head(new_vit(LABELS, 32, 8, 2, 32), ["cat", "dog"])
    assert vit.labels == ("cat", "dog")
    assert vit.logits(vit(torch.rand(2, 3, 32, 32))[-1]).tolist() == [[0, 0], [0, 0]]
