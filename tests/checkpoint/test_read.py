"""What is wrong with a checkpoint is one sentence; what a file does not say is as transformers takes it."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from test_vit import npz_arrays, timm_tensors, write_timm
from tiny import VOCABULARY, hf_bert, hf_distilbert, hf_vit, refuses, saved

import workbench as wb
from workbench.image import Preprocessing


def change_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor], str], None]) -> str:
    """Changes the file; `change` is given the tensors and the name of one in the middle."""
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in sorted(tensors) if "layer.1." in name and name.endswith("weight"))
    change(tensors, name)
    save_file(tensors, folder / "model.safetensors")
    return name.replace(".", r"\.")


def test_a_good_copy_loads(broken: tuple[Path, Callable]) -> None:
    broken[1](broken[0], device="cpu")


TENSORS = {
    "renamed": (lambda t, n: t.update({f"{n}2": t.pop(n)}), r"lacks the tensor '{}'"),
    "missing": (lambda t, n: t.pop(n), r"lacks the tensor '{}'"),
    "extra": (lambda t, n: t.update(adapter=torch.ones(2)), r"holds 1 tensor.* such as 'adapter'"),
    "nan": (lambda t, n: t[n].view(-1)[3:4].fill_(torch.nan), r"'{}' holds NaN or infinite"),
    "inf": (lambda t, n: t[n].view(-1)[5:6].fill_(-torch.inf), r"'{}' holds NaN or infinite"),
    "other shape": (lambda t, n: t.update({n: torch.ones(35, 36)}), r"has the shape .*\(35, 36\)"),
    "other rank": (lambda t, n: t.update({n: torch.ones(1)}), r"has the shape .*\(1,\)"),
    "a number": (lambda t, n: t.update({n: torch.tensor(1.0)}), r"has the shape .*\(\)"),
    "integers": (lambda t, n: t.update({n: t[n].long()}), r"'{}' is of type int64, not floating point"),
    "half of it integers": (lambda t, n: t.update({n: t[n].to(torch.int8)}), r"'{}' is of type int8"),
}


@pytest.mark.parametrize("fault", TENSORS)
def test_wrong_tensors(broken: tuple[Path, Callable], fault: str) -> None:
    change, message = TENSORS[fault]
    name = change_tensors(broken[0], change)
    refuses(lambda: broken[1](broken[0]), message.format(name))


def test_queries_keys_and_values_of_unequal_sizes(good: Path, tmp_path: Path) -> None:
    """Their sum is right, each of them is not."""
    folder = shutil.copytree(good / "bert", tmp_path / "mine")

    def change(tensors: dict, _: str) -> None:
        for part, rows in (("query", 30), ("key", 42)):
            name = f"bert.encoder.layer.1.attention.self.{part}.weight"
            tensors[name] = torch.ones(rows, 36)

    change_tensors(folder, change)
    refuses(lambda: wb.load_bert(folder), r"has the shape \(30, 36\), \(42, 36\), \(36, 36\)")


@pytest.mark.filterwarnings("ignore:.*settings that are not known here")
@pytest.mark.parametrize(
    "changes",
    [
        {"num_hidden_layers": 10**9},
        {"hidden_size": 10**9},
        {"intermediate_size": 10**12},
        {"hidden_size": 4 * 10**18},
        {"num_attention_heads": 10**9},
        {"num_hidden_layers": 2},  # leaves tensors over
        {"num_hidden_layers": 6},
        {"num_attention_heads": 0},
        {"num_attention_heads": None},
        {"hidden_size": "36"},
        {"hidden_size": -36},
        {"hidden_size": 36.0},
        {"intermediate_size": 0},
        {"hidden_act": "swish"},
        {"hidden_act": ["gelu"]},
        {"layer_norm_eps": "small"},
        {"vocab_size": 10**9, "image_size": 10**9},
        {"vocab_size": 98, "patch_size": 7},
        {"max_position_embeddings": 39, "image_size": 0},
        {"type_vocab_size": 0, "image_size": [32]},
        {"max_position_embeddings": None, "image_size": "big"},
        {"type_vocab_size": "2", "patch_size": 0},
        {"workbench_heads": 3, "num_channels": 4},
        {"workbench_heads": {"mine": {}}, "num_channels": 0},
        {"workbench_heads": {"a.b": {"kind": "word", "labels": ["x"]}}, "patch_size": -8},
        {"is_decoder": True, "id2label": [1, 2]},
        {"position_embedding_type": "relative_key", "image_size": None},
    ],
    ids=str,
)
def test_odd_settings(broken: tuple[Path, Callable], changes: dict) -> None:
    file = broken[0] / "config.json"
    settings = json.loads(file.read_text())
    file.write_text(json.dumps(settings | changes))
    refuses(lambda: broken[1](broken[0]), "mine")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 36.0}, r"hidden_size cannot be 36\.0"),
        ({"num_hidden_layers": True}, "num_hidden_layers cannot be True"),
        ({"num_hidden_layers": "3"}, "num_hidden_layers cannot be '3'"),
        ({"num_hidden_layers": -1}, "num_hidden_layers cannot be -1"),
        ({"layer_norm_eps": "1e-12"}, "layer_norm_eps cannot be '1e-12'"),
        ({"layer_norm_eps": float("nan")}, "layer_norm_eps cannot be nan"),
        ({"layer_norm_eps": float("inf")}, "layer_norm_eps cannot be inf"),
        ({"attention_probs_dropout_prob": 1.5}, "attention_probs_dropout_prob cannot be 1.5"),
        ({"hidden_act": None}, "hidden_act cannot be None"),
        ({"num_attention_heads": 5}, "split into 5 attention heads"),
        ({"num_hidden_layers": 1000}, "1000 layers are more than the file holds"),
    ],
    ids=str,
)
def test_settings_of_a_wrong_kind(broken: tuple[Path, Callable], changes: dict, message: str) -> None:
    file = broken[0] / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    refuses(lambda: broken[1](broken[0]), message)


ODD = [None, True, -1, 1.5, 10**30, "36", [], [9], [32, "48"], {"height": 3}]


@pytest.mark.filterwarnings("ignore:.*settings that are not known here")
def test_odd_values_are_refused_or_do_no_harm(broken: tuple[Path, Callable]) -> None:
    """No error but `CheckpointError` comes out of any setting."""
    folder, load = broken
    files = {"config.json": json.loads((folder / "config.json").read_text())}
    files["config.json"] |= {"workbench_heads": {}, "id2label": {}}
    if load is wb.load_vit:
        files["preprocessor_config.json"] = Preprocessing(crop_share=0.9).to_hf()
    for file, settings in files.items():
        for name in settings:
            for value in ODD:
                (folder / file).write_text(json.dumps(settings | {name: value}))
                with contextlib.suppress(wb.CheckpointError):
                    load(folder, device="cpu")
        (folder / file).write_text(json.dumps(settings))


@pytest.mark.filterwarnings("ignore:.*settings that are not known here")
@pytest.mark.parametrize("part", ["pretrained_cfg", "model_args"])
def test_odd_values_of_timm_are_refused_or_do_no_harm(part: str, tmp_path: Path) -> None:
    write_timm(tmp_path, timm_tensors({"cls_token": 1}, 1, {"head": 5}))
    settings = json.loads((tmp_path / "config.json").read_text())
    settings[part] |= {"crop_mode": "center", "label_names": ["a"] * 5}
    for name in settings[part]:
        for value in ODD:
            changed = settings | {part: settings[part] | {name: value}}
            (tmp_path / "config.json").write_text(json.dumps(changed))
            with contextlib.suppress(wb.CheckpointError):
                wb.load_vit(tmp_path, device="cpu")


@pytest.mark.parametrize("error", [AttributeError, IndexError, KeyError, RuntimeError, TypeError])
def test_errors_of_our_own_are_not_put_down_to_the_file(
    error: type[Exception], broken: tuple[Path, Callable], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise error("ours")

    monkeypatch.setattr("workbench.encoder.EncoderLayer.__init__", fail)
    with pytest.raises(error, match="ours"):
        broken[1](broken[0])


@pytest.mark.parametrize(
    ("settings", "load", "message"),
    [
        (
            {"model_type": "roberta", "vocab_size": 9},
            wb.load_bert,
            "RobertaX; load_bert reads model_type 'bert'",
        ),
        ({"model_type": "gpt2"}, wb.load_bert, "RobertaX"),
        ({"model_type": "beit"}, wb.load_vit, "RobertaX; load_vit reads model_type 'vit' and 'deit'"),
        ({"model_type": "swin"}, wb.load_vit, "RobertaX"),
        ({"model_type": None}, wb.load_bert, "RobertaX"),
        ({"model_type": ["bert"]}, wb.load_bert, "RobertaX"),
        ({"model_type": {"a": 1}}, wb.load_vit, "RobertaX"),
    ],
)
def test_other_architectures(
    settings: dict, load: Callable, message: str, good: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(good / "bert", tmp_path / "mine")
    (folder / "config.json").write_text(json.dumps(settings | {"architectures": ["RobertaX"]}))
    refuses(lambda: load(folder), message)


def test_the_wrong_door(good: Path) -> None:
    refuses(lambda: wb.load_bert(good / "vit"), "ViTForImageClassification; use load_vit for it")
    refuses(lambda: wb.load_vit(good / "bert"), "BertForPreTraining; use load_bert for it")


def test_a_classifier_of_unknown_kind(tmp_path: Path) -> None:
    folder = saved(hf_bert("BertForMultipleChoice"), tmp_path)
    refuses(lambda: wb.load_bert(folder), "names the architecture BertForMultipleChoice")
    settings = json.loads((folder / "config.json").read_text())
    for silent in (None, []):
        (folder / "config.json").write_text(json.dumps(settings | {"architectures": silent}))
        refuses(lambda: wb.load_bert(folder), "names the architecture none: whether .* in architectures")


def test_a_report_of_another_family(good: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(good / "bert", tmp_path / "mine")
    (folder / "config.json").write_text('{"model_type": "roberta", "vocab_size": 9}')
    refuses(
        lambda: wb.inspect_checkpoint(folder),
        "architecture roberta; the workbench reads model_type 'bert' and 'vit' and 'deit'",
    )


def test_pictures_of_four_channels(tmp_path: Path) -> None:
    folder = saved(hf_vit("ViTModel", num_channels=4), tmp_path / "hf")
    refuses(lambda: wb.load_vit(folder), "wants 4 channels; pictures here are grey or RGB")
    tensors = timm_tensors({"cls_token": 1}, 1, {"head": 5})
    tensors["patch_embed.proj.weight"] = torch.ones(36, 4, 8, 8)
    write_timm(tmp_path, tensors)
    refuses(lambda: wb.load_vit(tmp_path), "wants 4 channels")


def test_the_two_copies_of_a_bias_differ(good: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(good / "bert", tmp_path / "mine")
    change_tensors(folder, lambda t, n: t.update({"cls.predictions.decoder.bias": torch.ones(99)}))
    refuses(lambda: wb.load_bert(folder), "differ")


def test_an_untied_file_without_its_decoder(good: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(good / "bert", tmp_path / "mine")
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"tie_word_embeddings": False}))
    refuses(lambda: wb.load_bert(folder), "lacks the tensor 'cls.predictions.decoder.weight'")
    for odd in ("no", 0, None):
        (folder / "config.json").write_text(json.dumps(settings | {"tie_word_embeddings": odd}))
        refuses(lambda: wb.load_bert(folder), f"tie_word_embeddings cannot be {odd!r}")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("tokenizer.json", "{}", r"tokenizer of mine cannot be read \("),
        ("tokenizer.json", "not json", r"tokenizer of mine cannot be read \("),
        ("tokenizer_config.json", "not json", r"tokenizer of mine cannot be read \("),
        ("tokenizer_config.json", "[1]", r"tokenizer of mine cannot be read \("),
        ("vocab.txt", "the\ncat\n", r"no \[CLS\] token"),
        ("vocab.txt", "\n".join([*VOCABULARY, "more"]), "more word pieces than the model has embeddings"),
        ("vocab.txt", "\n".join([*VOCABULARY[:50], *VOCABULARY[49:]]), "more word pieces than the model has"),
        ("vocab.txt", None, "neither tokenizer.json nor vocab.txt"),
    ],
)
def test_broken_tokenizers(file: str, content: str | None, message: str, good: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(good / "bert", tmp_path / "mine")
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(content, encoding="utf-8")
    refuses(lambda: wb.load_bert(folder), message)


@pytest.mark.parametrize(
    "content",
    [
        "not json",
        '{"size": "big"}',
        '{"size": {"longest_edge": 9}}',
        '{"size": {"shortest_edge": 9}}',
        '{"resample": 77}',
        '{"rescale_factor": 0}',
        '{"rescale_factor": NaN}',
        '{"do_resize": false}',
        '{"do_pad": true}',
        '{"size": 0}',
        '{"size": {"height": 32, "width": -48}}',
        '{"size": 40, "crop_size": 0, "do_center_crop": true}',
        '{"image_mean": [0.5]}',
        '{"image_mean": [0.5, 0.5, 0.5, 0.5]}',
        '{"image_mean": [0.5, NaN, 0.5]}',
        '{"image_mean": [0.5, 0.5, null]}',
        '{"image_std": [0.5, 0, 0.5]}',
        '{"image_std": [0.5, -0.5, 0.5]}',
        '{"image_std": [0.5, Infinity, 0.5]}',
        '{"size": 224, "crop_size": 256, "do_center_crop": true}',
        '{"size": {"height": 32, "width": 50}}',  # patches of 8
        '{"size": {"height": 256, "width": 300}, "crop_size": 224, "do_center_crop": true}',
        '{"image_mean": 3}',
    ],
)
def test_broken_preprocessing(content: str, good: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(good / "vit", tmp_path / "mine")
    (folder / "preprocessor_config.json").write_text(content)
    refuses(lambda: wb.load_vit(folder), "preprocessor_config.json|no whole patches of 8")


def test_preprocessing_is_read_beside_a_file_too(good: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(good / "vit", tmp_path / "mine")
    (folder / "preprocessor_config.json").write_text('{"size": {"height": 16, "width": 24}, "resample": 3}')
    for path in (folder, folder / "model.safetensors"):
        assert wb.load_vit(path).preprocessing == Preprocessing(size=(16, 24), resample="bicubic")
    # transformers looks here first
    outer = {"image_processor": {"size": {"height": 24, "width": 16}, "do_convert_rgb": True}}
    (folder / "processor_config.json").write_text(json.dumps(outer))
    vit = wb.load_vit(folder)
    assert vit.preprocessing == Preprocessing(size=(24, 16))
    vit.preprocessing = Preprocessing(size=(32, 48))
    wb.save_checkpoint(vit, folder)
    assert wb.load_vit(folder).preprocessing == vit.preprocessing
    outer["image_processor"]["do_resize"] = False
    (folder / "processor_config.json").write_text(json.dumps(outer))
    refuses(lambda: wb.load_vit(folder), "processor_config.json cannot be used .a do_resize of False")


NPZ = "Transformer/encoderblock_1/MultiHeadDotProductAttention_1/query/kernel"


ARRAYS = {
    "objects": (lambda a: a.update(head=np.array([{"a": 1}], dtype=object)), "plain arrays"),
    "missing": (lambda a: a.pop(NPZ), "lacks"),
    "first layer missing": (lambda a: a.pop(NPZ.replace("_1/M", "_0/M")), "lacks"),
    "no embedding": (lambda a: a.pop("embedding/kernel"), "lacks"),
    "extra": (lambda a: a.update({"conv_root/kernel": np.ones((7, 7, 3, 2), "f")}), "no place for"),
    "nan": (lambda a: a[NPZ].fill(np.nan), "NaN"),
    "other rank": (lambda a: a.update({NPZ: np.ones(3, "f")}), "damaged|does not fit|shape"),
    "other shape": (lambda a: a.update({NPZ: np.ones((36, 4, 8), "f")}), "shape"),
    "integers": (lambda a: a.update({"cls": np.ones((1, 1, 36), "i")}), "int32"),
    "text": (lambda a: a.update({"cls": np.array(["a"])}), "plain arrays"),
    "a billion layers": (
        lambda a: a.update({NPZ.replace("_1/M", f"_{10**9}/M"): np.ones((36, 4, 9), "f")}),
        "more than the file holds",
    ),
    "positions of no square": (
        lambda a: a.update({"Transformer/posembed_input/pos_embedding": np.ones((1, 18, 36), "f")}),
        "shape",
    ),
}


@pytest.mark.parametrize("fault", ARRAYS)
def test_broken_google_files(fault: str, tmp_path: Path) -> None:
    arrays = npz_arrays()
    change, message = ARRAYS[fault]
    change(arrays)
    np.savez(tmp_path / "ViT.npz", **arrays)
    refuses(lambda: wb.load_vit(tmp_path / "ViT.npz"), message)


TIMM = {
    "missing": (lambda t: t.pop("blocks.1.mlp.fc1.weight"), {}, "lacks"),
    "no patches": (lambda t: t.pop("patch_embed.proj.weight"), {}, "lacks"),
    "no class token": (lambda t: t.pop("cls_token"), {}, "class token"),
    "a pooled head": (lambda t: t.update({"fc_norm.weight": torch.ones(36)}), {}, "which has no place here"),
    "positions for more": (
        lambda t: t.update(pos_embed=torch.ones(1, 36, 36)),
        {},
        "positions",
    ),
    "other heads": (lambda t: None, {"model_args": {"num_heads": 5, "img_size": [32, 48]}}, "split into 5"),
    "half a layer scale": (
        lambda t: t.update({"blocks.0.ls1.gamma": torch.ones(35)}),
        {},
        "does not fit",
    ),
    "pictures of another size": (lambda t: None, {"model_args": {"num_heads": 4, "img_size": 224}}, "-"),
    "odd resampling": (lambda t: None, {"pretrained_cfg": {"interpolation": "random"}}, "random"),
    "odd settings": (lambda t: None, {"pretrained_cfg": 3}, "does not fit"),
    "a border": (lambda t: None, {"pretrained_cfg": {"crop_mode": "border"}}, "crop_mode of 'border'"),
    "no deviation": (lambda t: None, {"pretrained_cfg": {"std": [0, 0, 0]}}, "std of"),
    "one mean": (lambda t: None, {"pretrained_cfg": {"mean": [0.5]}}, "mean of .* for 3 channels"),
}


@pytest.mark.parametrize("fault", TIMM)
def test_broken_timm_files(fault: str, tmp_path: Path) -> None:
    change, settings, message = TIMM[fault]
    tensors = timm_tensors({"cls_token": 1}, 1, {"head": 5})
    change(tensors)
    write_timm(tmp_path, tensors, **settings)
    refuses(lambda: wb.load_vit(tmp_path), message)


def test_devices(good: Path) -> None:
    for load, kind in ((wb.load_bert, "bert"), (wb.load_vit, "vit")):
        refuses(lambda: load(good / kind, device="nonsense"), "'nonsense' is no device", ValueError)  # noqa: B023
        refuses(lambda: load(good / kind, device="meta"), "no meta device", ValueError)  # noqa: B023
        if not torch.cuda.is_available():
            refuses(lambda: load(good / kind, device="cuda"), "no cuda device", ValueError)  # noqa: B023
        assert load(good / kind, device="auto").device.type in ("cpu", "cuda", "mps")


def test_a_silent_config_means_what_transformers_takes(good: Path, tmp_path: Path) -> None:
    for kind, load, model in (
        ("bert", wb.load_bert, transformers.BertConfig()),
        ("vit", wb.load_vit, transformers.ViTConfig()),
    ):
        folder = shutil.copytree(good / kind, tmp_path / kind)
        settings = json.loads((folder / "config.json").read_text())
        silent = ("layer_norm_eps", "hidden_act", "hidden_dropout_prob", "attention_probs_dropout_prob")
        settings = {name: value for name, value in settings.items() if name not in (*silent, "qkv_bias")}
        (folder / "config.json").write_text(json.dumps(settings))
        for name in silent:
            assert getattr(load(folder, device="cpu").config, name) == getattr(model, name)


def test_loading_makes_no_random_numbers(good: Path) -> None:
    state = torch.get_rng_state()
    wb.load_bert(good / "bert", device="cpu")
    assert torch.equal(torch.get_rng_state(), state)


def test_a_setting_said_twice_is_read_as_transformers_reads_it(tmp_path: Path) -> None:
    """In a process, too, where a set has another order."""
    saved(hf_distilbert("DistilBertForMaskedLM"), tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(settings | {"num_attention_heads": 2}))
    code = "import sys, workbench as wb; print(wb.load_bert(sys.argv[1]).config.num_attention_heads)"
    environment = os.environ | {"PYTHONHASHSEED": "3", "PYTHONPATH": str(Path(wb.__file__).parents[1])}
    run = [sys.executable, "-c", code, str(tmp_path)]
    other = subprocess.run(run, env=environment, capture_output=True, text=True)
    here = wb.load_bert(tmp_path, device="cpu").config.num_attention_heads
    theirs = transformers.AutoConfig.from_pretrained(tmp_path).num_attention_heads
    assert [other.stdout.strip(), str(here), str(theirs)] == ["2", "2", "2"], other.stderr
