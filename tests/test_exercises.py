"""Graders: what is right is called right, and each usual mistake gets its hint."""

import math
from decimal import Decimal

import pytest
import torch

from workbench.exercises import check_spans, check_tokens

T = {"Anna": [1, 0], "was": [0, 0], "born": [0, 1], "in": [1, 1], "Rome": [1, 2]}
RIGHT_S, RIGHT_E = [0.08, 0.03, 0.08, 0.22, 0.59], [0.01, 0.03, 0.23, 0.09, 0.64]


@pytest.mark.parametrize(
    ("s", "said"),
    [
        ([None] * 5, "s: still to do"),
        (RIGHT_S, "s: all five right!"),
        ([0.08, None, 0.08, None, 0.59], "s: right so far; still missing: was, in."),
        ([0.08, 0.03, 0.08, 0.5, None], "'in' is not right yet. Its dot product S.T is 2: exp of it is 7.39"),
        ([1, 0, 1, 2, 3], "'Anna' is not right yet. Its dot product S.T is 1, as you have it; now take exp"),
        ([math.nan] * 5, "s: 'Anna' is not right yet"),
        ([0.08, 0.03, 0.08, 0.22, 0.60], "s: 'Rome' is not right yet"),
        (["0.08"] * 5, "s: a number is needed for each word, or None, not '0.08'"),
        ([0.08, None, [], 0.22, 0.59], "or None, not []"),
        (torch.zeros(5, 2), "or None, not tensor([0., 0.])"),
        ([Decimal("0.08"), *RIGHT_S[1:]], "s: all five right!"),
        (None, "5 numbers are needed"),
        ([0.08, 0.03], "5 numbers are needed, one for each word; here are 2"),
    ],
)
def test_the_exercise_is_checked(s: list, said: str) -> None:
    first, second = check_spans(T, [1, 1], [-1, 2], s, RIGHT_E).split("\n")
    assert said in first and second == "e: all five right!"


@pytest.mark.parametrize("at", range(5))
def test_a_neighbour_of_the_right_number_is_wrong(at: int) -> None:
    for step in (-0.01, 0.01):
        near = [value + step * (place == at) for place, value in enumerate(RIGHT_E)]
        assert "not right yet" in check_spans(T, [1, 1], [-1, 2], RIGHT_S, near).split("\n")[1]


def test_tokens_are_counted_and_hints_are_given() -> None:
    right = {(224, 224, 16): 197, (384, 384, 16): 577, (224, 224, 14): 257, (32, 48, 8): 25}
    assert check_tokens(right).count("right") == 4
    for odd in ("197", [197]):
        assert "a number is needed, not " in check_tokens({(224, 224, 16): odd})
    assert "cannot be cut" in check_tokens({(224, 224, 0): None})
    given = {(224, 224, 16): 196, (384, 384, 16): 48, (96, 96, 8): None, (10, 10, 3): 1, (8, 8, 4): 64}
    for line, hint in zip(
        check_tokens(given).replace("\n    ", " ").splitlines(),
        (
            "Something stands in front",
            "multiply them",
            "still to do",
            "cannot be cut",
            "These are the pixels",
        ),
        strict=True,
    ):
        assert hint in line
