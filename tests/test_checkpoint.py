"""Checkpoints: what we write opens in transformers and here; what is wrong with a file is one sentence."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from test_bert import batch
from test_vit import npz_arrays, timm_tensors, write_timm
from tiny import HEADS, VOCABULARY, close, hf_bert, hf_vit, our_bert, our_vit, randomize, same_model, saved

import workbench as wb
from workbench import checkpoint
from workbench.image import Preprocessing
from workbench.text import Tokenizer

# --- what we write -----------------------------------------------------------------------------

FORMS = {
    "BertModel": [],
    "BertForPreTraining": ["mlm", "nsp", "span", "sentiment", "pos"],
    "BertForMaskedLM": ["mlm"],
    "BertForNextSentencePrediction": ["nsp"],
    "BertForQuestionAnswering": ["span"],
    "BertForSequenceClassification": ["sentiment"],
    "BertForTokenClassification": ["pos"],
}


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("form", FORMS)
def test_transformers_opens_what_we_save(form: str, tied: bool, tmp_path: Path) -> None:
    ours = our_bert(*FORMS[form], tie_word_embeddings=tied)
    wb.save_checkpoint(ours, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == [form]
    theirs, report = getattr(transformers, form).from_pretrained(
        tmp_path, attn_implementation="eager", output_loading_info=True
    )
    # The heads of other forms are left over; nothing may be missing (an unused bias of untied ones aside).
    assert set(report["missing_keys"]) <= ({"cls.predictions.bias"} if not tied else set())
    assert all(
        name.startswith(("heads.", "qa_outputs.", "bert.pooler.")) for name in report["unexpected_keys"]
    )
    inputs = batch()
    with torch.no_grad():
        states = ours(**inputs)[-1]
        output = theirs.eval()(**inputs, output_hidden_states=True)
        close(states[0], output.hidden_states[-1][0])
        for name in FORMS[form]:
            logits = ours.logits(name, states)
            if form == "BertForPreTraining" and name in ("mlm", "nsp"):
                wanted = output.prediction_logits if name == "mlm" else output.seq_relationship_logits
            elif form == "BertForQuestionAnswering":
                wanted = torch.stack([output.start_logits, output.end_logits], -1)
            elif form != "BertForPreTraining":
                wanted = output.logits
            else:
                continue
            close(logits[0], wanted[0])
    if form.endswith("Classification"):
        assert tuple(theirs.config.id2label.values()) == HEADS[FORMS[form][0]][1]
    again = wb.load_bert(tmp_path, device="cpu")
    same_model(ours, again)
    assert list(again.heads) == FORMS[form]
    for name in FORMS[form]:
        assert (again.heads[name].kind, again.heads[name].labels) == (
            ours.heads[name].kind,
            ours.heads[name].labels,
        )


def test_the_span_head_beside_others_opens_as_its_own_form(tmp_path: Path) -> None:
    ours = our_bert("mlm", "span")
    wb.save_checkpoint(ours, tmp_path)
    theirs = transformers.BertForQuestionAnswering.from_pretrained(tmp_path).eval()
    inputs = batch()
    with torch.no_grad():
        logits = ours.logits("span", ours(**inputs)[-1])
        close(logits[0, :, 0], theirs(**inputs).start_logits[0])


@pytest.mark.parametrize("heads", [["sentiment", "pos"], ["sentiment", "span"], ["pos", "mlm"]], ids=str)
def test_several_heads_come_back(heads: list[str], tmp_path: Path) -> None:
    ours = our_bert(*heads)
    wb.save_checkpoint(ours, tmp_path)
    again = wb.load_bert(tmp_path, device="cpu")
    assert set(again.heads) == set(heads)
    for name in heads:
        assert (again.heads[name].kind, again.heads[name].labels) == (
            ours.heads[name].kind,
            ours.heads[name].labels,
        )
    state, wanted = again.state_dict(), ours.state_dict()
    assert all(torch.equal(state[name], wanted[name]) for name in wanted)


def test_two_heads_named_after_their_kind_do_not_collide(tmp_path: Path) -> None:
    bert = our_bert()
    bert.add_head("sentence", "sentence", ["a", "b"])
    bert.add_head("word", "word", ["a", "b"])
    wb.save_checkpoint(bert, tmp_path)
    same_model(bert, wb.load_bert(tmp_path, device="cpu"))


def test_heads_of_any_name(tmp_path: Path) -> None:
    bert = our_bert()
    bert.add_head("answer", "span")
    randomize(bert)
    wb.save_checkpoint(bert, tmp_path)
    same_model(bert, wb.load_bert(tmp_path, device="cpu"))


def test_without_a_pooler(tmp_path: Path) -> None:
    bert = our_bert("mlm", pooler=False)
    wb.save_checkpoint(bert, tmp_path)
    again = wb.load_bert(tmp_path, device="cpu")
    assert again.pooler is None
    same_model(bert, again)


@pytest.mark.parametrize(
    ("form", "settings"),
    [
        ("ViTModel", {"labels": ""}),
        ("ViTForImageClassification", {}),
        ("ViTForImageClassification", {"qkv_bias": False, "layer_norm_eps": 0.01, "image_size": (40, 40)}),
        ("ViTForImageClassification", {"hidden_act": "gelu_pytorch_tanh", "num_channels": 1}),
        ("DeiTModel", {"distilled": True, "labels": ""}),
        ("DeiTForImageClassification", {"distilled": True}),
        ("DeiTForImageClassificationWithTeacher", {"distilled": True, "heads": 2}),
    ],
    ids=str,
)
def test_transformers_opens_the_vits_that_we_save(form: str, settings: dict, tmp_path: Path) -> None:
    ours = our_vit(**settings)
    wb.save_checkpoint(ours, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == [form]
    theirs, report = getattr(transformers, form).from_pretrained(tmp_path, output_loading_info=True)
    assert {name for name in report["missing_keys"] if "pooler" not in name} == set()
    assert not report["unexpected_keys"]
    pixels = torch.randn(2, ours.config.num_channels, *ours.config.image_size)
    with torch.no_grad():
        states = ours(pixels)[-1]
        if ours.heads:
            close(ours.logits(states), theirs.eval()(pixels).logits)
        else:
            close(ours.norm(states), theirs.eval()(pixels).last_hidden_state)
    again = wb.load_vit(tmp_path, device="cpu")
    same_model(ours, again)
    assert (again.labels, again.preprocessing) == (ours.labels, ours.preprocessing)


def test_the_tokenizer_opens_in_transformers(tmp_path: Path) -> None:
    bert = our_bert("mlm")
    wb.save_checkpoint(bert, tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    text = "The cat sat, on the red MAT!"
    assert theirs(text)["input_ids"] == [token.id for token in bert.tokenizer.encode(text).tokens]
    assert theirs("[MASK]")["input_ids"][1] == bert.tokenizer.mask_id


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_other_number_formats(dtype: torch.dtype, tmp_path: Path) -> None:
    bert = our_bert("mlm")
    wb.save_checkpoint(bert, tmp_path, dtype=dtype)
    tensors = load_file(tmp_path / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {dtype}
    assert "cls.predictions.decoder.weight" not in tensors  # tied: stored once
    again = wb.load_bert(tmp_path, device="cpu")
    for name, weight in bert.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight.to(dtype).float())
    half = wb.load_bert(tmp_path, device="cpu", dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("kind", ["BertForPreTraining", "ViTForImageClassification"])
def test_shards(kind: str, tmp_path: Path) -> None:
    theirs = (hf_bert if kind.startswith("Bert") else hf_vit)(kind)
    folder = saved(theirs, tmp_path, max_shard_size="40KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    load = wb.load_bert if kind.startswith("Bert") else wb.load_vit
    whole = saved(theirs, tmp_path / "whole")
    same_model(load(folder, device="cpu"), load(whole, device="cpu"))
    next(folder.glob("model-00002*")).unlink()
    refuses(lambda: load(folder), "lacks the file model-00002")


def test_what_google_and_timm_wrote_can_be_saved(tmp_path: Path) -> None:
    np.savez(tmp_path / "ViT.npz", **npz_arrays())
    write_timm(tmp_path, timm_tensors({"cls_token": 1, "dist_token": 1}, 2, {"head": 5, "head_dist": 5}))
    for source in (tmp_path / "ViT.npz", tmp_path):
        vit = wb.load_vit(source, device="cpu")
        wb.save_checkpoint(vit, tmp_path / "ours")
        same_model(vit, wb.load_vit(tmp_path / "ours", device="cpu"))


@pytest.mark.parametrize(
    "vit",
    [
        lambda: our_vit(num_prefix_tokens=5),
        lambda: our_vit(num_prefix_tokens=5, num_prefix_positions=5),
        lambda: our_vit(representation_size=11),
    ],
)
def test_what_the_layout_cannot_hold_is_not_written(vit: Callable, tmp_path: Path) -> None:
    refuses(lambda: wb.save_checkpoint(vit(), tmp_path), "nothing was written")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), SafetensorError("IoError: code 28")]
)
@pytest.mark.parametrize("step", ["weights", "config", "tokenizer"])
def test_a_full_disk_leaves_the_old_checkpoint(
    error: Exception, step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wb.save_checkpoint(our_bert("mlm"), tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def fail(*arguments: Any, **options: Any) -> None:
        Path(arguments[1] if step == "weights" else arguments[0]).write_bytes(b"half a file")
        raise error

    if step == "weights":
        monkeypatch.setattr(checkpoint, "save_file", fail)
    elif step == "config":
        monkeypatch.setattr(Path, "write_text", fail)
    else:
        monkeypatch.setattr(Tokenizer, "save", lambda self, folder: fail(folder / "tokenizer.json"))
    refuses(lambda: wb.save_checkpoint(our_bert("mlm", "nsp"), tmp_path), "what was there is unchanged")
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    refuses(lambda: wb.save_checkpoint(our_bert(), tmp_path), "could not be written")


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    refuses(lambda: wb.save_checkpoint(our_bert(), tmp_path / "file"), "could not be written")
    refuses(lambda: wb.save_checkpoint(our_bert(), tmp_path / "file" / "below"), "could not be written")
    assert (tmp_path / "file").read_text() == "mine"


def test_others_may_read_what_we_save(tmp_path: Path) -> None:
    wb.save_checkpoint(our_bert(), tmp_path)
    assert all(file.stat().st_mode & 0o044 == 0o044 for file in tmp_path.iterdir())


def test_a_checkpoint_can_be_saved_over_itself(tmp_path: Path) -> None:
    wb.save_checkpoint(our_bert("mlm"), tmp_path)
    bert = wb.load_bert(tmp_path, device="cpu")
    wb.save_checkpoint(bert, tmp_path)
    same_model(bert, wb.load_bert(tmp_path, device="cpu"))


# --- what is wrong with a file -----------------------------------------------------------------


def refuses(action: Callable[[], Any], message: str, kind: type[ValueError] = wb.CheckpointError) -> None:
    """One sentence, on one line, without the source's own errors as a type name or a traceback."""
    with pytest.raises(kind, match=message) as caught:
        action()
    text = str(caught.value)
    assert issubclass(caught.type, ValueError)
    assert "\n" not in text.strip() and "Traceback" not in text and ".py" not in text and len(text) < 400, (
        text
    )
    assert text.endswith("."), text


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders "bert" and "vit" as transformers saves them."""
    folder = tmp_path_factory.mktemp("good")
    saved(hf_bert("BertForPreTraining"), folder / "bert")
    saved(hf_vit("ViTForImageClassification"), folder / "vit")
    return folder


@pytest.fixture(params=["bert", "vit"])
def broken(request: pytest.FixtureRequest, good: Path, tmp_path: Path) -> tuple[Path, Callable]:
    """A copy to break, and what loads it."""
    folder = tmp_path / "mine"
    shutil.copytree(good / request.param, folder)
    return folder, (wb.load_bert if request.param == "bert" else wb.load_vit)


def change_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor], str], None]) -> str:
    """Changes the file; `change` is given the tensors and the name of one in the middle."""
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in sorted(tensors) if "layer.1." in name and name.endswith("weight"))
    change(tensors, name)
    save_file(tensors, folder / "model.safetensors")
    return name.replace(".", r"\.")


def test_a_good_copy_loads(broken: tuple[Path, Callable]) -> None:
    broken[1](broken[0], device="cpu")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_truncated(broken: tuple[Path, Callable], share: float) -> None:
    file = broken[0] / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    refuses(lambda: broken[1](broken[0]), "model.safetensors of mine is damaged")


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


def test_only_a_pickle(broken: tuple[Path, Callable]) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return (os._exit, (1,))

    (broken[0] / "model.safetensors").unlink()
    refuses(lambda: broken[1](broken[0]), "has no model.safetensors")
    (broken[0] / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))
    refuses(lambda: broken[1](broken[0]), r"pickle \(pytorch_model.bin\), which can run code")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "config.json cannot be read"),
        ("", "config.json cannot be read"),
        ('{"hidden_size": 36,', "config.json cannot be read"),
        ("\udcff", "config.json cannot be read"),
        ("[1, 2]", "config.json holds no settings"),
        ("3", "config.json holds no settings"),
        ("null", "config.json holds no settings"),
    ],
)
def test_broken_config(broken: tuple[Path, Callable], content: str | None, message: str) -> None:
    file = broken[0] / "config.json"
    file.unlink()
    if content is not None:
        file.write_text(content, encoding="utf-8", errors="surrogateescape")
    refuses(lambda: broken[1](broken[0]), message)


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
    ("settings", "load", "message"),
    [
        (
            {"model_type": "roberta", "vocab_size": 9},
            wb.load_bert,
            "RobertaX; load_bert reads model_type 'bert'",
        ),
        ({"model_type": "gpt2"}, wb.load_bert, "RobertaX"),
        ({"model_type": "dinov2"}, wb.load_vit, "RobertaX; load_vit reads 'vit' and 'deit'"),
        ({"model_type": "swin"}, wb.load_vit, "RobertaX"),
        ({"model_type": None}, wb.load_bert, "RobertaX"),
        ({"model_type": ["bert"]}, wb.load_bert, "RobertaX"),
        ({"model_type": {"a": 1}}, wb.load_vit, "RobertaX"),
    ],
    ids=str,
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


def test_the_two_copies_of_a_bias_differ(good: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(good / "bert", tmp_path / "mine")
    change_tensors(folder, lambda t, n: t.update({"cls.predictions.decoder.bias": torch.ones(99)}))
    refuses(lambda: wb.load_bert(folder), "differ")


def test_an_untied_file_without_its_decoder(good: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(good / "bert", tmp_path / "mine")
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"tie_word_embeddings": False}))
    refuses(lambda: wb.load_bert(folder), "lacks the tensor 'cls.predictions.decoder.weight'")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("tokenizer.json", "{}", r"tokenizer of mine cannot be read \("),
        ("tokenizer.json", "not json", r"tokenizer of mine cannot be read \("),
        ("tokenizer_config.json", "not json", r"tokenizer of mine cannot be read \("),
        ("tokenizer_config.json", "[1]", r"tokenizer of mine cannot be read \("),
        ("vocab.txt", "the\ncat\n", r"no \[CLS\] token"),
        ("vocab.txt", "\n".join([*VOCABULARY, "more"]), "more word pieces than the model has embeddings"),
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
        '{"rescale_factor": 3}',
        '{"size": 224, "crop_size": 256, "do_center_crop": true}',
        '{"size": {"height": 256, "width": 300}, "crop_size": 224, "do_center_crop": true}',
        '{"image_mean": 3}',
    ],
)
def test_broken_preprocessing(content: str, good: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(good / "vit", tmp_path / "mine")
    (folder / "preprocessor_config.json").write_text(content)
    refuses(lambda: wb.load_vit(folder), "preprocessor_config.json")


def test_preprocessing_is_read_beside_a_file_too(good: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(good / "vit", tmp_path / "mine")
    (folder / "preprocessor_config.json").write_text('{"size": {"height": 16, "width": 24}, "resample": 3}')
    for path in (folder, folder / "model.safetensors"):
        assert wb.load_vit(path).preprocessing == Preprocessing(size=(16, 24), resample="bicubic")


@pytest.mark.parametrize(
    "index", ["not json", "{}", '{"weight_map": []}', '{"weight_map": {}}', '{"weight_map": {"a": "gone"}}']
)
def test_broken_index_of_shards(broken: tuple[Path, Callable], index: str) -> None:
    (broken[0] / "model.safetensors").unlink()
    (broken[0] / "model.safetensors.index.json").write_text(index)
    refuses(lambda: broken[1](broken[0]), "model.safetensors.index.json|lacks the file gone")


def test_an_index_stays_in_its_folder(good: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(good / "bert", tmp_path / "mine")
    shutil.move(folder / "model.safetensors", tmp_path / "other.safetensors")
    index = {"weight_map": {"a": "../other.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    refuses(lambda: wb.load_bert(folder), "lacks the file other.safetensors")


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


def test_a_google_file_runs_nothing(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return (os.mkdir, (str(tmp_path / "was run"),))

    np.savez(tmp_path / "ViT.npz", **npz_arrays() | {"cls": np.array([Evil()], dtype=object)})
    refuses(lambda: wb.load_vit(tmp_path / "ViT.npz"), "plain arrays")
    assert not (tmp_path / "was run").exists()


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_truncated_google_files(share: float, tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "ViT.npz", **npz_arrays())
    content = (tmp_path / "ViT.npz").read_bytes()
    (tmp_path / "ViT.npz").write_bytes(content[: int(len(content) * share)])
    refuses(lambda: wb.load_vit(tmp_path / "ViT.npz"), "damaged or no .npz file")
    flipped = bytearray(content)
    flipped[len(content) // 2 : len(content) // 2 + 50] = b"?" * 50
    (tmp_path / "ViT.npz").write_bytes(flipped)
    refuses(lambda: wb.load_vit(tmp_path / "ViT.npz"), "damaged or no .npz file")


TIMM = {
    "missing": (lambda t: t.pop("blocks.1.mlp.fc1.weight"), {}, "lacks"),
    "no patches": (lambda t: t.pop("patch_embed.proj.weight"), {}, "lacks"),
    "no class token": (lambda t: t.pop("cls_token"), {}, "class token"),
    "a pooled head": (lambda t: t.update({"fc_norm.weight": torch.ones(36)}), {}, "no place for"),
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
}


@pytest.mark.parametrize("fault", TIMM)
def test_broken_timm_files(fault: str, tmp_path: Path) -> None:
    change, settings, message = TIMM[fault]
    tensors = timm_tensors({"cls_token": 1}, 1, {"head": 5})
    change(tensors)
    write_timm(tmp_path, tensors, **settings)
    refuses(lambda: wb.load_vit(tmp_path), message)


@pytest.mark.parametrize("load", [wb.load_bert, wb.load_vit, wb.inspect_checkpoint])
class TestNames:
    @pytest.mark.parametrize(
        "name", ["./gone", "/gone/or/never/there", "gone.npz", "a b", "a/b/c", "\0", "x" * 5000, "~nobody/x"]
    )
    def test_nothing_there(self, load: Callable, name: str) -> None:
        with pytest.raises(wb.CheckpointError, match="^There is no file or folder|neither a folder"):
            load(name)

    def test_a_path_that_is_not_there(self, load: Callable, tmp_path: Path) -> None:
        refuses(lambda: load(tmp_path / "gone"), "There is no file or folder")

    @pytest.mark.parametrize("name", ["bert-base-uncased", "google/vit-base-patch16-224"])
    def test_a_hub_id_without_a_network(self, load: Callable, name: str) -> None:
        refuses(lambda: load(name), "nor can it be fetched from the Hub .* shipped with the workbench")

    def test_an_empty_folder(self, load: Callable, tmp_path: Path) -> None:
        refuses(lambda: load(tmp_path), "config.json|model.safetensors")

    def test_a_file_of_another_kind(self, load: Callable, tmp_path: Path) -> None:
        (tmp_path / "note.txt").write_text("hello")
        refuses(lambda: load(tmp_path / "note.txt"), "note.txt")


def test_devices(good: Path) -> None:
    for load, kind in ((wb.load_bert, "bert"), (wb.load_vit, "vit")):
        refuses(lambda: load(good / kind, device="nonsense"), "'nonsense' is no device", ValueError)  # noqa: B023
        refuses(lambda: load(good / kind, device="meta"), "no meta device", ValueError)  # noqa: B023
        if not torch.cuda.is_available():
            refuses(lambda: load(good / kind, device="cuda"), "no cuda device", ValueError)  # noqa: B023
        assert load(good / kind, device="auto").device.type in ("cpu", "cuda", "mps")


# --- what is told about a checkpoint -----------------------------------------------------------


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


def test_dropped_tensors_are_named(tmp_path: Path) -> None:
    folder = saved(hf_vit("ViTModel"), tmp_path)
    assert set(wb.inspect_checkpoint(folder).dropped) == {"pooler.dense.weight", "pooler.dense.bias"}


def test_loading_makes_no_random_numbers(good: Path) -> None:
    state = torch.get_rng_state()
    wb.load_bert(good / "bert", device="cpu")
    assert torch.equal(torch.get_rng_state(), state)


def test_a_fetched_checkpoint_is_called_by_its_hub_id(tmp_path):
    folder = tmp_path / "models--owner--some-bert" / "snapshots" / "0123abc"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(wb.CheckpointError, match="^owner/some-bert has no model.safetensors"):
        wb.load_bert(folder)
