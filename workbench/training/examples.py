"""Examples with answers, for the heads: questions, pairs, sentences, tagged words; as rows for training.

They come from a folder laid out like the project's data kit, or from a Hub set by name: which head a set
is for is told by its columns. What a row is split by, and so never in both parts: questions by article,
pairs by the group of sentences that were made from each other, sentences by their text.
"""

import hashlib
import json
import lzma
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from pathlib import Path

import numpy as np
import tokenizers

from workbench.text import Tokenizer
from workbench.training.data import IGNORED, Pieces, Rows, pack_rows, pieces_of

NLI_LABELS = ("entailment", "neutral", "contradiction")
SENTIMENT_LABELS = ("negative", "positive")
# fmt: off
UPOS_LABELS = (
    "ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM",
    "PART", "PRON", "PROPN", "PUNCT", "SCONJ", "SYM", "VERB", "X",
)
# fmt: on
COLUMNS = {  # columns that a set for a head has
    "span": ("question", "context", "answers"),
    "nli": ("premise", "hypothesis", "label"),
    "pos": ("tokens", "upos"),
    "sentiment": ("text", "label"),
}
LONGEST = 256  # word pieces of a question with its passage, in training
QUESTIONS_EACH = 8  # most questions of a context: some sets have very many for one sentence

Example = dict  # with the columns above
Word = tuple[int, ...]  # the ids of its pieces


def read_lines(file: Path) -> list[dict]:
    """A file of one JSON object a line, packed with xz or not."""
    with (lzma.open if file.suffix == ".xz" else open)(file, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _one_in_ten(text: str) -> bool:
    letters = "".join(filter(str.isalnum, text.lower()))
    return int(hashlib.sha256(letters.encode()).hexdigest(), 16) % 10 == 0


def read_examples(source: str | Path) -> dict[str, dict[str, list[Example]]]:
    """Examples by head and part: "train", "held_out", and parts that are only scored.

    Args:
        source: a folder with qa/qa.jsonl, pairs/cad_nli.jsonl, sentences/mr_sentence_polarity.jsonl,
            pos/*_train.tsv and so on (also .xz), whatever is there; or a Hub set with the columns of a head
            (`COLUMNS`), whose split "validation" or "test" is held out.
    """
    folder = Path(source)
    if not folder.is_dir():
        return _read_hub(str(source))
    files = {file.name.split(".")[0]: file for file in sorted(folder.glob("*/*")) if file.is_file()}
    heads: dict[str, dict[str, list[Example]]] = defaultdict(dict)
    if "qa" in files:
        for part, split in (("train", "train"), ("held_out", "val")):
            kept = [row for row in read_lines(files["qa"]) if row["split"] == split]
            heads["span"][part] = [
                {
                    "source": row["source"],
                    "title": row["title"],
                    "context": row["context"],
                    "question": question["q"],
                    "answers": {
                        "text": [text for text, _ in question["a"]],
                        "answer_start": [start for _, start in question["a"]],
                    },
                }
                for row in kept
                for question in row["qas"][: QUESTIONS_EACH if split == "train" else None]
                if not (split == "train" and question.get("amb"))  # it occurs twice: which one is meant?
            ]
    if "cad_nli" in files:
        rows = [
            {"premise": row["a"], "hypothesis": row["b"], "label": row["label"], "split": row["split"]}
            for row in read_lines(files["cad_nli"])
        ]
        scored = [row for row in rows if row["split"] != "train"]
        seen = {row["premise"] for row in scored} | {row["hypothesis"] for row in scored}
        trained = [
            row for row in rows if row["split"] == "train" and not {row["premise"], row["hypothesis"]} & seen
        ]
        heads["nli"] = {"train": trained, "held_out": scored}
    if "sick" in files:
        rows = [row for row in read_lines(files["sick"]) if row["split"] == "test"]
        heads["nli"]["sick"] = [
            {"premise": row["a"], "hypothesis": row["b"], "label": row["label"]} for row in rows
        ]
    if "mr_sentence_polarity" in files:
        for row in read_lines(files["mr_sentence_polarity"]):
            part = "held_out" if _one_in_ten(row["text"]) else "train"
            heads["sentiment"].setdefault(part, []).append(row)
    tagged = {name: _read_tagged(file) for name, file in files.items() if file.parent.name == "pos"}
    if "ewt_test" in tagged:
        heads["pos"]["held_out"] = tagged["ewt_test"]
    seen = {
        " ".join(row["tokens"]).lower() for name, rows in tagged.items() if "test" in name for row in rows
    }
    trained = [row for name, rows in tagged.items() if name.endswith("_train") for row in rows]
    if trained:
        heads["pos"]["train"] = [row for row in trained if " ".join(row["tokens"]).lower() not in seen]
    return dict(heads)


def _read_hub(name: str) -> dict[str, dict[str, list[Example]]]:
    import datasets  # slow to import, and only needed here

    try:
        sets = datasets.load_dataset(name)
    except Exception as error:  # offline shows itself in many kinds of errors
        raise ValueError(f"{name} is neither a folder nor a set on the Hub that can be reached.") from error
    columns = set(next(iter(sets.values())).column_names)
    head = next((head for head, wanted in COLUMNS.items() if set(wanted) <= columns), None)
    if head is None:
        return {}
    held_out = next((part for part in ("validation", "test") if part in sets), None)
    parts = {"train": sets["train"]} | ({"held_out": sets[held_out]} if held_out else {})
    return {head: {part: list(rows) for part, rows in parts.items()}}


def _read_tagged(file: Path) -> list[Example]:
    """Sentences of a table FORM, UPOS, ...; a blank line between sentences, "#" before comments."""
    with (lzma.open if file.suffix == ".xz" else open)(file, "rt", encoding="utf-8") as lines:
        blocks = [block.split("\n") for block in lines.read().strip().split("\n\n")]
    words = [[line.split("\t") for line in block if "\t" in line] for block in blocks]
    return [{"tokens": [word[0] for word in block], "upos": [word[1] for word in block]} for block in words]


# --- examples as rows --------------------------------------------------------------------------


def _label(value: str | int, labels: tuple[str, ...]) -> int:
    return labels.index(value) if isinstance(value, str) else int(value)


def sentence_rows(examples: Iterable[Example], tokenizer: Tokenizer, longest: int = 126) -> Rows:
    """Sentences with a class, for "sentiment"."""
    examples = list(examples)
    parts = pieces_of([row["text"] for row in examples], tokenizer)
    return pack_rows(
        tokenizer,
        (
            ((part.ids[:longest], part.word_ids[:longest]), None, _label(row["label"], SENTIMENT_LABELS))
            for part, row in zip(parts, examples, strict=True)
        ),
    )


def pair_rows(
    examples: Iterable[Example],
    tokenizer: Tokenizer,
    *,
    unrelated: float = 0.0,
    crossed: bool = False,
    longest: int = 126,
    seed: int = 0,
) -> Rows:
    """Premise and hypothesis with a class, for "nli"; unlabelled ones (-1) are left out.

    Args:
        unrelated: so many pairs more, as a share: a hypothesis with the premise of another row, "neutral".
            Sets made by asking for contradictions have no pairs about different things.
        crossed: whether pairs without a class come with them, for teachers to judge: each premise with what
            else was said of sentences like it, and all pairs the other way round.
        longest: most word pieces of each.
        seed: of the choices.
    """
    examples = [row for row in examples if row["label"] != -1]
    random = np.random.default_rng(seed)
    known = {(row["premise"], row["hypothesis"]) for row in examples}
    for row in [row for row in examples if random.random() < unrelated]:
        other = examples[int(random.integers(len(examples)))]
        if other["premise"] != row["premise"] and other["hypothesis"] != row["hypothesis"]:
            examples.append(
                {"premise": other["premise"], "hypothesis": row["hypothesis"], "label": "neutral"}
            )
    if crossed:
        said, said_of = defaultdict(list), defaultdict(list)
        for premise, hypothesis in sorted(known):
            said[premise].append(hypothesis)
            said_of[hypothesis].append(premise)
        like = {
            (premise, other)
            for premise, hypothesis in known
            for sibling in said_of[hypothesis]
            for other in said[sibling]
        }
        for premise, hypothesis in sorted(like | {pair[::-1] for pair in like | known}):
            if premise != hypothesis and (premise, hypothesis) not in known:
                examples.append({"premise": premise, "hypothesis": hypothesis, "label": IGNORED})
    firsts = pieces_of([row["premise"] for row in examples], tokenizer)
    seconds = pieces_of([row["hypothesis"] for row in examples], tokenizer)
    return pack_rows(
        tokenizer,
        (
            (
                (first.ids[:longest], first.word_ids[:longest]),
                (second.ids[:longest], second.word_ids[:longest]),
                _label(row["label"], NLI_LABELS),
            )
            for first, second, row in zip(firsts, seconds, examples, strict=True)
        ),
    )


def written(words: list[str]) -> tuple[str, list[tuple[int, int]]]:
    """Words as a text, "n't" and "'s" joined to the word before; and (start, end) of each word in it."""
    text, spans = "", []
    for word in words:
        joined = word.lower() == "n't" or (word[:1] in "'\u2019" and len(word) > 1)
        text += "" if joined or not text else " "
        spans.append((len(text), len(text) + len(word)))
        text += word
    return text, spans


def word_rows(examples: Iterable[Example], tokenizer: Tokenizer, every_word: bool = False) -> Rows:
    """Words with a class, for "pos".

    Args:
        every_word: BERT cuts "e-mail" and "don't" into more words than the table has: each of them gets a
            class, for training; or only the first of each word of the table, which is how it is scored.
    """
    examples = list(examples)
    texts = [written(row["tokens"]) for row in examples]

    def rows() -> Iterator[tuple]:
        parts = pieces_of([text for text, _ in texts], tokenizer)
        for part, (text, spans), example in zip(parts, texts, examples, strict=True):
            if not part.ids or len(part.ids) > 254:
                continue
            owner = np.full(len(text) + 1, -1)  # of each character
            for number, (start, end) in enumerate(spans):
                owner[start:end] = number
            target, done = np.full(len(part.ids), IGNORED), set()
            for index, (start, _) in enumerate(part.offsets):
                word = owner[start]
                first = index == 0 or part.word_ids[index] != part.word_ids[index - 1]
                if first and word >= 0 and (every_word or word not in done):
                    target[index] = _label(example["upos"][word], UPOS_LABELS)
                    done.add(word)
            yield (part.ids, part.word_ids), None, target

    return pack_rows(tokenizer, rows())


class WordExchange:
    """Exchanges a word of a question for one of like meaning, so that its passage answers it no more.

    "When did Paris fall?" may become "When did London fall?", or ask about another name of the passage: as
    in Jia and Liang (arXiv:1707.07328, section 3.3), by the nearest word vectors, and with the entity swaps
    of SQuAD 2.0 (arXiv:1806.03822, table 1). Now and then the new word means the same: such a row is wrong.

    Args:
        passages: all of them, for how common words are: what is in one of twenty is not exchanged.
        tokenizer: the one that made them.
        vectors: of the word pieces (vocabulary, hidden_size).
    """

    def __init__(
        self, passages: Iterable[tokenizers.Encoding], tokenizer: Tokenizer, vectors: np.ndarray
    ) -> None:
        self.tokenizer = tokenizer
        vectors = vectors - vectors.mean(0)
        self.vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        texts = [tokenizer.backend.id_to_token(token) for token in range(len(vectors))]
        self.usable = np.array([text.isalnum() and text.isascii() and len(text) > 1 for text in texts])
        self.count = 0
        self.common: Counter[Word] = Counter()
        for passage in passages:
            self.count += 1
            self.common.update(set(words_of(passage.ids, passage.word_ids)))
        self.like = lru_cache(maxsize=None)(self._like)

    def text(self, word: Word) -> str:
        """How it is written."""
        return "".join(self.tokenizer.backend.id_to_token(piece).removeprefix("##") for piece in word)

    def telling(self, word: Word) -> bool:
        """Whether a word says what the question is about."""
        return self.common[word] * 20 < self.count and self.text(word).isalnum()

    def differ(self, one: Word, other: Word) -> bool:
        """Whether two words are not forms of each other, and both numbers or neither."""
        one, other = self.text(one), self.text(other)
        number = one.isdigit()
        return number == other.isdigit() and (one != other if number else one[:2] != other[:2])

    def vector(self, word: Word) -> np.ndarray:
        """(hidden_size,): the mean of its pieces."""
        mean = self.vectors[list(word)].mean(0)
        return mean / np.linalg.norm(mean)

    def _like(self, word: Word) -> list[Word]:
        """The five nearest of the vocabulary that will do."""
        likeness = np.where(self.usable, self.vectors @ self.vector(word), -1)
        near = [(int(token),) for token in np.argsort(likeness)[:-20:-1] if likeness[token] > 0.4]
        return [other for other in near if self.differ(word, other)][:5]

    def __call__(
        self, asked: Pieces, passage: tokenizers.Encoding, answer: Sequence[int], random: np.random.Generator
    ) -> Pieces | None:
        """The question with a word exchanged: half of the time for another word of the passage if it has one
        like it, else for one that is not in it. None if no word will do.

        Args:
            asked: the question.
            passage: what it is asked about.
            answer: ids of its pieces, which never get into the question.
            random: makes the choices.
        """
        there = dict.fromkeys(words_of(passage.ids, passage.word_ids))
        words = words_of(*asked)
        places = [place for place, word in enumerate(words) if word in there and self.telling(word)]
        if not places:
            return None
        place = int(random.choice(places))
        word = words[place]
        others = [
            other
            for other in there
            if other not in words
            and not set(other) & set(answer)
            and self.telling(other)
            and self.differ(word, other)
            and self.vector(word) @ self.vector(other) > 0.4
        ]
        if not others or random.random() < 0.5:
            others = [other for other in self.like(word) if other not in there]
        if not others:
            return None
        words[place] = others[int(random.integers(len(others)))]
        numbers = [number for number, word in enumerate(words) for _ in word]
        return [piece for word in words for piece in word], numbers


def words_of(ids: Sequence[int], word_ids: Sequence[int]) -> list[Word]:
    """The pieces of each word."""
    return [tuple(ids[i] for i in group) for _, group in groupby(range(len(ids)), lambda i: word_ids[i])]


def span_rows(
    examples: Iterable[Example],
    tokenizer: Tokenizer,
    *,
    unanswerable: float = 0.0,
    exchanged: float = 0.0,
    vectors: np.ndarray | None = None,
    rounds: int = 1,
    longest: int = LONGEST,
    seed: int = 0,
) -> Rows:
    """Questions with passages; the target is the first and the last piece of the answer, or twice [CLS].

    Args:
        unanswerable: so many questions more, as a share, are put to another passage of the same article
            that does not hold the answer (BERT, section 4.3).
        exchanged: so many questions more, as a share, have a word exchanged, so that the passage does not
            answer them any more; see `WordExchange`.
        vectors: of the word pieces (vocabulary, hidden_size), which `exchanged` needs.
        rounds: how often each question is put, with other choices each time, so that a long training does
            not learn those without an answer by heart.
        longest: most word pieces; of a longer passage a stretch around the answer is used.
        seed: of the choices.

    Raises `ValueError` for `exchanged` without `vectors`.
    """
    if exchanged and vectors is None:
        raise ValueError("To exchange words for others of like meaning, give the vectors of the word pieces.")
    random = np.random.default_rng(seed)
    examples = list(examples)
    contexts = list(dict.fromkeys(row["context"] for row in examples))
    passages = dict(zip(contexts, pieces_of(contexts, tokenizer), strict=True))
    exchange = WordExchange(passages.values(), tokenizer, vectors) if exchanged else None
    by_title: dict[str, list[str]] = defaultdict(list)
    for row in examples:
        known = by_title[row.get("title", "")]
        if not known or known[-1] != row["context"]:
            known.append(row["context"])

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
        asked_parts = list(pieces_of([row["question"] for row in examples], tokenizer))
        for row, part in zip(examples * rounds, asked_parts * rounds, strict=True):
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
            others = by_title[row.get("title", "")]
            other = others[int(random.integers(len(others)))]
            if random.random() < unanswerable and not any(
                answer.lower() in other.lower() for answer in answers["text"]
            ):
                yield packed(asked, passages[other], len(passages[other].ids), -1)
            if exchange is not None and random.random() < exchanged:
                answer = passage.ids[inside[0] : inside[-1] + 1]
                if changed := exchange(asked, passage, answer, random):
                    yield packed(changed, passage, len(passage.ids), -1)

    return pack_rows(tokenizer, rows())
