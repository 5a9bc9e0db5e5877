"""What is told about a checkpoint."""

from pathlib import Path

import numpy as np
from test_vit import npz_arrays, timm_tensors, write_timm
from tiny import hf_vit, saved

import workbench as wb


def test_a_report_of_a_bert(good: Path) -> None:
    report = wb.inspect_checkpoint(good / "bert")
    assert report.facts["layers x heads"] == "5 x 4"
    assert report.facts["heads"] == "mlm, nsp (2 classes)"
    assert report.facts["layer norm eps"] == "1e-12"
    assert report.dropped == ()
    parameters = sum(p.numel() for p in wb.load_bert(good / "bert").parameters())
    assert report.facts["parameters"] == f"{parameters:,} (float32)"
    qkv = report.mapped["encoder.layers.N.attention.query_key_value"]
    start = "bert.encoder.layer.N.attention.self"
    assert qkv == f"{start}.query + {start}.key + {start}.value"
    assert "bert.encoder.layer.N.output.dense" in str(report)


def test_a_report_of_each_kind_of_vit(good: Path, tmp_path: Path) -> None:
    report = wb.inspect_checkpoint(good / "vit")
    assert report.facts["picture"] == "32 x 48, patches of 8"
    assert "position interpolation" in report.facts
    np.savez(tmp_path / "ViT.npz", **npz_arrays())
    report = wb.inspect_checkpoint(tmp_path / "ViT.npz")
    assert "tanh" in report.facts["activation"]
    assert report.facts["position interpolation"] == "bilinear-corners"
    assert report.mapped["encoder.layers.N.feed_forward.contract"] == (
        "Transformer/encoderblock_N/MlpBlock_3/Dense_1"
    )
    write_timm(tmp_path, timm_tensors({"cls_token": 1, "reg_token": 4}, 1, {"head": 5}))
    report = wb.inspect_checkpoint(tmp_path)
    assert report.facts["prefix tokens"] == "5, 1 with a position"
    assert report.mapped["encoder.layers.N.feed_forward.expand"] == "blocks.N.mlp.fc1"


def test_dropped_tensors_are_named(tmp_path: Path) -> None:
    folder = saved(hf_vit("ViTModel"), tmp_path)
    assert set(wb.inspect_checkpoint(folder).dropped) == {"pooler.dense.weight", "pooler.dense.bias"}
