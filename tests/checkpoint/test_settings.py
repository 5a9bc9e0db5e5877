"""Each setting of each file is obeyed, refused or harmless: what changes numbers never passes in silence."""

import dataclasses
import inspect
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from test_vit import timm_tensors, write_timm
from tiny import close, hf_bert, hf_dinov2, hf_distilbert, hf_vit, refuses, saved
from transformers.processing_utils import ImagesKwargs

import workbench as wb
from workbench.checkpoint import settings
from workbench.image import prepare_image

# Of transformers 4 and of files that are older.
OLD_BERT = (
    "position_embedding_type pruned_heads torch_dtype torchscript gradient_checkpointing directionality "
)
OLD_BERT += "pooler_fc_size pooler_type output_past num_beams bad_words_ids tokenizer_class finetuning_task"
# timm 1.0: the arguments of VisionTransformer, the fields of PretrainedCfg, and config.json around them.
TIMM_ARGUMENTS = """img_size patch_size in_chans num_classes global_pool embed_dim depth num_heads mlp_ratio
    qkv_bias qk_norm scale_attn_norm scale_mlp_norm proj_bias init_values class_token pos_embed no_embed_class
    reg_tokens pre_norm final_norm fc_norm pool_include_prefix dynamic_img_size dynamic_img_pad drop_rate
    pos_drop_rate patch_drop_rate proj_drop_rate attn_drop_rate drop_path_rate weight_init fix_init
    embed_layer embed_norm_layer norm_layer act_layer block_fn mlp_layer attn_layer device dtype"""
TIMM_PRETRAINED = """url file state_dict hf_hub_id hf_hub_filename source architecture tag custom_load
    input_size test_input_size min_input_size fixed_input_size interpolation crop_pct test_crop_pct crop_mode
    mean std
    num_classes label_offset label_names label_descriptions pool_size test_pool_size first_conv classifier
    license description origin_url paper_name paper_ids notes"""


def of_config(kind: type) -> set[str]:
    names = {*kind().to_dict(), *(field.name for field in dataclasses.fields(kind))}
    return names - {"_out_features", "_out_indices"}


def of_tokenizer() -> set[str]:
    signature = inspect.signature(transformers.BertTokenizer.__init__).parameters
    return {*signature, *transformers.BertTokenizer().init_kwargs} - {
        "self",
        "kwargs",
        "transformers_version",
    }


PEERS = {
    "BertConfig": (settings.BERT, lambda: of_config(transformers.BertConfig) | {*OLD_BERT.split()}),
    "ViTConfig": (settings.VIT, lambda: of_config(transformers.ViTConfig)),
    "DeiTConfig": (settings.VIT, lambda: of_config(transformers.DeiTConfig)),
    "DistilBertConfig": (settings.DISTILBERT, lambda: of_config(transformers.DistilBertConfig)),
    "Dinov2Config": (settings.VIT, lambda: of_config(transformers.Dinov2Config)),
    "Dinov2WithRegistersConfig": (
        settings.VIT,
        lambda: of_config(transformers.Dinov2WithRegistersConfig),
    ),
    "BertTokenizer": (settings.TOKENIZER, of_tokenizer),
    "ViTImageProcessor": (
        settings.PICTURES,
        lambda: {*ImagesKwargs.__annotations__, *transformers.ViTImageProcessorPil().to_dict()},
    ),
    "timm's VisionTransformer": (settings.TIMM_ARGUMENTS, lambda: {*TIMM_ARGUMENTS.split()}),
    "timm's PretrainedCfg": (settings.TIMM_PRETRAINED, lambda: {*TIMM_PRETRAINED.split()}),
    "timm's config.json": (
        settings.TIMM,
        lambda: {
            *["architecture", "num_classes", "num_features", "global_pool", "pretrained_cfg", "model_args"]
        },
    ),
}


@pytest.mark.parametrize("peer", PEERS)
def test_every_setting_of_a_peer_is_known(peer: str) -> None:
    rules, theirs = PEERS[peer]
    assert theirs() - rules.names() == set()


def all_rules() -> dict[str, settings.Rules]:
    return {name: rules for name, rules in vars(settings).items() if isinstance(rules, settings.Rules)}


@pytest.mark.parametrize("name", all_rules())
def test_every_setting_is_in_one_list(name: str) -> None:
    rules = all_rules()[name]
    listed = [*rules.obeyed.split(), *rules.only, *" ".join(rules.harmless.values()).split()]
    assert sorted(listed) == sorted(rules.names())


def others(name: str, value: Any) -> list[Any]:
    """Values that a setting may have instead."""
    if name in ("hidden_act", "activation"):
        return ["relu", "gelu_new", "quick_gelu", "silu", "tanh"]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        return [value * 2 + 1, value / 2 + 0.25 if isinstance(value, float) else max(1, value - 1)]
    return [True, 3, 0.7, "relative_key"] if value is None else []


IDS = {"input_ids": torch.arange(5, 19).reshape(2, 7)}
PIXELS = {"pixel_values": torch.linspace(-1, 1, 2 * 3 * 56 * 56).reshape(2, 3, 56, 56).sin()}
FORMS = {  # what makes it, its inputs, what loads it, settings that certainly change numbers
    "BertForMaskedLM": (hf_bert, IDS, wb.load_bert, {"hidden_act", "num_attention_heads"}),
    "DistilBertForMaskedLM": (hf_distilbert, IDS, wb.load_bert, {"activation", "n_heads"}),
    "ViTForImageClassification": (hf_vit, PIXELS, wb.load_vit, {"layer_norm_eps", "hidden_act"}),
    "Dinov2Model": (hf_dinov2, PIXELS, wb.load_vit, {"layer_norm_eps", "hidden_act"}),
}


def output(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        result = model(**inputs)
    return result.logits if "logits" in result else result.last_hidden_state


@pytest.mark.filterwarnings("ignore:.*settings that are not known here")
@pytest.mark.parametrize("form", FORMS)
def test_a_setting_that_changes_numbers_is_obeyed_or_refused(form: str, tmp_path: Path) -> None:
    """With each setting changed: the numbers of transformers, a sentence, or a file that they refuse, too."""
    make, inputs, load, certain = FORMS[form]
    layers = "n_layers" if make is hf_distilbert else "num_hidden_layers"
    theirs = make(form, **{layers: 2}, **{"image_size": 56} if load is wb.load_vit else {})
    folder = saved(theirs, tmp_path)
    usual = json.loads((folder / "config.json").read_text())
    everything = theirs.config.to_dict() | usual | {"position_embedding_type": None}
    base, changing = output(theirs, inputs), set()
    for name, value in everything.items():
        for other in others(name, value):
            (folder / "config.json").write_text(json.dumps(usual | {name: other}))
            try:
                expected = output(getattr(transformers, form).from_pretrained(folder).eval(), inputs)
            except Exception:  # they refuse it
                continue
            if not torch.equal(expected, base):
                changing.add(name)
            try:
                ours = load(folder, device="cpu")
            except wb.CheckpointError as error:
                assert str(error).endswith("."), error
                continue
            with torch.no_grad():
                last = ours(**inputs)[-1]
                found = ours.logits("mlm", last) if load is wb.load_bert else ours.norm(last)
                close(ours.logits(last) if "Image" in form else found, expected)
    assert certain <= changing  # the test can fail


def test_what_nobody_knows_is_warned_of(tmp_path: Path) -> None:
    folder = saved(hf_bert("BertModel"), tmp_path / "mine")
    usual = json.loads((folder / "config.json").read_text())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wb.load_bert(folder, device="cpu")
    (folder / "config.json").write_text(json.dumps(usual | {"attention_sinks": 4}))
    with pytest.warns(
        UserWarning, match="config.json of mine has settings .* not known here: attention_sinks"
    ):
        wb.load_bert(folder, device="cpu")


ONE_WAY = {"is_decoder": True, "pruned_heads": {"1": [0]}, "quantization_config": {"bits": 8}}
ONE_WAY |= {"auto_map": {"AutoModel": "theirs.Model"}, "position_embedding_type": "relative_key"}


@pytest.mark.parametrize(("name", "value"), ONE_WAY.items(), ids=ONE_WAY)
def test_what_is_not_read_here_is_named(name: str, value: Any, tmp_path: Path) -> None:
    folder = saved(hf_bert("BertModel"), tmp_path / "mine")
    usual = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(usual | {name: value}))
    refuses(lambda: wb.load_bert(folder), rf"^mine asks for what is not read here \({name} is ")


# --- Pictures ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (61, 83, 3), dtype=np.uint8)


RECIPES: dict[str, dict[str, Any]] = {
    "ViT": {"size": {"height": 32, "width": 48}},
    "DeiT": {"size": {"height": 48, "width": 72}, "crop_size": {"height": 32, "width": 48}},
    "Bit": {"size": {"shortest_edge": 48}, "crop_size": {"height": 40, "width": 40}},
    "CLIP": {"size": 48, "crop_size": 40},
    "ViT, silent": {},
}
STEPS: list[dict[str, Any]] = [
    {},
    {"do_resize": False},
    {"do_rescale": False},
    {"rescale_factor": 0.01},
    {"do_normalize": False},
    {"do_center_crop": False},
    {"image_mean": [0.1, 0.2, 0.3]},
    {"image_std": [0.1, 0.2, 0.3]},
    {"resample": 0},
    {"resample": 2},
    {"do_pad": True, "pad_size": {"height": 80, "width": 80}},
    {"crop_pct": 0.5},
    {"default_to_square": True},
    {"do_convert_rgb": False},
    {"data_format": "channels_first"},
    {"size": {"shortest_edge": 48, "longest_edge": 50}, "crop_size": 40},
    {"size": {"shortest_edge": 48}, "crop_size": {"height": 32, "width": 40}},
    {"size": {"height": 40, "width": 60, "shortest_edge": 40}},
    *({name: None} for name in ["do_resize", "do_rescale", "do_normalize", "do_center_crop", "size"]),
    *({name: None} for name in ["rescale_factor", "resample", "image_mean", "image_std", "crop_size"]),
]
NOT_READ = {"do_resize", "do_pad", "crop_pct", "do_center_crop", "size"}  # some of their values


@pytest.mark.parametrize("step", STEPS, ids=str)
@pytest.mark.parametrize("kind", RECIPES)
def test_pictures_are_prepared_as_asked_or_refused(
    kind: str, step: dict[str, Any], picture: np.ndarray, good: Path, tmp_path: Path
) -> None:
    recipe = RECIPES[kind] | step
    kind = kind.partition(",")[0]
    (tmp_path / "config.json").write_bytes((good / "vit" / "config.json").read_bytes())
    (tmp_path / "model.safetensors").symlink_to(good / "vit" / "model.safetensors")
    recipe["image_processor_type"] = f"{kind}ImageProcessor"
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(recipe))
    try:
        theirs = getattr(transformers, f"{kind}ImageProcessorPil").from_pretrained(tmp_path)
        expected = theirs(picture, return_tensors="pt")["pixel_values"]
    except ValueError:  # they refuse it
        expected = None
    try:
        preprocessing = wb.load_vit(tmp_path, device="cpu").preprocessing
    except wb.CheckpointError as error:
        assert "preprocessor_config.json cannot be used" in str(error)
        assert expected is None or step.keys() & NOT_READ
        return
    assert expected is not None
    close(prepare_image(picture, preprocessing), expected, 1e-4)


def test_other_processors_are_named(good: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((good / "vit" / "config.json").read_bytes())
    (tmp_path / "model.safetensors").symlink_to(good / "vit" / "model.safetensors")
    (tmp_path / "preprocessor_config.json").write_text('{"image_processor_type": "ConvNextImageProcessor"}')
    refuses(lambda: wb.load_vit(tmp_path), "an image processor ConvNext; known are ViT, DeiT, Bit, CLIP")


# --- timm ----------------------------------------------------------------------------------------


def write(folder: Path, change: Callable[[dict], None] = lambda tensors: None, **changes: Any) -> Path:
    tensors = timm_tensors({"cls_token": 1}, 1, {"head": 5})
    change(tensors)
    write_timm(folder, tensors, **changes)
    return folder


USUAL = {"num_heads": 4, "img_size": [32, 48]}
REFUSED = {
    "global_pool": "avg",
    "class_token": False,
    "pre_norm": True,
    "final_norm": False,
    "fc_norm": True,
    "qk_norm": True,
    "scale_attn_norm": True,
    "scale_mlp_norm": True,
    "pool_include_prefix": True,
    "dynamic_img_pad": True,
    "pos_embed": "none",
    "norm_layer": "rmsnorm",
    "block_fn": "ParallelScalingBlock",
    "mlp_layer": "swiglu",
    "attn_layer": "diff",
}


@pytest.mark.parametrize(("name", "value"), REFUSED.items(), ids=REFUSED)
def test_arguments_of_timm_that_are_not_read_here(name: str, value: Any, tmp_path: Path) -> None:
    write(tmp_path, model_args=USUAL | {name: value})
    refuses(lambda: wb.load_vit(tmp_path), rf"\({name} is {value!r} in model_args in config.json")


def test_each_refused_argument_of_timm_has_its_test() -> None:
    assert settings.TIMM_ARGUMENTS.only.keys() - REFUSED.keys() == {"embed_layer", "embed_norm_layer"}


@pytest.mark.parametrize("act_layer", ["gelu", "gelu_tanh", "quick_gelu", "relu"])
def test_activations_of_timm(act_layer: str, tmp_path: Path) -> None:
    """Beside the same weights under transformers' names."""
    ours = wb.load_vit(write(tmp_path, model_args=USUAL | {"act_layer": act_layer}), device="cpu")
    assert ours.config.hidden_act == {"gelu_tanh": "gelu_pytorch_tanh"}.get(act_layer, act_layer)
    with pytest.warns(UserWarning, match="cuts squares only"):
        wb.save_checkpoint(ours, tmp_path / "hf")
    theirs = transformers.ViTForImageClassification.from_pretrained(tmp_path / "hf").eval()
    pixels = torch.randn(2, 3, 32, 48)
    with torch.no_grad():
        close(ours.logits(ours(pixels)[-1]), theirs(pixels).logits)
    refuses(
        lambda: wb.load_vit(write(tmp_path, model_args=USUAL | {"act_layer": "mish"})),
        "activation 'mish' is unknown",
    )


def test_an_average_over_patches_is_refused_wherever_it_shows(tmp_path: Path) -> None:
    refuses(lambda: wb.load_vit(write(tmp_path, global_pool="avg")), "global_pool is 'avg' in config.json")
    pooled = lambda tensors: tensors.update({"fc_norm.weight": tensors.pop("norm.weight")})  # noqa: E731
    refuses(lambda: wb.load_vit(write(tmp_path, pooled)), "'fc_norm.weight': .* average over the patches")
    write(tmp_path, lambda tensors: tensors.pop("cls_token"))
    refuses(lambda: wb.load_vit(tmp_path), "without a class token")


def test_other_architectures_of_timm_are_no_vit(tmp_path: Path) -> None:
    def resnet(tensors: dict) -> None:
        tensors.clear()
        tensors.update({"conv1.weight": torch.ones(1), "layer1.0.bn1.bias": torch.ones(1)})

    refuses(
        lambda: wb.load_vit(write(tmp_path, resnet)), "is no ViT as timm writes it: .* it holds conv1.weight"
    )


def test_timm_s_weights_without_their_config(tmp_path: Path) -> None:
    (write(tmp_path) / "config.json").unlink()
    refuses(
        lambda: wb.load_vit(tmp_path / "model.safetensors"),
        "comes without its config.json, so .* beside it",
    )


def test_a_config_of_timm_that_is_all_in_one(tmp_path: Path) -> None:
    """As written before 2023."""
    vit = wb.load_vit(write(tmp_path), device="cpu")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | config.pop("pretrained_cfg")))
    assert wb.load_vit(tmp_path, device="cpu").preprocessing == vit.preprocessing


def test_names_of_timm_s_classes(tmp_path: Path) -> None:
    """`push_to_hf_hub(model_config=dict(label_names=...))` writes them into config.json itself."""
    names = ["a", "b", "c", "d", "e"]
    for label_names in (names, {str(index): name for index, name in enumerate(names)}):
        assert wb.load_vit(write(tmp_path, label_names=label_names), device="cpu").labels == tuple(names)
    write(tmp_path, label_names=names[:3])  # of another head
    with pytest.warns(UserWarning, match="is of other classes than its weights have, which are 5"):
        assert wb.load_vit(tmp_path, device="cpu").labels[0] == "class 0"


CLASSES = {str(index): name for index, name in enumerate("abc")}


@pytest.mark.parametrize(
    "changes",
    [
        {"id2label": {"0": "a", "1": "b"}},
        {"id2label": CLASSES | {"3": "d"}},
        {"id2label": CLASSES | {"1": None}},
        {"id2label": {f"LABEL_{index}": name for index, name in CLASSES.items()}},
        {"num_labels": 2},
        {"id2label": CLASSES, "num_labels": "3"},
        {"id2label": CLASSES, "num_labels": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["bert", "vit"])
def test_names_of_other_classes_are_warned_of(kind: str, changes: dict, tmp_path: Path) -> None:
    """transformers refuses most of them."""
    if kind == "bert":
        folder = saved(hf_bert("BertForTokenClassification", num_labels=3), tmp_path)
    else:
        folder = saved(hf_vit("ViTForImageClassification", num_labels=3), tmp_path)
    config = json.loads((folder / "config.json").read_text()) | {"id2label": {}} | changes
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.warns(UserWarning, match="is of other classes than its weights have, which are 3: "):
        model = (wb.load_bert if kind == "bert" else wb.load_vit)(folder, device="cpu")
    labels = model.heads["word"].labels if kind == "bert" else model.labels
    assert labels == (tuple("abc") if config["id2label"] == CLASSES else ("class 0", "class 1", "class 2"))


def test_each_class_has_a_name_of_its_own(tmp_path: Path) -> None:
    """ImageNet has two kinds of crane, which one could not tell apart."""
    folder = saved(hf_vit("ViTForImageClassification", num_labels=4), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    for names, called in (
        (["crane", "tea", "crane", " "], ("crane 0", "tea", "crane 2", "class 3")),
        (["a", "a", "a 1", "b"], ("a 0", "a 1", "a 1 2", "b 3")),
        (["b", " c", "LABEL_2", "d"], ("b", " c", "LABEL_2", "d")),
    ):
        config["id2label"] = dict(enumerate(names))
        (folder / "config.json").write_text(json.dumps(config))
        assert wb.load_vit(folder, device="cpu").labels == called
