"""Reads checkpoints: takes in what their settings say, and fills a model by the tables of `names.py`.

Reading is strict: each tensor is used, known to be of no use here, or an error; nothing is guessed.
Formats: Hugging Face BERT, ViT and DeiT, timm ViT (safetensors), and Google's ViT (.npz).
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

import torch

from workbench.bert import Bert, BertConfig
from workbench.checkpoint import names
from workbench.checkpoint.files import (
    CheckpointError,
    Weights,
    locate,
    read_json,
    read_npz,
    read_safetensors,
    title_of,
)
from workbench.encoder import EncoderConfig, lay_out_for_cpu
from workbench.image import Preprocessing
from workbench.text import Tokenizer
from workbench.vit import ViT, ViTConfig

SHIPPED_BERT = "workbench-bert"
SHIPPED_VIT = "workbench-vit"
NSP_LABELS = ("is next", "not next")  # the order of Google's and HF's checkpoints
Device = Literal["auto", "cpu", "cuda", "mps"]


@contextmanager
def _making_model(title: str) -> Iterator[None]:
    """Models made inside take no memory and no random numbers, as their weights come from the file.

    Whoever finds settings that do not fit together says so by a `ValueError`: it becomes a
    `CheckpointError` that names the file.
    """
    try:
        with torch.device("meta"), _NoStartWeights():
            yield
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(f"{title} does not fit together: {str(error).rstrip('.')}.") from error


class _NoStartWeights(torch.overrides.TorchFunctionMode):
    """Skips `torch.nn.init`, which on the meta device imports a second's worth of modules."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if getattr(function, "__module__", None) == "torch.nn.init":
            return None
        return function(*args, **(kwargs or {}))


def _setting(settings: dict[str, Any], name: str, kind: type, default: Any = None) -> Any:
    """A setting of the wanted kind, or the default where a file is silent or says null."""
    value = settings.get(name)
    if value is not None and type(value) is not kind:
        raise ValueError(f"{name} cannot be {value!r}")
    return default if value is None else value


def _config(kind: type[EncoderConfig], values: dict[str, Any], weights: Weights) -> Any:
    """A config from those of `values` that are its fields; their types and sizes are checked first."""
    types = {int: (int,), float: (int, float), bool: (bool,), str: (str,)}
    # Larger sizes no file has, and torch no shape.
    limits = {"num_hidden_layers": math.inf, "patch_size": 2**10}
    limits |= {"hidden_dropout_prob": 1, "attention_probs_dropout_prob": 1}
    known = {field.name: field for field in fields(kind) if field.name != "norm_first"}
    values = {name: value for name, value in values.items() if name in known}
    for name, value in values.items():
        expected = known[name].type
        wrong = type(value) not in types.get(expected, (type(value),))
        if wrong or (expected in (int, float) and not 0 <= value <= limits.get(name, 2**20)):
            raise ValueError(f"{name} cannot be {value!r}")
    config = kind(**values)
    if config.num_hidden_layers > len(weights.tensors):
        raise ValueError(f"{config.num_hidden_layers} layers are more than the file holds")
    return config


def _model_type(settings: dict[str, Any]) -> Any:
    return settings.get("model_type") or ("bert" if "vocab_size" in settings else None)


def _architecture(settings: dict[str, Any]) -> str:
    found = settings.get("architectures") or [settings.get("model_type", "(none named)")]
    return str(found[0] if isinstance(found, list) else found)


def _labels(settings: dict[str, Any], count: int) -> tuple[str, ...]:
    labels = _setting(settings, "id2label", dict, {})
    return tuple(str(labels.get(str(index), f"class {index}")) for index in range(count))


def pick_device(device: Device | str | torch.device = "auto") -> torch.device:
    """The device for a name; "auto" is a GPU where there is one. Raises `ValueError` if it is not there."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.mps.is_available() else "cpu"
    try:
        device = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"{device!r} is no device; use auto, cpu, cuda or mps.") from error
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.mps.is_available()}
    if not available.get(device.type, False):
        raise ValueError(f"This machine has no {device.type} device; use device='cpu' or 'auto'.")
    return device


def make_ready(
    model: Bert | ViT, name: str | Path, device: Device | str = "auto", dtype: torch.dtype | None = None
) -> None:
    """Moves a model to where it is to run, with memory laid out for it, in evaluation mode."""
    model.name = Path(name).name if Path(name).exists() else str(name)
    device = pick_device(device)
    model.to(device, dtype or torch.float32)
    if device.type == "cpu":
        model.encoder.apply(lay_out_for_cpu)
    if isinstance(model, Bert) and "mlm" in model.heads and model.config.tie_word_embeddings:
        model.heads["mlm"].decoder.weight = model.embeddings.word_embeddings.weight
    model.requires_grad_(True).eval()


# --- BERT --------------------------------------------------------------------------------------


def load_bert(
    name: str | Path | None = None, *, device: Device | str = "auto", dtype: torch.dtype | None = None
) -> Bert:
    """Loads a BERT with all the heads that its file holds.

    Args:
        name: a folder, a Hub id, or the name of a shipped checkpoint; None for the shipped one.
        device: "auto" takes a GPU where there is one.
        dtype: of the weights; None is float32.

    Returns:
        The model in evaluation mode, with `bert.tokenizer`, `bert.config` and `bert.heads`.

    Raises:
        CheckpointError: the checkpoint is missing, damaged or of another architecture; nothing is guessed.

    Example:
        >>> bert = load_bert("bert-base-uncased")  # doctest: +SKIP
    """
    bert, _ = read_bert(locate(name or SHIPPED_BERT))
    make_ready(bert, name or SHIPPED_BERT, device, dtype)
    return bert


def read_bert(path: Path) -> tuple[Bert, Weights]:
    """A BERT from its folder, and what it was filled with; raises as `load_bert`."""
    title = title_of(path)
    if not path.is_dir():
        raise CheckpointError(f"A BERT is a folder with config.json and model.safetensors, not {title}.")
    settings = read_json(path / "config.json")
    kind = _model_type(settings)
    if kind != "bert":
        hint = "; use load_vit for it" if kind in ("vit", "deit") else "; load_bert reads model_type 'bert'"
        raise CheckpointError(f"{title} is of the architecture {_architecture(settings)}{hint}.")
    if settings.get("position_embedding_type", "absolute") != "absolute" or settings.get("is_decoder"):
        raise CheckpointError(f"{title} is a variant of BERT (relative positions or decoder) not read here.")
    weights = Weights(title, "Hugging Face", read_safetensors(path), names.HF_BERT)
    try:
        tokenizer = Tokenizer.from_folder(path)
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    with _making_model(title):
        tied = _settle_copies(weights, settings)
        config = _config(BertConfig, settings | {"tie_word_embeddings": tied}, weights)
        bert = Bert(config, pooler="pooler.dense.weight" in weights, tokenizer=tokenizer)
        _add_heads(bert, weights, settings)
    weights.table = names.bert_table(bert)
    weights.fill(bert, names.DROPPED_BERT)
    if tokenizer.vocab_size > config.vocab_size:
        raise CheckpointError(f"The tokenizer of {title} has more word pieces than the model has embeddings.")
    return bert, weights


def _settle_copies(weights: Weights, settings: dict[str, Any]) -> bool:
    """Whether masked words are scored by the word embeddings; a file may hold both, and the bias twice."""
    tensors, matrix = weights.tensors, "heads.mlm.decoder.weight"
    (words,), (decoder,) = weights.theirs("embeddings.word_embeddings.weight"), weights.theirs(matrix)
    if matrix in weights:
        tied = words in tensors and torch.equal(tensors[words], tensors[decoder])
    else:
        tied = bool(settings.get("tie_word_embeddings", True))
    if tied and words in tensors and "heads.mlm.dense.weight" in weights:
        tensors[decoder] = tensors[words]
    # Only an untied model adds the decoder's own bias; else it is one more name for the other.
    biases = [table["heads.mlm.decoder.bias"] for table in (names.HF_BERT, names.HF_BERT_UNTIED)]
    kept, other = biases if tied else reversed(biases)
    bias = tensors.pop(other, None)
    if bias is not None and not torch.equal(tensors.setdefault(kept, bias), bias) and tied:
        raise CheckpointError(f"{kept} and {other} of {weights.title} differ.")
    return tied


def _add_heads(bert: Bert, weights: Weights, settings: dict[str, Any]) -> None:
    if "heads.mlm.dense.weight" in weights:
        bert.add_head("mlm", "mlm")
    if "heads.nsp.weight" in weights:
        bert.add_head("nsp", "sentence", NSP_LABELS)
    if "heads.span.weight" in weights:
        bert.add_head("span", "span")
    own = _setting(settings, "workbench_heads", dict, {})
    for name in own:
        head = _setting(own, name, dict, {})
        try:
            bert.add_head(name, _setting(head, "kind", str), _setting(head, "labels", list))
        except KeyError as error:  # some names are not for modules of torch
            raise ValueError(f"no head can be called {name!r}") from error
    if not own and "heads.classifier.weight" in weights:
        kinds = {architecture: kind for kind, architecture in names.HF_CLASSIFIERS.items()}
        kind = kinds.get(_architecture(settings))
        if kind is None:
            raise CheckpointError(
                f"config.json of {weights.title} names the architecture {_architecture(settings)}; "
                f"a classifier is read from {' or '.join(kinds)}."
            )
        classes = weights.shape("heads.classifier.weight")[0]
        bert.add_head(kind, kind, _labels(settings, classes))


# --- ViT ---------------------------------------------------------------------------------------


def load_vit(
    name: str | Path | None = None, *, device: Device | str = "auto", dtype: torch.dtype | None = None
) -> ViT:
    """Loads a ViT or DeiT; as `load_bert`, and also Google's .npz and timm's safetensors files."""
    vit, _ = read_vit(locate(name or SHIPPED_VIT))
    make_ready(vit, name or SHIPPED_VIT, device, dtype)
    return vit


def read_vit(path: Path) -> tuple[ViT, Weights]:
    """A ViT from its folder or file, and what it was filled with; raises as `load_vit`."""
    title, folder = title_of(path), path if path.is_dir() else path.parent
    if path.suffix == ".npz":
        settings = {"model_type": "npz"}
    elif path == folder or (folder / "config.json").exists():
        settings = read_json(folder / "config.json")
    else:
        settings = {}
    kind = _model_type(settings)
    if kind == "npz":
        weights, describe = Weights(title, "Google's Flax", read_npz(path), names.GOOGLE), _google_vit
    elif kind is None:
        weights, describe = Weights(title, "timm", read_safetensors(path), names.TIMM), _timm_vit
    elif kind in ("vit", "deit"):
        weights, describe = Weights(title, "Hugging Face", read_safetensors(path), names.HF_VIT), _hf_vit
    else:
        hint = "use load_bert for it" if kind == "bert" else "load_vit reads 'vit' and 'deit'"
        raise CheckpointError(f"{title} is of the architecture {_architecture(settings)}; {hint}.")
    with _making_model(title):
        values, labels, preprocessing = describe(weights, settings, folder)
        vit = ViT(_config(ViTConfig, values, weights), labels, preprocessing)
    weights.fill(vit, names.DROPPED_VIT)
    return vit, weights


Description = tuple[dict[str, Any], Sequence[str], Preprocessing]  # values of the config, labels, ...


def _hf_vit(weights: Weights, settings: dict[str, Any], folder: Path) -> Description:
    for variant in (names.HF_VIT_IN_MEMORY, names.HF_DEIT_WITH_TEACHER):
        first = next(iter(variant)).replace("N", "0")
        if names.their_names(variant, f"{first}.weight", weights.prefix)[0] in weights.tensors:
            weights.table |= variant
    image_size = _size(settings, "image_size", 224)
    tokens = 2 if settings["model_type"] == "deit" else 1
    values = {"layer_norm_eps": 1e-12} | settings  # what HF takes when the file is silent
    values |= {"image_size": image_size, "num_prefix_tokens": tokens, "num_prefix_positions": tokens}
    values |= {"num_head_tokens": max(1, _head_count(weights)), "representation_size": None}
    file = folder / "preprocessor_config.json"
    try:
        preprocessing = Preprocessing.from_hf(read_json(file) if file.exists() else {}, image_size)
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(f"{weights.title}: {file.name} cannot be used ({error}).") from error
    return values, _labels(settings, _classes(weights)), preprocessing


def _timm_vit(weights: Weights, settings: dict[str, Any], folder: Path) -> Description:
    if "embeddings.prefix_tokens" not in weights:
        raise CheckpointError(f"{weights.title} is a ViT without a class token, which is not read here.")
    pretrained = _setting(settings, "pretrained_cfg", dict, settings)
    options = _setting(settings, "model_args", dict, {})
    values = _sizes(weights)
    patch = values["patch_size"]
    input_size = _setting(pretrained, "input_size", list, [3, 224, 224])  # channels, height, width
    height, width = _size(options, "img_size", input_size[1:])
    heads = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16}.get(values["hidden_size"])
    heads = _setting(options, "num_heads", int, heads)
    if heads is None:
        raise CheckpointError(
            f"config.json of {weights.title} does not say how many attention heads there are."
        )
    positions = weights.shape("embeddings.position_embeddings")[1]
    values |= {
        "num_attention_heads": heads,
        "image_size": (height, width),
        "num_prefix_positions": positions - (height // patch) * (width // patch),
        "position_interpolation": "bicubic-antialias",
    }
    classes = _classes(weights)
    labels = _setting(pretrained, "label_names", list, [])
    if len(labels) != classes:
        labels = _labels({}, classes)
    return values, labels, Preprocessing.from_timm(pretrained, (height, width))


def _google_vit(weights: Weights, settings: dict[str, Any], folder: Path) -> Description:
    values = _sizes(weights)
    positions = weights.shape("embeddings.position_embeddings")[1]
    side = round((positions - 1) ** 0.5) * values["patch_size"]
    # (in, heads, head_size) in the file; in torch's order the heads no longer show.
    query = weights.tensors.get(weights.theirs("encoder.layers.0.attention.query_key_value.weight")[0])
    values |= {
        "num_attention_heads": query.shape[1] if query is not None and query.ndim == 3 else 1,
        "hidden_act": "gelu_pytorch_tanh",  # Flax's gelu is the tanh form
        "image_size": (side, side),
        "position_interpolation": "bilinear-corners",
    }
    if "pre_logits.weight" in weights:
        values["representation_size"] = weights.shape("pre_logits.weight")[0]
    return values, _labels({}, _classes(weights)), Preprocessing(size=(side, side))


def _sizes(weights: Weights) -> dict[str, Any]:
    """Sizes that the tensors show; timm and Google write them nowhere else."""
    layer = "encoder.layers.0"
    hidden, channels, patch, *_ = weights.shape("embeddings.projection.weight")
    return {
        "hidden_size": hidden,
        "num_hidden_layers": names.count_layers(weights.table, weights.tensors),
        "intermediate_size": weights.shape(f"{layer}.feed_forward.expand.weight")[0],
        "qkv_bias": f"{layer}.attention.query_key_value.bias" in weights,
        "patch_size": patch,
        "num_channels": channels,
        "num_prefix_tokens": weights.shape("embeddings.prefix_tokens")[1],
        "num_head_tokens": max(1, _head_count(weights)),
    }


def _head_count(weights: Weights) -> int:
    return sum(f"heads.{index}.weight" in weights for index in range(2))


def _classes(weights: Weights) -> int:
    return weights.shape("heads.0.weight")[0] if "heads.0.weight" in weights else 0


def _size(settings: dict[str, Any], name: str, default: Any) -> tuple[int, int]:
    """A (height, width) from one number or two."""
    value = default if settings.get(name) is None else settings[name]
    sides = value if type(value) is list else [value, value]
    if len(sides) != 2 or not all(type(side) is int and 0 < side < 2**20 for side in sides):
        raise ValueError(f"{name} cannot be {value!r}")
    return sides[0], sides[1]


def read_checkpoint(path: Path) -> tuple[Bert | ViT, Weights]:
    """A BERT or a ViT, whichever config.json names; raises as `load_bert` and `load_vit`."""
    file = path / "config.json"
    settings = read_json(file) if file.exists() else {}
    return read_bert(path) if _model_type(settings) == "bert" else read_vit(path)
