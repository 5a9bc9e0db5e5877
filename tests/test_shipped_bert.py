"""The text checkpoint that ships: whether `transformers` opens it as it is, and agrees."""

import time

import pytest
import torch
import transformers

import workbench as wb
from workbench.bert import Bert
from workbench.checkpoint import SHIPPED_BERT, shipped_checkpoints

FOLDER = shipped_checkpoints()[SHIPPED_BERT]


@pytest.fixture(scope="module")
def bert() -> Bert:
    return wb.load_bert(device="cpu")


@torch.inference_mode()
def test_transformers_opens_it_and_agrees(bert: Bert) -> None:
    tokenizer = transformers.BertTokenizer.from_pretrained(FOLDER)
    texts = ("Who sells [MASK] in the old town?", "Paul sells fish there, and Anna sells flowers.")
    inputs = tokenizer(*texts, return_tensors="pt")
    assert inputs["input_ids"].tolist() == bert.tokenizer.encode(*texts).tensors()["input_ids"].tolist()
    pretrained = transformers.BertForPreTraining.from_pretrained(FOLDER, dtype=torch.float32).eval()
    reader = transformers.BertForQuestionAnswering.from_pretrained(FOLDER, dtype=torch.float32).eval()
    theirs, answer = pretrained(**inputs), reader(**inputs)
    last = bert(**inputs)[-1]
    for mine, right in (
        (bert.logits("mlm", last), theirs.prediction_logits),
        (bert.logits("nsp", last), theirs.seq_relationship_logits),
        (bert.logits("span", last), torch.stack([answer.start_logits, answer.end_logits], -1)),
    ):
        assert torch.allclose(mine, right, atol=1e-4)


def test_it_has_every_head(bert: Bert) -> None:
    assert set(bert.heads) == {"mlm", "nsp", "span", "sentiment", "pos", "nli"}
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(f"| {name}/" in card for name in bert.heads), "the card has figures of each"


def test_it_is_small_and_loads_fast() -> None:
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 46 * 2**20
    started = time.process_time()  # others may be using the machine, too
    wb.fill_mask(wb.load_bert(device="cpu"), "I drink a cup of [MASK].")
    assert time.process_time() - started < 2
