"""What lessons 08 and 09 say of the shipped picture checkpoint is what it does."""

import numpy as np
import pytest
import torch
from test_lesson_examples import cells, source

import workbench as wb
from workbench.attention import attention_distance, record_attention
from workbench.vit import ViT
from workbench.widgets import PatchAttention, PatchHiding
from workbench.widgets.samples import sample_image


@pytest.fixture(scope="module")
def vit() -> ViT:
    return wb.load_vit(device="cpu")


def test_hidden_and_moved_patches(vit: ViT) -> None:
    """How many of the fifty pictures stay right; one may change sides on another machine."""
    widget, right = PatchHiding(vit, sample="cat"), {}
    for name, share, seed, positions in (
        ("half", 0.5, 1, "own"),
        ("half, closed up", 0.5, 1, "place"),
        ("half, another draw", 0.5, 2, "own"),
        ("half, another draw, closed up", 0.5, 2, "place"),
        ("80 %", 0.8, 2, "own"),
        ("80 %, another draw", 0.8, 4, "own"),
        ("80 %, one more", 0.8, 3, "own"),
    ):
        widget.hide_at_random(share, seed=seed)
        widget.positions = positions
        widget.judge()
        right[name] = widget.judged[3]
        if name == "80 %":
            assert widget.bars[0][0] == "chair"
        if name == "80 %, another draw":
            assert widget.bars[0][0] == "clock or watch"
    assert widget.bars[0][0] == "cat" and widget.bars[0][1] == pytest.approx(0.50, abs=0.01)
    puzzle = PatchHiding(vit, sample="butterfly", positions="place")
    for name, seed, positions in (("place", 3, "place"), ("none", 3, "none"), ("none, too", 4, "none")):
        puzzle.shuffle(seed=seed)
        puzzle.positions = positions
        puzzle.judge()
        right[name] = puzzle.judged[3]
    assert puzzle.judged[2] == pytest.approx(36, abs=1)
    assert [*right.values()] == pytest.approx([31, 20, 33, 21, 23, 23, 21, 19, 14, 14], abs=1)
    text = source("08_vit_classification")
    halves = []
    for seed in range(1, 7):
        widget.positions = "own"
        widget.hide_at_random(0.5, seed=seed)
        halves.append(widget.bars[0][:2])
        widget._act({"do": "invert"})
        halves.append(widget.bars[0][:2])
    assert halves[0] == ["food", pytest.approx(0.33, abs=0.01)] and halves[1] == [
        "cat",
        pytest.approx(0.94, abs=0.01),
    ]
    cats = [label == "cat" for label, _ in halves]
    assert sum(one and other for one, other in zip(cats[::2], cats[1::2], strict=True)) == 2
    assert "In six draws both halves were cats twice" in text
    assert "31 of the fifty pictures are right instead of 36" in text
    assert "With the positions of the new places 19 are right, with none at all 14" in text
    assert "23, 21 and 23" in text and "and 20 when they closed ranks; in another draw 33 and 21" in text


def test_an_elephant_takes_shape(vit: ViT) -> None:
    widget = PatchHiding(vit, sample="elephant")
    best = [vit.labels[number] for number in widget._now.argmax(-1)]
    assert best[-3:] == ["hoofed animal", "hoofed animal", "elephant"] and "elephant" not in best[:-1]
    first = []
    for seed in range(12):
        widget.hide_at_random(0.5, seed=seed)
        best = (widget._now.argmax(-1) == vit.labels.index("elephant")).tolist()
        assert best[-1] and 0.78 < widget.bars[0][1] < 0.975
        first.append(best.index(True))
    assert sorted(first) == [7] * 3 + [8] * 9
    assert "in three of twelve draws" in source("08_vit_classification")
    assert "something else" in vit.labels[:-1], "it is not the last class"


def test_how_far_heads_look(vit: ViT) -> None:
    maps = {}
    for sample in ("coffee", "cat"):
        pixels = wb.prepare_image(sample_image(sample), vit.preprocessing)
        with torch.inference_mode(), record_attention(vit) as attention:
            vit(pixels)
        maps[sample] = torch.cat([attention[layer] for layer in sorted(attention)])
    geometry = {"grid": vit.config.grid, "patch_size": vit.config.patch_size}
    far = attention_distance(maps["coffee"], **geometry)
    assert [round(float(end)) for end in far.aminmax()] == [17, 49]
    assert [layer for layer in range(8) if far[layer].min() < 30] == [1, 2]
    even = attention_distance(torch.full_like(maps["coffee"], 1 / 145), **geometry)
    torch.testing.assert_close(even, torch.full_like(even, 49.88), atol=0.01, rtol=0)
    first = maps["cat"][0]  # (heads, query, key)
    patches = first[:, 1:, 1:] / first[:, 1:, 1:].sum(-1, keepdim=True)
    places = torch.cartesian_prod(torch.arange(12.0), torch.arange(12.0))
    near = torch.cdist(places, places) < 1.5
    assert float((patches[0] * near).sum(-1).mean()) == pytest.approx(0.26, abs=0.005)
    assert float(near.float().mean()) == pytest.approx(0.06, abs=0.005)
    moved = (patches - patches.mean(1, keepdim=True)).abs().sum(-1).mean(-1) / 2
    assert int(moved.argmin()) == 3 and int(moved.argmax()) == 0 and moved[0] > 3 * moved[3]
    assert float(first[0, 0, 0]) == pytest.approx(0.98, abs=0.005)
    text = source("09_vit_attention")
    assert "17 to 49 pixels" in text and "26 %" in text and "98 %" in text


def test_what_speaks_for_either_animal(vit: ViT) -> None:
    widget = PatchAttention(vit, sample="dog and cat")
    for name, share in (("dog", 0.62), ("cat", 0.21)):
        relevance = widget._relevance_of(vit.labels.index(name))[1:].view(12, 12)
        assert float(relevance[:, :6].sum() / relevance.sum()) == pytest.approx(share, abs=0.006)
        assert f"{share:.0%}".replace("%", " %") in source("09_vit_attention")


def test_norms_of_a_boat(vit: ViT) -> None:
    widget = PatchAttention(vit, sample="boat", measure="norm")
    ratios = np.frombuffer(widget.ratios, np.float16).reshape(2, 144)
    assert ratios[1].max() == pytest.approx(2.6, abs=0.05) and not widget.outliers
    widget.times = 1.5
    assert len(widget.outliers) == 7 and {patch % 12 for patch in widget.outliers} == {0}
    assert "seven patches are flagged, all of its left edge" in source("09_vit_attention")


@pytest.mark.slow
def test_which_map_is_true(vit: ViT) -> None:
    widget = PatchAttention(vit, sample="cat", method="mean")
    for method in ("mean", "rollout", "relevance"):
        widget.method = method
        widget.test_map()
    beats = [(test["hides"], test["shows"]) for test in widget.tests]
    assert beats == [(True, False), (False, False), (True, True)]
    (cell,) = (cell for cell in cells("09_vit_attention") if cell.startswith("gains ="))
    exec(cell, names := {"vit": vit, "PatchAttention": PatchAttention})  # as a learner runs it
    gains = names["gains"]
    first = [test["areas"][4] - test["areas"][0] for test in widget.tests]
    assert [gains[method][0] for method in gains] == pytest.approx(first, abs=6e-4)
    for each in zip(*gains.values(), strict=True):
        assert each[2] > max(each[:2]) + 0.03
    mean, rollout, relevance = (gain[-1] for gain in gains.values())  # the elephant
    assert max(mean, rollout) < 0.05 < relevance - 0.3
