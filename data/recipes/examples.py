"""Sets of texts and of examples with answers, and what is made of them: rows for training and scoring.

Which head a set is for is told by its columns.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import datasets
import numpy as np
from common import load_set

from workbench.text import Tokenizer
from workbench.training.text_learner import IGNORED, Pieces, encode_texts, pack_rows, split_documents

NLI_LABELS = ("entailment", "neutral", "contradiction")
SENTIMENT_LABELS = ("negative", "positive")
UPOS = "ADJ ADP ADV AUX CCONJ DET INTJ NOUN NUM PART PRON PROPN PUNCT SCONJ SYM VERB X"
UPOS_LABELS = tuple(UPOS.split())
COLUMNS = {  # columns that a set of a kind has; the first that fits
    "span": {"question", "context", "answers"},
    "nli": {"premise", "hypothesis", "label"},
    "pos": {"tokens", "upos"},
    "sentiment": {"text", "label"},
    "documents": {"text"},
    "twins": {"answerable", "edits"},
}

Example = dict  # with the columns above


# --- sets --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TextSet:
    """Documents, or examples for a head: `kind` is one of `COLUMNS`, "train" the split to learn from, and
    all others are scored."""

    name: str
    kind: str
    splits: dict[str, list]


def read_sets(sources: Sequence[str]) -> list[TextSet]:
    """Reads sets whose columns say what they are for; others are left out.

    Args:
        sources: folders with a file SPLIT.jsonl for each split, folders of such folders (what convert_kit.py
            writes), or names of Hub sets.

    Raises:
        ValueError: a source that is none of these.
    """
    sets = []
    for folder in map(Path, sources):
        files: dict[str, dict[str, str]] = defaultdict(dict)  # by the name of the set, and the split
        for file in sorted([*folder.glob("*.jsonl"), *folder.glob("*/*.jsonl")]):
            files[file.parent.name][file.stem] = str(file)
        if folder.is_dir() and not files:
            raise ValueError(f"{folder} holds no set: there is no file such as train.jsonl.")
        loaded = {name: datasets.load_dataset("json", data_files=each) for name, each in files.items()}
        for name, tables in (loaded or {folder.name: load_set(str(folder))}).items():
            columns = set(next(iter(tables.values())).column_names)
            kind = next((kind for kind, wanted in COLUMNS.items() if wanted <= columns), None)
            if kind == "documents":
                splits = {split: list(table["text"]) for split, table in tables.items()}
                if set(splits) == {"train"}:
                    splits["train"], splits["validation"] = split_documents(splits["train"])
                sets.append(TextSet(name, kind, splits))
            elif kind:
                sets.append(TextSet(name, kind, {split: table.to_list() for split, table in tables.items()}))
    return sets


# --- documents as rows -------------------------------------------------------------------------


def _paragraphs(documents: Iterable[str]) -> Iterator[str]:
    """Paragraphs, without titles; very short ones together with the next of their document."""
    for document in documents:
        waiting = ""
        for line in document.strip().split("\n"):
            if line.startswith("# "):
                continue
            waiting = f"{waiting} {line}".strip()
            if len(waiting) >= 80:
                yield waiting
                waiting = ""
        if waiting:
            yield waiting


def masked_word_rows(documents: Iterable[str], tokenizer: Tokenizer, length: int = 126) -> datasets.Dataset:
    """A row for each paragraph; longer ones are cut into rows of `length` word pieces."""

    def cut() -> Iterator[tuple[Pieces, None, int]]:
        for part in encode_texts(list(_paragraphs(documents)), tokenizer):
            for start in range(0, len(part.ids), length):
                ids, words = part.ids[start : start + length], part.word_ids[start : start + length]
                if len(ids) >= 6:  # shorter ones hold too little to guess from
                    yield (ids, np.array(words) - words[0]), None, IGNORED

    return pack_rows(tokenizer, cut())


# --- examples as rows --------------------------------------------------------------------------


def _label(value: str | int, labels: tuple[str, ...]) -> int:
    return labels.index(value) if isinstance(value, str) else int(value)


def class_rows(
    examples: Sequence[Example], tokenizer: Tokenizer, columns: Sequence[str], labels: tuple[str, ...]
) -> datasets.Dataset:
    """The texts of one or two columns, 126 word pieces of each, with a class; unlabelled ones (-1) are left
    out."""
    examples = [row for row in examples if row["label"] != -1]
    encoded = [encode_texts([row[column] for row in examples], tokenizer) for column in columns]

    def rows() -> Iterator[tuple]:
        for row, *parts in zip(examples, *encoded, strict=True):
            first, *second = [(part.ids[:126], part.word_ids[:126]) for part in parts]
            yield first, second[0] if second else None, _label(row["label"], labels)

    return pack_rows(tokenizer, rows())


# Sentences with a class, for "sentiment".
sentence_rows = partial(class_rows, columns=("text",), labels=SENTIMENT_LABELS)


def pair_rows(
    examples: Sequence[Example], tokenizer: Tokenizer, *, unrelated: float = 0.0, seed: int = 0
) -> datasets.Dataset:
    """Premise and hypothesis with a class, for "nli".

    Args:
        unrelated: so many pairs more, as a share: a hypothesis with the premise of another row, "neutral".
            Sets made by asking for contradictions have no pairs about different things.
        seed: of the choices.
    """
    random = np.random.default_rng(seed)
    more = []
    for row in examples:
        other = examples[int(random.integers(len(examples)))]
        is_other = other["premise"] != row["premise"] and other["hypothesis"] != row["hypothesis"]
        if random.random() < unrelated and is_other:
            more.append(row | {"premise": other["premise"], "label": "neutral"})
    return class_rows([*examples, *more], tokenizer, ("premise", "hypothesis"), NLI_LABELS)


def join_words(words: list[str]) -> tuple[str, list[tuple[int, int]]]:
    """Words as a text, "n't" and "'s" joined to the word before; and (start, end) of each word in it."""
    text, spans = "", []
    for word in words:
        joined = word.lower() == "n't" or (word[:1] in "'\u2019" and len(word) > 1)
        text += "" if joined or not text else " "
        spans.append((len(text), len(text) + len(word)))
        text += word
    return text, spans


def word_rows(
    examples: Sequence[Example], tokenizer: Tokenizer, every_word: bool = False
) -> datasets.Dataset:
    """Words with a class, for "pos".

    Args:
        every_word: BERT cuts "e-mail" and "don't" into more words than the table has: each of them gets a
            class, for training; or only the first of each word of the table, which is how it is scored.
    """
    texts = [join_words(row["tokens"]) for row in examples]

    def rows() -> Iterator[tuple]:
        parts = encode_texts([text for text, _ in texts], tokenizer)
        for part, (_, spans), example in zip(parts, texts, examples, strict=True):
            if not part.ids or len(part.ids) > 254:
                continue
            target, words = np.full(len(part.ids), IGNORED), [None, *part.word_ids]
            firsts = [i for i in range(len(part.ids)) if words[i] != words[i + 1]]  # pieces of BERT's words
            for (start, end), tag in zip(spans, example["upos"], strict=True):
                inside = [i for i in firsts if start <= part.offsets[i][0] < end]
                target[inside if every_word else inside[:1]] = _label(tag, UPOS_LABELS)
            yield (part.ids, part.word_ids), None, target

    return pack_rows(tokenizer, rows())


def plain_words(text: str) -> list[str]:
    """Words in lower case, without punctuation around them."""
    return [word.strip('?.,"') for word in text.lower().split()]


def exchange_words(
    examples: Iterable[Example], twins: Iterable[Example], share: float, seed: int = 0
) -> list[Example]:
    """Questions with a word exchanged, so that their passage answers them no more: "was" for "wasn't",
    "first" for "last", one name for another. Now and then the new question is answered all the same.

    Args:
        examples: what to take questions from, with their answers.
        twins: pairs of questions of SQuAD 2.0 (arXiv:1806.03822, table 1), the second of which people made
            from the first: what they exchanged for what, and how often they did so where a word stands,
            is what is drawn from.
        share: of the questions that have a word exchanged.
        seed: of the choices.
    """
    random = np.random.default_rng(seed)
    common: Counter[str] = Counter()
    others: dict[str, list[str]] = defaultdict(list)
    for row in twins:
        common.update(set(plain_words(row["answerable"])))
        (old, new), *more = [[" ".join(plain_words(part)) for part in edit] for edit in row["edits"]]
        if not more and new and old and " " not in old:
            others[old].append(new)
    rates = {word: len(news) / max(1, common[word]) for word, news in others.items()}
    made = []
    for row in examples:
        if random.random() >= share or not row["answers"]["text"]:
            continue
        words = plain_words(row["question"])
        # What is seldom exchanged, such as "the", changes nothing.
        chances = np.array([rate if (rate := rates.get(word, 0)) > 0.02 else 0 for word in words])
        if not chances.any():
            continue
        place = int(random.choice(len(words), p=chances / chances.sum()))
        news = others[words[place]]
        words[place] = news[int(random.integers(len(news)))]
        if words[place] not in row["answers"]["text"][0].lower():
            question, none = " ".join(words) + "?", {"text": [], "answer_start": []}
            made.append(row | {"question": question, "answers": none})
    return made


def span_rows(
    examples: Sequence[Example],
    tokenizer: Tokenizer,
    *,
    unanswerable: float = 0.0,
    longest: int = 256,
    seed: int = 0,
) -> datasets.Dataset:
    """Questions with passages; the target is the first and the last piece of the answer, or twice [CLS].

    Args:
        unanswerable: so many questions more, as a share, are put to another passage of the same article
            that does not hold the answer (BERT, section 4.3).
        longest: most word pieces of a row; of a longer passage a stretch around the answer is used.
        seed: of the choices.
    """
    random = np.random.default_rng(seed)
    titles = {row["context"]: row.get("title", "") for row in examples}
    passages = dict(zip(titles, encode_texts(list(titles), tokenizer), strict=True))
    by_title: dict[str, list[str]] = defaultdict(list)
    for context, title in titles.items():
        by_title[title].append(context)

    def packed(asked: tuple, passage: object, first: int, last: int) -> tuple:
        room = longest - 3 - len(asked[0])
        high = max(0, min(first, len(passage.ids) - room))  # of where a stretch with the answer may start
        start = int(random.integers(min(high, max(0, last + 1 - room)), high + 1))
        ids = passage.ids[start : start + room]
        words = np.array(passage.word_ids[start : start + room])
        shift = len(asked[0]) + 2 - start
        target = (first + shift, min(last, start + len(ids) - 1) + shift) if last >= 0 else (0, 0)
        return asked, (ids, words - words[0]), target

    def rows() -> Iterator[tuple]:
        asked_parts = encode_texts([row["question"] for row in examples], tokenizer)
        for row, part in zip(examples, asked_parts, strict=True):
            asked = part.ids[:60], part.word_ids[:60]
            passage, answers = passages[row["context"]], row["answers"]
            if not passage.ids or not asked[0]:
                continue
            if not answers["text"]:
                yield packed(asked, passage, len(passage.ids), -1)
                continue
            start = answers["answer_start"][0]
            end = start + len(answers["text"][0])
            inside = [i for i, (a, b) in enumerate(passage.offsets) if a < end and start < b]
            if not inside:
                continue
            yield packed(asked, passage, inside[0], inside[-1])
            others = by_title[titles[row["context"]]]
            other = others[int(random.integers(len(others)))]
            if random.random() < unanswerable and not any(
                answer.lower() in other.lower() for answer in answers["text"]
            ):
                yield packed(asked, passages[other], len(passages[other].ids), -1)

    return pack_rows(tokenizer, rows())


# What makes the rows for a head out of the examples of its kind.
MAKERS = {"span": span_rows, "nli": pair_rows, "sentiment": sentence_rows, "pos": word_rows}
