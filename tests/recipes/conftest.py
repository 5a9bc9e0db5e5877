"""A data kit in small, and what convert_kit.py makes of it."""

import json
import lzma
from pathlib import Path

import pytest
import torch
from convert_kit import convert_texts
from tiny_texts import documents, new_bert, sentence

from workbench.checkpoint import save_checkpoint


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose files no test changes."""
    return tmp_path_factory.mktemp("recipes")


@pytest.fixture(autouse=True)
def datasets_cache(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(shared / "cache"))


@pytest.fixture(scope="session")
def kit(shared: Path) -> Path:
    """A folder laid out like the data kit, with examples for every head."""
    folder, texts = shared / "kit", documents()
    (folder / "text").mkdir(parents=True)
    for name, part in (("wiki", texts[:200]), ("stories", texts[200:])):
        with lzma.open(folder / "text" / f"{name}.txt.xz", "wt") as file:
            file.write("\n\n".join(part) + "\n")
    questions = [
        {
            "source": "squad",
            "title": f"article {number // 3}",
            "context": f"{sentence(number)} {sentence(number + 1000)}",
            "qas": [{"q": "a cat ?", "a": [[str(number), sentence(number).index(str(number))]]}],
            "split": "val" if number >= 24 else "train",
        }
        for number in range(30)
    ]
    for row in questions[::4]:
        row["qas"].append({"q": "a bone ?", "a": []})
    questions[0]["qas"].append({"q": "the owl ?", "a": [["sees", 0]], "amb": 1})
    made = [
        row
        | {"source": "made_squad", "qas": [{"q": "a dog ?", "a": [], "from": "a cat ?"}], "split": "train"}
        for row in questions[:24]
    ]
    twins = {"q": "a cat ?", "a": [["the", 0]]}, {"q": "a fish ?", "a": []}
    adversarial = [
        {"source": "squad2", "title": "", "context": sentence(number), "qas": twins, "split": "train"}
        for number in range(2000, 2030)
    ]
    pairs = [
        {"a": sentence(number), "b": sentence(number + 100), "label": label, "split": split}
        for number, (label, split) in enumerate(
            [("entailment", "train"), ("neutral", "train"), ("contradiction", "test"), ("neutral", "dev")] * 5
        )
    ]
    pairs.append(pairs[2] | {"b": "a cat .", "split": "train"})  # its premise is scored
    more = [
        {"a": sentence(number), "b": "a cat .", "label": "neutral", "split": split, "source": source}
        for number, (split, source) in enumerate(
            [("train", "snli"), ("val", "snli"), ("train", "litl"), ("val", "litl")] * 3, start=3000
        )
    ]
    reviews = [{"text": sentence(number), "label": number % 2} for number in range(60)]
    files = {
        "qa/qa": questions,
        "qa/made_unanswerable": made,
        "qa/squad2_train_sample": adversarial,
        "qa/qed_nq": [row | {"title": f"title {number}"} for number, row in enumerate(adversarial)],
        "qa/question_twins": [
            {"answerable": "a cat ?", "unanswerable": "a dog ?", "edits": [["cat", "dog"]]}
        ],
        "pairs/cad_nli": pairs,
        "pairs/nli_more": more,
        "pairs/sick": pairs,
        "pairs/breaking_nli": more[:1],
        "sentences/mr_sentence_polarity": reviews,
    }
    for name, rows in files.items():
        file = folder / f"{name}.jsonl.xz"
        file.parent.mkdir(exist_ok=True)
        with lzma.open(file, "wt") as lines:
            lines.writelines(json.dumps(row) + "\n" for row in rows)
    (folder / "pos").mkdir()
    for name, first in (("ewt_train", 0), ("ewt_test", 20)):
        tables = ["# a comment\nthe\tDET\tx\ncat\tNOUN\tx\n7-8\tNUM\tx\n"]
        tables += [f"the\tDET\tx\n{first + n}\tNUM\tx\neats\tVERB\tx\nn't\tPART\tx\n" for n in range(9)]
        with lzma.open(folder / "pos" / f"{name}.tsv.xz", "wt") as file:
            file.write("\n".join(tables))
    return folder


@pytest.fixture(scope="session")
def sets(kit: Path, shared: Path) -> Path:
    """What `--data` takes: the kit, converted."""
    convert_texts(kit, shared / "sets")
    return shared / "sets"


@pytest.fixture(scope="session")
def start(shared: Path) -> Path:
    """A checkpoint to begin with, which has no head."""
    torch.manual_seed(0)
    bert = new_bert(max_position_embeddings=128)
    bert.heads.pop("mlm")
    save_checkpoint(bert, shared / "start")
    return shared / "start"
