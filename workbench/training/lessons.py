"""Fine-tuning live, in a lesson: a new linear classifier, on an encoder that is frozen or learns too."""

import copy
import csv
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Any, Generic, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset
from torch import Tensor, nn

from workbench.bert import Bert, Pooler
from workbench.checkpoint import data_folder
from workbench.encoder import MODEL_LOCK, SelfAttention
from workbench.training import loop
from workbench.training.text_learner import (
    IGNORED,
    TextBatches,
    TextLearner,
    pack_rows,
    predictions,
)
from workbench.vit import ViT

Model = TypeVar("Model", Bert, ViT)
Answers = Callable[[], tuple[Tensor, Tensor]]  # logits, (answers, classes), and targets, (answers,)
Labelled = tuple[str, str]  # a text and its class; or its words and as many classes, between spaces
# What a new linear map needs to get anywhere in few steps, and what a trained encoder can take.
RATES = {"frozen": 2e-2, "fine-tuned": 3e-4}
TOKENS = 192  # in a batch, padding counted
FEWEST = 8  # examples
LONGEST = 126  # word pieces of an example that are read


@dataclass
class FineTuned(Generic[Model]):
    """What a training in a lesson gave.

    `log` has a line for each look: "step", "loss", "accuracy", "held_out_loss" and "held_out_accuracy".
    `answers` are the held-out (text or picture, true class, class said), once the training is over; where
    words have classes each word is one.
    """

    model: Model
    labels: tuple[str, ...]
    log: list[loop.Figures] = field(default_factory=list)
    answers: list[tuple[Any, str, str]] = field(default_factory=list)

    @property
    def steps(self) -> int:
        """How many steps it took so far."""
        return int(self.log[-1]["step"])

    @property
    def confusion(self) -> Tensor:
        """Counts of the answers: (true class, class said)."""
        counts = torch.zeros(len(self.labels), len(self.labels), dtype=torch.long)
        for _, true, said in self.answers:
            counts[self.labels.index(true), self.labels.index(said)] += 1
        return counts


def read_labelled(name: str) -> list[Labelled]:
    """Examples that came with the workbench: "sentences_intents" (classes of sentences) or
    "tagged_sentences" (classes of words)."""
    table = data_folder() / f"{name}.csv"
    if table.exists():
        with table.open(newline="", encoding="utf-8") as file:
            return [(row["text"], row["label"]) for row in csv.DictReader(file)]
    with (data_folder() / f"{name}.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [(" ".join(row["tokens"]), " ".join(row["upos"])) for row in rows]


def label_names(examples: Sequence[Labelled], kind: str) -> tuple[str, ...]:
    """The classes, by the alphabet.

    Raises:
        ValueError: examples that nothing can be learned from; the sentence says why.
    """
    if len(examples) < FEWEST:
        raise ValueError(f"There are {len(examples)} examples; give at least {FEWEST} to learn from.")
    for number, (text, label) in enumerate(examples, 1):
        if not text.strip() or not label.strip():
            raise ValueError(f"Row {number} lacks its {'class' if text.strip() else 'text'}.")
        words, classes = len(text.split()), len(label.split())
        if kind == "word" and words != classes:
            raise ValueError(f"Row {number} has {words} words but {classes} classes: one for each is needed.")
    labels = sorted({name for _, label in examples for name in classes_of(label, kind)})
    if len(labels) < 2:
        raise ValueError(f"All examples are of one class, {labels[0]!r}: at least two are needed.")
    if len(labels) > 40:
        raise ValueError(f"There are {len(labels)} different classes; 40 are the most that fit here.")
    return tuple(labels)


def classes_of(label: str, kind: str) -> list[str]:
    """The classes that one label names: one for a sentence, one for each word."""
    return label.split() if kind == "word" else [label.strip()]


def split_by_class(classes: Sequence[str], share: int, seed: int = 0) -> tuple[list[int], list[int]]:
    """Numbers of the examples to learn from, and of those held out: one in `share` of each class, and at
    least one where there are two. `classes` has the class of each example."""
    groups: dict[str, list[int]] = {}
    for number, name in enumerate(classes):
        groups.setdefault(name, []).append(number)
    chosen = random.Random(seed)
    held_out: list[int] = []
    for numbers in groups.values():
        held_out += chosen.sample(numbers, max(len(numbers) // share, int(len(numbers) > 1)))
    return sorted(set(range(len(classes))) - set(held_out)), sorted(held_out)


def labelled_rows(examples: Sequence[Labelled], labels: Sequence[str], kind: str, bert: Bert) -> Dataset:
    """Examples as rows; a word's class is the target of its first word piece."""
    number = {label: index for index, label in enumerate(labels)}

    def row(text: str, label: str) -> tuple:
        words = text.split() if kind == "word" else text
        part = bert.tokenizer.backend.encode(words, is_pretokenized=kind == "word", add_special_tokens=False)
        if not part.ids:
            raise ValueError(f"The tokenizer can read no word of the example {text!r}.")
        ids, owners = part.ids[:LONGEST], part.word_ids[:LONGEST]
        if kind != "word":
            return (ids, owners), None, number[label.strip()]
        classes = label.split()
        target = np.full(len(ids), IGNORED)
        for index, owner in enumerate(owners):
            if index == 0 or owner != owners[index - 1]:
                target[index] = number[classes[owner]]
        return (ids, owners), None, target

    return pack_rows(bert.tokenizer, (row(*example) for example in examples))


def copy_without_heads(model: Model, frozen: bool) -> Model:
    """A copy of a BERT or a ViT for a new head; the original stays as it is."""
    shared = {id(model.heads): type(model.heads)()}
    if isinstance(model, Bert):
        shared[id(model.tokenizer)] = model.tokenizer
    with MODEL_LOCK:
        fresh = copy.deepcopy(model, shared)
    for parameter in fresh.parameters():
        parameter.data = parameter.data.float().contiguous()  # rows first, which training is faster with
        parameter.requires_grad_(not frozen)
    for module in fresh.modules():
        if isinstance(module, SelfAttention):
            module.dropout_prob = 0.0
        elif isinstance(module, nn.Dropout) and frozen:
            module.p = 0.0
    return fresh


def train_and_look(
    result: FineTuned,
    learner: loop.Learner,
    batch_at: Callable[..., loop.Batch],
    asked: Sequence[Any],
    seen: Answers,
    held_out: Answers,
    *,
    learning_rate: float,
    steps: int,
    looks: int,
    seed: int,
    watch: Callable[[FineTuned], None] | None,
    stop: Event | None,
) -> None:
    """`loop.train` in a lesson, which fills in `result`.

    Args:
        result: has the model.
        learner, batch_at, learning_rate, steps, seed: as the loop takes them.
        asked: what was held out, as `FineTuned.answers` has it.
        seen: answers to some of what is learned from, and to what those should be.
        held_out: the same for `asked`.
        looks: about how often it looks on the way; it does before the first step and after the last, too.
        watch: is called after each look, and at the end with `answers`; None prints a line for each look.
        stop: ends the training after the step at which it is set; what was learned is kept.
    """

    def look(step: int) -> None:
        line: loop.Figures = {"step": step}
        with MODEL_LOCK:
            learner.eval()
            for start, answers in (("", seen), ("held_out_", held_out)):
                logits, targets = answers()
                line[f"{start}loss"] = float(F.cross_entropy(logits, targets))
                line[f"{start}accuracy"] = float((logits.argmax(-1) == targets).float().mean())
        result.log.append(line)
        (watch or print_look)(result)

    def until_stopped(*step: int) -> loop.Batch:
        if stop is not None and stop.is_set():
            raise KeyboardInterrupt  # the loop keeps what was learned
        return batch_at(*step)

    settings = loop.Settings(
        learning_rate=learning_rate,
        steps=steps,
        warmup=max(1, steps // 10),
        seed=seed,
        log_every=max(1, steps // looks),
    )
    look(0)
    progress = loop.train(learner, until_stopped, settings, None, watch=lambda line: look(line["step"]))
    if progress.step % settings.log_every:
        look(progress.step)
    for parameter in learner.parameters():
        parameter.requires_grad_(True)  # as in every other model
    with MODEL_LOCK:
        logits, targets = held_out()
    for one, true, said in zip(asked, targets.tolist(), logits.argmax(-1).tolist(), strict=True):
        result.answers.append((one, result.labels[true], result.labels[said]))
    if watch is not None:
        watch(result)


def print_look(result: FineTuned) -> None:
    """Prints the last line of the log of a training."""
    look = result.log[-1]
    print(
        f"step {look['step']:>4}: loss {look['loss']:.3f}, of what is held out {look['held_out_loss']:.3f}; "
        f"{look['held_out_accuracy']:.0%} of it is right"
    )


def new_classifier(bert: Bert, head: str, kind: str, labels: Sequence[str], frozen: bool) -> Bert:
    """A copy of a BERT with one untrained head and no other."""
    fresh = copy_without_heads(bert, frozen)
    if kind == "sentence" and fresh.pooler is None:  # [CLS] as it is, but for the tanh
        fresh.pooler = Pooler(fresh.config).to(fresh.device)
        nn.init.eye_(fresh.pooler.dense.weight)
        nn.init.zeros_(fresh.pooler.dense.bias)
        fresh.pooler.requires_grad_(not frozen)
    fresh.add_head(head, kind, labels)
    return fresh


def fine_tune(
    bert: Bert,
    examples: Sequence[Labelled],
    *,
    kind: str = "sentence",
    head: str = "lesson",
    frozen: bool = False,
    steps: int = 45,
    looks: int = 10,
    seed: int = 0,
    watch: Callable[[FineTuned], None] | None = None,
    stop: Event | None = None,
) -> FineTuned[Bert]:
    """Trains a new linear classifier on a copy of a BERT (BERT, section 4).

    Args:
        examples: texts with their classes; for `kind` "word" the words with as many classes, both between
            spaces. One in five is held out.
        kind: "sentence" (one class, read from [CLS]) or "word" (one for each word).
        head: what the new head is called.
        frozen: the encoder stays as it is, and only the linear map learns.
        steps: how long; a step takes about 15 sentences.
        looks: how often the curves grow.
        watch, stop: as of `train_and_look`.

    Raises:
        ValueError: examples that nothing can be learned from.
    """
    if bert.tokenizer is None:
        raise ValueError(f"{bert.name} came without a tokenizer, so it cannot read text.")
    labels = label_names(examples, kind)
    classes = ["" if kind == "word" else label.strip() for _, label in examples]
    train, held_out = ([examples[n] for n in part] for part in split_by_class(classes, 5, seed))
    rows, held_out_rows = (labelled_rows(part, labels, kind, bert) for part in (train, held_out))
    asked = [text for text, _ in held_out]
    if kind == "word":  # those that have a target
        asked = [
            text.split()[word - 1]
            for text, row in zip(asked, held_out_rows, strict=True)
            for word, target in zip(row["words"], row["targets"], strict=True)
            if target != IGNORED
        ]
    drawn = np.random.default_rng(seed).permutation(len(rows))[: len(held_out)]
    with MODEL_LOCK:
        torch.manual_seed(seed)  # of the new head
    fresh = new_classifier(bert, head, kind, labels, frozen)

    def answers(rows: Dataset, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        logits, targets = zip(*predictions(fresh, head, rows, indices), strict=True)
        return torch.cat(logits), torch.cat(targets)

    result = FineTuned(fresh, labels)
    train_and_look(
        result,
        TextLearner(fresh),
        TextBatches(rows, bert.tokenizer, head, TOKENS, seed),
        asked,
        lambda: answers(rows, drawn),
        lambda: answers(held_out_rows, np.arange(len(held_out_rows))),
        learning_rate=RATES["frozen" if frozen else "fine-tuned"],
        steps=steps,
        looks=looks,
        seed=seed,
        watch=watch,
        stop=stop,
    )
    return result
