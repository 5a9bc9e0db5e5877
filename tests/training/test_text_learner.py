"""What a BERT learns from: rows, pairs of sentences, batches, masks, losses and figures."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_texts import NO_DROPOUT, WORDS, documents, new_batches, new_bert, new_tokenizer, sentence

from workbench.text import Tokenizer
from workbench.training.text_learner import (
    IGNORED,
    INPUTS,
    TextBatches,
    TextLearner,
    bucketed_batches,
    head_batch,
    head_figures,
    next_sentence_rows,
    pack_rows,
    padded_batch,
    row_lengths,
    split_documents,
    split_sentences,
)


@pytest.fixture
def tokenizer() -> Tokenizer:
    return new_tokenizer()


def test_rows_are_packed_and_padded(tokenizer: Tokenizer) -> None:
    cls, sep = tokenizer.cls_id, tokenizer.sep_id
    first, second = ([7, 8, 9], [0, 0, 1]), ([10, 11], [0, 1])
    batch = padded_batch(pack_rows(tokenizer, [(first, None, 2), (first, second, 1)]), np.array([0, 1]), 0)
    assert batch["input_ids"].tolist() == [
        [cls, 7, 8, 9, sep, 0, 0, 0],
        [cls, 7, 8, 9, sep, 10, 11, sep],
    ]
    assert batch["attention_mask"].tolist() == [[1] * 5 + [0] * 3, [1] * 8]
    assert batch["token_type_ids"].tolist() == [[0] * 8, [0] * 5 + [1] * 3]
    # Words are numbered from 1 in each row; 0 is [CLS], [SEP] and padding.
    assert batch["words"].tolist() == [[0, 1, 1, 2, 0, 0, 0, 0], [0, 1, 1, 2, 0, 3, 4, 0]]
    assert batch["targets"].tolist() == [2, 1]
    spans = pack_rows(tokenizer, [(first, second, (5, 6)), (first, second, (0, 0))])
    assert padded_batch(spans, np.array([1, 0]), 0)["targets"].tolist() == [[0, 0], [5, 6]]
    tagged = pack_rows(
        tokenizer, [(first, None, np.array([4, IGNORED, 3])), (second, None, np.array([1, 2]))]
    )
    assert padded_batch(tagged, np.array([0, 1]), 0)["targets"].tolist() == [
        [IGNORED, 4, IGNORED, 3, IGNORED],
        [IGNORED, 1, 2, IGNORED, IGNORED],
    ]
    assert row_lengths(tagged).tolist() == [5, 4]
    assert len(pack_rows(tokenizer, [])) == 0


def test_a_document_stays_on_its_side() -> None:
    """Whatever else there is, and when its text is edited below the title."""
    train, score = split_documents(documents(3000))
    assert sorted(train + score) == sorted(documents(3000)) and not set(train) & set(score)
    assert 0.01 < len(score) / 3000 < 0.03
    assert split_documents(document + "\nthe end ." for document in score)[0] == []
    assert split_documents(reversed(train))[1] == []


def test_each_epoch_has_every_row_once_in_batches_within_the_budget(tokenizer: Tokenizer) -> None:
    source = new_batches(tokenizer, tokens=128)
    count = len(source.batches)
    epochs = [[source.rows_at(epoch * count + index) for index in range(count)] for epoch in range(3)]
    for epoch in epochs:
        assert sorted(np.concatenate(epoch)) == list(range(len(source.rows)))
        for rows in epoch:
            assert len(rows) * row_lengths(source.rows)[rows].max() <= 128
    assert [rows.tolist() for rows in epochs[0]] != [rows.tolist() for rows in epochs[1]]


def test_little_of_a_batch_is_padding() -> None:
    lengths = np.random.default_rng(0).integers(6, 127, size=20_000)
    found = bucketed_batches(lengths, 4096, seed=0)
    size = sum(len(rows) * lengths[rows].max() for rows in found)
    assert lengths.sum() / size > 0.95
    assert sorted(np.concatenate(found)) == list(range(20_000))


def test_masks_are_repeatable_and_new_in_each_epoch(tokenizer: Tokenizer) -> None:
    source, same, other = new_batches(tokenizer), new_batches(tokenizer), new_batches(tokenizer, seed=5)
    for step in (0, 3, 3, 40):
        for name, tensor in source(step).items():
            assert torch.equal(tensor, same(step)[name])
    assert source(0)["input_ids"].tolist() != other(0)["input_ids"].tolist()
    batch = padded_batch(source.rows, np.arange(20), tokenizer.pad_id)
    ids, words = batch["input_ids"], batch["words"]
    first, second = (
        head_batch(source.rows, np.arange(20), tokenizer, "mlm", source.random_ids, seed) for seed in (0, 1)
    )
    chosen = [masked["mlm"] != IGNORED for masked in (first, second)]
    assert not torch.equal(*chosen)
    for masked, where in zip((first, second), chosen, strict=True):
        assert torch.equal(masked["mlm"][where], ids[where])
        assert where.any(1).all() and not where[words == 0].any()
        assert torch.equal(masked["input_ids"][~where], ids[~where])


def test_processes_share_the_rows_of_a_batch(tokenizer: Tokenizer) -> None:
    source = new_batches(tokenizer)
    whole = source(7)["input_ids"]
    parts = [source(7, process, 3)["input_ids"] for process in range(3)]
    assert sum(map(len, parts)) == len(whole)
    assert all(torch.equal(part, whole[process::3]) for process, part in enumerate(parts))


def test_pairs_are_neighbours_or_not(tokenizer: Tokenizer) -> None:
    texts = [
        "# title\n"
        + " ".join(f"A cat {number} eats. The dog {number} sees." for number in range(start, start + 30))
        for start in (0, 100, 200)
    ]
    # Each digit is a piece: the numbers say where a sentence stood.
    tokenizer = Tokenizer.from_words(
        [*WORDS[:5], "a", "cat", "eats", ".", "the", "dog", "sees", *map(str, range(300))]
    )

    def numbers(ids: list[int]) -> list[int]:
        words = [tokenizer.word_piece(index) for index in ids]
        return [int(word) for word in words if word.isdigit()]

    for share in (0.0, 1.0):
        rows = next_sentence_rows(texts, tokenizer, same_document=share, length=24)
        kinds = []
        for row, (target,) in enumerate(rows["targets"]):
            batch = padded_batch(rows, np.array([row]), tokenizer.pad_id)
            ids, second = batch["input_ids"][0], batch["token_type_ids"][0].bool()
            assert len(ids) <= 27 and ids[0] == tokenizer.cls_id and (ids == tokenizer.sep_id).sum() == 2
            a, b = numbers(ids[~second].tolist()), numbers(ids[second].tolist())
            if not a or not b:
                continue
            if target == 0:
                assert b[0] - a[-1] in (0, 1)
            elif share:
                assert a[0] // 100 == b[0] // 100 and not 0 <= b[0] - a[-1] <= 0
            kinds.append((int(target), a[0] // 100 == b[0] // 100))
        assert 0.3 < np.mean([target for target, _ in kinds]) < 0.7
        far = [same for target, same in kinds if target == 1]
        assert all(far) if share else np.mean(far) < 0.7
    once, twice = (next_sentence_rows(texts, tokenizer, rounds=rounds) for rounds in (1, 2))
    once, twice = list(once["input_ids"]), list(twice["input_ids"])
    assert twice[: len(once)] == once != twice[len(once) :]
    first, again, other = (
        list(next_sentence_rows(texts, tokenizer, seed=seed)["input_ids"]) for seed in (3, 3, 4)
    )
    assert first == again != other
    assert split_sentences('# t\nHe said so. "Go!" Then e.g. nothing.') == [
        "He said so.",
        '"Go!"',
        "Then e.g. nothing.",
    ]


def class_rows(tokenizer: Tokenizer, count: int = 60):
    parts = tokenizer.backend.encode_batch([sentence(n) for n in range(count)], add_special_tokens=False)
    return pack_rows(tokenizer, (((part.ids, part.word_ids), None, n % 2) for n, part in enumerate(parts)))


def test_sentences_are_masked_but_not_guessed_from(tokenizer: Tokenizer) -> None:
    drawn = TextBatches(class_rows(tokenizer), tokenizer, "sentiment", 256, masked=True, guessed=False)
    assert set(drawn(0)) == {*INPUTS, "sentiment"}
    masked = [(drawn(step)["input_ids"] == tokenizer.mask_id).float().mean() for step in range(4)]
    assert 0.02 < np.mean(masked) < 0.2


def test_each_head_has_its_loss_where_a_target_is(tokenizer: Tokenizer) -> None:
    bert = new_bert(pooler=True, **NO_DROPOUT).eval()
    for name, kind, labels in (("nli", "sentence", "abc"), ("pos", "word", "abcd"), ("span", "span", "")):
        bert.add_head(name, kind, tuple(labels))
    learner = TextLearner(bert, {"nli": 0.5})
    assert learner.names == ("mlm", "nli", "pos", "span") and learner.weights == [1.0, 0.5, 1.0, 1.0]
    batch = padded_batch(class_rows(tokenizer, 5), np.arange(5), tokenizer.pad_id)
    inputs = {name: batch[name] for name in INPUTS}
    nli = torch.tensor([0, IGNORED, 2, 1, 0])
    pos = torch.full_like(batch["input_ids"], IGNORED)
    pos[0, 1:3] = torch.tensor([3, 1])
    span = torch.tensor([[1, 2]] * 5)
    with torch.inference_mode():
        losses, counts = learner(**inputs, nli=nli, pos=pos, span=span)
        last = bert(**inputs)[-1]
        logits = {name: bert.logits(name, last) for name in ("nli", "pos", "span")}
    masked = logits["span"].masked_fill(~inputs["attention_mask"].bool()[..., None], -torch.inf)
    expected = [
        torch.zeros(()),
        F.cross_entropy(logits["nli"], nli, reduction="sum"),
        F.cross_entropy(logits["pos"].flatten(0, 1), pos.flatten(), reduction="sum"),
        F.cross_entropy(masked.mT.flatten(0, 1), span.flatten(), reduction="sum"),
    ]
    torch.testing.assert_close(losses, torch.stack(expected))
    assert counts.tolist() == [0, 4, 2, 10]
    assert learner.size(batch) == batch["input_ids"].numel()


def test_figures_are_how_often_a_head_is_right(tokenizer: Tokenizer) -> None:
    bert = new_bert(pooler=True, **NO_DROPOUT).eval()
    bert.add_head("lesson", "sentence", ("even", "odd"))
    bert.add_head("span", "span", ())
    rows = class_rows(tokenizer)
    with torch.inference_mode():
        batch = padded_batch(rows, np.arange(len(rows)), tokenizer.pad_id)
        logits = bert.logits("lesson", bert(*(batch[name] for name in INPUTS))[-1])
    figures = head_figures(bert, rows, "lesson")
    right = (logits.argmax(-1) == batch["targets"]).float().mean()
    assert figures["lesson_accuracy"] == pytest.approx(float(right)) and figures["lesson_count"] == 60
    assert figures["lesson_loss"] == pytest.approx(float(F.cross_entropy(logits, batch["targets"])), rel=1e-4)
    assert head_figures(bert, rows, "lesson", most=7)["lesson_count"] == 7
    assert set(head_figures(bert, rows.select([]), "lesson").values()) == {0}  # and so is the count
    pieces = [5, 6, 7], [0, 1, 2]
    spans = pack_rows(tokenizer, [(pieces, pieces, (5, 7))] * 3)
    assert head_figures(bert, spans, "span")["span_count"] == 3  # start and end count as one
    batch = padded_batch(spans, np.array([0]), tokenizer.pad_id)
    with torch.inference_mode():
        said = bert.logits("span", bert(*(batch[name] for name in INPUTS))[-1])[0].argmax(0)
    start, end = said.tolist()
    targets = [(start, end), (start, (end + 1) % 9), ((start + 1) % 9, end), (start, end)]
    spans = pack_rows(tokenizer, [(pieces, pieces, target) for target in targets])
    assert head_figures(bert, spans, "span")["span_accuracy"] == 0.5  # and both have to be right
