"""Texts so plain that a tiny BERT learns from them within a few steps."""

from pathlib import Path

import numpy as np

from workbench.bert import Bert, BertConfig
from workbench.text import Tokenizer
from workbench.training import loop
from workbench.training.text_learner import TextBatches, TextLearner, next_sentence_rows

SUBJECTS, VERBS, OBJECTS = ("cat", "dog", "owl"), ("eats", "sees", "likes"), ("fish", "bone", "mouse")
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "a", "and", ".", "title", "##s"]
WORDS += [*SUBJECTS, *VERBS, *OBJECTS, *"0123456789", *(f"##{digit}" for digit in "0123456789")]
NO_DROPOUT = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)


def new_tokenizer() -> Tokenizer:
    return Tokenizer.from_words(WORDS)


def new_bert(pooler: bool = False, **options: float) -> Bert:
    """With a masked-word head; `options` of its config."""
    config = BertConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        vocab_size=len(WORDS),
        **{"max_position_embeddings": 64} | options,
    )
    bert = Bert(config, pooler=pooler, tokenizer=new_tokenizer())
    bert.add_head("mlm", "mlm")
    return bert


def documents(count: int = 300) -> list[str]:
    """Each subject has its own verb and its own object, so that masked words can be known."""
    random = np.random.default_rng(0)
    texts = []
    for number in range(count):
        lines = [f"# title {number}"]
        for length in random.integers(1, 5, size=2):
            kinds = random.integers(3, size=length)
            lines.append(" and ".join(f"the {SUBJECTS[k]} {VERBS[k]} a {OBJECTS[k]}" for k in kinds) + " .")
        texts.append("\n".join(lines))
    return texts


def sentence(number: int) -> str:
    random = np.random.default_rng(number)
    return f"the {SUBJECTS[random.integers(3)]} sees a {OBJECTS[random.integers(3)]} {number} ."


def new_batches(tokenizer: Tokenizer, tokens: int = 256, seed: int = 0) -> TextBatches:
    """Masked words of the documents."""
    return TextBatches(next_sentence_rows(documents(), tokenizer, length=40), tokenizer, "mlm", tokens, seed)


def run(bert: Bert, source: object, folder: Path, **options: object) -> loop.Progress:
    """Trains it: `options` are settings, or `resume` and `evaluate` of the loop."""
    others = {name: options.pop(name) for name in ("resume", "evaluate") if name in options}
    settings = {"warmup": 3, "log_every": 1, "save_every": 5, "learning_rate": 3e-3} | options
    return loop.train(TextLearner(bert), source, loop.Settings(**settings), folder, **others)
