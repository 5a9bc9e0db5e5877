"""Fine-tuning live, in a lesson: a new linear layer, on an encoder that is frozen or learns too."""

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
from tokenizers import Encoding
from torch import Tensor, nn

from workbench.bert import Bert, Pooler
from workbench.checkpoint import data_folder
from workbench.checks import check_characters
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
Labelled = tuple[str, ...]  # the fields of a kind of example, see FIELDS
FIELDS = {
    "sentence": ("text", "class"),
    "word": ("text", "classes"),  # its words and as many classes, between spaces
    "pair": ("first text", "second text", "class"),
    "span": ("passage", "question", "answer"),  # the answer stands in the passage, there as it is first found
}
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
    words have classes each word is one. Of spans they are (question, true answer, answer), and there are no
    `labels`.
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
    """Examples that came with the workbench: "sentences_intents" (classes of sentences),
    "names" (of words), "pairs" (of pairs of sentences) or "questions" (answers in passages)."""
    table = data_folder() / f"{name}.csv"
    if table.exists():
        with table.open(newline="", encoding="utf-8") as file:
            return [(row["text"], row["label"]) for row in csv.DictReader(file)]
    with (data_folder() / f"{name}.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    if "answers" in rows[0]:  # in SQuAD's form
        return [(row["context"], row["question"], row["answers"]["text"][0]) for row in rows]
    return [tuple(" ".join(v) if isinstance(v, list) else v for v in row.values()) for row in rows]


def label_names(examples: Sequence[Labelled], kind: str) -> tuple[str, ...]:
    """The classes, by the alphabet; spans have none.

    Raises:
        ValueError: examples that nothing can be learned from; the sentence says why.
    """
    for number, example in enumerate(examples, 1):
        for part in example:
            check_characters(part, f"example {number}")
    if len(examples) < FEWEST:
        raise ValueError(f"There are {len(examples)} examples; give at least {FEWEST} to learn from.")
    for number, example in enumerate(examples, 1):
        if len(example) != len(FIELDS[kind]):
            raise ValueError(f"Row {number} has {len(example)} fields, not these: {', '.join(FIELDS[kind])}.")
        for name, value in zip(FIELDS[kind], example, strict=True):
            if not value.strip():
                raise ValueError(f"Row {number} lacks its {name}.")
        words, classes = len(example[0].split()), len(example[-1].split())
        if kind == "word" and words != classes:
            raise ValueError(f"Row {number} has {words} words but {classes} classes: one for each is needed.")
        if kind == "span" and example[-1].strip() not in example[0]:
            raise ValueError(f"Row {number}: the passage does not hold the answer {example[-1].strip()!r}.")
    if kind == "span":
        return ()
    labels = sorted({name for *_, label in examples for name in classes_of(label, kind)})
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


def split_examples(examples: Sequence[Labelled], kind: str, seed: int = 0) -> list[list[Labelled]]:
    """Examples to learn from, and those held out: one in five of each class. Of spans it is one passage in
    five with all its questions, so that no held-out passage was read before."""
    if kind == "span":
        passages = list(dict.fromkeys(passage for passage, *_ in examples))
        parts = split_by_class([""] * len(passages), 5, seed)
        return [[e for e in examples if passages.index(e[0]) in set(part)] for part in parts]
    classes = ["" if kind == "word" else label.strip() for *_, label in examples]
    return [[examples[number] for number in part] for part in split_by_class(classes, 5, seed)]


def labelled_rows(examples: Sequence[Labelled], labels: Sequence[str], kind: str, bert: Bert) -> Dataset:
    """Examples as rows, packed as BERT's section 4 has them: a word's class is the target of its first word
    piece; a question comes before its passage, and the target is where the answer starts and ends."""
    number = {label: index for index, label in enumerate(labels)}

    def pieces(text: str, room: int = LONGEST) -> Encoding:
        words = text.split() if kind == "word" else text
        part = bert.tokenizer.backend.encode(words, is_pretokenized=kind == "word", add_special_tokens=False)
        if not part.ids:
            raise ValueError(f"The tokenizer can read no word of the example {text!r}.")
        part.truncate(room)
        return part

    def row(*example: str) -> tuple:
        *texts, label = example
        if kind == "span":
            passage, question = pieces(texts[0], LONGEST * 3 // 4), pieces(texts[1], LONGEST // 4)
            start = texts[0].index(label.strip())
            end = start + len(label.strip())
            inside = [at for at, (left, right) in enumerate(passage.offsets) if left < end and start < right]
            if not inside or passage.offsets[inside[-1]][1] < end:
                raise ValueError(f"The answer {label!r} stands too far down in its passage: shorten it.")
            first = len(question.ids) + 2  # [CLS] question [SEP]
            return pair(question), pair(passage), (first + inside[0], first + inside[-1])
        if kind == "pair":
            first, second = (pair(pieces(text, LONGEST // 2)) for text in texts)
            return first, second, number[label.strip()]
        part = pieces(texts[0])
        if kind == "sentence":
            return pair(part), None, number[label.strip()]
        classes, owners = label.split(), part.word_ids
        target = np.full(len(part.ids), IGNORED)
        for index, owner in enumerate(owners):
            if index == 0 or owner != owners[index - 1]:
                target[index] = number[classes[owner]]
        return pair(part), None, target

    def pair(part: Encoding) -> tuple[list[int], list[int]]:
        return part.ids, part.word_ids

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
    read: Callable[..., str] | None = None,
    numbers: int = 1,
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
        read: an answer in words: `read(which, *numbers)`, where `which` counts those in `asked`; a label
            if not given.
        numbers: of an answer: 1 for a class, 2 for the start and the end of a span.
    """

    def look(step: int) -> None:
        line: loop.Figures = {"step": step}
        with MODEL_LOCK:
            learner.eval()
            for start, answers in (("", seen), ("held_out_", held_out)):
                logits, targets = answers()
                right = (logits.argmax(-1) == targets).view(-1, numbers).all(-1)
                line[f"{start}loss"] = float(F.cross_entropy(logits, targets))
                line[f"{start}accuracy"] = float(right.float().mean())
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
    read = read or (lambda _, number: result.labels[number])
    both = (each.view(-1, numbers).tolist() for each in (targets, logits.argmax(-1)))
    for which, (one, true, said) in enumerate(zip(asked, *both, strict=True)):
        result.answers.append((one, read(which, *true), read(which, *said)))
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
    kind = "sentence" if kind == "pair" else kind
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
    head: str = "",
    frozen: bool = False,
    steps: int = 45,
    looks: int = 10,
    seed: int = 0,
    watch: Callable[[FineTuned], None] | None = None,
    stop: Event | None = None,
) -> FineTuned[Bert]:
    """Trains a new linear layer on a copy of a BERT (BERT, section 4).

    Args:
        examples: each has the fields that `FIELDS` names. One in five is held out; of spans, one passage
            in five.
        kind: "sentence" or "pair" (a class, read from [CLS]), "word" (a class for each word) or "span" (where
            the answer to a question starts and ends).
        head: what the new head is called; "lesson" if not given, and of spans "span", which
            `answer_question` asks.
        frozen: the encoder stays as it is, and only the linear map learns.
        steps: how long; a step takes about 15 sentences.
        looks: how often the curves grow.
        watch, stop: as of `train_and_look`.

    Raises:
        ValueError: examples that nothing can be learned from.
    """
    if bert.tokenizer is None:
        raise ValueError(f"{bert.name} came without a tokenizer, so it cannot read text.")
    labels, head = label_names(examples, kind), head or ("span" if kind == "span" else "lesson")
    train, held_out = split_examples(examples, kind, seed)
    rows, held_out_rows = (labelled_rows(part, labels, kind, bert) for part in (train, held_out))
    asked = [" / ".join(texts) for *texts, _ in held_out]
    if kind == "span":
        asked = [question for _, question, _ in held_out]
    elif kind == "word":  # those that have a target
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
        widest = max(part.shape[1] for part in logits)  # of spans, whose classes are the tokens
        logits = [F.pad(part, (0, widest - part.shape[1]), value=-1e9) for part in logits]
        return torch.cat(logits), torch.cat([target.flatten() for target in targets])

    def read_span(which: int, start: int, end: int) -> str:
        passage, first = held_out[which][0], held_out_rows[which]["token_type_ids"].index(1)
        offsets = bert.tokenizer.backend.encode(passage, add_special_tokens=False).offsets
        places = offsets[start - first : end - first + 1] if first <= start <= end else []
        return passage[places[0][0] : places[-1][1]] if places else "(no place in the passage)"

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
        read=read_span if kind == "span" else None,
        numbers=2 if kind == "span" else 1,
    )
    return result
