"""What a classifier's numbers are: one class of several, classes each for itself, or a number that is no
class. Tasks, attribution and widgets say so, and a saved checkpoint still does."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tiny import close, hf_bert, hf_vit, our_bert, our_vit, refuses, saved

import workbench as wb
from workbench.encoder import PROBLEM_TYPES, to_answers
from workbench.explain import delete_and_insert, gradient_relevance, leave_one_out
from workbench.tasks import Candidate, Number, WordNumbers
from workbench.training.picture_learner import new_head
from workbench.widgets import (
    AttentionExplorer,
    PatchAttention,
    PatchHiding,
    SentenceClassifier,
    SentencePair,
    TokenTagger,
)

FIRST, SECOND = "the cat sat.", "a red dog ran, catxy!"
PICTURE = np.random.default_rng(0).integers(0, 255, (32, 48, 3), "uint8")
# What config.json says -> what transformers makes of the logits.
SINGLE, MULTI, REGRESSION = PROBLEM_TYPES
KINDS = {
    "one of three": (dict(num_labels=3), SINGLE),
    "said so": (dict(num_labels=3, problem_type=SINGLE), SINGLE),
    "each of three": (dict(num_labels=3, problem_type=MULTI), MULTI),
    "true or false": (dict(num_labels=1, problem_type=MULTI), MULTI),
    "a number": (dict(num_labels=1), REGRESSION),
    "numbers": (dict(num_labels=3, problem_type=REGRESSION), REGRESSION),
}


def wanted(logits: torch.Tensor, kind: str) -> torch.Tensor:
    """As the pipelines of transformers do it."""
    logits = logits.detach()
    return {SINGLE: logits.softmax(-1), MULTI: logits.sigmoid(), REGRESSION: logits}[KINDS[kind][1]]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def load(form: str, kind: str, folder: Path) -> tuple[transformers.PreTrainedModel, Any]:
    make, read = (hf_vit, wb.load_vit) if form.startswith("ViT") else (hf_bert, wb.load_bert)
    theirs = make(form, **KINDS[kind][0])
    return theirs, read(saved(theirs, folder / "theirs"), device="cpu")


def reread(model: Any, folder: Path) -> Any:
    """Saved, and read by us; what config.json says is what the model says."""
    wb.save_checkpoint(model, folder / "ours")
    read = wb.load_bert if isinstance(model, wb.Bert) else wb.load_vit
    return read(folder / "ours", device="cpu")


def check(found: list, values: torch.Tensor, kind: str) -> None:
    """Candidates, best first, or numbers in their order."""
    labels = [f"LABEL_{index}" for index in range(len(values))]
    right = list(zip(labels, values.tolist(), strict=True))
    if KINDS[kind][1] == REGRESSION:
        assert all(isinstance(one, Number) for one in found)
        assert [(one.label, pytest.approx(one.value, abs=1e-5)) for one in found] == right
    else:
        assert all(isinstance(one, Candidate) for one in found)
        right.sort(key=lambda pair: -pair[1])
        assert [(one.label, pytest.approx(one.probability, abs=1e-5)) for one in found] == right


def test_texts_and_pairs(kind: str, tmp_path: Path) -> None:
    theirs, bert = load("BertForSequenceClassification", kind, tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "theirs")
    for texts in ((FIRST,), (FIRST, SECOND)):
        values = wanted(theirs(**tokenizer(*texts, return_tensors="pt")).logits[0], kind)
        task = wb.classify_sentence if len(texts) == 1 else wb.classify_pair
        for model in (bert, reread(bert, tmp_path)):
            check(task(model, *texts), values, kind)
    theirs = transformers.BertForSequenceClassification.from_pretrained(tmp_path / "ours")
    assert theirs.config.problem_type == KINDS[kind][1]
    close(wanted(theirs.eval()(**tokenizer(*texts, return_tensors="pt")).logits[0], kind), values)


def test_words(kind: str, tmp_path: Path) -> None:
    theirs, bert = load("BertForTokenClassification", kind, tmp_path)
    encoded = transformers.AutoTokenizer.from_pretrained(tmp_path / "theirs")(SECOND, return_tensors="pt")
    values = wanted(theirs(**encoded).logits[0], kind)
    for model in (bert, reread(bert, tmp_path)):
        tags = wb.tag_words(model, SECOND)
        assert [tag.word for tag in tags] == ["a", "red", "dog", "ran", ",", "catxy", "!"]
        for number, tag in enumerate(tags):
            row = values[encoded.word_ids().index(number)]  # of the word's first piece
            if isinstance(tag, WordNumbers):
                check(list(tag.numbers), row, kind)
            else:
                check(list(tag.candidates), row, kind)
                assert (tag.label, pytest.approx(tag.probability, abs=1e-5)) == (
                    f"LABEL_{row.argmax()}",
                    float(row.max()),
                )


def test_pictures(kind: str, tmp_path: Path) -> None:
    theirs, vit = load("ViTForImageClassification", kind, tmp_path)
    pixels = torch.from_numpy(PICTURE).permute(2, 0, 1)[None] / 127.5 - 1
    values = wanted(theirs(pixels).logits[0], kind)
    for model in (vit, reread(vit, tmp_path)):
        check(wb.classify_image(model, PICTURE), values, kind)


def test_heads_beside_each_other_keep_what_they_are(tmp_path: Path) -> None:
    bert = our_bert("mlm", "sentiment")
    bert.add_head("topics", "sentence", ["art", "food"], MULTI)
    bert.add_head("length", "word", ["letters"])
    read = reread(bert, tmp_path)
    kinds = {name: head.problem_type for name, head in read.heads.items()}
    assert kinds == {"mlm": SINGLE, "sentiment": SINGLE, "topics": MULTI, "length": REGRESSION}
    report = wb.inspect_checkpoint(tmp_path / "ours").facts["heads"]
    assert report == "mlm, sentiment (3 classes), topics (2 classes, each for itself), length (1 number)"
    topics = wb.classify_sentence(read, FIRST, "topics")
    assert sum(topic.probability for topic in topics) != pytest.approx(1, abs=1e-3)


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    for theirs, read in (
        (hf_bert("BertForSequenceClassification"), wb.load_bert),
        (hf_vit("ViTForImageClassification"), wb.load_vit),
    ):
        folder = saved(theirs, tmp_path / read.__name__)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"problem_type": "ranking"}))
        refuses(lambda folder=folder, read=read: read(folder), "problem_type 'ranking' is unknown; known are")


def test_a_new_head_answers_with_classes() -> None:
    vit = our_vit(labels="a")
    assert vit.problem_type == REGRESSION
    assert new_head(vit, ["cat", "dog"]).problem_type == SINGLE


# --- reasons


def test_what_a_word_does_to_a_number(tmp_path: Path) -> None:
    theirs, bert = load("BertForSequenceClassification", "a number", tmp_path)
    encoding = bert.tokenizer.encode(SECOND)
    falls = leave_one_out(bert, "sentence", encoding, 0, [1, 6])
    ids, mask = encoding.tensors(), torch.ones(1, len(encoding))
    whole = theirs(**ids, attention_mask=mask).logits[0, 0]
    for fall, pieces in zip(falls, (slice(1, 2), slice(6, 9)), strict=True):  # "a", "cat ##x ##y"
        without = mask.clone()
        without[0, pieces] = 0
        close(fall, whole - theirs(**ids, attention_mask=without).logits[0, 0], 1e-5)
    shares = gradient_relevance(bert, "sentence", encoding, 0)
    assert float(shares.sum()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("problem_type", [MULTI, REGRESSION])
def test_what_patches_do_to_an_answer(problem_type: str) -> None:
    vit = our_vit()
    vit.problem_type = problem_type
    pixels = wb.prepare_image(PICTURE, vit.preprocessing)
    found = delete_and_insert(vit, pixels, torch.arange(24.0), 2, steps=4, random_orders=2)
    whole = to_answers(vit.logits(vit(pixels)[-1])[0, 2], problem_type)
    for curve in (found.deletion, found.insertion.flip(0), *found.random):
        close(curve[0], whole)


# --- widgets


def test_widgets_show_what_the_tasks_say(kind: str, tmp_path: Path) -> None:
    _, bert = load("BertForSequenceClassification", kind, tmp_path / "texts")
    _, tagger = load("BertForTokenClassification", kind, tmp_path / "words")
    _, vit = load("ViTForImageClassification", kind, tmp_path / "pictures")
    of_text = as_pairs(wb.classify_sentence(bert, FIRST))
    of_pair = as_pairs(wb.classify_pair(bert, FIRST, SECOND))
    of_picture = as_pairs(wb.classify_image(vit, PICTURE))
    shown = {
        SentenceClassifier(bert, FIRST): (lambda widget: widget.bars, of_text),
        SentencePair(bert, FIRST, SECOND): (lambda widget: widget.classes, of_pair),
        AttentionExplorer(bert, FIRST): (lambda widget: widget.answers, of_text),
        AttentionExplorer(bert, FIRST, SECOND): (lambda widget: widget.answers, of_pair),
        AttentionExplorer(vit, image=PICTURE): (lambda widget: widget.answers, of_picture),
        PatchAttention(vit, PICTURE): (
            lambda widget: [[widget.labels[index], value] for index, value in widget.classes],
            of_picture,
        ),
        PatchHiding(vit, PICTURE): (lambda widget: widget.bars, of_picture),
    }
    for widget, (read, right) in shown.items():
        assert widget.problem_type == KINDS[kind][1]
        found = {label: value for label, value, *_ in read(widget)}
        assert found == {label: pytest.approx(value, abs=2e-5) for label, value in right}, type(widget)
        widget.save(tmp_path / "still.png")
    words = TokenTagger(tagger, SECOND)
    assert words.problem_type == KINDS[kind][1]
    for word, tag in zip(words.words, wb.tag_words(tagger, SECOND), strict=True):
        best = max(as_pairs(getattr(tag, "numbers", [tag])), key=lambda pair: pair[1])
        assert (words.labels[word["label"]], pytest.approx(word["answer"], abs=2e-5)) == best
    words.save(tmp_path / "words.png")


def as_pairs(found: list) -> list[tuple[str, float]]:
    return [(one.label, one.value if isinstance(one, Number) else one.probability) for one in found]


def test_a_test_of_a_map_and_heads_off_with_a_number(tmp_path: Path) -> None:
    vit = our_vit(labels="a")
    widget = PatchAttention(vit, PICTURE, method="relevance")
    widget.test_map()
    value = as_pairs(wb.classify_image(vit, PICTURE))[0][1]
    assert widget.tests[-1]["deletion"][0] == pytest.approx(value, abs=1e-4)
    explorer = AttentionExplorer(vit, image=PICTURE, off=[(0, 0)])
    ((_, now, before),) = explorer.answers
    assert before == pytest.approx(value, abs=1e-5)
    explorer.try_all_heads()
    effects = np.frombuffer(explorer.effects, np.float16).reshape(3, 4)
    assert effects[0, 0] == pytest.approx(before - now, abs=2e-3)
