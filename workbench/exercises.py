"""Graders of the lessons' exercises: what is right, what is still to do, and a hint."""

import math
from collections.abc import Mapping, Sequence

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
    words = list(vectors)
    states = torch.tensor([list(vectors[word]) for word in words], dtype=torch.float)
    lines = []
    for name, letter, trained, given in (("s", "S", start, s), ("e", "E", end, e)):
        scores = states @ torch.tensor(trained, dtype=torch.float)
        right = scores.softmax(0).tolist()
        given = [None if value is None else float(value) for value in given]
        if len(given) != len(words):
            lines.append(
                f"{name}: {len(words)} numbers are needed, one for each word; here are {len(given)}."
            )
        elif all(value is None for value in given):
            lines.append(f"{name}: still to do. Begin with the dot product {letter}.T of {words[0]!r}.")
        else:
            lines.append(f"{name}: " + _verdict(words, scores.tolist(), right, given, letter))
    return "\n".join(lines)


def _verdict(words: list[str], scores: list[float], right: list[float], given: list, letter: str) -> str:
    close = [
        value is not None and abs(value - true) < 0.015 for value, true in zip(given, right, strict=True)
    ]
    missing = [word for word, value in zip(words, given, strict=True) if value is None]
    if all(close):
        return "all five right!" if len(words) == 5 else "all right!"
    wrong = [at for at, value in enumerate(given) if value is not None and not close[at]]
    if not wrong:
        return f"right so far; still missing: {', '.join(missing)}."
    at = wrong[0]
    hint = f"{words[at]!r} is not right yet. Its dot product {letter}.T is {scores[at]:g}"
    if abs(given[at] - scores[at]) < 0.015:
        return f"{hint}, as you have it; now take exp, and divide by the sum over all words."
    power = math.exp(scores[at])
    return f"{hint}: exp of it is {power:.2f}, and you divide by the sum over all words."


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
        if height % patch or width % patch:
            lines.append(start + f"cannot be cut without a rest; both sides must be multiples of {patch}.")
            continue
        rows, columns = height // patch, width // patch
        if given is None:
            hint = "still to do. How many patches are there down, and how many across?"
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
        lines.append(start + hint)
    return "\n".join(lines)
