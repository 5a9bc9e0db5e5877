"""What a widget shows does not depend on the way that led there, nor on who asks the model meanwhile."""

import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
from tiny import our_bert, patch_vit

import workbench as wb
from workbench.attention import record_modules
from workbench.encoder import MODEL_LOCK
from workbench.widgets import (
    AttentionExplorer,
    MaskedFilling,
    NextSentence,
    PatchAttention,
    PatchHiding,
    SentenceClassifier,
    SentencePair,
    SpanExtraction,
    TokenTagger,
)

PICTURE = np.random.default_rng(0).integers(0, 255, (32, 48, 3), "uint8")


def test_a_text_that_was_not_read_makes_no_pair() -> None:
    bert = our_bert("mlm", "nsp", "sentiment", "span")
    widget = AttentionExplorer(bert, "the cat sat")
    tasks = widget.tasks
    widget.second = " "
    assert "empty" in widget.error
    widget.off = [[0, 0]]
    assert widget.tasks == tasks == ["sentiment"]


@pytest.mark.parametrize("make", [MaskedFilling, TokenTagger, SentenceClassifier, NextSentence])
def test_no_answer_is_made_random_by_dropout(make: Callable) -> None:
    bert = our_bert("mlm", "nsp", "sentiment", "pos", hidden_dropout_prob=0.1)
    widget = make(bert, **dict.fromkeys(make.fields, "the cat"))
    field = widget.fields[0]
    bert.train()
    setattr(widget, field, "a red dog ran")
    assert "is in training mode" in widget.error
    bert.eval()
    setattr(widget, field, "a red dog sat")
    assert not widget.error


def test_a_text_that_cannot_be_read_is_said_until_one_can() -> None:
    widget = SentenceClassifier(our_bert("sentiment"), "the cat sat")
    widget.set_state({"text": ""})
    said = widget.error
    assert "is empty" in said
    widget._on_message(None, {"do": "explain"}, [])  # which the view asks for by itself
    assert widget.error == said and widget.tried is not None
    widget.stage = "head"
    assert widget.error == said
    widget._on_message(None, {"do": "dance"}, [])
    widget.target = "nothing"
    widget.set_state({"text": "the cat"})
    assert widget.error == ""
    pair = NextSentence(our_bert("nsp"), "the cat", "a dog")
    pair.first = ""
    pair._on_message(None, {"do": "swap"}, [])
    said = pair.error
    assert "second text is empty" in said
    pair.attention_layer = 1
    assert pair.error == said


def test_between_two_steps_of_a_training_a_widget_answers() -> None:
    bert = our_bert("mlm", hidden_dropout_prob=0.1)
    widget = MaskedFilling(bert, "the cat sat", masked="cat")
    begun, done = threading.Event(), threading.Event()

    def learn() -> None:
        with MODEL_LOCK:
            bert.train()
            begun.set()
            done.wait(0.5)
            bert.eval()

    thread = threading.Thread(target=learn)
    thread.start()
    begun.wait()
    widget.text = "a cat sat"  # waits for the step
    thread.join()
    assert not widget.error and widget.words[1]["text"] == "a"


def test_others_may_ask_the_same_model_meanwhile() -> None:
    """Heads that are switched off are off for one's own answers only."""
    bert = our_bert("mlm")
    texts = [f"the cat sat on a {word} [MASK]" for word in ("mat", "cat", "dog", "red")]
    known = {text: wb.fill_mask(bert, text)[0].candidates[0] for text in texts}
    stop = threading.Event()

    def disturb() -> None:
        with torch.inference_mode():
            other = AttentionExplorer(bert, "a dog ran [MASK]", off=[[0, 0], [1, 1], [2, 2], [3, 3]])
            while not stop.is_set():
                other.text = "a red dog ran [MASK]" if other.text.startswith("a dog") else "a dog ran [MASK]"

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        widget = AttentionExplorer(bert, texts[0])
        for round in range(24):
            widget.text = text = texts[round % 4]
            widget.off = [[0, 1]]
            assert not widget.error
            before = known[text]
            found = {name: old for name, _, old in widget.answers}
            assert found[before.label] == pytest.approx(before.probability, abs=1e-4), round
            widget.off = []
    finally:
        stop.set()
        thread.join()


def test_only_ones_own_calls_are_recorded() -> None:
    layer = torch.nn.Linear(2, 2)
    with record_modules(layer) as found:
        other = threading.Thread(target=layer, args=[torch.ones(1, 2)])
        other.start()
        other.join()
        assert not found
        layer(torch.zeros(1, 2))
        assert not found[layer][0].any()


def test_a_button_that_cannot_be_answered_changes_nothing() -> None:
    widget = MaskedFilling(our_bert("mlm"), "the cat sat on the mat", masked="cat")
    before = widget.masked, widget.seed, widget.words
    widget.text = "the cat sat on the mat " * 200
    widget._on_message(None, {"do": "mask at random"}, [])
    assert widget.error
    widget.text = "the cat sat on the mat"
    assert (widget.masked, widget.seed, widget.words) == before and not widget.error


def test_a_chosen_token_is_of_the_window_that_is_shown() -> None:
    bert = our_bert("span", max_position_embeddings=48)
    widget = SpanExtraction(bert, "a cat?", "the cat sat on a red mat. a dog ran. " * 9)
    assert widget.view["windows"] > 2
    moved = 0
    for question in ("a dog?", "the cat?", "red?", "who sat on a red mat?", "a?", "ran?"):
        widget.chosen = 5
        before = widget.view["before"]
        widget.question = question
        moved += widget.view["before"] != before
        assert (widget.chosen == 5) == (widget.view["before"] == before), question
    assert moved


def test_ticks_stay_where_they_were_before_the_first_key() -> None:
    bert = our_bert()
    bert.add_head("nli", "sentence", ["yes", "maybe", "no"])
    torch.nn.init.normal_(bert.heads["nli"].weight)
    bert.eval()
    widget = SentencePair(bert, "the cat", "a dog")
    before = {name: now for name, now, _ in widget.classes}
    widget.set_state({"editing": True})
    widget.set_state({"hypothesis": "a red dog"})
    widget.set_state({"hypothesis": "a red dog ran", "editing": False})  # as Jupyter merges what waits
    assert {name: old for name, _, old in widget.classes} == before
    widget.set_state({"hypothesis": "a cat"})
    assert {name: old for name, _, old in widget.classes} != before
    assert SentencePair(bert, "the cat", "a dog", editing=True).classes


def test_of_a_message_that_is_refused_nothing_is_shown() -> None:
    widget = MaskedFilling(our_bert("mlm"), "the cat sat", masked="cat")
    widget.set_state({"text": "a dog ran", "top_k": 99})
    assert "'top_k'" in widget.error and widget.text == "the cat sat"
    assert [word["text"] for word in widget.words[1:-1]] == widget.text.split()


def test_stills_say_what_they_show() -> None:
    bert, vit = our_bert("mlm", "span"), patch_vit()
    says = AttentionExplorer(bert, "the cat [MASK]", off=[[0, 1]], hide_special=True, mass=0.5).figure().says
    for said in ("1 head off", "without special tokens", "what makes up 50 % of each row"):
        assert said in says
    widget = MaskedFilling(bert, "the cat sat on a mat")
    widget.masked, widget.pinned = [(word["start"], word["end"]) for word in widget.words[1:-1]], 4
    drawn = [number for number in range(1, 7) if f"mask {number}, was" in widget.figure().says]
    assert drawn == [4, 5, 6]
    answers = SpanExtraction(bert, "a cat?", "the cat sat", threshold=12.0)
    assert not answers.view["answered"] and "no answer: none wins by more than 12.0" in answers.figure().says
    maps = PatchAttention(vit, PICTURE, layer=1, head=1)
    maps.test_map()
    maps.method = "rollout"
    titles = [axes.get_title(loc="left") for axes in maps.figure().axes]
    assert sum("layer 2, head 2, class token looks" in title for title in titles) == 2


def test_what_is_refused_loses_nothing() -> None:
    widget = SentenceClassifier(our_bert("sentiment"), "the cat sat", stage="embeddings", token=2)
    widget.text = ""
    assert widget.token == 2 and "cat" in widget.drawer["rows"][0][0]
    hiding = PatchHiding(patch_vit(), PICTURE, hidden=[1])
    hiding.judged = before = [[1, 2]]
    hiding.hidden = [0, 500]
    assert hiding.error and hiding.judged == before and hiding.hidden == [1]
