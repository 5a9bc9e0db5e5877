"""Converts a data kit once into layouts that `datasets.load_dataset` reads: `python convert_kit.py KIT OUT`.

A set of texts is a folder, a split a file in it: OUT/texts/SET/train.jsonl, and others that are only scored.
Pictures are OUT/pictures/SPLIT/CLASS/FILE, as imagefolder has it; OUT/masks has some with a mask each.
What a row is split by, and so never in both: questions by article or passage, pairs by the group of sentences
that were made from each other, sentences by their text. Documents are split where they are read, by title.
"""

import csv
import hashlib
import io
import json
import lzma
import random
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import common
import numpy as np
import torch
from common import ELSE
from PIL import Image
from torch import Tensor

QUESTIONS_EACH = 8  # most questions of a context in training: some sets have very many for one sentence
SCORED_ONLY = ("litl", "sanli")  # they state no licence to train on

Row = dict
Splits = dict[str, list[Row]]
Sets = dict[str, Splits]


def read_text(file: Path) -> str:
    """A text that is packed with xz."""
    return lzma.decompress(file.read_bytes()).decode()


def read_lines(file: Path) -> list[Row]:
    """A file of one JSON object a line, packed with xz."""
    return [json.loads(line) for line in read_text(file).rstrip("\n").split("\n")]


def one_in(count: int, text: str) -> bool:
    """Whether a text is among one in `count`, by a hash of its letters and digits."""
    letters = "".join(filter(str.isalnum, text.lower()))
    return int(hashlib.sha256(letters.encode()).hexdigest(), 16) % count == 0


def split(rows: Iterable[Row], is_scored: Callable[[Row], bool]) -> Splits:
    """Rows to train on, and rows for validation."""
    splits: Splits = {"train": [], "validation": []}
    for row in rows:
        splits["validation" if is_scored(row) else "train"].append(row)
    return splits


def document_sets(kit: Path) -> Sets:
    """Texts: a blank line between documents, the title first."""
    sets = {}
    for file in (kit / "text").glob("*.txt.xz"):
        documents = read_text(file).replace('""', "").strip("\n").split("\n\n")
        sets[file.name.split(".")[0]] = {"train": [{"text": each} for each in documents]}
    return sets


def questions(row: Row) -> Iterator[Row]:
    """The questions of a context, in SQuAD's form."""
    for question in row["qas"]:
        texts, starts = zip(*question["a"], strict=True) if question["a"] else ((), ())
        yield {
            "source": row["source"],
            "title": row["title"],
            "context": row["context"],
            "question": question["q"],
            "answers": {"text": texts, "answer_start": starts},
        }


def question_sets(kit: Path) -> Sets:
    """Questions with and without an answer; those that a program made unanswerable each after the one that it
    was made from."""
    names = ("qa", "made_unanswerable", "squad2_train_sample", "qed_nq", "question_twins")
    qa, made, squad2, qed, twins = (read_lines(kit / "qa" / f"{name}.jsonl.xz") for name in names)
    scored = {row["context"] for row in made if one_in(20, row["context"])}  # nobody trains on these
    kept = [row for row in qa if row["split"] == "val" or row["context"] not in scored]
    for row in kept:
        if row["split"] == "train":  # an answer that occurs twice: which one is meant?
            row["qas"] = [each for each in row["qas"][:QUESTIONS_EACH] if not each.get("amb")]
    originals = {(row["context"], each["q"]): each for row in qa for each in row["qas"]}
    for row in made:
        pairs = [(originals.get((row["context"], each["from"])), each) for each in row["qas"]]
        row["qas"] = [each for pair in pairs if pair[0] for each in pair]
    sets = {
        "qa": split(kept, lambda row: row["split"] == "val"),
        "made_unanswerable": split(made, lambda row: row["context"] in scored),
        "squad2_train_sample": split(squad2, lambda row: one_in(10, row["context"])),
        "qed_nq": split(qed, lambda row: one_in(10, row["title"])),
    }
    for splits in sets.values():
        for part, rows in splits.items():
            splits[part] = [each for row in rows for each in questions(row)]
    return sets | {"question_twins": {"train": twins}}


def pair_sets(kit: Path) -> Sets:
    """Premises and hypotheses."""
    names = ("cad_nli", "sick", "nli_more", "breaking_nli")
    edited, sick, more, breaking = (read_lines(kit / "pairs" / f"{name}.jsonl.xz") for name in names)
    scored = {text for row in edited if row["split"] != "train" for text in (row["a"], row["b"])}
    kept = {"breaking_nli": breaking}
    kept["cad_nli"] = [row for row in edited if row["split"] != "train" or not {row["a"], row["b"]} & scored]
    for row in more:
        if row["split"] != "train" or row["source"] not in SCORED_ONLY:
            kept.setdefault(row["source"], []).append(row)
    sets = {name: split(rows, lambda row: row["split"] != "train") for name, rows in kept.items()}
    sets["sick"] = {"test": [row for row in sick if row["split"] == "test"]}
    for splits in sets.values():
        for part, rows in splits.items():
            splits[part] = [
                {"premise": row["a"], "hypothesis": row["b"], "label": row["label"]} for row in rows
            ]
    return sets


def word_sets(kit: Path) -> Sets:
    """Tagged sentences of tables FORM, UPOS, ...; a blank line between sentences, "#" before comments."""
    sets: Sets = defaultdict(dict)
    for file in (kit / "pos").glob("*.tsv.xz"):
        name, _, part = file.name.split(".")[0].rpartition("_")
        blocks = [block.split("\n") for block in read_text(file).strip().split("\n\n")]
        words = [[line.split("\t") for line in block if "\t" in line] for block in blocks]
        rows = [{"tokens": [word[0] for word in each], "upos": [word[1] for word in each]} for each in words]
        sets[name][part] = rows

    def said(row: Row) -> str:
        return " ".join(row["tokens"]).lower()

    seen = {said(row) for splits in sets.values() for row in splits["test"]}
    for splits in sets.values():
        splits["train"] = [row for row in splits["train"] if said(row) not in seen]
        splits.pop("dev", None)
    return sets


def convert_texts(kit: Path, out: Path) -> None:
    """Writes all sets of texts of a kit to `out`/SET/SPLIT.jsonl."""
    sets = document_sets(kit) | question_sets(kit) | pair_sets(kit) | word_sets(kit)
    reviews = read_lines(kit / "sentences" / "mr_sentence_polarity.jsonl.xz")
    sets["mr_sentence_polarity"] = split(reviews, lambda row: one_in(10, row["text"]))
    for name, splits in sets.items():
        for part, rows in splits.items():
            if rows:
                write_lines(out / name / f"{part}.jsonl", rows)
                print(f"{name} {part}: {len(rows):,} rows")


# --- pictures ------------------------------------------------------------------------------------

TRAIN, VALIDATION, TEST = "train", "validation", "test"  # TEST: of sources, or kinds, that are not in TRAIN
PARTS = {"val": VALIDATION}  # as the kit calls it
WHOLE = [0.0, 0.0, 1.0, 1.0]  # the box of a thing where none is known
NEAR_COPY = 0.9  # the correlation of two miniatures from which on two pictures are near copies

# Folders of the kit that make a class of their own name.
PLAIN = "bird boat bridge bus car cat chair flower frog fruit keyboard lamp shoe spider table train vegetable"
# Folders that make other classes, and kinds, told by the beginning of a file's name, which go before their
# folder. All others are something else.
CLASSES = {name: name for name in PLAIN.split()} | {
    "ape or monkey": "ape",
    "bear": "bear caltech101_panda",
    "bottle": "bottle glass_bottle",
    "building": "building church house tower n04486054",  # a triumphal arch
    "butterfly": "butterfly caltech101_butterfly",
    "clock or watch": "clock watch",
    "cup or teapot": "cup teapot",
    "dog": "dog english_springer",
    "elephant": "elephant caltech101_elephant",
    "fish": "fish tench caltech101_bass",
    # a plate, guacamole, mashed potato, meat loaf, potpie
    "food": "bread ice_cream pizza n07579787 n07583066 n07711569 n07871810 n07875152",
    # hog, ox, bison, bighorn, gazelle, dromedary
    "hoofed animal": "giraffe horse n02395406 n02403003 n02410509 n02415577 n02423022 n02437312 "
    "caltech101_gerenuk caltech101_llama caltech101_okapi caltech101_rhino",
    "insect": "insect n02231487",  # a stick insect
    "landscape": "mountain water_side",
    "musical instrument": "french_horn instrument",
    "other mammal": "mammal",
    "reptile": "crocodile snake",
    "sea animal": "sea_animal",
    ELSE: "caltech101_gramophone",
    "teddy bear": "teddy_bear",
    "truck or tractor": "garbage_truck tractor truck",
    "wild cat": "big_cat wild_cat",
}
CLASS_OF = {name: label for label, names in CLASSES.items() for name in names.split()}
# Left out, since they show something of a class and are none: salamander, slug, cliff dwelling, police van,
# spider web, coral reef, acorn.
LEFT_OUT = ["n01629819", "n01945685", "n03042490", "n03977966", "n04275548", "n09256479", "n12267677"]
# Classes of which a whole source is held out, so that one sees whether its style gives the class away.
HELD_OUT_SOURCES = {
    "caltech101": ["boat", "building", "butterfly", "chair", "elephant", "flower", "insect", "lamp"]
    + ["wild cat"],
    "pets": ["cat", "dog", "elephant"],
    "trashnet": ["bottle"],
}
# Who learns from the other classes of these sources learns their style with them, and takes what is held out
# for these: their pictures weigh less, and nothing as something else.
SELDOM = 0.25
# Kinds of something else that are held out: what is unknown has to be told without having seen its like.
# Academic gown, apron, kimono, poncho and vestment.
WORN = ["n02669723", "n02730930", "n03617480", "n03980874", "n04532106"]
# Barrel, binoculars, cannon, frying pan, parking meter, sewing machine, torch.
THINGS = ["n02795169", "n02841315", "n02950826", "n03400231", "n03891332", "n04179913", "n04456115"]
HELD_OUT_KINDS = ["caltech101_gramophone", *WORN, *THINGS]
# Of these classes, and the sources that may be passed on, a few pictures come with the project: lesson 08
# judges on them.
SHARED = {
    "caltech101": ["bird", "clock or watch", "hoofed animal", "musical instrument", "sea animal"],
    "flower_photos": ["flower"],
    "grocery": ["fruit", "vegetable"],
    "oxford": ["cat", "dog"],
}
SHARED_EACH = 5
ZIPS = ("everyday", "imagenette", "pets", "tiny_imagenet", "tiny_other", "flower_photos")


@dataclass(frozen=True)
class Picture:
    """A picture of the kit: its part, class, source, file name and bytes."""

    part: str
    label: str
    source: str
    name: str
    data: bytes

    @cached_property
    def miniature(self) -> Tensor:
        """(16, 16, 3) of mean 0 and length 1, half precision; a picture of one colour is all zeros."""
        small = Image.open(io.BytesIO(self.data)).convert("RGB").resize((16, 16), Image.Resampling.BOX)
        values = torch.from_numpy(np.array(small, np.float32))
        values -= values.mean()
        return (values / values.norm().clamp(min=1)).half()


def convert_pictures(kit: Path, out: Path) -> None:
    """Writes `out`/pictures/PART/CLASS/FILE with metadata.jsonl (source, weight in training, and the thing's
    box where there is one), and `out`/masks/PART with a column of masks, and `out`/held_out_pictures.zip.
    Near copies between parts are left out.

    Raises:
        FileNotFoundError: a file of the kit is not there.
    """
    boxes, masks = read_boxes(kit / "images"), list(read_masks(kit / "images"))
    pictures = [picture for name in ZIPS for picture in read_zip(kit / "images" / f"{name}.zip")]
    masked = [picture for picture, _ in masks if picture.part == VALIDATION]
    train = without_near_copies([picture for picture in pictures if picture.part == TRAIN], masked)
    kept = train + without_near_copies([picture for picture in pictures if picture.part != TRAIN], train)
    rows = defaultdict(list)  # of metadata.jsonl, by folder
    for picture in kept:
        folder, name = out / "pictures" / picture.part, f"{picture.label}/{picture.source}-{picture.name}"
        write(folder / name, picture.data)
        row = {"file_name": name, "label": picture.label, "source": picture.source}
        row["weight"] = weight_of(picture)
        rows[folder].append(row | {"box": boxes.get(Path(picture.name).stem, WHOLE)})
    for picture, mask in masks:
        folder, name = out / "masks" / picture.part, f"mask-{Path(picture.name).stem}.png"
        write(folder / picture.name, picture.data)
        write(folder / name, mask)
        rows[folder].append({"file_name": picture.name, "mask_file_name": name})
    for folder, lines in rows.items():
        write_lines(folder / "metadata.jsonl", lines)
    write_shared(kept, out / "held_out_pictures.zip")
    print(f"{len(kept):,} pictures; {len(pictures) - len(kept):,} near copies were left out.")


def weight_of(picture: Picture) -> float:
    """How often a picture is drawn in training, beside others of its class."""
    if picture.source not in HELD_OUT_SOURCES:
        return 1.0
    return 0.0 if picture.label == ELSE else SELDOM


def write_shared(pictures: list[Picture], file: Path) -> None:
    """Writes CLASS/FILE of some pictures for validation, chosen by chance, to a zip."""
    fit = defaultdict(list)
    for picture in pictures:
        if picture.part == VALIDATION and picture.label in SHARED.get(picture.source, ()):
            fit[picture.label].append((picture.name, picture.data))
    with zipfile.ZipFile(file, "w") as archive:
        for label, each in sorted(fit.items()):
            for name, data in random.Random(0).sample(sorted(each), min(SHARED_EACH, len(each))):
                # A fixed date, so that the same pictures make the same file.
                archive.writestr(zipfile.ZipInfo(f"{label}/{name}"), data)


def read_zip(file: Path) -> Iterator[Picture]:
    """The pictures of a zip of the kit, in their parts and classes; those that show two are left out."""
    with zipfile.ZipFile(file) as archive:
        for member in sorted(archive.namelist()):
            if not member.endswith(".webp"):
                continue
            part, folder, name = member.split("/")[-3:]
            kind = name.split("_image_")[0] if "_image_" in name else name.split("_")[0]
            if kind in LEFT_OUT:
                continue
            label = CLASS_OF.get(kind) or CLASS_OF.get(folder, ELSE)
            # everyday.zip holds several collections, named at the beginning of the file's name.
            source = name.split("_")[0] if file.stem == "everyday" else file.stem
            if label in HELD_OUT_SOURCES.get(source, ()) or kind in HELD_OUT_KINDS:
                part = TEST
            yield Picture(PARTS.get(part, part), label, source, name, archive.read(member))


def read_masks(images: Path) -> Iterator[tuple[Picture, bytes]]:
    """Pictures of animals and their masks: 255 on the animal, 128 at its border."""
    with zipfile.ZipFile(images / "masks_pets300.zip") as archive:
        for line in archive.read("masks_pets300/meta.jsonl").splitlines():
            row = json.loads(line)
            data = archive.read(f"masks_pets300/images/{row['file']}")
            part = PARTS.get(row["everyday_clean_split"], TRAIN)
            mask = archive.read(f"masks_pets300/masks/{row['mask']}")
            yield Picture(part, row["label"], "oxford", row["file"], data), mask


def read_boxes(images: Path) -> dict[str, list[float]]:
    """The box of a thing (left, top, right, bottom; 0 to 1) by a picture's name without its ending."""
    lines = (images / "caltech101_boxes.csv").read_text().splitlines()
    boxes = {}
    for row in csv.DictReader(lines):
        name = f"caltech101_{row['class']}_{Path(row['path']).stem}"
        boxes[name] = [float(row[side]) for side in ("x1", "y1", "x2", "y2")]
    return boxes


def without_near_copies(pictures: list[Picture], others: list[Picture]) -> list[Picture]:
    """Leaves out the pictures that are near copies, or mirrored ones, of others."""
    if not pictures or not others:
        return pictures
    ours, theirs = (torch.stack([each.miniature for each in part]).float() for part in (pictures, others))
    theirs = torch.cat([theirs, theirs.flip(2)]).flatten(1).T
    copies = torch.cat([(part @ theirs).amax(1) > NEAR_COPY for part in ours.flatten(1).split(512)])
    return [picture for picture, copy in zip(pictures, copies.tolist(), strict=True) if not copy]


def write(file: Path, data: bytes) -> None:
    """Writes a file, and its folder first."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


def write_lines(file: Path, rows: list[dict]) -> None:
    """Writes rows as JSON lines."""
    write(file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())


def convert(kit: Path, out: Path, /) -> None:
    """Converts a data kit.

    Args:
        kit: its folder.
        out: gets the folders texts, pictures and masks.
    """
    convert_texts(kit, out / "texts")
    convert_pictures(kit, out)


if __name__ == "__main__":
    common.run(convert, __doc__)
