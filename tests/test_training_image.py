"""The picture recipe: reading, splitting, changing and mixing pictures, training and scoring a ViT."""

import argparse
import csv
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from workbench import cli
from workbench.attention import record_attention
from workbench.checkpoint import load_vit, save_checkpoint
from workbench.image import Preprocessing, prepare_image
from workbench.training import image, loop
from workbench.training.pictures import (
    HELD_OUT,
    KIT_CLASSES,
    OTHER,
    TRAIN,
    Pictures,
    find_pictures,
    kit_label,
    near_copies,
    prepare_pictures,
    read_pixels,
)

SHAPES = {"blue square": "blue", "green disc": "green", "red bar": "red"}
TINY = dict(size=32, patch=8, layers=2, hidden=32)


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


def encoded(picture: Image.Image) -> bytes:
    picture.save(stream := io.BytesIO(), "png")
    return stream.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures as `--data` takes them: part/class/file."""
    for part, seeds in (("train", range(30)), ("val", range(100, 112))):
        for label in SHAPES:
            (place := tmp_path / "pictures" / part / label).mkdir(parents=True)
            for seed in seeds:
                drawn(label, seed).save(place / f"{seed}.png")
    return tmp_path / "pictures"


@pytest.fixture
def pictures(folder: Path) -> Pictures:
    return prepare_pictures(folder, 32)


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    """The data kit in small: the same names and forms."""
    place = tmp_path / "kit" / "images"
    place.mkdir(parents=True)
    seeds = iter(range(1000))
    folders = {
        "everyday": {"cat": "oxford_pets_Bengal_Bengal_{}", "motorbike": "caltech101_Motorbikes_image_{:04}"}
        | {"instrument": "caltech101_gramophone_image_{:04}"},
        "imagenette": {"english_springer": "n02102040_{}"},
        "pets": {"dog": "dog.{}"},
    }
    looks = dict(
        zip(("cat", "motorbike", "instrument", "english_springer", "dog"), list(SHAPES) * 2, strict=False)
    )
    masked = {}
    for name, classes in folders.items():
        with zipfile.ZipFile(place / f"{name}.zip", "w") as archive:
            for label, file in classes.items():
                for number in range(12):
                    picture = drawn(looks[label], next(seeds), (48, 40))
                    part = "val" if number < 4 else "train"
                    archive.writestr(f"{part}/{label}/{file.format(number)}.png", encoded(picture))
                    if label == "cat":
                        masked[f"Bengal_{number}"] = (picture, part)
    with zipfile.ZipFile(place / "masks_pets300.zip", "w") as archive:
        mask = Image.new("L", (48, 40))
        ImageDraw.Draw(mask).rectangle([0, 0, 30, 30], fill=255, outline=128)
        rows = []
        for name, (picture, part) in masked.items():
            archive.writestr(f"masks_pets300/images/{name}.png", encoded(picture))
            archive.writestr(f"masks_pets300/masks/{name}.png", encoded(mask))
            row = dict(file=f"{name}.png", mask=f"{name}.png", label="cat", everyday_clean_split=part)
            rows.append(json.dumps(row))
        archive.writestr("masks_pets300/meta.jsonl", "\n".join(rows))
    with (place / "caltech101_boxes.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "class", "x1", "y1", "x2", "y2", "everyday_clean_split"])
        for number in range(4):
            path = f"caltech101_128/Motorbikes/image_{number:04}.jpg"
            writer.writerow([path, "Motorbikes", 0.0, 0.25, 0.5, 1.0, "val"])
    return place.parent


def tiny_vit(**changes) -> image.ViT:
    return image.new_vit(list(SHAPES), **TINY | changes).eval()


def run(pictures: Pictures, out: Path, steps: int, stop: Callable | None = None, **options) -> loop.Progress:
    torch.manual_seed(0)
    vit = tiny_vit(drop=0.1)
    source = image.Batches(pictures, 16, 32, 8)
    settings = loop.Settings(steps=steps, warmup=2, log_every=1, save_every=3, learning_rate=1e-3)
    progress = loop.train(image.PictureLosses(vit), stop or source, settings, out, **options)
    return progress, vit


# --- reading -----------------------------------------------------------------------------------


def test_pictures_are_read_from_a_folder_a_zip_and_a_hub_set(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "train" / "red bar" / "notes.txt").write_text("no picture")
    (folder / "train" / "red bar" / "._0.png").write_text("what a Mac leaves behind")
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w") as archive:
        for file in folder.rglob("*"):
            archive.write(file, Path("some") / file.relative_to(folder))
    features = datasets.Features(picture=datasets.Image(), kind=datasets.ClassLabel(names=list(SHAPES)))
    hub = datasets.DatasetDict()
    for split, part in (("train", "train"), ("validation", "val")):
        files = sorted((folder / part).rglob("[0-9]*.png"))
        kinds = [file.parent.name for file in files]
        rows = {"picture": [str(file) for file in files], "kind": kinds}
        hub[split] = datasets.Dataset.from_dict(rows, features=features)
    monkeypatch.setattr(datasets, "load_dataset", lambda name: hub)

    of_folder, of_zip, of_hub = (
        prepare_pictures(source, 32) for source in (folder, tmp_path / "pictures.zip", "someone/shapes")
    )
    assert of_folder.labels.tolist() == sorted(SHAPES)
    assert of_folder.pixels.dtype == np.uint8 and of_folder.pixels.shape[1:] == (3, 32, 32)
    assert len(of_folder.rows(TRAIN)) == 90 and len(of_folder.rows(HELD_OUT)) > 20
    assert np.array_equal(of_folder.pixels, of_zip.pixels)
    for part in (TRAIN, HELD_OUT):
        order = [
            np.lexsort(found.pixels[found.rows(part)].reshape(-1, 3072).T) for found in (of_folder, of_hub)
        ]
        ours, theirs = (f.pixels[f.rows(part)][o] for f, o in zip((of_folder, of_hub), order, strict=True))
        assert np.array_equal(ours, theirs)


def test_what_is_scored_is_what_a_user_s_picture_becomes(folder: Path, pictures: Pictures) -> None:
    found = find_pictures(folder)
    pixels, targets = pictures.held_out()
    for row, place in enumerate(pictures.places[pictures.rows(HELD_OUT)]):
        picture = found[place]
        assert picture.label == pictures.labels[targets[row]] and "val" in picture.name
    values = next(image._batches(tiny_vit(), pixels))[1][:1]
    user = prepare_image(
        found[pictures.places[pictures.rows(HELD_OUT)[0]]].open(), Preprocessing(size=(32, 32))
    )
    torch.testing.assert_close(values, user)


def test_one_in_ten_is_held_out_where_nothing_is(tmp_path: Path) -> None:
    for label in SHAPES:
        (tmp_path / "train" / label).mkdir(parents=True)
        for seed in range(40):
            drawn(label, seed).save(tmp_path / "train" / label / f"{seed}.png")
    parts = [picture.part for picture in find_pictures(tmp_path)]
    assert 3 < parts.count(HELD_OUT) < 24
    assert parts == [picture.part for picture in find_pictures(tmp_path)]
    # The folders of the classes alone will do; a class may be called as a part is.
    (tmp_path / "train" / "red bar").rename(tmp_path / "train" / "test")
    assert {picture.label for picture in find_pictures(tmp_path / "train")} == {
        "blue square",
        "green disc",
        "test",
    }


def test_near_copies_are_found_and_left_out(folder: Path) -> None:
    original = drawn("green disc", 3, (160, 120))
    half = original.resize((80, 60), Image.Resampling.LANCZOS)
    brighter = half.point(lambda value: min(255, int(value * 1.1) + 10))
    copies = [half, half.transpose(Image.Transpose.FLIP_LEFT_RIGHT), brighter]
    half.save(stream := io.BytesIO(), "jpeg", quality=50)
    copies.append(Image.open(stream))
    others = [drawn("green disc", seed, (160, 120)) for seed in range(200, 206)]
    grey = Image.new("RGB", (40, 40), "gray")
    original.save(folder / "train" / "green disc" / "original.png")
    for number, picture in enumerate([*copies, *others, grey]):
        picture.save(folder / "val" / "green disc" / f"new{number:02}.png")
    found = find_pictures(folder)
    new = read_pixels([picture for picture in found if "new" in picture.name], 32)
    old = read_pixels([picture for picture in found if "original" in picture.name], 32)
    assert near_copies(new, old).tolist() == [True] * 4 + [False] * 7
    assert not near_copies(old[:0], new).any() and not near_copies(new, old[:0]).any()

    kept = prepare_pictures(folder, 32)
    names = [found[place].name.split("/")[-1] for place in kept.places]
    assert "original.png" in names
    assert [name for name in names if "new" in name] == [f"new{number:02}.png" for number in range(4, 11)]
    assert not near_copies(kept.held_out()[0], kept.pixels[kept.rows(TRAIN)]).any()


def test_the_kit_has_one_class_for_one_thing(kit: Path) -> None:
    assert kit_label("english_springer", "n02102040_1.webp") == kit_label("dog", "dog.1.webp") == "dog"
    assert kit_label("mammal", "caltech101_elephant_image_0001.webp") == "elephant"
    assert kit_label("mammal", "caltech101_okapi_image_0001.webp") == "other mammal"
    assert kit_label("instrument", "caltech101_gramophone_image_0001.webp") == OTHER
    assert kit_label("garbage_truck", "ILSVRC2012_val_00000001.webp") == "garbage truck"
    # No class is made of one that is itself called something else, and names are words.
    for name, label in KIT_CLASSES.items():
        assert label not in KIT_CLASSES and label.replace(" ", "").isalpha() and name == name.strip()

    found = prepare_pictures(kit, 32)
    assert found.labels.tolist() == ["cat", "dog", "motorbike"]
    assert (found.targets[found.rows(OTHER)] == -1).all() and len(found.rows(OTHER)) == 12
    again = prepare_pictures(kit / "images", 32)
    assert np.array_equal(found.pixels, again.pixels)


def test_pictures_with_held_out_masks_are_not_trained_on(kit: Path) -> None:
    with zipfile.ZipFile(kit / "images" / "everyday.zip") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["train/cat/copy.png"] = members["val/cat/oxford_pets_Bengal_Bengal_0.png"]
    with zipfile.ZipFile(kit / "images" / "everyday.zip", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    found, kept = find_pictures(kit), prepare_pictures(kit, 32)
    names = {found[place].name for place in kept.places}
    assert "train/cat/copy.png" not in names and "val/cat/oxford_pets_Bengal_Bengal_0.png" in names


def test_pictures_are_kept_in_a_file(pictures: Pictures, tmp_path: Path) -> None:
    pictures.save(tmp_path / "new" / "pictures.npz")
    again = Pictures.load(tmp_path / "new" / "pictures.npz")
    assert all(np.array_equal(value, getattr(again, name)) for name, value in vars(pictures).items())
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["pictures.npz"]


# --- changing and mixing -----------------------------------------------------------------------


def test_batches_are_repeatable_and_shared_by_processes(pictures: Pictures) -> None:
    source, same = (image.Batches(pictures, 16, 32, 8) for _ in range(2))
    for step in (0, 3, 40):
        whole = source(step)
        assert all(torch.equal(tensor, same(step)[name]) for name, tensor in whole.items())
        parts = [source(step, process, 4) for process in range(4)]
        for name in ("pixels", "targets", "draws"):
            assert all(torch.equal(part[name], whole[name][i::4]) for i, part in enumerate(parts))
        assert all(torch.equal(part["points"], whole["points"]) for part in parts)
    assert not torch.equal(source(0)["pixels"], source(1)["pixels"])
    other = image.Batches(pictures, 16, 32, 8, seed=1)
    assert not torch.equal(source(0)["draws"], other(0)["draws"])
    shapes = {tuple(source(step)["points"].shape[:2]) for step in range(60)}
    assert (
        (32, 32) in shapes and len(shapes) > 5 and all(16 <= side <= 48 for shape in shapes for side in shape)
    )


def test_the_first_steps_are_small(pictures: Pictures) -> None:
    source, large = image.Batches(pictures, 8, 48, 8, small_steps=20), image.Batches(pictures, 8, 48, 8)
    sides = [source(step)["points"].shape[:2] for step in range(40)]
    assert (32, 32) in sides[:20] and (48, 48) not in sides[:20] and (48, 48) in sides[20:]
    for step in (3, 25):  # the pictures are the same, only seen smaller
        assert torch.equal(source(step)["pixels"], large(step)["pixels"])


def test_small_classes_are_drawn_more_often_than_they_occur(pictures: Pictures) -> None:
    rows = np.concatenate(
        [np.flatnonzero(pictures.targets == 0)[:4], np.flatnonzero(pictures.targets == 1)[:16]]
    )
    parts = np.full(len(rows), TRAIN)
    few = Pictures(pictures.pixels[rows], pictures.targets[rows], parts, rows, pictures.labels)
    source = image.Batches(few, 64, 32, 8)
    drawn_targets = torch.cat([source(step)["targets"] for step in range(50)])
    assert abs((drawn_targets == 0).float().mean() - 1 / 3) < 0.03  # a quarter of the pictures: half as often


def test_losses_do_not_depend_on_the_number_of_processes(pictures: Pictures) -> None:
    torch.manual_seed(0)
    objective = image.PictureLosses(tiny_vit(), mix=0.8, teacher=tiny_vit())
    source = image.Batches(pictures, 16, 32, 8)
    for step in range(3):
        whole, count = objective(**source(step))
        parts = [objective(**source(step, process, 4)) for process in range(4)]
        torch.testing.assert_close(sum(losses for losses, _ in parts), whole)
        assert count.tolist() == [16, 16] and objective.size(source(step, 1, 4)) == 4
    assert objective.names == ("class", "teacher")
    assert not [name for name, _ in objective.named_parameters() if "teacher" in name]


def test_changed_pictures_keep_their_range_and_what_they_show(pictures: Pictures) -> None:
    pixels = torch.from_numpy(pictures.pixels[:16])
    draws = torch.rand(16, image.DRAWS)
    for height, width in ((32, 32), (24, 48)):
        points = image.points(height, width)
        changed = image.augment(pixels, draws, points)
        assert changed.shape == (16, 3, height, width) and changed.dtype == torch.float32
        assert changed.min() >= -1 and changed.max() <= 1
        assert torch.equal(changed, image.augment(pixels, draws, points))
    still = torch.full((16, image.DRAWS), 0.5)
    still[:, [0, 4, 10]] = torch.tensor([1.0, 1.0, 1.0])  # all of it, not mirrored, nothing painted
    plain = pixels.float() / 127.5 - 1
    torch.testing.assert_close(image.augment(pixels, still, image.points(32, 32)), plain, atol=1e-4, rtol=0)
    still[:, 4] = 0.0
    mirrored = image.augment(pixels, still, image.points(32, 32))
    torch.testing.assert_close(mirrored, plain.flip(-1), atol=1e-4, rtol=0)
    still[:, 10] = 0.0
    painted = (image.augment(pixels, still, image.points(32, 32)) == 0).all(1).float().mean()
    assert 0.05 < painted < 0.2
    # A red thing stays red, a green one green.
    swatches = torch.zeros(3, 3, 32, 32, dtype=torch.uint8)
    for channel in range(3):
        swatches[channel, channel] = 200
    for seed in range(5):
        draws = torch.rand(3, image.DRAWS, generator=torch.Generator().manual_seed(seed))
        draws[:, 10] = 1
        assert image.augment(swatches, draws, image.points(32, 32)).mean((2, 3)).argmax(1).tolist() == [
            0,
            1,
            2,
        ]


def test_mixing_keeps_the_shares_that_it_says() -> None:
    draws, points = torch.rand(400, image.DRAWS), image.points(24, 32)
    shares = image.own_shares(draws, points, 0.6)
    assert shares.shape == (400, 24, 32) and shares.min() >= 0 and shares.max() <= 1
    flat = shares.flatten(1)
    whole = (flat == 1).all(1)
    even = (flat == flat[:, :1]).all(1) & ~whole
    assert abs(whole.float().mean() - 0.4) < 0.1 and abs(even.float().mean() - 0.3) < 0.1
    assert ((flat == 0) | (flat == 1))[~even].all()  # the rest is cut, not blended
    assert image.own_shares(draws, points, 0.0).eq(1).all()


# --- the models --------------------------------------------------------------------------------


def test_a_new_vit_starts_mimetic_and_is_a_plain_one(tmp_path: Path) -> None:
    vit = image.new_vit(list(SHAPES), 96, 8, 2, 192)
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


def test_stochastic_depth_leaves_layers_out_in_training_only() -> None:
    depth, added = image.StochasticDepth(0.5), torch.rand(200, 3, 4)
    kept = depth(added).flatten(1).any(1)
    assert 60 < kept.sum() < 140
    torch.testing.assert_close(
        depth(added)[0].sum() % (2 * added[0].sum()), torch.tensor(0.0), atol=1e-4, rtol=0
    )
    assert torch.equal(depth.eval()(added), added)


@pytest.mark.parametrize("hard", [False, True])
def test_a_teacher_is_learned_from(pictures: Pictures, hard: bool, tmp_path: Path) -> None:
    teacher = image.ConvNet(list(SHAPES), 4)
    image.save_teacher(teacher, tmp_path)
    teacher = image.load_teacher(tmp_path, list(SHAPES))
    assert not any(parameter.requires_grad for parameter in teacher.parameters()) and not teacher.training
    with torch.no_grad():
        teacher.head.bias.copy_(torch.tensor([9.0, 0.0, 0.0]))  # all is a blue square
    vit = tiny_vit()
    objective = image.PictureLosses(vit, teacher=teacher, weight=1.0, hard=hard).train()
    optimizer = torch.optim.AdamW(vit.parameters(), 1e-3)
    for step in range(12):
        losses, counts = objective(**image.Batches(pictures, 16, 32, 8)(step))
        optimizer.zero_grad()
        (losses / counts).sum().backward()
        optimizer.step()
    assert not teacher.training
    assert (image.scores(vit.eval(), pictures.pixels).argmax(-1) == 0).all()
    with pytest.raises(ValueError, match="other classes"):
        image.load_teacher(tmp_path, ["cat", "dog"])


# --- training ----------------------------------------------------------------------------------


def test_resumed_after_a_kill_it_gives_the_same_numbers(pictures: Pictures, tmp_path: Path) -> None:
    source = image.Batches(pictures, 16, 32, 8)

    def stopping(step: int, process: int, processes: int) -> loop.Batch:
        if step == 5:
            raise RuntimeError
        return source(step, process, processes)

    whole, vit = run(pictures, tmp_path / "whole", 8)
    with pytest.raises(RuntimeError):
        run(pictures, tmp_path / "parts", 8, stopping)
    parts, resumed = run(pictures, tmp_path / "parts", 8, resume=True)
    assert [line["loss"] for line in whole.log] == [line["loss"] for line in parts.log] and len(
        whole.log
    ) == 8
    assert "pictures_per_second" in whole.log[0] and "class_loss" in whole.log[0]
    for name, tensor in vit.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_the_command_trains_and_scores_teacher_and_vit(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = ["--size", "32", "--patch", "8", "--layers", "2", "--hidden", "32", "--width", "4"]
    sizes += ["--batch", "32", "--warmup", "5", "--drop", "0", "--mix", "0.1"]
    train = ["train", "image", "--data", str(folder), *sizes]
    cli.main([*train, "--model", "teacher", "--out", str(tmp_path / "teacher"), "--steps", "3"])
    out = tmp_path / "out"
    learn = [*train, "--out", str(out), "--teacher", str(tmp_path / "teacher"), "--teacher-weight", "0.1"]
    cli.main([*learn, "--steps", "2"])
    cli.main([*learn, "--steps", "90", "--resume", "--learning-rate", "3e-3"])
    printed = capsys.readouterr().out
    assert "90 steps; top-1" in printed and "temperature" in printed
    vit = load_vit(out / "checkpoint", device="cpu")
    assert vit.labels == tuple(sorted(SHAPES)) and vit.preprocessing == Preprocessing(size=(32, 32))
    pixels, targets = Pictures.load(out / "pictures.npz").held_out()
    assert image.accuracy(image.scores(vit, pixels), targets) > 0.7  # by chance a third
    go_on = [*train, "--initial", str(out / "checkpoint"), "--warmup", "1000", "--steps", "1"]
    cli.main([*go_on, "--out", str(tmp_path / "more")])
    again = load_vit(tmp_path / "more" / "checkpoint", device="cpu")
    torch.testing.assert_close(again.norm.weight, vit.norm.weight, atol=1e-3, rtol=0)
    with pytest.raises(SystemExit):
        cli.main([*go_on, "--out", str(tmp_path / "other"), "--size", "40"])
    assert "other classes or another size" in capsys.readouterr().err
    score = ["evaluate", "image", "--data", str(folder), "--checkpoint", str(out / "checkpoint")]
    cli.main([*score, "--confusion", str(tmp_path / "confusion.png")])
    printed = capsys.readouterr().out
    for word in ("top-1", "top-5", "own proportions", "calibration", "worst", "30 %", "relevance", "random"):
        assert word in printed
    assert "pointing" not in printed and "box" not in printed
    assert Image.open(tmp_path / "confusion.png").width > 300


def test_with_the_kit_it_tells_where_the_model_looks(
    kit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vit = image.new_vit(["cat", "dog", "motorbike"], **TINY)
    save_checkpoint(vit, tmp_path / "vit", torch.float16)
    cli.main(["evaluate", "image", "--data", str(kit), "--checkpoint", str(tmp_path / "vit"), "--most", "5"])
    printed = capsys.readouterr().out
    for word in (
        "pointing game",
        "layer 2, head 1",
        "rollout",
        "random patch",
        "centre",
        "in the box",
        "none of",
    ):
        assert word in printed
    assert "(everyday, imagenette, pets)" not in printed and "dog (imagenette, pets)" in printed


# --- figures -----------------------------------------------------------------------------------


def test_figures_are_what_they_say() -> None:
    targets = torch.tensor([0, 0, 0, 0, 1, 1])
    logits = torch.tensor([[4.0, 0, 1], [4, 0, 1], [4, 0, 1], [0, 1, 4], [4, 0, 1], [0, 4, 1]])
    assert image.class_accuracies(logits, targets).tolist()[:2] == [0.75, 0.5]
    assert image.accuracy(logits, targets) == 0.625  # the third class has no pictures
    assert image.accuracy(logits, targets, 5) == 1
    assert image.accuracy(logits, targets, 2) == pytest.approx((0.75 + 0.5) / 2)
    sure = torch.tensor([[0.0, 100.0]] * 4)
    assert image.calibration_error(sure, torch.tensor([1, 1, 1, 0])) == pytest.approx(0.25)
    assert image.calibration_error(torch.zeros(4, 2), torch.tensor([0, 0, 0, 1])) == pytest.approx(0.25)
    assert image.calibration_error(torch.zeros(4, 2), torch.tensor([0, 0, 1, 1])) == pytest.approx(0.0)


def test_the_temperature_is_folded_into_the_head() -> None:
    torch.manual_seed(0)
    logits = torch.randn(4000, 3) * 2
    targets = torch.distributions.Categorical(logits=logits).sample()
    assert image.fit_temperature(logits * 3, targets) == pytest.approx(3, rel=0.1)
    vit, pixels = tiny_vit(), torch.rand(2, 3, 32, 32)
    before = vit.logits(vit(pixels)[-1])
    temperature = image.calibrate(vit, logits * 3, targets)
    torch.testing.assert_close(vit.logits(vit(pixels)[-1]), before / temperature)
    assert image.calibrate(vit, logits, logits.argmax(-1).where(torch.arange(4000) % 2 == 0, targets)) == 1


def test_maps_point_where_the_thing_is() -> None:
    box = image.boxes_on_grid([[0.0, 0.25, 0.375, 1.0], [0.0, 0.0, 1.0, 1.0]], (4, 4))
    assert box[0].view(4, 4).tolist() == [[0] * 4] + [[1, 0.5, 0, 0]] * 3
    assert box[1].eq(1).all()
    mask = np.zeros((8, 12), bool)
    mask[:4, :3] = True
    assert image.masks_on_grid([mask], (4, 4))[0].view(4, 4).tolist() == [[1, 0, 0, 0]] * 2 + [[0] * 4] * 2
    maps = torch.zeros(2, 16)
    maps[:, 4] = 1
    assert image.pointing(maps, box) == 1 and image.pointing(maps.flip(1), box) == 0.5


def test_hidden_patches_change_nothing_that_the_class_token_sees() -> None:
    vit = tiny_vit()
    pixels = np.random.default_rng(0).integers(0, 256, size=(3, 3, 32, 32), dtype=np.uint8)
    hidden = torch.zeros(3, 16, dtype=torch.bool)
    torch.testing.assert_close(image.scores(vit, pixels, hidden), image.scores(vit, pixels))
    hidden[:, 0] = True
    changed = pixels.copy()
    changed[:, :, :8, :8] = 0
    torch.testing.assert_close(image.scores(vit, pixels, hidden), image.scores(vit, changed, hidden))
    maps = image.patch_maps(vit, pixels)
    assert set(maps) == {"layer 2, head 1", "rollout", "relevance"}
    with torch.inference_mode(), record_attention(vit) as attention:
        vit(torch.from_numpy(pixels).float() / 127.5 - 1)
    torch.testing.assert_close(maps["layer 2, head 1"], attention[1][:, 0, 0, 1:])


def test_own_proportions_make_a_larger_map(folder: Path, tmp_path: Path) -> None:
    vit, shapes = tiny_vit(), []
    vit.register_forward_pre_hook(lambda module, inputs: shapes.append(tuple(inputs[0].shape[-2:])))
    for number, size in enumerate(((40, 40), (60, 40), (40, 60), (400, 40))):
        (tmp_path / "some" / "red bar").mkdir(parents=True, exist_ok=True)
        drawn("red bar", number, size).save(tmp_path / "some" / "red bar" / f"{number}.png")
    found = find_pictures(tmp_path / "some")
    assert image.own_shape_scores(vit, found).shape == (4, 3)
    assert sorted(shapes) == [(32, 32), (32, 48), (32, 64), (48, 32)]


# --- bad inputs --------------------------------------------------------------------------------


def test_bad_inputs_get_one_sentence(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str) -> None:
        raise ConnectionError("no network\nat all")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    empty, one, torn, junk = (tmp_path / name for name in ("empty", "one", "torn", "junk.zip"))
    empty.mkdir()
    junk.write_bytes(b"no zip")
    for place, label in ((one, "red bar"), (torn, "red bar"), (torn, "green disc")):
        (place / label).mkdir(parents=True)
        for seed in range(20):
            drawn(label, seed).save(place / label / f"{seed}.png")
    (torn / "red bar" / "7.png").write_bytes(b"torn")
    (tmp_path / "teacherless").mkdir()
    save_checkpoint(image.new_vit(["cat", "dog"], **TINY), tmp_path / "vit")
    odd = image.new_vit(list(SHAPES), **TINY)
    odd.preprocessing = Preprocessing(size=(32, 32), crop_share=0.9)
    save_checkpoint(odd, tmp_path / "odd")

    train = ["train", "image", "--out", str(tmp_path / "out"), "--size", "32", "--steps", "1", "--data"]
    score = ["evaluate", "image", "--data", str(folder), "--checkpoint"]
    for arguments, message in (
        ([*train, "nobody/nothing"], "neither a folder, a zip nor a Hub set"),
        ([*train, str(empty)], "holds no pictures"),
        ([*train, str(junk)], "neither a folder nor a zip"),
        ([*train, str(one)], "at least two classes"),
        ([*train, str(torn)], "7.png"),
        ([*train, str(folder), "--batch", "7"], "multiple of 2"),
        ([*train, str(folder), "--patch", "7"], "No ViT has"),
        ([*train, str(folder), "--hours", "-1"], "Say how long"),
        ([*train, str(folder), "--teacher", str(tmp_path / "teacherless")], "holds no teacher"),
        ([*score, str(tmp_path / "vit")], "other classes"),
        ([*score, str(tmp_path / "odd")], "prepared in another way"),
        ([*score, str(tmp_path / "nothing")], "no file or folder"),
    ):
        with pytest.raises(SystemExit) as stop:
            cli.main(arguments)
        error = capsys.readouterr().err
        assert stop.value.code == 2
        assert message in error and error.count("workbench: ") == 1 and "Traceback" not in error, error


def test_the_options_are_explained() -> None:
    parser = argparse.ArgumentParser()
    image.add_train_arguments(parser)
    assert all(f"{name} " in parser.format_help() for name, *_ in image.OPTIONS)
