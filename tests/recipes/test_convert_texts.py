"""The data kit's texts, converted: nothing is trained on that is scored."""

import json
from collections.abc import Callable
from pathlib import Path

import common
import convert_kit
import datasets
import pytest
from tiny_texts import documents


def rows(sets: Path, name: str, split: str) -> list[dict]:
    return [json.loads(line) for line in (sets / name / f"{split}.jsonl").read_text().splitlines()]


def test_every_set_can_be_read_by_its_folder(sets: Path) -> None:
    found = {folder.name: {file.stem for file in folder.glob("*.jsonl")} for folder in sets.iterdir()}
    both = {"train", "validation"}
    assert found == {
        "wiki": {"train"},  # split by title where they are read
        "stories": {"train"},
        "qa": both,
        "qed_nq": both,
        "made_unanswerable": both,
        "squad2_train_sample": both,
        "question_twins": {"train"},
        "cad_nli": both,
        "breaking_nli": {"train"},
        "snli": both,
        "litl": {"validation"},  # it states no licence to train on
        "sick": {"test"},
        "mr_sentence_polarity": both,
        "ewt": {"train", "test"},
    }
    for name, splits in found.items():
        loaded = datasets.load_dataset(str(sets / name))
        assert set(loaded) == splits and all(len(split) for split in loaded.values())


@pytest.mark.parametrize(
    "name, held_out, key",
    [
        ("qa", "validation", lambda row: row["title"]),
        ("qed_nq", "validation", lambda row: row["title"]),
        ("made_unanswerable", "validation", lambda row: row["context"]),
        ("squad2_train_sample", "validation", lambda row: row["context"]),
        ("cad_nli", "validation", lambda row: row["premise"]),
        ("mr_sentence_polarity", "validation", lambda row: row["text"]),
        ("ewt", "test", lambda row: " ".join(row["tokens"])),
    ],
)
def test_no_head_trains_on_what_it_is_scored_on(sets: Path, name: str, held_out: str, key: Callable) -> None:
    train, scored = ({key(row) for row in rows(sets, name, split)} for split in ("train", held_out))
    assert train and scored and not train & scored


def test_documents_are_all_there(sets: Path) -> None:
    for name, texts in (("wiki", documents()[:200]), ("stories", documents()[200:])):
        assert [row["text"] for row in rows(sets, name, "train")] == texts


def test_questions_have_squad_s_form(sets: Path) -> None:
    train, scored = rows(sets, "qa", "train"), rows(sets, "qa", "validation")
    assert len(scored) == 8
    assert not any(row["question"] == "the owl ?" for row in train)  # its answer occurs twice
    for row in train + scored:
        for text, start in zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True):
            assert row["context"][start : start + len(text)] == text
    # A made question stands behind the one that it was made from, and where it is scored, so is that one.
    made = rows(sets, "made_unanswerable", "validation")
    assert [row["question"] for row in made[:2]] == ["a cat ?", "a dog ?"]
    assert made[0]["answers"]["text"] and not made[1]["answers"]["text"]
    assert made[0]["context"] == made[1]["context"]
    contexts, kept = ({row["context"] for row in part} for part in (made, train))
    assert not contexts & kept and len(contexts | kept) == 24


def test_words_have_tags_and_pairs_classes(sets: Path) -> None:
    assert rows(sets, "ewt", "train")[0] == {
        "tokens": ["the", "0", "eats", "n't"],
        "upos": ["DET", "NUM", "VERB", "PART"],
    }
    assert ["the", "cat", "7-8"] not in [row["tokens"] for row in rows(sets, "ewt", "train")]
    assert len(rows(sets, "cad_nli", "train")) == 10
    assert set(rows(sets, "snli", "validation")[0]) == {"premise", "hypothesis", "label"}


def test_without_a_kit_there_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        common.run(convert_kit.convert, "", [str(tmp_path / "nothing"), str(tmp_path / "out")])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and "No such file" in error and "Traceback" not in error
