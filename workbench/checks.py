"""Arguments are checked before a model runs: a wrong one gets a sentence in the user's words."""

import operator
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from workbench.encoder import MODEL_LOCK

MOST_PATCHES = 4096  # of a picture that is read: 64 x 64


def counted(count: int, noun: str) -> str:
    """How many of a thing there are, in words: "1 head", "12 heads", "3 classes"."""
    ending = "es" if noun.endswith("s") else "s"
    return f"{count:,} {noun}{ending * (count != 1)}"


def check_model(model: Any, *kinds: type) -> None:
    """Raises `TypeError` for anything but a loaded model of these kinds (`Bert`, `ViT`)."""
    if isinstance(model, kinds):
        return
    wanted = " or a ".join(kind.__name__.replace("Bert", "BERT") for kind in kinds)
    door = f"load_{kinds[0].__name__.lower()}"
    if isinstance(model, str | Path):
        raise TypeError(f"A {wanted} is needed here, not a name: {door}({str(model)!r}) loads it.")
    raise TypeError(f"A {wanted} is needed here, not a {type(model).__name__}: {door}() loads one.")


def check_ready(model: Any) -> None:
    """Raises `ValueError` for a model that came without what reads a user's text or picture, or whose answers
    dropout makes random. It waits for a step of a training."""
    config = model.config
    with MODEL_LOCK:
        training = model.training
    if training and max(config.hidden_dropout_prob, config.attention_probs_dropout_prob) > 0:
        raise ValueError(
            f"{model.name} is in training mode, and dropout changes its answers: call .eval() on it."
        )
    reader, what = ("tokenizer", "text") if hasattr(model, "tokenizer") else ("preprocessing", "pictures")
    if getattr(model, reader) is None:
        raise ValueError(f"{model.name} came without a {reader}, so it cannot read {what}.")


def check_rows(rows: Iterable[Any], names: Sequence[str]) -> None:
    """Raises `ValueError` for rows that are no tuples of texts of these names; a "picture" is of any kind."""
    for number, row in enumerate(rows, 1):
        if not isinstance(row, tuple | list):
            raise ValueError(f"Row {number} is a {type(row).__name__}, not ({', '.join(names)}).")
        if len(row) != len(names):
            raise ValueError(f"Row {number} has {len(row)} fields, not these: {', '.join(names)}.")
        for name, field in zip(names, row, strict=True):
            if name != "picture" and not isinstance(field, str):
                raise ValueError(f"Row {number}: its {name} is {field!r}, not text.")


def whole(name: str, value: Any) -> int:
    """A whole number of any kind as an int; raises `TypeError` for anything else."""
    try:
        return operator.index(None if isinstance(value, bool) else value)
    except TypeError:
        raise TypeError(f"{name} is a whole number, not {value!r}.") from None


def check_whole(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """A whole number within these bounds; raises `TypeError` or `ValueError` for any other."""
    number = whole(name, value)
    if number < least or (most is not None and number > most):
        bounds = f"{least} or more" if most is None else f"between {least} and {most:,}"
        raise ValueError(f"{name} is {bounds}, not {number}.")
    return number


def check_place(what: str, number: Any, count: int, whose: str) -> None:
    """Raises as `check_whole` for what is none of `count` things ("layer", "head"), counted from 0."""
    if not 0 <= whole(f"The number of a {what}", number) < count:
        several = what + ("es" if what.endswith(("s", "h")) else "s")
        have = f"{several} 0 to {count - 1}" if count else "none"
        raise ValueError(f"There is no {what} {number}: {whose} has {have}.")


def check_tuples(name: str, given: Any, parts: str) -> list[tuple]:
    """What is given as a list of tuples of these whole numbers, such as "layer, head"; a part in brackets is
    of any kind and may be missing. Raises `TypeError` for anything else."""
    whole_parts, most = parts.split("[")[0].split(", "), parts.count(",") + 1
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise TypeError(f"{name} is a list of ({parts}), not {given!r}.")
    found = []
    for one in given:
        count = len(one) if isinstance(one, Sequence) and not isinstance(one, str) else 0
        if not len(whole_parts) <= count <= most:
            raise TypeError(f"{name} is a list of ({parts}); {one!r} is none.")
        numbers = [whole(f"In {name}, {part}", one[place]) for place, part in enumerate(whole_parts)]
        found.append((*numbers, *one[len(numbers) :]))
    return found


def check_maps(maps: Any, shape: str = "..., query, key") -> None:
    """Raises `TypeError` or `ValueError` for what are no attention maps of this shape, with a key for each
    query; "..." stands for any axes."""
    if not isinstance(maps, Tensor):
        raise TypeError(f"An attention map is a tensor ({shape}), not a {type(maps).__name__}.")
    has_axes = maps.ndim >= 2 and (shape.startswith("...") or maps.ndim == shape.count(",") + 1)
    if not has_axes or maps.shape[-1] != maps.shape[-2] or not maps.shape[-1]:
        found = tuple(maps.shape)
        raise ValueError(f"An attention map is ({shape}), with a key for each query, not {found}.")


def check_size(size: Any, patch_size: int = 1, most: int = MOST_PATCHES**2) -> None:
    """Raises `TypeError` or `ValueError` for what is no (height, width) of at most so many patches."""
    if not isinstance(size, Sequence) or isinstance(size, str) or len(size) != 2:
        raise TypeError(f"A size is (height, width), not {size!r}.")
    height, width = (check_whole("A height or width", side) for side in size)
    count = (height // patch_size) * (width // patch_size)
    if count > most:
        what = "patches" if patch_size > 1 else "pixels"
        raise ValueError(f"A size of {height} x {width} is {count:,} {what}; at most {most:,} are read.")


def check_characters(text: str, what: str = "text") -> None:
    """Raises `ValueError` for half a character (a lone surrogate), which no tokenizer and no file takes."""
    if broken := re.search("[\ud800-\udfff]", text):
        raise ValueError(
            f"The {what} holds half a character (a lone surrogate) at position {broken.start()}; "
            "delete it and type it again."
        )


def check_text(text: Any, what: str = "text") -> None:
    """Raises `ValueError`, one sentence, for a text that no tokenizer can read."""
    if not isinstance(text, str):
        raise ValueError(f"The {what} must be a string, not {type(text).__name__}.")
    if not text.strip():
        raise ValueError(f"The {what} is empty: type at least one word.")
    check_characters(text, what)
