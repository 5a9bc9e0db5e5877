"""Texts for training: read through `datasets`, split by document, cut into rows of word pieces."""

import hashlib
import re
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
    length: int = 125,
    seed: int = 0,
) -> Rows:
    """Pairs of neighbouring stretches of sentences (class 0), and as many pairs that are none (class 1);
    BERT, section 3.1, task 2.

    Args:
        documents: their sentences keep their order.
        same_document: share of the false pairs whose second part comes from elsewhere in the same
            document, so that the topic alone does not give it away.
        length: most word pieces of a pair; pairs of all lengths are made.
        seed: of the choices.
    """
    random = np.random.default_rng(seed)
    split = [sentences(document) for document in documents]
    flat = pieces_of([sentence for document in split for sentence in document], tokenizer)
    read: list[list[Pieces]] = []
    for document in split:
        parts = [next(flat) for _ in document]
        read.append([(part.ids, part.word_ids) for part in parts if len(part.ids) > 2])
    read = [document for document in read if len(document) > 1]

    def stretch(document: list[Pieces], start: int, room: int) -> list[Pieces]:
        """One to four sentences from `start` on, as many as fit into `room` (the first one always)."""
        end, used = start + 1, len(document[start][0])
        most = start + int(random.integers(1, 5))
        while end < min(len(document), most) and used + len(document[end][0]) <= room:
            used += len(document[end][0])
            end += 1
        return document[start:end]

    def joined(parts: list[Pieces], room: int) -> Pieces:
        ids = [token for part in parts for token in part[0]]
        firsts = np.cumsum([0, *(part[1][-1] + 1 for part in parts[:-1])])
        words = [word + first for part, first in zip(parts, firsts, strict=True) for word in part[1]]
        return ids[:room], words[:room]

    def pairs() -> Iterator[tuple[Pieces, Pieces, int]]:
        for document in read:
            at = 0
            while at < len(document) - 1:
                room = int(random.integers(24, length + 1))
                first = stretch(document[:-1], at, room * 2 // 3)
                source, start = document, at + len(first)
                follows = random.random() < 0.5
                if not follows:
                    far = [i for i in range(len(document)) if i < at - 1 or i > start + 1]
                    if far and random.random() < same_document:
                        start = int(random.choice(far))
                    else:
                        source = read[int(random.integers(len(read)))]
                        start = int(random.integers(len(source)))
                at += len(first)
                first = joined(first, room * 2 // 3)
                room -= len(first[0])
                # Both kinds are drawn in the same way: length must not tell them apart.
                second = stretch(source, start, room)
                at += len(second) if follows else 0
                yield first, joined(second, room), int(not follows)

    return pack_rows(tokenizer, pairs())


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
