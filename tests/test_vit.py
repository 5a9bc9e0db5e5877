"""ViT and DeiT beside transformers; timm's and Google's files beside plain mathematics."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from scipy import ndimage
from tiny import VIT_SIZES, close, hf_vit, saved
from torch import Tensor
from transformers import PreTrainedModel

import workbench as wb
from workbench.checkpoint import load_vit

FORMS = [
    "ViTModel",
    "ViTForImageClassification",
    "DeiTModel",
    "DeiTForImageClassification",
    "DeiTForImageClassificationWithTeacher",
]


def compare(
    ours: wb.ViT, theirs: PreTrainedModel, size: tuple[int, int] = (32, 48), tolerance: float = 1e-5
) -> None:
    """Hidden states, attention and logits on two pictures."""
    pixels = torch.randn(2, theirs.config.num_channels, *size).to(ours.device)
    with torch.no_grad():
        # transformers stretches the positions of a square only (and does so for another shape as well).
        expected = theirs(
            pixels,
            output_hidden_states=True,
            output_attentions=True,
            interpolate_pos_encoding=isinstance(theirs.config.image_size, int),
        )
        with wb.record_attention(ours) as attention:
            hidden_states = ours(pixels.to(ours.norm.weight.dtype))
    for ours_layer, theirs_layer in zip(hidden_states, expected.hidden_states, strict=True):
        close(ours_layer, theirs_layer, tolerance)
    assert len(attention) == len(expected.attentions)
    for layer, maps in enumerate(expected.attentions):
        close(attention[layer], maps, tolerance)
    with torch.no_grad():
        if "logits" in expected:
            close(ours.logits(hidden_states[-1]), expected.logits, tolerance)
        else:
            close(ours.norm(hidden_states[-1]), expected.last_hidden_state, tolerance)
            assert not ours.heads


@pytest.mark.parametrize("in_memory", [False, True], ids=["names on disk", "names in memory"])
@pytest.mark.parametrize("form", FORMS)
def test_each_form_agrees_with_transformers(form: str, in_memory: bool, tmp_path: Path) -> None:
    theirs = hf_vit(form, num_labels=7)
    file = saved(theirs, tmp_path) / "model.safetensors"
    names = set(load_file(file))
    if in_memory:
        save_file({name: tensor.clone() for name, tensor in theirs.state_dict().items()}, file)
    assert any("mlp.fc1" in name for name in load_file(file)) is in_memory
    assert any("encoder.layer" in name for name in names)
    compare(load_vit(tmp_path, device="cpu"), theirs)


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({"image_size": 40}, (40, 40)),
        ({"image_size": 40}, (32, 72)),
        ({"image_size": 48}, (72, 32)),
        ({"image_size": 40}, (8, 8)),
        ({"patch_size": 14, "image_size": (28, 42)}, (28, 42)),
        ({"patch_size": 14, "image_size": 42}, (56, 28)),
        ({"patch_size": 16, "image_size": 64}, (48, 80)),
        ({"patch_size": 32, "image_size": 96}, (96, 64)),
        ({"qkv_bias": False}, (32, 48)),
        ({"layer_norm_eps": 0.01}, (32, 48)),
        ({"hidden_act": "gelu_pytorch_tanh"}, (32, 48)),
        ({"num_channels": 1}, (32, 48)),
    ],
    ids=str,
)
@pytest.mark.parametrize("form", ["ViTForImageClassification", "DeiTForImageClassification"])
def test_other_settings_agree(form: str, changes: dict, size: tuple, tmp_path: Path) -> None:
    theirs = hf_vit(form, **changes)
    compare(load_vit(saved(theirs, tmp_path), device="cpu"), theirs, size)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-3), (torch.bfloat16, 0.1)])
def test_a_gpu_agrees(dtype: torch.dtype, tolerance: float, tmp_path: Path) -> None:
    """float32 to 1e-3 (convolutions may use TF32 in transformers); bfloat16 to 0.1 (8 bits of mantissa)."""
    theirs = hf_vit("ViTForImageClassification")
    ours = load_vit(saved(theirs, tmp_path), device="cuda", dtype=dtype)
    compare(ours, theirs.cuda(), tolerance=tolerance)


# --- timm and Google: the reference is written out here, from the arrays of the file ------------

LAYERS, HIDDEN, HEADS, WIDE, PATCH = 3, 36, 4, 37, 8


def noise(*shape: int) -> Tensor:
    return torch.randn(shape) * 0.2


def pre_norm_layers(x: Tensor, layers: list[dict[str, Any]], activation: str) -> tuple[list, list]:
    """ViT, equations 2 and 3, with einsum; (batch, tokens, hidden) -> states and attention of all layers."""
    states, maps = [x], []
    for layer in layers:
        normed = F.layer_norm(x, (HIDDEN,), *layer["norm1"], eps=1e-6)
        q, k, v = (
            torch.einsum("bth,hnd->bntd", normed, kernel) + bias[:, None] for kernel, bias in layer["qkv"]
        )
        attention = (torch.einsum("bnqd,bnkd->bnqk", q, k) / (HIDDEN // HEADS) ** 0.5).softmax(-1)
        kernel, bias = layer["out"]  # (heads, head size, hidden)
        x = x + layer["scale1"] * (torch.einsum("bnqk,bnkd,ndh->bqh", attention, v, kernel) + bias)
        normed = F.layer_norm(x, (HIDDEN,), *layer["norm2"], eps=1e-6)
        (kernel1, bias1), (kernel2, bias2) = layer["mlp"]
        wide = F.gelu(normed @ kernel1 + bias1, approximate=activation)
        x = x + layer["scale2"] * (wide @ kernel2 + bias2)
        states.append(x)
        maps.append(attention)
    return states, maps


def timm_tensors(prefix: dict[str, int], positions: int, heads: dict[str, int], **options: bool) -> dict:
    """A random checkpoint under timm's names; grid 4 x 6."""
    tensors = {name: noise(1, count, HIDDEN) for name, count in prefix.items()}
    tensors["pos_embed"] = noise(1, positions + 24, HIDDEN)
    tensors |= {
        "patch_embed.proj.weight": noise(HIDDEN, 3, PATCH, PATCH),
        "patch_embed.proj.bias": noise(HIDDEN),
    }
    tensors |= {"norm.weight": 1 + noise(HIDDEN), "norm.bias": noise(HIDDEN)}
    shapes = {
        "attn.qkv": (3 * HIDDEN, HIDDEN),
        "attn.proj": (HIDDEN, HIDDEN),
        "mlp.fc1": (WIDE, HIDDEN),
        "mlp.fc2": (HIDDEN, WIDE),
    }
    for index in range(LAYERS):
        for name, shape in shapes.items():
            tensors[f"blocks.{index}.{name}.weight"] = noise(*shape)
            tensors[f"blocks.{index}.{name}.bias"] = noise(shape[0])
        for name in ("norm1", "norm2"):
            tensors[f"blocks.{index}.{name}.weight"] = 1 + noise(HIDDEN)
            tensors[f"blocks.{index}.{name}.bias"] = noise(HIDDEN)
        if options.get("scale"):
            tensors |= {f"blocks.{index}.{name}.gamma": 1 + noise(HIDDEN) for name in ("ls1", "ls2")}
        if options.get("no_bias"):
            del tensors[f"blocks.{index}.attn.qkv.bias"]
    for name, classes in heads.items():
        tensors |= {f"{name}.weight": noise(classes, HIDDEN), f"{name}.bias": noise(classes)}
    return tensors


def timm_reference(
    tensors: dict, prefix: list[str], positions: int, pixels: Tensor
) -> tuple[list, list, list]:
    """States, attention and the logits of each head, as timm computes them."""
    patches = F.conv2d(pixels, tensors["patch_embed.proj.weight"], tensors["patch_embed.proj.bias"], PATCH)
    grid = patches.shape[-2:]
    table = tensors["pos_embed"][:, positions:].reshape(1, 4, 6, HIDDEN).permute(0, 3, 1, 2)
    if grid != (4, 6):
        table = F.interpolate(table, grid, mode="bicubic", antialias=True)
    patches = (patches + table).flatten(2).transpose(1, 2)
    tokens = torch.cat([tensors[name] for name in prefix], 1).clone()
    tokens[:, :positions] += tensors["pos_embed"][:, :positions]
    layers = []
    for index in range(LAYERS):
        part = {
            name[len(f"blocks.{index}.") :]: t for name, t in tensors.items() if f"blocks.{index}." in name
        }
        kernels = part["attn.qkv.weight"].reshape(3, HEADS, HIDDEN // HEADS, HIDDEN).permute(0, 3, 1, 2)
        biases = part.get("attn.qkv.bias", torch.zeros(3 * HIDDEN)).reshape(3, HEADS, HIDDEN // HEADS)
        out = part["attn.proj.weight"].T.reshape(HEADS, HIDDEN // HEADS, HIDDEN)
        layers.append(
            {
                "norm1": (part["norm1.weight"], part["norm1.bias"]),
                "norm2": (part["norm2.weight"], part["norm2.bias"]),
                "qkv": list(zip(kernels, biases, strict=True)),
                "out": (out, part["attn.proj.bias"]),
                "mlp": [(part[f"mlp.{name}.weight"].T, part[f"mlp.{name}.bias"]) for name in ("fc1", "fc2")],
                "scale1": part.get("ls1.gamma", torch.ones(HIDDEN)),
                "scale2": part.get("ls2.gamma", torch.ones(HIDDEN)),
            }
        )
    x = torch.cat([tokens.expand(len(pixels), -1, -1), patches], 1)
    states, maps = pre_norm_layers(x, layers, "none")
    final = F.layer_norm(states[-1], (HIDDEN,), tensors["norm.weight"], tensors["norm.bias"], eps=1e-6)
    heads = [name for name in ("head", "head_dist") if f"{name}.weight" in tensors]
    logits = [
        final[:, i] @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"] for i, name in enumerate(heads)
    ]
    return states, maps, logits


def write_timm(folder: Path, tensors: dict, **changes: Any) -> None:
    save_file(tensors, folder / "model.safetensors")
    config = {
        "architecture": "vit_tiny_patch8",
        "num_classes": 5,
        "num_features": HIDDEN,
        "model_args": {"num_heads": HEADS, "img_size": [32, 48]},
        "pretrained_cfg": {
            "input_size": [3, 32, 48],
            "interpolation": "bicubic",
            "crop_pct": 0.9,
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
        },
    }
    (folder / "config.json").write_text(json.dumps(config | changes))


TIMM = {  # prefix tokens, how many have a position, heads
    "ViT": ({"cls_token": 1}, 1, {"head": 5}, {}),
    "without qkv bias": ({"cls_token": 1}, 1, {"head": 5}, {"no_bias": True}),
    "DeiT distilled": ({"cls_token": 1, "dist_token": 1}, 2, {"head": 5, "head_dist": 5}, {}),
    "DINO": ({"cls_token": 1}, 1, {}, {}),
    "registers, position for all": ({"cls_token": 1, "reg_token": 4}, 5, {}, {}),
    "registers, position for class": ({"cls_token": 1, "reg_token": 4}, 1, {"head": 5}, {}),
    "registers, no positions, layer scale": ({"cls_token": 1, "reg_token": 4}, 0, {}, {"scale": True}),
    "layer scale": ({"cls_token": 1}, 1, {"head": 5}, {"scale": True}),
}


@pytest.mark.parametrize("size", [(32, 48), (48, 32), (16, 72)], ids=str)
@pytest.mark.parametrize("kind", TIMM)
def test_timm_files(kind: str, size: tuple[int, int], tmp_path: Path) -> None:
    prefix, positions, heads, options = TIMM[kind]
    tensors = timm_tensors(prefix, positions, heads, **options)
    write_timm(tmp_path, tensors)
    pixels = torch.randn(2, 3, *size)
    states, maps, logits = timm_reference(tensors, list(prefix), positions, pixels)
    vit = load_vit(tmp_path, device="cpu")
    with torch.no_grad(), wb.record_attention(vit) as attention:
        hidden_states = vit(pixels)
    for ours, theirs in zip(hidden_states, states, strict=True):
        close(ours, theirs)
    for layer, theirs in enumerate(maps):
        close(attention[layer], theirs)
    assert len(vit.heads) == len(heads)
    if heads:
        close(vit.logits(hidden_states[-1]), sum(logits) / len(logits))
    assert vit.config.num_prefix_tokens == sum(prefix.values())
    assert vit.preprocessing.resample == "bicubic"
    assert vit.preprocessing.crop_share == 0.9
    assert vit.preprocessing.mean == (0.485, 0.456, 0.406)


def test_a_timm_crop_is_saved_as_it_is(tmp_path: Path) -> None:
    """HF's layout tells sides in whole pixels, which another picture size would be cut by."""
    write_timm(tmp_path, timm_tensors({"cls_token": 1}, 1, {"head": 5}))
    vit = load_vit(tmp_path, device="cpu")
    with pytest.warns(UserWarning, match="transformers cuts squares only: it will show"):
        wb.save_checkpoint(vit, tmp_path / "again")
    assert load_vit(tmp_path / "again", device="cpu").preprocessing == vit.preprocessing


def test_a_timm_file_alone(tmp_path: Path) -> None:
    """Without config.json the sizes come from the tensors; 192 wide is known to have 3 heads, 36 is not."""
    tensors = timm_tensors({"cls_token": 1}, 1, {"head": 5})
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(wb.CheckpointError, match="does not say how many attention heads"):
        load_vit(tmp_path / "model.safetensors")


def npz_arrays(head: bool = True, pre_logits: bool = False) -> dict[str, np.ndarray]:
    """A random checkpoint as Google's Flax code writes it, grid 4 x 4."""

    def pair(*shape: int, bias: tuple = (), weight: str = "kernel") -> dict[str, Tensor]:
        return {weight: noise(*shape), "bias": noise(*(bias or shape[-1:]))}

    parts = {
        "embedding": pair(PATCH, PATCH, 3, HIDDEN),
        "Transformer/encoder_norm": pair(HIDDEN, weight="scale"),
    }
    size = HIDDEN // HEADS
    for index in range(LAYERS):
        block = f"Transformer/encoderblock_{index}"
        for name in ("LayerNorm_0", "LayerNorm_2"):
            parts[f"{block}/{name}"] = pair(HIDDEN, weight="scale")
        for name in ("query", "key", "value"):
            attention = f"{block}/MultiHeadDotProductAttention_1"
            parts[f"{attention}/{name}"] = pair(HIDDEN, HEADS, size, bias=(HEADS, size))
        parts[f"{attention}/out"] = pair(HEADS, size, HIDDEN)
        parts[f"{block}/MlpBlock_3/Dense_0"] = pair(HIDDEN, WIDE)
        parts[f"{block}/MlpBlock_3/Dense_1"] = pair(WIDE, HIDDEN)
    last = 29 if pre_logits else HIDDEN
    if pre_logits:
        parts["pre_logits"] = pair(HIDDEN, last)
    if head:
        parts["head"] = pair(last, 5)
    arrays = {f"{part}/{name}": t.numpy() for part, both in parts.items() for name, t in both.items()}
    for name in arrays:
        if name.endswith("scale"):
            arrays[name] = arrays[name] + 1
    arrays["cls"] = noise(1, 1, HIDDEN).numpy()
    arrays["Transformer/posembed_input/pos_embedding"] = noise(1, 17, HIDDEN).numpy()
    return arrays


def npz_reference(arrays: dict[str, np.ndarray], pixels: Tensor) -> tuple[list, list, Tensor]:
    """As google-research/vision_transformer computes it: tanh GELU, eps 1e-6, order-1 zoom of positions."""
    get = {name: torch.from_numpy(array) for name, array in arrays.items()}
    rows, columns = pixels.shape[2] // PATCH, pixels.shape[3] // PATCH
    table = arrays["Transformer/posembed_input/pos_embedding"]
    grid = table[0, 1:].reshape(4, 4, HIDDEN)
    grid = ndimage.zoom(grid, (rows / 4, columns / 4, 1), order=1).reshape(1, -1, HIDDEN)
    positions = torch.from_numpy(np.concatenate([table[:, :1], grid], axis=1))
    cut = pixels.unfold(2, PATCH, PATCH).unfold(3, PATCH, PATCH)  # (batch, channel, row, column, y, x)
    patches = torch.einsum("bcrsyx,yxch->brsh", cut, get["embedding/kernel"]) + get["embedding/bias"]
    x = torch.cat([get["cls"].expand(len(pixels), -1, -1), patches.flatten(1, 2)], 1) + positions
    layers = []
    for index in range(LAYERS):
        block = f"Transformer/encoderblock_{index}"

        def both(name: str, weight: str = "kernel", block: str = block) -> tuple[Tensor, Tensor]:
            return get[f"{block}/{name}/{weight}"], get[f"{block}/{name}/bias"]

        attention = "MultiHeadDotProductAttention_1"
        layers.append(
            {
                "norm1": both("LayerNorm_0", "scale"),
                "norm2": both("LayerNorm_2", "scale"),
                "qkv": [both(f"{attention}/{name}") for name in ("query", "key", "value")],
                "out": both(f"{attention}/out"),
                "mlp": [both("MlpBlock_3/Dense_0"), both("MlpBlock_3/Dense_1")],
                "scale1": 1,
                "scale2": 1,
            }
        )
    states, maps = pre_norm_layers(x, layers, "tanh")
    norm = "Transformer/encoder_norm"
    final = F.layer_norm(states[-1], (HIDDEN,), get[f"{norm}/scale"], get[f"{norm}/bias"], eps=1e-6)[:, 0]
    if "pre_logits/kernel" in get:
        final = (final @ get["pre_logits/kernel"] + get["pre_logits/bias"]).tanh()
    if "head/kernel" in get:
        final = final @ get["head/kernel"] + get["head/bias"]
    return states, maps, final


@pytest.mark.parametrize("size", [(32, 32), (48, 24), (16, 72)], ids=str)
@pytest.mark.parametrize(("head", "pre_logits"), [(True, False), (True, True), (False, False)])
def test_google_files(head: bool, pre_logits: bool, size: tuple[int, int], tmp_path: Path) -> None:
    arrays = npz_arrays(head, pre_logits)
    np.savez(tmp_path / "ViT.npz", **arrays)
    pixels = torch.randn(2, 3, *size)
    states, maps, final = npz_reference(arrays, pixels)
    vit = load_vit(tmp_path / "ViT.npz", device="cpu")
    with torch.no_grad(), wb.record_attention(vit) as attention:
        hidden_states = vit(pixels)
    for ours, theirs in zip(hidden_states, states, strict=True):
        close(ours, theirs)
    for layer, theirs in enumerate(maps):
        close(attention[layer], theirs)
    if head:
        close(vit.logits(hidden_states[-1]), final)
    else:
        close(vit.norm(hidden_states[-1])[:, 0], final)
        with pytest.raises(ValueError, match="no head for classes"):
            vit.logits(hidden_states[-1])


# --- parts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("patch", "grid"), [(1, (3, 2)), (4, (2, 5)), (16, (1, 3))])
def test_patches_are_those_of_a_convolution(patch: int, grid: tuple[int, int]) -> None:
    pixels = torch.randn(2, 3, grid[0] * patch, grid[1] * patch)
    kernel = torch.randn(11, 3, patch, patch)
    patches = wb.split_patches(pixels, patch)
    assert patches.shape == (2, grid[0] * grid[1], 3 * patch * patch)
    wanted = F.conv2d(pixels.double(), kernel.double(), stride=patch).flatten(2).transpose(1, 2)
    close(patches.double() @ kernel.flatten(1).T.double(), wanted)
    assert torch.equal(wb.join_patches(patches, grid, patch), pixels)


@pytest.mark.parametrize("size", [(30, 32), (32, 31), (0, 32)])
def test_odd_sides_are_one_sentence(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="cannot be cut into patches of 16 x 16"):
        wb.split_patches(torch.zeros(1, 3, *size), 16)


@pytest.mark.parametrize(
    "changes",
    [
        {"patch_size": 64},
        {"patch_size": 0},
        {"num_prefix_positions": 2},
        {"position_interpolation": "magic"},
        {"num_prefix_tokens": -1},
    ],
    ids=str,
)
def test_sizes_that_do_not_fit_are_one_sentence(changes: dict) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+\.$"):
        wb.ViTConfig(**VIT_SIZES | changes)


def test_parameters_of_the_papers_models() -> None:
    """ViT-Ti, -S and -B at 224 pixels with 1000 classes, as published."""
    counts = {192: 5_717_416, 384: 22_050_664, 768: 86_567_656}
    for hidden, count in counts.items():
        config = wb.ViTConfig(
            hidden_size=hidden, num_attention_heads=hidden // 64, intermediate_size=4 * hidden
        )
        with torch.device("meta"):
            vit = wb.ViT(config, labels=[str(index) for index in range(1000)])
        assert sum(parameter.numel() for parameter in vit.parameters()) == count
