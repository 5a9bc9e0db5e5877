"""Texts to begin with, written for the lessons: data/*.jsonl, one example a line."""

import json

from workbench.checkpoint import data_folder


def _read(name: str) -> list[dict]:
    lines = (data_folder() / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


# Two sentences that follow each other; for a pair that does not, two of these are mixed.
NEXT_SENTENCES = [(row["first"], row["second"]) for row in _read("next_sentences")]
SENTENCE_PAIRS = [(row["premise"], row["hypothesis"], row["label"]) for row in _read("sentence_pairs")]
PASSAGES = [(row["context"], row["question"]) for row in _read("passages")]  # as SQuAD's
