"""Reads and writes checkpoints; the only room that knows other people's parameter names.

Every format is a table from our names to theirs, made for the sizes at hand, so that reading is strict
(each tensor is used, known to be droppable, or an error) and writing is the same table backwards.
Formats: Hugging Face BERT, ViT and DeiT, timm ViT (safetensors), and Google's ViT (.npz).
"""

import json
import math
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor

from workbench.bert import Bert, BertConfig
from workbench.encoder import EncoderConfig, lay_out_for_cpu
from workbench.image import Preprocessing
from workbench.text import Tokenizer
from workbench.vit import ViT, ViTConfig

SHIPPED_BERT = "workbench-bert"
SHIPPED_VIT = "workbench-vit"
NSP_LABELS = ("is next", "not next")  # the order of Google's and HF's checkpoints
Device = Literal["auto", "cpu", "cuda", "mps"]


class CheckpointError(ValueError):
    """A checkpoint cannot be read or written; the message is one sentence for the user."""


@dataclass(frozen=True)
class Report:
    """What was found in a checkpoint; `str()` gives the text that `workbench info` prints."""

    name: str
    facts: dict[str, str]
    mapped: dict[str, str]  # our names to theirs, layer numbers as N
    dropped: tuple[str, ...]

    def __str__(self) -> str:
        lines = [self.name, *(f"  {label:<23}{value}" for label, value in self.facts.items())]
        lines += [f"  {'dropped':<23}{', '.join(self.dropped) or 'nothing'}", "  names"]
        return "\n".join(lines + [f"    {ours}  <-  {theirs}" for ours, theirs in self.mapped.items()])


# --- where checkpoints are ---------------------------------------------------------------------


def data_folder() -> Path:
    """The folder data/: beside the package in a checkout, inside it when installed from a wheel."""
    beside = Path(__file__).parent.parent / "data"
    return beside if (beside / "checkpoints").is_dir() else Path(__file__).parent / "data"


def shipped_checkpoints() -> dict[str, Path]:
    """Names and folders of the checkpoints that came with the package."""
    folders = sorted((data_folder() / "checkpoints").glob("*/config.json"))
    return {file.parent.name: file.parent for file in folders}


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


def _locate(name: str | Path) -> Path:
    """A shipped name, a folder, an .npz or .safetensors file, or a Hub id -> where its files are."""
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


def _title(path: Path) -> str:
    """What a user calls a checkpoint: the Hub id of a fetched one, else its file or folder."""
    if path.parent.name == "snapshots":
        return path.parents[1].name.removeprefix("models--").replace("--", "/")
    return path.name


# --- files -> config and tensors ---------------------------------------------------------------


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{_title(path.parent)}: {_title(path)} cannot be read ({error}).") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{_title(path.parent)}: {_title(path)} holds no settings.")
    return content


def _weight_files(path: Path) -> list[Path]:
    """The safetensors files of a folder, one or several shards."""
    if path.is_file():
        return [path]
    index = path / "model.safetensors.index.json"
    if (path / "model.safetensors").exists():
        return [path / "model.safetensors"]
    if index.exists():
        shards = _read_json(index).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise CheckpointError(f"{_title(path)}: {index.name} names no files.")
        return sorted({path / Path(str(file)).name for file in shards.values()})
    pickles = [
        file.name for file in path.iterdir() if file.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl")
    ]
    if pickles:
        raise CheckpointError(
            f"{_title(path)} has its weights in a pickle ({pickles[0]}), which can run code when opened; "
            "the workbench reads safetensors only."
        )
    raise CheckpointError(f"{_title(path)} has no model.safetensors (weights in a pickle are not read).")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    tensors = {}
    for file in _weight_files(path):
        try:
            with safetensors.safe_open(file, "pt") as weights:
                tensors |= {name: weights.get_tensor(name) for name in weights.keys()}  # noqa: SIM118
        except FileNotFoundError as error:
            raise CheckpointError(f"{_title(path)} lacks the file {file.name}.") from error
        except Exception as error:  # the library's error is not a public class
            raise CheckpointError(
                f"{file.name} of {_title(path)} is damaged or no safetensors file ({error})."
            ) from error
    # Files from before 2020 say gamma and beta.
    old = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
    pattern = re.compile("|".join(map(re.escape, old)))
    return {pattern.sub(lambda found: old[found[0]], name): tensor for name, tensor in tensors.items()}


def _read_npz(path: Path) -> dict[str, Tensor]:
    """Google's file; its arrays in torch's order of axes, under its own names."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: _torch_order(name, torch.from_numpy(file[name])) for name in file.files}
    except Exception as error:  # of numpy, zipfile, zlib and torch
        raise CheckpointError(
            f"{_title(path)} is damaged or no .npz file of plain arrays ({error})."
        ) from error


def _torch_order(name: str, array: Tensor) -> Tensor:
    if name == "embedding/kernel":  # (height, width, in, out)
        return array.permute(3, 2, 0, 1)
    if re.search(r"(query|key|value)/kernel", name):  # (hidden, heads, head_size)
        return array.flatten(1).T
    if re.search(r"(query|key|value)/bias", name):  # (heads, head_size)
        return array.flatten()
    if name.endswith("out/kernel"):  # (heads, head_size, hidden)
        return array.flatten(0, 1).T
    if name.endswith("kernel"):  # (in, out)
        return array.mT
    return array


@contextmanager
def _making_model(name: str) -> Iterator[None]:
    """Models made inside take no memory and no random numbers, as their weights come from the file.

    Sizes and names that do not fit together become a `CheckpointError`.
    """
    try:
        with torch.device("meta"), _NoStartWeights():
            yield
    except CheckpointError:
        raise
    except KeyError as error:
        raise CheckpointError(f"{name} lacks {error}.") from error
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise CheckpointError(f"{name} does not fit together: {reason}.") from error


class _NoStartWeights(torch.overrides.TorchFunctionMode):
    """Skips `torch.nn.init`, which on the meta device imports a second's worth of modules."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if getattr(function, "__module__", None) == "torch.nn.init":
            return None
        return function(*args, **(kwargs or {}))


def _config(kind: type[EncoderConfig], values: dict[str, Any], tensors: dict[str, Tensor]) -> Any:
    """A config from those of `values` that are its fields."""
    known = {field.name for field in fields(kind)} - {"norm_first"}
    config = kind(**{key: value for key, value in values.items() if key in known})
    if config.num_hidden_layers > len(tensors):  # do not even start to make a billion layers
        raise ValueError(f"{config.num_hidden_layers} layers are more than the file holds.")
    return config


def _architecture(settings: dict[str, Any]) -> str:
    names = settings.get("architectures") or [settings.get("model_type", "(none named)")]
    return str(names[0] if isinstance(names, list) else names)


def _labels(config: dict[str, Any], count: int) -> tuple[str, ...]:
    names = config.get("id2label") or {}
    return tuple(str(names.get(str(index), f"class {index}")) for index in range(count))


# --- tables: our names -> theirs ---------------------------------------------------------------

Names = dict[str, tuple[str, ...]]  # several of theirs are joined, queries, keys and values first


def _with_bias(ours: str, *theirs: str) -> Names:
    return {f"{ours}.{part}": tuple(f"{name}.{part}" for name in theirs) for part in ("weight", "bias")}


def _layers(config: EncoderConfig, prefix: str, parts: dict[str, Sequence[str]]) -> Names:
    """Names of all layers: `parts` is one of the tables below, "N" in `prefix` stands for the layer."""
    names: Names = {}
    for layer in range(config.num_hidden_layers):
        for ours, theirs in parts.items():
            start = prefix.replace("N", str(layer))
            names |= _with_bias(f"encoder.layers.{layer}.{ours}", *(start + part for part in theirs))
            if ours.endswith("query_key_value") and not config.qkv_bias:
                del names[f"encoder.layers.{layer}.{ours}.bias"]
    return names


def _layer_parts(attention, output, attention_norm, expand, contract, feed_forward_norm):
    return {
        "attention.query_key_value": attention,
        "attention.output": [output],
        "attention_norm": [attention_norm],
        "feed_forward.expand": [expand],
        "feed_forward.contract": [contract],
        "feed_forward_norm": [feed_forward_norm],
    }


HF_BERT_LAYER = _layer_parts(
    [f"attention.self.{part}" for part in ("query", "key", "value")],
    "attention.output.dense",
    "attention.output.LayerNorm",
    "intermediate.dense",
    "output.dense",
    "output.LayerNorm",
)
HF_VIT_LAYER = _layer_parts(
    [f"attention.attention.{part}" for part in ("query", "key", "value")],
    "attention.output.dense",
    "layernorm_before",
    "intermediate.dense",
    "output.dense",
    "layernorm_after",
)
HF_VIT_LAYER_V5 = _layer_parts(  # as transformers 5 names them in memory
    [f"attention.{part}_proj" for part in "qkv"],
    "attention.o_proj",
    "layernorm_before",
    "mlp.fc1",
    "mlp.fc2",
    "layernorm_after",
)
TIMM_LAYER = _layer_parts(["attn.qkv"], "attn.proj", "norm1", "mlp.fc1", "mlp.fc2", "norm2")
NPZ_LAYER = _layer_parts(
    [f"MultiHeadDotProductAttention_1/{part}" for part in ("query", "key", "value")],
    "MultiHeadDotProductAttention_1/out",
    "LayerNorm_0",
    "MlpBlock_3/Dense_0",
    "MlpBlock_3/Dense_1",
    "LayerNorm_2",
)


def _is_classifier(bert: Bert, head: str) -> bool:
    """Whether HF has a form for this head: it knows one classifier, and none beside other heads."""
    return len(bert.heads) == 1 and bert.heads[head].kind in ("sentence", "word")


def _bert_head_names(bert: Bert) -> Names:
    names: Names = {}
    for name in bert.heads:
        if name == "mlm":
            names |= _with_bias("heads.mlm.dense", "cls.predictions.transform.dense")
            names |= _with_bias("heads.mlm.norm", "cls.predictions.transform.LayerNorm")
            names["heads.mlm.decoder.weight"] = ("cls.predictions.decoder.weight",)
            own = "" if bert.config.tie_word_embeddings else "decoder."
            names["heads.mlm.decoder.bias"] = (f"cls.predictions.{own}bias",)
        elif name == "nsp":
            names |= _with_bias("heads.nsp", "cls.seq_relationship")
        elif name == "span":
            names |= _with_bias("heads.span", "qa_outputs")
        elif _is_classifier(bert, name):
            names |= _with_bias(f"heads.{name}", "classifier")
        else:
            names |= _with_bias(f"heads.{name}", f"heads.{name}")
    return names


def _bert_names(bert: Bert, prefix: str) -> Names:
    names: Names = {}
    for table in ("word_embeddings", "position_embeddings", "token_type_embeddings"):
        names[f"embeddings.{table}.weight"] = (f"{prefix}embeddings.{table}.weight",)
    names |= _with_bias("embeddings.norm", f"{prefix}embeddings.LayerNorm")
    names |= _layers(bert.config, f"{prefix}encoder.layer.N.", HF_BERT_LAYER)
    if bert.pooler is not None:
        names |= _with_bias("pooler.dense", f"{prefix}pooler.dense")
    return names | _bert_head_names(bert)


def _hf_vit_names(vit: ViT, prefix: str, heads: Sequence[str], version_5: bool = False) -> Names:
    tokens = ("cls_token", "distillation_token")[: vit.config.num_prefix_tokens]
    names = {
        "embeddings.prefix_tokens": tuple(f"{prefix}embeddings.{token}" for token in tokens),
        "embeddings.position_embeddings": (f"{prefix}embeddings.position_embeddings",),
    }
    names |= _with_bias("embeddings.projection", f"{prefix}embeddings.patch_embeddings.projection")
    layer = "layers.N." if version_5 else "encoder.layer.N."
    names |= _layers(vit.config, prefix + layer, HF_VIT_LAYER_V5 if version_5 else HF_VIT_LAYER)
    names |= _with_bias("norm", f"{prefix}layernorm")
    return names | {k: v for i, head in enumerate(heads) for k, v in _with_bias(f"heads.{i}", head).items()}


def _timm_names(vit: ViT, tokens: Sequence[str], heads: Sequence[str]) -> Names:
    names = {"embeddings.prefix_tokens": tuple(tokens), "embeddings.position_embeddings": ("pos_embed",)}
    names |= _with_bias("embeddings.projection", "patch_embed.proj") | _with_bias("norm", "norm")
    names |= _layers(vit.config, "blocks.N.", TIMM_LAYER)
    return names | {k: v for i, head in enumerate(heads) for k, v in _with_bias(f"heads.{i}", head).items()}


def _npz_names(vit: ViT) -> Names:
    names = {
        "embeddings.prefix_tokens": ("cls",),
        "embeddings.position_embeddings": ("Transformer/posembed_input/pos_embedding",),
    }
    names |= _with_bias("embeddings.projection", "embedding")
    names |= _layers(vit.config, "Transformer/encoderblock_N/", NPZ_LAYER)
    names |= _with_bias("norm", "Transformer/encoder_norm")
    names |= _with_bias("pre_logits", "pre_logits") | _with_bias("heads.0", "head")

    def flax(name: str) -> str:  # layer norms say "scale", linear maps "kernel"
        weight = "scale" if "norm" in name.lower() else "kernel"
        return name.replace(".weight", f"/{weight}").replace(".bias", "/bias")

    state = vit.state_dict()
    return {ours: tuple(map(flax, theirs)) for ours, theirs in names.items() if ours in state}


def _join(ours: str, parts: Sequence[Tensor]) -> Tensor | None:
    """One tensor of ours from theirs; None where they do not fit together."""
    if ours == "embeddings.prefix_tokens":  # (1, tokens, hidden) each
        fit = all(part.ndim == 3 and part.shape[::2] == parts[0].shape[::2] for part in parts)
        return torch.cat(parts, dim=1) if fit else None
    if ours == "embeddings.projection.weight":  # a convolution: (hidden, channels, patch, patch)
        return parts[0].flatten(1) if parts[0].ndim == 4 else None
    if len(parts) == 1:
        return parts[0]
    return torch.cat(parts) if parts[0].ndim and len({part.shape for part in parts}) == 1 else None


def _fill(
    model: Bert | ViT, names: Names, tensors: dict[str, Tensor], droppable: Sequence[str], name: str
) -> tuple[str, ...]:
    """Moves `tensors` into `model` by the table `names`; returns what was dropped.

    Raises `CheckpointError` for tensors that are missing, left over, of a wrong shape or type, or not finite.
    """
    left = dict(tensors)
    state = {}
    for ours, expected in model.state_dict().items():
        theirs = names[ours]
        missing = [part for part in theirs if part not in left]
        if missing:
            raise CheckpointError(f"{name} lacks the tensor {missing[0]!r}.")
        parts = [left.pop(part) for part in theirs]
        tensor = _join(ours, parts)
        if tensor is None or tensor.shape != expected.shape:
            shapes = ", ".join(str(tuple(part.shape)) for part in parts)
            raise CheckpointError(
                f"{name}: {theirs[0]!r} has the shape {shapes}; its config asks for {tuple(expected.shape)}."
            )
        for part, values in zip(theirs, parts, strict=True):
            if values.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
                kind = str(values.dtype).removeprefix("torch.")
                raise CheckpointError(f"{name}: the tensor {part!r} is of type {kind}, not floating point.")
            if not all(map(math.isfinite, values.aminmax())):  # NaN is the least and the most, too
                raise CheckpointError(f"{name}: the tensor {part!r} holds NaN or infinite numbers.")
        state[ours] = tensor
    unknown = [part for part in left if not any(re.fullmatch(pattern, part) for pattern in droppable)]
    if unknown:
        raise CheckpointError(
            f"{name} holds {len(unknown)} tensors that this model has no place for, such as {unknown[0]!r}."
        )
    model.load_state_dict(state, assign=True)
    return tuple(left)


def _finish(model: Bert | ViT, name: str, device: Device | str, dtype: torch.dtype | None) -> None:
    model.name = Path(name).name if Path(name).exists() else str(name)
    device = pick_device(device)
    model.to(device, dtype or torch.float32)
    if device.type == "cpu":
        model.encoder.apply(lay_out_for_cpu)
    if isinstance(model, Bert) and "mlm" in model.heads and model.config.tie_word_embeddings:
        model.heads["mlm"].decoder.weight = model.embeddings.word_embeddings.weight
    model.requires_grad_(True).eval()


# --- BERT --------------------------------------------------------------------------------------


def _add_bert_heads(bert: Bert, config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    if "cls.predictions.transform.dense.weight" in tensors:
        bert.add_head("mlm", "mlm")
    if "cls.seq_relationship.weight" in tensors:
        bert.add_head("nsp", "sentence", NSP_LABELS)
    if "qa_outputs.weight" in tensors:
        bert.add_head("span", "span")
    own = config.get("workbench_heads") or {}
    for name, entry in own.items():
        bert.add_head(name, entry["kind"], entry["labels"])
    if "classifier.weight" in tensors and not own:
        kinds = {"BertForSequenceClassification": "sentence", "BertForTokenClassification": "word"}
        architecture = _architecture(config)
        if architecture not in kinds:
            raise CheckpointError(
                f"config.json names the architecture {architecture}; "
                f"a classifier is read from {' or '.join(kinds)}."
            )
        kind = kinds[architecture]
        bert.add_head(kind, kind, _labels(config, len(tensors["classifier.weight"])))


def _untie(config: dict[str, Any], tensors: dict[str, Tensor], embeddings: str) -> dict[str, Any]:
    """Settles the two copies that MLM files may hold, of the word embeddings and of the output bias."""
    words, decoder = tensors.get(embeddings), tensors.get("cls.predictions.decoder.weight")
    if decoder is None:
        tied = bool(config.get("tie_word_embeddings", True))
    else:
        tied = words is not None and torch.equal(words, decoder)
    if tied and words is not None and "cls.predictions.transform.dense.weight" in tensors:
        tensors["cls.predictions.decoder.weight"] = words
    # Only an untied model adds the decoder's own bias; else it is one more name for the other.
    biases = "cls.predictions.bias", "cls.predictions.decoder.bias"
    kept, other = biases if tied else reversed(biases)
    bias = tensors.pop(other, None)
    if bias is not None and not torch.equal(tensors.setdefault(kept, bias), bias) and tied:
        raise CheckpointError(f"{kept} and {other} differ.")
    return config | {"tie_word_embeddings": tied}


def _read_bert(name: str | Path, device: Device | str, dtype: torch.dtype | None) -> tuple[Bert, Report]:
    path = _locate(name)
    if not path.is_dir():
        raise CheckpointError(
            f"A BERT is a folder with config.json and model.safetensors, not {_title(path)}."
        )
    settings = _read_json(path / "config.json")
    kind = settings.get("model_type", "bert" if "vocab_size" in settings else "unknown")
    if kind != "bert":
        hint = "; use load_vit for it" if kind in ("vit", "deit") else "; load_bert reads model_type 'bert'"
        raise CheckpointError(f"{_title(path)} is of the architecture {_architecture(settings)}{hint}.")
    if settings.get("position_embedding_type", "absolute") != "absolute" or settings.get("is_decoder"):
        raise CheckpointError(
            f"{_title(path)} is a variant of BERT (relative positions or decoder) not read here."
        )
    tensors = _read_safetensors(path)
    prefix = "bert." if any(key.startswith("bert.") for key in tensors) else ""
    pooler = f"{prefix}pooler.dense.weight" in tensors
    try:
        tokenizer = Tokenizer.from_folder(path)
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    with _making_model(_title(path)):
        settings = _untie(settings, tensors, f"{prefix}embeddings.word_embeddings.weight")
        config = _config(BertConfig, settings, tensors)
        bert = Bert(config, pooler=pooler, tokenizer=tokenizer)
        _add_bert_heads(bert, settings, tensors)
    names = _bert_names(bert, prefix)
    dropped = _fill(bert, names, tensors, [r"(bert\.)?embeddings\.position_ids"], _title(path))
    if bert.tokenizer.vocab_size > config.vocab_size:
        raise CheckpointError(
            f"The tokenizer of {_title(path)} has more word pieces than the model has embeddings."
        )
    _finish(bert, str(name), device, dtype)
    heads = {
        head: f"{head} ({len(m.labels)} classes)" if m.labels else head for head, m in bert.heads.items()
    }
    facts = _facts(config, "BERT, post-norm", tensors) | {
        "vocabulary": f"{config.vocab_size} word pieces, {config.max_position_embeddings} positions",
        "word embeddings tied": "yes" if config.tie_word_embeddings else "no",
        "pooler": "yes" if pooler else "no",
        "heads": ", ".join(heads.values()) or "none",
    }
    return bert, Report(str(name), facts, _summary(names), dropped)


def _facts(config: EncoderConfig, architecture: str, tensors: dict[str, Tensor]) -> dict[str, str]:
    types = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()})
    # Tied word embeddings are one tensor under two names.
    numbers = {tensor.data_ptr(): tensor.numel() for tensor in tensors.values()}
    return {
        "architecture": architecture,
        "parameters": f"{sum(numbers.values()):,} ({', '.join(types)})",
        "layers x heads": f"{config.num_hidden_layers} x {config.num_attention_heads}",
        "hidden, intermediate": f"{config.hidden_size}, {config.intermediate_size}",
        "layer norm eps": f"{config.layer_norm_eps:g}",
        "activation": {"gelu": "gelu (exact, erf)"}.get(config.hidden_act, f"{config.hidden_act} (tanh form)")
        if config.hidden_act != "relu"
        else "relu",
        "query-key-value bias": "yes" if config.qkv_bias else "no",
    }


def _summary(names: Names) -> dict[str, str]:
    def one(name: str, ours: str) -> str:
        name = re.sub(r"[./](weight|kernel|scale|bias)$", "", name)
        return re.sub(r"\d+", "N", name, count=1) if ours.startswith("encoder.") else name

    return {one(ours, ours): " + ".join(one(name, ours) for name in theirs) for ours, theirs in names.items()}


# --- ViT ---------------------------------------------------------------------------------------


def _square(value: int | Sequence[int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _layer_count(tensors: dict[str, Tensor], pattern: str) -> int:
    return 1 + max((int(m[1]) for key in tensors if (m := re.match(pattern, key))), default=-1)


def _hf_vit(path: Path, settings: dict[str, Any], tensors: dict[str, Tensor]) -> tuple[ViT, Names]:
    deit = settings["model_type"] == "deit"
    prefix = next((p for p in ("vit.", "deit.") if f"{p}embeddings.cls_token" in tensors), "")
    heads = [head for head in ("classifier", "cls_classifier") if f"{head}.weight" in tensors][:1]
    if heads == ["cls_classifier"]:
        heads.append("distillation_classifier")
    config = _config(
        ViTConfig,
        {"layer_norm_eps": 1e-12}  # what HF takes when the file is silent
        | settings
        | {
            "image_size": _square(settings.get("image_size", 224)),
            "num_prefix_tokens": 2 if deit else 1,
            "num_prefix_positions": 2 if deit else 1,
            "num_head_tokens": max(1, len(heads)),
        },
        tensors,
    )
    labels = _labels(settings, len(tensors[f"{heads[0]}.weight"])) if heads else ()
    vit = ViT(config, labels, _preprocessing(path, config))
    return vit, _hf_vit_names(vit, prefix, heads, version_5=f"{prefix}layers.0.mlp.fc1.weight" in tensors)


def _preprocessing(path: Path, config: ViTConfig) -> Preprocessing:
    file = (path if path.is_dir() else path.parent) / "preprocessor_config.json"
    try:
        return Preprocessing.from_hf(_read_json(file) if file.exists() else {}, config.image_size)
    except (AttributeError, IndexError, TypeError, KeyError, ValueError) as error:
        raise CheckpointError(
            f"{_title(path)}: preprocessor_config.json cannot be used ({error})."
        ) from error


def _timm_vit(path: Path, settings: dict[str, Any], tensors: dict[str, Tensor]) -> tuple[ViT, Names]:
    for layer in {m[0] for key in tensors if (m := re.match(r"blocks\.\d+", key))}:
        # Layer scale multiplies what a block adds: folded into its last linear map, the same numbers.
        for scale, linear in (("ls1.gamma", "attn.proj"), ("ls2.gamma", "mlp.fc2")):
            gamma = tensors.pop(f"{layer}.{scale}", None)
            if gamma is not None:
                tensors[f"{layer}.{linear}.weight"] = tensors[f"{layer}.{linear}.weight"] * gamma[:, None]
                tensors[f"{layer}.{linear}.bias"] = tensors[f"{layer}.{linear}.bias"] * gamma
    pretrained = settings.get("pretrained_cfg") or settings
    options = settings.get("model_args") or {}
    hidden, _, patch, _ = tensors["patch_embed.proj.weight"].shape
    size = _square(options.get("img_size") or pretrained.get("input_size", [3, 224, 224])[1:])
    num_heads = options.get("num_heads") or {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16}.get(hidden)
    if num_heads is None:
        raise CheckpointError(
            f"config.json of {_title(path)} does not say how many attention heads there are."
        )
    if "cls_token" not in tensors:
        raise CheckpointError(f"{_title(path)} is a ViT without a class token, which is not read here.")
    prefix = [name for name in ("cls_token", "dist_token", "reg_token") if name in tensors]
    heads = [name for name in ("head", "head_dist") if f"{name}.weight" in tensors]
    config = _config(
        ViTConfig,
        {
            "hidden_size": hidden,
            "num_hidden_layers": _layer_count(tensors, r"blocks\.(\d+)"),
            "num_attention_heads": num_heads,
            "intermediate_size": len(tensors["blocks.0.mlp.fc1.weight"]),
            "qkv_bias": "blocks.0.attn.qkv.bias" in tensors,
            "image_size": size,
            "patch_size": patch,
            "num_channels": tensors["patch_embed.proj.weight"].shape[1],
            "num_prefix_tokens": sum(tensors[name].shape[1] for name in prefix),
            "num_prefix_positions": tensors["pos_embed"].shape[1] - (size[0] // patch) * (size[1] // patch),
            "num_head_tokens": max(1, len(heads)),
            "position_interpolation": "bicubic-antialias",
        },
        tensors,
    )
    labels = pretrained.get("label_names") or []
    count = len(tensors["head.weight"]) if heads else 0
    labels = labels if len(labels) == count else [f"class {index}" for index in range(count)]
    vit = ViT(config, labels, Preprocessing.from_timm(pretrained, size))
    return vit, _timm_names(vit, prefix, heads)


def _npz_vit(path: Path, tensors: dict[str, Tensor]) -> tuple[ViT, Names]:
    with np.load(path) as file:  # the one fact that the reordered tensors no longer show
        heads = file["Transformer/encoderblock_0/MultiHeadDotProductAttention_1/query/kernel"].shape[1]
    hidden, channels, patch, _ = tensors["embedding/kernel"].shape
    side = round((tensors["Transformer/posembed_input/pos_embedding"].shape[1] - 1) ** 0.5)
    config = _config(
        ViTConfig,
        {
            "hidden_size": hidden,
            "num_hidden_layers": _layer_count(tensors, r"Transformer/encoderblock_(\d+)"),
            "num_attention_heads": heads,
            "intermediate_size": len(tensors["Transformer/encoderblock_0/MlpBlock_3/Dense_0/kernel"]),
            "hidden_act": "gelu_pytorch_tanh",  # Flax's gelu is the tanh form
            "image_size": (side * patch, side * patch),
            "patch_size": patch,
            "num_channels": channels,
            "representation_size": len(tensors["pre_logits/kernel"])
            if "pre_logits/kernel" in tensors
            else None,
            "position_interpolation": "bilinear-corners",
        },
        tensors,
    )
    count = len(tensors["head/kernel"]) if "head/kernel" in tensors else 0
    vit = ViT(config, _labels({}, count), Preprocessing(size=config.image_size))
    return vit, _npz_names(vit)


def _read_vit(name: str | Path, device: Device | str, dtype: torch.dtype | None) -> tuple[ViT, Report]:
    path = _locate(name)
    if path.suffix == ".npz":
        source, settings, tensors = "Google's Flax", {}, _read_npz(path)
    else:
        config_file = (path if path.is_dir() else path.parent) / "config.json"
        settings = _read_json(config_file) if config_file.exists() or path.is_dir() else {}
        kind = settings.get("model_type")
        if kind not in ("vit", "deit", None) or (kind is None and "vocab_size" in settings):
            hint = "use load_bert for it" if kind in ("bert", None) else "load_vit reads 'vit' and 'deit'"
            raise CheckpointError(f"{_title(path)} is of the architecture {_architecture(settings)}; {hint}.")
        tensors = _read_safetensors(path)
        source = "Hugging Face" if kind else "timm"
    with _making_model(_title(path)):
        if path.suffix == ".npz":
            vit, names = _npz_vit(path, tensors)
        elif source == "timm":
            vit, names = _timm_vit(path, settings, tensors)
        else:
            vit, names = _hf_vit(path, settings, tensors)
    droppable = [r"((vit|deit)\.)?pooler\.dense\.(weight|bias)", r"((vit|deit)\.)?embeddings\.mask_token"]
    dropped = _fill(vit, names, tensors, droppable, _title(path))
    _finish(vit, str(name), device, dtype)
    config = vit.config
    facts = _facts(config, f"ViT, pre-norm ({source})", tensors) | {
        "picture": f"{config.image_size[0]} x {config.image_size[1]}, patches of {config.patch_size}",
        "prefix tokens": f"{config.num_prefix_tokens}, {config.num_prefix_positions} with a position",
        "position interpolation": config.position_interpolation,
        "preprocessing": str(vit.preprocessing),
        "heads": f"{len(vit.heads)} ({len(vit.labels)} classes)" if vit.heads else "none",
    }
    return vit, Report(str(name), facts, _summary(names), dropped)


# --- doors -------------------------------------------------------------------------------------


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
    return _read_bert(name or SHIPPED_BERT, device, dtype)[0]


def load_vit(
    name: str | Path | None = None, *, device: Device | str = "auto", dtype: torch.dtype | None = None
) -> ViT:
    """Loads a ViT or DeiT; as `load_bert`, and also Google's .npz and timm's safetensors files."""
    return _read_vit(name or SHIPPED_VIT, device, dtype)[0]


def inspect_checkpoint(name: str | Path) -> Report:
    """Loads a BERT or ViT on the CPU and tells what was found: sizes, heads, names, what was dropped.

    Raises `CheckpointError` as `load_bert` and `load_vit` do.
    """
    path = _locate(name)
    config = path / "config.json"
    settings = _read_json(config) if config.exists() else {}
    is_bert = settings.get("model_type", "bert" if "vocab_size" in settings else "") == "bert"
    return (_read_bert if is_bert else _read_vit)(name, "cpu", None)[1]


def save_checkpoint(model: Bert | ViT, folder: str | Path, dtype: torch.dtype = torch.float32) -> None:
    """Writes a model in the Hugging Face layout; `transformers` opens it.

    Args:
        folder: made if missing; a checkpoint that is already there is replaced only once all is written.
        dtype: of the stored weights; float16 halves the file.

    Raises:
        CheckpointError: no room on the disk, not writable, or a ViT that the layout cannot hold.
    """
    folder = Path(folder)
    config, names = _hf_bert(model) if isinstance(model, Bert) else _hf_vit_layout(model)
    tensors: dict[str, Tensor] = {}
    for ours, tensor in model.state_dict().items():
        if ours == "heads.mlm.decoder.weight" and model.config.tie_word_embeddings:
            continue
        if ours == "embeddings.projection.weight":  # HF keeps it as a convolution
            tensor = tensor.unflatten(1, (model.config.num_channels, *[model.config.patch_size] * 2))
        theirs = names[ours]
        parts = tensor.chunk(len(theirs), dim=1 if ours == "embeddings.prefix_tokens" else 0)
        tensors |= {
            part: value.to("cpu", dtype).contiguous() for part, value in zip(theirs, parts, strict=True)
        }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".writing-") as temporary:
            new = Path(temporary)
            save_file(tensors, new / "model.safetensors", metadata={"format": "pt"})
            (new / "config.json").write_text(json.dumps(config | {"dtype": str(dtype)[6:]}, indent=2) + "\n")
            if isinstance(model, Bert) and model.tokenizer is not None:
                model.tokenizer.save(new)
            elif isinstance(model, ViT) and model.preprocessing is not None:
                text = json.dumps(model.preprocessing.to_hf(), indent=2) + "\n"
                (new / "preprocessor_config.json").write_text(text)
            for file in list(new.iterdir()):
                file.chmod(0o644)  # safetensors writes for the owner alone
                os.replace(file, folder / file.name)
    except (OSError, safetensors.SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(
            f"{folder} could not be written ({reason}); what was there is unchanged."
        ) from error


def _hf_config(config: EncoderConfig, model_type: str, architecture: str) -> dict[str, Any]:
    settings = {field.name: getattr(config, field.name) for field in fields(config)}
    for ours in ("norm_first", "representation_size", "num_head_tokens"):
        settings.pop(ours, None)
    return {"model_type": model_type, "architectures": [architecture]} | settings


def _label_table(labels: Sequence[str]) -> dict[str, Any]:
    return {
        "id2label": {str(index): label for index, label in enumerate(labels)},
        "label2id": {label: index for index, label in enumerate(labels)},
    }


def _hf_bert(bert: Bert) -> tuple[dict[str, Any], Names]:
    names = _bert_names(bert, "bert.")
    own = {name: head for name, head in bert.heads.items() if name not in ("mlm", "nsp", "span")}
    classifier = [head for name, head in own.items() if _is_classifier(bert, name)]
    architecture = "BertModel"
    if "mlm" in bert.heads:
        architecture = "BertForPreTraining" if "nsp" in bert.heads else "BertForMaskedLM"
    elif "nsp" in bert.heads:
        architecture = "BertForNextSentencePrediction"
    elif "span" in bert.heads:
        architecture = "BertForQuestionAnswering"
    elif classifier:
        task = {"sentence": "Sequence", "word": "Token"}[classifier[0].kind]
        architecture = f"BertFor{task}Classification"
    config = _hf_config(bert.config, "bert", architecture)
    if classifier:
        config |= _label_table(classifier[0].labels)
    if own:
        config["workbench_heads"] = {
            name: {"kind": head.kind, "labels": list(head.labels)} for name, head in own.items()
        }
    return config, names


def _hf_vit_layout(vit: ViT) -> tuple[dict[str, Any], Names]:
    prefix = vit.config.num_prefix_tokens
    if prefix > 2 or prefix != vit.config.num_prefix_positions or vit.pre_logits is not None:
        raise CheckpointError(
            "The HF layout of ViT has no place for register tokens or a representation layer; "
            "nothing was written."
        )
    kind, name = ("deit", "DeiT") if prefix == 2 else ("vit", "ViT")
    heads = ["cls_classifier", "distillation_classifier"] if len(vit.heads) == 2 else ["classifier"]
    teacher = "WithTeacher" if len(vit.heads) == 2 else ""
    architecture = f"{name}ForImageClassification{teacher}" if vit.heads else f"{name}Model"
    config = _hf_config(vit.config, kind, architecture) | _label_table(vit.labels)
    height, width = vit.config.image_size
    config["image_size"] = height if height == width else [height, width]
    return config, _hf_vit_names(vit, f"{kind}." if vit.heads else "", heads[: len(vit.heads)])
