"""The loop: resumed, stopped, by the clock, and in two processes it learns the same."""

import copy
import json
import os
import resource
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from tiny import refuses, sentence_bert
from tiny_texts import documents, new_batches, new_bert, run

from workbench.bert import Bert
from workbench.checkpoint import load_bert
from workbench.training import __main__ as program, loop
from workbench.training.lessons import fine_tune
from workbench.training.loop import Settings
from workbench.training.text_learner import (
    IGNORED,
    TextBatches,
    head_figures,
    next_sentence_rows,
    pack_rows,
    split_documents,
)

# Two processes add up in another order than one; where the loop computes in bfloat16 that shows earlier.
CLOSE = 5e-3 if loop.bfloat16_is_faster("cpu") else 1e-4


@pytest.fixture
def bert() -> Bert:
    return new_bert()


def losses(progress: loop.Progress) -> list[float]:
    return [line["loss"] for line in progress.log if "loss" in line]


class Killed(Exception):
    """Stands for a process that ends with no chance to clean up."""


def stopping_at(source: TextBatches, at: int, error: type[BaseException]):
    def batch_at(step: int, process: int, processes: int) -> loop.Batch:
        if step == at:
            raise error
        return source(step, process, processes)

    return batch_at


def test_resumed_after_a_kill_it_gives_the_same_numbers(bert: Bert, tmp_path: Path) -> None:
    source = new_batches(bert.tokenizer)  # with dropout: its random numbers have to be the same as well
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
    source = new_batches(bert.tokenizer)
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


@pytest.mark.parametrize("kind", ["loss", "gradient"])
def test_a_loss_that_is_not_finite_ends_it_before_that_step(bert: Bert, tmp_path: Path, kind: str) -> None:
    source = new_batches(bert.tokenizer)
    start, odd = copy.deepcopy(bert), copy.deepcopy(bert)
    with pytest.raises(Killed):
        run(bert, stopping_at(source, 7, Killed), tmp_path / "good", steps=14)

    def poison(_: object, __: object, states: torch.Tensor) -> torch.Tensor | None:
        if kind == "loss":
            return states * torch.nan
        states.register_hook(lambda gradient: gradient * torch.inf)
        return None

    def batch_at(step: int, process: int, processes: int) -> loop.Batch:
        if step == 7:
            odd.embeddings.register_forward_hook(poison)
        return source(step, process, processes)

    refuses(lambda: run(odd, batch_at, tmp_path / "odd", steps=14), "of step 8 is .*state-5", ValueError)
    assert [path.name for path in (tmp_path / "odd").glob("*-*")] == ["state-5"]
    assert not odd.training and all(parameter.grad is None for parameter in odd.parameters())
    for name, tensor in bert.state_dict().items():
        assert torch.equal(tensor, odd.state_dict()[name]), name
    assert run(start, source, tmp_path / "odd", steps=14, resume=True).step == 14


def test_the_program_tells_of_it_and_writes_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr(
        torch.nn.functional, "cross_entropy", lambda scores, *_, **__: scores.sum() * torch.nan
    )
    for options, told in (
        (["--out", "new"], "no finite number"),
        (["--out", "file"], "could not be written"),
    ):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["training", "patches", "--steps", "2", *options])
        with pytest.raises(SystemExit) as ended:
            program.main()
        last = capsys.readouterr().err.splitlines()[-1]
        assert ended.value.code == 1 and told in last and last.startswith("python -m workbench.training: ")
    assert not list(tmp_path.glob("new/*-*")) and not (tmp_path / "new" / "checkpoint").exists()


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


DAMAGE = {
    "cut weights": lambda state: cut(state / "model.safetensors"),
    "no weights": lambda state: (state / "model.safetensors").unlink(),
    "cut optimizer": lambda state: cut(state / "optimizer.bin"),
    "empty optimizer": lambda state: (state / "optimizer.bin").write_bytes(b""),
    "no optimizer": lambda state: (state / "optimizer.bin").unlink(),
    "empty progress": lambda state: (state / "progress.json").write_text(""),
    "bare progress": lambda state: (state / "progress.json").write_text("{}"),
    "no progress": lambda state: (state / "progress.json").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_state_is_named(bert: Bert, tmp_path: Path, damage: str) -> None:
    source = new_batches(bert.tokenizer)
    run(bert, source, tmp_path, steps=2)
    DAMAGE[damage](tmp_path / "state-2")
    again = lambda: run(bert, source, tmp_path, steps=4, resume=True)  # noqa: E731
    refuses(again, r"state-2 is damaged.* model \([^)].* delete this folder", ValueError)
    assert (tmp_path / "state-2").exists()


def test_a_state_of_another_model_is_named(bert: Bert, tmp_path: Path) -> None:
    source = new_batches(bert.tokenizer)
    run(bert, source, tmp_path, steps=2)
    other = new_bert(pooler=True)
    refuses(lambda: run(other, source, tmp_path, steps=4, resume=True), "of another model", ValueError)


def test_a_full_disk_leaves_the_state_before(bert: Bert, tmp_path: Path) -> None:
    source = new_batches(bert.tokenizer)
    run(bert, source, tmp_path, steps=4)
    log = (tmp_path / "log.jsonl").read_text()
    sizes = sorted(file.stat().st_size for file in (tmp_path / "state-4").iterdir())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Room for all but the optimizer; nor for the weights; nor for the log.
    for size, what in ((sizes[-1] - 1000, "state-6"), (sizes[-2] - 1000, "state-6"), (100, "log.jsonl")):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        try:
            again = lambda: run(bert, source, tmp_path, steps=6, save_every=6, resume=True)  # noqa: E731
            refuses(again, f"{what} could not be written .* before is kept", OSError)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert [path.name for path in tmp_path.glob("*-*")] == ["state-4"]
        assert (tmp_path / "log.jsonl").read_text().startswith(log)
    assert run(bert, source, tmp_path, steps=6, resume=True).step == 6


@pytest.mark.parametrize("killed", ["rename", "rmtree"])
def test_killed_while_states_change_places(
    bert: Bert, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: str
) -> None:
    source = new_batches(bert.tokenizer)
    run(bert, source, tmp_path, steps=4)

    def kill(path: Path, *_: object, **__: object) -> None:
        if killed == "rmtree" or path.name.startswith("unfinished"):
            raise Killed
        rename(path, *_)

    rename = Path.rename
    monkeypatch.setattr(Path if killed == "rename" else loop.shutil, killed, kill)
    with pytest.raises(Killed):  # where a state of as many steps is already, and then where there is none
        run(bert, source, tmp_path, steps=4)
    with pytest.raises(Killed):
        run(bert, source, tmp_path, steps=5, resume=True)
    monkeypatch.undo()
    expected = 4 if killed == "rename" else 5
    assert json.loads((loop.last_state(tmp_path) / "progress.json").read_text())["step"] == expected
    assert run(bert, source, tmp_path, steps=6, resume=True).step == 6
    assert [path.name for path in tmp_path.glob("*-*")] == ["state-6"]


def test_a_finished_training_can_be_made_longer(bert: Bert, tmp_path: Path) -> None:
    source = new_batches(bert.tokenizer)
    run(bert, source, tmp_path, steps=4)
    assert run(bert, source, tmp_path, steps=4, resume=True).step == 4
    assert run(bert, source, tmp_path, steps=7, resume=True).step == 7


def test_every_step_reaches_the_log_and_a_stop_changes_no_later_line(bert: Bert, tmp_path: Path) -> None:
    source, start = new_batches(bert.tokenizer), copy.deepcopy(bert)
    options = {"steps": 12, "log_every": 5, "evaluate": lambda: {"score": 0.5}}
    whole = run(bert, source, tmp_path / "whole", **options)
    run(copy.deepcopy(start), stopping_at(source, 9, KeyboardInterrupt), tmp_path / "parts", **options)
    learner = copy.deepcopy(start)
    for _ in range(2):  # and then it is over
        parts = run(learner, source, tmp_path / "parts", **options, resume=True)
        assert [line["step"] for line in parts.log] == [5, 5, 9, 10, 10, 12, 12]
    assert [line["step"] for line in whole.log] == [5, 5, 10, 10, 12, 12]
    assert losses(parts) == losses(whole) and len(losses(whole)) == 3


def test_a_stop_tells_of_the_steps_before_it(bert: Bert, tmp_path: Path) -> None:
    source = new_batches(bert.tokenizer)

    def batch_at(step: int, process: int, processes: int) -> loop.Batch:
        if step == 6:
            os.kill(os.getpid(), signal.SIGINT)
        return source(step, process, processes)

    whole = run(copy.deepcopy(bert), source, None, steps=9, log_every=4)
    stopped = run(bert, batch_at, None, steps=9, log_every=4)
    assert [line["step"] for line in stopped.log] == [4, 7]
    assert [line["step"] for line in whole.log] == [4, 8, 9]


def test_what_is_called_like_a_state_is_left_alone(bert: Bert, tmp_path: Path) -> None:
    source = new_batches(bert.tokenizer)
    (tmp_path / "state-of-the-art").mkdir()
    (tmp_path / "unfinished-novel").mkdir()
    (tmp_path / "state-notes.txt").write_text("mine")
    assert run(bert, source, tmp_path, steps=2, resume=True).step == 2, "there is nothing to go on from"
    run(bert, source, tmp_path, steps=4, resume=True)
    kept = {"state-of-the-art", "unfinished-novel", "state-notes.txt", "state-4"}
    assert {path.name for path in tmp_path.glob("*-*")} == kept


def test_an_interruption_keeps_what_was_learned(bert: Bert, tmp_path: Path, capsys) -> None:
    source = new_batches(bert.tokenizer)
    start = copy.deepcopy(bert)
    progress = run(bert, stopping_at(source, 4, KeyboardInterrupt), tmp_path, steps=9)
    assert progress.step == 4 and not bert.training
    assert "Stopped after 4 steps" in capsys.readouterr().out
    assert not torch.equal(start.heads["mlm"].decoder.weight, bert.heads["mlm"].decoder.weight)
    resumed = run(copy.deepcopy(start), source, tmp_path, steps=9, resume=True)
    assert losses(resumed)[:4] == losses(progress) and resumed.step == 9


def test_ctrl_c_waits_for_the_end_of_a_step(bert: Bert, tmp_path: Path, capsys) -> None:
    source = new_batches(bert.tokenizer)
    handler = signal.getsignal(signal.SIGINT)

    def batch_at(step: int, process: int, processes: int) -> loop.Batch:
        for _ in range({4: 1, 6: 2}.get(step, 0)):
            os.kill(os.getpid(), signal.SIGINT)
        return source(step, process, processes)

    assert run(bert, batch_at, tmp_path, steps=9).step == 5
    assert "Stopped after 5 steps" in capsys.readouterr().out
    assert run(bert, batch_at, tmp_path, steps=9, resume=True).step == 6, "the second one is not patient"
    assert [path.name for path in tmp_path.glob("*-*")] == ["state-6"]
    assert signal.getsignal(signal.SIGINT) is handler


def test_nothing_is_written_without_a_folder(
    bert: Bert, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(bert, new_batches(bert.tokenizer), None, steps=6, save_every=2).step == 6
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("rate", [0, -1e-3, 2.0, float("nan")])
def test_a_learning_rate_has_bounds(rate: float) -> None:
    refuses(lambda: Settings(steps=1, learning_rate=rate), "learning rate", ValueError)
    refuses(lambda: Settings(hours=float("nan")), "how long to train", ValueError)
    refuses(lambda: Settings(steps=5, hours=float("nan")), "how long to train", ValueError)
    refuses(lambda: Settings(steps=1, save_every=0), "saved and logged every so many steps", ValueError)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"steps": 2.5}, "steps is a whole number, not 2.5."),
        ({"steps": "3"}, "steps is a whole number, not '3'."),
        ({"seed": -1}, "seed is between 0 and 4,294,967,295, not -1."),
        ({"seed": 2**70}, "seed is between 0 and 4,294,967,295"),
        ({"clip": 0.0}, "clip, .* is above 0, not 0.0."),
        ({"clip": float("nan")}, "clip, .* is above 0, not nan."),
    ],
)
def test_settings_have_bounds(
    wrong: dict, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        Settings(**{"steps": 1} | wrong)
    if "clip" not in wrong:
        with pytest.raises((TypeError, ValueError), match=said):
            fine_tune(sentence_bert(), [("a cat", "a"), ("a dog", "b")] * 8, **wrong)
    if "seed" in wrong:
        monkeypatch.setattr(sys, "argv", ["training", "pictures", "--seed", str(wrong["seed"])])
        with pytest.raises(SystemExit):
            program.main()
        assert said in capsys.readouterr().err


def test_the_log_says_how_it_goes(bert: Bert, tmp_path: Path) -> None:
    source = new_batches(bert.tokenizer)
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
    source = new_batches(bert.tokenizer)
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
    bert = new_bert(hidden_dropout_prob=0.0)
    train, score = split_documents(documents(600))
    rows, score_rows = (next_sentence_rows(part, bert.tokenizer, length=60) for part in (train, score))
    ids = np.concatenate(rows["input_ids"])
    share = np.bincount(ids) / len(ids)
    unigram = -(share[share > 0] * np.log(share[share > 0])).sum()
    before = head_figures(bert, score_rows, "mlm")
    run(
        bert,
        TextBatches(rows, bert.tokenizer, "mlm", 512),
        tmp_path,
        steps=150,
        log_every=50,
        save_every=150,
    )
    after = head_figures(bert, score_rows, "mlm")
    assert before["mlm_loss"] > unigram
    assert after["mlm_loss"] < 0.7 * unigram
    assert after["mlm_accuracy"] > before["mlm_accuracy"] + 0.3
    assert after == head_figures(bert, score_rows, "mlm")
    assert after != head_figures(bert, score_rows, "mlm", seed=1)
    assert head_figures(bert, score_rows, "mlm", most=1)["mlm_count"] < 10


def test_rows_that_cannot_be_read_do_no_harm(bert: Bert, tmp_path: Path) -> None:
    unknown = bert.tokenizer.unk_id
    rows = pack_rows(bert.tokenizer, [(([unknown] * 7, range(7)), None, IGNORED)])  # nothing to guess
    run(bert, TextBatches(rows, bert.tokenizer, "mlm", 64), tmp_path, steps=2)
    assert all(parameter.isfinite().all() for parameter in bert.parameters())


SCRIPT = """
import os
import signal
import sys
from pathlib import Path

import torch

torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
import tiny_texts as tiny

from workbench.checkpoint import save_checkpoint
from workbench.training import loop
from workbench.training.text_learner import TextBatches, next_sentence_rows

team = loop.processes()
torch.manual_seed(0)
bert = tiny.new_bert(pooler=True, **tiny.NO_DROPOUT)
bert.add_head("nsp", "sentence", ("is next", "not next"))
out = Path(sys.argv[2])
pairs = next_sentence_rows(tiny.documents(), bert.tokenizer, length=40)
# 34 tokens: some batches have a single row, which leaves the second process with none.
for tokens, steps, resume in ((256, 4, False), (256, 6, True), (34, 9, True)):
    # The last batch has no targets for one of the heads.
    sources = (
        TextBatches(pairs, bert.tokenizer, "nsp", tokens, masked=True),
        tiny.new_batches(bert.tokenizer, tokens),
    )
    together = lambda *step: [source(*step) for source in sources]
    tiny.run(bert, together, out, steps=steps, save_every=3, resume=resume)

def interrupted(*step):  # in the last process alone
    if step[0] == 10 and team.is_last_process:
        os.kill(os.getpid(), signal.SIGINT)
    return sources[1](*step)

assert tiny.run(bert, interrupted, out, steps=30, save_every=20, resume=True).step == 11
assert [state.name for state in out.glob("*-*")] == ["state-11"]
if team.is_main_process:
    (out / "processes").write_text(str(team.num_processes))
    save_checkpoint(bert, out / "checkpoint")
"""


def test_two_processes_learn_what_one_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    root = Path(__file__).parent.parent
    arguments = [str(tmp_path / "script.py"), str(root)]
    monkeypatch.setattr(sys, "argv", [*arguments, str(tmp_path / "1")])
    runpy.run_path(arguments[0])
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = os.environ | {"PYTHONPATH": str(root.parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launch, *arguments, str(tmp_path / "2")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    for processes in "12":
        assert (tmp_path / processes / "processes").read_text() == processes
    logs = [
        [json.loads(line) for line in (tmp_path / number / "log.jsonl").read_text().splitlines()]
        for number in "12"
    ]
    assert [line["step"] for line in logs[0]] == [line["step"] for line in logs[1]] == list(range(1, 12))
    assert {name for line in logs[0] for name in line} > {"mlm_loss", "nsp_loss"}
    for one, two in zip(*logs, strict=True):
        for name in ("loss", "mlm_loss", "nsp_loss"):
            assert two.get(name) == pytest.approx(one.get(name), abs=CLOSE)
    one, two = (load_bert(tmp_path / number / "checkpoint", device="cpu").state_dict() for number in "12")
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, atol=CLOSE, rtol=0)


def test_the_speed_is_that_of_the_steps_also_after_a_save(bert: Bert, tmp_path: Path) -> None:
    """Saves come between lines of the log, and take no time of the steps that are counted."""
    source = new_batches(bert.tokenizer)

    def slowly(step: int, process: int, processes: int) -> loop.Batch:
        time.sleep(0.05)
        return source(3, process, processes)

    progress = run(bert, slowly, tmp_path, steps=20, save_every=9, log_every=10)
    # No step takes less than it sleeps; with the clock set anew at a save two lines would be told five times
    # too fast, and more.
    fastest = source(3)["input_ids"].numel() / 0.05
    assert all(0 < line["tokens_per_second"] <= fastest for line in progress.log if "loss" in line)
