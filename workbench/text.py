"""Text in, word pieces out: every token keeps the characters of the untouched input that it came from.

WordPiece and its normalisation come from the `tokenizers` library; here is what BERT adds: [CLS] and
[SEP], two segments, masks, and windows over texts that are too long.
"""

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from typing import Any, Literal

import tokenizers
import torch
from torch import Tensor

from workbench.checks import check_text, check_tuples


@dataclass(frozen=True)
class Token:
    """One word piece. `start` and `end` are character offsets in its own segment's text.

    `word` counts the words of a segment (None for [CLS] and [SEP]); a masked token remembers in
    `original_id` what stood there (None behind a [MASK] that was typed).
    """

    id: int
    text: str
    start: int = 0
    end: int = 0
    segment: int = 0
    word: int | None = None
    masked: bool = False
    original_id: int | None = None


@dataclass(frozen=True)
class Word:
    """A word of an encoding: its characters in its segment's text, and where its pieces stand (`tokens`).
    [CLS] and [SEP] are words without characters; `special` tells."""

    start: int
    end: int
    segment: int
    tokens: range
    pieces: tuple[str, ...]
    special: bool


@dataclass(frozen=True)
class Encoding:
    """A packed input: [CLS] first [SEP], or [CLS] first [SEP] second [SEP]."""

    tokens: tuple[Token, ...]

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def masks(self) -> list[int]:
        """Indices of the masked tokens."""
        return [index for index, token in enumerate(self.tokens) if token.masked]

    @cached_property
    def words(self) -> list[Word]:
        """Words in their order: neighbouring pieces with the same word number are one."""

        def key(index: int) -> tuple:
            token = self.tokens[index]
            return token.segment, token.word, token.word is None and index

        words = []
        for _, run in groupby(range(len(self)), key):
            start, *rest = run
            tokens = range(start, start + len(rest) + 1)
            pieces = [self.tokens[index] for index in tokens]
            first, texts = pieces[0], tuple(piece.text for piece in pieces)
            words.append(Word(first.start, pieces[-1].end, first.segment, tokens, texts, first.word is None))
        return words

    @cached_property
    def word_numbers(self) -> list[int]:
        """For each token the number of its word in `words`."""
        return [number for number, word in enumerate(self.words) for _ in word.tokens]

    def tensors(self, device: torch.device | str = "cpu") -> dict[str, Tensor]:
        """What `Bert.forward` takes: `input_ids` and `token_type_ids`, each (1, tokens)."""
        ids = torch.tensor([[token.id for token in self.tokens]], device=device)
        segments = torch.tensor([[token.segment for token in self.tokens]], device=device)
        return {"input_ids": ids, "token_type_ids": segments}


SPECIAL_TOKENS = {f"{name.lower()}_token": f"[{name}]" for name in ("CLS", "SEP", "MASK", "PAD", "UNK")}


class Tokenizer:
    """BERT's WordPiece tokenizer, with offsets (BERT paper, section 3).

    `backend` has [CLS], [SEP], [MASK], [PAD] and [UNK] among its word pieces, else there is a `ValueError`.
    They are none of its added tokens: "[SEP]" typed by a user is text like any other; only [MASK] has a
    meaning, see `encode`.
    """

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        backend.no_truncation()
        backend.no_padding()
        self.backend = backend
        ids = [backend.token_to_id(token) for token in SPECIAL_TOKENS.values()]
        for token, token_id in zip(SPECIAL_TOKENS.values(), ids, strict=True):
            if token_id is None:
                raise ValueError(f"The tokenizer has no {token} token, which BERT needs.")
        self.cls_id, self.sep_id, self.mask_id, self.pad_id, self.unk_id = ids

    @classmethod
    def from_words(
        cls,
        words: Sequence[str] | dict[str, int],
        lowercase: bool = True,
        strip_accents: bool | None = None,
        split_chinese: bool = True,
    ) -> "Tokenizer":
        """A tokenizer from a list of word pieces (the lines of vocab.txt), or from these with their ids."""
        vocabulary = words if isinstance(words, dict) else {word: index for index, word in enumerate(words)}
        backend = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))
        backend.normalizer = tokenizers.normalizers.BertNormalizer(
            handle_chinese_chars=split_chinese, strip_accents=strip_accents, lowercase=lowercase
        )
        backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
        backend.decoder = tokenizers.decoders.WordPiece()
        return cls(backend)

    @property
    def vocab_size(self) -> int:
        """Number of word pieces."""
        return self.backend.get_vocab_size()

    def word_piece(self, token_id: int) -> str:
        """The word piece of an id, "##" included."""
        return self.backend.id_to_token(int(token_id)) or "[UNK]"

    def random_ids(self) -> Tensor:
        """Ids that may stand in for a word at random: all but special, added and unused ones; (choices,)."""
        pieces = self.backend.get_vocab(with_added_tokens=False).items()
        return torch.tensor(sorted(token_id for piece, token_id in pieces if not piece.startswith("[")))

    def pieces(self, text: str, segment: int = 0) -> list[Token]:
        """The word pieces of one text, without [CLS] and [SEP]; a typed [MASK] is a mask. Raises `ValueError`
        for no text, or none that the tokenizer can read."""
        what = "second text" if segment else "text"
        check_text(text, what)
        tokens: list[Token] = []
        start = words = 0  # where a part begins, and the number of its first word
        parts = text.split("[MASK]")
        encoded = self.backend.encode_batch(parts, add_special_tokens=False)
        for characters, part in zip(parts, encoded, strict=True):
            starts = [*(first for first, _ in part.offsets), len(characters)]
            pieces = zip(part.ids, part.tokens, part.offsets, part.word_ids, strict=True)
            for token_id, piece, (first, last), word in pieces:
                next_start = starts[bisect_left(starts, last)]
                while last < next_start and unicodedata.category(characters[last]) == "Mn":
                    last += 1  # an accent of its own, which the tokenizer leaves out
                if token_id in (self.cls_id, self.sep_id, self.mask_id, self.pad_id):
                    token_id, piece = self.unk_id, "[UNK]"  # of a tokenizer that keeps "[SEP]" one word
                tokens.append(Token(token_id, piece, start + first, start + last, segment, words + word))
            words, start = tokens[-1].word + 1 if tokens else 0, start + len(characters)
            if start < len(text):
                end = start + len("[MASK]")
                tokens.append(Token(self.mask_id, "[MASK]", start, end, segment, words, masked=True))
                words, start = words + 1, end
        if not tokens:
            raise ValueError(
                f"The {what} holds no word that the tokenizer can read (control characters only?)."
            )
        return tokens

    @staticmethod
    def find_word(text: str, word: str, ignore_case: bool = False) -> re.Match | None:
        """Where a word, a sign, or several first stand in a text by themselves; accents may be letters of
        their own. As in BERT's vocabulary, an underscore is no letter, and a Chinese character is a word."""
        forms = {word, *(unicodedata.normalize(form, word) for form in ("NFC", "NFD"))}
        words = "|".join(map(re.escape, sorted(forms, reverse=True)))
        letter = r"[^\W_\u3400-\u9fff]"
        left = f"(?<!{letter})" * bool(re.match(letter, word))
        right = f"(?!{letter})" * bool(re.search(letter + r"\Z", word))
        return re.search(f"{left}({words}){right}", text, re.IGNORECASE if ignore_case else 0)

    def mask_spans(self, tokens: Sequence[Token], spans: Iterable[Sequence], seed: int = 0) -> list[Token]:
        """Masks every token that a span of characters touches.

        Args:
            spans: (start, end), or (start, end, action) with the action "mask", "random" (another word
                piece instead) or "keep" (the word stays, and is guessed all the same).
            seed: the random word pieces depend on it and on where they stand.
        """
        spans = [(*span, "mask")[:3] for span in check_tuples("masks", spans, "start, end[, action]")]
        for *_, action in spans:
            if action not in ("mask", "random", "keep"):
                raise ValueError(f"What is done to a word is 'mask', 'random' or 'keep', not {action!r}.")
        random_ids = self.random_ids() if any(action == "random" for *_, action in spans) else None
        masked = []
        for token in tokens:
            actions = [action for start, end, action in spans if start < token.end and token.start < end]
            if token.masked or not actions:
                masked.append(token)
                continue
            new_id = {"mask": self.mask_id, "keep": token.id}.get(actions[0])
            if new_id is None:
                generator = torch.Generator().manual_seed(seed + token.start)
                new_id = int(random_ids[torch.randint(len(random_ids), (1,), generator=generator)])
            piece = self.word_piece(new_id)
            masked.append(replace(token, id=new_id, text=piece, masked=True, original_id=token.id))
        return masked

    def choose_spans(self, tokens: Sequence[Token], seed: int) -> list[tuple]:
        """Words chosen at random by BERT's rule, whole words: (start, end, action) for `mask_spans`."""
        rows = torch.tensor([[(token.id, token.word, not token.masked) for token in tokens]])
        ids, words, free = rows.unbind(-1)  # each (1, tokens)
        generator = torch.Generator().manual_seed(seed)
        random_ids = self.random_ids()
        _, actions = mask_randomly(ids, free.bool(), self.mask_id, random_ids, generator, words=words)
        spans: dict[int, tuple] = {}
        for token, action in zip(tokens, actions[0].tolist(), strict=True):
            if action:
                start = spans.get(token.word, (token.start,))[0]
                spans[token.word] = (start, token.end, (None, "mask", "random", "keep")[action])
        return list(spans.values())

    def pack(self, first: Sequence[Token], second: Sequence[Token] | None = None) -> Encoding:
        """[CLS] first [SEP], and second [SEP] in segment 1 (BERT, figure 2)."""
        packed = [Token(self.cls_id, "[CLS]"), *first, Token(self.sep_id, "[SEP]")]
        if second is not None:
            packed += [*second, Token(self.sep_id, "[SEP]", segment=1)]
        return Encoding(tuple(packed))

    def encode(
        self,
        first: str,
        second: str | None = None,
        masks: str | Iterable[Sequence] = (),
        max_length: int = 512,
        seed: int = 0,
    ) -> Encoding:
        """One or two texts as one packed input, where a literal [MASK] is a mask.

        Spans of characters, or words, of the first text are masked as well, see `mask_spans`. Raises
        `ValueError` for a text that is empty, unreadable, or of more than `max_length` tokens.
        """
        tokens = self.mask_spans(self.pieces(first), word_spans(first, masks), seed)
        encoding = self.pack(tokens, None if second is None else self.pieces(second, segment=1))
        if len(encoding) > max_length:
            what = "The text has" if second is None else "The two texts together have"
            raise ValueError(
                f"{what} {len(encoding):,} word pieces; this checkpoint reads {max_length} at once: "
                f"please shorten {'it' if second is None else 'them'}."
            )
        return encoding

    def windows(
        self, tokens: Sequence[Token], max_length: int, question: Sequence[Token] = (), stride: int = 128
    ) -> list[tuple[Encoding, int, range]]:
        """Overlapping packed inputs over the tokens of a text (from `pieces`) that may be too long for one.

        Args:
            max_length: most tokens of a window, [CLS] and [SEP] included.
            question: tokens put before each window as the first segment; `ValueError` if they leave no room.
            stride: how many tokens neighbouring windows share, at most half of a window.

        Returns:
            Each window, the index of its first token in `tokens`, and the indices that it answers for: of
            what two share, each takes the half that lies deeper in it.
        """
        room = max_length - 2 - (len(question) + 1 if question else 0)
        if room < 1:
            raise ValueError(
                f"The question has {len(question):,} word pieces, which leave no room for the text among "
                f"{max_length}: please shorten it."
            )
        stride = min(stride, room // 2)
        starts = range(0, max(1, len(tokens) - stride), room - stride)
        borders = [0, *(start + stride // 2 for start in starts[1:]), len(tokens)]
        parts = [tokens[start : start + room] for start in starts]
        windows = [self.pack(question, part) if question else self.pack(part) for part in parts]
        return list(zip(windows, starts, map(range, borders, borders[1:]), strict=True))


def visible_tokens(encoding: Encoding, hide: Literal["nothing", "left", "right"], mask: int) -> Tensor:
    """An attention mask (1, tokens) that hides all words left, or right, of the token `mask`.

    [CLS], [SEP] and the mask itself stay visible; positions do not move.
    """
    index = torch.arange(len(encoding))
    hidden = {"nothing": index < 0, "left": index < mask, "right": index > mask}[hide]
    special = torch.tensor([token.word is None for token in encoding.tokens])
    return (~hidden | special)[None]


def word_spans(text: str, masks: str | Iterable[Any]) -> Any:
    """(start, end) of each word among `masks`, or of the one that it is, where it first stands in the text;
    spans stay as they are. Raises `ValueError` for a word that the text does not hold.

    Example:
        >>> word_spans("A cup of tea.", "tea")
        [(9, 12)]
    """
    if not hasattr(masks, "__iter__"):
        return masks
    found = []
    for mask in [masks] if isinstance(masks, str) else masks:
        if isinstance(mask, str):
            place = Tokenizer.find_word(text, mask) if mask else None
            if place is None:
                raise ValueError(f"The text does not hold the word {mask!r}.")
            mask = place.span()
        found.append(mask)
    return found


def place_cls(
    encoding: Encoding,
    place: Literal["front", "middle", "end"] = "front",
    positions: Literal["follow", "stay"] = "follow",
) -> tuple[Encoding, Tensor, int]:
    """Moves [CLS] in front of, between, or behind two sentences. The positions "follow": tokens are numbered
    anew where they stand now; or "stay": each keeps the number that it had with [CLS] in front.

    Returns:
        The tokens in their new order, their `position_ids` for `Bert.forward`, (1, tokens), and the index
        of [CLS].

    Example:
        >>> moved, position_ids, index = place_cls(encoding, "end")  # doctest: +SKIP
        >>> states = bert(**moved.tensors(), position_ids=position_ids)  # doctest: +SKIP
        >>> bert.logits("nsp", states[-1].roll(-index, dims=1))  # [CLS] is token 0 again  # doctest: +SKIP
    """
    count = len(encoding)
    second = next((at for at, token in enumerate(encoding.tokens) if token.segment == 1), count)
    index = {"front": 0, "middle": second - 1, "end": count - 1}[place]
    order = [*range(1, index + 1), 0, *range(index + 1, count)]
    moved = Encoding(tuple(encoding.tokens[at] for at in order))
    return moved, torch.tensor([order if positions == "stay" else list(range(count))]), index


def mask_randomly(
    input_ids: Tensor,
    maskable: Tensor,
    mask_id: int,
    random_ids: Tensor,
    generator: torch.Generator,
    share: float = 0.15,
    words: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """BERT's masking rule: `share` of the tokens are chosen, at least one in each row; of these 80 %
    become [MASK], 10 % a random word piece, and 10 % stay (BERT, section 3.1 and appendix A.1).

    Args:
        input_ids: (batch, tokens).
        maskable: True where a token may be chosen (not [CLS], [SEP] or padding), (batch, tokens).
        random_ids: what a random word piece is drawn from, (choices,).
        share: of tokens.
        words: (batch, tokens) number of the word of each token: whole words are chosen together.

    Returns the ids after masking, and what was done, both (batch, tokens): 0 nothing, 1 [MASK], 2 a random
    word piece, 3 chosen, but left as it is.
    """

    def uniform() -> Tensor:  # numbers (batch, tokens), the same for all pieces of a word
        if words is None:
            return torch.rand(input_ids.shape, generator=generator)
        return torch.rand(len(words), int(words.max()) + 1, generator=generator).gather(1, words)

    luck = uniform().masked_fill(~maskable, 2.0)
    count = (maskable.sum(1, keepdim=True) * share).round().long().clamp(min=1)
    threshold = luck.sort(dim=1).values.gather(1, count - 1)
    chosen = (luck <= threshold) & maskable
    dice = uniform()
    action = torch.where(dice < 0.8, 1, torch.where(dice < 0.9, 2, 3)) * chosen
    random = random_ids[torch.randint(len(random_ids), input_ids.shape, generator=generator)]
    return torch.where(action == 1, mask_id, torch.where(action == 2, random, input_ids)), action
