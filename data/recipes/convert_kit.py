"""Converts a data kit once into layouts that `datasets.load_dataset` reads: `python convert_kit.py KIT OUT`.

A set of texts is a folder, a split a file in it: OUT/texts/SET/train.jsonl, and others that are only scored.
What a row is split by, and so never in both: documents by their title, questions by article or passage, pairs
by the group of sentences that were made from each other, sentences by their text.
"""

import argparse
import hashlib
import json
import lzma
from collections.abc import Iterable, Iterator
from pathlib import Path

from workbench.training.text_learner import split_documents

QUESTIONS_EACH = 8  # most questions of a context in training: some sets have very many for one sentence
SCORED_ONLY = ("litl", "sanli")  # they state no licence to train on

Row = dict
Splits = dict[str, list[Row]]


def read_lines(file: Path) -> list[Row]:
    """A file of one JSON object a line, packed with xz."""
    with lzma.open(file, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def one_in(count: int, text: str) -> bool:
    """Whether a text is among one in `count`, by a hash of its letters and digits."""
    letters = "".join(filter(str.isalnum, text.lower()))
    return int(hashlib.sha256(letters.encode()).hexdigest(), 16) % count == 0


def split_by(rows: Iterable[Row], column: str, count: int = 10) -> Splits:
    """One in `count` for validation, by the text in a column."""
    splits: Splits = {"train": [], "validation": []}
    for row in rows:
        splits["validation" if one_in(count, row[column]) else "train"].append(row)
    return splits


# --- documents -----------------------------------------------------------------------------------


def document_sets(kit: Path) -> Iterator[tuple[str, Splits]]:
    """Texts: a blank line between documents, the title first."""
    for file in sorted((kit / "text").glob("*.txt.xz")):
        with lzma.open(file, "rt", encoding="utf-8") as text:
            documents = [document.replace('""', "") for document in text.read().strip("\n").split("\n\n")]
        train, validation = split_documents(documents)
        yield (
            file.name.split(".")[0],
            {
                "train": [{"text": document} for document in train],
                "validation": [{"text": document} for document in validation],
            },
        )


# --- questions -----------------------------------------------------------------------------------


def questions(row: Row, most: int | None = None) -> Iterator[Row]:
    """The questions of a context, in SQuAD's form."""
    for question in row["qas"][:most]:
        texts, starts = zip(*question["a"], strict=True) if question["a"] else ((), ())
        yield {
            "source": row["source"],
            "title": row["title"],
            "context": row["context"],
            "question": question["q"],
            "answers": {"text": texts, "answer_start": starts},
        }


def question_sets(kit: Path) -> Iterator[tuple[str, Splits]]:
    """Questions with and without an answer."""
    folder = kit / "qa"
    qa, made = read_lines(folder / "qa.jsonl.xz"), []
    if (folder / "made_unanswerable.jsonl.xz").exists():
        made = read_lines(folder / "made_unanswerable.jsonl.xz")
    scored = {row["context"] for row in made if one_in(20, row["context"])}  # nobody trains on these
    train = [row for row in qa if row["split"] == "train" and row["context"] not in scored]
    for row in train:  # an answer that occurs twice: which one is meant?
        row["qas"] = [question for question in row["qas"][:QUESTIONS_EACH] if not question.get("amb")]
    yield (
        "qa",
        {
            "train": [question for row in train for question in questions(row)],
            "validation": [question for row in qa if row["split"] == "val" for question in questions(row)],
        },
    )
    if made:
        yield "made_unanswerable", split_made(made, qa, scored)
    for name, column in (("squad2_train_sample", "context"), ("qed_nq", "title")):
        if (file := folder / f"{name}.jsonl.xz").exists():
            yield name, split_by((each for row in read_lines(file) for each in questions(row)), column)
    if (file := folder / "question_twins.jsonl.xz").exists():
        yield "question_twins", {"train": read_lines(file)}


def split_made(made: list[Row], qa: list[Row], scored: set[str]) -> Splits:
    """Questions that a program made unanswerable, each after the one that it was made from."""
    originals = {(row["context"], each["q"]): each for row in qa for each in row["qas"]}
    splits: Splits = {"train": [], "validation": []}
    for row in made:
        pairs = [(originals.get((row["context"], each["from"])), each) for each in row["qas"]]
        row["qas"] = [each for pair in pairs if pair[0] for each in pair]
        splits["validation" if row["context"] in scored else "train"] += questions(row)
    return splits


# --- pairs, sentences, words ---------------------------------------------------------------------


def pair_sets(kit: Path) -> Iterator[tuple[str, Splits]]:
    """Premises and hypotheses."""

    def rows(name: str) -> list[Row]:
        file = kit / "pairs" / f"{name}.jsonl.xz"
        found = read_lines(file) if file.exists() else []
        return [{"premise": row["a"], "hypothesis": row["b"]} | row for row in found]

    def only(rows: list[Row]) -> list[Row]:
        return [{name: row[name] for name in ("premise", "hypothesis", "label")} for row in rows]

    edited = rows("cad_nli")
    scored = [row for row in edited if row["split"] != "train"]
    seen = {text for row in scored for text in (row["premise"], row["hypothesis"])}
    train = [
        row for row in edited if row["split"] == "train" and not {row["premise"], row["hypothesis"]} & seen
    ]
    yield "cad_nli", {"train": only(train), "validation": only(scored)}
    yield "sick", {"test": only([row for row in rows("sick") if row["split"] == "test"])}
    more = rows("nli_more")
    for source in sorted({row["source"] for row in more}):
        of_source = [row for row in more if row["source"] == source]
        train = [row for row in of_source if row["split"] == "train" and source not in SCORED_ONLY]
        scored = [row for row in of_source if row["split"] != "train"]
        yield source, {"train": only(train), "validation": only(scored)}
    yield "breaking_nli", {"train": only(rows("breaking_nli"))}


def word_sets(kit: Path) -> Iterator[tuple[str, Splits]]:
    """Tagged sentences of tables FORM, UPOS, ...; a blank line between sentences, "#" before comments."""
    tagged: dict[str, Splits] = {}
    for file in sorted((kit / "pos").glob("*.tsv.xz")):
        name, _, split = file.name.split(".")[0].rpartition("_")
        with lzma.open(file, "rt", encoding="utf-8") as text:
            blocks = [block.split("\n") for block in text.read().strip().split("\n\n")]
        words = [[line.split("\t") for line in block if "\t" in line] for block in blocks]
        rows = [{"tokens": [word[0] for word in each], "upos": [word[1] for word in each]} for each in words]
        tagged.setdefault(name, {})[split] = rows

    def said(row: Row) -> str:
        return " ".join(row["tokens"]).lower()

    seen = {said(row) for splits in tagged.values() for row in splits.get("test", [])}
    for name, splits in tagged.items():
        train = [row for row in splits.get("train", []) if said(row) not in seen]
        yield name, {"train": train, "test": splits.get("test", [])}


def convert_texts(kit: Path, out: Path) -> None:
    """Writes all sets of texts of a kit to `out`/SET/SPLIT.jsonl."""
    reviews = read_lines(kit / "sentences" / "mr_sentence_polarity.jsonl.xz")
    sets = [
        *document_sets(kit),
        *question_sets(kit),
        *pair_sets(kit),
        ("mr_sentence_polarity", split_by(reviews, "text")),
        *word_sets(kit),
    ]
    for name, splits in sets:
        for split, rows in splits.items():
            if rows:
                (out / name).mkdir(parents=True, exist_ok=True)
                with (out / name / f"{split}.jsonl").open("w", encoding="utf-8") as file:
                    file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
                print(f"{name} {split}: {len(rows):,} rows")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("kit", type=Path, help="the folder of the data kit")
    parser.add_argument("out", type=Path, help="gets the folder texts")
    options = parser.parse_args()
    convert_texts(options.kit, options.out / "texts")
