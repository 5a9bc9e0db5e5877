"""Texts for training: read through `datasets`, split by document, cut into rows of word pieces."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from workbench.text import Tokenizer

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
    """Word pieces of many texts, cut into rows. `words` numbers the words along each row, from 1.

    `ids` and `words` are flat; row i is `ids[starts[i] : starts[i] + lengths[i]]`.
    """

    ids: np.ndarray
    words: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray

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

    def batch(self, rows: np.ndarray, tokenizer: Tokenizer) -> dict[str, Tensor]:
        """[CLS] row [SEP], padded: `input_ids`, `attention_mask`, `words`, each (rows, longest + 2)."""
        shape = (len(rows), int(self.lengths[rows].max()) + 2)
        ids = np.full(shape, tokenizer.pad_id, dtype=np.int64)
        words, mask = np.zeros_like(ids), np.zeros_like(ids)
        ids[:, 0] = tokenizer.cls_id
        for at, (start, length) in enumerate(zip(self.starts[rows], self.lengths[rows], strict=True)):
            ids[at, 1 : length + 1] = self.ids[start : start + length]
            words[at, 1 : length + 1] = self.words[start : start + length]
            ids[at, length + 1] = tokenizer.sep_id
            mask[at, : length + 2] = 1
        arrays = {"input_ids": ids, "attention_mask": mask, "words": words}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


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
    ids, words, lengths = [], [], []
    texts = list(_paragraphs(documents))
    for start in tqdm(range(0, len(texts), 1000), desc="word pieces", unit="thousand", leave=False):
        for part in tokenizer.backend.encode_batch(texts[start : start + 1000], add_special_tokens=False):
            for cut in range(0, len(part.ids), length):
                row = part.ids[cut : cut + length]
                if len(row) < 6:  # too short to guess anything from
                    continue
                number = np.array(part.word_ids[cut : cut + length], dtype=np.int32)
                ids.append(np.array(row, dtype=np.int32))
                words.append(number - number[0] + 1)
                lengths.append(len(row))
    ends = np.cumsum(lengths, dtype=np.int64)
    empty = np.zeros(0, dtype=np.int32)  # no texts give no rows
    return Rows(
        np.concatenate([empty, *ids]),
        np.concatenate([empty, *words]),
        ends - lengths,
        np.diff(ends, prepend=0),
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
            longest = np.maximum.accumulate(lengths[block] + 2)
            count = max(1, int(np.searchsorted(longest * np.arange(1, len(block) + 1), tokens, side="right")))
            batches.append(block[:count])
            block = block[count:]
    random.shuffle(batches)
    return batches
