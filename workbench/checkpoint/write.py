"""Writes checkpoints in the Hugging Face layout, by the same tables that read it."""

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor

from workbench.bert import Bert
from workbench.checkpoint import names
from workbench.checkpoint.read import CheckpointError
from workbench.checkpoint.tokenizer import save_tokenizer
from workbench.encoder import EncoderConfig
from workbench.vit import ViT


def save_checkpoint(model: Bert | ViT, folder: str | Path, dtype: torch.dtype = torch.float32) -> None:
    """Writes a model in the Hugging Face layout; `transformers` opens it.

    Args:
        folder: made if missing; a checkpoint that is already there is replaced only once all is written.
        dtype: of the stored weights; float16 halves the file.

    Raises:
        CheckpointError: no room on the disk, not writable, a ViT that the layout cannot hold, or weights
            that are not finite (in `dtype`).
    """
    folder = Path(folder).expanduser()
    settings, table = _hf_bert(model) if isinstance(model, Bert) else _hf_vit(model)
    prefix = f"{settings['model_type']}." if isinstance(model, Bert) or model.heads else ""
    tensors: dict[str, Tensor] = {}
    for ours, tensor in model.state_dict().items():
        if ours == "heads.mlm.decoder.weight" and model.config.tie_word_embeddings:
            continue
        if ours == "embeddings.projection.weight":  # HF keeps it as a convolution
            tensor = tensor.unflatten(1, (model.config.num_channels, *[model.config.patch_size] * 2))
        theirs = names.their_names(table, ours, prefix)
        if not theirs:
            raise CheckpointError(f"The HF layout has no place for {ours}; nothing was written.")
        if ours == "embeddings.prefix_tokens":
            theirs = theirs[: model.config.num_prefix_tokens]
        parts = tensor.chunk(len(theirs), dim=1 if ours == "embeddings.prefix_tokens" else 0)
        for name, part in zip(theirs, parts, strict=True):
            tensors[name] = part.to("cpu", dtype).contiguous()
            if not tensors[name].isfinite().all():
                raise CheckpointError(
                    f"{name} has numbers that are not finite in {dtype}; nothing was written."
                )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".writing-") as temporary:
            new = Path(temporary)
            save_file(tensors, new / "model.safetensors", metadata={"format": "pt"})
            (new / "config.json").write_text(
                json.dumps(settings | {"dtype": str(dtype)[6:]}, indent=2) + "\n"
            )
            if isinstance(model, Bert) and model.tokenizer is not None:
                save_tokenizer(model.tokenizer, new)
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
    settings = {"model_type": model_type, "architectures": [architecture]} | asdict(config)
    for ours in ("norm_first", "representation_size", "num_head_tokens"):  # the tensors tell these
        settings.pop(ours, None)
    return settings


def _label_table(labels: Sequence[str], problem_type: str) -> dict[str, Any]:
    return {
        "problem_type": problem_type,
        "id2label": {str(index): label for index, label in enumerate(labels)},
        "label2id": {label: index for index, label in enumerate(labels)},
    }


def _hf_bert(bert: Bert) -> tuple[dict[str, Any], names.Table]:
    table, own = names.bert_table(bert), names.own_heads(bert)
    classifier = next((head for name, head in own.items() if names.is_classifier(bert, name)), None)
    found = (bert.heads.keys() - own.keys()) | ({classifier.kind} if classifier is not None else set())
    architecture = next(name for name, heads in names.HF_BERT_CLASSES.items() if heads <= found)
    settings = _hf_config(bert.config, "bert", architecture)
    del settings["pooler_act"]
    if names.is_distilbert(bert):
        settings |= {"model_type": "distilbert", "architectures": [f"Distil{architecture}"]}
        for ours, theirs in names.DISTILBERT_SETTINGS.items():
            settings[theirs] = settings.pop(ours)
        for ours in ("type_vocab_size", "layer_norm_eps", "qkv_bias"):  # as they always are there
            del settings[ours]
    if classifier is not None:
        settings |= _label_table(classifier.labels, classifier.problem_type)
    if own:
        settings["workbench_heads"] = {
            name: {"kind": head.kind, "labels": list(head.labels), "problem_type": head.problem_type}
            for name, head in own.items()
        }
    return settings, table


def _hf_vit(vit: ViT) -> tuple[dict[str, Any], names.Table]:
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
    settings = _hf_config(vit.config, kind, name + form) | _label_table(vit.labels, vit.problem_type)
    height, width = vit.config.image_size
    settings["image_size"] = height if height == width else [height, width]
    return settings, table
