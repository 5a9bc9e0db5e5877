"""The strip without a browser: its line, what its drawers hold, and that what is closed is not computed."""

import json

import numpy as np
import pytest
import torch
from tiny import close, our_bert, our_vit, refuses, sentence_bert

from workbench.bert import Bert
from workbench.plots import in_percent
from workbench.widgets import (
    AttentionExplorer,
    FineTuning,
    MaskedFilling,
    NextSentence,
    PatchAttention,
    PatchHiding,
    PatchSplitter,
    SentenceClassifier,
    SentencePair,
    SpanExtraction,
    TokenTagger,
    strip as strip_room,
)

TEXT = "the cat sat on a matx"  # [CLS] the cat sat on a mat ##x [SEP]
STAGES = ["embeddings", "layer", "read", "head", "softmax"]


@pytest.fixture(scope="module")
def bert() -> Bert:
    return our_bert("mlm", "nsp", "sentiment", "pos", "span")


def tables(widget) -> list[torch.Tensor]:
    """The numbers of the open drawer."""
    numbers, found = torch.from_numpy(np.frombuffer(widget.numbers, np.float16).astype(np.float32)), []
    for rows, columns in widget.drawer["shapes"]:
        found.append(numbers[: rows * columns].view(rows, columns))
        numbers = numbers[rows * columns :]
    assert not len(numbers)
    return found


def test_the_line_is_live(bert):
    widget = MaskedFilling(bert, TEXT, masked=[(4, 7)])
    best = widget.guesses["cards"][0]["candidates"][0]
    assert widget.line == [
        ["", "tokens", "9"],
        ["embeddings", "word + segment + position", "9 vectors of 36"],
        ["layer", "layer 1 … 5", "4 heads in each"],
        ["read", "[MASK]", "1 of 9"],
        ["head", "matrix", "99 × 36"],
        ["softmax", "softmax", "0 to 100 %"],
        ["", best[0], in_percent(best[1])],
    ]
    widget.stage, widget.layer = "layer", 1
    assert widget.guesses["cards"][0]["candidates"][0] != best, "which are read after the layer"
    assert widget.line[-1] == ["", best[0], in_percent(best[1])], "the model's answer all the same"
    widget.stage = ""
    widget.masked, widget.text = [], "the cat"
    assert [now for *_, now in widget.line][:4] == ["4", "4 vectors of 36", "4 heads in each", "0 of 4"]
    assert widget.line[-1] == ["", "answer", "–"]


def test_what_is_closed_is_not_computed(bert, monkeypatch):
    for name in ("embedding_steps", "fetched_vectors", "linear_steps"):
        monkeypatch.setattr(strip_room, name, lambda *_, **__: 1 / 0)
    widgets = [MaskedFilling(bert, TEXT, masked=[(4, 7)]), TokenTagger(bert, TEXT)]
    widgets += [SentenceClassifier(bert, TEXT), SentencePair(bert, "the cat", "sat", head="sentiment")]
    widgets += [NextSentence(bert, "the cat", "sat"), SpanExtraction(bert, "who sat?", TEXT)]
    vit = our_vit()
    widgets += [AttentionExplorer(bert, TEXT), PatchAttention(vit), PatchHiding(vit)]
    for widget in widgets:
        assert (widget.drawer, widget.numbers, widget.error) == ({}, b"", "")
        widget.stage = "head"
        assert "Something went wrong" in widget.error and widget.stage == ""


def test_other_stages_are_refused(bert):
    message = "no stage 'pooler' here; there are: embeddings"
    refuses(lambda: MaskedFilling(bert, TEXT, stage="pooler"), message, ValueError)
    widget = MaskedFilling(bert, TEXT, masked=[(4, 7)], stage="head")
    widget.stage = "logits"
    assert widget.error.startswith("There is no stage 'logits' here") and widget.stage == "head"
    assert widget.drawer["stage"] == "head"
    for stage in ["", *STAGES]:
        widget.stage = stage
        assert widget.error == "" and widget.drawer.get("stage", "") == stage


def test_nothing_is_read_where_nothing_is_masked(bert):
    for stage in ("read", "head", "softmax"):
        drawer = MaskedFilling(bert, TEXT, stage=stage).drawer
        assert drawer["empty"].startswith("Nothing is masked") and "rows" not in drawer
    assert MaskedFilling(bert, TEXT, stage="layer").drawer["by_layer"] == []


def test_embeddings_are_those_of_the_model(bert):
    widget = MaskedFilling(bert, TEXT, stage="embeddings", token=7)
    inputs = bert.tokenizer.encode(TEXT).tensors()
    (vectors,) = tables(widget)
    front = bert.embeddings
    known = [
        front.word_embeddings.weight[inputs["input_ids"][0, 7]],
        front.token_type_embeddings.weight[0],
        front.position_embeddings.weight[7],
    ]
    close(vectors, torch.stack([*known, sum(known)]), 1e-3)
    close(front.norm(vectors[3]), bert(**inputs)[0][0, 7], 1e-2)
    names = ["word “##x”", "+ segment 0", "+ position 7", "= sum"]
    assert widget.drawer["rows"] == [
        [name, pytest.approx(float(vector.norm()), abs=2e-3)]
        for name, vector in zip(names, vectors, strict=True)
    ]
    without = MaskedFilling(our_bert("mlm", type_vocab_size=0), TEXT, stage="embeddings")
    assert without.line[1][1] == "word + position"
    assert [name for name, _ in without.drawer["rows"]] == ["word “[CLS]”", "+ position 0", "= sum"]


def test_what_is_fetched_is_what_attention_gives(bert):
    """Also with words hidden, which nothing is fetched from."""
    widget = MaskedFilling(bert, TEXT, masked=[(4, 7)], hide="right", stage="layer", layer=3)
    encoding = bert.tokenizer.encode(TEXT, masks=[(4, 7)])
    visible = torch.tensor([[1, 1, 1, 0, 0, 0, 0, 0, 1]])
    given = []
    module = bert.encoder.layers[2].attention
    hook = module.register_forward_hook(lambda _, __, output: given.append(output[0, 2]))
    with torch.no_grad():
        bert(**encoding.tensors(), attention_mask=visible)
    hook.remove()
    weights, vectors = tables(widget)
    close(vectors[-1], given[0], 1e-2)
    close(vectors[:-1].sum(0), given[0], 1e-2)
    assert weights.shape == (5, 9) and not weights[:, 3:8].any()
    close(weights[:4].mean(0), weights[4], 1e-3)
    lengths = [length for _, length in widget.drawer["rows"][:6]]
    assert lengths == sorted(lengths, reverse=True), "first what adds most"
    assert sum(widget.drawer["shares"]) == pytest.approx(1, abs=1e-3)


def test_few_classes_are_all_shown_and_of_many_the_best(bert):
    widget = MaskedFilling(bert, TEXT, masked=[(4, 7)], stage="head", row=50)
    candidates = widget.guesses["cards"][0]["candidates"]
    rows = widget.drawer["rows"]
    assert [label for _, label, *_ in rows[:5]] == [label for label, *_ in candidates]
    assert [answer for *_, answer in rows[:5]] == pytest.approx([now for _, now, _ in candidates], abs=1e-4)
    assert len(rows) == 7 and rows[6][0] == widget.drawer["row"] == 50, "the chosen class, too"
    vector, matrix, _ = tables(widget)
    close(matrix[6], bert.heads["mlm"].decoder.weight[50], 1e-3)
    close(matrix[6] @ vector[0] + bert.heads["mlm"].decoder.bias[50], torch.tensor(rows[6][2]), 2e-2)


def test_softmax_is_written_out(bert):
    widget = MaskedFilling(bert, TEXT, masked=[(4, 7)], stage="softmax")
    encoding = bert.tokenizer.encode(TEXT, masks=[(4, 7)])
    with torch.no_grad():
        logits = bert.logits("mlm", bert(**encoding.tensors())[-1])[0, 2]
    best = logits.topk(6)
    shares, powers = logits.softmax(-1), (logits - logits.max()).exp()
    for (name, *numbers), at in zip(widget.drawer["rows"], best.indices.tolist(), strict=True):
        assert name == bert.tokenizer.word_piece(at)
        assert numbers == pytest.approx([float(one[at]) for one in (logits, powers, shares)], abs=1e-4)
    assert widget.drawer["total"] == pytest.approx(float(powers.sum()), rel=1e-4)
    others = [float(one.sum() - one[best.indices].sum()) for one in (powers, shares)]
    assert widget.drawer["others"] == pytest.approx(others, abs=1e-3)


def test_a_pinned_word_is_what_head_and_layers_tell_of():
    widget = TokenTagger(sentence_bert(), "The unplayful cat sat", stage="head", pinned=1)
    assert widget.drawer["name"] == "un"
    widget.pinned = 2
    assert widget.drawer["name"] == "cat" and widget.line[-1][1] == widget.labels[widget.words[2]["label"]]
    widget.stage = "layer"
    assert widget.drawer["tokens"][widget.drawer["token"]] == "cat"
    widget.token = 1
    assert widget.drawer["tokens"][widget.drawer["token"]] == "the"
    widget.text = "The cat sat"
    assert widget.token == -1, "another token stands there now"


@pytest.mark.parametrize("stage", ["", *STAGES])
def test_first_views_are_small(stage):
    """64 tokens at the size of the shipped checkpoint, without the script."""
    words = ["the", "cat", "sat", "on", "a", "mat", "and", "a", "dog", "ran", "to", "the", "red", "tea"]
    text = " ".join((words * 5)[:62])
    sizes = dict(hidden_size=384, num_attention_heads=12, num_hidden_layers=6, max_position_embeddings=80)
    bert = our_bert("mlm", "pos", **sizes)
    for widget in (
        MaskedFilling(bert, text, masked=[(4, 7)], stage=stage),
        TokenTagger(bert, text, stage=stage),
        AttentionExplorer(bert, f"{text[:-4]} [MASK]"),
    ):
        state = {name: value for name, value in widget.get_state().items() if name not in ("_esm", "_css")}
        size = sum(
            len(value) if isinstance(value, bytes) else len(json.dumps(value)) for value in state.values()
        )
        assert size < 60_000, (type(widget).__name__, size)


def test_the_line_of_pictures():
    """Also without a head, with more in front, and with two heads."""
    sizes = [["embeddings", "flattened × E, * in front, + position", "25 vectors of 36"]]
    sizes += [["layer", "layer 1 … 3", "4 heads in each"]]
    widget = PatchAttention(our_vit())
    label, share = widget.labels[widget.classes[0][0]], widget.classes[0][1]
    assert widget.line == [
        ["", "patches", "24"],
        *sizes,
        ["read", "*", "1 of 25"],
        ["head", "matrix", "5 × 36"],
        ["softmax", "softmax", "0 to 100 %"],
        ["", label, in_percent(share)],
    ]
    bare = PatchAttention(our_vit(labels=""))
    assert bare.line == [["", "patches", "24"], *sizes], "no head, nothing is read"
    refuses(
        lambda: PatchAttention(our_vit(labels=""), stage="read"), "there are: embeddings, layer", ValueError
    )
    two = PatchAttention(our_vit(distilled=True, heads=2), stage="head")
    assert two.line[1][1] == "flattened × E, * and 1 more in front, + position"
    assert two.line[3] == ["read", "*", "2 of 26"] and two.drawer["shapes"] == [[1, 72], [5, 72], [1, 72]]
    assert [label for _, label, *_ in two.drawer["rows"]] == list("abcde")
    assert PatchSplitter(our_vit()).line[1][0] == "embeddings"


def test_the_line_of_a_training(bert):
    widget = FineTuning(bert, [("the cat", "a"), ("a dog", "b")] * 4, lambda *_: None)
    assert [stage for stage, *_ in widget.line] == [""] * 7
    assert [name for _, name, _ in widget.line][3:] == ["[CLS]", "new matrix", "softmax", "answer"]
    examples = [("the cat", "a"), ("a dog", "b")] * 4
    refuses(
        lambda: FineTuning(bert, examples, lambda *_: None, stage="head"), "none can be opened", ValueError
    )


def test_no_softmax_where_there_is_none():
    bert = our_bert()
    bert.add_head("topic", "sentence", ["a", "b"], "multi_label_classification")
    bert.add_head("score", "sentence", ["score"], "regression")
    widget = SentenceClassifier(bert, "the cat", head="topic", stage="softmax")
    assert widget.line[5][:2] == ["softmax", "sigmoid"]
    for _, score, _, answer in widget.drawer["rows"]:
        assert answer == pytest.approx(1 / (1 + np.exp(-score)), abs=1e-4)
    widget.head = "score"
    assert widget.error == "" and widget.stage == "" and "softmax" not in [stage for stage, *_ in widget.line]
    refuses(
        lambda: SentenceClassifier(bert, "a", head="score", stage="softmax"), "no stage 'softmax'", ValueError
    )


@pytest.mark.parametrize(
    ("make", "change"),
    [
        (lambda bert: TokenTagger(bert, TEXT), {"pinned": 2}),
        (lambda bert: MaskedFilling(bert, TEXT, masked=["cat"]), {"masked": [(8, 11)]}),
        (lambda bert: MaskedFilling(bert, TEXT, masked=["cat", "sat"]), {"pinned": 1}),
        (lambda bert: SpanExtraction(bert, "the cat", TEXT), {"pinned": 1}),
        (lambda bert: SpanExtraction(bert, "the cat", TEXT), {"chosen": 3}),
        (lambda bert: NextSentence(bert, "the cat", "a dog ran"), {"cls_at": "end"}),
        (lambda bert: NextSentence(bert, "the cat", "a dog ran"), {"do": "swap"}),
    ],
)
def test_the_strip_follows_what_is_chosen(make, change, bert) -> None:
    """A token that was clicked in the strip is told of until another one is chosen below it."""
    widget = make(bert)
    widget.stage, widget.token = "layer", 2
    assert widget._token == 2
    if "do" in change:
        widget._on_message(None, change, None)
    else:
        ((name, value),) = change.items()
        setattr(widget, name, value)
    assert widget.token == -1 and widget.error == ""


def test_a_head_that_does_not_answer_is_refused_when_it_is_set() -> None:
    bert = our_bert("mlm", "nsp", "sentiment")
    bert.add_head("nli", "sentence", ["yes", "no"])
    for widget in (
        MaskedFilling(bert, TEXT),
        NextSentence(bert, "the cat", "a dog"),
        SentencePair(bert, "a", "the"),
    ):
        before = widget.head
        widget.head = "sentiment"
        assert "There is no head 'sentiment' here" in widget.error and widget.head == before
    with pytest.raises(ValueError, match="NextSentence asks the head 'nsp', not 'nli'"):
        NextSentence(bert, "the cat", "a dog", head="nli")
