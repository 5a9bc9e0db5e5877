"""Training: the loop, its data, and the recipe of the text checkpoint."""

import copy
import gzip
import json
import lzma
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from workbench import cli
from workbench.bert import Bert, BertConfig
from workbench.checkpoint import CheckpointError, load_bert, save_checkpoint
from workbench.text import Tokenizer
from workbench.training import data, loop, text
from workbench.training.loop import Settings

SUBJECTS, VERBS, OBJECTS = ("cat", "dog", "owl"), ("eats", "sees", "likes"), ("fish", "bone", "mouse")
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "a", "and", ".", "title", "##s"]
WORDS += [*SUBJECTS, *VERBS, *OBJECTS, *"0123456789", *(f"##{digit}" for digit in "0123456789")]


@pytest.fixture
def tokenizer() -> Tokenizer:
    return Tokenizer.from_words(WORDS)


@pytest.fixture
def bert(tokenizer: Tokenizer) -> Bert:
    return tiny_bert(tokenizer)


def tiny_bert(tokenizer: Tokenizer, **options) -> Bert:
    config = BertConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        vocab_size=len(WORDS),
        **options,
    )
    bert = Bert(config, pooler=False, tokenizer=tokenizer)
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


def batches(tokenizer: Tokenizer, tokens: int = 256, seed: int = 0) -> text.MaskedBatches:
    return text.MaskedBatches(data.make_rows(documents(), tokenizer), tokenizer, tokens, seed)


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
    assert rows.lengths.max() == 50
    pieces = tokenizer.backend.encode(long, add_special_tokens=False)
    assert rows.ids.tolist() == pieces.ids
    batch = rows.batch(np.array([0, len(rows) - 1]), tokenizer)
    assert batch["input_ids"].shape == (2, 52)
    assert batch["attention_mask"].sum(1).tolist() == (rows.lengths[[0, -1]] + 2).tolist()
    assert batch["input_ids"][0, 0] == tokenizer.cls_id and batch["input_ids"][0, 51] == tokenizer.sep_id
    # Words are numbered from 1 in each row; 0 is [CLS], [SEP] and padding.
    first = rows.words[:50]
    assert first[0] == 1 and set(np.diff(first)) == {0, 1}
    assert batch["words"][1, rows.lengths[-1] + 1 :].eq(0).all()


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
            assert len(rows) * (source.rows.lengths[rows].max() + 2) <= 128
    assert [rows.tolist() for rows in epochs[0]] != [rows.tolist() for rows in epochs[1]]


def test_little_of_a_batch_is_padding() -> None:
    lengths = np.random.default_rng(0).integers(6, 127, size=20_000)
    found = data.bucketed_batches(lengths, 4096, seed=0)
    size = sum(len(rows) * (lengths[rows].max() + 2) for rows in found)
    assert (lengths + 2).sum() / size > 0.95
    assert sorted(np.concatenate(found)) == list(range(20_000))


def test_masks_are_repeatable_and_new_in_each_epoch(tokenizer: Tokenizer) -> None:
    source, same, other = batches(tokenizer), batches(tokenizer), batches(tokenizer, seed=5)
    for step in (0, 3, 3, 40):
        for name, tensor in source(step).items():
            assert torch.equal(tensor, same(step)[name])
    assert source(0)["input_ids"].tolist() != other(0)["input_ids"].tolist()
    rows = np.arange(20)
    batch = source.rows.batch(rows, tokenizer)
    first, second = (text.mask_batch(batch, tokenizer, source.random_ids, seed) for seed in (0, 1))
    assert not torch.equal(first["chosen"], second["chosen"])
    for masked in (first, second):
        assert torch.equal(masked["original_ids"], batch["input_ids"])
        assert masked["chosen"].any(1).all() and not masked["chosen"][batch["words"] == 0].any()
        untouched = ~masked["chosen"]
        assert torch.equal(masked["input_ids"][untouched], batch["input_ids"][untouched])


def test_processes_share_the_rows_of_a_batch(tokenizer: Tokenizer) -> None:
    source = batches(tokenizer)
    whole = source(7)["input_ids"]
    parts = [source(7, process, 3)["input_ids"] for process in range(3)]
    assert sum(map(len, parts)) == len(whole)
    assert all(torch.equal(part, whole[process::3]) for process, part in enumerate(parts))


# --- the loop ----------------------------------------------------------------------------------


def run(bert: Bert, source: text.MaskedBatches, folder: Path, **options) -> loop.Progress:
    resume, evaluate = options.pop("resume", False), options.pop("evaluate", None)
    settings = Settings(**{"warmup": 3, "log_every": 1, "save_every": 5, "learning_rate": 3e-3} | options)
    return loop.train(text.MaskedWordLoss(bert), source, settings, folder, resume=resume, evaluate=evaluate)


class Killed(Exception):
    """Stands for a process that ends with no chance to clean up."""


def stopping_at(source: text.MaskedBatches, at: int, error: type[BaseException]):
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
        assert set(line) == {"step", "loss", "learning_rate", "tokens_per_second", "seconds"}
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


def test_hours_end_a_training(bert: Bert, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = batches(bert.tokenizer)
    clock = [0.0]

    def batch_at(step: int, process: int, processes: int) -> loop.Batch:
        clock[0] += 60.0  # a minute a step
        return source(step, process, processes)

    monkeypatch.setattr(loop.time, "monotonic", lambda: clock[0])
    progress = run(bert, batch_at, tmp_path, hours=0.5, warmup=1, learning_rate=1.0)
    assert progress.step == 30 and progress.seconds == 1800
    rates = [line["learning_rate"] for line in progress.log]
    assert rates == pytest.approx([1.0] * 25 + [1 - 1 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])
    monkeypatch.setattr(loop.time, "monotonic", lambda: clock[0] + 1e6)  # time between two runs is free
    resumed = run(bert, batch_at, tmp_path, hours=0.6, warmup=1, learning_rate=1.0, resume=True)
    assert resumed.step == 36


def test_it_learns_more_than_how_often_words_occur(bert: Bert, tmp_path: Path) -> None:
    bert = tiny_bert(bert.tokenizer, hidden_dropout_prob=0.0)
    train, score = data.split_documents(documents(600))
    rows, score_rows = data.make_rows(train, bert.tokenizer), data.make_rows(score, bert.tokenizer)
    share = np.bincount(rows.ids) / len(rows.ids)
    unigram = -(share[share > 0] * np.log(share[share > 0])).sum()
    before = text.masked_word_figures(bert, score_rows)
    run(
        bert, text.MaskedBatches(rows, bert.tokenizer, 512), tmp_path, steps=150, log_every=50, save_every=150
    )
    after = text.masked_word_figures(bert, score_rows)
    assert before["mlm_loss"] > unigram
    assert after["mlm_loss"] < 0.7 * unigram
    assert after["mlm_accuracy"] > before["mlm_accuracy"] + 0.3
    assert after == text.masked_word_figures(bert, score_rows)
    assert after != text.masked_word_figures(bert, score_rows, seed=1)
    assert text.masked_word_figures(bert, score_rows, most=1)["mlm_words"] < 10


def test_rows_that_cannot_be_read_do_no_harm(bert: Bert, tmp_path: Path) -> None:
    rows = data.make_rows(["ö ü ä ß é è ø"], bert.tokenizer)  # [UNK] only: nothing to guess
    assert len(rows) == 1
    run(bert, text.MaskedBatches(rows, bert.tokenizer, 64), tmp_path, steps=2)
    assert all(parameter.isfinite().all() for parameter in bert.parameters())


SCRIPT = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
import test_training as t
torch.manual_seed(0)
tokenizer = t.Tokenizer.from_words(t.WORDS)
bert = t.tiny_bert(tokenizer, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
out = Path(sys.argv[2])
# 34 tokens: some batches have a single row, which leaves the second process with none.
for tokens, steps, resume in ((256, 4, False), (256, 6, True), (34, 9, True)):
    t.run(bert, t.batches(tokenizer, tokens), out, steps=steps, save_every=3, resume=resume)
if t.Accelerator().is_main_process:
    t.save_checkpoint(bert, out / "checkpoint")
"""


def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    root = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": str(root.parent), "OMP_NUM_THREADS": "1"}
    for processes in (1, 2):
        launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_machines", "1"]
        launch += ["--num_processes", str(processes), "--mixed_precision", "no", "--dynamo_backend", "no"]
        if processes == 1:
            launch = [sys.executable]
        command = [*launch, str(tmp_path / "script.py"), str(root), str(tmp_path / str(processes))]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
    logs = [
        [json.loads(line) for line in (tmp_path / number / "log.jsonl").read_text().splitlines()]
        for number in "12"
    ]
    assert [line["step"] for line in logs[0]] == [line["step"] for line in logs[1]] == list(range(1, 10))
    assert [line["loss"] for line in logs[1]] == pytest.approx([line["loss"] for line in logs[0]], abs=1e-4)
    one, two = (load_bert(tmp_path / number / "checkpoint", device="cpu").state_dict() for number in "12")
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, atol=1e-4, rtol=0)


# --- the recipe --------------------------------------------------------------------------------


def test_the_command_trains_and_scores_a_checkpoint(
    bert: Bert, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bert.heads.pop("mlm")
    save_checkpoint(bert, tmp_path / "start")
    out = tmp_path / "out"
    train = ["train", "text", "--data", str(folder), "--out", str(out), "--start", str(tmp_path / "start")]
    cli.main([*train, "--steps", "2", "--tokens", "512"])
    assert "2 steps; the checkpoint is in" in capsys.readouterr().out
    cli.main([*train, "--steps", "3", "--tokens", "512", "--resume"])
    trained = load_bert(out / "checkpoint", device="cpu")
    assert list(trained.heads) == ["mlm"] and trained.pooler is None
    assert not (out / "checkpoint" / "vocab.txt").exists()
    score = ["evaluate", "text", "--data", str(folder), "--checkpoint", str(out / "checkpoint")]
    cli.main([*score, "--rows", "50"])
    printed = capsys.readouterr().out
    for word in ("wiki", "stories", "accuracy", "loss", "masked words", "seed 0", "checkpoint", "seconds"):
        assert word in printed
    # What is scored is never trained on.
    train_rows, score_rows = (data.Rows.load(out / f"{name}_rows.npz") for name in ("train", "held_out"))
    kept, held_out = data.split_documents(documents()[:200])
    stories, _ = data.split_documents(documents()[200:])
    assert np.array_equal(score_rows.ids, data.make_rows(held_out, bert.tokenizer).ids)
    pieces = [len(data.make_rows(texts, bert.tokenizer).ids) for texts in (kept, stories)]
    assert len(train_rows.ids) == pieces[0] + 3 * pieces[1]  # stories are read three times


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
    start, steps = ["--start", str(tmp_path / "start")], ["--steps", "1"]
    train = ["train", "text", "--out", str(tmp_path / "out"), "--data"]
    score = ["evaluate", "text", "--checkpoint", str(tmp_path / "start"), "--data"]
    for arguments, message in (
        ([*train, str(folder), *start], "Say how long to train"),
        ([*train, str(folder), *start, "--steps", "0"], "Say how long to train"),
        ([*train, str(folder), *start, "--hours", "-1"], "Say how long to train"),
        ([*train, str(tmp_path / "nowhere"), *start, *steps], "neither a folder nor a Hub set"),
        ([*train, str(empty), *start, *steps], "holds no text files"),
        ([*train, str(tiny), *start, *steps], "too little text"),
        ([*train, str(blank), *start, *steps], "too little text"),
        ([*train, str(folder), "--start", str(tmp_path / "nothing"), *steps], "no file or folder"),
        ([*score, str(tmp_path / "nowhere")], "neither a folder nor a Hub set"),
        ([*score, str(tiny)], "no held-out documents"),
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
