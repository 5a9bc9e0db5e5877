"""The pictures of lesson 10: drawn anew each time, and a tiny ViT begins to learn them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from workbench import plots
from workbench.image import normalize
from workbench.training import __main__, toy_pictures as toy


def test_pictures_are_drawn_by_seed() -> None:
    pixels, targets = toy.draw_pictures(300)
    assert pixels.shape == (300, 3, 24, 24) and pixels.dtype == torch.uint8
    assert torch.equal(pixels, toy.draw_pictures(300)[0])
    assert not torch.equal(pixels, toy.draw_pictures(300, seed=1)[0])
    assert set(targets.tolist()) == set(range(len(toy.LABELS)))
    plain = targets % len(toy.TEXTURES) == toy.TEXTURES.index("plain")
    contrast = pixels[:, :, 9:15, 9:15].float().flatten(1).std(-1)  # the middle lies in the shape
    assert contrast[~plain].mean() > contrast[plain].mean()


def test_colours_become_codes_and_back() -> None:
    colors = torch.tensor([[0.0, 0, 0], [255, 255, 255], [32, 64, 96], [31.9, 63.9, 95.9]])
    codes = toy.color_codes(colors)
    assert codes.tolist() == [0, 511, 64 + 16 + 3, 0 + 8 + 2]
    assert torch.equal(toy.color_codes(toy.code_colors(torch.arange(512))), torch.arange(512))
    half = torch.zeros(1, 3, 8, 8)
    half[:, 0, :, 4:] = 200
    assert toy.mean_colors(half, 4)[0].tolist() == [[0, 0, 0], [200, 0, 0]] * 2
    assert 2 < toy.color_loss(100) < np.log(512)


def test_a_hidden_patch_is_not_seen() -> None:
    vit = toy.toy_vit(hidden_size=16, layers=1)
    learner = toy.MaskedPatches(vit).eval()
    batch = toy.hidden_batch(vit, 3)
    assert batch["chosen"].sum(-1).tolist() == [18] * 3
    chosen = torch.zeros(3, 36, dtype=torch.bool)
    chosen[:, 7] = True
    other = batch["pixels"].clone()
    other[:, :, 4:8, 4:8] = 0  # patch 7
    rest = dict(chosen=chosen, others=torch.zeros(3, 36, dtype=torch.long))
    with torch.inference_mode():
        for kind, same in ((0.5, True), (0.85, False)):  # a mask; as it was
            kinds = torch.full((3, 36), kind)
            seen = [learner.logits(pixels, kinds=kinds, **rest) for pixels in (batch["pixels"], other)]
            assert torch.allclose(*seen, atol=1e-5) == same
        swapped = learner.logits(batch["pixels"], kinds=torch.full((3, 36), 0.95), **rest)
        assert not torch.allclose(swapped, seen[0], atol=1e-4)
        nothing = learner.logits(batch["pixels"], kinds=kinds, **rest | dict(chosen=~chosen & False))
        states = learner.head(vit.norm(vit(normalize(batch["pixels"], vit.preprocessing))[-1][:, 1:]))
        torch.testing.assert_close(nothing, states, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", [toy.PictureLearner, toy.MaskedPatches])
def test_a_tiny_vit_begins_to_learn(kind: type, tmp_path: Path) -> None:
    vit = toy.toy_vit(hidden_size=48, layers=2)
    learner = kind(vit)
    maps: dict = {}
    progress = toy.toy_training(learner, tmp_path, steps=60, batch=32, learning_rate=2e-3, maps=maps)
    assert list(maps) == ["new pictures", "step 0", "step 20", "step 40", "step 60"]
    pictures = maps.pop("new pictures")
    for shown in maps.values():  # as dark as it is looked at: the brightest patch is as it was
        assert shown.shape == pictures.shape and (shown <= pictures).all()
        assert (shown == pictures).all(-1).reshape(8, -1).sum(-1).min() >= vit.config.patch_size**2
    assert (maps["step 60"] != maps["step 0"]).any()
    losses = [line["loss"] for line in progress.log if "loss" in line]
    accuracies = [line["accuracy"] for line in progress.log if "accuracy" in line]
    assert losses[-1] < 0.85 * losses[0] and accuracies[-1] > 0.1
    if kind is toy.PictureLearner:
        right = toy.shape_and_texture(vit, 480)
        both = accuracies[-1]
        assert min(right.values()) > both - 0.1 and max(right.values()) > 0.4
    if kind is toy.MaskedPatches:
        guesses = toy.guess_patches(learner, 3)
        hidden = (guesses["masked"] == 128).all(-1)
        assert hidden.mean() == pytest.approx(0.5, abs=0.02)
        assert (guesses["guessed"] == guesses["pictures"])[~hidden].all()
        assert plots.picture_rows(guesses)._repr_png_()[0].startswith(b"\x89PNG")


def test_after_a_stop_a_map_is_named_after_its_step(monkeypatch: pytest.MonkeyPatch) -> None:
    forward, steps, maps = toy.PictureLearner.forward, iter(range(99)), {}

    def stopping(self: toy.PictureLearner, **batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if next(steps) == 37:
            raise KeyboardInterrupt
        return forward(self, **batch)

    monkeypatch.setattr(toy.PictureLearner, "forward", stopping)
    learner = toy.PictureLearner(toy.toy_vit(hidden_size=16, layers=1))
    toy.toy_training(learner, None, steps=150, batch=4, maps=maps)
    assert list(maps) == ["new pictures", "step 0", "step 30", "step 37"]


@pytest.mark.slow
def test_as_in_the_lesson_classes_are_learned_within_two_minutes(tmp_path: Path) -> None:
    progress = toy.toy_training(toy.PictureLearner(toy.toy_vit()), tmp_path)
    assert progress.log[-1]["accuracy"] > 0.9 and progress.seconds < 120


@pytest.mark.parametrize("what", ["pictures", "patches"])
def test_it_runs_as_a_program(what: str, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("sys.argv", ["train", what, "--out", str(tmp_path / "toy"), "--steps", "1"])
    __main__.main()
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("1 step: loss ") and ", accuracy 0." in last
    assert (tmp_path / "toy" / "checkpoint" / "model.safetensors").exists()
