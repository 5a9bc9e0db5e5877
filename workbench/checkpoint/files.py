"""Where checkpoints are, and what lies in their files: settings, and tensors under other people's names."""

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from torch import Tensor

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
