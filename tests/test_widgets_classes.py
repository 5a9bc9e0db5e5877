"""SentenceClassifier, TokenTagger and FineTuning without a browser."""

import base64
import time

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import sentence_bert

import workbench as wb
from workbench.explain import gradient_relevance, leave_one_out
from workbench.training import lessons
from workbench.training.lessons import fine_tune, read_labelled, split_by_class
from workbench.widgets import FineTuning, SentenceClassifier, TokenTagger

TEXT = "The unplayful cat sat, the dog ran."


@pytest.fixture
def bert():
    return sentence_bert()


@pytest.fixture(scope="module")
def shipped():
    return wb.load_bert(device="cpu")


def numbers(data):
    return np.frombuffer(data, np.float16)


# --- SentenceClassifier


def test_bars_are_those_of_classify_sentence(bert):
    widget = SentenceClassifier(bert, TEXT)
    assert [(label, now) for label, now, _ in widget.bars] == [
        (c.label, pytest.approx(c.probability, abs=1e-5)) for c in wb.classify_sentence(bert, TEXT)
    ]
    assert widget.head == "sentiment" and widget.choices == ["sentiment"], "nsp is for pairs"
    assert widget.chosen == widget.bars[0][0]
    widget.target = widget.bars[-1][0]
    assert widget.chosen == widget.target and widget.tried == []


def test_reasons_come_in_small_steps(bert):
    widget = SentenceClassifier(bert, TEXT)
    assert widget.waiting and not numbers(widget.relevance).any()
    widget._on_message(None, {"do": "explain"}, None)
    assert numbers(widget.relevance).astype(float).sum() == pytest.approx(1, abs=2e-3)
    assert widget.waiting and widget.tried == []
    encoding = bert.tokenizer.encode(TEXT)
    label = ["negative", "neutral", "positive"].index(widget.chosen)
    relevance = gradient_relevance(bert, "sentiment", encoding, label)
    np.testing.assert_allclose(numbers(widget.relevance), relevance, atol=1e-3)
    widget.complete()
    assert not widget.waiting and sorted(widget.tried) == list(range(1, 10))
    np.testing.assert_allclose(
        numbers(widget.left_out)[1:-1],
        leave_one_out(bert, "sentiment", encoding, label, range(1, 10)),
        atol=1e-3,
    )


def test_hidden_words_stay_hidden_while_the_text_changes(bert):
    widget = SentenceClassifier(bert, TEXT)
    widget.hidden = [(TEXT.index("cat"), TEXT.index("cat") + 3)]
    assert [word["text"] for word in widget.words if word["hidden"]] == ["cat"]
    assert widget.bars[0][1] != widget.bars[0][2], "now, and with all words in sight"
    widget.text = "Not " + TEXT
    assert [word["text"] for word in widget.words if word["hidden"]] == ["cat"]
    widget.text = "The dog ran."
    assert widget.hidden == [] and widget.error == ""


BAD = [
    ("", "empty"),
    (" \n\t", "empty"),
    ("the cat " * 2500, "shorten"),
    ("\x00\x01", "no word"),
    ("good \ud83d day", "half a character"),
]


@pytest.mark.parametrize(("text", "said"), BAD)
@pytest.mark.parametrize("kind", [SentenceClassifier, TokenTagger])
def test_bad_text_is_one_sentence_and_keeps_the_last_good_state(bert, kind, text, said):
    widget = kind(bert, "The cat sat.")
    words = widget.words
    widget.text = text
    assert said in widget.error and "\n" not in widget.error and widget.words == words
    widget.text = "The dog ran."
    assert widget.error == "" and widget.words != words


@pytest.mark.parametrize("kind", [SentenceClassifier, TokenTagger])
def test_another_language_is_answered_with_a_remark(bert, kind):
    widget = kind(bert, "מה שלומך היום")
    assert widget.error == "" and "do not trust" in widget.note
    widget.text = "The cat sat."
    assert widget.note == ""


@pytest.mark.parametrize("kind", [SentenceClassifier, TokenTagger])
def test_wrong_options_and_missing_heads(bert, kind):
    with pytest.raises(TypeError, match="no option 'heed'"):
        kind(bert, TEXT, heed="x")
    with pytest.raises(ValueError, match="no head 'tone'.*sentiment, nsp, pos"):
        kind(bert, TEXT, head="tone")
    bert.heads.clear()
    with pytest.raises(ValueError, match="no head"):
        kind(bert, TEXT)


# --- TokenTagger


def test_classes_are_those_of_tag_words(bert):
    widget = TokenTagger(bert, TEXT, pinned=1)
    tags = wb.tag_words(bert, TEXT)
    assert [(word["text"], widget.labels[word["label"]]) for word in widget.words] == [
        (tag.word, tag.label) for tag in tags
    ]
    assert [word["answer"] for word in widget.words] == [
        pytest.approx(tag.probability, abs=1e-5) for tag in tags
    ]
    pieces = widget.pieces
    assert len(pieces) > 1 and pieces[0][0] == "un", "how the pieces join is told"
    assert pieces[0][1] == tags[1].label, "the first piece speaks for the word"


def test_the_stage_head_holds_the_dot_product(bert):
    widget = TokenTagger(bert, TEXT, pinned=1, row=1, stage="head")  # of three pieces
    assert widget.drawer["shapes"] == [[1, 24], [4, 24], [1, 24]]
    vector, *matrix, products = numbers(widget.numbers).reshape(6, 24).astype(float)
    bias = bert.heads["pos"].bias.detach().numpy()
    logits = [logit for *_, logit, _ in widget.drawer["rows"]]
    np.testing.assert_allclose(np.array(matrix) @ vector + bias, logits, atol=0.03)
    np.testing.assert_allclose(products, matrix[1] * vector, atol=0.01)
    assert widget.drawer["sum"] == pytest.approx([products.sum(), bias[1], logits[1]], abs=0.03)
    best = (-np.abs(products)).argsort()[:10]
    assert [at for at, *_ in widget.drawer["largest"]] == best.tolist()
    assert sum(answer for *_, answer in widget.drawer["rows"]) == pytest.approx(1, abs=1e-4)


def test_the_pinned_word_stays_pinned(bert):
    widget = TokenTagger(bert, "The cat sat.", pinned=2)
    widget.text = "Not the cat sat."
    assert widget.words[widget.pinned]["text"] == "sat"
    widget.text = "Ran."
    assert widget.pinned < len(widget.words) and widget.error == ""
    widget.pinned = 99
    assert widget.pinned == len(widget.words) - 1


# --- fine-tuning


def test_shipped_examples():
    sentences, named = read_labelled("sentences_intents"), read_labelled("names")
    assert len(sentences) >= 300 and len({label for _, label in sentences}) == 4
    assert len({text for text, _ in sentences}) == len(sentences)
    assert 200 <= len(named) <= 300
    assert all(len(words.split()) == len(classes.split()) for words, classes in named)
    train, held_out = split_by_class([label for _, label in sentences], 5)
    assert sorted(train + held_out) == list(range(len(sentences))) and len(held_out) * 6 > len(train) * 1.2
    assert {sentences[number][1] for number in held_out} == {label for _, label in sentences}


@pytest.mark.parametrize("frozen", [True, False])
def test_fine_tuning_learns_and_leaves_the_original_alone(shipped, frozen):
    before = {name: tensor.clone() for name, tensor in shipped.state_dict().items()}
    examples = [row for row in read_labelled("sentences_intents") if row[1] in ("complaint", "question")]
    result = fine_tune(shipped, examples, frozen=frozen, steps=24, looks=4)
    first, last = result.log[0], result.log[-1]
    assert [look["step"] for look in result.log] == [0, 6, 12, 18, 24]
    assert last["held_out_accuracy"] > 0.8 and last["held_out_loss"] < 0.7 * first["held_out_loss"]
    assert result.confusion.sum() == len(result.answers) == 32
    assert result.confusion.trace() / 32 == pytest.approx(last["held_out_accuracy"])
    after = result.model.state_dict()
    moved = any(not torch.equal(after[n], before[n]) for n in before if n.startswith("encoder"))
    assert moved != frozen
    assert all(torch.equal(tensor, before[name]) for name, tensor in shipped.state_dict().items())
    assert wb.classify_sentence(result.model, "Where is it?", head="lesson")[0].label == "question"


def test_words_are_learned_too(shipped):
    examples = read_labelled("names")
    result = fine_tune(shipped, examples[:120], kind="word", frozen=True, steps=16, looks=2)
    most = np.mean([true == "O" for _, true, _ in result.answers])
    assert result.log[-1]["held_out_accuracy"] > (1 + most) / 2  # half of what is not O
    tags = wb.tag_words(result.model, "Florence called her mother.", head="lesson")
    assert [tag.label for tag in tags] == ["PERSON", "O", "O", "O", "O"]
    assert all(len(text.split()) == 1 for text, *_ in result.answers)


def test_pairs_are_learned_too(shipped):
    examples = read_labelled("pairs")
    assert len(examples) == 192 and all(len(example) == 3 for example in examples)
    # Each answer stands once where it fits, and once where it does not: alone it tells nothing.
    answers = {(second, label) for _, second, label in examples}
    assert len(answers) == 192 and {label for *_, label in examples} == {"fits", "does not fit"}
    result = fine_tune(shipped, examples, kind="pair", steps=30, looks=2)
    assert result.log[-1]["held_out_accuracy"] > 0.75 > 0.6 > result.log[0]["held_out_accuracy"]
    best = wb.classify_pair(result.model, "When does it open?", "At nine o'clock.", head="lesson")[0]
    assert best.label == "fits" and " / " in result.answers[0][0]


def test_spans_are_learned_too(shipped):
    examples = read_labelled("questions")
    assert len(examples) == 160 and all(answer in passage for passage, _, answer in examples)
    result = fine_tune(shipped, examples, kind="span", frozen=True, steps=16, looks=2)
    assert result.log[0]["held_out_accuracy"] < 0.2 and result.log[-1]["held_out_accuracy"] > 0.7
    assert len(result.answers) == 32 and result.labels == ()  # of 8 passages
    right = [true == said for _, true, said in result.answers]
    assert np.mean(right) == pytest.approx(result.log[-1]["held_out_accuracy"])
    asked = {(question, answer) for _, question, answer in examples}
    assert all((question, true) in asked for question, true, _ in result.answers)
    passage = "The bakery opens at seven. Lena bought a cake for nine euros."
    answer = wb.answer_question(result.model, "Who bought a cake?", passage).answers[0]
    assert answer.text == "Lena"


def test_names_are_classes_that_the_encoder_has_not_learned(shipped):
    examples = read_labelled("names")
    classes = {label for _, labels in examples for label in labels.split()}
    assert classes == {"O", "PERSON", "PLACE"}
    people, places = (
        {
            word
            for text, labels in examples
            for word, label in zip(text.split(), labels.split(), strict=True)
            if label == name
        }
        for name in ("PERSON", "PLACE")
    )
    assert len(people & places) > 10  # only the sentence tells which Florence is a town


def test_a_held_out_passage_is_held_out_with_all_its_questions():
    examples = [(f"passage {number % 10}", f"question {number}", "passage") for number in range(40)]
    train, held_out = lessons.split_examples(examples, "span")
    assert len(train) == 32 and len(held_out) == 8
    assert not {row[0] for row in train} & {row[0] for row in held_out}


def wait(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


PAIRS = [("the cat sat.", "cat"), ("a cat ran.", "cat"), ("the dog sat.", "dog"), ("a dog ran.", "dog")] * 4


def test_the_widget_trains_in_the_background(bert):
    widget = FineTuning(bert, PAIRS, fine_tune, steps=5)
    assert widget.state == "ready" and widget.classes == [["cat", 8], ["dog", 8]]
    widget._on_message(None, {"do": "train"}, None)
    wait(lambda: widget.state == "done")
    assert set(widget.trained) == {"frozen", "fine-tuned"} and widget.error == ""
    for data in (widget.frozen, widget.tuned):
        assert numbers(data).reshape(-1, 5)[-1, 0] == 5
    counts = np.array(widget.tables["frozen"]["counts"])
    assert counts.sum() == 2
    true, said = (widget.tables["frozen"]["labels"][index] for index in np.argwhere(counts)[0])
    widget._on_message(None, {"do": "look", "cell": ["frozen", true, said]}, None)
    assert len(widget.shown) == counts.max()
    data, *_ = widget._repr_mimebundle_()
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")


def test_the_widget_trains_on_pairs_and_on_spans(bert):
    fits = [("the cat sat.", "the cat sat.", "fits"), ("the cat sat.", "a dog ran.", "not")] * 8
    where = [
        (f"the {a} sat on the {b}.", "who sat?", a)
        for a in ("cat", "dog")
        for b in ("mat", "dog", "cat", "tea")
    ]
    for kind, examples in (("pair", fits), ("span", where)):
        widget = FineTuning(bert, examples, fine_tune, kind=kind, steps=2)
        assert widget.columns[-1] == ("Class" if kind == "pair" else "Answer") and widget.rows[0] == list(
            examples[0]
        )
        widget.finish()
        assert widget.state == "done" and widget.error == ""
        widget._on_message(None, {"do": "add"}, None)
        widget._on_message(None, {"do": "write", "row": 0, "rows": [["only one"]]}, None)
        assert widget.examples[0] == ("only one", *examples[0][1:]) and widget._examples[-1] == ("", "", "")
        assert widget.figure().get_axes()
        table = widget.tables["fine-tuned"]
        if kind == "pair":
            assert np.sum(table["counts"]) == 2 and widget.classes == [["fits", 8], ["not", 8]]
        else:
            assert widget.classes == [] and [len(answer) for answer in table["answers"]] == [3]


@torch.inference_mode()
def test_what_the_new_layer_reads_is_shown_in_two_dimensions(bert):
    widget = FineTuning(bert, PAIRS, fine_tune, steps=3)
    widget.finish()
    _, held_out = split_by_class([label for _, label in PAIRS], 5)
    assert [widget.labels[at] for at in widget.true] == [PAIRS[at][1] for at in held_out]
    for name, data in (("frozen", widget.frozen_places), ("fine-tuned", widget.tuned_places)):
        result, places = widget.trained[name], numbers(data).reshape(-1, len(held_out), 2)
        assert len(places) == len(result.log) == len(result.vectors)
        for vector, at in zip(result.vectors[-1], held_out, strict=True):
            tokens = wb.embed(result.model, PAIRS[at][0]).to(result.model.device)
            torch.testing.assert_close(vector, result.model.pooler(tokens[None])[0], atol=1e-5, rtol=0)
        moved = not all(torch.equal(result.vectors[0], vectors) for vectors in result.vectors)
        assert moved == (name == "fine-tuned") and np.ptp(places, axis=0).any() == moved
        apart = torch.cdist(*2 * [torch.tensor(places[-1], dtype=torch.float)])
        torch.testing.assert_close(apart, torch.cdist(*2 * [result.vectors[-1]]), atol=2e-3, rtol=0)
    assert "true" in widget.keys and not FineTuning(bert, PAIRS, fine_tune).true


def test_stop_keeps_what_was_learned(bert):
    widget = FineTuning(bert, PAIRS, fine_tune, steps=1000)
    widget.start()
    wait(lambda: len(widget.frozen) > 10)
    widget._on_message(None, {"do": "stop"}, None)
    last, trained = widget.finish(), widget.trained
    assert widget.state == "stopped" and set(trained) == {"frozen"} and last is trained["frozen"]
    assert 0 < trained["frozen"].steps < 1000 and trained["frozen"].confusion.sum() == 2
    assert numbers(widget.frozen).reshape(-1, 5)[-1, 0] == trained["frozen"].steps


def test_a_failed_training_keeps_the_last_one(bert):
    widget = FineTuning(bert, PAIRS, fine_tune, steps=2)
    widget.finish()
    tables, curve = widget.tables, widget.frozen
    widget._on_message(None, {"do": "clear"}, None)
    widget._on_message(None, {"do": "train"}, None)
    wait(lambda: widget.state != "training")
    assert "at least 8" in widget.error and widget.tables == tables and widget.frozen == curve
    with pytest.raises(ValueError, match="at least 8"):
        widget.finish()
    before = widget.trained["fine-tuned"]
    widget._on_message(None, {"do": "restore"}, None)
    assert widget.finish() is widget.trained["fine-tuned"] is not before and widget.error == ""


def test_more_examples_than_can_be_typed_can_be_changed(bert):
    widget = FineTuning(bert, PAIRS * 400, fine_tune)
    for do, count, said in (("remove", 6399, ""), ("add", 6400, ""), ("add", 6400, "6,400 are the most")):
        widget._on_message(None, {"do": do}, None)
        assert widget.count == count and said in widget.error
    widget._on_message(None, {"do": "clear"}, None)
    widget._on_message(None, {"do": "restore"}, None)
    assert widget.count == 6400 and widget.error == ""


def test_what_is_pasted_changes_its_own_columns(bert):
    """As in a spreadsheet; rows that were empty get what the first one has before that column."""
    widget = FineTuning(bert, [(f"p{n}", f"q{n}", f"a{n}") for n in range(3)], fine_tune, kind="span")

    def paste(row, column, *rows):
        widget._on_message(None, {"do": "write", "row": row, "column": column, "rows": rows}, None)

    paste(0, 2, ["x"], ["y"])
    assert widget.examples == [("p0", "q0", "x"), ("p1", "q1", "y"), ("p2", "q2", "a2")]
    paste(1, 1, ["who", "she"])
    assert widget.examples[1] == ("p1", "who", "she")
    paste(2, 1, ["one"], ["two", "2"])
    assert widget.examples[2:] == [("p2", "one", "a2"), ("p2", "two", "2")]
    paste(0, 2, ["all", "of", "it", "and more"])
    assert widget.examples[0] == ("all", "of", "it") and widget.error == ""


def test_steps_that_are_changed_meanwhile_are_those_of_the_next_training(bert):
    asked = []

    def train(model, examples, *, steps, frozen, watch, **_):
        asked.append(steps)
        widget.steps = 7
        wait(lambda: widget.awaited)  # so the view says why no button reaches the kernel

    widget = FineTuning(bert, PAIRS, train, steps=3)
    widget.trained = {"fine-tuned": None}
    widget.finish()
    assert asked == [3, 3] and widget.planned == 3 and not widget.awaited


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"examples": [("good", 1), ("bad", 0)] * 6}, "Row 1: its class is 1, not text."),
        ({"examples": [{"text": "good", "label": "a"}] * 8}, r"Row 1 is a dict, not \(text, class\)."),
        ({"examples": [(Image.new("RGB", (8, 8)), "a")] * 8}, "Row 1: its text is <PIL.*, not text."),
        ({"kind": "token"}, "kind is one of sentence, word, pair, span, picture, not 'token'."),
        ({"kind": "picture"}, "A ViT is needed here, not a Bert"),
        ({"model": "bert"}, "A BERT is needed here, not a name"),
        ({"looks": 0}, "looks is 1 or more, not 0."),
    ],
)
def test_slips_before_a_training_are_one_sentence(options, said, bert):
    given = {"model": bert, "examples": PAIRS, "steps": 1} | options
    with pytest.raises((TypeError, ValueError), match=said):
        fine_tune(given.pop("model"), given.pop("examples"), **given)
    if "examples" in options:
        with pytest.raises(ValueError, match=said.replace("not (", "not (")):
            FineTuning(bert, options["examples"], fine_tune)


@pytest.mark.parametrize(
    ("kind", "examples", "least"),
    [
        ("span", [("a cat sat", f"who {n}", "cat") for n in range(9)], "two passages"),
        ("sentence", [(f"text {n}", f"class {n}") for n in range(8)], "two examples of a class"),
    ],
)
def test_examples_of_which_none_can_be_held_out_are_one_sentence(kind, examples, least, bert):
    with pytest.raises(ValueError, match=f"Nothing can be held out .*: give at least {least}."):
        fine_tune(bert, examples, kind=kind, steps=1)


def test_own_examples_are_typed_and_pasted(bert):
    widget = FineTuning(bert, PAIRS, fine_tune)
    widget._on_message(None, {"do": "clear"}, None)
    assert widget.examples == [] and len(widget.rows) == 8
    pasted = [[f"text {number}", "ab"[number % 2]] for number in range(30)]
    widget._on_message(None, {"do": "write", "row": 0, "rows": pasted}, None)
    assert widget.count == 30 and widget.classes == [["a", 15], ["b", 15]]
    widget.first = 24
    assert [row[0] for row in widget.rows] == [f"text {number}" for number in range(24, 30)]
    widget._on_message(None, {"do": "remove", "row": 29}, None)
    widget._on_message(None, {"do": "add"}, None)
    assert widget.count == 30 and widget.rows[-1] == ["", ""]
    widget._on_message(None, {"do": "write", "row": 0, "rows": [["x" * 20_000, "a"]]}, None)
    assert "2,000 characters" in widget.error and widget.count == 30
    widget._on_message(None, {"do": "restore"}, None)
    assert widget.examples == PAIRS and widget.error == ""


def test_a_table_of_words_counts_words(bert):
    tagged = [("the unplayful cat", "D A N"), ("a dog ran", "D N V")] * 5
    widget = FineTuning(bert, tagged, fine_tune, kind="word")
    assert widget.count == 10 and widget.classes == [["A", 5], ["D", 10], ["N", 10], ["V", 5]]
    widget.steps = 1
    assert widget.finish() is widget.trained["fine-tuned"]
    table = widget.trained["frozen"]
    cell = ["frozen", *next((true, said) for _, true, said in table.answers if true == "A")]
    widget._on_message(None, {"do": "look", "cell": cell}, None)
    assert set(widget.shown) == {"unplayful"}, "whole words, not their pieces"


@pytest.mark.parametrize(
    ("examples", "kind", "said"),
    [
        (PAIRS[:7], "sentence", "at least 8"),
        ([("cat", "a")] * 9, "sentence", "at least two"),
        ([("a", "b")] * 8, "pair", "Row 1 has 2 fields, not these: first text, second text, class"),
        ([("a", "b", "c")] * 7 + [("a", " ", "c")], "pair", "Row 8 lacks its second text"),
        ([("the cat sat.", "who?", "dog")] * 8, "span", "does not hold the answer 'dog'"),
        ([("the cat sat. " * 40 + "dog", "who?", "dog")] * 8, "span", "too far down in its passage"),
        ([*PAIRS, ("cat", "")], "sentence", "Row 17 lacks its class"),
        ([*PAIRS, (" ", "cat")], "sentence", "Row 17 lacks its text"),
        ([("the cat", "A B C")] * 9, "word", "2 words but 3 classes"),
        ([(str(n), str(n)) for n in range(50)], "sentence", "40 are the most"),
        ([*PAIRS, ("\x00", "cat")], "sentence", "read no word"),
    ],
)
def test_examples_that_nothing_can_be_learned_from(bert, examples, kind, said):
    with pytest.raises(ValueError, match=said):
        fine_tune(bert, examples, kind=kind, steps=1)


def test_new_sizes_of_batches_are_few(bert):
    """A step takes about as many tokens as it says, whatever the sentences are like."""
    rows = lessons.labelled_rows(PAIRS, ("cat", "dog"), "sentence", bert)
    batches = lessons.TextBatches(rows, bert.tokenizer, "lesson", lessons.TOKENS, 0)
    assert all(batches(step)["input_ids"].numel() <= lessons.TOKENS for step in range(3))
