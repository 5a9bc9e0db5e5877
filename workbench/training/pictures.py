"""Pictures for training: found in folders, zips or Hub sets, given classes, split, decoded once."""

import csv
import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from workbench.image import RESAMPLE, ImageSource, load_image

TRAIN, HELD_OUT, OTHER = "train", "held_out", "other"  # OTHER: of none of the classes, for scoring only
PARTS = {"train": TRAIN} | dict.fromkeys(("val", "valid", "validation", "test"), HELD_OUT)
COPY = 0.9  # the correlation of two miniatures from which on they are near copies
KIT = ("everyday", "imagenette", "pets")  # the zips of the data kit that are learned from

# Classes of the data kit, by folder or by the beginning of a file's name, which comes first. All other
# folders are classes by their own names. Each class holds all that its name says, and shares it with none.
KIT_CLASSES = {
    "english_springer": "dog",
    "tench": "fish",
    "caltech101_bass": "fish",
    "caltech101_elephant": "elephant",
    "mammal": "other mammal",  # kangaroo, llama, rhino, hedgehog, beaver, okapi, panda, gerenuk
    "big_cat": "wild cat",  # leopard, cougar and smaller ones
    "french_horn": "musical instrument",
    "instrument": "musical instrument",
    "caltech101_gramophone": OTHER,  # no instrument
    "building": "tower",  # minaret, pagoda; churches are a class of their own
    "caltech101_pyramid": OTHER,  # no tower
}


@dataclass(frozen=True)
class Picture:
    """Where a picture is, what it shows, and whether it is for training."""

    part: str
    label: str
    name: str
    source: str
    open: Callable[[], ImageSource]


@dataclass(frozen=True)
class Pictures:
    """Decoded pictures: `pixels` (pictures, 3, side, side) of uint8, and arrays (pictures,). `targets` index
    `labels`, -1 for none of them; `places` index the list that `find_pictures` gives."""

    pixels: np.ndarray
    targets: np.ndarray
    parts: np.ndarray
    places: np.ndarray
    labels: np.ndarray

    def rows(self, part: str) -> np.ndarray:
        """Indices of the pictures in a part."""
        return np.flatnonzero(self.parts == part)

    def held_out(self) -> tuple[np.ndarray, Tensor]:
        """Pixels and targets of those to score with."""
        rows = self.rows(HELD_OUT)
        return self.pixels[rows], torch.from_numpy(self.targets[rows])

    def save(self, file: Path) -> None:
        """Keeps them in an .npz file; an interrupted save leaves none."""
        file.parent.mkdir(parents=True, exist_ok=True)
        with (unfinished := file.with_suffix(".part")).open("wb") as stream:
            np.savez(stream, **vars(self))
        unfinished.replace(file)

    @classmethod
    def load(cls, file: Path) -> "Pictures":
        """Reads what `save` wrote."""
        with np.load(file) as arrays:
            return cls(**arrays)


# --- finding them ------------------------------------------------------------------------------


def kit_label(folder: str, file: str) -> str:
    """The class of a file in a folder of the data kit."""
    start = file.split("_image_")[0]
    return KIT_CLASSES.get(start) or KIT_CLASSES.get(folder) or folder.replace("_", " ")


def kit_file(source: str | Path, name: str) -> Path | None:
    """A file of the data kit's pictures, if `source` is the kit, or its folder images/, and has it."""
    folders = (Path(source), Path(source) / "images")
    kit = next((folder for folder in folders if (folder / "everyday.zip").is_file()), None)
    return kit / name if kit and (kit / name).is_file() else None


def find_pictures(source: str | Path) -> list[Picture]:
    """All pictures of a source, not opened yet.

    Args:
        source: the data kit; or a folder, or a zip, with pictures in folders named after their classes,
            which may lie in folders train and val; or the name of a Hub set. If nothing in it is for
            scoring, one picture in ten is, by a hash of its name.

    Raises:
        ValueError: nothing to read there.
    """
    zips = [file for name in KIT if (file := kit_file(source, f"{name}.zip"))]
    if zips:
        found = [picture for file in zips for picture in _in_folders(file, kit_label)]
    elif Path(source).exists():
        found = list(_in_folders(Path(source), lambda folder, file: folder))
    else:
        found = list(_in_hub_set(str(source)))
    if not found:
        raise ValueError(f"{source} holds no pictures in folders named after their classes.")
    if all(picture.part != HELD_OUT for picture in found):
        tenths = [int(hashlib.sha256(picture.name.encode()).hexdigest(), 16) % 10 for picture in found]
        found = [
            picture if tenth else replace(picture, part=HELD_OUT)
            for picture, tenth in zip(found, tenths, strict=True)
        ]
    return found


def _in_folders(path: Path, label_of: Callable[[str, str], str]) -> Iterator[Picture]:
    if path.is_dir():
        members = [(file.relative_to(path).as_posix(), file.read_bytes) for file in sorted(path.rglob("*"))]
    else:
        try:
            archive = zipfile.ZipFile(path)
        except zipfile.BadZipFile as error:
            raise ValueError(f"{path} is neither a folder nor a zip.") from error
        members = [(name, partial(archive.read, name)) for name in sorted(archive.namelist())]
    for name, read in members:
        *folders, file = PurePosixPath(name).parts
        is_picture = Path(file).suffix.lower() in Image.registered_extensions() and not file.startswith(".")
        if folders and is_picture:
            label = label_of(folders[-1], file)
            part = next((PARTS[folder] for folder in folders[:-1] if folder in PARTS), TRAIN)
            yield Picture(OTHER if label == OTHER else part, label, name, path.stem, read)


def _in_hub_set(name: str) -> Iterator[Picture]:
    import datasets  # slow to import, and only needed here

    try:
        tables = datasets.load_dataset(name)
    except Exception as error:  # offline shows itself in many kinds of errors
        raise ValueError(f"{name} is neither a folder, a zip nor a Hub set of pictures.") from error
    for split, table in tables.items():
        columns = {type(feature): column for column, feature in table.features.items()}
        if not {datasets.Image, datasets.ClassLabel} <= set(columns):
            raise ValueError(f"The Hub set {name} lacks a column of pictures, or one of classes.")
        targets, images = table[columns[datasets.ClassLabel]], table[columns[datasets.Image]]
        names = table.features[columns[datasets.ClassLabel]].names
        for row, target in enumerate(targets):
            if target >= 0:  # -1 stands for unknown
                part, label = PARTS.get(split, TRAIN), names[target]
                yield Picture(part, label, f"{split}/{row}", name, partial(images.__getitem__, row))


# --- reading them ------------------------------------------------------------------------------


def read_pixels(pictures: Sequence[Picture], side: int) -> np.ndarray:
    """Decodes pictures, each squeezed to a square: (pictures, 3, side, side) of uint8.

    Nothing is cut off. So those held out are just what `Preprocessing(size=(side, side))` gives a user's
    picture, and random crops of the others give back all kinds of proportions.
    """
    pixels = np.empty((len(pictures), 3, side, side), np.uint8)
    for row, picture in enumerate(tqdm(pictures, desc="reading", unit="picture", leave=False)):
        try:
            image = load_image(picture.open()).resize((side, side), RESAMPLE["bilinear"])
        except ValueError as error:
            raise ValueError(f"{picture.name} in {picture.source}: {error}") from error
        pixels[row] = np.asarray(image).transpose(2, 0, 1)
    return pixels


def near_copies(pixels: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Which pictures are near copies, or mirrored ones, of others: their miniatures of 16 x 16 pixels
    correlate by more than `COPY`. (pictures, 3, side, side), (others, 3, side, side) -> (pictures,)."""
    if not len(pixels) or not len(of):
        return np.zeros(len(pixels), bool)
    others = torch.cat([_miniatures(of), _miniatures(of[..., ::-1])])
    return torch.cat([(part @ others.T).amax(1) > COPY for part in _miniatures(pixels).split(512)]).numpy()


def _miniatures(pixels: np.ndarray) -> Tensor:
    """(pictures, 768), each of mean 0 and length 1; a picture of one colour is all zeros."""
    parts = np.array_split(pixels, len(pixels) // 1024 + 1)
    flat = torch.cat(
        [F.adaptive_avg_pool2d(torch.from_numpy(p.copy()).float(), 16).flatten(1) for p in parts]
    )
    return F.normalize(flat - flat.mean(1, keepdim=True), eps=1.0)


def prepare_pictures(source: str | Path, side: int) -> Pictures:
    """Finds and reads pictures; what is held out and is a near copy of a training picture is left out, and
    so are training pictures that are near copies of those with masks that are held out.

    Raises:
        ValueError: nothing to read there, a damaged picture, fewer than two classes, or none held out.
    """
    found = find_pictures(source)
    pixels, parts = read_pixels(found, side), np.array([picture.part for picture in found])
    masked = read_pixels([picture for picture, _ in read_masks(source) if picture.part == HELD_OUT], side)
    train, score = np.flatnonzero(parts == TRAIN), np.flatnonzero(parts == HELD_OUT)
    train = train[~near_copies(pixels[train], masked)]
    score = score[~near_copies(pixels[score], pixels[train])]
    places = np.sort(np.concatenate([train, score, np.flatnonzero(parts == OTHER)]))
    labels = sorted({found[place].label for place in train})
    unknown = {found[place].label for place in score} - set(labels)
    if len(labels) < 2 or not len(score) or unknown:
        needs = "at least two classes, and of each of them pictures to learn from and others to score with"
        raise ValueError(f"{source} has too few pictures: it needs {needs}.")
    indices = {label: index for index, label in enumerate(labels)}
    targets = np.array([indices.get(found[place].label, -1) for place in places])
    return Pictures(pixels[places], targets, parts[places], places, np.array(labels))


def read_masks(source: str | Path) -> list[tuple[Picture, Callable[[], np.ndarray]]]:
    """The data kit's pictures with a mask, and what opens that: (height, width), True on the animal."""
    file = kit_file(source, "masks_pets300.zip")
    if not file:
        return []
    archive, found = zipfile.ZipFile(file), []

    def open_mask(name: str) -> np.ndarray:
        return np.asarray(load_image(archive.read(name)))[..., 0] > 0  # 255, and 128 on its border

    for line in archive.read("masks_pets300/meta.jsonl").splitlines():
        row = json.loads(line)
        read = partial(archive.read, f"masks_pets300/images/{row['file']}")
        picture = Picture(PARTS[row["everyday_clean_split"]], row["label"], row["file"], file.stem, read)
        found.append((picture, partial(open_mask, f"masks_pets300/masks/{row['mask']}")))
    return found


def read_boxes(source: str | Path) -> dict[str, list[float]]:
    """The data kit's boxes by the name of a picture without its ending: left, top, right, bottom, 0 to 1."""
    file = kit_file(source, "caltech101_boxes.csv")
    rows = csv.DictReader(file.read_text().splitlines()) if file else ()
    return {
        f"caltech101_{row['class']}_{Path(row['path']).stem}": [
            float(row[side]) for side in ("x1", "y1", "x2", "y2")
        ]
        for row in rows
    }
