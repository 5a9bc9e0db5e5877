"""What we write opens in transformers and here; a fault leaves what was there."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file
from test_bert import batch
from test_vit import npz_arrays, timm_tensors, write_timm
from tiny import HEADS, close, our_bert, our_vit, randomize, refuses, same_model

import workbench as wb

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


@pytest.mark.filterwarnings("ignore:transformers cuts squares only")
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
        monkeypatch.setattr("workbench.checkpoint.write.save_file", fail)
    elif step == "config":
        monkeypatch.setattr(Path, "write_text", fail)
    else:
        save = lambda tokenizer, folder, longest: fail(folder / "tokenizer.json")  # noqa: E731
        monkeypatch.setattr("workbench.checkpoint.write.save_tokenizer", save)
    refuses(lambda: wb.save_checkpoint(our_bert("mlm", "nsp"), tmp_path), "what was there is unchanged")
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_nothing_is_saved_beside_an_adapter(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    refuses(lambda: wb.save_checkpoint(our_bert(), tmp_path), "holds an adapter .*; nothing was written")
    assert [file.name for file in tmp_path.iterdir()] == ["adapter_config.json"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    refuses(lambda: wb.save_checkpoint(our_bert(), tmp_path), "could not be written")


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    refuses(lambda: wb.save_checkpoint(our_bert(), tmp_path / "file"), "could not be written")
    refuses(lambda: wb.save_checkpoint(our_bert(), tmp_path / "file" / "below"), "could not be written")
    assert (tmp_path / "file").read_text() == "mine"


def test_saved_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    wb.save_checkpoint(our_bert(), "~/mine")
    assert (tmp_path / "mine" / "config.json").is_file()


@pytest.mark.parametrize(("number", "dtype"), [(torch.nan, torch.float32), (7e4, torch.float16)])
def test_weights_that_are_no_numbers_are_not_written(
    number: float, dtype: torch.dtype, tmp_path: Path
) -> None:
    bert = our_bert()
    with torch.no_grad():
        bert.encoder.layers[1].attention.output.bias[3] = number
    refuses(lambda: wb.save_checkpoint(bert, tmp_path, dtype), r"encoder\.layer\.1\..* not finite in .*float")
    assert not list(tmp_path.iterdir())


def test_others_may_read_what_we_save(tmp_path: Path) -> None:
    wb.save_checkpoint(our_bert(), tmp_path)
    assert all(file.stat().st_mode & 0o044 == 0o044 for file in tmp_path.iterdir())


def test_a_checkpoint_can_be_saved_over_itself(tmp_path: Path) -> None:
    wb.save_checkpoint(our_bert("mlm"), tmp_path)
    bert = wb.load_bert(tmp_path, device="cpu")
    wb.save_checkpoint(bert, tmp_path)
    same_model(bert, wb.load_bert(tmp_path, device="cpu"))


def test_nothing_is_left_of_the_tokenizer_that_was_there(tmp_path: Path) -> None:
    older = our_bert("mlm", vocab_size=101)
    older.tokenizer.backend.add_tokens(["[E1]", "<ent>"])
    wb.save_checkpoint(older, tmp_path)
    assert (tmp_path / "tokenizer.json").exists()
    (tmp_path / "added_tokens.json").write_text('{"Covid": 101}')
    bert = our_bert("mlm")
    wb.save_checkpoint(bert, tmp_path)
    again = wb.load_bert(tmp_path, device="cpu").tokenizer
    text = "[E1] <ent> Covid, the cat"
    assert again.pieces(text) == bert.tokenizer.pieces(text) != older.tokenizer.pieces(text)


def test_nothing_is_left_of_the_preprocessing_that_was_there(tmp_path: Path) -> None:
    vit = our_vit()
    wb.save_checkpoint(vit, tmp_path)
    vit.preprocessing = None
    wb.save_checkpoint(vit, tmp_path)
    assert not (tmp_path / "preprocessor_config.json").exists()
    with pytest.warns(UserWarning, match="no preprocessor_config.json: pictures get a mean"):
        wb.load_vit(tmp_path)


def test_transformers_cuts_texts_where_the_model_ends(tmp_path: Path) -> None:
    bert = our_bert("mlm")
    wb.save_checkpoint(bert, tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    longest = bert.config.max_position_embeddings
    assert tokenizer.model_max_length == longest != 512
    assert len(tokenizer("the cat " * 600, truncation=True)["input_ids"]) == longest
