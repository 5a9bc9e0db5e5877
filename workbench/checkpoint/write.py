"""Writes checkpoints in the Hugging Face layout, by the same tables that read it."""

import json
import os
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor

from workbench.bert import Bert
from workbench.checkpoint import names, settings as rules
from workbench.checkpoint.settings import CheckpointError, Settings
from workbench.checkpoint.tokenizer import save_tokenizer
from workbench.checks import check_model
from workbench.encoder import EncoderConfig
from workbench.vit import ViT

# What makes inputs of texts and pictures.
READERS = {
    "vocab.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "added_tokens.json",
    "special_tokens_map.json",
    "preprocessor_config.json",
    "processor_config.json",
}


def save_checkpoint(model: Bert | ViT, folder: str | Path, dtype: torch.dtype = torch.float32) -> None:
    """Writes a model in the Hugging Face layout; `transformers` opens it.

    Args:
        folder: made if missing; a checkpoint that is already there, and what read its inputs, is replaced
            only once all is written.
        dtype: of the stored weights; float16 halves the file.

    Raises:
        CheckpointError: no room on the disk, not writable, an adapter is there, a ViT that the layout cannot
            hold, or weights that are not finite (in `dtype`).

    A `UserWarning` tells of a crop that `transformers` has no recipe for; the workbench reads it again.
    """
    check_model(model, Bert, ViT)
    rules.check_dtype(dtype)
    folder = Path(folder).expanduser()
    if (folder / "adapter_config.json").exists():
        raise CheckpointError(
            f"{folder} holds an adapter (adapter_config.json), beside which no checkpoint is read here: "
            "take another folder; nothing was written."
        )
    settings, table = _hf_bert(model) if isinstance(model, Bert) else _hf_vit(model)
    prefix = f"{settings['model_type']}." if isinstance(model, Bert) or model.heads else ""
    tensors: dict[str, Tensor] = {}
    for ours, tensor in model.state_dict().items():
        if ours == "heads.mlm.decoder.weight" and model.config.tie_word_embeddings:
            continue
        if ours == "embeddings.projection.weight":  # HF keeps it as a convolution
            tensor = tensor.unflatten(1, (model.config.num_channels, *[model.config.patch_size] * 2))
        theirs, axis = names.their_names(table, ours, prefix), 0
        if ours == "embeddings.prefix_tokens":
            theirs, axis = theirs[: model.config.num_prefix_tokens], 1
        for name, part in zip(theirs, tensor.chunk(len(theirs), axis), strict=True):
            tensors[name] = part.to("cpu", dtype).contiguous()
            if not tensors[name].isfinite().all():
                raise CheckpointError(f"{name} is not finite in {dtype}; nothing was written.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".writing-") as temporary:
            new, contents = Path(temporary), {"config.json": settings | {"dtype": str(dtype)[6:]}}
            save_file(tensors, new / "model.safetensors", metadata={"format": "pt"})
            if isinstance(model, Bert) and model.tokenizer is not None:
                save_tokenizer(model.tokenizer, new, model.config.max_position_embeddings)
            elif isinstance(model, ViT) and model.preprocessing is not None:
                contents["preprocessor_config.json"] = recipe = model.preprocessing.to_hf()
                if "shortest_edge" in recipe["size"] and len({*recipe["crop_size"].values()}) > 1:
                    what = "transformers cuts squares only: it will show this ViT other pictures than we do."
                    warnings.warn(what, stacklevel=2)
            for name, content in contents.items():
                (new / name).write_text(json.dumps(content, indent=2) + "\n")
            written = {file.name for file in new.iterdir()}
            for name in written:
                (new / name).chmod(0o644)  # safetensors writes for the owner alone
                os.replace(new / name, folder / name)
            for name in READERS - written:  # of the checkpoint that was there
                (folder / name).unlink(missing_ok=True)
    except (OSError, safetensors.SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(
            f"{folder} could not be written ({reason}); what was there is unchanged."
        ) from error


def _config(config: EncoderConfig, kind: str, architecture: str, known: rules.Rules) -> Settings:
    """config.json of a model_type: of the fields of a config those that are obeyed when it is read."""
    theirs = {ours: name for name, ours in names.SETTINGS.get(kind, {}).items()}
    values = {theirs.get(ours, ours): value for ours, value in asdict(config).items()}
    obeyed = {name: value for name, value in values.items() if name in known.obeyed.split()}
    return {"model_type": kind, "architectures": [architecture]} | obeyed


def _label_table(labels: Sequence[str], problem_type: str) -> Settings:
    return {
        "problem_type": problem_type,
        "id2label": {str(index): label for index, label in enumerate(labels)},
        "label2id": {label: index for index, label in enumerate(labels)},
    }


def _hf_bert(bert: Bert) -> tuple[Settings, names.Table]:
    table, own = names.bert_layout(bert)
    classifiers = [head for name, head in own.items() if table[f"heads.{name}"] == "classifier"]
    found = bert.heads.keys() - own.keys() | {head.kind for head in classifiers}
    architecture = next(name for name, heads in names.HF_BERT_CLASSES.items() if heads <= found)
    if names.is_distilbert(bert):
        settings = _config(bert.config, "distilbert", f"Distil{architecture}", rules.DISTILBERT)
    else:
        settings = _config(bert.config, "bert", architecture, rules.BERT)
    for head in classifiers:
        settings |= _label_table(head.labels, head.problem_type)
    if own:
        settings["workbench_heads"] = {
            name: {"kind": head.kind, "labels": list(head.labels), "problem_type": head.problem_type}
            for name, head in own.items()
        }
    return settings, table


def _hf_vit(vit: ViT) -> tuple[Settings, names.Table]:
    tokens = vit.config.num_prefix_tokens
    if tokens > 2 or tokens != vit.config.num_prefix_positions or vit.pre_logits is not None:
        raise CheckpointError(
            "The HF layout of ViT has no place for register tokens or a representation layer; "
            "nothing was written."
        )
    kind, name = ("deit", "DeiT") if tokens == 2 else ("vit", "ViT")
    table, form = names.HF_VIT, "ForImageClassification" if vit.heads else "Model"
    if len(vit.heads) == 2:
        table, form = table | names.HF_TEACHER, form + "WithTeacher"
    settings = _config(vit.config, kind, name + form, rules.VIT) | _label_table(vit.labels, vit.problem_type)
    height, width = vit.config.image_size
    settings["image_size"] = height if height == width else [height, width]
    return settings, table
