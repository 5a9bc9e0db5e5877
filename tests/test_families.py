"""DistilBERT and DINOv2 beside transformers: the same encoder behind another front door."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from test_bert import batch
from test_vit import compare as compare_pictures
from tiny import close, hf_dinov2, hf_distilbert, our_bert, randomize, refuses, same_model, saved

import workbench as wb
from workbench import widgets

DISTILBERT = {  # form -> its head
    "DistilBertModel": None,
    "DistilBertForMaskedLM": "mlm",
    "DistilBertForSequenceClassification": "sentence",
    "DistilBertForTokenClassification": "word",
    "DistilBertForQuestionAnswering": "span",
}
CHANGES: list[dict[str, Any]] = [
    {"activation": "relu"},
    {"sinusoidal_pos_embds": True},
    {"tie_word_embeddings": False},
    {"n_heads": 9, "n_layers": 2, "hidden_dim": 5, "max_position_embeddings": 7},
]


def compare_texts(ours: wb.Bert, theirs: transformers.PreTrainedModel, head: str | None) -> None:
    """Hidden states, attention and logits at all tokens that are not padding, whatever the segments."""
    inputs = batch()
    real = inputs["attention_mask"].bool()
    with torch.no_grad():
        expected = theirs(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            output_hidden_states=True,
            output_attentions=True,
        )
        with wb.record_attention(ours) as attention:
            states = ours(**inputs)
        for our_layer, their_layer in zip(states, expected.hidden_states, strict=True):
            close(our_layer[real], their_layer[real])
        for layer, maps in enumerate(expected.attentions):
            close(attention[layer].transpose(1, 2)[real], maps.transpose(1, 2)[real])
        if head == "span":
            logits = ours.logits("span", states[-1])[real]
            close(logits, torch.stack([expected.start_logits, expected.end_logits], -1)[real])
        elif head == "sentence":
            close(ours.logits(head, states[-1]), expected.logits)
        elif head:
            close(ours.logits(head, states[-1])[real], expected.logits[real])


@pytest.mark.parametrize("form", DISTILBERT)
def test_each_form_of_distilbert(form: str, tmp_path: Path) -> None:
    theirs = hf_distilbert(form, **{} if form.endswith("Answering") else {"num_labels": 3})
    ours = wb.load_bert(saved(theirs, tmp_path), device="cpu")
    assert list(ours.heads) == ([DISTILBERT[form]] if DISTILBERT[form] else [])
    assert (ours.pooler is None) == (DISTILBERT[form] != "sentence")
    compare_texts(ours, theirs, DISTILBERT[form])


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_other_settings_of_distilbert(changes: dict[str, Any], tmp_path: Path) -> None:
    theirs = hf_distilbert("DistilBertForMaskedLM", **changes)
    ours = wb.load_bert(saved(theirs, tmp_path), device="cpu")
    compare_texts(ours, theirs, "mlm")
    assert ours.config.tie_word_embeddings is changes.get("tie_word_embeddings", True)


def test_a_silent_config_of_distilbert_means_what_transformers_takes(tmp_path: Path) -> None:
    """Its own six layers, too."""
    folder = saved(hf_distilbert("DistilBertModel", n_layers=6), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    kept = {name: config[name] for name in ("model_type", "dim", "n_heads", "hidden_dim", "vocab_size")}
    (folder / "config.json").write_text(json.dumps(kept | {"max_position_embeddings": 40}))
    ours, usual = wb.load_bert(folder, device="cpu").config, transformers.DistilBertConfig()
    assert ours.num_hidden_layers == usual.n_layers
    assert (ours.hidden_act, ours.hidden_dropout_prob) == (usual.activation, usual.dropout)
    assert ours.attention_probs_dropout_prob == usual.attention_dropout
    names = {"dim": "hidden_size", "n_heads": "num_attention_heads"}  # BERT's names say the same
    kept = {names.get(name, name): value for name, value in kept.items()} | {"num_attention_heads": 9}
    (folder / "config.json").write_text(json.dumps(kept | {"max_position_embeddings": 40}))
    theirs = transformers.DistilBertModel.from_pretrained(folder, attn_implementation="eager").eval()
    compare_texts(wb.load_bert(folder, device="cpu"), theirs, None)


@pytest.mark.parametrize("form", DISTILBERT)
def test_what_we_save_is_a_distilbert(form: str, tmp_path: Path) -> None:
    ours = wb.load_bert(saved(hf_distilbert(form), tmp_path / "theirs"), device="cpu")
    wb.save_checkpoint(ours, tmp_path / "ours")
    theirs, report = getattr(transformers, form).from_pretrained(
        tmp_path / "ours", attn_implementation="eager", output_loading_info=True
    )
    assert not report["missing_keys"] and not report["unexpected_keys"]
    compare_texts(ours, theirs.eval(), DISTILBERT[form])
    same_model(ours, wb.load_bert(tmp_path / "ours", device="cpu"))


def test_several_heads_of_a_distilbert_come_back(tmp_path: Path) -> None:
    ours = our_bert("mlm", "span", "sentiment", "nsp", type_vocab_size=0, pooler_act="relu")
    wb.save_checkpoint(ours, tmp_path)
    again = wb.load_bert(tmp_path, device="cpu")
    assert set(again.heads) == {"mlm", "span", "sentiment", "nsp"}
    state, wanted = again.state_dict(), ours.state_dict()
    assert all(torch.equal(state[name], wanted[name]) for name in wanted)


def test_the_tasks_of_a_distilbert(tmp_path: Path) -> None:
    bert = wb.load_bert(saved(hf_distilbert("DistilBertForMaskedLM"), tmp_path), device="cpu")
    assert wb.fill_mask(bert, "the [MASK] sat")[0].candidates
    refuses(lambda: wb.next_sentence(bert, "the cat", "sat"), "no head .*mlm", ValueError)
    assert wb.inspect_checkpoint(tmp_path).facts["architecture"] == "DistilBERT, post-norm"
    pairs = saved(hf_distilbert("DistilBertForSequenceClassification", num_labels=3), tmp_path / "pairs")
    assert len(wb.classify_pair(wb.load_bert(pairs, device="cpu"), "the cat", "sat")) == 3


# --- DINOv2 --------------------------------------------------------------------------------------

DINOV2 = ["Dinov2Model", "Dinov2WithRegistersModel"]


@pytest.mark.parametrize("size", [(56, 56), (42, 84), (14, 56), (70, 98)], ids=str)
@pytest.mark.parametrize("form", DINOV2)
def test_each_form_of_dinov2_at_any_multiple_of_14(form: str, size: tuple[int, int], tmp_path: Path) -> None:
    """Layer scale is folded into the weights, positions are stretched, registers have none."""
    theirs = hf_dinov2(form, **{"num_register_tokens": 3} if "Registers" in form else {})
    ours = wb.load_vit(saved(theirs, tmp_path), device="cpu")
    assert ours.config.num_prefix_tokens == (4 if "Registers" in form else 1)
    pixels = torch.randn(2, 3, *size)
    with torch.no_grad():
        expected = theirs(pixels, output_hidden_states=True, output_attentions=True)
        with wb.record_attention(ours) as attention:
            states = ours(pixels)
        for our_layer, their_layer in zip(states, expected.hidden_states, strict=True):
            close(our_layer, their_layer)
        for layer, maps in enumerate(expected.attentions):
            close(attention[layer], maps)
        close(ours.norm(states[-1]), expected.last_hidden_state)


@pytest.mark.parametrize("changes", [{"qkv_bias": False}, {"patch_size": 7, "hidden_act": "relu"}], ids=str)
@pytest.mark.parametrize("form", DINOV2)
def test_other_settings_of_dinov2(form: str, changes: dict[str, Any], tmp_path: Path) -> None:
    theirs = hf_dinov2(form, **changes)
    file = saved(theirs, tmp_path) / "model.safetensors"
    ours = wb.load_vit(tmp_path, device="cpu")
    pixels = torch.randn(1, 3, 56, 28)
    with torch.no_grad():
        close(ours.norm(ours(pixels)[-1]), theirs(pixels).last_hidden_state)
    save_file({name: tensor.clone() for name, tensor in theirs.state_dict().items()}, file)  # as in memory
    assert "encoder.layer.0.attention.q_proj.weight" in load_file(file)
    same_model(ours, wb.load_vit(tmp_path, device="cpu"))


@pytest.mark.parametrize("form", DINOV2)
def test_a_file_of_half_precision_computes_in_float32(form: str, tmp_path: Path) -> None:
    theirs = hf_dinov2(form).half()
    ours = wb.load_vit(saved(theirs, tmp_path), device="cpu")
    pixels = torch.randn(1, 3, 56, 28)
    with torch.no_grad():
        close(ours.norm(ours(pixels)[-1]), theirs.float()(pixels).last_hidden_state)


def test_a_saved_dinov2_is_a_vit(tmp_path: Path) -> None:
    theirs = hf_dinov2("Dinov2Model")
    ours = wb.load_vit(saved(theirs, tmp_path / "theirs"), device="cpu")
    wb.save_checkpoint(ours, tmp_path / "ours")
    vit = transformers.ViTModel.from_pretrained(tmp_path / "ours", attn_implementation="eager").eval()
    compare_pictures(ours, vit, (56, 56))
    close(vit(torch.ones(1, 3, 56, 56)).last_hidden_state, theirs(torch.ones(1, 3, 56, 56)).last_hidden_state)
    with_registers = wb.load_vit(saved(hf_dinov2(DINOV2[1]), tmp_path / "more"), device="cpu")
    refuses(lambda: wb.save_checkpoint(with_registers, tmp_path / "never"), "no place for register tokens")


def test_what_is_not_read_of_dinov2(tmp_path: Path) -> None:
    giant = saved(hf_dinov2("Dinov2Model", use_swiglu_ffn=True), tmp_path / "giant")
    refuses(lambda: wb.load_vit(giant), "giant asks for what is not read here .use_swiglu_ffn is True")
    classes = saved(hf_dinov2("Dinov2ForImageClassification", num_labels=5), tmp_path / "classes")
    refuses(lambda: wb.load_vit(classes), "classes from the class token and the average over all patches")


def test_pictures_of_dinov2_are_cropped_where_the_file_is_silent(tmp_path: Path) -> None:
    folder = saved(hf_dinov2("Dinov2Model"), tmp_path)
    (folder / "preprocessor_config.json").write_text("{}")
    preprocessing = wb.load_vit(folder, device="cpu").preprocessing
    assert (preprocessing.size, preprocessing.keep_shape) == ((224, 224), True)
    assert preprocessing.resample == "bicubic"


@pytest.mark.parametrize("form", DINOV2)
def test_a_silent_config_of_dinov2_means_what_transformers_takes(form: str, tmp_path: Path) -> None:
    usual = getattr(transformers, form.replace("Model", "Config"))()
    theirs = hf_dinov2(form, patch_size=usual.patch_size, image_size=224)
    folder = saved(theirs, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    kept = ("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads")
    (folder / "config.json").write_text(json.dumps({name: config[name] for name in kept}))
    ours = wb.load_vit(folder, device="cpu").config
    for name in ("layer_norm_eps", "hidden_act", "qkv_bias", "patch_size"):
        assert getattr(ours, name) == getattr(usual, name)


def test_dino_is_a_vit_without_pooler(tmp_path: Path) -> None:
    config = transformers.ViTConfig(hidden_size=36, num_hidden_layers=3, num_attention_heads=4, image_size=32)
    theirs = randomize(transformers.ViTModel(config, add_pooling_layer=False))
    theirs.set_attn_implementation("eager")
    compare_pictures(wb.load_vit(saved(theirs, tmp_path), device="cpu"), theirs, (48, 32))


@pytest.mark.parametrize("form", DINOV2)
def test_attention_of_a_dinov2_is_shown(form: str, tmp_path: Path) -> None:
    folder = saved(hf_dinov2(form), tmp_path)
    recipe = {"size": {"shortest_edge": 60}, "crop_size": {"height": 56, "width": 56}}
    (folder / "preprocessor_config.json").write_text(json.dumps(recipe))
    vit = wb.load_vit(folder, device="cpu")
    picture = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    assert widgets.PatchAttention(vit, picture).error == ""
    explorer = widgets.AttentionExplorer(vit, image=picture)
    assert explorer.error == ""
    refuses(lambda: wb.classify_image(vit, picture), "no head for classes", ValueError)


@pytest.mark.parametrize(
    ("form", "widget"),
    [
        ("DistilBertForMaskedLM", "MaskedFilling"),
        ("DistilBertForSequenceClassification", "SentenceClassifier"),
        ("DistilBertForSequenceClassification", "SentencePair"),
        ("DistilBertForTokenClassification", "TokenTagger"),
        ("DistilBertForQuestionAnswering", "SpanExtraction"),
        ("DistilBertModel", "AttentionExplorer"),
    ],
)
def test_widgets_of_a_distilbert(form: str, widget: str, tmp_path: Path) -> None:
    bert = wb.load_bert(saved(hf_distilbert(form), tmp_path), device="cpu")
    texts = ["the cat sat", "on the mat"] if widget in ("SentencePair", "SpanExtraction") else ["the cat sat"]
    assert getattr(widgets, widget)(bert, *texts).error == ""


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-3), (torch.bfloat16, 0.1)], ids=str)
def test_a_gpu_agrees(dtype: torch.dtype, tolerance: float, tmp_path: Path) -> None:
    """float32 to 1e-3 (TF32 in transformers' convolution); bfloat16 to 0.1 (8 bits of mantissa)."""
    words = hf_distilbert("DistilBertModel")
    bert = wb.load_bert(saved(words, tmp_path / "words"), device="cuda", dtype=dtype)
    ids = torch.randint(5, 99, (2, 7), device="cuda")
    pictures = hf_dinov2("Dinov2WithRegistersModel")
    vit = wb.load_vit(saved(pictures, tmp_path / "pictures"), device="cuda", dtype=dtype)
    pixels = torch.randn(2, 3, 42, 84, device="cuda")
    with torch.no_grad():
        close(bert(ids)[-1], words.cuda()(ids).last_hidden_state, tolerance)
        close(vit.norm(vit(pixels)[-1]), pictures.cuda()(pixels).last_hidden_state, tolerance)
