"""Reads checkpoints: finds the files, takes in what their settings say, and fills a model by the tables of
`names.py`.

Reading is strict: each tensor is used, known to be of no use here, or an error; nothing is guessed.
Formats: Hugging Face BERT, DistilBERT, ViT, DeiT and DINOv2, timm ViT (safetensors), and Google's ViT (.npz).
"""

import json
import math
import os
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from workbench.bert import Bert, BertConfig
from workbench.checkpoint import names, settings as rules
from workbench.checkpoint.settings import CheckpointError, Settings, or_say, title_of
from workbench.checkpoint.tokenizer import read_tokenizer
from workbench.encoder import EncoderConfig, lay_out_for_cpu
from workbench.image import Preprocessing
from workbench.vit import ViT, ViTConfig

SHIPPED_BERT = "workbench-bert"
SHIPPED_VIT = "workbench-vit"
NSP_LABELS = ("is next", "not next")  # the order of Google's and HF's checkpoints
FETCHED = """config.json model*.safetensors model.safetensors.index.json preprocessor_config.json vocab.txt
    processor_config.json tokenizer.json tokenizer_config.json special_tokens_map.json added_tokens.json
    adapter_config.json"""
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
RUNS_CODE = """which can run code when opened; weights are read from safetensors only: if you trust it, load \
it with transformers and save it anew (save_pretrained), which writes safetensors"""
Device = Literal["auto", "cpu", "cuda", "mps"]


# --- Files -------------------------------------------------------------------------------------


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
    if not isinstance(name, str | Path):
        raise CheckpointError(f"A checkpoint is a folder, a file or a name, not {name!r}.")
    shipped = shipped_checkpoints()
    if str(name) in shipped:
        return shipped[str(name)]
    typed = os.path.expanduser(name)
    path = Path(os.path.abspath(typed))
    if os.path.exists(typed):
        return path
    if isinstance(name, Path) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or path.suffix == ".npz":
        raise CheckpointError(f"There is no file or folder {str(name)!r}.")
    import huggingface_hub  # slow to import, and only needed here

    try:
        folder = Path(huggingface_hub.snapshot_download(name, allow_patterns=FETCHED.split()))
        weights = [file for file in folder.glob("model*.safetensors*") if file.exists()]
        pickled = any(file.suffix in PICKLES for file in folder.iterdir())  # for which there is a sentence
        if not (weights or pickled) or not (folder / "config.json").exists():
            huggingface_hub.model_info(name)  # raises without a network: then it is not the whole
        return folder
    except huggingface_hub.errors.RepositoryNotFoundError as error:
        sentence = f"The Hub has no checkpoint {name!r} that can be read without a login."
        raise CheckpointError(sentence) from error
    except Exception as error:  # offline shows itself in many kinds of errors
        what = f"{name!r} is neither a folder here nor can it"
        cache = os.path.join(huggingface_hub.constants.HF_HUB_CACHE, f"models--{name.replace('/', '--')}")
        if os.path.exists(os.path.join(cache, "snapshots")):
            what = f"Only a part of {name!r} was fetched, and the rest cannot"
        raise CheckpointError(
            f"{what} be fetched from the Hub (no network?); "
            f"shipped with the workbench: {', '.join(shipped) or 'none'}."
        ) from error


def _read_json(path: Path) -> Settings:
    title = title_of(path.parent)
    with or_say(f"{title}: {path.name} cannot be read", OSError, ValueError):
        content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise CheckpointError(f"{title}: {path.name} holds no settings.")
    return content


def _read_config(path: Path) -> Settings:
    """config.json of a folder, or beside a file of weights."""
    if path.suffix.lower() == ".npz":
        return {"model_type": "google"}
    if path.is_file() and path.suffix in PICKLES:
        raise CheckpointError(f"{path.name} is a pickle, {RUNS_CODE}.")
    if path.is_file() and path.suffix.lower() != ".safetensors":
        raise CheckpointError(f"{path.name} is of no kind that is read here: .safetensors, or Google's .npz.")
    if (path / "adapter_config.json").exists():  # peft's; transformers adds it to the weights
        raise CheckpointError(
            f"{title_of(path)} holds an adapter (adapter_config.json), which changes the weights and is not "
            "read here: merge it into its model (merge_and_unload of peft), and save that."
        )
    file = (path if path.is_dir() else path.parent) / "config.json"
    if file.exists():
        return _read_json(file)
    if path.is_file():
        raise CheckpointError(
            f"{path.name} comes without its config.json, so it does not say how many attention heads there "
            "are and how its input is prepared: put config.json beside it."
        )
    below = ", ".join(sorted(found.parent.name for found in path.glob("*/config.json"))[:5])
    but = f", but {below} in it has: load that" if below else ": it is no folder of a checkpoint"
    raise CheckpointError(f"{title_of(path)} has no config.json{but}.")


def _weight_files(path: Path) -> list[Path]:
    """The file, or those of a folder: one, or several shards."""
    if path.is_file():
        return [path]
    title, whole, index = title_of(path), path / "model.safetensors", path / "model.safetensors.index.json"
    if whole.exists():
        return [whole]
    if index.exists():
        shards = _read_json(index).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise CheckpointError(f"{title}: {index.name} names no files.")
        return sorted({path / Path(str(file)).name for file in shards.values()})
    others = sorted(file for file in path.rglob("*.safetensors") if file.exists())
    there = sorted(file.name for file in path.iterdir() if file.exists())
    pickles = [name for name in there if name.endswith(PICKLES)]
    but = f", which weights are read from; it holds {', '.join(there[:9])}"
    if pickles:
        but = f" but a pickle ({pickles[0]}), {RUNS_CODE}"
    if others:
        but = f" but {others[0].relative_to(path)}: load that file, with its config.json beside it"
    if whole.is_symlink():
        but = ": it is a link to a file that is not here"
    raise CheckpointError(f"{title} has no {whole.name}{but}.")


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, or of all shards in a folder, by name; nothing is unpickled."""
    tensors: dict[str, Tensor] = {}
    for file in _weight_files(path):
        if not file.exists():
            raise CheckpointError(f"{title_of(path)} lacks the file {file.name}.")
        is_npz, called = file.suffix.lower() == ".npz", f"{file.name} of {title_of(file.parent)}"
        form = ".npz file of plain arrays" if is_npz else "safetensors file"
        with or_say(f"{called} is damaged or no {form}", Exception), file.open("rb") as content:
            if content.read(23) == b"version https://git-lfs":
                raise CheckpointError(f"{called} is only git-lfs' note of it: `git lfs pull` fetches it.")
            if is_npz:  # what is no zip file numpy would take for a pickle, and say how to open it
                with zipfile.ZipFile(file), np.load(file) as arrays:
                    tensors |= {name: torch.from_numpy(array) for name, array in arrays.items()}
            else:
                tensors |= load_file(file)
    for wrapper in names.WRAPPERS * 2:  # in any order
        if all(name.startswith(wrapper) for name in tensors):
            tensors = {name.removeprefix(wrapper): tensor for name, tensor in tensors.items()}
    for old, new in names.OLD_ENDINGS.items():
        tensors = {name.replace(old, new): tensor for name, tensor in tensors.items()}
    return tensors


class Weights:
    """The tensors of a file, asked for by our names; `used` and `dropped` say what `fill` did with them.

    `source` is who writes such files, `table` is that of their format in `names.py`, `variants` are tables of
    other names that some of these files have.
    """

    def __init__(self, path: Path, source: str, table: names.Table, *variants: names.Table) -> None:
        self.title, self.source, self.table = title_of(path), source, table
        self.tensors = _read_tensors(path)
        self.prefix = names.prefix_of(self.tensors)
        for variant in variants:
            first, *_ = names.their_names(variant, f"{next(iter(variant))}.weight", self.prefix)
            if first.replace("N", "0") in self.tensors:
                self.table = self.table | variant
        self.used: dict[str, list[str]] = {}  # our names to theirs
        self.dropped: tuple[str, ...] = ()

    def theirs(self, ours: str) -> list[str]:
        """Their names for one tensor of ours; of the tokens in front of the patches those that are there."""
        found = names.their_names(self.table, ours, self.prefix)
        if ours == "embeddings.prefix_tokens":
            return found[:1] + [name for name in found[1:] if name in self.tensors]
        return found

    @property
    def examples(self) -> str:
        """A few of their names, as messages tell them."""
        return ", ".join(sorted(self.tensors)[:3]) or "nothing"

    def __contains__(self, ours: str) -> bool:
        theirs = self.theirs(ours)
        return bool(theirs) and all(name in self.tensors for name in theirs)

    def __getitem__(self, ours: str) -> Tensor:
        """Their tensors joined to one of ours; raises `CheckpointError` if they are missing or do not fit."""
        theirs = self.theirs(ours)
        if lacking := [name for name in theirs if name not in self.tensors]:
            raise CheckpointError(f"{self.title} lacks the tensor {lacking[0]!r}; it holds {self.examples}.")
        parts = [names.in_torch_order(name, self.tensors[name]) for name in theirs]
        if len(parts) == 1:
            return parts[0]
        try:
            if ours == "embeddings.prefix_tokens":  # (1, tokens, hidden) each
                return torch.cat(parts, dim=1)
            return torch.stack(parts).flatten(0, 1)  # of equal shapes
        except (RuntimeError, IndexError) as error:
            raise self._wrong_shape(ours, "these cannot be joined") from error

    def size(self, ours: str, axis: int = 0) -> int:
        """The length of an axis of a tensor of ours, 1 if it lacks the axis: `fill` finds what is wrong."""
        return [*self[ours].shape, 1, 1, 1][axis] or 1

    def _wrong_shape(self, ours: str, wanted: str) -> CheckpointError:
        theirs = self.theirs(ours)
        shapes = ", ".join(str(tuple(self.tensors[name].shape)) for name in theirs)
        return CheckpointError(f"{self.title}: {theirs[0]!r} has the shape {shapes}; {wanted}.")

    def fill(self, model: nn.Module) -> None:
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
                # In a file of half precision the products need more places than the factors.
                tensor = tensor.double() * factors.reshape(-1, *[1] * (tensor.ndim - 1))
                theirs += scale
            state[ours], self.used[ours] = tensor, theirs
        used = {name: self.tensors[name] for theirs in self.used.values() for name in theirs}
        for name, values in used.items():
            if values.dtype not in rules.FLOATING:
                kind = str(values.dtype).removeprefix("torch.")
                raise CheckpointError(f"{self.title}: {name!r} is of type {kind}, not floating point.")
            if not values.numel() or not all(map(math.isfinite, values.aminmax())):  # NaN is the least, too
                raise CheckpointError(f"{self.title}: {name!r} holds NaN or infinite numbers, or none.")
        self.dropped = tuple(sorted(self.tensors.keys() - used.keys()))
        if unknown := [name for name in self.dropped if name.removeprefix(self.prefix) not in names.DROPPED]:
            count = f"{len(unknown)} tensors that this model has no place for"
            raise CheckpointError(f"{self.title} holds {count}, such as {unknown[0]!r}.")
        model.load_state_dict(state, assign=True)


# --- Settings ----------------------------------------------------------------------------------

# Larger numbers no file has, and torch no shape; how many layers a file holds is counted.
LARGEST = {"num_hidden_layers": math.inf, "patch_size": 2**10}
LARGEST |= {"hidden_dropout_prob": 1, "attention_probs_dropout_prob": 1}


def _setting(settings: Settings, name: str, kind: type, default: Any = None) -> Any:
    """A setting of the wanted kind, a number within range; the default where a file is silent or says null.

    Raises `ValueError` for any other, and for none without a default.
    """
    value = settings.get(name)
    if value is None and default is not None:
        return default
    fits = type(value) in ((int, float) if kind is float else (kind,))
    if not fits or (kind in (int, float) and not 0 <= value <= LARGEST.get(name, 2**20)):
        raise ValueError(f"{name} cannot be {value!r}")
    return value


def _size(settings: Settings, name: str, default: Any = None) -> tuple[int, int]:
    """A (height, width) from one number or two."""
    value = default if settings.get(name) is None else settings[name]
    sides = value if isinstance(value, list | tuple) else [value, value]
    if len(sides) != 2 or not all(type(side) is int and 0 < side < 2**20 for side in sides):
        raise ValueError(f"{name} cannot be {value!r}")
    return sides[0], sides[1]


def _config(kind: type[EncoderConfig], settings: Settings, weights: Weights) -> Any:
    """A config from those of the settings that are its fields; numbers, words, yes and no are checked."""
    given = [field for field in fields(kind) if field.name in settings]
    for field in given:
        if field.type in (int, float, bool, str):
            _setting(settings, field.name, field.type)
    config = kind(**{field.name: settings[field.name] for field in given})
    if config.num_hidden_layers > len(weights.tensors):
        raise ValueError(f"{config.num_hidden_layers} layers are more than the file holds")
    return config


def _architecture(settings: Settings) -> str:
    found = settings.get("architectures") or settings.get("model_type") or "(none named)"
    return str(found[0] if isinstance(found, list) else found)


def _labels(settings: Settings, weights: Weights, head: str) -> tuple[str, ...]:
    """Names of a head's classes, by number if those in the settings do not fit it; none without it."""
    count = weights.size(f"{head}.weight") if f"{head}.weight" in weights else 0
    numbered = {str(index): f"class {index}" for index in range(count)}
    labels = _setting(settings, "id2label", dict, {}) or numbered
    fits = labels.keys() == numbered.keys() and None not in labels.values()
    names = [str((labels if fits else numbered)[number]) for number in numbered]
    alone = {name for name, times in Counter(names).items() if times == 1 and name.strip()}
    # Each class has a name of its own; with its number it surely has.
    own = [f"{name.strip() or 'class'} {at}" for at, name in enumerate(names)]
    called = tuple(name if name in alone else one for name, one in zip(names, own, strict=True))
    called = called if len({*called}) == count else tuple(own)
    if count and not (fits and settings.get("num_labels") in (None, count)):
        warnings.warn(
            f"config.json of {weights.title} is of other classes than its weights have, which are {count}: "
            f"they are called {called[0]}, ... here.",
            stacklevel=2,
        )
    return called


def _check(known: rules.Rules, settings: Settings, weights: Weights, part: str = "") -> None:
    """Warns of settings that are not known, and refuses those that cannot be obeyed."""
    with or_say(f"{weights.title} asks for what is not read here", ValueError):
        known.check(settings, f"{part}config.json of {weights.title}")


# --- BERT and DistilBERT -----------------------------------------------------------------------


def _bert(weights: Weights, settings: Settings, folder: Path) -> Bert:
    tied = _settle_copies(weights, settings)
    config = _config(BertConfig, settings | {"tie_word_embeddings": tied}, weights)
    tokenizer = read_tokenizer(folder, settings.get("tokenizer_class"))
    if max(tokenizer.backend.get_vocab().values()) >= config.vocab_size:
        raise ValueError("the tokenizer has more word pieces than the model has embeddings")
    bert = Bert(config, pooler="pooler.dense.weight" in weights, tokenizer=tokenizer)
    _add_heads(bert, weights, settings)
    weights.table, _ = names.bert_layout(bert)
    return bert


def _settle_copies(weights: Weights, settings: Settings) -> bool:
    """Whether masked words are scored by the word embeddings; a file may hold both, and the bias twice."""
    tensors, matrix = weights.tensors, "heads.mlm.decoder.weight"
    (words,), (decoder,) = weights.theirs("embeddings.word_embeddings.weight"), weights.theirs(matrix)
    if matrix in weights:
        tied = words in tensors and torch.equal(tensors[words], tensors[decoder])
    else:
        tied = _setting({"tie_word_embeddings": True} | settings, "tie_word_embeddings", bool)
    if tied and words in tensors and "heads.mlm.dense.weight" in weights:
        tensors[decoder] = tensors[words]
    # Only an untied BERT adds the decoder's own bias; else it is one more name for the other.
    biases = [table["heads.mlm.decoder.bias"] for table in (names.HF_BERT, names.HF_BERT_UNTIED)]
    kept, other = biases if tied else reversed(biases)
    bias = tensors.pop(other, None)
    if bias is not None and not torch.equal(tensors.setdefault(kept, bias), bias) and tied:
        raise CheckpointError(f"{kept} and {other} of {weights.title} differ.")
    return tied


def _add_heads(bert: Bert, weights: Weights, settings: Settings) -> None:
    for name, kind, labels in (("mlm", "mlm", ()), ("nsp", "sentence", NSP_LABELS), ("span", "span", ())):
        if f"heads.{name}.weight" in weights or f"heads.{name}.dense.weight" in weights:
            bert.add_head(name, kind, labels)
    own = _setting(settings, "workbench_heads", dict, {})
    for name in own:
        head = _setting(own, name, dict)
        try:
            labels = _setting(head, "labels", list)
            bert.add_head(name, _setting(head, "kind", str), labels, head.get("problem_type"))
        except KeyError as error:  # some names are not for modules of torch
            raise ValueError(f"no head can be called {name!r}") from error
    labels = _labels(settings, weights, "heads.classifier")
    if labels and not own:
        architecture = _architecture(settings) if settings.get("architectures") else "none"
        kind = names.HF_CLASSIFIERS.get(architecture)
        if kind is None:
            raise CheckpointError(
                f"config.json of {weights.title} names the architecture {architecture}: whether a classifier "
                f"reads texts or words is told by {' or '.join(names.HF_CLASSIFIERS)} in architectures."
            )
        bert.add_head(kind, kind, labels, settings.get("problem_type"))


# --- ViT, DeiT, DINOv2 -------------------------------------------------------------------------


def _sizes(weights: Weights) -> Settings:
    """What the tensors show of a ViT; timm and Google write most of it nowhere else."""
    projection = "embeddings.projection.weight"
    if projection not in weights:
        raise CheckpointError(
            f"{weights.title} is no ViT as {weights.source} writes it: it lacks the tensor "
            f"{weights.theirs(projection)[0]!r}; it holds {weights.examples}."
        )
    if "embeddings.prefix_tokens" not in weights:
        raise CheckpointError(f"{weights.title} is a ViT without a class token, which is not read here.")
    channels = weights.size(projection, 1)
    if channels not in (1, 3):
        raise CheckpointError(f"{weights.title} wants {channels} channels; pictures here are grey or RGB.")
    return {
        "hidden_size": weights.size(projection),
        "num_hidden_layers": names.count_layers(weights.table, weights.tensors, weights.prefix),
        "intermediate_size": weights.size("encoder.layers.0.feed_forward.expand.weight"),
        "qkv_bias": "encoder.layers.0.attention.query_key_value.bias" in weights,
        "patch_size": weights.size(projection, 2),
        "num_channels": channels,
        "num_prefix_tokens": weights.size("embeddings.prefix_tokens", 1),
        "num_head_tokens": 2 if "heads.1.weight" in weights else 1,
        "representation_size": weights.size("pre_logits.weight") if "pre_logits.weight" in weights else None,
    }


def _vit(weights: Weights, values: Settings, preprocessing: Preprocessing) -> ViT:
    patch, width = _size(values, "patch_size")
    if patch != width:
        raise ValueError(f"patch_size cannot be {values['patch_size']!r}: patches are squares here")
    config = _config(ViTConfig, values | {"patch_size": patch}, weights)
    if any(side % patch for side in preprocessing.size):
        raise ValueError(f"pictures of {preprocessing.size} pixels are no whole patches of {patch}")
    return ViT(config, _labels(values, weights, "heads.0"), preprocessing, values.get("problem_type"))


def _hf_vit(weights: Weights, settings: Settings, folder: Path) -> ViT:
    sizes = _sizes(weights)
    values = sizes | {"num_prefix_positions": sizes["num_prefix_tokens"]} | settings
    values["image_size"] = _size(settings, "image_size", 224)
    return _vit(weights, values, _hf_preprocessing(weights, values, folder))


def _hf_preprocessing(weights: Weights, values: Settings, folder: Path) -> Preprocessing:
    file, outer = folder / "preprocessor_config.json", folder / "processor_config.json"
    size, channels = values["image_size"], weights.size("embeddings.projection.weight", 1)
    recipe = _setting(_read_json(outer) if outer.exists() else {}, "image_processor", dict, {})
    if recipe:  # which transformers prefers
        file = outer
    elif file.exists():
        recipe = _read_json(file)
    else:
        warnings.warn(
            f"{weights.title} has no {file.name}: pictures get a mean and a deviation of 0.5, as for "
            "Google's ViTs. If it learned from others, its answers are worse here.",
            stacklevel=2,
        )
        return Preprocessing.from_hf({}, size, channels)
    with or_say(f"{weights.title}: {file.name} cannot be used", ValueError):
        rules.PICTURES.check({name: recipe[name] for name in recipe if not name.startswith("do_")}, file.name)
        usual = {"vit": "ViT", "deit": "DeiT"}.get(values["model_type"], "Bit")
        kind = str(recipe.get("image_processor_type") or recipe.get("feature_extractor_type") or usual)
        kind = re.sub("(ImageProcessor|FeatureExtractor)(Fast|Pil)?$", "", kind)
        if kind not in rules.PROCESSORS:
            raise ValueError(f"an image processor {kind}; known are {', '.join(rules.PROCESSORS)}")
        return Preprocessing.from_hf(rules.PROCESSORS[kind] | recipe, size, channels)


def _timm_vit(weights: Weights, settings: Settings, folder: Path) -> ViT:
    sizes = _sizes(weights)
    pretrained = _setting(settings, "pretrained_cfg", dict, {})
    options = _setting(settings, "model_args", dict, {})
    if "pretrained_cfg" in settings:
        _check(rules.TIMM, settings | {"global_pool": settings.get("global_pool") or None}, weights)
    else:  # files of before 2023: all in one
        pretrained = {name: settings[name] for name in settings.keys() - rules.TIMM.names()}
    _check(rules.TIMM_PRETRAINED, pretrained, weights, "pretrained_cfg in ")
    _check(rules.TIMM_ARGUMENTS, options, weights, "model_args in ")
    input_size = _setting(pretrained, "input_size", list, [3, 224, 224])  # channels, height, width
    size = _size(options, "img_size", input_size[1:])
    rows, columns = (side // sizes["patch_size"] for side in size)
    usual = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16}.get(sizes["hidden_size"], 0)
    heads = _setting(options, "num_heads", int, usual)
    if not heads:
        raise CheckpointError(
            f"{weights.title} does not say how many attention heads there are: put num_heads into model_args "
            "of its config.json."
        )
    activation = _setting(options, "act_layer", str, "gelu")
    named = settings if settings.get("label_names") else pretrained
    labels = named.get("label_names")
    if not isinstance(labels, dict):
        labels = {str(index): label for index, label in enumerate(_setting(named, "label_names", list, []))}
    values = sizes | {
        "num_attention_heads": heads,
        "hidden_act": {"gelu_tanh": "gelu_pytorch_tanh"}.get(activation, activation),
        "image_size": size,
        "num_prefix_positions": weights.size("embeddings.position_embeddings", 1) - rows * columns,
        "position_interpolation": "bicubic-antialias",
        "id2label": labels,
    }
    return _vit(weights, values, Preprocessing.from_timm(pretrained, size, sizes["num_channels"]))


def _google_vit(weights: Weights, settings: Settings, folder: Path) -> ViT:
    sizes = _sizes(weights)
    side = round((weights.size("embeddings.position_embeddings", 1) - 1) ** 0.5) * sizes["patch_size"]
    # (in, heads, head_size) in the file; in torch's order the heads no longer show.
    query = weights.tensors.get(weights.theirs("encoder.layers.0.attention.query_key_value.weight")[0])
    values = sizes | {
        "num_attention_heads": query.shape[1] if query is not None and query.ndim == 3 else 1,
        "hidden_act": "gelu_pytorch_tanh",  # Flax's gelu is the tanh form
        "image_size": (side, side),
        "position_interpolation": "bilinear-corners",
    }
    return _vit(weights, values, Preprocessing.from_hf({}, (side, side), sizes["num_channels"]))


# --- All -----------------------------------------------------------------------------------------

BERT, VIT = ("load_bert", "Hugging Face", _bert), ("load_vit", "Hugging Face", _hf_vit, rules.VIT)
HF_VIT, DINOV2 = [names.HF_VIT, names.HF_VIT_IN_MEMORY], [names.DINOV2, names.DINOV2_IN_MEMORY]
# config.json's model_type: what loads it, who writes it, what makes a model of it, the rules of config.json,
# and its tables of names. timm's config.json names no model_type, and Google's file comes without one.
FORMATS: dict[str, tuple[str, str, Callable, rules.Rules | None, list[names.Table]]] = {
    "bert": (*BERT, rules.BERT, [names.HF_BERT]),
    "vit": (*VIT, HF_VIT),
    "deit": (*VIT, [*HF_VIT, names.HF_TEACHER]),
    "distilbert": (*BERT, rules.DISTILBERT, [names.DISTILBERT]),
    "dinov2": (*VIT, DINOV2),
    "dinov2_with_registers": (*VIT, DINOV2),
    "timm": ("load_vit", "timm", _timm_vit, None, [names.TIMM]),
    "google": ("load_vit", "Google's Flax", _google_vit, None, [names.GOOGLE]),
}


def load_bert(
    name: str | Path | None = None, *, device: Device | str = "auto", dtype: torch.dtype | None = None
) -> Bert:
    """Loads a BERT or DistilBERT with all the heads that its file holds.

    Args:
        name: a folder, a .safetensors file beside its config.json, a Hub id, or the name of a shipped
            checkpoint; None for the shipped one.
        device: "auto" takes a GPU where there is one.
        dtype: of the weights: torch.float16 or torch.bfloat16 need half the memory; None is float32.

    Returns:
        The model in evaluation mode, with `bert.tokenizer`, `bert.config` and `bert.heads`.

    Raises:
        CheckpointError: the checkpoint is missing, damaged or of another architecture; nothing is guessed.

    Example:
        >>> bert = load_bert("bert-base-uncased")  # doctest: +SKIP
    """
    return read_checkpoint(SHIPPED_BERT if name is None else name, device, dtype, "load_bert")[0]


def load_vit(
    name: str | Path | None = None, *, device: Device | str = "auto", dtype: torch.dtype | None = None
) -> ViT:
    """Loads a ViT, DeiT, DINO or DINOv2; as `load_bert`, and also Google's .npz and timm's files."""
    return read_checkpoint(SHIPPED_VIT if name is None else name, device, dtype, "load_vit")[0]


def read_checkpoint(
    name: str | Path, device: Device | str, dtype: torch.dtype | None = None, door: str | None = None
) -> tuple[Bert | ViT, Weights]:
    """A model, and what it was filled with; raises as `load_bert`.

    `door` is "load_bert" or "load_vit", which read one kind each; None reads both.
    """
    path = locate(name)
    title, settings = title_of(path), _read_config(path)
    kind = str(settings.get("model_type") or ("bert" if "vocab_size" in settings else "timm"))
    right, source, make, known, tables = FORMATS.get(kind, ("", "", None, None, []))
    if right != (door or right) or make is None:
        mine = [
            repr(kind)
            for kind, (theirs, file, *_) in FORMATS.items()
            if file == "Hugging Face" and door in (None, theirs)
        ]
        hint = f"{door or 'the workbench'} reads model_type {' and '.join(mine)}"
        if right and settings.get("model_type"):
            hint = f"use {right} for it"
        raise CheckpointError(f"{title} is of the architecture {_architecture(settings)}; {hint}.")
    weights = Weights(path, source, *tables)
    for part, meaning in names.REFUSED.get(kind, {}).items():
        for theirs in [theirs for theirs in weights.tensors if part in theirs]:
            raise CheckpointError(f"{title} holds {theirs!r}: {meaning}, which has no place here.")
    if known is not None:
        _check(known, settings, weights)
        ours, obeyed = names.SETTINGS.get(kind, {}), settings.keys() & {*known.obeyed.split()}
        ordered = sorted(obeyed, key=lambda name: name not in ours)  # said twice, the common name counts
        settings = rules.SILENT.get(kind, {}) | {ours.get(name, name): settings[name] for name in ordered}
    # A model made so takes no memory and no random numbers, as its weights come from the file.
    with or_say(f"{title} does not fit together", ValueError), torch.device("meta"), _NoStartWeights():
        model = make(weights, settings, path if path.is_dir() else path.parent)
    weights.fill(model)
    make_ready(model, title, device, dtype)
    return model, weights


class _NoStartWeights(torch.overrides.TorchFunctionMode):
    """Skips `torch.nn.init`, which on the meta device imports a second's worth of modules."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if getattr(function, "__module__", None) == "torch.nn.init":
            return None
        return function(*args, **(kwargs or {}))


def make_ready(
    model: Bert | ViT, name: str, device: Device | str = "auto", dtype: torch.dtype | None = None
) -> None:
    """Moves a model to where it is to run, with memory laid out for it, in evaluation mode."""
    model.name = name
    device = pick_device(device)
    model.to(device, rules.check_dtype(dtype or torch.float32))
    if device.type == "cpu":
        model.encoder.apply(lay_out_for_cpu)
    if isinstance(model, Bert) and "mlm" in model.heads and model.config.tie_word_embeddings:
        model.heads["mlm"].decoder.weight = model.embeddings.word_embeddings.weight
    model.requires_grad_(True).eval()


def pick_device(device: Device | str | torch.device = "auto") -> torch.device:
    """The device for a name; "auto" is a GPU where there is one. Raises `ValueError` if it is not there."""
    here = [name for name in ("cuda", "mps") if getattr(torch, name).is_available()] + ["cpu"]
    try:
        device = torch.device(here[0] if device == "auto" else device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"{device!r} is no device; use auto, cpu, cuda or mps.") from error
    if device.type not in here:
        raise ValueError(f"This machine has no {device.type} device; use device='cpu' or 'auto'.")
    return device
