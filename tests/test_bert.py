"""BERT beside transformers: the same weights, the same numbers, in every form that is saved."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import close, hf_bert, saved
from transformers import PreTrainedModel

import workbench as wb
from workbench.checkpoint import load_bert

FORMS = {  # form -> heads as (name, its kind, how the output of transformers is called)
    "BertModel": [],
    "BertForPreTraining": [("mlm", "prediction_logits"), ("nsp", "seq_relationship_logits")],
    "BertForMaskedLM": [("mlm", "logits")],
    "BertForNextSentencePrediction": [("nsp", "logits")],
    "BertForSequenceClassification": [("sentence", "logits")],
    "BertForTokenClassification": [("word", "logits")],
    "BertForQuestionAnswering": [("span", None)],
}


def batch(device: str = "cpu") -> dict[str, torch.Tensor]:
    """3 rows of 7 tokens; two segments; rows 1 and 2 are padded."""
    lengths = torch.tensor([7, 5, 3])[:, None]
    place = torch.arange(7)
    inputs = {
        "input_ids": torch.randint(5, 99, (3, 7)),
        "token_type_ids": (place >= torch.tensor([[4], [2], [1]])).long(),
        "attention_mask": (place < lengths).long(),
    }
    return {name: values.to(device) for name, values in inputs.items()}


def compare(ours: wb.Bert, theirs: PreTrainedModel, tolerance: float = 1e-5) -> None:
    """Hidden states, attention and logits at all tokens that are not padding."""
    inputs = batch(str(ours.device))
    real = inputs["attention_mask"].bool()
    with torch.no_grad():
        expected = theirs(**inputs, output_hidden_states=True, output_attentions=True)
        with wb.record_attention(ours) as attention:
            hidden_states = ours(**inputs)
        fused = ours(**inputs)
    assert len(hidden_states) == len(expected.hidden_states) == 6
    for ours_layer, fused_layer, theirs_layer in zip(
        hidden_states, fused, expected.hidden_states, strict=True
    ):
        close(ours_layer[real], theirs_layer[real], tolerance)
        close(fused_layer[real], theirs_layer[real], tolerance)
    assert list(attention) == [0, 1, 2, 3, 4]
    for layer, maps in enumerate(expected.attentions):
        assert maps.shape == (3, 4, 7, 7)
        close(attention[layer].transpose(1, 2)[real], maps.transpose(1, 2)[real], tolerance)
    with torch.no_grad():
        if ours.pooler is not None and "pooler_output" in expected:
            close(ours.pooler(hidden_states[-1]), expected.pooler_output, tolerance)
        for head, output in FORMS[type(theirs).__name__]:
            logits = ours.logits(head, hidden_states[-1])
            if head == "span":
                wanted = torch.stack([expected.start_logits, expected.end_logits], -1)
            else:
                wanted = expected[output]
            per_token = wanted.shape[:2] == (3, 7)
            close(logits[real] if per_token else logits, wanted[real] if per_token else wanted, tolerance)


@pytest.mark.parametrize("form", FORMS)
def test_each_form_agrees_with_transformers(form: str, tmp_path: Path) -> None:
    theirs = hf_bert(form, **{} if form == "BertForQuestionAnswering" else {"num_labels": 3})
    ours = load_bert(saved(theirs, tmp_path), device="cpu")
    assert list(ours.heads) == [head for head, _ in FORMS[form]]
    compare(ours, theirs)


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_act": "gelu_new"},
        {"hidden_act": "gelu_pytorch_tanh"},
        {"hidden_act": "relu"},
        {"layer_norm_eps": 0.01},
        {"tie_word_embeddings": False},
        {"type_vocab_size": 3, "max_position_embeddings": 7},
        {"num_attention_heads": 9, "num_hidden_layers": 5, "intermediate_size": 5},
    ],
    ids=str,
)
def test_other_settings_agree(changes: dict, tmp_path: Path) -> None:
    theirs = hf_bert("BertForPreTraining", **changes)
    ours = load_bert(saved(theirs, tmp_path), device="cpu")
    if changes.get("num_attention_heads") == 9:
        inputs = batch()
        with wb.record_attention(ours) as attention, torch.no_grad():
            ours(**inputs)
            expected = theirs(**inputs, output_attentions=True).attentions
        close(attention[4][0], expected[4][0])
    else:
        compare(ours, theirs)
    assert ours.config.tie_word_embeddings is changes.get("tie_word_embeddings", True)


def test_a_model_without_pooler_agrees(tmp_path: Path) -> None:
    theirs = hf_bert("BertModel")
    file = saved(theirs, tmp_path) / "model.safetensors"
    save_file({name: t for name, t in load_file(file).items() if "pooler" not in name}, file)
    ours = load_bert(tmp_path, device="cpu")
    assert ours.pooler is None
    compare(ours, theirs)


def test_names_from_before_2020_agree(tmp_path: Path) -> None:
    theirs = hf_bert("BertForPreTraining")
    file = saved(theirs, tmp_path) / "model.safetensors"
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    tensors = {}
    for name, tensor in load_file(file).items():
        for new_part, old_part in old.items():
            name = name.replace(new_part, old_part)
        tensors[name] = tensor
    assert sum("gamma" in name for name in tensors) == 12
    # Files of that age also hold both copies of what is tied, and a table of positions.
    tensors["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"].clone()
    tensors["cls.predictions.decoder.bias"] = tensors["cls.predictions.bias"].clone()
    tensors["bert.embeddings.position_ids"] = torch.arange(40)[None]
    save_file(tensors, file)
    ours = load_bert(tmp_path, device="cpu")
    assert ours.config.tie_word_embeddings
    compare(ours, theirs)
    assert wb.inspect_checkpoint(tmp_path).dropped == ("bert.embeddings.position_ids",)


def test_a_live_models_state_dict_agrees(tmp_path: Path) -> None:
    """What transformers holds in memory: both names of each tied tensor."""
    theirs = hf_bert("BertForPreTraining")
    file = saved(theirs, tmp_path) / "model.safetensors"
    save_file({name: tensor.clone() for name, tensor in theirs.state_dict().items()}, file)
    compare(load_bert(tmp_path, device="cpu"), theirs)


def test_tied_words_stay_one_tensor(tmp_path: Path) -> None:
    bert = load_bert(saved(hf_bert("BertForMaskedLM"), tmp_path), device="cpu", dtype=torch.float64)
    assert bert.heads["mlm"].decoder.weight is bert.embeddings.word_embeddings.weight
    assert bert.heads["mlm"].decoder.weight.dtype == torch.float64


def test_positions_can_be_given(tmp_path: Path) -> None:
    theirs = hf_bert("BertModel")
    ours = load_bert(saved(theirs, tmp_path), device="cpu")
    ids = torch.randint(5, 99, (2, 7))
    places = torch.tensor([[3, 1, 0, 2, 6, 5, 39]]).expand(2, -1)
    with torch.no_grad():
        close(ours(ids, position_ids=places)[-1], theirs(ids, position_ids=places).last_hidden_state)


def test_without_a_mask_nothing_is_hidden(tmp_path: Path) -> None:
    bert = load_bert(saved(hf_bert("BertModel"), tmp_path), device="cpu")
    ids = torch.randint(5, 99, (2, 7))
    with torch.no_grad():
        close(bert(ids)[-1], bert(ids, attention_mask=torch.ones(2, 7))[-1])


def test_padding_does_not_change_the_rest(tmp_path: Path) -> None:
    bert = load_bert(saved(hf_bert("BertModel"), tmp_path), device="cpu")
    ids = torch.randint(5, 99, (1, 5))
    padded = torch.cat([ids, torch.zeros(1, 4, dtype=torch.long)], 1)
    with torch.no_grad():
        alone = bert(ids)[-1]
        close(bert(padded, attention_mask=(padded > 0))[-1][:, :5], alone)


def test_too_many_tokens_are_one_sentence() -> None:
    bert = wb.Bert(wb.BertConfig(hidden_size=8, num_attention_heads=2, num_hidden_layers=1))
    with pytest.raises(ValueError, match="513 word pieces; this checkpoint reads 512"):
        bert(torch.zeros(1, 513, dtype=torch.long))


class TestHeads:
    @pytest.fixture
    def bert(self) -> wb.Bert:
        config = wb.BertConfig(vocab_size=99, hidden_size=8, num_attention_heads=2, num_hidden_layers=1)
        return wb.Bert(config)

    @pytest.mark.parametrize(
        ("kind", "labels", "shape"),
        [
            ("mlm", (), (2, 5, 99)),
            ("sentence", "abc", (2, 3)),
            ("word", "abcd", (2, 5, 4)),
            ("span", (), (2, 5, 2)),
        ],
    )
    def test_shapes(self, bert: wb.Bert, kind: str, labels: str, shape: tuple) -> None:
        name = "mlm" if kind == "mlm" else "mine"
        bert.add_head(name, kind, list(labels))
        assert bert.logits(name, bert(torch.zeros(2, 5, dtype=torch.long))[-1]).shape == shape

    def test_a_new_head_has_the_models_type_and_replaces(self, bert: wb.Bert) -> None:
        bert.double().add_head("mine", "word", ["a", "b"])
        assert bert.heads["mine"].weight.dtype == torch.float64
        bert.add_head("mine", "sentence", ["a"])
        assert bert.heads["mine"].kind == "sentence"

    @pytest.mark.parametrize(
        ("kind", "labels", "message"),
        [
            ("poem", ["a"], "not 'poem'"),
            ("mlm", [], "go together"),
            ("word", [], "needs the names"),
            ("sentence", [], "needs the names"),
        ],
    )
    def test_odd_heads_are_one_sentence(self, bert: wb.Bert, kind: str, labels: list, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            bert.add_head("mine", kind, labels)

    def test_a_sentence_head_needs_a_pooler(self) -> None:
        config = wb.BertConfig(vocab_size=9, hidden_size=8, num_attention_heads=2, num_hidden_layers=1)
        with pytest.raises(ValueError, match="no pooler"):
            wb.Bert(config, pooler=False).add_head("nsp", "sentence", ["a", "b"])

    def test_a_missing_head_names_those_there(self, bert: wb.Bert) -> None:
        bert.add_head("mlm", "mlm")
        bert.add_head("tone", "sentence", ["a", "b"])
        with pytest.raises(ValueError, match="no head 'pos'; it has: mlm, tone"):
            bert.logits("pos", torch.zeros(1, 2, 8))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.1)])
def test_a_gpu_agrees(dtype: torch.dtype, tolerance: float, tmp_path: Path) -> None:
    """float32 to 1e-4 (other order of sums); bfloat16 to 0.1: 8 bits of mantissa through 5 layers."""
    theirs = hf_bert("BertForPreTraining")
    ours = load_bert(saved(theirs, tmp_path), device="cuda", dtype=dtype)
    compare(ours, theirs.cuda(), tolerance)


def test_a_checkpoint_of_one_segment_reads_pairs(tmp_path: Path) -> None:
    theirs = hf_bert("BertForSequenceClassification", type_vocab_size=1, num_labels=3)
    ours = load_bert(saved(theirs, tmp_path), device="cpu")
    text = ours.tokenizer.encode("The cat sat", "on the mat")
    ids = text.tensors(ours.device)["input_ids"]
    with torch.no_grad():
        expected = theirs(ids).logits.softmax(-1)[0]
    found = {each.label: each.probability for each in wb.classify_pair(ours, "The cat sat", "on the mat")}
    close(torch.tensor([found[label] for label in ours.heads["sentence"].labels]), expected)
