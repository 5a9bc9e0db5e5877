"""Fine-tuning live, in a lesson: a new linear layer, on an encoder that is frozen or learns too."""

import copy
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from threading import Event
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from datasets import Dataset
from PIL import Image
from tokenizers import Encoding
from torch import Tensor, nn

from workbench.bert import Bert, Pooler
from workbench.checkpoint import data_folder
from workbench.checks import check_characters, check_model, check_ready, check_rows, check_whole, counted
from workbench.encoder import MODEL_LOCK, SelfAttention
from workbench.image import as_seen, load_image, normalize, prepare_image
from workbench.training import loop
from workbench.training.picture_learner import DRAWS, PictureLearner, new_head, points
from workbench.training.text_learner import (
    IGNORED,
    INPUTS,
    Pieces,
    TextBatches,
    TextLearner,
    head_batch,
    head_batches,
    pack_rows,
)
from workbench.training.toy_pictures import SHAPES, draw_pictures
from workbench.vit import ViT

Model = TypeVar("Model", Bert, ViT)
Example = tuple[Any, ...]  # a text, or more than one, or a picture, and what is to be learned; see FIELDS
FIELDS = {
    "sentence": ("text", "class"),
    "word": ("text", "classes"),  # its words and as many classes, between spaces
    "pair": ("first text", "second text", "class"),
    "span": ("passage", "question", "answer"),  # the answer stands in the passage, there as it is first found
    "picture": ("picture", "class"),
}
# What a new linear map needs to get anywhere in few steps, and what a trained encoder can take.
# By whether these are pictures, and whether the encoder is frozen.
RATES = {(False, True): 2e-2, (False, False): 3e-4, (True, True): 1e-2, (True, False): 4e-4}
TOKENS = 192  # in a batch of texts, padding counted
PICTURES = 16  # in a batch
FEWEST = 8  # texts
FEWEST_PICTURES = 3  # of each class: two to learn from, one held out
LONGEST = 128  # tokens of an example that are read
ROOM = {"sentence": [1], "word": [1], "pair": [0.5, 0.5], "span": [0.75, 0.25]}  # shares of it, by text


@dataclass
class FineTuned(Generic[Model]):
    """What a training in a lesson gave.

    `log` has a line for each look: "step", "loss", "accuracy", "held_out_loss" and "held_out_accuracy"; and
    `vectors` what the new layer read of what was held out, (answers, hidden), whose right classes are
    `targets`; there are none of spans.
    `answers` are the held-out (text or picture, true class, class said), once the training is over; where
    words have classes each word is one. Of spans they are (question, true answer, answer), and there are no
    `labels`.
    """

    model: Model
    labels: tuple[str, ...]
    log: list[loop.Figures] = field(default_factory=list)
    vectors: list[Tensor] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    answers: list[tuple[Any, str, str]] = field(default_factory=list)

    @property
    def steps(self) -> int:
        """How many steps it took so far."""
        return int(self.log[-1]["step"])

    @property
    def confusion(self) -> Tensor:
        """Counts of the answers: (true class, class said). `ValueError` for spans, which have no classes."""
        if not self.labels:
            raise ValueError("Answers in passages have no classes to count: look at `answers`.")
        counts = torch.zeros(len(self.labels), len(self.labels), dtype=torch.long)
        for _, true, said in self.answers:
            counts[self.labels.index(true), self.labels.index(said)] += 1
        return counts


class Exercise(NamedTuple):
    """What is trained, on what, and how what it says is read.

    `seen` and `held_out` are batches of some of what is learned from, and of what is held out; `asked` is the
    latter as `FineTuned.answers` has it, and `read(which, answer)` puts an answer to it in words.
    """

    result: FineTuned  # the model, with a new layer, and its labels
    learner: loop.Learner
    batch_at: Callable[..., loop.Batch]
    seen: Sequence[loop.Batch]
    held_out: Sequence[loop.Batch]
    asked: Sequence[Any]
    read: Callable[[int, Any], str]


# --- examples ------------------------------------------------------------------------------------


def read_labelled(name: str) -> list[Example]:
    """Examples that came with the workbench: "sentences_intents" (classes of sentences),
    "names" (of words), "pairs" (of pairs of sentences) or "questions" (answers in passages)."""
    with (data_folder() / f"{name}.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    if "answers" in rows[0]:  # in SQuAD's form
        return [(row["context"], row["question"], row["answers"]["text"][0]) for row in rows]
    return [tuple(" ".join(v) if isinstance(v, list) else v for v in row.values()) for row in rows]


def read_folders(folder: str | Path) -> list[Example]:
    """Pictures in folders that are named after their classes; `ValueError` if there are none."""
    kinds = Image.registered_extensions()
    files = [file for file in sorted(Path(folder).rglob("*")) if file.suffix.lower() in kinds]
    found = [file for file in files if file.parent != Path(folder) and not file.name.startswith(".")]
    if not found:
        raise ValueError(f"{folder} holds no pictures in folders named after their classes.")
    return [(load_image(file), file.parent.name) for file in found]


def draw_shapes(count: int = 48, seed: int = 0, side: int = 96) -> list[Example]:
    """Pictures of squares and of crosses, drawn by code, in turn; colours and textures tell nothing."""
    shapes = np.resize([SHAPES.index("square"), SHAPES.index("cross")], count)
    pixels, _ = draw_pictures(count, seed, side, shapes)
    pictures = pixels.permute(0, 2, 3, 1).numpy()
    return [(Image.fromarray(part), SHAPES[shape]) for part, shape in zip(pictures, shapes, strict=True)]


# --- what is learned from ------------------------------------------------------------------------


def label_names(examples: Sequence[Example], kind: str) -> tuple[str, ...]:
    """The classes, by the alphabet; spans have none.

    Raises:
        ValueError: examples that nothing can be learned from; the sentence says why.
    """
    for number, example in enumerate(examples, 1):
        for part in example:
            check_characters(part, f"example {number}")
        for name, value in zip(FIELDS[kind], example, strict=True):
            if not value.strip():
                raise ValueError(f"Row {number} lacks its {name}.")
        words, classes = len(example[0].split()), len(example[-1].split())
        if kind == "word" and words != classes:
            told = f"{counted(words, 'word')} but {counted(classes, 'class')}"
            raise ValueError(f"Row {number} has {told}: one for each is needed.")
        if kind == "span" and example[-1].strip() not in example[0]:
            raise ValueError(f"Row {number}: the passage does not hold the answer {example[-1].strip()!r}.")
    if len(examples) < FEWEST:
        raise ValueError(
            f"With {counted(len(examples), 'example')} nothing is learned: give at least {FEWEST}."
        )
    if kind == "span":
        return ()
    split = str.split if kind == "word" else lambda label: [label.strip()]
    labels = sorted({name for *_, label in examples for name in split(label)})
    if len(labels) < 2:
        raise ValueError(f"All examples are of one class, {labels[0]!r}: at least two are needed.")
    if len(labels) > 40:
        raise ValueError(f"There are {len(labels)} different classes; 40 are the most that fit here.")
    return tuple(labels)


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


def split_examples(examples: Sequence[Example], kind: str, seed: int = 0) -> list[list[Example]]:
    """Examples to learn from, and those held out: one in five of each class. Of spans it is one passage in
    five with all its questions, so that no held-out passage was read before."""
    if kind == "span":
        passages = list(dict.fromkeys(passage for passage, *_ in examples))
        parts = split_by_class([""] * len(passages), 5, seed)
        chosen = [{passages[number] for number in part} for part in parts]
        return [[example for example in examples if example[0] in part] for part in chosen]
    classes = ["" if kind == "word" else label.strip() for *_, label in examples]
    return [[examples[number] for number in part] for part in split_by_class(classes, 5, seed)]


def labelled_rows(examples: Sequence[Example], labels: Sequence[str], kind: str, bert: Bert) -> Dataset:
    """Examples as rows, packed as BERT's section 4 has them: a word's class is the target of its first word
    piece; a question comes before its passage, and the target is where the answer starts and ends."""
    room = min(LONGEST, bert.config.max_position_embeddings) - 3  # [CLS], [SEP] and another [SEP]

    def pieces(text: str, share: float) -> Encoding:
        words = text.split() if kind == "word" else text
        part = bert.tokenizer.backend.encode(words, is_pretokenized=kind == "word", add_special_tokens=False)
        if not part.ids:
            raise ValueError(f"The tokenizer can read no word of the example {text!r}.")
        part.truncate(int(room * share))
        return part

    def row(example: Example) -> tuple[Pieces, Pieces | None, Any]:
        *texts, label = example
        part, *second = map(pieces, texts, ROOM[kind])
        if kind == "word":
            classes = label.split()
            new = [at == 0 or part.word_ids[at - 1] != word for at, word in enumerate(part.word_ids)]
            target = np.where(new, [labels.index(classes[word]) for word in part.word_ids], IGNORED)
        elif kind == "span":
            start = texts[0].index(label.strip())
            end = start + len(label.strip())
            inside = [at for at, (left, right) in enumerate(part.offsets) if left < end and start < right]
            if not inside or part.offsets[inside[-1]][1] < end:
                raise ValueError(f"The answer {label!r} stands too far down in its passage: shorten it.")
            part, second = second[0], [part]
            before = len(part) + 2  # [CLS] question [SEP]
            target = before + inside[0], before + inside[-1]
        else:
            target = labels.index(label.strip())
        first, *second = ((each.ids, each.word_ids) for each in (part, *second))
        return first, second[0] if second else None, target

    return pack_rows(bert.tokenizer, map(row, examples))


def copy_without_heads(model: Model, frozen: bool) -> Model:
    """A copy of a BERT or a ViT for a new head; the original stays as it is."""
    tokenizer = getattr(model, "tokenizer", None)  # a ViT has none
    shared = {id(model.heads): type(model.heads)(), id(tokenizer): tokenizer}
    with MODEL_LOCK:
        fresh = copy.deepcopy(model, shared)
    for parameter in fresh.parameters():
        parameter.data = parameter.data.float()
        parameter.requires_grad_(not frozen)
    for module in fresh.modules():
        if isinstance(module, SelfAttention):
            module.dropout_prob = 0.0
        elif isinstance(module, nn.Dropout) and frozen:
            module.p = 0.0
    return fresh


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


def text_exercise(bert: Bert, examples: Sequence[Example], kind: str, frozen: bool, seed: int) -> Exercise:
    """Texts to learn from, for a new head on a copy of a BERT; see `fine_tune`."""
    check_ready(bert)
    labels, head = label_names(examples, kind), "span" if kind == "span" else "lesson"
    train, held_out = split_examples(examples, kind, seed)
    rows, held_out_rows = (labelled_rows(part, labels, kind, bert) for part in (train, held_out))
    if not held_out:
        least = {"span": "two passages", "word": "two sentences"}.get(kind, "two examples of a class")
        raise ValueError(f"Nothing can be held out to be asked at the end: give at least {least}.")
    if kind == "span":
        asked = [question for _, question, _ in held_out]
    elif kind == "word":  # those that have a target
        asked = [
            text.split()[word - 1]
            for (text, _), row in zip(held_out, held_out_rows, strict=True)
            for word, target in zip(row["words"], row["targets"], strict=True)
            if target != IGNORED
        ]
    else:
        asked = [" / ".join(texts) for *texts, _ in held_out]
    drawn = np.random.default_rng(seed).permutation(len(rows))[: len(held_out)]
    with MODEL_LOCK:
        torch.manual_seed(seed)  # of the new head
    fresh = new_classifier(bert, head, kind, labels, frozen)

    def read(which: int, answer: Any) -> str:
        if kind != "span":
            return labels[answer]
        (start, end), first = answer, held_out_rows[which]["token_type_ids"].index(1)
        passage = held_out[which][0]
        offsets = bert.tokenizer.backend.encode(passage, add_special_tokens=False).offsets
        places = offsets[start - first : end - first + 1] if first <= start <= end else []
        return passage[places[0][0] : places[-1][1]] if places else "(no place in the passage)"

    def with_states(batch: loop.Batch) -> loop.Batch:
        """What a frozen encoder makes of a batch, too: it is always the same."""
        if frozen:
            batch["states"] = fresh(*(batch[name].to(fresh.device) for name in INPUTS))[-1]
        return batch

    batches, everything = TextBatches(rows, bert.tokenizer, head, TOKENS, seed), np.arange(len(held_out_rows))

    @cache
    def batch_of(*numbers: int) -> loop.Batch:  # the same ones in every epoch
        return with_states(head_batch(rows, np.array(numbers), bert.tokenizer, head))

    return Exercise(
        FineTuned(fresh, labels),
        TextLearner(fresh),
        lambda step, *_: batch_of(*batches.rows_at(step)),
        [*map(with_states, head_batches(rows, drawn, bert.tokenizer, head))],
        [*map(with_states, head_batches(held_out_rows, everything, bert.tokenizer, head))],
        asked,
        read,
    )


def picture_exercise(vit: ViT, pictures: Sequence[Example], frozen: bool, seed: int) -> Exercise:
    """Pictures to learn from, for a new head on a copy of a ViT; see `fine_tune`."""
    check_ready(vit)
    classes = [label for _, label in pictures]
    labels = tuple(sorted(set(classes)))
    if len(labels) < 2:
        raise ValueError(f"There is {len(labels) or 'no'} class in these pictures: at least two are needed.")
    small = min(labels, key=classes.count)
    if classes.count(small) < FEWEST_PICTURES:
        raise ValueError(
            f"The class {small!r} has {counted(classes.count(small), 'picture')}; "
            f"give each at least {FEWEST_PICTURES}."
        )
    train, held_out = split_by_class(classes, 4, seed)
    seen = np.random.default_rng(seed).permutation(train)[: 2 * PICTURES]  # of all classes
    targets = torch.tensor([labels.index(label) for label in classes])
    images = [load_image(image) for image, _ in pictures]
    shown = [as_seen(prepare_image(image, vit.preprocessing), vit.preprocessing) for image in images]
    pixels = torch.from_numpy(np.stack(shown)).permute(0, 3, 1, 2)[:, : vit.config.num_channels]
    fresh = new_head(copy_without_heads(vit, frozen), labels)
    fresh.name = f"{vit.name} with a new head"

    def batch_of(rows: Tensor) -> loop.Batch:
        return {"pixels": pixels[rows], "targets": targets[rows]}

    def batch_at(step: int, *_: int) -> loop.Batch:
        drawn = np.random.default_rng((seed, step))
        batch = batch_of(torch.from_numpy(drawn.choice(train, PICTURES)))
        draws = torch.from_numpy(drawn.random((PICTURES, DRAWS), dtype=np.float32))
        return batch | {"draws": draws, "points": points(*vit.preprocessing.size)}

    def batches(numbers: list[int]) -> Iterator[loop.Batch]:
        """With what a frozen encoder makes of them: it is always the same."""
        for rows in torch.tensor(numbers).split(PICTURES):
            batch = batch_of(rows)
            if frozen:
                batch["states"] = fresh(normalize(batch["pixels"].to(fresh.device), vit.preprocessing))[-1]
            yield batch

    return Exercise(
        FineTuned(fresh, labels),
        PictureLearner(fresh),
        batch_at,
        [*batches(seen.tolist())],
        [*batches(held_out)],
        [images[number] for number in held_out],
        lambda _, answer: labels[answer],
    )


# --- training ------------------------------------------------------------------------------------


def fine_tune(
    model: Model,
    examples: Sequence[Example],
    *,
    kind: str = "sentence",
    frozen: bool = False,
    steps: int = 45,
    looks: int = 6,
    seed: int = 0,
    watch: Callable[[FineTuned], None] | None = None,
    stop: Event | None = None,
) -> FineTuned[Model]:
    """Trains a new linear layer on a copy of a BERT (BERT, section 4) or of a ViT (ViT, section 3.2).

    That of a BERT is called "lesson", or, of spans, "span", which `answer_question` asks.

    Args:
        model: stays as it is.
        examples: each has the fields that `FIELDS` names. One in five is held out; of spans, one passage
            in five; of pictures, one in four.
        kind: "sentence" or "pair" (a class, read from [CLS]), "word" (a class for each word), "span" (where
            the answer to a question starts and ends) or "picture".
        frozen: the encoder stays as it is, and only the linear map learns.
        steps: how long; a step takes about 15 sentences, or 16 pictures.
        looks: about how often it looks on the way; it does before the first step and after the last, too.
        seed: of the new layer, of what is held out, and of the order.
        watch: is called after each look, and at the end with `answers`; None prints a line for each look.
        stop: ends the training after the step at which it is set; what was learned is kept.

    Raises:
        ValueError: examples that nothing can be learned from; the sentence says why.
        TypeError: a model that does not read such examples, or steps that are no whole number.
    """
    if kind not in FIELDS:
        raise ValueError(f"kind is one of {', '.join(FIELDS)}, not {kind!r}.")
    check_model(model, ViT if kind == "picture" else Bert)
    check_whole("looks", looks)
    check_whole("steps", steps)
    settings = loop.Settings(
        learning_rate=RATES[kind == "picture", frozen],
        steps=steps,
        warmup=max(1, steps // 10),
        seed=seed,
        log_every=max(1, steps // looks),
    )
    check_rows(examples, FIELDS[kind])
    if kind == "picture":
        exercise = picture_exercise(model, examples, frozen, seed)
    else:
        exercise = text_exercise(model, examples, kind, frozen, seed)
    result, learner = exercise.result, exercise.learner
    last: tuple[list, list] = [], []  # of what is held out: what is right, and what is said

    def look(step: int) -> None:
        nonlocal last
        line: loop.Figures = {"step": step}
        read: list[Tensor] = []
        new_layer = next(result.model.heads.children())
        hook = new_layer.register_forward_pre_hook(lambda _, vectors: read.append(vectors[0]))
        with MODEL_LOCK:
            learner.eval()
            for start, batches in (("", exercise.seen), ("held_out_", exercise.held_out)):
                read.clear()
                line[f"{start}loss"], said, right = loop.score(learner, batches)
                if kind == "span":  # start and end
                    said, right = said.view(-1, 2), right.view(-1, 2)
                hits = (said == right).view(len(said), -1).all(-1)
                line[f"{start}accuracy"] = float(hits.float().mean())
        hook.remove()
        last = right.tolist(), said.tolist()
        if kind != "span":
            result.vectors.append(torch.cat(read).float().cpu())
            result.targets = last[0]
        result.log.append(line)
        (watch or print_look)(result)

    def until_stopped(*step: int) -> loop.Batch:
        if stop is not None and stop.is_set():
            raise KeyboardInterrupt  # the loop keeps what was learned
        return exercise.batch_at(*step)

    look(0)
    progress = loop.train(learner, until_stopped, settings, None, watch=lambda line: look(line["step"]))
    if progress.step > result.steps:
        look(progress.step)
    for parameter in learner.parameters():
        parameter.requires_grad_(True)  # as in every other model
    for which, (one, true, said) in enumerate(zip(exercise.asked, *last, strict=True)):
        result.answers.append((one, exercise.read(which, true), exercise.read(which, said)))
    if watch is not None:
        watch(result)
    return result


def print_look(result: FineTuned) -> None:
    """Prints the last line of the log of a training."""
    look = result.log[-1]
    print(
        f"step {look['step']:>4}: loss {look['loss']:.3f}, of what is held out {look['held_out_loss']:.3f}; "
        f"{look['held_out_accuracy']:.1%} of it is right"
    )
