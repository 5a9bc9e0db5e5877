"""Is a reason true? Which words mattered for a class, and what hiding the patches that a map marks does.

Words: by gradients, and by leaving each word out. Patches: deletion and insertion of RISE (arXiv:1806.07421),
with two differences: a hidden patch is not painted over but seen by no token, and random orders
say what hiding anything at all does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.attention import attention_relevance, sum_over_words
from workbench.bert import Bert
from workbench.checks import check_model, check_place, check_ready, check_whole
from workbench.encoder import MODEL_LOCK
from workbench.text import Encoding
from workbench.vit import ViT

AT_ONCE = 16  # pictures in one forward pass


def hide_words(encoding: Encoding, hidden: Sequence[Sequence[int]]) -> Tensor:
    """One attention mask for each set of hidden words (their numbers in `encoding.words`): (sets, tokens)."""
    words = encoding.words
    visible = torch.ones(len(hidden), len(encoding), dtype=torch.bool)
    for row, numbers in enumerate(hidden):
        for number in numbers:
            check_place("word", number, len(words), "this text")
            visible[row, list(words[number].tokens)] = False
    return visible


def _check_head(bert: Bert, head: str) -> None:
    check_model(bert, Bert)
    check_ready(bert)
    if head in bert.heads and bert.heads[head].kind != "sentence":
        raise ValueError(f"The head {head!r} of {bert.name} answers for tokens, not for a whole sentence.")


@torch.inference_mode()
def head_answers(
    bert: Bert, head: str, encoding: Encoding, hidden: Sequence[Sequence[int]] = ((),)
) -> Tensor:
    """What a sentence head says with sets of words hidden, see `hide_words`, in one pass: (sets, classes). No
    token sees a hidden one; places stay the same."""
    _check_head(bert, head)
    visible = hide_words(encoding, hidden).to(bert.device)
    inputs = {name: ids.expand(len(visible), -1) for name, ids in encoding.tensors(bert.device).items()}
    return bert.answers(head, bert(**inputs, attention_mask=visible)[-1]).cpu()


def leave_one_out(
    bert: Bert, head: str, encoding: Encoding, label: int, words: Sequence[int], hidden: Sequence[int] = ()
) -> Tensor:
    """How far the probability of the class with number `label`, or a number, falls when one of `words` is
    left out, all in one pass: (words,), below 0 where it rises. The words `hidden` are so all the time."""
    sets = [tuple(hidden), *((*hidden, word) for word in words)]
    answers = head_answers(bert, head, encoding, sets)
    check_place("class", label, answers.shape[1], f"the head {head!r}")
    return answers[0, label] - answers[1:, label]


def gradient_relevance(
    bert: Bert, head: str, encoding: Encoding, label: int, hidden: Sequence[int] = ()
) -> Tensor:
    """What reaches [CLS] from each word in favour of a class, as shares that sum to one (all 0 if none
    does): (all words,).

    See `attention_relevance`; [CLS] and [SEP] get 0. It is never below 0: words against the class are not
    told from idle ones.
    """
    _check_head(bert, head)
    visible = hide_words(encoding, [hidden]).to(bert.device)

    def logit() -> Tensor:
        states = bert(**encoding.tensors(bert.device), attention_mask=visible)
        logits = bert.logits(head, states[-1])
        check_place("class", label, logits.shape[1], f"the head {head!r}")
        return logits[:, label]

    row = attention_relevance(bert, logit)[0, 0].cpu()  # [CLS] looks at all tokens
    shares = sum_over_words(row, encoding.word_numbers)
    shares[torch.tensor([word.special for word in encoding.words])] = 0
    return shares / shares.sum().clamp(min=1e-12)


@dataclass(frozen=True)
class Faithfulness:
    """How a class (or a number) fares while patches are hidden (deletion) or uncovered (insertion), in a
    map's order.

    `shares` (steps + 1) of the patches are hidden, or shown; `deletion` and `insertion` are its answers
    at each. `random` is (orders, steps + 1): the same hidden in random orders; at `1 - shares` it is random
    insertion, because an order read backwards is as random as forwards. All on the CPU. The areas lie under
    the curves, by trapezoids.
    """

    shares: Tensor
    deletion: Tensor
    insertion: Tensor
    random: Tensor

    @property
    def deletion_area(self) -> float:
        """Small for a true map: the class is soon lost."""
        return float(torch.trapezoid(self.deletion, self.shares))

    @property
    def insertion_area(self) -> float:
        """Large for a true map: the class is soon found."""
        return float(torch.trapezoid(self.insertion, self.shares))

    @property
    def random_areas(self) -> Tensor:
        """Of each random order; insertion and deletion have the same."""
        return torch.trapezoid(self.random, self.shares)


def hide_patches(vit: ViT, pixels: Tensor, hidden: Tensor) -> Tensor:
    """The last hidden state of one picture (1, 3, height, width) without the patches `hidden` (batch,
    patches): (batch, prefix + patches in sight, hidden). Left out they cost no time, and nobody can look at
    them, as behind a mask. `ValueError` unless that is True or False for each, and as often in each row."""
    with MODEL_LOCK:
        prefix, patches = vit.embeddings(pixels).tensor_split([vit.config.num_prefix_tokens], dim=1)
        count = patches.shape[1]
        fits = hidden.dtype == torch.bool and hidden.shape == (len(hidden), count)
        if not fits or len(hidden.sum(-1).unique()) > 1:
            raise ValueError(
                f"hidden is (batch, {count}), True or False for each patch, as often in each row."
            )
        in_sight = count - int(hidden[0].sum())
        seen = hidden.int().argsort(dim=-1, stable=True)[:, :in_sight]  # (batch, in sight), in their order
        patches = patches[0, seen.to(vit.device)]  # (batch, in sight, hidden)
        return vit.encoder(torch.cat([prefix.expand(len(patches), -1, -1), patches], dim=1))[-1]


def hiding_steps(order: Tensor, steps: int) -> Tensor:
    """Patches hidden when the first ones of an order are, from none to all, in equal parts (rounded):
    (..., patches) -> (..., steps + 1, patches)."""
    count = order.shape[-1]
    rank = order.argsort(-1)  # rank[p]: when patch p's turn is
    return rank[..., None, :] < (torch.arange(steps + 1) * count / steps).round()[:, None]


@torch.inference_mode()
def delete_and_insert(
    vit: ViT,
    pixels: Tensor,
    weights: Tensor,
    target: int,
    *,
    steps: int = 12,
    random_orders: int = 5,
    seed: int = 0,
    random: Tensor | None = None,
    progress: Callable[[float], None] | None = None,
) -> Faithfulness:
    """Hides and uncovers the patches that a map marks most first, and others at random.

    Args:
        pixels: (1, 3, height, width), prepared.
        weights: (patches), the map; among equals, the first patch comes first.
        target: the class whose probability is watched, or which number.
        steps: looks at the answer between none and all.
        random_orders: how many to compare with, drawn from `seed`.
        random: `Faithfulness.random` of another map, if picture, class and the rest are the same; it saves
            most of the time.
        progress: is called with the share that is done, 0 to 1.

    Raises `ValueError` for a map or curves of another size, or a checkpoint without classes.
    """
    check_model(vit, ViT)
    count = vit.embeddings(pixels).shape[1] - vit.config.num_prefix_tokens
    if not isinstance(weights, Tensor) or weights.shape != (count,) or len(pixels) != 1:
        raise ValueError(f"pixels are one picture, (1, 3, height, width), and weights a tensor, ({count},).")
    check_whole("steps", steps, most=1000)
    check_whole("random_orders", random_orders, most=1000)
    check_place("class", target, len(vit.labels), vit.name)
    if random is not None and random.shape[1:] != (steps + 1,):
        raise ValueError(f"random has {tuple(random.shape)} answers, not (orders, {steps + 1}).")
    draw, drawn = torch.Generator().manual_seed(seed), random_orders if random is None else 0
    order = weights.float().cpu().argsort(descending=True, stable=True)
    orders = [order, *(torch.randperm(count, generator=draw) for _ in range(drawn))]
    deleted, *others = hiding_steps(torch.stack(orders), steps)  # each (steps + 1, patches)
    hidden = torch.stack([deleted, ~deleted, *others])  # uncovered is what was hidden, and the rest is not
    once, place = hidden.flatten(0, 1).unique(dim=0, return_inverse=True)  # all and none come often
    sizes, found = once.sum(-1), []
    parts = [rows for size in sizes.unique() for rows in (sizes == size).nonzero()[:, 0].split(AT_ONCE)]
    for done, rows in enumerate(parts, 1):
        found.append(vit.answers(hide_patches(vit, pixels, once[rows]))[:, target].cpu())
        if progress is not None:
            progress(done / len(parts))
    answers = torch.cat(found)[torch.cat(parts).argsort()]
    curves = answers[place].view(len(hidden), steps + 1)
    return Faithfulness(
        deleted.sum(-1) / count, curves[0], curves[1], curves[2:] if random is None else random
    )
