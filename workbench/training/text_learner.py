"""What a BERT learns from: texts as rows of word pieces, and batches of them with the targets of a head."""

import hashlib
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tokenizers
import torch
from datasets import Dataset
from torch import Tensor
from tqdm.auto import tqdm

from workbench.bert import Bert
from workbench.text import Tokenizer, mask_randomly
from workbench.training.loop import Batch, Figures, Learner, score

IGNORED = -100  # a target that says nothing, as in PyTorch's cross entropy
SENTENCE_END = re.compile(r"(?:(?<=[.!?])|(?<=[.!?][\"')\]]))\s+(?=[\"'(\[]?[A-Z0-9])")
AT_ONCE = 32  # rows that are scored together
INPUTS = ("input_ids", "token_type_ids", "attention_mask")

Pieces = tuple[Sequence[int], Sequence[int]]  # ids of word pieces, and the number of each one's word


# --- rows ----------------------------------------------------------------------------------------


def pack_rows(tokenizer: Tokenizer, rows: Iterable[tuple[Pieces, Pieces | None, object]]) -> Dataset:
    """Packs (first, second or None, target) as [CLS] first [SEP], or [CLS] first [SEP] second [SEP].

    A target is a class, the (start, end) of a span in the packed row, or one class for each piece of `first`;
    `IGNORED` where there is none.

    Returns:
        Columns of lists: `input_ids`, `token_type_ids`, `words` (numbers the words along each row from 1; 0
        is a special token) and `targets` (one number, two, or one for each token).
    """
    columns: dict[str, list] = {"input_ids": [], "token_type_ids": [], "words": [], "targets": []}
    for (first, first_words), second, target in rows:
        ids = [tokenizer.cls_id, *first, tokenizer.sep_id]
        words = np.array([0, *(np.asarray(first_words, dtype=np.int32) + 1), 0])
        segments = np.zeros(len(ids) + (len(second[0]) + 1 if second else 0))
        segments[len(ids) :] = 1
        if second:
            ids += [*second[0], tokenizer.sep_id]
            words = np.concatenate([words, np.asarray(second[1], dtype=np.int32) + words.max() + 1, [0]])
        if isinstance(target, np.ndarray):  # classes of words
            target = np.concatenate([[IGNORED], target, [IGNORED]])
        for name, values in zip(columns, (ids, segments, words, np.atleast_1d(target)), strict=True):
            columns[name].append(np.asarray(values, dtype=np.int32))
    types = {name: pa.list_(pa.int8() if name == "token_type_ids" else pa.int32()) for name in columns}
    return Dataset(pa.table(columns, schema=pa.schema(types)))


def row_lengths(rows: Dataset) -> np.ndarray:
    """Tokens of each row."""
    return pc.list_value_length(rows.data.column("input_ids")).to_numpy()


def padded_batch(rows: Dataset, indices: np.ndarray, pad_id: int) -> Batch:
    """Some rows as `input_ids`, `token_type_ids`, `attention_mask` and `words`, each (rows, longest), and
    `targets`: (rows,), (rows, 2) for spans, (rows, longest) for classes of words."""
    table = rows.with_format("arrow")[indices]

    def padded(name: str, padding: int) -> Tensor:
        lists = table[name].combine_chunks()
        lengths = lists.value_lengths().to_numpy()
        filled = np.arange(lengths.max(initial=0)) < lengths[:, None]  # (rows, longest)
        values = np.full(filled.shape, padding, dtype=np.int64)
        values[filled] = lists.flatten().to_numpy()
        return torch.from_numpy(values)

    ids, targets = padded("input_ids", -1), padded("targets", IGNORED)
    return {
        "input_ids": ids.where(ids >= 0, pad_id),
        "token_type_ids": padded("token_type_ids", 0),
        "attention_mask": (ids >= 0).long(),
        "words": padded("words", 0),
        "targets": targets[:, 0] if targets.shape[1] == 1 else targets,
    }


# --- documents -----------------------------------------------------------------------------------


def split_documents(documents: Iterable[str]) -> tuple[list[str], list[str]]:
    """Documents to train on, and documents to score with: one in fifty, by a hash of its first line (its
    title)."""
    parts: tuple[list[str], list[str]] = [], []
    for document in documents:
        title = document.strip().split("\n", 1)[0]
        parts[int(hashlib.sha256(title.encode()).hexdigest(), 16) % 50 == 0].append(document)
    return parts


def encode_texts(texts: Sequence[str], tokenizer: Tokenizer) -> Iterator[tokenizers.Encoding]:
    """The word pieces of many texts, with progress."""
    with tqdm(total=len(texts), desc="word pieces", unit=" texts", leave=False) as progress:
        for start in range(0, len(texts), 1000):
            part = tokenizer.backend.encode_batch(texts[start : start + 1000], add_special_tokens=False)
            progress.update(len(part))  # first: nobody asks for more than the last
            yield from part


def split_sentences(document: str) -> list[str]:
    """The sentences of a document, without its titles; cut at full stops before a capital letter."""
    lines = [line for line in document.strip().split("\n") if not line.startswith("# ")]
    return [sentence for line in lines for sentence in SENTENCE_END.split(line.strip()) if sentence]


def next_sentence_rows(
    documents: Iterable[str],
    tokenizer: Tokenizer,
    *,
    same_document: float = 0.5,
    rounds: int = 1,
    length: int = 125,
    seed: int = 0,
) -> Dataset:
    """Pairs of neighbouring stretches of sentences (class 0), and as many pairs that are none (class 1);
    BERT, section 3.1, task 2.

    Args:
        documents: their sentences keep their order.
        tokenizer: makes the word pieces.
        same_document: share of the false pairs whose second part comes from elsewhere in the same
            document, so that the topic alone does not give it away.
        rounds: how often the documents are cut into pairs, each time into others, so that a long training
            does not learn them by heart.
        length: most word pieces of a pair; pairs of all lengths are made.
        seed: of the choices.
    """
    split = [split_sentences(document) for document in documents]
    flat = encode_texts([sentence for document in split for sentence in document], tokenizer)
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


# --- batches -------------------------------------------------------------------------------------


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


def head_batch(
    rows: Dataset,
    indices: np.ndarray,
    tokenizer: Tokenizer,
    head: str,
    random_ids: Tensor | None = None,
    seed: int = 0,
) -> Batch:
    """Some rows as `TextLearner` takes them, with the targets of a head. Words are masked by `seed`, and are
    the targets of "mlm", if there are `random_ids`."""
    batch = padded_batch(rows, indices, tokenizer.pad_id)
    words, targets = batch.pop("words"), batch.pop("targets")
    if random_ids is not None:
        ids, generator = batch["input_ids"], torch.Generator().manual_seed(seed)
        maskable = (words > 0) & (ids != tokenizer.unk_id)
        masked, action = mask_randomly(ids, maskable, tokenizer.mask_id, random_ids, generator)
        batch |= {"input_ids": masked, "mlm": ids.masked_fill(action == 0, IGNORED)}
    return batch if head == "mlm" else batch | {head: targets}


def head_batches(
    rows: Dataset, indices: np.ndarray, tokenizer: Tokenizer, head: str, seed: int = 0
) -> Iterator[Batch]:
    """Some rows in their order, a few at a time, to be scored; for "mlm" words are masked by `seed`."""
    random_ids = tokenizer.random_ids() if head == "mlm" else None
    for start in range(0, len(indices), AT_ONCE):
        part = indices[start : start + AT_ONCE]
        yield head_batch(rows, part, tokenizer, head, random_ids, seed + start)


class TextBatches:
    """`batch_at` of the loop: rows of similar length; each epoch has its own order and its own masks.

    Args:
        rows: the examples.
        tokenizer: the one that the rows were made with.
        head: whose targets they have; "mlm" for none but the masked words.
        tokens: most tokens in a batch, padding counted, over all processes.
        seed: of the batches, their order and the masks.
        masked: whether words are masked.
        guessed: whether masked words are to be guessed, too.
    """

    def __init__(
        self,
        rows: Dataset,
        tokenizer: Tokenizer,
        head: str,
        tokens: int,
        seed: int = 0,
        *,
        masked: bool = False,
        guessed: bool = True,
    ) -> None:
        self.tokenizer, self.head, self.seed, self.guessed = tokenizer, head, seed, guessed
        self.rows = Dataset(rows.data.table.combine_chunks())  # in one piece it is read three times as fast
        self.random_ids = tokenizer.random_ids() if masked or head == "mlm" else None
        self.batches = bucketed_batches(row_lengths(rows), tokens, seed)

    def rows_at(self, step: int) -> np.ndarray:
        """Indices of the rows in the batch of a step."""
        epoch, index = divmod(step, len(self.batches))
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.batches))
        return self.batches[order[index]]

    def __call__(self, step: int, process: int = 0, processes: int = 1) -> Batch:
        """This process's rows of the batch of a step; what is masked does not depend on the processes."""
        rows, seed = self.rows_at(step), self.seed + step
        batch = head_batch(self.rows, rows, self.tokenizer, self.head, self.random_ids, seed)
        if not self.guessed:
            batch.pop("mlm", None)
        return {name: tensor[process::processes] for name, tensor in batch.items()}


# --- what is learned, and how well ---------------------------------------------------------------


class TextLearner(Learner):
    """Every head that a batch has targets for (BERT, sections 3.1 and 4).

    Args:
        bert: what learns.
        weights: of the heads' mean losses, 1 if not named.
    """

    unit = "tokens"

    def __init__(self, bert: Bert, weights: Mapping[str, float] | None = None) -> None:
        super().__init__()
        self.bert = bert
        self.names = tuple(bert.heads)
        self.weights = [(weights or {}).get(name, 1.0) for name in self.names]

    def answers(
        self,
        input_ids: Tensor,
        token_type_ids: Tensor,
        attention_mask: Tensor,
        states: Tensor | None = None,
        **targets: Tensor,
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """The first three (batch, tokens); `states`, (batch, tokens, hidden), if the last layer's are known
        already. A target goes by the name of its head: (batch,) for sentences, (batch, tokens) for words;
        what is `IGNORED` is left out. Of spans, (batch, 2), whose classes are the tokens, both ends are an
        answer of a row."""
        if states is None:
            states = self.bert(input_ids, token_type_ids, attention_mask)[-1]
        given = {}
        for name, target in targets.items():
            where, kind = target != IGNORED, self.bert.heads[name].kind
            if kind in ("mlm", "word"):  # the vocabulary is large
                logits = self.bert.logits(name, states[where]).float()
            else:
                logits = self.bert.logits(name, states).float()
                if kind == "span":
                    logits = logits.masked_fill(~attention_mask[..., None].bool(), -1e9).mT
                logits = logits[where]
            given[name] = logits, target[where]
        return given

    def size(self, batch: Batch) -> int:
        """Tokens in a batch, padding counted."""
        return batch["input_ids"].numel()


def head_figures(bert: Bert, rows: Dataset, head: str, most: int = 512, seed: int = 0) -> Figures:
    """How often a head is right in at most `most` rows, drawn (and for "mlm" masked) by `seed`.

    Returns:
        HEAD_accuracy (of spans: start and end both right), HEAD_loss (mean cross entropy) and HEAD_count.
    """
    drawn = np.random.default_rng(seed).permutation(len(rows))[:most]
    drawn = drawn[np.argsort(row_lengths(rows)[drawn], kind="stable")]  # similar lengths: little padding
    loss, said, right = score(TextLearner(bert), head_batches(rows, drawn, bert.tokenizer, head, seed))
    hits = (said == right).view(-1, 2 if bert.heads[head].kind == "span" else 1).all(-1)
    right = float(hits.sum()) / max(1, len(hits))
    return {f"{head}_accuracy": right, f"{head}_loss": loss, f"{head}_count": len(hits)}
