"""Texts for training: read through `datasets`, split by document, cut into rows of word pieces."""

import hashlib
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tokenizers
import torch
from torch import Tensor
from tqdm.auto import tqdm

from workbench.text import Tokenizer

IGNORED = -100  # a target that says nothing, as in PyTorch's cross entropy
SENTENCE_END = re.compile(r"(?:(?<=[.!?])|(?<=[.!?][\"')\]]))\s+(?=[\"'(\[]?[A-Z0-9])")
TEXT_FILES = ("*.txt", "*.txt.xz", "*.txt.gz")


def read_documents(source: str | Path) -> dict[str, list[str]]:
    """Documents by the name of the file that they come from.

    Args:
        source: a folder with text files (also .xz and .gz; also in its subfolder text/), a blank line
            between documents, a paragraph a line; or the name of a Hub set with a column "text".

    Raises:
        ValueError: nothing to read there.
    """
    import datasets  # slow to import, and only needed here

    folder = Path(source)
    if not folder.exists():
        try:
            return {str(source): datasets.load_dataset(str(source), split="train")["text"]}
        except Exception as error:  # offline shows itself in many kinds of errors
            raise ValueError(f"{source} is neither a folder nor a Hub set with a column 'text'.") from error
    folder = folder / "text" if (folder / "text").is_dir() else folder
    files = sorted(file for pattern in TEXT_FILES for file in folder.glob(pattern))
    if not files:
        raise ValueError(f"{folder} holds no text files ({', '.join(TEXT_FILES)}).")
    documents = {}
    for file in files:
        table = datasets.load_dataset("text", data_files=str(file), sample_by="paragraph", split="train")
        documents[file.name.split(".")[0]] = [text.replace('""', "") for text in table["text"]]
    return documents


def held_out(document: str) -> bool:
    """Whether a document is kept from training: one in fifty, by a hash of its first line (its title)."""
    title = document.strip().split("\n", 1)[0]
    return int(hashlib.sha256(title.encode()).hexdigest(), 16) % 50 == 0


def split_documents(documents: Iterable[str]) -> tuple[list[str], list[str]]:
    """Documents to train on, and documents to score with; see `held_out`."""
    train: list[str] = []
    score: list[str] = []
    for document in documents:
        (score if held_out(document) else train).append(document)
    return train, score


@dataclass(frozen=True)
class Rows:
    """Packed inputs, [CLS] first [SEP] or [CLS] first [SEP] second [SEP], and what is to be said of them.

    `ids`, `words` (numbers the words along each row from 1; 0 is a special token) and `segments` are
    flat; row i is `ids[starts[i] : starts[i] + lengths[i]]`. `targets` are flat too for classes of words
    (`IGNORED` where there is none), else (rows,) or (rows, 2).
    """

    ids: np.ndarray
    words: np.ndarray
    segments: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.starts)

    def save(self, file: Path) -> None:
        """Keeps the rows as an .npz file of plain arrays."""
        np.savez(file, **vars(self))

    @classmethod
    def load(cls, file: Path) -> "Rows":
        """Reads what `save` wrote."""
        with np.load(file, allow_pickle=False) as arrays:
            return cls(**arrays)

    def batch(self, rows: np.ndarray, pad_id: int) -> dict[str, Tensor]:
        """Padded: `input_ids`, `token_type_ids`, `attention_mask`, `words`, each (rows, longest), and
        `targets`."""
        lengths = self.lengths[rows]
        filled = np.arange(lengths.max(initial=0)) < lengths[:, None]  # (rows, longest)
        flat = np.concatenate([np.arange(s, s + n) for s, n in zip(self.starts[rows], lengths, strict=True)])

        def padded(values: np.ndarray, padding: int) -> np.ndarray:
            array = np.full(filled.shape, padding, dtype=np.int64)
            array[filled] = values[flat]
            return array

        of_words = self.targets.ndim == 1 and len(self.targets) == len(self.ids)
        arrays = {
            "input_ids": padded(self.ids, pad_id),
            "token_type_ids": padded(self.segments, 0),
            "attention_mask": filled.astype(np.int64),
            "words": padded(self.words, 0),
            "targets": padded(self.targets, IGNORED) if of_words else self.targets[rows].astype(np.int64),
        }
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


Pieces = tuple[Sequence[int], Sequence[int]]  # ids of word pieces, and the number of each one's word


def pack_rows(tokenizer: Tokenizer, rows: Iterable[tuple[Pieces, Pieces | None, object]]) -> Rows:
    """Packs (first, second or None, target): a class, the (start, end) of a span in the packed row, or one
    class for each piece of `first`."""
    ids, words, segments, lengths, targets = [], [], [], [], []
    for (first, first_words), second, target in rows:
        row = [tokenizer.cls_id, *first, tokenizer.sep_id]
        number = np.array([0, *(np.asarray(first_words, dtype=np.int32) + 1), 0], dtype=np.int32)
        segment = np.zeros(len(row) + (len(second[0]) + 1 if second else 0), dtype=np.int8)
        segment[len(row) :] = 1
        if second:
            row += [*second[0], tokenizer.sep_id]
            last = np.asarray(second[1], dtype=np.int32) + number.max() + 1
            number = np.concatenate([number, last, np.zeros(1, np.int32)])
        if isinstance(target, np.ndarray):  # classes of words
            target = np.concatenate([[IGNORED], target, [IGNORED]])
        ids.append(np.array(row, dtype=np.int32))
        words.append(number)
        segments.append(segment)
        lengths.append(len(row))
        targets.append(np.atleast_1d(np.array(target, dtype=np.int32)))
    ends = np.cumsum(lengths, dtype=np.int64)
    empty = np.zeros(0, dtype=np.int32)  # no texts give no rows
    spans = bool(targets) and all(len(target) == 2 for target in targets)
    return Rows(
        np.concatenate([empty, *ids]),
        np.concatenate([empty, *words]),
        np.concatenate([empty, *segments]).astype(np.int8),
        ends - lengths,
        np.diff(ends, prepend=0),
        np.stack(targets) if spans else np.concatenate([empty, *targets]),
    )


def pieces_of(texts: Sequence[str], tokenizer: Tokenizer) -> Iterator[tokenizers.Encoding]:
    """The word pieces of many texts, with progress."""
    for start in tqdm(range(0, len(texts), 1000), desc="word pieces", unit="thousand", leave=False):
        yield from tokenizer.backend.encode_batch(texts[start : start + 1000], add_special_tokens=False)


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


def make_rows(documents: Iterable[str], tokenizer: Tokenizer, length: int = 126) -> Rows:
    """A row for each paragraph; longer ones are cut into rows of `length` word pieces."""

    def cut() -> Iterator[tuple[Pieces, None, int]]:
        for part in pieces_of(list(_paragraphs(documents)), tokenizer):
            for start in range(0, len(part.ids), length):
                ids, words = part.ids[start : start + length], part.word_ids[start : start + length]
                if len(ids) >= 6:  # shorter ones hold too little to guess from
                    yield (ids, np.array(words) - words[0]), None, IGNORED

    return pack_rows(tokenizer, cut())


def sentences(document: str) -> list[str]:
    """The sentences of a document, without its titles; cut at full stops before a capital letter."""
    lines = [line for line in document.strip().split("\n") if not line.startswith("# ")]
    return [sentence for line in lines for sentence in SENTENCE_END.split(line.strip()) if sentence]


def make_pairs(
    documents: Iterable[str],
    tokenizer: Tokenizer,
    *,
    same_document: float = 0.5,
    rounds: int = 1,
    length: int = 125,
    seed: int = 0,
) -> Rows:
    """Pairs of neighbouring stretches of sentences (class 0), and as many pairs that are none (class 1);
    BERT, section 3.1, task 2.

    Args:
        documents: their sentences keep their order.
        same_document: share of the false pairs whose second part comes from elsewhere in the same
            document, so that the topic alone does not give it away.
        rounds: how often the documents are cut into pairs, each time into others, so that a long training
            does not learn them by heart.
        length: most word pieces of a pair; pairs of all lengths are made.
        seed: of the choices.
    """
    split = [sentences(document) for document in documents]
    flat = pieces_of([sentence for document in split for sentence in document], tokenizer)
    read = []  # of each document: ids, the numbers of their words, and where its sentences start
    for document in split:
        parts = [part for part in [next(flat) for _ in document] if len(part.ids) > 2]
        if len(parts) > 1:
            firsts = np.cumsum([0, *(part.word_ids[-1] + 1 for part in parts)])
            words = [np.add(part.word_ids, first) for part, first in zip(parts, firsts, strict=False)]
            starts = np.cumsum([0, *(len(part.ids) for part in parts)]).tolist()
            read.append((np.concatenate([part.ids for part in parts]), np.concatenate(words), starts))

    def pairs(random: np.random.Generator) -> Iterator[tuple[Pieces, Pieces, int]]:
        def stretch(document: tuple, start: int, room: int, last: int | None = None) -> tuple[Pieces, int]:
            """One to four sentences from `start` on, as many as fit into `room` (the first one always, cut),
            none from `last` on; and the sentence after them."""
            ids, words, starts = document
            end = min(start + int(random.integers(1, 5)), len(starts) - 1 if last is None else last)
            end = max(start + 1, min(end, bisect_right(starts, starts[start] + room) - 1))
            piece = slice(starts[start], min(starts[end], starts[start] + room))
            return (ids[piece], words[piece] - words[piece.start]), end

        for document in read:
            at, count = 0, len(document[2]) - 1
            while at < count - 1:
                room = int(random.integers(24, length + 1))
                first, next_one = stretch(document, at, room * 2 // 3, count - 1)
                source, start, follows = document, next_one, random.random() < 0.5
                if not follows:
                    before, after = max(0, at - 1), max(0, count - next_one - 2)  # sentences farther away
                    if before + after and random.random() < same_document:
                        far = int(random.integers(before + after))
                        start = far if far < before else far - before + next_one + 2
                    else:
                        source = read[int(random.integers(len(read)))]
                        start = int(random.integers(len(source[2]) - 1))
                # Both kinds are drawn in the same way: length must not tell them apart.
                second, end = stretch(source, start, room - len(first[0]))
                at = end if follows else next_one
                yield first, second, int(not follows)

    return pack_rows(
        tokenizer, (pair for number in range(rounds) for pair in pairs(np.random.default_rng((seed, number))))
    )


def bucketed_batches(lengths: np.ndarray, tokens: int, seed: int) -> list[np.ndarray]:
    """All rows once, in random batches of similar length and at most `tokens` tokens (padding counted)."""
    random = np.random.default_rng(seed)
    order = random.permutation(len(lengths))
    batches = []
    for start in range(0, len(order), 8192):  # sort within blocks: similar lengths, still random
        block = order[start : start + 8192]
        block = block[np.argsort(lengths[block], kind="stable")]
        while len(block):
            longest = np.maximum.accumulate(lengths[block])
            count = max(1, int(np.searchsorted(longest * np.arange(1, len(block) + 1), tokens, side="right")))
            batches.append(block[:count])
            block = block[count:]
    random.shuffle(batches)
    return batches
