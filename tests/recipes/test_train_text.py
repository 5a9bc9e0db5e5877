"""The text recipe: stages, cycles and their mean, figures, and one sentence for what goes wrong."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import common
import pytest
import torch
import train_text
from datasets import load_from_disk
from examples import masked_word_rows, read_sets
from tiny_texts import documents, new_bert

from workbench import tasks
from workbench.bert import Bert
from workbench.checkpoint import CheckpointError, load_bert, save_checkpoint
from workbench.training import loop
from workbench.training.text_learner import TextLearner, next_sentence_rows, split_documents


@pytest.fixture
def bert() -> Bert:
    return new_bert()


def command(sets: Path, start: Path, out: Path, *more: str) -> list[str]:
    places = ["--data", str(sets), "--initial", str(start), "--out", str(out)]
    return ["train", *places, "--tokens", "512", *more]


def test_questions_are_scored_by_what_a_user_would_get(bert: Bert, monkeypatch: pytest.MonkeyPatch) -> None:
    says = {"one ?": ("the cat", 0.6, 0.1), "two ?": ("dog", 0.2, 0.5), "three ?": ("owl eats", 0.7, 0.1)}

    def answer(bert: Bert, question: str, passage: str, top_k: int) -> tasks.SpanAnswers:
        words, probability, none = says[question]
        return tasks.SpanAnswers(
            (tasks.Answer(words, 0, 3, probability),), none, (), torch.ones(1), torch.ones(1)
        )

    monkeypatch.setattr(train_text, "answer_question", answer)
    given = {"one ?": ["Cat!", "owl"], "two ?": [], "three ?": ["owl"]}
    rows = [
        {"question": q, "context": "x", "answers": {"text": a, "answer_start": [0] * len(a)}, "source": "s"}
        for q, a in given.items()
    ]
    rows += [rows[1] | {"question": "one ?"}]
    figures = train_text.span_figures(bert, rows, most=512)
    # Case, punctuation and articles do not count; "owl eats" has half of its words right.
    assert figures["exact"] == (0.5, 2) and figures["F1"] == (pytest.approx((1 + 2 / 3) / 2), 2)
    assert figures["answer or none"] == (pytest.approx((1 + 0.5) / 2), 4)
    assert set(train_text.span_figures(bert, rows[:1], most=512)) == {"exact", "F1"}


def test_the_command_trains_and_scores_a_checkpoint(
    sets: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    train_text.main(command(sets, start, out, "--steps", "2"))
    printed = capsys.readouterr().out
    assert f"2 steps; the checkpoint is in {out / 'checkpoint'}" in printed
    trained = load_bert(out / "checkpoint", device="cpu")
    assert set(trained.heads) == set(train_text.HEADS) and trained.pooler is not None
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert {
        "mlm/wiki_validation",
        "nsp/wiki_validation_same_document",
        "span/qa_validation",
        "nli/sick_test",
    } <= set(log[-1])
    assert "mlm/stories_validation" not in log[-1]  # one is enough on the way

    train_text.main(
        ["evaluate", "--data", str(sets), "--checkpoint", str(out / "checkpoint"), "--most", "50"]
    )
    lines = [line.split("  ")[0] for line in capsys.readouterr().out.splitlines() if "/" in line]
    assert set(lines) >= {
        "mlm/wiki_validation",
        "mlm/stories_validation",
        "nsp/wiki_validation_random",
        "nsp/wiki_validation_same_document",
        "sentiment/mr_sentence_polarity_validation",
        "pos/ewt_test",
        "nli/cad_nli_validation",
        "nli/sick_test",
        "span/qa_validation",
        "span/squad2_train_sample_validation",
    }


def test_what_is_scored_is_never_trained_on_and_stories_are_read_three_times(
    bert: Bert, sets: Path, tmp_path: Path
) -> None:
    options = train_text.Options(data=(str(sets),), out=tmp_path / "out", steps=1)
    tables = train_text.prepare_tables(options, bert.tokenizer)
    kept, held_out = split_documents(documents()[:200])
    stories, _ = split_documents(documents()[200:])
    share = train_text.SAME_DOCUMENT
    for name, rows in (
        ("mlm/wiki_validation", masked_word_rows(held_out, bert.tokenizer)),
        ("mlm/train", masked_word_rows([*stories * 3, *kept], bert.tokenizer)),
        ("nsp/train", next_sentence_rows([*stories * 3, *kept], bert.tokenizer, same_document=share)),
    ):
        assert list(tables[name]["input_ids"]) == list(rows["input_ids"]), name
        assert list(load_from_disk(tmp_path / "out" / "rows" / name)["words"]) == list(rows["words"])
    (made,) = [each.splits["train"] for each in read_sets([str(sets)]) if each.name == "made_unanswerable"]
    some = train_text.take(made, train_text.TIMES["made_unanswerable"], 0)
    assert 0 < len(some) < len(made) and some[::2] == [row for row in made[::2] if row in some]
    assert all(made[made.index(row) + 1] in some for row in some[::2])  # beside what it was made from
    assert train_text.take(made, 2.0, 0) == made * 2


def test_every_head_learns_in_each_step_and_no_batch_is_left_out(
    sets: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []

    def train(learner: TextLearner, batch_at: Callable, settings: loop.Settings, *_: object, **__: object):
        steps = [batch_at(step, 0, 1) for step in range(3)]
        again = train_text.MadeAhead(batch_at.sources)
        again.ahead = 2  # as on a GPU, where the next ones are made before they are asked for
        for step, batches in enumerate(steps):
            for one, other in zip(batches, again(step, 0, 1), strict=True):
                assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
        given.append((settings, *({name for batch in batches for name in batch} for batches in steps)))
        return loop.Progress()

    monkeypatch.setattr(loop, "train", train)
    arguments = command(sets, start, tmp_path / "out")
    train_text.main([*arguments, "--hours", "10", "--learning-rate", "0.2"])
    texts = command(sets / "wiki", start, tmp_path / "texts")  # nothing for the other heads
    train_text.main([*texts, "--resume", "--steps", "7"])
    long = [(each.hours, each.steps) for each, *_ in given]
    assert long == [(10, None), (None, 7)]
    assert given[0][0].learning_rate == 0.2
    assert all(set(train_text.HEADS) <= names for names in given[0][1:])
    assert all(names & set(train_text.HEADS) == {"mlm", "nsp"} for names in given[1][1:])


def test_it_goes_on_where_it_stopped(
    sets: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = [*command(sets, start, out, "--learning-rate", "0.01"), "--steps"]
    train_text.main([*arguments, "2"])
    first = load_bert(out / "checkpoint", device="cpu").state_dict()
    before = {file: file.stat().st_mtime_ns for file in out.rglob("*")}
    with pytest.raises(SystemExit):
        train_text.main([*arguments, "4"])
    assert f"{out} holds a training, which stays as it is: go on with --resume" in capsys.readouterr().err
    assert before == {file: file.stat().st_mtime_ns for file in out.rglob("*")}
    train_text.main([*arguments, "4", "--resume"])
    assert json.loads((out / "state-4" / "progress.json").read_text())["step"] == 4
    then = load_bert(out / "checkpoint", device="cpu").state_dict()
    assert any(not torch.equal(first[name], then[name]) for name in first)


def test_a_third_is_what_it_began_with_and_next_sentence_is_fitted_last(sets: Path, start: Path) -> None:
    first, trained = (train_text.start_model(str(start)) for _ in range(2))
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter += torch.randn_like(parameter) / 10
    weights, mean = trained.state_dict(), {}
    for name, tensor in first.state_dict().items():
        mean[name] = weights[name] * 2 / 3 + tensor / 3
    train_text.finish(trained, first, [])
    for name, tensor in trained.state_dict().items():
        torch.testing.assert_close(tensor, mean[name], atol=1e-5, rtol=0)

    train_text.finish(trained, trained, read_sets([str(sets)]))
    changed = {
        name for name, tensor in trained.state_dict().items() if not torch.allclose(tensor, mean[name])
    }
    assert changed == {"heads.nsp.weight", "heads.nsp.bias"}


def test_a_new_head_starts_as_identity(start: Path) -> None:
    head = train_text.start_model(str(start)).heads["mlm"]
    assert torch.equal(head.dense.weight, torch.eye(32))
    assert not head.dense.bias.any() and not head.decoder.bias.any()


def test_bad_inputs_get_one_sentence(
    sets: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty, tiny, blank = (tmp_path / name for name in ("empty", "tiny", "blank"))
    save_checkpoint(new_bert(), tmp_path / "short")
    (mine := tmp_path / "mine" / "rows" / "of mine").mkdir(parents=True)
    for folder, text in ((empty, None), (tiny, "hi"), (blank, "")):
        folder.mkdir()
        if text is not None:
            (folder / "train.jsonl").write_text(json.dumps({"text": text}) + "\n")
    out = tmp_path / "out"
    steps = ["--steps", "1"]
    score = ["evaluate", "--checkpoint", str(start), "--data"]
    for arguments, message in (
        (command(sets, start, out), "Say how long to train"),
        (command(sets, start, out, "--steps", "0"), "Say how long to train"),
        (command(sets, start, out, "--hours", "-1"), "Say how long to train"),
        (command(sets, start, out, *steps, "--learning-rate", "nan"), "learning rate"),
        (command(tmp_path / "nowhere", start, out, *steps), "neither a folder with a set nor one on the Hub"),
        (command(empty, start, out, *steps), "holds no set"),
        (command(tiny, start, out, *steps), "too little text"),
        (command(blank, start, out, *steps), "too little text"),
        (command(sets, tmp_path / "nothing", out, *steps), "no file or folder"),
        (command(sets, tmp_path / "short", out, *steps), "short reads 64 word pieces at once, and rows have"),
        (command(sets, start, tmp_path / "mine", *steps), "rows holds more than tables"),
        ([*score, str(tmp_path / "nowhere")], "neither a folder with a set nor one on the Hub"),
        ([*score, str(tiny)], "nothing held out"),
    ):
        with pytest.raises(SystemExit) as stop:
            train_text.main(arguments)
        error = capsys.readouterr().err
        assert stop.value.code == 2
        assert message in error and "Traceback" not in error, error
    assert mine.exists()
    with pytest.raises(CheckpointError, match="no network"):
        train_text.start_model(train_text.START)
    with pytest.raises(ValueError, match="Say how long"):
        loop.Settings()


def test_a_loss_that_is_not_finite_leaves_no_checkpoint(
    sets: Path,
    start: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(
        torch.nn.functional, "cross_entropy", lambda scores, *_, **__: scores.sum() * torch.nan
    )
    with pytest.raises(SystemExit) as stop:
        train_text.main(command(sets, start, tmp_path / "out", "--steps", "3"))
    assert stop.value.code == 2
    assert "The loss of step 1 is no finite number" in capsys.readouterr().err
    assert not list((tmp_path / "out").rglob("checkpoint"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher",
    [
        ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"],
        ["accelerate.commands.launch", "--cpu", "--num_processes", "1"],
    ],
    ids=["torchrun", "accelerate"],
)
def test_launchers_start_it(launcher: list[str], sets: Path, start: Path, tmp_path: Path) -> None:
    arguments = command(sets, start, tmp_path / "out", "--steps", "2")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_DATASETS_CACHE": str(tmp_path / "cache")}
    run = [sys.executable, "-m", *launcher, train_text.__file__, *arguments]
    done = subprocess.run(run, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("the checkpoint is in") == 1  # one process writes
    assert set(load_bert(tmp_path / "out" / "checkpoint", device="cpu").heads) == set(train_text.HEADS)


def test_figures_are_printed_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    common.print_figures([("a", "b", 0.254, 1234), ("c", "d", torch.tensor(0.5), 7), ("e", "f", "1.56", 2)])
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line]
    assert lines[0] == ["what", "measure", "value", "number"]
    assert lines[1:] == [["a", "b", "25.4%", "1,234"], ["c", "d", "50.0%", "7"], ["e", "f", "1.56", "2"]]
