"""Training in a lesson: words of several pieces have one class, and answers stand beside what was asked."""

import pytest
import torch
from tiny import sentence_bert

import workbench as wb
from workbench.encoder import Encoder
from workbench.training.lessons import draw_shapes, fine_tune, labelled_rows, split_by_class
from workbench.training.picture_learner import new_vit
from workbench.training.text_learner import IGNORED

ADJECTIVES, NOUNS, VERBS = ("unplayful", "playing", "playful"), ("cat", "dog"), ("sat", "ran")


def examples(count: int) -> list[tuple[str, str]]:
    """Words of one to three pieces, in sentences of three or four words."""
    rows = []
    for n in range(count):
        words = ["the", ADJECTIVES[n % 3], NOUNS[n % 2], VERBS[n // 2 % 2]]
        rows.append((" ".join(words[: 3 + n % 2]), " ".join("DANV"[: 3 + n % 2])))
    return rows


def test_a_word_has_its_class_at_its_first_piece() -> None:
    rows = labelled_rows([("the unplayful cat", "D A N")], "ADN", "word", sentence_bert())
    assert rows["words"][0] == [0, 1, 2, 2, 2, 3, 0]
    assert rows["targets"][0] == [IGNORED, 1, 0, IGNORED, IGNORED, 2, IGNORED]


def test_an_example_is_cut_to_what_the_checkpoint_reads() -> None:
    bert, long = sentence_bert(), "the cat sat " * 30
    for kind, texts, label in (
        ("sentence", [long], "A"),
        ("word", [long], "A B A " * 30),
        ("pair", [long, long], "B"),
        ("span", [long, long], "sat"),
    ):
        rows = labelled_rows([(*texts, label)], "AB", kind, bert)
        assert bert.config.max_position_embeddings - 3 <= len(rows["input_ids"][0]) <= 40


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("kind", ["word", "sentence"])
def test_answers_are_those_of_the_task(kind: str, frozen: bool) -> None:
    """In the order of what was held out, more than is read at once: 40 sentences."""
    table = examples(200)
    if kind == "sentence":
        table = [(text, text.split()[2]) for text, _ in table]
    options = {"kind": kind, "frozen": frozen, "steps": 100 if frozen else 3, "looks": 1}
    result = fine_tune(sentence_bert(), table, **options, watch=lambda _: None)
    classes = ["" if kind == "word" else label for _, label in table]
    _, held_out = split_by_class(classes, 5)
    assert len(held_out) == 40 and len({said for *_, said in result.answers}) > 1
    known = []
    for text, label in (table[number] for number in held_out):
        if kind == "sentence":
            known.append((text, label, wb.classify_sentence(result.model, text, head="lesson")[0].label))
        else:
            tags = wb.tag_words(result.model, text, head="lesson")
            known += [(tag.word, true, tag.label) for tag, true in zip(tags, label.split(), strict=True)]
    assert result.answers == known


@pytest.mark.parametrize("kind", ["sentence", "picture"])
def test_a_frozen_encoder_reads_once(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each batch of texts, and at the looks each picture; crops are new at every step."""
    read: list[torch.Tensor] = []

    def forward(self: Encoder, states: torch.Tensor, *mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        read.append(states)
        return whole(self, states, *mask)

    whole = Encoder.forward
    monkeypatch.setattr(Encoder, "forward", forward)
    model, table = sentence_bert(), [(text, text.split()[2]) for text, _ in examples(200)]
    if kind == "picture":
        model, table = new_vit(["other"], 32, 8, 1, 32), draw_shapes(24, side=32)
    result = fine_tune(model, table, kind=kind, frozen=True, steps=40, looks=20, watch=lambda _: None)
    assert len(result.log) == 21
    looks = 2 + 2 if kind == "sentence" else 2 + 1  # what is learned from, and what is held out
    assert len({states.numpy().tobytes() for states in read}) == len(read)
    assert len(read) == looks + 40 if kind == "picture" else looks < len(read) < looks + 20
