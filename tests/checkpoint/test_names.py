"""The tables: every tensor of a model has a name in each format, and no row is for nothing."""

import pytest
import torch
from tiny import our_bert, our_vit

from workbench.checkpoint import names

MODELS = {
    "HF_BERT": lambda: our_bert("mlm", "nsp", "span"),
    "HF_VIT": lambda: our_vit(distilled=True),
    "DISTILBERT": lambda: our_bert("mlm", "span", type_vocab_size=0, pooler_act="relu"),
    "DINOV2": lambda: our_vit(num_prefix_tokens=5),
    "TIMM": lambda: our_vit(distilled=True, heads=2),
    "GOOGLE": lambda: our_vit(representation_size=11),
}


@pytest.mark.parametrize("table", MODELS)
def test_each_table_is_whole(table: str) -> None:
    state = MODELS[table]().state_dict()
    rows = getattr(names, table)
    theirs = [name for ours in state for name in names.their_names(rows, ours, "")]
    assert all(names.their_names(rows, ours, "") for ours in state)
    assert len(set(theirs)) == len(theirs)
    stems = {name.replace("layers.0.", "layers.N.") for name in state}
    stems |= {name.rpartition(".")[0] for name in stems}
    assert set(rows) - stems - {"heads.classifier"} == {name for name in rows if name.endswith(".scale")}


@pytest.mark.parametrize("variant", ["HF_BERT_UNTIED", "HF_VIT_IN_MEMORY", "HF_TEACHER", "DINOV2_IN_MEMORY"])
def test_variants_change_rows_of_a_table(variant: str) -> None:
    rows = names.HF_BERT if variant.startswith("HF_BERT") else names.HF_VIT | {"heads.1": ""}
    assert all(ours in rows and rows[ours] != theirs for ours, theirs in getattr(names, variant).items())


@pytest.mark.parametrize(
    ("table", "ours", "theirs"),
    [
        ("HF_BERT", "embeddings.norm.bias", ["bert.embeddings.LayerNorm.bias"]),
        ("HF_BERT", "heads.mlm.decoder.bias", ["cls.predictions.bias"]),
        (
            "HF_BERT",
            "encoder.layers.10.attention.query_key_value.weight",
            [f"bert.encoder.layer.10.attention.self.{part}.weight" for part in ("query", "key", "value")],
        ),
        (
            "HF_VIT",
            "encoder.layers.1.attention_norm.weight",
            ["bert.encoder.layer.1.layernorm_before.weight"],
        ),
        ("TIMM", "encoder.layers.1.attention.query_key_value.bias", ["blocks.1.attn.qkv.bias"]),
        ("TIMM", "encoder.layers.1.attention.output.scale", ["blocks.1.ls1.gamma"]),
        ("TIMM", "pre_logits.weight", []),
        ("GOOGLE", "norm.weight", ["Transformer/encoder_norm/scale"]),
        ("GOOGLE", "norm.bias", ["Transformer/encoder_norm/bias"]),
        ("GOOGLE", "encoder.layers.1.attention.output.scale", []),
        (
            "GOOGLE",
            "encoder.layers.1.feed_forward.expand.bias",
            ["Transformer/encoderblock_1/MlpBlock_3/Dense_0/bias"],
        ),
    ],
)
def test_names(table: str, ours: str, theirs: list[str]) -> None:
    assert names.their_names(getattr(names, table), ours, "bert.") == theirs
    bare = [name.removeprefix("bert.") for name in theirs]
    assert names.their_names(getattr(names, table), ours, "") == bare


def test_the_name_in_front() -> None:
    assert names.prefix_of(["classifier.bias", "deit.layernorm.bias"]) == "deit."
    assert names.prefix_of(["dinov2_with_registers.layernorm.bias"]) == "dinov2_with_registers."
    assert names.prefix_of(["embeddings.cls_token", "vitamin.x"]) == ""


def test_layers_are_counted_by_their_highest_number() -> None:
    assert names.count_layers(names.TIMM, ["blocks.0.norm1.bias", "blocks.11.norm1.bias", "blocks.x"]) == 12
    assert names.count_layers(names.GOOGLE, ["Transformer/encoderblock_3/LayerNorm_0/bias"]) == 4
    assert names.count_layers(names.TIMM, ["cls_token"]) == 0


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("embedding/kernel", (8, 9, 3, 36), (36, 3, 8, 9)),
        ("x/query/kernel", (36, 4, 9), (36, 36)),
        ("x/out/kernel", (4, 9, 36), (36, 36)),
        ("x/Dense_0/kernel", (36, 37), (37, 36)),
        ("x/query/bias", (4, 9), (36,)),
        ("x/out/bias", (36,), (36,)),
        ("x/query/kernel", (36,), (36,)),
        ("Transformer/posembed_input/pos_embedding", (1, 17, 36), (1, 17, 36)),
    ],
)
def test_axes_of_flax(name: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    assert names.in_torch_order(name, torch.zeros(shape)).shape == expected
