"""Which words mattered for the class of a sentence: by gradients, and by leaving each word out."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.attention import attention_relevance, sum_over_words
from workbench.bert import Bert
from workbench.encoder import MODEL_LOCK
from workbench.text import Encoding


@dataclass(frozen=True)
class Word:
    """A word of an encoding: its characters, and its tokens as (first, behind last).

    [CLS] and [SEP] are words without characters; `special` tells.
    """

    start: int
    end: int
    tokens: tuple[int, int]
    pieces: tuple[str, ...]
    special: bool = False


def words_of(encoding: Encoding) -> list[Word]:
    """The words of an encoding in their order: neighbouring pieces with the same word number are one."""
    groups: list[list[int]] = []
    for index, token in enumerate(encoding.tokens):
        before = encoding.tokens[index - 1] if index else None
        if before and token.word is not None and (token.word, token.segment) == (before.word, before.segment):
            groups[-1].append(index)
        else:
            groups.append([index])
    tokens = encoding.tokens
    return [
        Word(
            tokens[group[0]].start,
            tokens[group[-1]].end,
            (group[0], group[-1] + 1),
            tuple(tokens[index].text for index in group),
            tokens[group[0]].word is None,
        )
        for group in groups
    ]


def hide_words(words: Sequence[Word], hidden: Sequence[Sequence[int]]) -> Tensor:
    """One attention mask for each set of hidden words (their numbers): (sets, tokens)."""
    visible = torch.ones(len(hidden), words[-1].tokens[1], dtype=torch.bool)
    for row, numbers in enumerate(hidden):
        for number in numbers:
            visible[row, slice(*words[number].tokens)] = False
    return visible


@torch.inference_mode()
def class_probabilities(
    bert: Bert, head: str, encoding: Encoding, hidden: Sequence[Sequence[int]] = ((),)
) -> Tensor:
    """Probabilities of a sentence head with sets of words hidden, in one pass: (sets, classes).

    Args:
        hidden: numbers of words in `words_of(encoding)`. No token sees a hidden one; places stay the same.
    """
    visible = hide_words(words_of(encoding), hidden).to(bert.device)
    inputs = {name: ids.expand(len(visible), -1) for name, ids in encoding.tensors(bert.device).items()}
    with MODEL_LOCK:
        logits = bert.logits(head, bert(**inputs, attention_mask=visible)[-1])
    return logits.float().softmax(-1).cpu()


def leave_one_out(
    bert: Bert,
    head: str,
    encoding: Encoding,
    label: int,
    words: Sequence[int],
    hidden: Sequence[int] = (),
) -> Tensor:
    """How far the probability of a class falls when one word is hidden; below 0: it rises.

    Args:
        label: number of the class.
        words: numbers of the words that are left out, one at a time, all in one pass.
        hidden: words that are hidden all the time.

    Returns:
        (words,), between -1 and 1.
    """
    sets = [tuple(hidden), *((*hidden, word) for word in words)]
    probabilities = class_probabilities(bert, head, encoding, sets)[:, label]
    return probabilities[0] - probabilities[1:]


def gradient_relevance(
    bert: Bert, head: str, encoding: Encoding, label: int, hidden: Sequence[int] = ()
) -> Tensor:
    """What reaches [CLS] from each word in favour of a class, as shares that sum to one: (all words,).

    Attention weighted by its gradient, through all layers (Chefer et al. 2021, see `attention_relevance`);
    [CLS] and [SEP] get 0. It is never below 0: words against the class are not told from idle ones.
    """
    words = words_of(encoding)
    visible = hide_words(words, [hidden]).to(bert.device)

    def score() -> Tensor:
        states = bert(**encoding.tensors(bert.device), attention_mask=visible)
        return bert.logits(head, states[-1])[:, label]

    row = attention_relevance(bert, score)[0, 0].float().cpu()  # [CLS] looks at all tokens
    numbers = [number for number, word in enumerate(words) for _ in range(*word.tokens)]
    shares = sum_over_words(row, numbers)
    shares[[number for number, word in enumerate(words) if word.special]] = 0
    return shares / shares.sum().clamp(min=1e-12)
