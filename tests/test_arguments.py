"""What cannot be answered: a wrong model, head, number or size gets a sentence, from tasks, numbers about
attention, reasons and widgets alike, and a widget goes on from where it was."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tiny import hf_bert, our_bert, our_vit, saved

import workbench as wb
from workbench import attention, explain, patches, widgets
from workbench.tasks import mask_guesses
from workbench.training.lessons import fine_tune

PICTURE = np.zeros((32, 48, 3), "uint8")
BERT, VIT = our_bert("mlm", "nsp", "span", "sentiment", "pos"), our_vit()
ENCODING = BERT.tokenizer.encode("the cat sat on a mat")
PIXELS = torch.zeros(1, 3, 32, 48)
MAPS = torch.ones(1, 2, 3, 3)
HALF = "half \ud800"


@pytest.fixture(scope="module")
def states() -> tuple[torch.Tensor, ...]:
    with torch.inference_mode():
        return BERT(**ENCODING.tensors())


def says(action: Callable[[], Any], message: str) -> None:
    """One sentence for the user, and nothing left behind on the models."""
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        action()
    text = str(caught.value)
    assert "\n" not in text and len(text) < 400 and text.endswith((".", "...")), text
    assert "object" not in text and "unpack" not in text, text
    assert not any(layer.attention.watchers for model in (BERT, VIT) for layer in model.encoder.layers)


TEXT_TASKS = {
    "fill_mask": lambda bert: wb.fill_mask(bert, "[MASK]"),
    "next_sentence": lambda bert: wb.next_sentence(bert, "a", "b"),
    "classify_sentence": lambda bert: wb.classify_sentence(bert, "a"),
    "classify_pair": lambda bert: wb.classify_pair(bert, "a", "b"),
    "tag_words": lambda bert: wb.tag_words(bert, "a"),
    "answer_question": lambda bert: wb.answer_question(bert, "a", "b"),
    "embed": lambda bert: wb.embed(bert, "a"),
    "head_answers": lambda bert: explain.head_answers(bert, "sentiment", ENCODING),
    "gradient_relevance": lambda bert: explain.gradient_relevance(bert, "sentiment", ENCODING, 0),
    "word_vectors": lambda bert: patches.word_vectors(bert, ["a cat"], "cat"),
    "habits": lambda bert: attention.habits(bert, "a cat"),
    "embedding_steps": lambda bert: patches.embedding_steps(bert, 0, input_ids=torch.tensor([[2, 3]])),
    **{name: getattr(widgets, name) for name in ("MaskedFilling", "NextSentence", "SentenceClassifier")},
    **{name: getattr(widgets, name) for name in ("TokenTagger", "SentencePair", "SpanExtraction")},
    "by keyword": lambda bert: widgets.MaskedFilling(text="a", bert=bert),
}
PICTURE_TASKS = {
    "classify_image": lambda vit: wb.classify_image(vit, PICTURE),
    "delete_and_insert": lambda vit: explain.delete_and_insert(vit, PIXELS, torch.zeros(24), 0),
    "projection_steps": lambda vit: patches.projection_steps(vit, PIXELS, 0),
    "filter_components": patches.filter_components,
    "position_similarity": patches.position_similarity,
    "rearranged": lambda vit: patches.rearranged(vit, PIXELS),
    "class_by_layer": lambda vit: patches.class_by_layer(vit, []),
    "patch_colors": lambda vit: patches.patch_colors(vit, PIXELS),
    **{name: getattr(widgets, name) for name in ("PatchSplitter", "PatchHiding", "PatchAttention")},
}
ANY_TASKS = {
    "FineTuning": lambda model: widgets.FineTuning(model, [], fine_tune),
    "describe": wb.describe,
    "record_attention": lambda model: wb.record_attention(model).__enter__(),
    "ablate": lambda model: wb.ablate(model, {(0, 0)}).__enter__(),
    "attention_relevance": lambda model: wb.attention_relevance(model, lambda: torch.zeros(1)),
    "AttentionExplorer": widgets.AttentionExplorer,
}


@pytest.mark.parametrize("task", [*TEXT_TASKS, *PICTURE_TASKS, *ANY_TASKS])
def test_a_wrong_model_is_named(task: str) -> None:
    call = (TEXT_TASKS | PICTURE_TASKS | ANY_TASKS)[task]
    right = "BERT" if task in TEXT_TASKS else "ViT" if task in PICTURE_TASKS else "BERT or a ViT"
    door = "load_vit" if task in PICTURE_TASKS else "load_bert"
    says(lambda: call("bert-base-uncased"), rf"A {right} is needed here, not a name: {door}\('bert-base-unc")
    says(lambda: call(None), f"A {right} is needed here, not a NoneType: {door}")
    if task in TEXT_TASKS:
        says(lambda: call(VIT), "A BERT is needed here, not a ViT: load_bert")
    if task in PICTURE_TASKS:
        says(lambda: call(BERT), "A ViT is needed here, not a Bert: load_vit")


def test_an_explorer_of_the_wrong_input() -> None:
    says(lambda: widgets.AttentionExplorer(BERT, image=PICTURE), "a BERT, which reads text, no picture")
    says(lambda: widgets.AttentionExplorer(VIT, "a text"), "a ViT, which reads a picture: give it as image=")


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "hidden numbers": (lambda: explain.hide_patches(VIT, PIXELS, torch.ones(1, 9).long()), "True or False"),
    "hidden unequal": (
        lambda: explain.hide_patches(VIT, PIXELS, torch.ones(24, 24).tril() > 0),
        "as often in each row",
    ),
    "hidden too few": (lambda: explain.hide_patches(VIT, PIXELS, torch.ones(1, 3).bool()), "for each patch"),
    "head with a dot": (lambda: BERT.add_head("a.b", "span"), "a name, without dots, not 'a.b'"),
    "top_k": (lambda: wb.fill_mask(BERT, "[MASK]", top_k=-1), "top_k is 1 or more, not -1"),
    "top_k 0": (lambda: wb.fill_mask(BERT, "[MASK]", top_k=0), "top_k is 1 or more, not 0"),
    "top_k float": (lambda: wb.fill_mask(BERT, "[MASK]", top_k=2.0), "top_k is a whole number, not 2.0"),
    "classes": (lambda: wb.classify_image(VIT, PICTURE, top_k=-2), "top_k is 1 or more, not -2"),
    "answers": (lambda: wb.answer_question(BERT, "a", "b", top_k=0), "top_k is 1 or more"),
    "longest": (lambda: wb.answer_question(BERT, "a", "b", longest=-3), "longest is 1 or more, not -3"),
    "span head": (lambda: wb.answer_question(BERT, "a", "b", head="pos"), "no head 'pos' for this task"),
    "masks": (lambda: wb.fill_mask(BERT, "a cat", masks=[3]), "masks is a list of .start, end.*; 3 is none"),
    "odd masks": (
        lambda: wb.fill_mask(BERT, "a cat", masks=[("a", "b")]),
        "In masks, start is a whole number, not 'a'",
    ),
    "float end": (lambda: wb.fill_mask(BERT, "a cat", masks=[(0, 0.5)]), "end is a whole number, not 0.5"),
    "float query": (lambda: wb.ablate(BERT, edges=[(0, 1, 2.0, 3)]).__enter__(), "query is a whole number"),
    "no masks": (lambda: wb.fill_mask(BERT, "a cat", masks=3), "masks is a list of .* not 3"),
    "million": (lambda: wb.classify_image(VIT, PICTURE, size=(8000, 8000)), "1,000,000 patches; at most 4"),
    "yes": (lambda: wb.fill_mask(BERT, "[MASK]", top_k=True), "top_k is a whole number, not True"),
    "yes pixels": (lambda: wb.classify_image(VIT, PICTURE, size=(True, 8)), "whole number, not True"),
    "last step": (lambda: patches.linear_steps(BERT, PIXELS, "x"), "no head 'x'; it has: mlm"),
    "between": (lambda: attention.attention_between(MAPS, ENCODING), "is .heads, query, key., .* not .1"),
    "lost gradient": (
        lambda: wb.attention_relevance(VIT, lambda: VIT(PIXELS)[-1].detach()),
        "score returns what the model computed: a tensor that keeps",
    ),
    "a plain number": (
        lambda: wb.attention_relevance(VIT, lambda: float(VIT(PIXELS)[-1].detach().sum())),
        "score returns what the model computed: a tensor that keeps",
    ),
    "saved dtype": (lambda: wb.save_checkpoint(BERT, "never", torch.int8), "dtype is one of .* not torch.in"),
    "no device": (lambda: wb.load_bert(device=None), "None is no device; use auto"),
    "no size": (lambda: wb.classify_image(VIT, PICTURE, size=32), r"A size is \(height, width\), not 32"),
    "float size": (lambda: wb.classify_image(VIT, PICTURE, size=(32.0, 32)), "is a whole number, not 32.0"),
    "size 0": (lambda: wb.prepare_image(PICTURE, VIT.preprocessing, (0, 8)), "is 1 or more, not 0"),
    "patch": (lambda: patches.projection_steps(VIT, PIXELS, 24), "no patch 24: this picture has patches 0"),
    "hidden": (lambda: patches.rearranged(VIT, PIXELS, hidden=[-1]), "-1 cannot be hidden"),
    "no sentence": (lambda: patches.word_vectors(BERT, [], "a"), "no sentence"),
    "head of words": (lambda: explain.head_answers(BERT, "pos", ENCODING), "'pos' of .* answers for tokens,"),
    "no head": (lambda: explain.gradient_relevance(BERT, "x", ENCODING, 0), "no head 'x'; it has: mlm"),
    "two pictures": (
        lambda: explain.delete_and_insert(VIT, torch.cat([PIXELS] * 2), torch.zeros(24), 0),
        "pixels are one picture",
    ),
    "list of weights": (lambda: explain.delete_and_insert(VIT, PIXELS, [0.0] * 24, 0), "weights a tensor"),
    "flat states": (lambda: attention.weight_steps(BERT, PIXELS[0, 0], 0, 0, 0, 0), "hidden_states are .1,"),
    "nothing fetched": (lambda: attention.fetched_vectors(BERT, None, 0, 0), "hidden_states are .1, tokens"),
    "half a word": (lambda: patches.word_vectors(BERT, ["a cat"], HALF), "half a character"),
    "half a sentence": (lambda: patches.word_vectors(BERT, [HALF], "a"), "half a character"),
    "layer": (lambda: wb.record_attention(BERT, [5]).__enter__(), "no layer 5: .* has layers 0 to 4"),
    "float layer": (lambda: wb.record_attention(BERT, [1.0]).__enter__(), "layer is a whole number, not 1.0"),
    "one layer": (lambda: wb.record_attention(BERT, 1).__enter__(), r"list of layers, .*, not 1"),
    "float head": (lambda: wb.ablate(BERT, {(0, 1.5)}).__enter__(), "head is a whole number, not 1.5"),
    "one head": (lambda: wb.ablate(BERT, [3]).__enter__(), "heads is a list of .*; 3 is none"),
    "three": (lambda: wb.ablate(BERT, edges=[(0, 1, 2)]).__enter__(), "edges is a list of .layer, "),
    "second": (lambda: wb.classify_pair(BERT, "a", None, "nsp"), "second text must be a string"),
    "model": (lambda: wb.attention_rollout(BERT), "Attention is what record_attention gave, not a Bert"),
    "ratio": (lambda: wb.attention_rollout(torch.ones(1, 1, 2, 3, 3), discard_ratio="x"), "between 0 and 1"),
    "positions": (lambda: patches.rearranged(VIT, PIXELS, positions="x"), "own, place or none"),
    "label": (lambda: explain.leave_one_out(BERT, "sentiment", ENCODING, 3, [1]), "no class 3: the head"),
    "reason": (lambda: explain.gradient_relevance(BERT, "sentiment", ENCODING, -1), "no class -1: the head"),
    "word": (lambda: explain.leave_one_out(BERT, "sentiment", ENCODING, 0, [99]), "no word 99: this text"),
    "target": (lambda: explain.delete_and_insert(VIT, PIXELS, torch.zeros(24), 5), "no class 5"),
    "steps": (lambda: explain.delete_and_insert(VIT, PIXELS, torch.zeros(24), 0, steps=10**9), "steps is "),
    "dtype": (lambda: wb.load_bert(dtype=torch.int8), "dtype is one of torch.float32, .* not torch.int8"),
    "flat map": (lambda: wb.attention_distance(torch.ones(3, 3)), "is .batch, heads, query, key., .* not .3"),
    "no map": (lambda: wb.attention_entropy(None), "is a tensor .batch, heads, query, key., not a NoneType"),
    "dict of maps": (lambda: attention.received_attention({0: MAPS}), "is a tensor .*, not a dict"),
    "rectangle": (lambda: wb.attention_rollout([torch.ones(1, 2, 3, 4)]), "with a key for each query, not"),
    "two texts": (lambda: wb.attention_rollout([MAPS, MAPS[..., 1:, 1:]]), "different numbers of tokens"),
    "kept columns": (lambda: wb.attention_rollout([MAPS], prefix_tokens=-1), "prefix_tokens is 0 or more"),
    "one number": (lambda: wb.attention_distance(MAPS, grid=4), r"A size is \(height, width\), not 4"),
    "other tokens": (lambda: attention.attention_difference(MAPS, MAPS[..., 1:, 1:]), "are of other tokens"),
    "no layers": (lambda: attention.clearest_head(MAPS[0], [True], [True]), "is .layers, heads, query, key"),
    "all in front": (lambda: wb.attention_distance(MAPS, prefix_tokens=9), "is between 0 and 2"),
    "other mask": (lambda: wb.attention_entropy(MAPS, torch.ones(1, 2)), r"is \(batch, tokens\), not"),
    "mass": (lambda: wb.mass_mask(MAPS, "half"), "between 0 and 1, not 'half'"),
    "few words": (lambda: attention.sum_over_words(MAPS, [0, 1]), "a word for each of 3 tokens"),
    "negative word": (lambda: attention.sum_over_words(MAPS, [-1, 0, 1]), "a word for each of 3 tokens"),
    "few tokens": (lambda: attention.attention_patterns(MAPS, ["a"]), "of 3 tokens, but 1 are named"),
    "no score": (lambda: wb.attention_relevance(BERT, 3), "score is a function that runs the model"),
    "states": (lambda: attention.weight_steps(BERT, PIXELS, 0, 0, 0, 0), "hidden_states are .1, tokens, "),
    "long question": (lambda: wb.answer_question(BERT, "cat " * 60, "a"), "The question has 60 word pieces"),
    "number": (lambda: wb.load_bert(3), "A checkpoint is a folder, a file or a name, not 3"),
    "empty name": (lambda: wb.load_vit(""), "There is no file or folder ''"),
    "nothing to save": (lambda: wb.save_checkpoint(None, "x"), "A BERT or a ViT is needed here"),
    "example": (lambda: fine_tune(BERT, [("a cat", HALF)] * 9), "example 1 holds half a character"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_argument_is_named(wrong: str) -> None:
    says(*WRONG[wrong])


def test_steps_of_a_weight_that_is_not_there(states: tuple[torch.Tensor, ...]) -> None:
    for layer, head, query, key in ((9, 0, 0, 0), (0, -1, 0, 0), (0, 0, 8, 0), (0, 0, 0, 99)):
        says(lambda at=(layer, head, query, key): attention.weight_steps(BERT, states[0], *at), "There is no")
    says(lambda: mask_guesses(BERT, ENCODING, states[-1], -1, [1]), "top_k is 1 or more")


# --- long questions and passages


def test_long_questions_and_passages_have_an_end() -> None:
    says(
        lambda: wb.answer_question(BERT, "cat", "cat " * 20_000),
        "passage has 80,000 characters; up to 50,000",
    )
    says(lambda: wb.answer_question(BERT, "cat " * 20_000, "cat"), "question has 80,000 characters")
    says(
        lambda: wb.answer_question(BERT, "cat " * 33, "cat " * 2000),
        "please shorten the question or the passage",
    )
    widget = widgets.SpanExtraction(BERT, "cat", "the cat sat")
    widget.passage = "cat " * 20_000
    assert "please shorten it. What was read last is still shown." in widget.error


# --- widgets

TEXT = "the cat sat on a mat"
WIDGETS: dict[str, Callable[..., widgets.base.WorkbenchWidget]] = {
    "MaskedFilling": lambda **options: widgets.MaskedFilling(BERT, TEXT, **options),
    "NextSentence": lambda **options: widgets.NextSentence(BERT, TEXT, TEXT, **options),
    "SentenceClassifier": lambda **options: widgets.SentenceClassifier(BERT, TEXT, **options),
    "TokenTagger": lambda **options: widgets.TokenTagger(BERT, TEXT, **options),
    "SentencePair": lambda **options: widgets.SentencePair(BERT, TEXT, TEXT, "sentiment", **options),
    "SpanExtraction": lambda **options: widgets.SpanExtraction(BERT, TEXT, TEXT, **options),
    "AttentionExplorer": lambda **options: widgets.AttentionExplorer(BERT, TEXT, **options),
    "PatchSplitter": lambda **options: widgets.PatchSplitter(VIT, PICTURE, **options),
    "PatchHiding": lambda **options: widgets.PatchHiding(VIT, PICTURE, **options),
    "PatchAttention": lambda **options: widgets.PatchAttention(VIT, PICTURE, **options),
}
VALUES = [-1, True, 10**6, 2.5, "x", HALF, None, [7], [[-1, 0]], [[0, 1.5]], [[0, 99]]]


@pytest.mark.parametrize("name", WIDGETS)
def test_no_value_of_a_trait_makes_a_widget_stuck(name: str) -> None:
    """From Python a sentence or an answer; from the browser a sentence in the widget, which goes on."""
    widget = WIDGETS[name]()
    traits = [name for name in vars(type(widget)) if widget.has_trait(name)]
    for trait in [name for name in traits if name not in widget.fields]:
        for value in VALUES:
            widget.set_state({trait: value})  # as the browser does: never an exception
            assert "object" not in widget.error and "inside the workbench" not in widget.error, (trait, value)
    if widget.fields:
        setattr(widget, widget.fields[0], "a dog ran")
        assert widget.error == "", "it goes on"
    widget.figure()


@pytest.mark.parametrize("name", WIDGETS)
def test_wrong_options_are_value_errors(name: str) -> None:
    says(
        lambda: WIDGETS[name](status=3),
        "The 'status' trait of an? .* expected a unicode string, not the int 3",
    )


def test_a_pin_past_the_end_is_the_last_word() -> None:
    widget = WIDGETS["TokenTagger"]()
    widget.set_state({"pinned": 99, "text": "the dog"})
    assert widget.error == "" and widget.pinned == 1 and len(widget.words) == 2
    widget.text = "a dog ran"
    assert widget.error == "" and len(widget.words) == 3


def test_half_characters_reach_no_message() -> None:
    widget = WIDGETS["MaskedFilling"]()
    widget.text = HALF
    assert "half a character" in widget.error and widget.get_state("text") == {"text": "half \ufffd"}
    table = widgets.FineTuning(BERT, [("a", "b")], fine_tune)
    table._on_message(None, {"do": "write", "row": 0, "rows": [[HALF, "b"]]}, None)
    assert "half a character" in table.error and table.examples == [("a", "b")]
    says(lambda: widgets.FineTuning(BERT, [(HALF, "b")], fine_tune), "half a character")
    span = WIDGETS["SpanExtraction"]()
    span.question = HALF
    assert "half a character" in span.error
    span.figure()  # of the question that was read


# --- heads by other names than those that ship


def test_heads_from_outside_answer_in_every_widget(tmp_path: Any) -> None:
    classifier, tagger = (
        wb.load_bert(saved(hf_bert(form, num_labels=3), tmp_path / form))
        for form in ("BertForSequenceClassification", "BertForTokenClassification")
    )
    pair = widgets.SentencePair(classifier, "the cat", "a dog")
    right = {one.label: one.probability for one in wb.classify_pair(classifier, "the cat", "a dog")}
    assert {label: now for label, now, _ in pair.classes} == pytest.approx(right, abs=1e-5)
    explorer = widgets.AttentionExplorer(classifier, "the cat", "a dog")
    assert (explorer.tasks, explorer.task) == (["sentence"], "sentence")
    assert {label: now for label, now, _ in explorer.answers} == pytest.approx(right, abs=1e-5)
    assert widgets.SentenceClassifier(classifier, "the cat").head == "sentence"
    assert widgets.TokenTagger(tagger, "the cat").head == "word"
    bert = our_bert()
    bert.add_head("answers", "span")
    widget = widgets.SpanExtraction(bert, "a cat?", "the cat sat")
    assert widget.head == "answers" and widget.error == ""
    assert widget.answers[0][0] == wb.answer_question(bert, "a cat?", "the cat sat").answers[0].text
    explorer = widgets.AttentionExplorer(bert, "a cat?", "the cat sat")
    starts = bert.answers("answers", bert(**explorer._inputs)[-1].detach())[0, :, 0]
    assert explorer.answers[0][1] == pytest.approx(starts.max().item(), abs=1e-5)


def test_two_heads_for_spans_are_told_apart() -> None:
    bert = our_bert("span")
    bert.add_head("other", "span")
    with torch.no_grad():
        bert.heads["other"].weight.normal_()
    one = widgets.SpanExtraction(bert, "a cat?", "the cat sat on a mat")
    two = widgets.SpanExtraction(bert, "a cat?", "the cat sat on a mat", head="other")
    assert one.head == "span" and one.answers != two.answers
    one.head = "other"
    assert one.answers == two.answers
