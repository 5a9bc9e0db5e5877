"""Training: the loop, its data, and the recipe of the text checkpoint."""

import copy
import gzip
import json
import lzma
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from workbench import cli, tasks
from workbench.bert import Bert, BertConfig
from workbench.checkpoint import CheckpointError, load_bert, save_checkpoint
from workbench.text import Tokenizer
from workbench.training import data, examples, loop, text
from workbench.training.loop import Settings

SUBJECTS, VERBS, OBJECTS = ("cat", "dog", "owl"), ("eats", "sees", "likes"), ("fish", "bone", "mouse")
# Two processes add up in another order than one; where the loop computes in bfloat16 that shows earlier.
CLOSE = 5e-3 if loop.bfloat16_is_faster("cpu") else 1e-4
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "a", "and", ".", "title", "##s"]
WORDS += [*SUBJECTS, *VERBS, *OBJECTS, *"0123456789", *(f"##{digit}" for digit in "0123456789")]


@pytest.fixture
def tokenizer() -> Tokenizer:
    return Tokenizer.from_words(WORDS)


@pytest.fixture
def bert(tokenizer: Tokenizer) -> Bert:
    return tiny_bert(tokenizer)


def tiny_bert(tokenizer: Tokenizer, pooler: bool = False, **options) -> Bert:
    config = BertConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        vocab_size=len(WORDS),
        **options,
    )
    bert = Bert(config, pooler=pooler, tokenizer=tokenizer)
    bert.add_head("mlm", "mlm")
    return bert


def documents(count: int = 300) -> list[str]:
    """Each subject has its own verb and its own object, so that masked words can be known."""
    random = np.random.default_rng(0)
    texts = []
    for number in range(count):
        lines = [f"# title {number}"]
        for length in random.integers(1, 5, size=2):
            kinds = random.integers(3, size=length)
            lines.append(" and ".join(f"the {SUBJECTS[k]} {VERBS[k]} a {OBJECTS[k]}" for k in kinds) + " .")
        texts.append("\n".join(lines))
    return texts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of text, as `--data` takes it."""
    source = tmp_path / "kit" / "text"
    source.mkdir(parents=True)
    texts = documents()
    (source / "wiki.txt").write_text("\n\n".join(texts[:200]) + "\n")
    (source / "stories.txt").write_text("\n\n".join(texts[200:]) + "\n")
    return source.parent


def sentence(number: int) -> str:
    random = np.random.default_rng(number)
    return f"the {SUBJECTS[random.integers(3)]} sees a {OBJECTS[random.integers(3)]} {number} ."


@pytest.fixture
def kit(folder: Path) -> Path:
    """A folder laid out like the data kit, with examples for every head."""
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
    pairs = [
        {"a": sentence(number), "b": sentence(number + 100), "label": label, "split": split}
        for number, (label, split) in enumerate(
            [("entailment", "train"), ("neutral", "train"), ("contradiction", "test"), ("neutral", "dev")] * 5
        )
    ]
    pairs.append(pairs[2] | {"b": "a cat .", "split": "train"})  # its premise is scored
    reviews = [{"text": sentence(number), "label": number % 2} for number in range(60)]
    files = {
        "qa/qa": questions,
        "pairs/cad_nli": pairs,
        "pairs/sick": pairs,
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
        (folder / "pos" / f"{name}.tsv").write_text("\n".join(tables))
    return folder


@pytest.fixture(autouse=True)
def one_thread():
    """Models as small as these lose time by sharing work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def datasets_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))


def batches(tokenizer: Tokenizer, tokens: int = 256, seed: int = 0) -> text.Batches:
    return text.Batches(data.make_rows(documents(), tokenizer), tokenizer, "mlm", tokens, seed)


def losses(progress: loop.Progress) -> list[float]:
    return [line["loss"] for line in progress.log if "loss" in line]


# --- data --------------------------------------------------------------------------------------


def test_documents_are_read_from_a_folder_and_never_in_both_parts(folder: Path) -> None:
    read = data.read_documents(folder)
    assert {name: len(texts) for name, texts in read.items()} == {"wiki": 200, "stories": 100}
    for texts in read.values():
        train, score = data.split_documents(texts)
        assert sorted(train + score) == sorted(texts)
        assert not set(train) & set(score)
    # A document stays on its side whatever else there is, and when its text is edited below the title.
    train, score = data.split_documents(documents(3000))
    assert 0.01 < len(score) / 3000 < 0.03
    assert all(data.held_out(document + "\nthe end .") for document in score)
    assert data.split_documents(reversed(train))[1] == []


@pytest.mark.parametrize("ending", ["txt.xz", "txt.gz"])
def test_packed_texts_are_read(tmp_path: Path, ending: str) -> None:
    module = {"txt.xz": lzma, "txt.gz": gzip}[ending]
    with module.open(tmp_path / f"some.{ending}", "wt") as file:
        file.write('# One\nA line with "" in it.\nAnother.\n\n# Two\nLast.\n')
    read = data.read_documents(tmp_path)["some"]
    assert [document.strip() for document in read] == ["# One\nA line with  in it.\nAnother.", "# Two\nLast."]


def test_rows_hold_the_whole_text_in_order(tokenizer: Tokenizer) -> None:
    long = " ".join(f"{number}" for number in range(300))  # digits in pieces: 10 is "1" + "##0"
    rows = data.make_rows([f"# title\n{long}"], tokenizer, length=50)
    assert rows.lengths.max() == 52
    pieces = tokenizer.backend.encode(long, add_special_tokens=False)
    assert rows.ids[rows.words > 0].tolist() == pieces.ids
    batch = rows.batch(np.array([0, len(rows) - 1]), tokenizer.pad_id)
    assert batch["input_ids"].shape == (2, 52)
    assert batch["attention_mask"].sum(1).tolist() == rows.lengths[[0, -1]].tolist()
    assert not batch["token_type_ids"].any() and batch["targets"].tolist() == [data.IGNORED] * 2
    assert batch["input_ids"][0, 0] == tokenizer.cls_id and batch["input_ids"][0, 51] == tokenizer.sep_id
    # Words are numbered from 1 in each row; 0 is [CLS], [SEP] and padding.
    first = rows.words[1:51]
    assert first[0] == 1 and set(np.diff(first)) == {0, 1}
    assert batch["words"][1, rows.lengths[-1] - 1 :].eq(0).all()


def test_rows_are_kept_in_a_file(tokenizer: Tokenizer, tmp_path: Path) -> None:
    rows = data.make_rows(documents(5), tokenizer)
    rows.save(tmp_path / "rows.npz")
    again = data.Rows.load(tmp_path / "rows.npz")
    assert all(np.array_equal(value, getattr(again, name)) for name, value in vars(rows).items())
    assert len(data.make_rows([], tokenizer)) == 0


def test_each_epoch_has_every_row_once_in_batches_within_the_budget(tokenizer: Tokenizer) -> None:
    source = batches(tokenizer, tokens=128)
    count = len(source.batches)
    epochs = [[source.rows_at(epoch * count + index) for index in range(count)] for epoch in range(3)]
    for epoch in epochs:
        assert sorted(np.concatenate(epoch)) == list(range(len(source.rows)))
        for rows in epoch:
            assert len(rows) * source.rows.lengths[rows].max() <= 128
    assert [rows.tolist() for rows in epochs[0]] != [rows.tolist() for rows in epochs[1]]


def test_little_of_a_batch_is_padding() -> None:
    lengths = np.random.default_rng(0).integers(6, 127, size=20_000)
    found = data.bucketed_batches(lengths, 4096, seed=0)
    size = sum(len(rows) * lengths[rows].max() for rows in found)
    assert lengths.sum() / size > 0.95
    assert sorted(np.concatenate(found)) == list(range(20_000))


def test_masks_are_repeatable_and_new_in_each_epoch(tokenizer: Tokenizer) -> None:
    source, same, other = batches(tokenizer), batches(tokenizer), batches(tokenizer, seed=5)
    for step in (0, 3, 3, 40):
        for name, tensor in source(step).items():
            assert torch.equal(tensor, same(step)[name])
    assert source(0)["input_ids"].tolist() != other(0)["input_ids"].tolist()
    batch = source.rows.batch(np.arange(20), tokenizer.pad_id)
    ids, words = batch["input_ids"], batch["words"]
    first, second = (text.mask_batch(ids, words, tokenizer, source.random_ids, seed) for seed in (0, 1))
    chosen = [masked["mlm"] != data.IGNORED for masked in (first, second)]
    assert not torch.equal(*chosen)
    for masked, where in zip((first, second), chosen, strict=True):
        assert torch.equal(masked["mlm"][where], ids[where])
        assert where.any(1).all() and not where[words == 0].any()
        assert torch.equal(masked["input_ids"][~where], ids[~where])


def test_processes_share_the_rows_of_a_batch(tokenizer: Tokenizer) -> None:
    source = batches(tokenizer)
    whole = source(7)["input_ids"]
    parts = [source(7, process, 3)["input_ids"] for process in range(3)]
    assert sum(map(len, parts)) == len(whole)
    assert all(torch.equal(part, whole[process::3]) for process, part in enumerate(parts))


def test_pairs_are_neighbours_or_not(tokenizer: Tokenizer) -> None:
    texts = [
        "# title\n"
        + " ".join(f"A cat {number} eats. The dog {number} sees." for number in range(start, start + 30))
        for start in (0, 100, 200)
    ]
    # Each digit is a piece: the numbers say where a sentence stood.
    tokenizer = Tokenizer.from_words(
        [*WORDS[:5], "a", "cat", "eats", ".", "the", "dog", "sees", *map(str, range(300))]
    )

    def numbers(ids: list[int]) -> list[int]:
        words = [tokenizer.word_piece(index) for index in ids]
        return [int(word) for word in words if word.isdigit()]

    for share in (0.0, 1.0):
        rows = data.make_pairs(texts, tokenizer, same_document=share, length=24)
        kinds = []
        for row, target in enumerate(rows.targets):
            batch = rows.batch(np.array([row]), tokenizer.pad_id)
            ids, second = batch["input_ids"][0], batch["token_type_ids"][0].bool()
            assert len(ids) <= 27 and ids[0] == tokenizer.cls_id and (ids == tokenizer.sep_id).sum() == 2
            a, b = numbers(ids[~second].tolist()), numbers(ids[second].tolist())
            if not a or not b:
                continue
            if target == 0:
                assert b[0] - a[-1] in (0, 1)
            elif share:
                assert a[0] // 100 == b[0] // 100 and not 0 <= b[0] - a[-1] <= 0
            kinds.append((int(target), a[0] // 100 == b[0] // 100))
        assert 0.3 < np.mean([target for target, _ in kinds]) < 0.7
        far = [same for target, same in kinds if target == 1]
        assert all(far) if share else np.mean(far) < 0.7
    once, twice = (data.make_pairs(texts, tokenizer, rounds=rounds) for rounds in (1, 2))
    assert twice.ids[: len(once.ids)].tolist() == once.ids.tolist() != twice.ids[len(once.ids) :].tolist()
    first, again = (data.make_pairs(texts, tokenizer, seed=3).ids.tolist() for _ in range(2))
    assert first == again != data.make_pairs(texts, tokenizer, seed=4).ids.tolist()
    assert data.sentences('# t\nHe said so. "Go!" Then e.g. nothing.') == [
        "He said so.",
        '"Go!"',
        "Then e.g. nothing.",
    ]


def test_no_head_trains_on_what_it_is_scored_on(kit: Path) -> None:
    found = examples.read_examples(kit)
    keys = {
        "span": lambda row: row["title"],
        "nli": lambda row: row["premise"],
        "sentiment": lambda row: row["text"],
        "pos": lambda row: " ".join(row["tokens"]),
    }
    assert set(found) == set(keys)
    for head, key in keys.items():
        train, held_out = ({key(row) for row in found[head][part]} for part in ("train", "held_out"))
        assert train and held_out and not train & held_out, head
    assert {len(found["span"]["train"]), len(found["span"]["held_out"])} == {30, 8}
    assert not any(row["question"] == "the owl ?" for row in found["span"]["train"])
    assert len(found["nli"]["train"]) == 10 and set(found["nli"]) == {"train", "held_out", "sick"}
    assert ["the", "cat", "7-8"] not in [row["tokens"] for row in found["pos"]["train"]]


def test_rows_of_examples_say_what_the_examples_say(kit: Path, tokenizer: Tokenizer) -> None:
    found = examples.read_examples(kit)

    def words(batch: dict, start: int, end: int) -> str:
        return tokenizer.backend.decode(batch["input_ids"][0, start : end + 1].tolist())

    for longest in (256, 16):  # whole passages, and stretches of them
        rows = examples.span_rows(found["span"]["train"], tokenizer, longest=longest, unanswerable=0.0)
        assert len(rows) == 30
        for row, example in enumerate(found["span"]["train"]):
            batch = rows.batch(np.array([row]), tokenizer.pad_id)
            start, end = batch["targets"][0].tolist()
            assert batch["input_ids"].shape[1] <= longest
            if example["answers"]["text"]:
                assert words(batch, start, end) == example["answers"]["text"][0]
                assert batch["token_type_ids"][0, start] == 1
            else:
                assert start == end == 0
    more = examples.span_rows(found["span"]["train"], tokenizer, unanswerable=1.0)
    assert len(more) > 30 and (more.targets == 0).all(1).sum() > 6
    twice = examples.span_rows(found["span"]["train"], tokenizer, unanswerable=0.5, rounds=2, seed=1)
    assert (twice.targets != 0).any(1).sum() == 2 * (more.targets != 0).any(1).sum()
    empty = (twice.targets == 0).all(1).nonzero()[0]
    unanswered = [twice.batch(np.array([row]), 0)["input_ids"].tolist() for row in empty]
    half = len(unanswered) // 2
    assert unanswered[:half] != unanswered[-half:]  # other passages in the second round
    assert len(examples.span_rows([], tokenizer)) == 0

    every, scored = (
        examples.word_rows(found["pos"]["train"], tokenizer, every_word=every) for every in (1, 0)
    )
    tags = [
        examples.UPOS_LABELS[tag] if tag >= 0 else "" for tag in every.batch(np.array([3]), 0)["targets"][0]
    ]
    assert tags[:4] == ["", "DET", "NUM", "VERB"] and "PART" in tags
    row = examples.word_rows(
        [{"tokens": ["7-8", "cat"], "upos": ["NUM", "NOUN"]}], tokenizer, every_word=True
    )
    only = examples.word_rows(
        [{"tokens": ["7-8", "cat"], "upos": ["NUM", "NOUN"]}], tokenizer, every_word=False
    )
    assert (row.targets >= 0).sum() == 4 and (only.targets >= 0).sum() == 2
    assert (scored.targets >= 0).sum() == sum(len(row["tokens"]) for row in found["pos"]["train"])
    assert examples.written(["do", "n't", "stop", "'s", "'"]) == (
        "don't stop's '",
        [(0, 2), (2, 5), (6, 10), (10, 12), (13, 14)],
    )

    rows = examples.pair_rows([*found["nli"]["train"], found["nli"]["train"][0] | {"label": -1}], tokenizer)
    assert len(rows) == 10 and set(rows.targets.tolist()) == {0, 1}
    more = examples.pair_rows(found["nli"]["train"], tokenizer, unrelated=1.0)
    assert len(rows) < len(more) <= 20 and set(more.targets[10:].tolist()) == {1}
    trained = {(row["premise"], row["hypothesis"]) for row in found["nli"]["train"]}
    for row in range(10, len(more)):
        batch = more.batch(np.array([row]), tokenizer.pad_id)
        text = tokenizer.backend.decode(batch["input_ids"][0].tolist(), skip_special_tokens=False)
        assert tuple(part.strip() for part in text.removeprefix("[CLS]").split("[SEP]")[:2]) not in trained
    assert examples.sentence_rows(found["sentiment"]["train"], tokenizer).targets.max() == 1


def test_pairs_for_teachers_are_crossed(tokenizer: Tokenizer) -> None:
    known = [("the cat", "a bone"), ("the dog", "a bone"), ("the cat", "a fish"), ("the owl", "a mouse")]
    pairs = [{"premise": one, "hypothesis": other, "label": "neutral"} for one, other in known]
    rows = examples.pair_rows(pairs, tokenizer, crossed=True)
    found = {}
    for row in range(len(rows)):
        batch = rows.batch(np.array([row]), tokenizer.pad_id)
        text = tokenizer.backend.decode(batch["input_ids"][0].tolist(), skip_special_tokens=False)
        found[tuple(part.strip() for part in text.removeprefix("[CLS]").split("[SEP]")[:2])] = int(
            batch["targets"][0]
        )
    assert len(found) == len(rows)
    assert {pair for pair, label in found.items() if label == 1} == set(known)
    crossed = {("the dog", "a fish")}  # what was said of the cat, of whom a bone was said, too
    assert {pair for pair, label in found.items() if label == data.IGNORED} == crossed | {
        pair[::-1] for pair in {*known, *crossed}
    }


def test_a_word_of_a_question_is_exchanged_for_one_like_it() -> None:
    near = {"cat": (1.0, 0.1), "dog": (1.0, 0.2), "owl": (1.0, 0.3), "red": (0.1, 1.0), "blue": (0.2, 1.0)}
    near |= {"cats": (1.0, 0.1), "1914": (-1.0, 0.5), "1918": (-1.0, 0.6), "the": (-0.1, -1.0)}
    tokenizer = Tokenizer.from_words(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *near])
    vectors = np.zeros((len(tokenizer.backend.get_vocab()), 2)) - [0.3, 0.3]
    for word, vector in near.items():
        vectors[tokenizer.backend.token_to_id(word)] = vector
    context, red = "the cat the red dog 1914", {"text": ["red"], "answer_start": [12]}
    questions = [*["the cat"] * 20, "1914", "the", "owl"]
    rows = [{"question": question, "context": context, "answers": red} for question in questions]
    none = {"text": [], "answer_start": []}  # other passages, so that "the" is too common to be exchanged
    rows += [{"question": "the", "context": "the " * times, "answers": none} for times in range(1, 41)]
    made = examples.span_rows(rows, tokenizer, exchanged=1.0, vectors=vectors)
    asked: dict[str, set[int]] = defaultdict(set)
    for row in range(len(made)):
        batch = made.batch(np.array([row]), tokenizer.pad_id)
        text = tokenizer.backend.decode(batch["input_ids"][0].tolist(), skip_special_tokens=False)
        asked[text.removeprefix("[CLS]").split("[SEP]")[0].strip()].add(int(made.targets[row, 0]))
    # "dog" stands in the passage and "owl" does not; "cats" is a form of "cat"; a year becomes a year.
    assert set(asked) == {"the cat", "the dog", "the owl", "1914", "1918", "the", "owl"}
    assert asked["the dog"] == asked["the owl"] == asked["1918"] == {0}
    assert 0 not in asked["the cat"] | asked["1914"] | asked["owl"]
    with pytest.raises(ValueError, match="give the vectors of the word pieces"):
        examples.span_rows(rows, tokenizer, exchanged=1.0)


def test_answers_are_compared_as_squad_does() -> None:
    assert text.plain_words("The U.S., a state") == ["us", "state"]
    assert text.overlap(["a", "b"], ["b", "c", "d"]) == pytest.approx(0.4)
    assert text.overlap([], []) == 1.0 and text.overlap(["a"], []) == 0.0


def test_questions_are_scored_by_what_a_user_would_get(bert: Bert, monkeypatch: pytest.MonkeyPatch) -> None:
    says = {"one ?": ("the cat", 0.6, 0.1), "two ?": ("dog", 0.2, 0.5), "three ?": ("owl eats", 0.7, 0.1)}

    def answer(bert: Bert, question: str, passage: str, top_k: int) -> tasks.SpanAnswers:
        words, probability, none = says[question]
        return tasks.SpanAnswers(
            (tasks.Answer(words, 0, 3, probability),), none, (), torch.ones(1), torch.ones(1)
        )

    monkeypatch.setattr(text, "answer_question", answer)
    given = {"one ?": ["Cat!", "owl"], "two ?": [], "three ?": ["owl"]}
    rows = [{"question": q, "context": "x", "answers": {"text": a}, "source": "s"} for q, a in given.items()]
    rows += [rows[1] | {"question": "one ?"}]
    figures = text.span_figures(bert, rows)
    assert figures["exact"] == 0.5 and figures["f1"] == pytest.approx((1 + 2 / 3) / 2)
    assert figures["answerable"] == pytest.approx((1 + 0.5) / 2) and figures["answerable_count"] == 4


# --- the loop ----------------------------------------------------------------------------------


def run(bert: Bert, source: text.Batches, folder: Path, **options) -> loop.Progress:
    resume, evaluate = options.pop("resume", False), options.pop("evaluate", None)
    settings = Settings(**{"warmup": 3, "log_every": 1, "save_every": 5, "learning_rate": 3e-3} | options)
    return loop.train(text.HeadLosses(bert), source, settings, folder, resume=resume, evaluate=evaluate)


class Killed(Exception):
    """Stands for a process that ends with no chance to clean up."""


def stopping_at(source: text.Batches, at: int, error: type[BaseException]):
    def batch_at(step: int, process: int, processes: int) -> loop.Batch:
        if step == at:
            raise error
        return source(step, process, processes)

    return batch_at


def test_resumed_after_a_kill_it_gives_the_same_numbers(bert: Bert, tmp_path: Path) -> None:
    source = batches(bert.tokenizer)  # with dropout: its random numbers have to be the same as well
    start = copy.deepcopy(bert)
    whole = run(bert, source, tmp_path / "whole", steps=14)

    killed = copy.deepcopy(start)
    with pytest.raises(Killed):
        run(killed, stopping_at(source, 8, Killed), tmp_path / "parts", steps=14)
    resumed = copy.deepcopy(start)
    parts = run(resumed, source, tmp_path / "parts", steps=14, resume=True)

    assert parts.step == whole.step == 14
    assert losses(parts) == losses(whole) and len(losses(whole)) == 14
    for name, tensor in bert.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    assert not torch.equal(start.embeddings.word_embeddings.weight, bert.embeddings.word_embeddings.weight)
    lines = (tmp_path / "parts" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 15))
    # One set of weights, as before.
    assert resumed.heads["mlm"].decoder.weight is resumed.embeddings.word_embeddings.weight
    assert "decoder.weight" not in str([name for name, _ in resumed.named_parameters()])


def test_killed_while_saving_it_resumes_from_the_save_before(
    bert: Bert, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = batches(bert.tokenizer)
    start = copy.deepcopy(bert)
    whole = run(bert, source, tmp_path / "whole", steps=12)
    save_state = Accelerator.save_state

    def save_half(self: Accelerator, folder: str) -> None:
        save_state(self, folder)
        if folder.endswith("10"):
            (Path(folder) / "model.safetensors").write_bytes(b"half")
            raise Killed

    monkeypatch.setattr(Accelerator, "save_state", save_half)
    with pytest.raises(Killed):
        run(copy.deepcopy(start), source, tmp_path / "parts", steps=12)
    monkeypatch.undo()
    parts = run(copy.deepcopy(start), source, tmp_path / "parts", steps=12, resume=True)
    assert losses(parts) == losses(whole)
    assert [path.name for path in (tmp_path / "parts").glob("state-*")] == ["state-12"]


def test_a_finished_training_can_be_made_longer(bert: Bert, tmp_path: Path) -> None:
    source = batches(bert.tokenizer)
    run(bert, source, tmp_path, steps=4)
    assert run(bert, source, tmp_path, steps=4, resume=True).step == 4
    assert run(bert, source, tmp_path, steps=7, resume=True).step == 7


def test_an_interruption_keeps_what_was_learned(bert: Bert, tmp_path: Path, capsys) -> None:
    source = batches(bert.tokenizer)
    start = copy.deepcopy(bert)
    progress = run(bert, stopping_at(source, 4, KeyboardInterrupt), tmp_path, steps=9)
    assert progress.step == 4 and not bert.training
    assert "Stopped after 4 steps" in capsys.readouterr().out
    assert not torch.equal(start.heads["mlm"].decoder.weight, bert.heads["mlm"].decoder.weight)
    resumed = run(copy.deepcopy(start), source, tmp_path, steps=9, resume=True)
    assert losses(resumed)[:4] == losses(progress) and resumed.step == 9


def test_the_log_says_how_it_goes(bert: Bert, tmp_path: Path) -> None:
    source = batches(bert.tokenizer)
    progress = run(
        bert, source, tmp_path, steps=6, save_every=4, log_every=2, evaluate=lambda: {"score": 0.5}
    )
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines == progress.log
    assert [line["step"] for line in lines] == [2, 4, 4, 6, 6]
    assert [line["step"] for line in lines if "score" in line] == [4, 6]
    for line in (lines[0], lines[1], lines[3]):
        assert set(line) == {
            "step",
            "loss",
            "mlm_loss",
            "learning_rate",
            "tokens_per_second",
            "seconds",
        }
        assert line["loss"] > 0 and line["tokens_per_second"] > 0


def test_the_learning_rate_rises_stays_and_falls() -> None:
    settings = Settings(learning_rate=1.0, steps=100, warmup=10)
    rates = [settings.rate(step, seconds=0) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * step for step in range(1, 11)])
    assert rates[9:81] == pytest.approx([1.0] * 72)
    assert rates[80:] == pytest.approx([1 - step / 20 for step in range(20)])
    assert settings.left(100, 0) == 0

    settings = Settings(learning_rate=1.0, hours=1, warmup=0)
    assert [settings.rate(5, 3600 * share) for share in (0, 0.8, 0.9, 1)] == pytest.approx([1, 1, 0.5, 0])
    both = Settings(learning_rate=1.0, hours=1, steps=100, warmup=0)
    assert [both.left(50, 0), both.left(50, 2700), both.left(90, 1800)] == pytest.approx([0.5, 0.25, 0.1])


def test_hours_end_a_training(
    bert: Bert, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = batches(bert.tokenizer)
    clock = [0.0]

    def a_minute_a_step(*_: object) -> None:
        clock[0] += 60.0

    bert.register_forward_pre_hook(a_minute_a_step)
    monkeypatch.setattr(loop.time, "monotonic", lambda: clock[0])
    progress = run(bert, source, tmp_path, hours=0.5, warmup=1, learning_rate=1.0)
    assert progress.step == 30 and progress.seconds == 1800
    assert "29 minutes left" in capsys.readouterr().err
    rates = [line["learning_rate"] for line in progress.log]
    assert rates == pytest.approx([1.0] * 25 + [1 - 1 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])
    monkeypatch.setattr(loop.time, "monotonic", lambda: clock[0] + 1e6)  # time between two runs is free
    resumed = run(bert, source, tmp_path, hours=0.6, warmup=1, learning_rate=1.0, resume=True)
    assert resumed.step == 36


def test_it_learns_more_than_how_often_words_occur(bert: Bert, tmp_path: Path) -> None:
    bert = tiny_bert(bert.tokenizer, hidden_dropout_prob=0.0)
    train, score = data.split_documents(documents(600))
    rows, score_rows = data.make_rows(train, bert.tokenizer), data.make_rows(score, bert.tokenizer)
    share = np.bincount(rows.ids) / len(rows.ids)
    unigram = -(share[share > 0] * np.log(share[share > 0])).sum()
    before = text.head_figures(bert, score_rows, "mlm")
    run(
        bert,
        text.Batches(rows, bert.tokenizer, "mlm", 512),
        tmp_path,
        steps=150,
        log_every=50,
        save_every=150,
    )
    after = text.head_figures(bert, score_rows, "mlm")
    assert before["mlm_loss"] > unigram
    assert after["mlm_loss"] < 0.7 * unigram
    assert after["mlm_accuracy"] > before["mlm_accuracy"] + 0.3
    assert after == text.head_figures(bert, score_rows, "mlm")
    assert after != text.head_figures(bert, score_rows, "mlm", seed=1)
    assert text.head_figures(bert, score_rows, "mlm", most=1)["mlm_count"] < 10


def test_sentences_are_masked_but_not_guessed_from(tokenizer: Tokenizer) -> None:
    rows = examples.sentence_rows([{"text": sentence(n), "label": n % 2} for n in range(60)], tokenizer)
    drawn = text.Batches(rows, tokenizer, "sentiment", 256, masked=True, guessed=False)
    assert set(drawn(0)) == {"input_ids", "token_type_ids", "attention_mask", "sentiment"}
    masked = [(drawn(step)["input_ids"] == tokenizer.mask_id).float().mean() for step in range(4)]
    assert 0.02 < np.mean(masked) < 0.2


def taught_bert(tokenizer: Tokenizer, labels: tuple[str, ...] = text.NLI_LABELS) -> Bert:
    bert = tiny_bert(tokenizer, pooler=True, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    for name, kind, classes in (
        ("nli", "sentence", labels),
        ("nsp", "sentence", text.NSP_LABELS),
        ("pos", "word", text.UPOS_LABELS),
        ("span", "span", ()),
    ):
        bert.add_head(name, kind, classes)
    return bert


def test_teachers_are_learned_from_without_answers(tokenizer: Tokenizer, tmp_path: Path) -> None:
    torch.manual_seed(0)
    student, *teachers = (taught_bert(tokenizer).eval() for _ in range(3))
    for teacher in teachers:
        for head in teacher.heads.values():
            for parameter in head.parameters():
                parameter.data *= 20  # new heads have no opinion
    del teachers[1].heads["pos"]  # each teaches what it can
    objective = text.HeadLosses(student, teachers)
    assert objective.names == (*student.heads, "nli_taught", "nsp_taught", "pos_taught", "span_taught")
    assert not any("teacher" in name for name in objective.state_dict())
    pairs = [
        {"premise": sentence(n), "hypothesis": sentence(n + 7), "label": data.IGNORED} for n in range(200)
    ]
    source = text.Batches(examples.pair_rows(pairs, tokenizer), tokenizer, "nli", 512)
    batch = source(0)
    inputs = {name: batch[name] for name in ("input_ids", "token_type_ids", "attention_mask")}
    kept = batch["attention_mask"].bool()

    def losses_of(**targets: torch.Tensor) -> dict[str, tuple[float, float]]:
        with torch.inference_mode():
            loss, count = objective(**inputs, **targets)
        return dict(zip(objective.names, zip(loss.tolist(), count.tolist(), strict=True), strict=True))

    def said(bert: Bert, head: str) -> torch.Tensor:
        with torch.inference_mode():
            return bert.logits(head, bert(**inputs)[-1])

    # The mean of what both say is learned, of words what the first says; questions were not asked.
    found = losses_of(nli=batch["nli"])
    soft = sum(said(teacher, "nli").softmax(-1) for teacher in teachers) / 2
    right = -(soft * said(student, "nli").log_softmax(-1)).sum()
    assert found["nli_taught"] == (pytest.approx(right.item(), rel=1e-5), len(kept))
    right = -(said(teachers[0], "pos").softmax(-1) * said(student, "pos").log_softmax(-1))[kept].sum()
    assert found["pos_taught"] == (pytest.approx(right.item(), rel=1e-5), kept.sum())
    assert found["nli"] == found["span_taught"] == found["mlm"] == (0.0, 0.0)
    assert found["nsp_taught"][1] == len(kept)
    ran = []
    hook = teachers[1].register_forward_hook(lambda *_: ran.append("words"))
    assert losses_of(pos=torch.zeros_like(batch["input_ids"]))["pos_taught"][1] == kept.sum() and not ran
    hook.remove()
    asked = losses_of(span=torch.ones(len(kept), 2, dtype=torch.long))
    assert asked["span_taught"][1] == 2 * len(kept) and asked["nli_taught"][1] == 0

    before = [parameter.clone() for parameter in teachers[0].parameters()]
    loop.train(
        objective, source, Settings(steps=150, warmup=5, learning_rate=1e-2, save_every=1000), tmp_path
    )
    assert all(torch.equal(*each) for each in zip(before, teachers[0].parameters(), strict=True))
    after = losses_of(nli=batch["nli"])
    entropy = -(soft * soft.log()).sum().item()
    assert after["nli_taught"][0] - entropy < 0.2 * (found["nli_taught"][0] - entropy)


def test_bad_teachers_are_refused(bert: Bert, tokenizer: Tokenizer) -> None:
    student = taught_bert(tokenizer)
    for teacher, words in (
        (bert, "no head that teaches"),
        (taught_bert(tokenizer, labels=("yes", "no")), "other classes for nli"),
    ):
        with pytest.raises(ValueError, match=words):
            text.HeadLosses(student, [teacher])
    other = taught_bert(tokenizer)
    other.tokenizer = Tokenizer.from_words([*WORDS, "more"])
    with pytest.raises(ValueError, match="other word pieces"):
        text.HeadLosses(student, [other])


def test_rows_that_cannot_be_read_do_no_harm(bert: Bert, tmp_path: Path) -> None:
    rows = data.make_rows(["ö ü ä ß é è ø"], bert.tokenizer)  # [UNK] only: nothing to guess
    assert len(rows) == 1
    run(bert, text.Batches(rows, bert.tokenizer, "mlm", 64), tmp_path, steps=2)
    assert all(parameter.isfinite().all() for parameter in bert.parameters())


SCRIPT = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
import test_training as t
team = t.loop.processes()
torch.manual_seed(0)
tokenizer = t.Tokenizer.from_words(t.WORDS)
bert = t.tiny_bert(tokenizer, pooler=True, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
bert.add_head("nsp", "sentence", ("is next", "not next"))
out = Path(sys.argv[2])
pairs = t.data.make_pairs(t.documents(), tokenizer, length=40)
# 34 tokens: some batches have a single row, which leaves the second process with none.
for tokens, steps, resume in ((256, 4, False), (256, 6, True), (34, 9, True)):
    # The last batch has no targets for one of the heads.
    sources = t.text.Batches(pairs, tokenizer, "nsp", tokens, masked=True), t.batches(tokenizer, tokens)
    together = lambda *step: [source(*step) for source in sources]
    t.run(bert, together, out, steps=steps, save_every=3, resume=resume)
if team.is_main_process:
    (out / "processes").write_text(str(team.num_processes))
    t.save_checkpoint(bert, out / "checkpoint")
"""


def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    root = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": str(root.parent), "OMP_NUM_THREADS": "1"}
    for processes in ("1", "2"):
        launch = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc_per_node",
            processes,
        ]
        command = [*launch, str(tmp_path / "script.py"), str(root), str(tmp_path / processes)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
        assert (tmp_path / processes / "processes").read_text() == processes
    logs = [
        [json.loads(line) for line in (tmp_path / number / "log.jsonl").read_text().splitlines()]
        for number in "12"
    ]
    assert [line["step"] for line in logs[0]] == [line["step"] for line in logs[1]] == list(range(1, 10))
    assert {name for line in logs[0] for name in line} > {"mlm_loss", "nsp_loss"}
    for one, two in zip(*logs, strict=True):
        for name in ("loss", "mlm_loss", "nsp_loss"):
            assert two.get(name) == pytest.approx(one.get(name), abs=CLOSE)
    one, two = (load_bert(tmp_path / number / "checkpoint", device="cpu").state_dict() for number in "12")
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, atol=CLOSE, rtol=0)


# --- the recipe --------------------------------------------------------------------------------


def test_the_command_trains_and_scores_a_checkpoint(
    bert: Bert, kit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bert.heads.pop("mlm")
    save_checkpoint(bert, tmp_path / "start")
    out = tmp_path / "out"
    train = ["train", "text", "--data", str(kit), "--out", str(out), "--initial", str(tmp_path / "start")]
    cli.main([*train, "--steps", "2", "--tokens", "512"])
    printed = capsys.readouterr().out
    for folder in (out / "pretraining", out / "cycle-1", out / "cycle-3"):
        assert f"1 steps; the checkpoint is in {folder / 'checkpoint'}" in printed
    save_checkpoint(load_bert(out / "checkpoint", device="cpu"), tmp_path / "teacher")
    teachers = ["--teachers", str(tmp_path / "teacher")]
    cli.main([*train, "--steps", "12", "--tokens", "512", "--resume", *teachers])
    trained = load_bert(out / "checkpoint", device="cpu")
    assert set(trained.heads) == set(text.HEADS) and trained.pooler is not None
    log = [json.loads(line) for line in (out / "cycle-3" / "log.jsonl").read_text().splitlines()]
    assert {"mlm_accuracy", "nsp_same_accuracy", "span_accuracy", "nli_sick_accuracy"} <= set(log[-1])
    assert load_bert(tmp_path / "teacher").heads.keys() == trained.heads.keys()
    capsys.readouterr()
    cli.main(
        ["evaluate", "text", "--data", str(kit), "--checkpoint", str(out / "checkpoint"), "--most", "50"]
    )
    printed = capsys.readouterr().out
    for words in (
        "mlm: masked words, wiki",
        "mlm: masked words, stories",
        "nsp: wiki, false pairs random",
        "nsp: wiki, false pairs same document",
        "sentiment: held-out sentences",
        "pos: held-out words",
        "nli: held-out pairs",
        "nli: SICK",
        "span: held-out questions                    F1",
        "span: answer or none",
        "seed 0",
        "seconds",
    ):
        assert words in printed
    # What is scored is never trained on; stories are read three times.
    rows = {file.stem: data.Rows.load(file) for file in (out / "rows").glob("*.npz")}
    kept, held_out = data.split_documents(documents()[:200])
    stories, _ = data.split_documents(documents()[200:])
    assert np.array_equal(rows["held_out_mlm"].ids, data.make_rows(held_out, bert.tokenizer).ids)
    share = text.SAME_DOCUMENT
    assert np.array_equal(rows["mlm"].ids, data.make_rows([*stories * 3, *kept], bert.tokenizer).ids)
    pairs = data.make_pairs([*stories * 3, *kept], bert.tokenizer, same_document=share)
    assert np.array_equal(rows["nsp"].ids, pairs.ids)


def test_pretraining_comes_first(
    bert: Bert, kit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = []

    def train(objective: text.HeadLosses, batch_at: Callable, settings: Settings, folder: Path, **_: object):
        heads = {name for batch in batch_at(0, 0, 1) for name in batch if name in text.HEADS}
        stages.append((folder.name, heads, settings.hours, settings.learning_rate))
        return loop.Progress(seconds=0.0 if interrupted else settings.hours * 3600)

    monkeypatch.setattr(loop, "train", train)
    save_checkpoint(bert, tmp_path / "start")
    command = ["train", "text", "--data", str(kit), "--out", str(tmp_path / "out")]
    command += ["--initial", str(tmp_path / "start"), "--hours", "10", "--learning-rate", "0.2"]
    interrupted = False
    cli.main([*command, "--pretraining", "0.7"])
    assert stages == [
        ("pretraining", {"mlm", "nsp"}, 7.0, 0.2),
        *(
            (f"cycle-{number}", set(text.HEADS), pytest.approx(1.0), 0.2 * text.AFTER_PRETRAINING)
            for number in (1, 2, 3)
        ),
    ]
    stages.clear()
    cli.main([*command, "--pretraining", "0", "--cycles", "1", "--resume"])
    cli.main([*command, "--heads", "mlm", "nsp", "--cycles", "1", "--resume"])
    assert [(name, hours, rate) for name, _, hours, rate in stages] == [("cycle-1", 10.0, 0.2)] * 2
    stages.clear()
    interrupted = True
    cli.main([*command, "--resume"])
    assert [name for name, *_ in stages] == ["pretraining"]


def test_the_recipe_says_how_long_by_itself(
    bert: Bert, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []
    monkeypatch.setattr(loop, "train", lambda *arguments, **_: given.append(arguments[2]) or loop.Progress())
    save_checkpoint(bert, tmp_path / "start")
    train = ["train", "text", "--data", str(folder), "--out", str(tmp_path / "out"), "--heads", "mlm"]
    for more in ([], ["--steps", "7"]):
        cli.main([*train, "--initial", str(tmp_path / "start"), *more])
    assert [(each.hours, each.steps) for each in given[:1] + given[-1:]] == [
        (text.HOURS / 3, None),
        (None, 2),
    ]


def test_the_mean_of_the_ends_of_cycles_comes_out(bert: Bert, folder: Path, tmp_path: Path) -> None:
    save_checkpoint(bert, tmp_path / "start")
    out = tmp_path / "out"
    train = ["train", "text", "--data", str(folder), "--heads", "mlm", "--initial", str(tmp_path / "start")]
    train += ["--steps", "3", "--tokens", "512", "--out", str(out)]
    cli.main(train)
    mean = load_bert(out / "checkpoint", device="cpu").state_dict()
    ends = [load_bert(out / f"cycle-{n}" / "checkpoint", device="cpu").state_dict() for n in (1, 2, 3)]
    for name, tensor in mean.items():
        torch.testing.assert_close(
            tensor, torch.stack([end[name] for end in ends]).mean(0), atol=1e-3, rtol=0
        )
    assert any(not torch.equal(ends[0][name], ends[2][name]) for name in mean)

    shutil.rmtree(out / "cycle-3")  # as if it had been killed in the second cycle
    cli.main([*train, "--resume"])
    for name, tensor in load_bert(out / "checkpoint", device="cpu").state_dict().items():
        assert torch.equal(tensor, mean[name]), name


def test_masked_words_alone_can_be_trained(bert: Bert, folder: Path, tmp_path: Path) -> None:
    bert.heads.pop("mlm")
    save_checkpoint(bert, tmp_path / "start")
    train = ["train", "text", "--data", str(folder), "--out", str(tmp_path / "out"), "--heads", "mlm"]
    cli.main([*train, "--initial", str(tmp_path / "start"), "--steps", "1", "--tokens", "512"])
    trained = load_bert(tmp_path / "out" / "checkpoint", device="cpu")
    assert list(trained.heads) == ["mlm"] and trained.pooler is None


def test_hub_sets_are_told_by_their_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    answers = {"text": ["cat"], "answer_start": [4]}
    sets = {
        "span": {"question": ["the ?"], "context": ["the cat"], "answers": [answers], "title": ["t"]},
        "nli": {"premise": ["a"], "hypothesis": ["b"], "label": [2]},
        "pos": {"tokens": [["the", "cat"]], "upos": [[5, 7]]},
        "sentiment": {"text": ["good"], "label": [1]},
    }
    for head, columns in sets.items():
        loaded = datasets.DatasetDict(
            {part: datasets.Dataset.from_dict(columns) for part in ("train", "validation")}
        )
        monkeypatch.setattr("datasets.load_dataset", lambda name, loaded=loaded: loaded)
        assert set(examples.read_examples("some/set")) == {head}
        assert len(examples.read_examples("some/set")[head]["held_out"]) == 1
    plain = datasets.DatasetDict({"train": datasets.Dataset.from_dict({"text": ["# t\nsome words here"]})})
    monkeypatch.setattr("datasets.load_dataset", lambda name, split=None: plain[split] if split else plain)
    assert text.read_all(["wikipedia"]) == ({"wikipedia": ["# t\nsome words here"]}, {})


def test_a_new_head_starts_as_identity(bert: Bert, tmp_path: Path) -> None:
    bert.heads.pop("mlm")
    save_checkpoint(bert, tmp_path)
    head = text.start_model(str(tmp_path)).heads["mlm"]
    assert torch.equal(head.dense.weight, torch.eye(32))
    assert not head.dense.bias.any() and not head.decoder.bias.any()


def test_bad_inputs_get_one_sentence(
    bert: Bert, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_checkpoint(bert, tmp_path / "start")
    empty, tiny, blank = tmp_path / "empty", tmp_path / "tiny", tmp_path / "blank"
    for number, path in enumerate((empty, tiny, blank)):
        path.mkdir()
        if number:
            (path / "some.txt").write_text("hi\n" if number == 1 else "\n")
    start, steps = ["--initial", str(tmp_path / "start")], ["--steps", "1"]
    train = ["train", "text", "--out", str(tmp_path / "out"), "--data"]
    score = ["evaluate", "text", "--checkpoint", str(tmp_path / "start"), "--data"]
    for arguments, message in (
        ([*train, str(folder), *start, "--steps", "0"], "Say how long to train"),
        ([*train, str(folder), *start, "--hours", "-1"], "Say how long to train"),
        ([*train, str(folder), *start, *steps, "--cycles", "0"], "one cycle or more"),
        ([*train, str(folder), *start, *steps, "--pretraining", "1"], "share of the time"),
        ([*train, str(tmp_path / "nowhere"), *start, *steps], "neither a folder nor a set on the Hub"),
        ([*train, str(empty), *start, *steps], "holds no text files"),
        ([*train, str(tiny), *start, *steps], "too little text"),
        ([*train, str(blank), *start, *steps], "too little text"),
        ([*train, str(folder), "--initial", str(tmp_path / "nothing"), *steps], "no file or folder"),
        ([*score, str(tmp_path / "nowhere")], "neither a folder nor a set on the Hub"),
        ([*score, str(tiny)], "nothing held out"),
    ):
        with pytest.raises(SystemExit) as stop:
            cli.main(arguments)
        error = capsys.readouterr().err
        assert stop.value.code == 2
        assert message in error and error.count("workbench: ") == 1, error
    with pytest.raises(CheckpointError, match="no network"):
        text.start_model(text.START)
    with pytest.raises(ValueError, match="Say how long"):
        Settings()
