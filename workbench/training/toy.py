"""A text so small and so regular that a tiny BERT learns it from nothing in a minute or two.

Every story tells of one person. What is behind a mask can be worked out from the rest of the story, and
which part follows can be told by whom it is about: so both of BERT's pre-training tasks can be learned,
and seen to be learned.
"""

from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from torch.distributions import Categorical

from workbench.bert import Bert, BertConfig
from workbench.checkpoint import NSP_LABELS
from workbench.encoder import initialize
from workbench.text import Tokenizer
from workbench.training import loop
from workbench.training.picture_learner import start_mimetic
from workbench.training.text_learner import (
    TextBatches,
    TextLearner,
    head_figures,
    next_sentence_rows,
    split_documents,
)

PEOPLE = {"Anna": "she", "Bela": "he", "Clara": "she", "David": "he", "Eva": "she", "Felix": "he"}
ANIMALS = {"dog": "barks", "cat": "meows", "bird": "sings", "horse": "neighs", "bee": "hums"}
COLORS = ("red", "blue", "green", "yellow", "white", "black")
PLACES = {"kitchen": "cooks", "garden": "digs", "school": "reads", "market": "buys fruit", "lake": "swims"}
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def toy_stories(count: int = 6000, seed: int = 0) -> list[str]:
    """Stories of a person with an animal, a colour and a place; a title line first.

    Example:
        >>> print(toy_stories(1)[0].split(".")[0])  # doctest: +SKIP
        # Story 0
        Felix has a yellow horse
    """
    random = np.random.default_rng(seed)
    stories = []
    for number in range(count):
        name, animal, color, place = (
            str(random.choice(list(choices))) for choices in (PEOPLE, ANIMALS, COLORS, PLACES)
        )
        about = [
            f"The animal that {ANIMALS[animal]} is the {animal} of {name}.",
            f"In the {place} {name} {PLACES[place]}.",
            f"The {color} {animal} of {name} {ANIMALS[animal]}.",
            f"{name} likes the {place}, so {PEOPLE[name]} {PLACES[place]} there.",
        ]
        told = [f"{name} has a {color} {animal}."] + [
            about[index] for index in random.permutation(len(about))
        ]
        stories.append(f"# Story {number}\n" + " ".join(told))
    return stories


def toy_bert(stories: list[str], hidden_size: int = 128, layers: int = 3, seed: int = 0) -> Bert:
    """A new BERT with random weights, heads "mlm" and "nsp", and the words of the stories as vocabulary."""
    words = Counter(word for story in stories for word in story.lower().replace(".", " ").split())
    text = sorted(word.strip(",") for word in words if word.strip(",").isalpha())
    tokenizer = Tokenizer.from_words([*SPECIAL, ".", ",", *dict.fromkeys(text)])
    config = BertConfig(
        hidden_size=hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=4 * hidden_size,
        max_position_embeddings=64,
        vocab_size=tokenizer.vocab_size,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    bert = Bert(config, tokenizer=tokenizer)
    bert.add_head("mlm", "mlm")
    bert.add_head("nsp", "sentence", NSP_LABELS)
    torch.manual_seed(seed)
    bert.apply(partial(initialize, std=0.04))  # with BERT's 0.02 so narrow a model is slow to begin
    # At first a word looks at the same word elsewhere, whatever its place and its part: else it takes very
    # long to find out that both parts have to tell of the same person.
    with torch.no_grad():
        bert.embeddings.position_embeddings.weight.mul_(0.3)
        bert.embeddings.token_type_embeddings.weight.mul_(0.3)
        start_mimetic(bert.encoder.layers[0].attention)
    bert.name = "toy BERT"
    return bert


def toy_pairs(stories: list[str], bert: Bert, seed: int = 0) -> Dataset:
    """Short pairs of parts of stories, see `next_sentence_rows`."""
    return next_sentence_rows(stories, bert.tokenizer, same_document=0.0, length=24, seed=seed)


def unigram_loss(rows: Dataset) -> float:
    """The loss of who only knows how often each word occurs (the entropy of the words, in nats): what
    guessing must beat."""
    ids, words = (np.concatenate(rows[name]) for name in ("input_ids", "words"))
    counts = torch.from_numpy(np.bincount(ids[words > 0]))
    return float(Categorical(counts / counts.sum()).entropy())


def toy_pretraining(
    bert: Bert,
    stories: list[str],
    folder: Path,
    *,
    steps: int = 440,
    tokens: int = 4096,
    learning_rate: float = 3e-3,
    seed: int = 0,
) -> loop.Progress:
    """Trains both heads on the stories; one in fifty is held out and scored along the way.

    Returns:
        Where it ended; `.log` holds the losses, and those and the accuracies on held-out stories.

    Raises:
        ValueError: too few stories for that.
    """
    rows, held_out = (toy_pairs(part, bert, seed) for part in split_documents(stories))
    if not (len(rows) and len(held_out)):
        raise ValueError(
            f"Too few stories, {len(stories)}: none is held out to be scored; give some hundreds."
        )

    def evaluate() -> dict[str, float]:
        figures = head_figures(bert, held_out, "mlm") | head_figures(bert, held_out, "nsp")
        # A training's losses make one curve, without those of what is held out.
        return {name.replace("loss", "held_out_loss"): figure for name, figure in figures.items()}

    settings = loop.Settings(
        learning_rate=learning_rate,
        steps=steps,
        warmup=40,
        save_every=max(20, steps // 8),
        log_every=10,
        seed=seed,
    )
    batches = TextBatches(rows, bert.tokenizer, "nsp", tokens, seed, masked=True)
    return loop.train(TextLearner(bert), batches, settings, folder, evaluate=evaluate)
