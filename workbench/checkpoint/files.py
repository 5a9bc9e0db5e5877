"""Where checkpoints are, and what lies in their files: settings, and tensors under other people's names."""

import json
import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from torch import Tensor, nn

from workbench.checkpoint import names


class CheckpointError(ValueError):
    """A checkpoint cannot be read or written; the message is one sentence for the user."""


def data_folder() -> Path:
    """The folder data/: beside the package in a checkout, inside it when installed from a wheel."""
    package = Path(__file__).parents[1]
    beside = package.parent / "data"
    return beside if (beside / "checkpoints").is_dir() else package / "data"


def shipped_checkpoints() -> dict[str, Path]:
    """Names and folders of the checkpoints that came with the package."""
    folders = sorted((data_folder() / "checkpoints").glob("*/config.json"))
    return {file.parent.name: file.parent for file in folders}


def locate(name: str | Path) -> Path:
    """A shipped name, a folder, an .npz or .safetensors file, or a Hub id -> where its files are.

    Raises `CheckpointError` if there is none, or the Hub cannot be reached.
    """
    if str(name) in shipped_checkpoints():
        return shipped_checkpoints()[str(name)]
    path = Path(os.path.expanduser(name))
    if os.path.exists(path):
        return path
    if isinstance(name, Path) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or path.suffix == ".npz":
        raise CheckpointError(f"There is no file or folder {str(name)!r}.")
    import huggingface_hub  # slow to import, and only needed here

    patterns = ["config.json", "model*.safetensors", "model.safetensors.index.json", "vocab.txt"]
    patterns += ["tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"]
    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=patterns))
    except huggingface_hub.errors.RepositoryNotFoundError as error:
        raise CheckpointError(
            f"The Hub has no checkpoint {name!r} that can be read without a login."
        ) from error
    except Exception as error:  # offline shows itself in many kinds of errors
        shipped = ", ".join(shipped_checkpoints()) or "none"
        raise CheckpointError(
            f"{name!r} is neither a folder here nor can it be fetched from the Hub (no network?); "
            f"shipped with the workbench: {shipped}."
        ) from error


def title_of(path: Path) -> str:
    """What a user calls a checkpoint: the Hub id of a fetched one, else its file or folder."""
    if path.parent.name == "snapshots":
        return path.parents[1].name.removeprefix("models--").replace("--", "/")
    return path.name


def read_json(path: Path) -> dict[str, Any]:
    """The settings in a file such as config.json; raises `CheckpointError` if there are none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{title_of(path.parent)}: {title_of(path)} cannot be read ({error})."
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{title_of(path.parent)}: {title_of(path)} holds no settings.")
    return content


def _weight_files(path: Path) -> list[Path]:
    """The safetensors files of a folder, one or several shards."""
    if path.is_file():
        return [path]
    index = path / "model.safetensors.index.json"
    if (path / "model.safetensors").exists():
        return [path / "model.safetensors"]
    if index.exists():
        shards = read_json(index).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise CheckpointError(f"{title_of(path)}: {index.name} names no files.")
        return sorted({path / Path(str(file)).name for file in shards.values()})
    pickles = [
        file.name for file in path.iterdir() if file.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl")
    ]
    if pickles:
        raise CheckpointError(
            f"{title_of(path)} has its weights in a pickle ({pickles[0]}), which can run code when opened; "
            "the workbench reads safetensors only."
        )
    raise CheckpointError(f"{title_of(path)} has no model.safetensors (weights in a pickle are not read).")


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, or of all shards in a folder, by name; raises `CheckpointError`."""
    tensors = {}
    for file in _weight_files(path):
        try:
            with safetensors.safe_open(file, "pt") as weights:
                tensors |= {name: weights.get_tensor(name) for name in weights.keys()}  # noqa: SIM118
        except FileNotFoundError as error:
            raise CheckpointError(f"{title_of(path)} lacks the file {file.name}.") from error
        except Exception as error:  # the library's error is not a public class
            raise CheckpointError(
                f"{file.name} of {title_of(path)} is damaged or no safetensors file ({error})."
            ) from error
    for old, new in names.OLD_ENDINGS.items():
        tensors = {name.replace(old, new): tensor for name, tensor in tensors.items()}
    return tensors


def read_npz(path: Path) -> dict[str, Tensor]:
    """The arrays of a file of numpy's, by name; nothing is unpickled. Raises `CheckpointError`."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: torch.from_numpy(file[name]) for name in file.files}
    except Exception as error:  # of numpy, zipfile, zlib and torch
        raise CheckpointError(
            f"{title_of(path)} is damaged or no .npz file of plain arrays ({error})."
        ) from error


class Weights:
    """The tensors of a file, asked for by our names; `used` and `dropped` say what `fill` did with them.

    Args:
        title: what a user calls the file.
        source: who writes such files.
        tensors: under their names.
        table: of their format, from `names.py`.
    """

    def __init__(self, title: str, source: str, tensors: dict[str, Tensor], table: names.Table) -> None:
        self.title, self.source, self.tensors, self.table = title, source, tensors, dict(table)
        self.prefix = names.prefix_of(tensors)
        self.used: dict[str, list[str]] = {}  # our names to theirs
        self.dropped: tuple[str, ...] = ()

    def theirs(self, ours: str) -> list[str]:
        """Their names for one tensor of ours; of the tokens in front of the patches those that are there."""
        found = names.their_names(self.table, ours, self.prefix)
        if ours == "embeddings.prefix_tokens":
            return found[:1] + [name for name in found[1:] if name in self.tensors]
        return found

    def __contains__(self, ours: str) -> bool:
        theirs = self.theirs(ours)
        return bool(theirs) and all(name in self.tensors for name in theirs)

    def __getitem__(self, ours: str) -> Tensor:
        """Their tensors joined to one of ours; raises `CheckpointError` if they are missing or do not fit."""
        theirs = self.theirs(ours)
        missing = [name for name in theirs if name not in self.tensors]
        if missing:
            raise CheckpointError(f"{self.title} lacks the tensor {missing[0]!r}.")
        parts = [names.in_torch_order(name, self.tensors[name]) for name in theirs]
        if len(parts) == 1:
            return parts[0]
        if ours == "embeddings.prefix_tokens":  # (1, tokens, hidden) each
            axis, fit = 1, all(part.ndim == 3 and part.shape[::2] == parts[0].shape[::2] for part in parts)
        else:
            axis, fit = 0, all(part.ndim and part.shape == parts[0].shape for part in parts)
        if not fit:
            raise self._wrong_shape(ours, "these cannot be joined")
        return torch.cat(parts, axis)

    def shape(self, ours: str) -> list[int]:
        """The shape of one tensor of ours, axes that it lacks as 1: `fill` finds what is wrong with it."""
        return [size or 1 for size in (*self[ours].shape, 1, 1, 1)]

    def _wrong_shape(self, ours: str, wanted: str) -> CheckpointError:
        theirs = self.theirs(ours)
        shapes = ", ".join(str(tuple(self.tensors[name].shape)) for name in theirs)
        return CheckpointError(f"{self.title}: {theirs[0]!r} has the shape {shapes}; {wanted}.")

    def fill(self, model: nn.Module, droppable: set[str]) -> None:
        """Moves the tensors into a model.

        Raises `CheckpointError` for tensors that are missing, left over, of a wrong shape or type, or not
        finite.
        """
        state = {}
        for ours, expected in model.state_dict().items():
            theirs, tensor = self.theirs(ours), self[ours]
            if ours == "embeddings.projection.weight":  # a convolution: (hidden, channels, patch, patch)
                tensor = tensor.flatten(1 if tensor.ndim == 4 else 0)
            if tensor.shape != expected.shape:
                raise self._wrong_shape(ours, f"its config asks for {tuple(expected.shape)}")
            # Layer scale multiplies what a block adds: folded into its last linear map, the same numbers.
            scale = self.theirs(f"{ours.rpartition('.')[0]}.scale")
            if scale and scale[0] in self.tensors:
                factors = self.tensors[scale[0]]
                if factors.shape != tensor.shape[:1]:
                    raise CheckpointError(f"{self.title}: {scale[0]!r} does not fit {theirs[0]!r}.")
                tensor = tensor * factors.reshape(-1, *[1] * (tensor.ndim - 1))
                theirs += scale
            for name in theirs:
                self._check_numbers(name)
            state[ours], self.used[ours] = tensor, theirs
        left = self.tensors.keys() - {name for theirs in self.used.values() for name in theirs}
        self.dropped = tuple(sorted(left))
        unknown = [name for name in self.dropped if name.removeprefix(self.prefix) not in droppable]
        if unknown:
            raise CheckpointError(
                f"{self.title} holds {len(unknown)} tensors that this model has no place for, "
                f"such as {unknown[0]!r}."
            )
        model.load_state_dict(state, assign=True)

    def _check_numbers(self, name: str) -> None:
        values = self.tensors[name]
        if values.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
            kind = str(values.dtype).removeprefix("torch.")
            raise CheckpointError(f"{self.title}: the tensor {name!r} is of type {kind}, not floating point.")
        if not values.numel() or not all(map(math.isfinite, values.aminmax())):  # NaN is the least, too
            raise CheckpointError(
                f"{self.title}: the tensor {name!r} holds NaN or infinite numbers, or none."
            )
