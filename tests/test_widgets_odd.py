"""Checkpoints of another kind than those that ship: what widgets say is true of them, too."""

import numpy as np
import pytest
import torch
from tiny import our_bert, our_vit

import workbench as wb
from workbench.attention import attention_relevance
from workbench.text import Tokenizer
from workbench.widgets import (
    AttentionExplorer,
    MaskedFilling,
    NextSentence,
    PatchAttention,
    PatchHiding,
    SentenceClassifier,
    SentencePair,
    TokenTagger,
    base,
)

MANY = [f"class number {number}" for number in range(300)]
PICTURE = np.random.default_rng(0).integers(0, 255, (32, 48, 3), "uint8")


def many(name: str) -> wb.Bert:
    bert = our_bert()
    bert.add_head(name, "sentence", MANY)
    torch.nn.init.normal_(bert.heads[name].weight)
    return bert.eval()


def test_of_many_classes_the_best_have_bars() -> None:
    bert = many("sentiment")
    best = [one.label for one in wb.classify_sentence(bert, "the cat")]
    widget = SentenceClassifier(bert, "the cat")
    assert [name for name, *_ in widget.bars] == best[:24] and widget.hides == 276
    assert next(iter(widget.rehearse()))["target"] == ["", *best[:24]]
    widget.target = best[99]  # of Python
    assert [name for name, *_ in widget.bars] == [*best[:24], best[99]] and widget.hides == 275
    assert widget.chosen == best[99]
    bert = many("nli")
    pair = SentencePair(bert, "the cat", "a dog")
    best = [one.label for one in wb.classify_pair(bert, "the cat", "a dog")]
    assert [name for name, *_ in pair.classes] == best[:24] and pair.hides == 276
    assert pair.line[-1][1] == best[0] and pair.figure().get_figheight() < 8
    pair.hypothesis = "a red dog ran"  # where the best was is told, though it may be far from the best now
    assert best[0] in [name for name, *_ in pair.classes] and pair.hides == 300 - len(pair.classes)


@pytest.mark.parametrize("head", [0, 1])
def test_relevance_is_of_all_tokens_that_the_heads_read(head: int) -> None:
    vit = our_vit(distilled=True, heads=2)
    with torch.no_grad():  # only one of the two has a say
        vit.heads[1 - head].weight.zero_()
    widget = PatchAttention(vit, PICTURE, method="relevance", target=2)
    pixels = wb.prepare_image(PICTURE, vit.preprocessing)
    rows = attention_relevance(vit, lambda: vit.logits(vit(pixels)[-1])[:, 2])[0, :2, 2:].detach()
    shown = (np.frombuffer(widget.large, np.uint8) / 255) ** 2 * widget.tops[0]
    np.testing.assert_allclose(shown, rows.mean(0), atol=0.01 * float(rows.max()))
    strip = PatchHiding(vit, PICTURE, stage="head")
    assert [now for stage, _, now in strip.line if stage == "head"] == ["5 × 72"]
    assert strip.drawer["shapes"][0] == [1, 72]


def test_several_numbers_are_no_rivals() -> None:
    bert = our_bert()
    bert.add_head("mood", "sentence", ["valence", "arousal", "power"], "regression")
    torch.nn.init.normal_(bert.heads["mood"].weight)
    widget = SentenceClassifier(bert.eval(), "the cat", head="mood")
    assert [name for name, *_ in widget.bars] == ["valence", "arousal", "power"]
    assert widget.line[-1] == ["", "answer", "3 numbers"]
    vit = our_vit(labels="xyz")
    vit.problem_type = "regression"
    widget = PatchHiding(vit, PICTURE)
    assert [name for name, *_ in widget.bars] == ["x", "y", "z"] and widget.line[-1][2] == "3 numbers"


def test_a_checkpoint_of_one_segment_has_no_other() -> None:
    bert = our_bert("nsp", type_vocab_size=1)
    widget = NextSentence(bert, "the cat", "a dog", stage="embeddings", token=5)
    assert [name for name, *_ in widget.drawer["rows"]][1] == "+ segment 0"


def test_attention_that_does_not_fit_into_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "MOST_WEIGHTS", 20 * 15**2)  # of a BERT of 20 heads
    widget = AttentionExplorer(our_bert("mlm"), "the cat")
    before = widget.tokens
    widget.text = "the cat sat on a mat " * 3
    assert (
        widget.error.startswith("The attention of 20 tokens in 20 heads would take")
        and widget.tokens == before
    )
    widget.text = "the cat sat"
    assert not widget.error and len(widget.tokens) == 5
    masked = MaskedFilling(our_bert("mlm"), "the cat sat", masked="cat")
    masked.text = "the cat sat on a mat " * 3
    assert "would take" in masked.error and [word["text"] for word in masked.words[1:-1]] == [
        "the",
        "cat",
        "sat",
    ]
    masked.text = "the cat sat on"
    assert masked.masked == [(4, 7)] and not masked.error
    tagger = TokenTagger(our_bert("pos"), "the cat sat on a mat " * 3)  # which makes no maps
    assert len(tagger.words) == 18
    with pytest.raises(ValueError, match="The attention of 24 tokens in 12 heads"):
        PatchAttention(our_vit(), PICTURE)


def test_letters_are_foreign_to_a_checkpoint_that_does_not_know_them() -> None:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    hebrew = ["שלום", "לכל", "העולם", "הזה"]
    latin = [f"{letter}{number}" for letter in "abcdefghij" for number in range(10)]
    for words, foreign in ((hebrew, False), ([*hebrew, *latin], True)):
        vocabulary = [*special, *words]
        bert = our_bert("mlm", vocab_size=len(vocabulary))
        bert.tokenizer = Tokenizer.from_words(vocabulary)
        assert ("not English" in MaskedFilling(bert, " ".join(hebrew)).note) == foreign


def test_without_classes_relevance_is_not_rehearsed() -> None:
    vit = our_vit(labels="")
    assert not [group for group in PatchAttention(vit, PICTURE).rehearse() if "relevance" in str(group)]
    assert [group for group in PatchAttention(our_vit(), PICTURE).rehearse() if "relevance" in str(group)]


def test_a_checkpoint_without_heads_is_said_to_be_an_encoder() -> None:
    with pytest.raises(ValueError, match="it has: none, for its files hold an encoder only"):
        MaskedFilling(our_bert(), "the cat")
