"""What convert_kit.py makes of the data kit's pictures."""

import csv
import io
import json
import zipfile
from collections import Counter
from pathlib import Path

import convert_kit
import numpy as np
import pytest
from convert_kit import CLASSES, ELSE, HELD_OUT_KINDS, HELD_OUT_SOURCES, LEFT_OUT, convert_pictures
from PIL import Image, ImageDraw


def picture(seed: int) -> Image.Image:
    """Random blocks: no two are near copies."""
    blocks = np.random.default_rng(seed).integers(0, 256, size=(6, 6, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize((48, 40), Image.Resampling.NEAREST)


def encoded(image: Image.Image, kind: str = "webp") -> bytes:
    image.save(stream := io.BytesIO(), kind, quality=50)
    return stream.getvalue()


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    """The data kit in small: the same names and forms, four pictures a folder and part."""
    place = tmp_path / "kit" / "images"
    place.mkdir(parents=True)
    seeds = iter(range(10_000))
    folders = {
        "everyday": {
            "cat": "oxford_Bengal_{}",
            "bird": "caltech101_ibis_image_{:04}",
            "chair": "caltech101_chair_image_{:04}",
            "instrument": "caltech101_gramophone_image_{:04}",
            "mammal": "caltech101_elephant_image_{:04}",
            "faces": "caltech101_face_image_{:04}",
        },
        "imagenette": {"english_springer": "n02102040_{}", "gas_pump": "n03425413_{}"},
        "pets": {"dog": "dog.{}"},
        "tiny_imagenet": {"mammal": "n02395406_{}", "chair": "n04099969_{}"},
        "tiny_other": {"something_else": "n02669723_{}"},
        "flower_photos": {"flower": "daisy_{}"},
    }
    masked = []
    for name, classes in folders.items():
        with zipfile.ZipFile(place / f"{name}.zip", "w") as archive:
            for folder, file in classes.items():
                for number in range(8):
                    part, data = ("train", "val")[number % 2], encoded(picture(next(seeds)))
                    archive.writestr(f"{part}/{folder}/{file.format(number)}.webp", data)
                    if folder == "cat":
                        masked.append((f"Bengal_{number}", data, part))
            if name == "everyday":  # near copies of a held-out masked picture, and of a training picture
                copy = Image.open(io.BytesIO(masked[1][1])).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
                archive.writestr("train/cat/oxford_copy_1.webp", encoded(copy))
                copy = Image.open(io.BytesIO(masked[0][1])).resize((32, 32))
                archive.writestr("val/bird/caltech101_copy_image_0001.webp", encoded(copy))
            if name == "tiny_other":
                archive.writestr("train/something_else/n04275548_1.webp", encoded(picture(next(seeds))))
    mask = Image.new("L", (48, 40))
    ImageDraw.Draw(mask).rectangle([0, 0, 30, 30], fill=255, outline=128)
    with zipfile.ZipFile(place / "masks_pets300.zip", "w") as archive:
        for name, data, _ in masked:
            archive.writestr(f"masks_pets300/images/{name}.jpg", data)
            archive.writestr(f"masks_pets300/masks/{name}.png", encoded(mask, "png"))
        rows = [
            dict(file=f"{name}.jpg", mask=f"{name}.png", label="cat", everyday_clean_split=part)
            for name, _, part in masked
        ]
        archive.writestr("masks_pets300/meta.jsonl", "\n".join(map(json.dumps, rows)))
    with (place / "caltech101_boxes.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "class", "x1", "y1", "x2", "y2", "everyday_clean_split"])
        writer.writerow(["caltech101_128/ibis/image_0001.jpg", "ibis", 0.0, 0.25, 0.5, 1.0, "val"])
    return place.parent


def rows_of(folder: Path) -> dict[str, dict]:
    """The lines of metadata.jsonl by the name of the file, which has to be there."""
    lines = map(json.loads, (folder / "metadata.jsonl").read_text().splitlines())
    rows = {line["file_name"]: line for line in lines}
    assert all((folder / name).is_file() for name in rows)
    return rows


def test_a_kit_becomes_folders_of_classes(kit: Path, tmp_path: Path) -> None:
    convert_pictures(kit, tmp_path / "out")
    parts = {part: rows_of(tmp_path / "out" / "pictures" / part) for part in ("train", "validation", "test")}

    def labels(part: str) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for name, row in parts[part].items():
            assert name.startswith(f"{row['label']}/{row['source']}-")
            found.setdefault(row["label"], set()).add(row["source"])
        return found

    assert (
        labels("train")
        == labels("validation")
        == {
            "bird": {"caltech101"},
            "cat": {"oxford"},
            "chair": {"tiny_imagenet"},
            "dog": {"imagenette"},
            "flower": {"flower_photos"},
            "hoofed animal": {"tiny_imagenet"},
            ELSE: {"imagenette", "caltech101"},
        }
    )
    # That a picture is of Caltech-101 shall not tell what it shows, for its chairs are held out.
    weights = {(row["label"], row["source"]): row["weight"] for row in parts["train"].values()}
    assert weights.pop((ELSE, "caltech101")) == 0 and weights.pop(("bird", "caltech101")) == 0.25
    assert {*weights.values()} == {1.0}
    # Whole sources, and kinds of something else, of which nothing is trained on.
    assert labels("test") == {
        "chair": {"caltech101"},
        "dog": {"pets"},
        "elephant": {"caltech101"},
        ELSE: {"caltech101", "tiny_other"},
    }
    assert not [name for rows in parts.values() for name in rows if "n04275548" in name]  # a spider web
    boxes = {name: row["box"] for name, row in parts["validation"].items() if row["box"] != convert_kit.WHOLE}
    assert boxes == {"bird/caltech101-caltech101_ibis_image_0001.webp": [0.0, 0.25, 0.5, 1.0]}


def test_a_few_held_out_pictures_are_packed(kit: Path, tmp_path: Path) -> None:
    convert_pictures(kit, tmp_path / "out")
    file = tmp_path / "out" / "held_out_pictures.zip"
    held_out = {}
    folder = tmp_path / "out" / "pictures" / "validation"
    for name, row in rows_of(folder).items():
        if row["label"] in convert_kit.SHARED.get(row["source"], ()):
            held_out[name.replace(f"/{row['source']}-", "/")] = (folder / name).read_bytes()
    with zipfile.ZipFile(file) as archive:
        packed = {name: archive.read(name) for name in archive.namelist()}
    assert packed.items() <= held_out.items()
    counts = Counter(name.split("/")[0] for name in packed)
    assert counts == {"bird": 4, "cat": 4, "flower": 4}
    first = file.read_bytes()
    convert_pictures(kit, tmp_path / "out")
    assert file.read_bytes() == first


def test_near_copies_are_left_out(kit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    convert_pictures(kit, tmp_path / "out")
    assert "2 near copies were left out" in capsys.readouterr().out
    train, validation = (rows_of(tmp_path / "out" / "pictures" / part) for part in ("train", "validation"))
    assert "cat/oxford-oxford_Bengal_0.webp" in train and "cat/oxford-oxford_Bengal_1.webp" in validation
    assert not [name for name in [*train, *validation] if "copy" in name]


def test_what_is_a_near_copy() -> None:
    def of(image: Image.Image, kind: str = "png") -> convert_kit.Picture:
        return convert_kit.Picture("train", "", "", "", encoded(image, kind))

    original = picture(0).resize((160, 120))
    half = original.resize((80, 60), Image.Resampling.LANCZOS)
    brighter = half.point(lambda value: min(255, int(value * 1.1) + 10))
    copies = [of(half), of(half.transpose(Image.Transpose.FLIP_LEFT_RIGHT)), of(brighter), of(half, "jpeg")]
    others = [of(picture(seed)) for seed in range(1, 7)] + [of(Image.new("RGB", (40, 40), "gray"))]
    assert convert_kit.without_near_copies([*copies, *others], [of(original)]) == others
    assert convert_kit.without_near_copies(copies, []) == copies
    assert convert_kit.without_near_copies([], copies) == []


def test_masks_become_a_column_of_pictures(kit: Path, tmp_path: Path) -> None:
    convert_pictures(kit, tmp_path / "out")
    for part in ("train", "validation"):
        folder = tmp_path / "out" / "masks" / part
        rows = rows_of(folder)
        assert len(rows) == 4
        for row in rows.values():
            mask = np.asarray(Image.open(folder / row["mask_file_name"]).convert("L"))
            assert mask.shape == (40, 48) and set(np.unique(mask).tolist()) == {0, 128, 255}


def test_the_kit_has_one_class_for_one_thing() -> None:
    names = [name for each in CLASSES.values() for name in each.split()]
    assert len(names) == len(set(names)) and not set(names) & set(LEFT_OUT)
    assert all(label.replace(" ", "").isalpha() and label.islower() for label in CLASSES)
    assert all(set(labels) <= set(CLASSES) for labels in HELD_OUT_SOURCES.values())
    assert not set(HELD_OUT_KINDS) & {
        name for label, each in CLASSES.items() if label != ELSE for name in each.split()
    }
