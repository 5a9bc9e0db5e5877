"""Sets are told by their columns; rows say what the examples say; what is made of them is right."""

from pathlib import Path

import datasets
import examples
import numpy as np
import pytest
from tiny_texts import new_tokenizer

from workbench.text import Tokenizer
from workbench.training.text_learner import IGNORED, padded_batch, row_lengths


@pytest.fixture
def tokenizer() -> Tokenizer:
    return new_tokenizer()


def one_row(rows: datasets.Dataset, row: int) -> dict:
    return padded_batch(rows, np.array([row]), 0)


def text_of(rows: datasets.Dataset, row: int, tokenizer: Tokenizer) -> list[str]:
    """What was packed into a row: the first part, and the second if there is one."""
    ids = one_row(rows, row)["input_ids"][0].tolist()
    text = tokenizer.backend.decode(ids, skip_special_tokens=False)
    return [part.strip() for part in text.removeprefix("[CLS]").split("[SEP]")[:-1]]


def targets(rows: datasets.Dataset) -> np.ndarray:
    return np.concatenate(rows["targets"])


def test_rows_hold_the_whole_text_in_order(tokenizer: Tokenizer) -> None:
    long = " ".join(f"{number}" for number in range(300))  # digits in pieces: 10 is "1" + "##0"
    rows = examples.masked_word_rows([f"# title\n{long}"], tokenizer, length=50)
    lengths = row_lengths(rows)
    assert lengths.max() == 52
    pieces = tokenizer.backend.encode(long, add_special_tokens=False)
    ids, words = (np.concatenate(rows[name]) for name in ("input_ids", "words"))
    assert ids[words > 0].tolist() == pieces.ids
    batch = padded_batch(rows, np.array([0, len(rows) - 1]), tokenizer.pad_id)
    assert batch["input_ids"].shape == (2, 52)
    assert batch["attention_mask"].sum(1).tolist() == lengths[[0, -1]].tolist()
    assert not batch["token_type_ids"].any() and batch["targets"].tolist() == [IGNORED] * 2
    assert batch["input_ids"][0, 0] == tokenizer.cls_id and batch["input_ids"][0, 51] == tokenizer.sep_id
    # Words are numbered from 1 in each row; 0 is [CLS], [SEP] and padding.
    first = words[1:51]
    assert first[0] == 1 and set(np.diff(first)) == {0, 1}
    assert batch["words"][1, lengths[-1] - 1 :].eq(0).all()
    assert len(examples.masked_word_rows([], tokenizer)) == 0


def train_examples(sets: Path) -> dict[str, list]:
    """By head, of the sets that are in the kit's first files."""
    found = examples.read_sets(
        [str(sets / name) for name in ("qa", "cad_nli", "mr_sentence_polarity", "ewt")]
    )
    return {each.kind: each.splits["train"] for each in found}


def test_spans_are_the_answers(sets: Path, tokenizer: Tokenizer) -> None:
    questions = train_examples(sets)["span"]
    for longest in (256, 16):  # whole passages, and stretches of them
        rows = examples.span_rows(questions, tokenizer, longest=longest, unanswerable=0.0)
        assert len(rows) == len(questions)
        for row, example in enumerate(questions):
            batch = one_row(rows, row)
            start, end = batch["targets"][0].tolist()
            assert batch["input_ids"].shape[1] <= longest
            if example["answers"]["text"]:
                answer = tokenizer.backend.decode(batch["input_ids"][0, start : end + 1].tolist())
                assert answer == example["answers"]["text"][0]
                assert batch["token_type_ids"][0, start] == 1
            else:
                assert start == end == 0

    def unanswered(rows: datasets.Dataset) -> list[list[int]]:
        return [row["input_ids"] for row in rows if row["targets"] == [0, 0]]

    more = examples.span_rows(questions, tokenizer, unanswerable=1.0)
    assert len(more) > len(questions) and len(unanswered(more)) > len(unanswered(rows))
    twice = examples.span_rows(questions * 2, tokenizer, unanswerable=0.5, seed=1)
    assert len(twice) - len(unanswered(twice)) == 2 * (len(more) - len(unanswered(more)))
    empty = unanswered(twice)
    half = len(empty) // 2
    assert empty[:half] != empty[-half:]  # other passages in the second round
    assert len(examples.span_rows([], tokenizer)) == 0


def test_words_have_their_tags(sets: Path, tokenizer: Tokenizer) -> None:
    tagged = train_examples(sets)["pos"]
    every, scored = (examples.word_rows(tagged, tokenizer, every_word=every) for every in (True, False))
    tags = [examples.UPOS_LABELS[tag] if tag >= 0 else "" for tag in one_row(every, 3)["targets"][0]]
    assert tags[:4] == ["", "DET", "NUM", "VERB"] and "PART" in tags
    parted = [{"tokens": ["7-8", "cat"], "upos": ["NUM", "NOUN"]}]
    for every_word, count in ((True, 4), (False, 2)):
        assert (targets(examples.word_rows(parted, tokenizer, every_word=every_word)) >= 0).sum() == count
    assert (targets(scored) >= 0).sum() == sum(len(row["tokens"]) for row in tagged)
    assert examples.join_words(["do", "n't", "stop", "'s", "'"]) == (
        "don't stop's '",
        [(0, 2), (2, 5), (6, 10), (10, 12), (13, 14)],
    )


def test_pairs_and_sentences_have_their_class(sets: Path, tokenizer: Tokenizer) -> None:
    found = train_examples(sets)
    pairs = found["nli"]
    rows = examples.pair_rows([*pairs, pairs[0] | {"label": -1}], tokenizer)
    assert len(rows) == 10 and set(targets(rows)) == {0, 1}

    def packed(text: str) -> str:
        return tokenizer.backend.decode(tokenizer.backend.encode(text, add_special_tokens=False).ids)

    known = [[packed(row["premise"]), packed(row["hypothesis"])] for row in pairs]
    assert [text_of(rows, row, tokenizer) for row in range(10)] == known
    more = examples.pair_rows(pairs, tokenizer, unrelated=1.0)
    assert len(rows) < len(more) <= 20 and set(targets(more)[10:]) == {1}
    assert not any(text_of(more, row, tokenizer) in known for row in range(10, len(more)))
    assert targets(examples.sentence_rows(found["sentiment"], tokenizer)).max() == 1


def test_a_word_of_a_question_is_exchanged_as_people_did() -> None:
    edits = [[["was", "wasn't"]], [["first", "last"]], [["", "not"]], [["first", "last"], ["cat", "dog"]]]
    asked = ["the cat was first?", "the first cat?", "the cat?", "the first cat?"]
    twins = [{"answerable": a, "edits": e} for a, e in zip(asked, edits, strict=True)]
    twins += [{"answerable": "the cat", "edits": [["the", "a"]]}] + [
        {"answerable": "the", "edits": [["", ""]]}
    ] * 99
    found, none = {"text": ["an owl"], "answer_start": [4]}, {"text": [], "answer_start": []}

    def made(question: str, answers: dict = found, share: float = 1.0) -> set[str]:
        rows = [{"question": question, "context": "see an owl", "answers": answers}] * 40
        new = examples.exchange_words(rows, twins, share)
        assert all(row["answers"] == none and row["context"] == "see an owl" for row in new)
        return {row["question"] for row in new}

    assert made("Was the first the owl?") == {"wasn't the first the owl?", "was the last the owl?"}
    assert made("Who is the cat?") == set()  # "the" is seldom exchanged, and "cat" never alone
    assert made("Who was it?", none) == made("Who was it?", share=0.0) == set()
    assert made("Who was it?", found | {"text": ["It wasn't"]}) == set()  # the answer never gets into it


def test_hub_sets_are_told_by_their_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"text": ["cat"], "answer_start": [4]}
    sets = {
        "span": {"question": ["the ?"], "context": ["the cat"], "answers": [answers], "title": ["t"]},
        "nli": {"premise": ["a"], "hypothesis": ["b"], "label": [2]},
        "pos": {"tokens": [["the", "cat"]], "upos": [[5, 7]]},
        "sentiment": {"text": ["good"], "label": [1]},
        "documents": {"text": ["# t\nsome words here"]},
        "twins": {"answerable": ["the ?"], "unanswerable": ["a ?"], "edits": [[["the", "a"]]]},
    }
    for kind, columns in sets.items():
        both = {part: datasets.Dataset.from_dict(columns) for part in ("train", "validation")}
        loaded = datasets.DatasetDict(both)
        monkeypatch.setattr("datasets.load_dataset", lambda name, loaded=loaded: loaded)
        (found,) = examples.read_sets(["some/set"])
        assert (found.name, found.kind) == ("set", kind)
        assert set(found.splits) == {"train", "validation"} and len(found.splits["validation"]) == 1
    texts = [f"# {number}\nsome words here" for number in range(100)]
    alone = datasets.DatasetDict({"train": datasets.Dataset.from_dict({"text": texts})})
    monkeypatch.setattr("datasets.load_dataset", lambda name: alone)
    (found,) = examples.read_sets(["wikipedia"])  # one in fifty is held out if nothing is yet
    assert set(found.splits) == {"train", "validation"}
    assert sorted(found.splits["train"] + found.splits["validation"]) == sorted(texts)
    assert len(found.splits["train"]) > 80 and found.splits["validation"]
    other = datasets.DatasetDict({"train": datasets.Dataset.from_dict({"image": [1]})})
    monkeypatch.setattr("datasets.load_dataset", lambda name: other)
    assert examples.read_sets(["pictures"]) == []
