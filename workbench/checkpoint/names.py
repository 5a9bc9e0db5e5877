"""Other people's parameter names: one table a format, ours on the left, theirs on the right.

A row stands for the weight and the bias of a part of the model, or for one tensor. N is the number of a
layer; `{query,key,value}` are three tensors, joined one after the other. The model's name in front ("bert.",
"vit.", "deit.") is left out in a file of the bare model.
"""

import re
from collections.abc import Iterable

from torch import Tensor, nn

from workbench.bert import Bert

Table = dict[str, str]

HF_BERT: Table = {
    "embeddings.word_embeddings": "bert.embeddings.word_embeddings",
    "embeddings.position_embeddings": "bert.embeddings.position_embeddings",
    "embeddings.token_type_embeddings": "bert.embeddings.token_type_embeddings",
    "embeddings.norm": "bert.embeddings.LayerNorm",
    "encoder.layers.N.attention.query_key_value": "bert.encoder.layer.N.attention.self.{query,key,value}",
    "encoder.layers.N.attention.output": "bert.encoder.layer.N.attention.output.dense",
    "encoder.layers.N.attention_norm": "bert.encoder.layer.N.attention.output.LayerNorm",
    "encoder.layers.N.feed_forward.expand": "bert.encoder.layer.N.intermediate.dense",
    "encoder.layers.N.feed_forward.contract": "bert.encoder.layer.N.output.dense",
    "encoder.layers.N.feed_forward_norm": "bert.encoder.layer.N.output.LayerNorm",
    "pooler.dense": "bert.pooler.dense",
    "heads.mlm.dense": "cls.predictions.transform.dense",
    "heads.mlm.norm": "cls.predictions.transform.LayerNorm",
    "heads.mlm.decoder.weight": "cls.predictions.decoder.weight",
    "heads.mlm.decoder.bias": "cls.predictions.bias",
    "heads.nsp": "cls.seq_relationship",
    "heads.span": "qa_outputs",
    "heads.classifier": "classifier",
}
HF_BERT_UNTIED: Table = {"heads.mlm.decoder.bias": "cls.predictions.decoder.bias"}
DISTILBERT: Table = {  # of 2019, arXiv:1910.01108: no segments, and a pooler with ReLU before its classes
    "embeddings.word_embeddings": "distilbert.embeddings.word_embeddings",
    "embeddings.position_embeddings": "distilbert.embeddings.position_embeddings",
    "embeddings.norm": "distilbert.embeddings.LayerNorm",
    "encoder.layers.N.attention.query_key_value": (
        "distilbert.transformer.layer.N.attention.{q_lin,k_lin,v_lin}"
    ),
    "encoder.layers.N.attention.output": "distilbert.transformer.layer.N.attention.out_lin",
    "encoder.layers.N.attention_norm": "distilbert.transformer.layer.N.sa_layer_norm",
    "encoder.layers.N.feed_forward.expand": "distilbert.transformer.layer.N.ffn.lin1",
    "encoder.layers.N.feed_forward.contract": "distilbert.transformer.layer.N.ffn.lin2",
    "encoder.layers.N.feed_forward_norm": "distilbert.transformer.layer.N.output_layer_norm",
    "pooler.dense": "pre_classifier",
    "heads.mlm.dense": "vocab_transform",
    "heads.mlm.norm": "vocab_layer_norm",
    "heads.mlm.decoder.weight": "vocab_projector.weight",
    "heads.mlm.decoder.bias": "vocab_projector.bias",
    "heads.span": "qa_outputs",
    "heads.classifier": "classifier",
}
SETTINGS: dict[str, Table] = {  # of config.json by model_type: theirs on the left, ours on the right
    "distilbert": {
        "dim": "hidden_size",
        "n_layers": "num_hidden_layers",
        "n_heads": "num_attention_heads",
        "hidden_dim": "intermediate_size",
        "activation": "hidden_act",
        "dropout": "hidden_dropout_prob",
        "attention_dropout": "attention_probs_dropout_prob",
    },
}
# Of what HF's one classifier is one, only the name of the class says.
HF_CLASSIFIERS = {"BertForSequenceClassification": "sentence", "BertForTokenClassification": "word"}
HF_CLASSIFIERS |= {f"Distil{name}": kind for name, kind in HF_CLASSIFIERS.items()}
HF_BERT_CLASSES: dict[str, set[str]] = {  # and what each of them reads; the first that fits is named
    "BertForPreTraining": {"mlm", "nsp"},
    "BertForMaskedLM": {"mlm"},
    "BertForNextSentencePrediction": {"nsp"},
    "BertForQuestionAnswering": {"span"},
    "BertForSequenceClassification": {"sentence"},
    "BertForTokenClassification": {"word"},
    "BertModel": set(),
}

HF_VIT: Table = {
    "embeddings.projection": "vit.embeddings.patch_embeddings.projection",
    "embeddings.prefix_tokens": "vit.embeddings.{cls_token,distillation_token}",
    "embeddings.position_embeddings": "vit.embeddings.position_embeddings",
    "encoder.layers.N.attention.query_key_value": "vit.encoder.layer.N.attention.attention.{query,key,value}",
    "encoder.layers.N.attention.output": "vit.encoder.layer.N.attention.output.dense",
    "encoder.layers.N.attention_norm": "vit.encoder.layer.N.layernorm_before",
    "encoder.layers.N.feed_forward.expand": "vit.encoder.layer.N.intermediate.dense",
    "encoder.layers.N.feed_forward.contract": "vit.encoder.layer.N.output.dense",
    "encoder.layers.N.feed_forward_norm": "vit.encoder.layer.N.layernorm_after",
    "norm": "vit.layernorm",
    "heads.0": "classifier",
}
HF_VIT_IN_MEMORY: Table = {  # what transformers 5 calls the same
    "encoder.layers.N.attention.query_key_value": "vit.layers.N.attention.{q_proj,k_proj,v_proj}",
    "encoder.layers.N.attention.output": "vit.layers.N.attention.o_proj",
    "encoder.layers.N.attention_norm": "vit.layers.N.layernorm_before",
    "encoder.layers.N.feed_forward.expand": "vit.layers.N.mlp.fc1",
    "encoder.layers.N.feed_forward.contract": "vit.layers.N.mlp.fc2",
    "encoder.layers.N.feed_forward_norm": "vit.layers.N.layernorm_after",
}
DINOV2: Table = HF_VIT | {  # arXiv:2304.07193; registers: arXiv:2309.16588
    "embeddings.prefix_tokens": "vit.embeddings.{cls_token,register_tokens}",
    "encoder.layers.N.attention.output.scale": "vit.encoder.layer.N.layer_scale1.lambda1",
    "encoder.layers.N.attention_norm": "vit.encoder.layer.N.norm1",
    "encoder.layers.N.feed_forward.expand": "vit.encoder.layer.N.mlp.fc1",
    "encoder.layers.N.feed_forward.contract": "vit.encoder.layer.N.mlp.fc2",
    "encoder.layers.N.feed_forward.contract.scale": "vit.encoder.layer.N.layer_scale2.lambda1",
    "encoder.layers.N.feed_forward_norm": "vit.encoder.layer.N.norm2",
}
DINOV2_IN_MEMORY: Table = {
    "encoder.layers.N.attention.query_key_value": "vit.encoder.layer.N.attention.{q_proj,k_proj,v_proj}",
    "encoder.layers.N.attention.output": "vit.encoder.layer.N.attention.o_proj",
}
HF_TEACHER: Table = {"heads.0": "cls_classifier", "heads.1": "distillation_classifier"}

TIMM: Table = {
    "embeddings.projection": "patch_embed.proj",
    "embeddings.prefix_tokens": "{cls_token,dist_token,reg_token}",
    "embeddings.position_embeddings": "pos_embed",
    "encoder.layers.N.attention.query_key_value": "blocks.N.attn.qkv",
    "encoder.layers.N.attention.output": "blocks.N.attn.proj",
    "encoder.layers.N.attention.output.scale": "blocks.N.ls1.gamma",
    "encoder.layers.N.attention_norm": "blocks.N.norm1",
    "encoder.layers.N.feed_forward.expand": "blocks.N.mlp.fc1",
    "encoder.layers.N.feed_forward.contract": "blocks.N.mlp.fc2",
    "encoder.layers.N.feed_forward.contract.scale": "blocks.N.ls2.gamma",
    "encoder.layers.N.feed_forward_norm": "blocks.N.norm2",
    "norm": "norm",
    "heads.0": "head",
    "heads.1": "head_dist",
}

# By model_type: parts of a tensor's name, and what a model with such a tensor does that none here does.
REFUSED: dict[str, dict[str, str]] = {
    "timm": {
        "fc_norm.": "classes are read from an average over the patches (global_pool 'avg')",
        "attn_pool.": "classes are read by attention pooling (global_pool 'map')",
        "norm_pre.": "a norm stands before the layers (pre_norm)",
        ".q_norm.": "queries and keys are normed (qk_norm)",
        ".attn.norm.": "the heads are normed (scale_attn_norm)",
        ".mlp.norm.": "the feed-forward is normed in its middle (scale_mlp_norm)",
        ".mlp.fc1_g.": "the feed-forward is gated (SwiGLU)",
        ".rel_pos.": "positions are relative",
    },
    "dinov2": {"classifier.": "it reads classes from the class token and the average over all patches"},
}
REFUSED["dinov2_with_registers"] = REFUSED["dinov2"]

GOOGLE: Table = {  # Flax; the weight is written out, the bias lies beside it
    "embeddings.projection": "embedding/kernel",
    "embeddings.prefix_tokens": "cls",
    "embeddings.position_embeddings": "Transformer/posembed_input/pos_embedding",
    "encoder.layers.N.attention.query_key_value": (
        "Transformer/encoderblock_N/MultiHeadDotProductAttention_1/{query,key,value}/kernel"
    ),
    "encoder.layers.N.attention.output": (
        "Transformer/encoderblock_N/MultiHeadDotProductAttention_1/out/kernel"
    ),
    "encoder.layers.N.attention_norm": "Transformer/encoderblock_N/LayerNorm_0/scale",
    "encoder.layers.N.feed_forward.expand": "Transformer/encoderblock_N/MlpBlock_3/Dense_0/kernel",
    "encoder.layers.N.feed_forward.contract": "Transformer/encoderblock_N/MlpBlock_3/Dense_1/kernel",
    "encoder.layers.N.feed_forward_norm": "Transformer/encoderblock_N/LayerNorm_2/scale",
    "norm": "Transformer/encoder_norm/scale",
    "pre_logits": "pre_logits/kernel",
    "heads.0": "head/kernel",
}

OLD_ENDINGS = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}  # before 2020
WRAPPERS = ("module.", "_orig_mod.", "model.")  # before all names: DataParallel, torch.compile, Lightning
# Tensors that the workbench has no use for: numbers 0, 1, 2, ...; a pooler and a mask that no head reads.
DROPPED = {
    "embeddings.position_ids",
    "embeddings.mask_token",
    "pooler.dense.weight",
    "pooler.dense.bias",
}

_PREFIX = re.compile(r"^(bert|distilbert|vit|deit|dinov2|dinov2_with_registers)\.")
_LAYER = re.compile(r"(?<=^encoder\.layers\.)\d+")
_N = re.compile(r"(?<![a-zA-Z])N(?![a-zA-Z])")
_SEVERAL = re.compile(r"{(.+)}")


def prefix_of(theirs: Iterable[str]) -> str:
    """The model's name in front of a file's names, such as "bert.", or nothing."""
    return next((found[0] for name in theirs if (found := _PREFIX.match(name))), "")


def their_names(table: Table, ours: str, prefix: str) -> list[str]:
    """Their names for one tensor of ours, such as "norm.bias"; none if the format has no place for it."""
    row, part = _LAYER.sub("N", ours), ""
    if row not in table:
        row, _, part = row.rpartition(".")
    if row not in table or part not in ("", "weight", "bias"):
        return []
    theirs = _PREFIX.sub(prefix, table[row])
    if layer := _LAYER.search(ours):
        theirs = _N.sub(layer[0], theirs)
    if theirs.endswith(("/kernel", "/scale")):
        theirs = theirs if part == "weight" else theirs.rpartition("/")[0] + "/bias"
    elif part:
        theirs = f"{theirs}.{part}"
    several = _SEVERAL.search(theirs)
    return [theirs.replace(several[0], name) for name in several[1].split(",")] if several else [theirs]


def count_layers(table: Table, theirs: Iterable[str], prefix: str = "") -> int:
    """One more than the highest number of a layer in a file's names."""
    start = _N.split(_PREFIX.sub(prefix, table["encoder.layers.N.attention.output"]))[0]
    found = [re.match(r"\d+", name.removeprefix(start)) for name in theirs if name.startswith(start)]
    return 1 + max((int(number[0]) for number in found if number), default=-1)


def bert_layout(bert: Bert) -> tuple[Table, dict[str, nn.Module]]:
    """HF's table with a row for each head of this model, and those heads that are no row of HF's.

    HF knows one classifier, and none beside other heads; others stand under our own names.
    """
    if is_distilbert(bert):
        table = dict(DISTILBERT)
    else:
        table = HF_BERT | ({} if bert.config.tie_word_embeddings else HF_BERT_UNTIED)
    rows = {row.split(".")[1] for row in table if row.startswith("heads.")} - {"classifier"}
    own = {name: head for name, head in bert.heads.items() if name not in rows}
    for name, head in own.items():
        is_classifier = len(bert.heads) == 1 and head.kind in HF_CLASSIFIERS.values()
        table[f"heads.{name}"] = table["heads.classifier"] if is_classifier else f"heads.{name}"
    return table, own


def is_distilbert(bert: Bert) -> bool:
    """Whether a BERT is of DistilBERT's form, and stored in its layout."""
    return bert.config.pooler_act == "relu"


def in_torch_order(name: str, array: Tensor) -> Tensor:
    """An array of Flax with its axes as torch has them; others stay as they are."""
    match name.rpartition("/")[2], array.ndim:
        case "kernel", 4:  # (height, width, in, out)
            return array.permute(3, 2, 0, 1)
        case "kernel", 3 if name.endswith("out/kernel"):  # (heads, head_size, out)
            return array.flatten(0, 1).T
        case "kernel", 3:  # (in, heads, head_size)
            return array.flatten(1).T
        case "kernel", 2:  # (in, out)
            return array.T
        case "bias", 2:  # (heads, head_size)
            return array.flatten()
    return array
