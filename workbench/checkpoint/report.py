"""What `workbench info` and `inspect_checkpoint` tell about a checkpoint."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from workbench.bert import Bert
from workbench.checkpoint.names import is_distilbert
from workbench.checkpoint.read import Weights, read_checkpoint
from workbench.vit import ViT

ACTIVATIONS = {"gelu": "gelu (exact, erf)", "gelu_new": "gelu_new (tanh form)"}
ACTIVATIONS |= {"gelu_pytorch_tanh": "gelu_pytorch_tanh (tanh form)"}


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


def inspect_checkpoint(name: str | Path) -> Report:
    """Loads a BERT or ViT on the CPU and tells what was found: sizes, heads, names, what was dropped.

    Raises `CheckpointError` as `load_bert` and `load_vit` do.
    """
    model, weights = read_checkpoint(name, "cpu")
    facts = _facts(model, weights) | (_bert_facts(model) if isinstance(model, Bert) else _vit_facts(model))
    return Report(str(name), facts, _summary(weights.used), weights.dropped)


def _facts(model: Bert | ViT, weights: Weights) -> dict[str, str]:
    config = model.config
    stored = {str(weights.tensors[name].dtype)[6:] for theirs in weights.used.values() for name in theirs}
    numbers = sum(parameter.numel() for parameter in model.parameters())
    kind = f"ViT, pre-norm ({weights.source})"
    if isinstance(model, Bert):
        kind = "DistilBERT, post-norm" if is_distilbert(model) else "BERT, post-norm"
    return {
        "architecture": kind,
        "parameters": f"{numbers:,} ({', '.join(sorted(stored))})",
        "layers x heads": f"{config.num_hidden_layers} x {config.num_attention_heads}",
        "hidden, intermediate": f"{config.hidden_size}, {config.intermediate_size}",
        "layer norm eps": f"{config.layer_norm_eps:g}",
        "activation": ACTIVATIONS.get(config.hidden_act, config.hidden_act),
        "query-key-value bias": "yes" if config.qkv_bias else "no",
    }


def _bert_facts(bert: Bert) -> dict[str, str]:
    config, heads = bert.config, []
    for name, head in bert.heads.items():
        heads.append(f"{name} ({_answers(head.labels, head.problem_type)})" if head.labels else name)
    return {
        "vocabulary": f"{config.vocab_size} word pieces, {config.max_position_embeddings} positions",
        "word embeddings tied": "yes" if config.tie_word_embeddings else "no",
        "pooler": "yes" if bert.pooler else "no",
        "heads": ", ".join(heads) or "none",
    }


def _vit_facts(vit: ViT) -> dict[str, str]:
    config = vit.config
    return {
        "picture": f"{config.image_size[0]} x {config.image_size[1]}, patches of {config.patch_size}",
        "prefix tokens": f"{config.num_prefix_tokens}, {config.num_prefix_positions} with a position",
        "position interpolation": config.position_interpolation,
        "preprocessing": str(vit.preprocessing),
        "heads": f"{len(vit.heads)} ({_answers(vit.labels, vit.problem_type)})" if vit.heads else "none",
    }


def _answers(labels: Sequence[str], problem_type: str) -> str:
    """How many classes, or numbers."""
    what = "number" if problem_type == "regression" else "class"
    several = f"{len(labels)} {what}{'es' if what == 'class' else 's'}" if len(labels) > 1 else f"1 {what}"
    return several + ", each for itself" * problem_type.startswith("multi")


def _summary(used: dict[str, list[str]]) -> dict[str, str]:
    """One row for all layers, and for weight and bias."""

    def one(name: str, ours: str) -> str:
        name = re.sub(r"[./](weight|kernel|scale|bias)$", "", name)
        return re.sub(r"\d+", "N", name, count=1) if ours.startswith("encoder.") else name

    return {one(ours, ours): " + ".join(one(name, ours) for name in theirs) for ours, theirs in used.items()}
