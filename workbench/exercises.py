"""Graders of the lessons' exercises: what is right, what is still to do, and a hint."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import torch


def check_spans(
    vectors: dict[str, Sequence[float]],
    start: Sequence[float],
    end: Sequence[float],
    s: Sequence[float | None],
    e: Sequence[float | None],
) -> str:
    """Checks the exercise of lesson 06: s_i and e_i of a short document, computed by hand.

    Args:
        vectors: T_i of each word.
        start, end: the trained vectors S and E.
        s, e: what was computed for each word, softmax included; None for what is still to be done.

    Returns:
        One line for s and one for e: what is right, what is missing, and a hint for the first mistake.
    """
    states = torch.tensor([list(vector) for vector in vectors.values()], dtype=torch.float)
    lines = []
    for name, letter, trained, given in (("s", "S", start, s), ("e", "E", end, e)):
        scores = states @ torch.tensor(trained, dtype=torch.float)
        lines.append(
            f"{name}: " + _verdict(letter, list(vectors), scores, [] if given is None else list(given))
        )
    return "\n".join(lines)


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # the last for a tensor of several
        return False
    return not isinstance(value, str)


def _verdict(letter: str, words: list[str], scores: torch.Tensor, given: list[float | None]) -> str:
    if len(given) != len(words):
        return f"{len(words)} numbers are needed, one for each word; here are {len(given)}."
    if odd := [value for value in given if value is not None and not _is_number(value)]:
        return f"a number is needed for each word, or None, not {odd[0]!r}."
    given = [None if value is None else float(value) for value in given]
    missing = [word for word, value in zip(words, given, strict=True) if value is None]
    if missing == words:
        return f"still to do. Begin with the dot product {letter}.T of {words[0]!r}."
    right = scores.softmax(0).tolist()
    wrong = [
        at for at, value in enumerate(given) if value is not None and not abs(value - right[at]) < 0.0055
    ]
    if missing and not wrong:
        return f"right so far; still missing: {', '.join(missing)}."
    if not wrong:
        return "all five right!" if len(words) == 5 else "all right!"
    at, score = wrong[0], float(scores[wrong[0]])
    hint = f"{words[at]!r} is not right yet. Its dot product {letter}.T is {score:g}"
    if abs(given[at] - score) < 0.015:
        return f"{hint}, as you have it; now take exp, and divide by the sum over all words."
    return f"{hint}: exp of it is {math.exp(score):.2f}, and you divide by the sum over all words."


def check_tokens(answers: Mapping[tuple[int, int, int], int | None]) -> str:
    """Checks the exercise of lesson 07: how many tokens a ViT makes of a picture.

    Args:
        answers: by (height, width, patch size) in pixels, the number of tokens with the class token;
            None for what is still to be done.

    Returns:
        A line for each: right, still to do, or a hint.
    """
    lines = []
    for (height, width, patch), given in answers.items():
        start = f"{height} x {width} in patches of {patch}: "
        rows, columns = (height // patch, width // patch) if patch > 0 else (0, 0)
        if patch < 1 or height % patch or width % patch:
            hint = f"cannot be cut without a rest; both sides must be multiples of {patch}."
        elif given is None:
            hint = "still to do. How many patches are there down, and how many across?"
        elif not _is_number(given):
            hint = f"a number is needed, not {given!r}."
        elif given == rows * columns + 1:
            hint = f"right, {rows} x {columns} patches and the class token."
        elif given == rows * columns:
            hint = "nearly. Something stands in front of the patches."
        elif given == rows + columns or given == rows + columns + 1:
            hint = "not yet. A picture has rows and columns: multiply them."
        elif given in (height * width, height * width + 1, 3 * height * width):
            hint = "not yet. These are the pixels; a token is a whole patch."
        else:
            hint = f"not yet. Divide {height} by {patch} to get the rows."
        lines.append(textwrap.fill(start + hint, 76, subsequent_indent="    "))
    return "\n".join(lines)
