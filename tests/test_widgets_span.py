"""SpanExtraction without a browser: scores beside transformers' own, offsets, windows, errors."""

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from matplotlib.text import Text
from tiny import close, our_bert

import workbench as wb
from workbench.plots import in_percent
from workbench.tasks import best_spans, span_windows
from workbench.widgets import SpanExtraction, span_extraction
from workbench.widgets.samples import PASSAGES

QUESTION, PASSAGE = "was a cat red?", "the cat sat. the cat was red, on a matxy!"


@pytest.fixture(scope="module")
def bert() -> wb.Bert:
    return our_bert("mlm", "span")


def bars_of(widget: SpanExtraction) -> np.ndarray:
    return np.frombuffer(widget.bars, np.float16).reshape(2, -1).astype(float)


# --- the tasks -----------------------------------------------------------------------------------


@torch.no_grad()
def test_scores_are_theirs(bert: wb.Bert, tmp_path: Path) -> None:
    wb.save_checkpoint(bert, tmp_path)
    theirs = transformers.BertForQuestionAnswering.from_pretrained(tmp_path).eval()
    inputs = transformers.AutoTokenizer.from_pretrained(tmp_path)(QUESTION, PASSAGE, return_tensors="pt")
    output = theirs(**inputs, output_hidden_states=True)
    (window,) = span_windows(bert, QUESTION, PASSAGE)
    close(window.scores[:, 0], output.start_logits[0])
    close(window.scores[:, 1], output.end_logits[0])
    null = float(output.start_logits[0, 0] + output.end_logits[0, 0])
    assert window.no_answer_score == pytest.approx(null, abs=1e-5)

    widget = SpanExtraction(bert, QUESTION, PASSAGE, chosen=4, stage="head", row=1)
    start, end = output.start_logits[0].softmax(-1), output.end_logits[0].softmax(-1)
    inside = window.inside
    close(torch.tensor(bars_of(widget)), torch.stack([start, end])[:, inside.start : inside.stop], 1e-3)
    assert widget.view["no_answer"] == pytest.approx(null, abs=1e-3)
    weight = theirs.qa_outputs.weight
    vectors = torch.tensor(np.frombuffer(widget.numbers, np.float16).reshape(4, -1).astype(np.float32))
    own, bias = output.hidden_states[-1][0, inside[4]], theirs.qa_outputs.bias
    close(vectors, torch.cat([own[None], weight, (weight[1] * own)[None]]), 2e-3)
    sums = [float(weight[1] @ own), float(bias[1]), float(weight[1] @ own + bias[1])]
    assert widget.drawer["sum"] == pytest.approx(sums, abs=1e-3)
    chances = [float(start[inside[4]]), float(end[inside[4]])]
    assert [answer for *_, answer in widget.drawer["rows"]] == pytest.approx(chances, abs=1e-4)
    widget.stage = "softmax"
    best = output.end_logits[0].topk(6).indices
    assert [name for name, *_ in widget.drawer["rows"]] == [window.encoding.tokens[at].text for at in best]
    assert [share for *_, share in widget.drawer["rows"]] == pytest.approx(end[best].tolist(), abs=1e-4)


def test_the_map_holds_what_is_possible(bert: wb.Bert) -> None:
    widget = SpanExtraction(bert, QUESTION, PASSAGE, longest=4)
    (window,) = span_windows(bert, QUESTION, PASSAGE)
    joint, count = window.joint(4), len(window.inside)
    assert widget.view["map"] == [0, count]
    band = np.frombuffer(widget.joint, np.float16).reshape(count, 4).astype(float)
    for start in range(count):
        for length in range(4):
            wanted = float(joint[start, start + length]) if start + length < count else 0
            assert band[start, length] == pytest.approx(wanted, abs=1e-3)
    assert joint.tril(-1).sum() == 0 and joint.triu(4).sum() == 0
    start, end = bars_of(widget)
    assert band[2, 1] == pytest.approx(start[2] * end[3], abs=1e-3)


def test_answers_are_those_of_answer_question(bert: wb.Bert) -> None:
    widget = SpanExtraction(bert, QUESTION, PASSAGE, top_k=7)
    result = wb.answer_question(bert, QUESTION, PASSAGE, top_k=7)
    assert [answer[:3] for answer in widget.answers] == [[a.text, a.start, a.end] for a in result.answers]
    assert widget.view["no_answer_probability"] == pytest.approx(result.no_answer, abs=1e-5)
    best = widget.view["answer"]
    shown = widget.view["tokens"][best[0] : best[1] + 1]
    assert "".join(gap * (at > 0) + text for at, (gap, text) in enumerate(shown)) == result.answers[0].text


def test_the_same_words_twice_are_told_apart(bert: wb.Bert) -> None:
    passage = "the cat ran. the cat ran. the cat ran."
    widget = SpanExtraction(bert, "cat?", passage, top_k=20, longest=2)
    cats = [at for at, answer in enumerate(widget.answers) if answer[0] == "the cat"]
    assert len(cats) == 3
    starts = set()
    for at in cats:
        widget.pinned = at
        starts.add((widget.answers[at][1], widget.view["answer"][0]))
        assert passage[widget.answers[at][1] :].startswith("the cat")
    assert starts == {(0, 0), (13, 4), (26, 8)}


def test_no_answer_and_its_threshold(bert: wb.Bert) -> None:
    widget = SpanExtraction(bert, QUESTION, PASSAGE)
    (window,) = span_windows(bert, QUESTION, PASSAGE)
    first, last = (window.inside[at] for at in widget.view["answer"])
    score = float(window.scores[first, 0] + window.scores[last, 1])
    assert widget.view["best"] == pytest.approx(score, abs=1e-3)
    lead = score - window.no_answer_score
    for threshold, answered in [(lead - 0.1, True), (lead + 0.1, False)]:
        widget.threshold = threshold
        assert widget.view["answered"] is answered and widget.error == ""


def test_the_still_picture_adds_up_the_pieces_of_a_word(bert: wb.Bert) -> None:
    (window,) = span_windows(bert, QUESTION, PASSAGE)
    names = [token.text for token in window.encoding.tokens]
    chances = window.probabilities[names.index("mat") : names.index("##y") + 1]
    start, end = map(in_percent, chances.sum(0).tolist())
    figure = SpanExtraction(bert, QUESTION, PASSAGE).figure()
    texts = [text.get_text() for text in figure.findobj(Text)]
    assert texts[texts.index("matxy") :].count(f"s {start} · e {end}") and len(chances) == 3


# --- windows -------------------------------------------------------------------------------------


def test_long_passages_have_windows(bert: wb.Bert) -> None:
    passage = "😀 " + " ".join(f"word{index % 15}" for index in range(100))
    widget = SpanExtraction(bert, "a red cat?", passage)
    windows = span_windows(bert, "a red cat?", passage)
    assert widget.view["windows"] == len(windows) > 3
    for number in range(len(windows)):
        widget.window = number
        view = widget.view
        assert view["window"] == number
        assert view["before"] + "".join(gap + text for gap, text in view["tokens"]) + view["after"] == passage
        assert bars_of(widget).shape[1] == len(view["tokens"])
    widget.pinned = 2
    assert widget.view["window"] == widget.answers[2][4], "a pinned answer is shown in its own window"
    assert best_spans(windows, passage, 5)[2][0].text == widget.answers[2][0]


def test_no_answer_is_that_of_the_window_where_it_scores_lowest(bert: wb.Bert) -> None:
    passage = " ".join(f"word{index % 13}" for index in range(90))
    widget = SpanExtraction(bert, "tea?", passage)
    windows = span_windows(bert, "tea?", passage)
    lowest = min(windows, key=lambda window: float(window.scores[0].sum()))
    assert len({round(window.no_answer_score, 2) for window in windows}) > 1
    for number in range(len(windows)):  # whichever is on the screen
        widget.window = number
        assert widget.view["no_answer"] == pytest.approx(float(lowest.scores[0].sum()), abs=1e-3)
        assert widget.view["no_answer_probability"] == pytest.approx(lowest.no_answer, abs=1e-6)
    lead = widget.view["best"] - widget.view["no_answer"]
    for threshold, answered in [(lead - 0.01, True), (lead + 0.01, False)]:
        widget.threshold = threshold
        assert widget.view["answered"] is answered


def test_the_map_of_a_long_window_is_cut_around_the_answer() -> None:
    bert = our_bert("span", max_position_embeddings=300)
    widget = SpanExtraction(bert, "tea?", " ".join(f"word{index % 15}" for index in range(250)))
    first, last = widget.view["map"]
    assert last - first <= 22 and first <= widget.view["answer"][0] <= widget.view["answer"][-1] < last
    assert len(widget.joint) == (last - first) * 30 * 2 and len(widget.bars) == 250 * 2 * 2


def test_the_map_is_where_the_probability_is() -> None:
    joint = torch.zeros(40, 40)
    joint[30, 31], joint[2, 2], joint[25, 26], joint[33, 40 - 1], joint[12, 13] = 0.5, 0.3, 0.1, 0.05, 0.01
    assert span_extraction._where_it_is(joint, 30, 31) == (24, 40), "spans that fit, the most probable first"
    assert span_extraction._where_it_is(joint, 2, 2) == (1, 15)
    assert span_extraction._where_it_is(joint[:20, :20], 2, 2) == (0, 20)
    assert span_extraction._where_it_is(joint, 5, 39) == (4, 26), "a long answer is cut"
    passage = "The market in the old town opens at six on Monday, and the one at the harbour at seven. " * 2
    widget = SpanExtraction(wb.load_bert(device="cpu"), "When does the market at the harbour open?", passage)
    first, last = widget.view["map"]
    (window,) = widget._windows
    joint = window.joint(widget.longest)
    kept = float(joint[first:last, first:last].sum() / joint.sum())
    assert widget.view["mapped"] == pytest.approx(kept, abs=1e-3) and kept > 0.4


def test_progress_is_told_at_once(bert: wb.Bert, monkeypatch: pytest.MonkeyPatch) -> None:
    widget = SpanExtraction(bert, QUESTION, PASSAGE)
    told: list[dict] = []
    monkeypatch.setattr(SpanExtraction, "send", lambda _, content: told.append(content))
    widget.passage = "the red cat . " * 30
    count = widget.view["windows"]
    assert told == [{"window": done, "windows": count} for done in range(1, count + 1)] and count > 2


def test_twenty_thousand_characters(bert: wb.Bert) -> None:
    widget = SpanExtraction(bert, "cat?", "the cat sat on a mat. " * 900)
    assert widget.error == "" and len(widget.answers) == 5 and len(widget.view["tokens"]) < 40


# --- what stays ----------------------------------------------------------------------------------


def test_a_chosen_word_stays_while_the_question_changes(bert: wb.Bert) -> None:
    widget = SpanExtraction(bert, QUESTION, PASSAGE)
    assert widget.view["chosen"] == widget.view["answer"][0]
    widget.chosen = 3
    widget.question = "a dog?"
    assert widget.view["chosen"] == 3
    widget.passage = "tea was red"
    assert widget.chosen == -1 and widget.error == ""


@pytest.mark.parametrize("name", ["question", "passage"])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "{} is empty"),
        (" \n\t ", "{} is empty"),
        ("\x00\x01\x02", "no word"),
        ("good \ud83d day", "half a character"),
        ("cat " * 20_000, "room|shorten"),
    ],
)
def test_bad_text_is_one_sentence_and_keeps_the_last_good_state(
    bert: wb.Bert, name: str, text: str, said: str
) -> None:
    widget = SpanExtraction(bert, QUESTION, PASSAGE)
    before = widget.answers, widget.view, widget.bars
    setattr(widget, name, text)
    assert any(part in widget.error for part in said.format(name).split("|")), widget.error
    assert "\n" not in widget.error
    assert (widget.answers, widget.view, widget.bars) == before
    said = widget.error
    widget.threshold = 1.0  # looking at what is still there works, too
    assert widget.error == said and widget.view != before[1], "the text is still one that was not read"
    setattr(widget, name, "the red dog")
    assert widget.error == "" and widget.answers != before[0]


@pytest.mark.parametrize(
    ("question", "passage", "said"),
    [
        (PASSAGE, PASSAGE, "the same"),
        ("中 中 中?", "שלום 中 שלום 中", "not English"),
        (QUESTION, "<script>alert(1)</script> [SEP] a cat\n\n\tsat", ""),
    ],
)
def test_odd_texts_are_read(bert: wb.Bert, question: str, passage: str, said: str) -> None:
    bert = our_bert("span", max_position_embeddings=128)
    widget = SpanExtraction(bert, question, passage)
    assert widget.error == "" and said in widget.note
    view = widget.view
    assert view["before"] + "".join(gap + text for gap, text in view["tokens"]) + view["after"] == passage


def test_pieces_of_one_character_do_not_repeat_it() -> None:
    passage = "한국 is Korea"
    view = SpanExtraction(wb.load_bert(device="cpu"), "What is it?", passage).view
    assert [text for _, text in view["tokens"]] == ["한", "", "", "국", "", "", "is", "Korea"]
    assert "".join(gap + text for gap, text in view["tokens"]) == passage


def test_missing_head_and_wrong_options(bert: wb.Bert) -> None:
    with pytest.raises(ValueError, match="no head 'span'.*mlm"):
        SpanExtraction(our_bert("mlm"), QUESTION, PASSAGE)
    with pytest.raises(TypeError, match="no option 'passge'"):
        SpanExtraction(bert, QUESTION, passge="")


def test_examples_can_be_picked_and_are_sound() -> None:
    bert = our_bert("span", max_position_embeddings=512)
    widget = SpanExtraction(bert)
    assert (widget.passage, widget.question) == PASSAGES[0]
    widget._on_message(None, {"do": "example", "index": 3}, None)
    assert (widget.passage, widget.question) == PASSAGES[3] and widget.error == ""
    assert max(len(passage) for passage, _ in PASSAGES) > 2500
    for passage, _ in PASSAGES:
        assert "  " not in passage and passage == passage.strip()
