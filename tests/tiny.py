"""Tiny models of transformers and ours, random in every weight: a zero bias or a norm of one hides errors."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
import transformers

import workbench as wb
from workbench.image import Preprocessing
from workbench.text import Tokenizer
from workbench.vit import ViT, ViTConfig

transformers.logging.disable_progress_bar()

# 99 word pieces, so that no size equals another: specials, punctuation, letters, pieces, words.
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]
WORDS = ["the", "cat", "sat", "on", "mat", "a", "dog", "ran", "cafe", "tea", "she", "drank", "was", "red"]
WORDS = [word for word in WORDS if word not in LETTERS] + ["中", "שלום", "Cat", "Tea"]
VOCABULARY = [*SPECIAL, *".,!?'<>/[]", *LETTERS, *(f"##{letter}" for letter in LETTERS), *WORDS]
VOCABULARY += [f"word{index}" for index in range(99 - len(VOCABULARY))]

BERT_SIZES = dict(
    vocab_size=99,
    hidden_size=36,
    num_hidden_layers=5,
    num_attention_heads=4,
    intermediate_size=37,
    max_position_embeddings=40,
    type_vocab_size=2,
)
VIT_SIZES = dict(
    hidden_size=36,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=37,
    image_size=(32, 48),
    patch_size=8,
)


def randomize(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Random numbers in every parameter, norms around one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            inputs = parameter[0].numel()  # of one output: sums stay of a size that float32 adds up well
            noise = torch.randn(parameter.shape, generator=generator) * min(0.2, inputs**-0.5)
            is_norm_scale = "norm" in name.lower() and name.endswith("weight")
            parameter.copy_(noise + 1 if is_norm_scale else noise)
    return model.eval()


def hf_bert(form: str, **changes: Any) -> transformers.PreTrainedModel:
    """A BERT of transformers, such as `hf_bert("BertForMaskedLM", hidden_act="relu")`."""
    config = transformers.BertConfig(**BERT_SIZES | changes, attn_implementation="eager")
    return randomize(getattr(transformers, form)(config))


def hf_vit(form: str, **changes: Any) -> transformers.PreTrainedModel:
    """A ViT or DeiT of transformers."""
    kind = transformers.DeiTConfig if form.startswith("DeiT") else transformers.ViTConfig
    config = kind(**VIT_SIZES | changes, attn_implementation="eager")
    return randomize(getattr(transformers, form)(config))


def hf_distilbert(form: str, **changes: Any) -> transformers.PreTrainedModel:
    """A DistilBERT of transformers."""
    sizes = dict(vocab_size=99, dim=36, n_layers=5, n_heads=4, hidden_dim=37, max_position_embeddings=40)
    config = transformers.DistilBertConfig(**sizes | changes, attn_implementation="eager")
    return randomize(getattr(transformers, form)(config))


def hf_dinov2(form: str, **changes: Any) -> transformers.PreTrainedModel:
    """A DINOv2 of transformers, with or without registers."""
    kind = "Dinov2WithRegisters" if form.startswith("Dinov2With") else "Dinov2"
    sizes = dict(hidden_size=36, num_hidden_layers=3, num_attention_heads=4, mlp_ratio=2)
    sizes |= dict(image_size=56, patch_size=14)
    config = getattr(transformers, f"{kind}Config")(**sizes | changes, attn_implementation="eager")
    return randomize(getattr(transformers, form)(config))


def write_vocabulary(folder: Path, words: list[str] = VOCABULARY) -> None:
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in words), encoding="utf-8")


def saved(model: transformers.PreTrainedModel, folder: Path, **options: Any) -> Path:
    """Saved as transformers does, with a vocabulary if it is a BERT."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder, **options)
    if isinstance(model.config, transformers.BertConfig | transformers.DistilBertConfig):
        write_vocabulary(folder)
    return folder


def close(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float = 1e-5) -> None:
    """Equal to `tolerance`, absolute and relative."""
    torch.testing.assert_close(ours.float().cpu(), theirs.float().cpu(), atol=tolerance, rtol=tolerance)


def refuses(action: Callable[[], Any], message: str, kind: type[Exception] = wb.CheckpointError) -> None:
    """One sentence, on one line, without the source's own errors as a type name or a traceback."""
    with pytest.raises(kind, match=message) as caught:
        action()
    text = str(caught.value)
    assert issubclass(caught.type, ValueError) or kind is OSError
    assert "\n" not in text.strip() and "Traceback" not in text and ".py" not in text and len(text) < 400, (
        text
    )
    assert text.endswith("."), text


HEADS = {  # name -> kind, labels
    "mlm": ("mlm", ()),
    "nsp": ("sentence", ("is next", "not next")),
    "span": ("span", ()),
    "sentiment": ("sentence", ("bad", "so-so", "good")),
    "pos": ("word", ("noun", "verb", "adjective", "other")),
}


def our_bert(*heads: str, pooler: bool = True, **changes: Any) -> wb.Bert:
    bert = wb.Bert(wb.BertConfig(**BERT_SIZES | changes), pooler=pooler)
    bert.tokenizer = Tokenizer.from_words(VOCABULARY)
    for head in heads:
        bert.add_head(head, *HEADS[head])
    return randomize(bert)


def our_vit(distilled: bool = False, labels: str = "abcde", heads: int = 1, **changes: Any) -> wb.ViT:
    prefix = 2 if distilled else 1
    sizes = VIT_SIZES | dict(num_prefix_tokens=prefix, num_prefix_positions=prefix, num_head_tokens=heads)
    config = wb.ViTConfig(**sizes | changes)
    half = (0.5,) * config.num_channels
    preprocessing = Preprocessing(config.image_size, resample="bicubic", mean=half, std=half)
    return randomize(wb.ViT(config, list(labels), preprocessing))


def same_model(first: wb.Bert | wb.ViT, second: wb.Bert | wb.ViT) -> None:
    one, two = first.state_dict(), second.state_dict()
    assert list(one) == list(two)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert first.config == second.config


def sentence_bert() -> wb.Bert:
    """A BERT of ours with heads for sentences and words, random but large enough that classes differ."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "dog", "sat", "ran", "not", ".", ","]
    words += ["play", "##play", "##ful", "##ing", "un", *"abcdefghijklmnopqrstuvwxyz"]
    sizes = dict(hidden_size=24, num_attention_heads=3, num_hidden_layers=2, intermediate_size=20)
    config = wb.BertConfig(vocab_size=len(words), max_position_embeddings=40, **sizes)
    bert = wb.Bert(config, tokenizer=Tokenizer.from_words(words))
    bert.add_head("sentiment", "sentence", ["negative", "neutral", "positive"])
    bert.add_head("nsp", "sentence", ["yes", "no"])
    bert.add_head("pos", "word", ["NOUN", "VERB", "DET", "PUNCT"])
    with torch.no_grad():
        for parameter in bert.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.5)
    return bert.eval()


def patch_vit() -> ViT:
    """A ViT of ours: 4 x 6 patches of 8 pixels, two prefix tokens of which one has a position, random."""
    torch.manual_seed(0)
    config = ViTConfig(**VIT_SIZES, num_prefix_tokens=2)
    vit = ViT(config, ["cat", "dog", "cup"], Preprocessing(size=(32, 48), mean=(0.4,) * 3)).eval()
    with torch.no_grad():
        for parameter in vit.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return vit


def attends(model: wb.Bert | ViT, tokens: int, seed: int = 0) -> torch.Tensor:
    """From now on this is all its attention, (layers, heads, query, key): made by hand, no two alike."""
    sizes = model.config.num_hidden_layers, model.config.num_attention_heads, tokens, tokens
    maps = torch.randn(sizes, generator=torch.Generator().manual_seed(seed)).mul(1.5).softmax(-1)
    for layer, own in zip(model.encoder.layers, maps, strict=True):
        layer.attention.watchers.append(lambda _, own=own: own[None])
    return maps
