"""What a user asks of a model: plain functions with typed results. No drawing, no training."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from workbench.bert import Bert, LinearHead
from workbench.checks import (
    MOST_PATCHES,
    check_model,
    check_ready,
    check_size,
    check_text,
    check_whole,
    counted,
)
from workbench.image import ImageSource, prepare_image
from workbench.text import Encoding, Token, word_spans
from workbench.vit import ViT

LONGEST_PASSAGE = 50_000  # characters
MOST_TOKENS = 30_000  # that are read for one question, in all windows


@dataclass(frozen=True)
class Candidate:
    """One possible answer. The probabilities of all classes sum to one, but for the problem_type
    "multi_label_classification", where each class is true or false for itself."""

    label: str
    probability: float


@dataclass(frozen=True)
class Number:
    """What a head for regression gives instead of classes: a value on its own scale, no probability."""

    label: str
    value: float


@dataclass(frozen=True)
class MaskGuess:
    """What stands behind one [MASK]: `position` counts tokens ([CLS] is 0), `start` and `end` are characters.

    `original` is the word piece that was masked, with its `rank` (1 = the best guess) and `probability`;
    None if [MASK] was typed.
    """

    position: int
    start: int
    end: int
    candidates: tuple[Candidate, ...]
    original: str | None = None
    rank: int | None = None
    probability: float | None = None


@dataclass(frozen=True)
class NextSentencePrediction:
    """`is_next`: the probability that the second sentence follows the first."""

    is_next: float


@dataclass(frozen=True)
class WordTag:
    """The best class of one word, its characters in the text, and all classes, best first."""

    word: str
    start: int
    end: int
    label: str
    probability: float
    candidates: tuple[Candidate, ...] = field(repr=False)


@dataclass(frozen=True)
class WordNumbers:
    """What a head for regression says about one word, and the word's characters in the text."""

    word: str
    start: int
    end: int
    numbers: tuple[Number, ...]


@dataclass(frozen=True)
class Answer:
    """A span of the passage; `probability` is that of its start times that of its end."""

    text: str
    start: int
    end: int
    probability: float


@dataclass(frozen=True)
class SpanAnswers:
    """Answers, best first, and how likely there is none (see `surest_window`).

    `start_probabilities` and `end_probabilities` go with `tokens` (of the passage), in the window of
    the best answer; they sum to one together with [CLS], [SEP] and the question.
    """

    answers: tuple[Answer, ...]
    no_answer: float
    tokens: tuple[Token, ...]
    start_probabilities: Tensor
    end_probabilities: Tensor


@dataclass(frozen=True)
class SpanWindow:
    """What the span head says about one window, [CLS] question [SEP] passage [SEP]: S.T_i and E.T_i with the
    head's bias, (tokens, 2), on the CPU."""

    encoding: Encoding
    scores: Tensor

    @property
    def inside(self) -> range:
        """Indices of the passage's tokens."""
        passage = [index for index, token in enumerate(self.encoding.tokens) if token.segment == 1]
        return range(passage[0], passage[-1])  # the last one is [SEP]

    @property
    def tokens(self) -> tuple[Token, ...]:
        """The passage's tokens."""
        return self.encoding.tokens[self.inside.start : self.inside.stop]

    @property
    def probabilities(self) -> Tensor:
        """Of each token to be the start and the end, softmax over the tokens: (tokens, 2)."""
        return self.scores.softmax(0)

    @property
    def no_answer_score(self) -> float:
        """S.C + E.C: the score of [CLS] as start and as end (section 4.3)."""
        return float(self.scores[0].sum())

    @property
    def no_answer(self) -> float:
        """The same as a probability."""
        return float(self.probabilities[0].prod())

    def span(self, start: int, end: int) -> range:
        """The tokens between two characters of the passage, counted in `tokens`; empty if none is here."""
        found = [at for at, token in enumerate(self.tokens) if start <= token.start and token.end <= end]
        return range(found[0], found[-1] + 1) if found else range(0)

    def score(self, span: range) -> float:
        """S.T_i + E.T_j of a span of `tokens`."""
        scores = self.scores[self.inside.start :]
        return float(scores[span[0], 0] + scores[span[-1], 1])

    def joint(self, longest: int = 30) -> Tensor:
        """Probabilities of all spans of the passage: (start, end), 0 where a span is impossible."""
        inside = self.scores.double().softmax(0)[self.inside.start : self.inside.stop]  # products are small
        start, end = inside.unbind(-1)
        return (start[:, None] * end).triu().tril(longest - 1)


def describe(model: Bert | ViT) -> str:
    """Two lines about a model: its name, kind and size; the device it is on."""
    check_model(model, Bert, ViT)
    kind = "BERT" if isinstance(model, Bert) else "ViT"
    config = model.config
    count = sum(parameter.numel() for parameter in model.parameters())
    size = f"{count / 1e6:.1f} M" if count >= 1e5 else f"{count:,}"
    layers, heads = counted(config.num_hidden_layers, "layer"), counted(config.num_attention_heads, "head")
    return (
        f"{model.name}: {kind}, {layers} x {heads}, "
        f"{config.hidden_size} wide, {size} parameters\n    on {device_name(model.device)}"
    )


def device_name(device: torch.device) -> str:
    """A device in words: the GPU's name, or the CPU with its threads."""
    if device.type == "cpu":
        return f"CPU ({counted(torch.get_num_threads(), 'thread')})"
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "Apple GPU"


def find_head(bert: Bert, name: str | None, kind: str, usual: str) -> str:
    """The name of the head to use: the one asked for, else the usual one, else the only one of its kind.

    Raises `ValueError` if there is none, and names those that are there.
    """
    check_model(bert, Bert)
    fitting = [head for head, module in bert.heads.items() if module.kind == kind]
    others = [head for head in fitting if head != "nsp"]  # which is asked for by its name only
    if name is None and usual not in fitting and len(others) > 1:
        several = f"several heads for this task: {', '.join(others)}; say which, as in head={others[0]!r}."
        raise ValueError(f"{bert.name} has {several}")
    name = name or (others[0] if usual not in fitting and len(others) == 1 else usual)
    if name not in fitting:
        have = ", ".join(bert.heads) or "none, for its files hold an encoder only"
        hint = " Lesson 03 and lesson 04 train one." if usual in ("sentiment", "pos") else ""
        raise ValueError(
            f"{bert.name} has no head {name!r} for this task; the heads that it has: {have}.{hint}"
        )
    check_ready(bert)
    return name


def _last_layer(bert: Bert, encoding: Encoding) -> Tensor:
    """The vectors that heads read, (1, tokens, hidden)."""
    return bert(**encoding.tensors(bert.device))[-1]


def _sentence_answers(bert: Bert, head: str, *texts: str) -> Tensor:
    for what, text in zip(("text", "second text"), texts, strict=False):  # None is no second text there
        check_text(text, what)
    encoding = bert.tokenizer.encode(*texts, max_length=bert.config.max_position_embeddings)
    return bert.answers(head, _last_layer(bert, encoding))[0]  # (classes)


def _typed(answers: Tensor, head: LinearHead | ViT) -> list[Candidate] | list[Number]:
    """All classes, best first, or all numbers in their order; `answers` is (classes,)."""
    pairs = list(zip(head.labels, answers.tolist(), strict=True))
    if head.problem_type == "regression":
        return [Number(*pair) for pair in pairs]
    return [Candidate(*pair) for pair in sorted(pairs, key=lambda pair: -pair[1])]


def mask_guesses(
    bert: Bert,
    encoding: Encoding,
    hidden_states: Tensor,
    top_k: int = 5,
    positions: Sequence[int] | None = None,
) -> list[MaskGuess]:
    """Reads guesses from one layer's output (1, tokens, hidden), for all masks or those at `positions`."""
    check_whole("top_k", top_k)
    positions = encoding.masks if positions is None else list(positions)
    word_piece, guesses = bert.tokenizer.word_piece, []
    for position, row in zip(positions, bert.answers("mlm", hidden_states[0, positions]), strict=True):
        token, original = encoding.tokens[position], ()
        values, ids = (best.tolist() for best in row.topk(min(top_k, len(row))))  # row is (vocab_size)
        candidates = tuple(
            Candidate(word_piece(index), value) for index, value in zip(ids, values, strict=True)
        )
        if token.original_id is not None:
            true = row[token.original_id]
            original = word_piece(token.original_id), 1 + int((row > true).sum()), float(true)
        guesses.append(MaskGuess(position, token.start, token.end, candidates, *original))
    return guesses


@torch.inference_mode()
def fill_mask(
    bert: Bert, text: str, top_k: int = 5, *, masks: str | Iterable[tuple[int, int] | str] = ()
) -> list[MaskGuess]:
    """Guesses the words behind masks, in the order of the text (BERT, section 3.1, task 1).

    Args:
        text: with [MASK] for each word piece to guess; may be longer than the model reads at once.
        top_k: how many candidates for each mask.
        masks: a word, or a list of words and (start, end) character spans, to mask as well.

    Raises:
        ValueError: no text, no mask, or no masked-word head.

    Example:
        >>> fill_mask(wb.load_bert(), "She drank a cup of [MASK].")[0].candidates[0].label  # doctest: +SKIP
        'tea'
    """
    find_head(bert, None, "mlm", "mlm")
    tokenizer = bert.tokenizer
    tokens = tokenizer.mask_spans(tokenizer.pieces(text), word_spans(text, masks))
    if not any(token.masked for token in tokens):
        raise ValueError("Nothing is masked: write [MASK] in place of a word.")
    guesses: list[MaskGuess] = []
    for window, start, own in tokenizer.windows(tokens, bert.config.max_position_embeddings):
        positions = [index - start + 1 for index in own if tokens[index].masked]
        if positions:
            found = mask_guesses(bert, window, _last_layer(bert, window), top_k, positions)
            guesses += [replace(guess, position=guess.position + start) for guess in found]
    return guesses


@torch.inference_mode()
def next_sentence(bert: Bert, first: str, second: str) -> NextSentencePrediction:
    """How likely the second sentence follows the first (BERT, section 3.1, task 2).

    Raises `ValueError` for empty or too long texts, or without the head "nsp".
    """
    head = find_head(bert, "nsp", "sentence", "nsp")
    return NextSentencePrediction(float(_sentence_answers(bert, head, first, second)[0]))


@torch.inference_mode()
def classify_sentence(bert: Bert, text: str, head: str | None = None) -> list[Candidate] | list[Number]:
    """Classes of a text, best first (BERT, figure 4b), or the numbers of a head for regression.

    `head` is a name in `bert.heads`; None is "sentiment", or the only head for sentences. Raises `ValueError`
    for an empty text, one that is longer than the model reads at once, and if there is no such head.
    """
    head = find_head(bert, head, "sentence", "sentiment")
    return _typed(_sentence_answers(bert, head, text), bert.heads[head])


@torch.inference_mode()
def classify_pair(
    bert: Bert, first: str, second: str, head: str | None = None
) -> list[Candidate] | list[Number]:
    """As `classify_sentence`, of a pair of texts (BERT, figure 4a); `head` None is "nli", or the only one."""
    head = find_head(bert, head, "sentence", "nli")
    return _typed(_sentence_answers(bert, head, first, second), bert.heads[head])


@torch.inference_mode()
def tag_words(bert: Bert, text: str, head: str | None = None) -> list[WordTag] | list[WordNumbers]:
    """The best class of every word, or the numbers of a head for regression, read from its first word piece
    (BERT, figure 4d and section 5.3).

    Long texts are read in windows; each word is tagged where it stands farthest from an edge.
    `head` None is "pos", or the only head for words. Raises `ValueError` as the other tasks do.
    """
    head = find_head(bert, head, "word", "pos")
    tokens = bert.tokenizer.pieces(text)
    ends = {token.word: token.end for token in tokens}  # of each word's last piece
    tags = []
    for window, first, own in bert.tokenizer.windows(tokens, bert.config.max_position_embeddings):
        answers = bert.answers(head, _last_layer(bert, window))[0].cpu()  # (tokens, classes)
        for index in own:
            token = tokens[index]
            if index == 0 or tokens[index - 1].word != token.word:
                word = text[token.start : ends[token.word]], token.start, ends[token.word]
                best, *others = _typed(answers[index - first + 1], bert.heads[head])
                if isinstance(best, Number):
                    tags.append(WordNumbers(*word, (best, *others)))
                else:
                    tags.append(WordTag(*word, best.label, best.probability, (best, *others)))
    return tags


@torch.inference_mode()
def answer_question(
    bert: Bert, question: str, passage: str, top_k: int = 5, *, longest: int = 30, head: str | None = None
) -> SpanAnswers:
    """Finds the answer in a passage (BERT, sections 4.2 and 4.3): score(i, j) = S.T_i + E.T_j, j >= i.

    Long passages are read in windows that overlap; the best spans of all windows, of up to `longest` word
    pieces, compete by probability. For `head`, and what is raised, see `span_windows`.
    """
    check_whole("top_k", top_k)
    check_whole("longest", longest)
    windows = span_windows(bert, question, passage, head=head)
    found = best_spans(windows, passage, top_k, longest)
    best = windows[found[0][1]]
    start, end = best.probabilities[best.inside.start : best.inside.stop].unbind(-1)
    answers = tuple(answer for answer, _ in found)
    return SpanAnswers(answers, surest_window(windows).no_answer, best.tokens, start, end)


@torch.inference_mode()
def span_windows(
    bert: Bert,
    question: str,
    passage: str,
    progress: Callable[[int, int], None] | None = None,
    head: str | None = None,
) -> list[SpanWindow]:
    """Reads a passage, in overlapping windows if it is long, with the head for spans.

    `progress` is called after each window with how many are done, and how many there are; `head` is a name in
    `bert.heads`, None is "span", or the only head for spans. Raises `ValueError` for an empty or too long
    question or passage, and if there is no such head.
    """
    head = find_head(bert, head, "span", "span")
    for what, typed in {"question": question, "passage": passage}.items():
        check_text(typed, what)
        if len(typed) > LONGEST_PASSAGE:
            raise ValueError(
                f"The {what} has {len(typed):,} characters; up to {LONGEST_PASSAGE:,} are read: please "
                "shorten it."
            )
    text, asked = bert.tokenizer.pieces(passage, segment=1), bert.tokenizer.pieces(question)
    parts = bert.tokenizer.windows(text, bert.config.max_position_embeddings, asked)
    count = sum(len(window) for window, *_ in parts)
    if count > MOST_TOKENS:  # a long question leaves little room for the passage in each window
        raise ValueError(
            f"With so long a question the passage is read in {len(parts):,} parts, {count:,} word pieces in "
            f"all; up to {MOST_TOKENS:,} are read: please shorten the question or the passage."
        )
    windows = []
    for window, *_ in parts:
        scores = bert.logits(head, _last_layer(bert, window))[0].float()
        windows.append(SpanWindow(window, scores.cpu()))
        if progress is not None:
            progress(len(windows), len(parts))
    return windows


def surest_window(windows: Sequence[SpanWindow]) -> SpanWindow:
    """The window in which no answer scores lowest, which counts for all: an answer that stands in one of them
    is in none of the others (as SQuAD 2.0's own script has it)."""
    return min(windows, key=lambda window: window.no_answer_score)


def best_spans(
    windows: Sequence[SpanWindow], passage: str, top_k: int = 5, longest: int = 30
) -> list[tuple[Answer, int]]:
    """The most probable spans of all windows, best first, each with the number of its window. A span that two
    windows hold counts once, where it is more probable."""
    found: dict[tuple[int, int], tuple[Answer, int]] = {}
    for number, window in enumerate(windows):
        joint, tokens = window.joint(longest), window.tokens
        values, places = joint.flatten().topk(min(top_k, joint.numel()))
        for value, place in zip(values.tolist(), places.tolist(), strict=True):
            first, last = divmod(place, len(tokens))
            start, end = tokens[first].start, tokens[last].end
            known = found.get((start, end))
            if first <= last < first + longest and (known is None or known[0].probability < value):
                found[start, end] = Answer(passage[start:end], start, end, value), number
    return sorted(found.values(), key=lambda pair: -pair[0].probability)[:top_k]


@torch.inference_mode()
def classify_image(
    vit: ViT, image: ImageSource, top_k: int = 5, *, size: tuple[int, int] | None = None
) -> list[Candidate] | list[Number]:
    """Classes of a picture, best first (ViT, equation 4), or the numbers of a head for regression.

    `image` is anything that `load_image` opens, `size` another (height, width) in pixels than the
    checkpoint's, multiples of its patch size. Raises `ValueError` for no picture, too many patches, and
    without a head.
    """
    check_model(vit, ViT)
    check_whole("top_k", top_k)
    check_ready(vit)
    if size is not None:
        check_size(size, vit.config.patch_size, MOST_PATCHES)
    pixels = prepare_image(image, vit.preprocessing, size).to(vit.device)
    return _typed(vit.answers(vit(pixels)[-1])[0], vit)[:top_k]


@torch.inference_mode()
def embed(bert: Bert, text: str) -> Tensor:
    """One contextual vector for each token, [CLS] and [SEP] included: (tokens, hidden), on the CPU."""
    check_model(bert, Bert)
    check_ready(bert)
    encoding = bert.tokenizer.encode(text, max_length=bert.config.max_position_embeddings)
    return _last_layer(bert, encoding)[0].float().cpu()
