"""What `workbench info` and `inspect_checkpoint` tell about a checkpoint."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from workbench.bert import Bert
from workbench.checkpoint.names import is_distilbert
from workbench.checkpoint.read import read_checkpoint

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
    config = model.config
    stored = {str(weights.tensors[name].dtype)[6:] for theirs in weights.used.values() for name in theirs}
    numbers = sum(parameter.numel() for parameter in model.parameters())
    facts = {
        "architecture": f"ViT, pre-norm ({weights.source})",
        "parameters": f"{numbers:,} ({', '.join(sorted(stored))})",
        "layers x heads": f"{config.num_hidden_layers} x {config.num_attention_heads}",
        "hidden, intermediate": f"{config.hidden_size}, {config.intermediate_size}",
        "layer norm eps": f"{config.layer_norm_eps:g}",
        "activation": ACTIVATIONS.get(config.hidden_act, config.hidden_act),
        "query-key-value bias": "yes" if config.qkv_bias else "no",
    }
    if isinstance(model, Bert):
        heads = [name + _answers(head.labels, head.problem_type) for name, head in model.heads.items()]
        facts |= {
            "architecture": "DistilBERT, post-norm" if is_distilbert(model) else "BERT, post-norm",
            "vocabulary": f"{config.vocab_size} word pieces, {config.max_position_embeddings} positions",
            "word embeddings tied": "yes" if config.tie_word_embeddings else "no",
            "pooler": "yes" if model.pooler else "no",
            "heads": ", ".join(heads) or "none",
        }
    else:
        height, width = config.image_size
        count = len(model.heads)
        facts |= {
            "picture": f"{height} x {width}, patches of {config.patch_size}",
            "prefix tokens": f"{config.num_prefix_tokens}, {config.num_prefix_positions} with a position",
            "position interpolation": config.position_interpolation,
            "preprocessing": str(model.preprocessing),
            "heads": f"{count}{_answers(model.labels, model.problem_type)}" if count else "none",
        }
    return Report(str(name), facts, _summary(weights.used), weights.dropped)


def _answers(labels: Sequence[str], problem_type: str) -> str:
    """How many classes, or numbers, in brackets; nothing for a head without names."""
    if not labels:
        return ""
    what, several = ("number", "numbers") if problem_type == "regression" else ("class", "classes")
    apart = ", each for itself" if problem_type.startswith("multi") else ""
    return f" ({len(labels)} {what if len(labels) == 1 else several}{apart})"


def _summary(used: dict[str, list[str]]) -> dict[str, str]:
    """One row for all layers, and for weight and bias."""

    def one(name: str, ours: str) -> str:
        name = re.sub(r"[./](weight|kernel|scale|bias)$", "", name)
        return re.sub(r"\d+", "N", name, count=1) if ours.startswith("encoder.") else name

    return {one(ours, ours): " + ".join(one(name, ours) for name in theirs) for ours, theirs in used.items()}
