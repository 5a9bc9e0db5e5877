"""Models in float32, float64, float16 and bfloat16, on the CPU and on a GPU: all tasks, all numbers about
attention, all reasons and all widgets answer, with ordinary numbers near those of float32."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tiny import our_bert, our_vit

import workbench as wb
from workbench import attention, explain, patches, widgets
from workbench.plots import StillFigure
from workbench.tasks import mask_guesses

BERT, VIT = our_bert("mlm", "nsp", "span", "sentiment", "pos"), our_vit()
STEP = "probability"
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-4, torch.float16: 0.01, torch.bfloat16: 0.08}
FIRST, SECOND = "the cat sat on a mat.", "a red dog ran, catxy!"
PICTURE = np.random.default_rng(0).integers(0, 255, (32, 48, 3), "uint8")
PIXELS = wb.prepare_image(PICTURE, VIT.preprocessing)
ENCODING = BERT.tokenizer.encode(FIRST, SECOND)

on_gpu = pytest.param(
    "cuda",
    marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")],
)
each_device = pytest.mark.parametrize("device", ["cpu", on_gpu])
each_dtype = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)


def recorded(model: Any) -> tuple[list[torch.Tensor], tuple[torch.Tensor, ...]]:
    inputs = ENCODING.tensors(model.device) if isinstance(model, wb.Bert) else {"pixel_values": to(model)}
    with torch.no_grad(), wb.record_attention(model) as maps:
        states = model(**inputs)
    return [maps[layer] for layer in sorted(maps)], states


def to(vit: Any) -> torch.Tensor:
    return PIXELS.to(vit.device)


def without(model: Any, **options: Any) -> torch.Tensor:
    with wb.ablate(model, **options):
        return recorded(model)[1][-1]


def answers_of(bert: Any, copies: int) -> torch.Tensor:
    inputs = {name: ids.expand(copies, -1) for name, ids in ENCODING.tensors(bert.device).items()}
    return bert.answers("sentiment", bert(**inputs)[-1])[:, 1]


TEXTS: dict[str, Callable] = {
    "fill_mask": lambda bert: [one.probability for one in wb.fill_mask(bert, FIRST, masks=[(4, 11)])],
    "next_sentence": lambda bert: [wb.next_sentence(bert, FIRST, SECOND).is_next],
    "classify_sentence": lambda bert: [one.probability for one in wb.classify_sentence(bert, FIRST)],
    "classify_pair": lambda bert: [
        one.probability for one in wb.classify_pair(bert, FIRST, SECOND, "sentiment")
    ],
    "tag_words": lambda bert: [tag.probability for tag in wb.tag_words(bert, SECOND)],
    "answer_question": lambda bert: [wb.answer_question(bert, FIRST, SECOND).no_answer],
    "starts": lambda bert: wb.answer_question(bert, FIRST, SECOND).start_probabilities,
    "embed": lambda bert: wb.embed(bert, FIRST),
    "mask_guesses": lambda bert: [
        mask_guesses(bert, ENCODING, recorded(bert)[1][-1], 1, [2])[0].candidates[0].probability
    ],
    "head_answers": lambda bert: explain.head_answers(bert, "sentiment", ENCODING, [(), (1,)]),
    "leave_one_out": lambda bert: explain.leave_one_out(bert, "sentiment", ENCODING, 0, [1, 2]),
    "gradient_relevance": lambda bert: explain.gradient_relevance(bert, "sentiment", ENCODING, 0),
    "embedding_steps": lambda bert: patches.embedding_steps(bert, 2, **ENCODING.tensors(bert.device))["sum"],
    "last step of a head": lambda bert: patches.linear_steps(bert, recorded(bert)[1][-1], "pos")["vector"],
    "word_vectors": lambda bert: patches.word_vectors(bert, [FIRST, "the cat"], "cat"),
    "head_effects": lambda bert: torch.stack(
        [effect for _, effect in attention.head_effects(bert, lambda copies: answers_of(bert, copies))]
    ),
    "habits": lambda bert: torch.stack(
        [*attention.attention_patterns(recorded(bert)[0][0], [t.text for t in ENCODING.tokens]).values()]
    ),
    "between": lambda bert: attention.attention_between(recorded(bert)[0][1][0], ENCODING),
    "words": lambda bert: attention.sum_over_words(recorded(bert)[0][1], ENCODING.word_numbers),
}  # fmt: skip
PICTURES: dict[str, Callable] = {
    "classify_image": lambda vit: [one.probability for one in wb.classify_image(vit, PICTURE)],
    "other size": lambda vit: [one.probability for one in wb.classify_image(vit, PICTURE, size=(40, 24))],
    "hide_patches": lambda vit: explain.hide_patches(vit, to(vit), torch.arange(24)[None] < 5),
    "deletion": lambda vit: explain.delete_and_insert(
        vit, to(vit), torch.arange(24.0), 1, steps=3, random_orders=1
    ).deletion,
    "last step of a ViT's head": lambda vit: patches.linear_steps(vit, recorded(vit)[1][-1])["vector"],
    "projection_steps": lambda vit: patches.projection_steps(vit, to(vit), 3)["token"],
    "position_similarity": lambda vit: patches.position_similarity(vit),
    "filter_components": lambda vit: patches.filter_components(vit, 1).abs(),
    "rearranged": lambda vit: vit.encoder(*patches.rearranged(vit, to(vit), [3], None, "place"))[-1],
    "class_by_layer": lambda vit: patches.class_by_layer(vit, recorded(vit)[1]),
    "relevance": lambda vit: wb.attention_relevance(
        vit, lambda: vit.logits(vit(to(vit))[-1])[:, 2]),
    "distance": lambda vit: wb.attention_distance(recorded(vit)[0][1], grid=(4, 6)) / 10,
    "patch_colors": lambda vit: patches.patch_colors(vit, to(vit)),
    "similarity": lambda vit: patches.similarity(recorded(vit)[1][-1][0]),
}  # fmt: skip
BOTH: dict[str, Callable] = {
    "record": lambda model: torch.stack(recorded(model)[0]),
    "rollout": lambda model: wb.attention_rollout(recorded(model)[0], discard_ratio=0.3, head_fusion="max"),
    "rollout of halves": lambda model: wb.attention_rollout([m.to(model.dtype) for m in recorded(model)[0]]),
    "entropy": lambda model: wb.attention_entropy(recorded(model)[0][0]),
    "received": lambda model: attention.received_attention(torch.stack(recorded(model)[0])),
    "ablate": lambda model: without(model, heads={(0, 1)}, edges={(1, 2, 3, 4)}),
    "weight_steps": lambda model: attention.weight_steps(model, recorded(model)[1][1], 1, 2, 3, 4)[STEP],
    "fetched": lambda model: attention.fetched_vectors(model, recorded(model)[1][1], 1, 2)["added"],
    "the same weight": lambda model: recorded(model)[0][1][0, 2, 3, 4],
    "mass_mask": lambda model: wb.mass_mask(recorded(model)[0][0], 0.5).float().mean((-1, -2)) / 4,
    "outliers": lambda model: attention.outlier_patches(recorded(model)[1][-1][0].norm(dim=-1), 100).float(),
    "flat": lambda model: patches.principal_components(recorded(model)[1][-1][0]).norm(dim=0),
}  # fmt: skip
MODELS: dict[tuple, Any] = {}


def model_of(kind: Any, dtype: torch.dtype, device: str) -> Any:
    if (kind, dtype, device) not in MODELS:
        model = copy.deepcopy(kind).to(device, dtype)
        model.dtype = dtype
        MODELS[kind, dtype, device] = model
    return MODELS[kind, dtype, device]


def numbers(found: Any) -> torch.Tensor:
    return torch.as_tensor(found).detach().float().cpu()


@each_device
@each_dtype
@pytest.mark.parametrize("what", [*TEXTS, *PICTURES, *BOTH])
def test_numbers_are_near_those_of_float32(what: str, dtype: torch.dtype, device: str) -> None:
    call = (TEXTS | PICTURES | BOTH)[what]
    for kind in (BERT, VIT) if what in BOTH else (BERT,) if what in TEXTS else (VIT,):
        wanted = numbers(call(model_of(kind, torch.float32, "cpu")))
        found = numbers(call(model_of(kind, dtype, device)))
        assert found.isfinite().all() and found.shape == wanted.shape
        scale = max(1.0, float(wanted.abs().max()))
        assert float((found - wanted).abs().max()) < TOLERANCE[dtype] * scale


@each_device
@each_dtype
def test_rows_sum_to_one(dtype: torch.dtype, device: str) -> None:
    for kind in (BERT, VIT):
        model = model_of(kind, dtype, device)
        for maps in (torch.stack(recorded(model)[0]), BOTH["rollout of halves"](model)):
            assert maps.dtype == torch.float32 or dtype == torch.float64
            torch.testing.assert_close(maps.sum(-1), torch.ones_like(maps[..., 0]), atol=1e-5, rtol=0)
        steps = BOTH["weight_steps"](model)
        assert abs(numbers(steps) - numbers(BOTH["the same weight"](model))) < 1e-5


WIDGETS: dict[str, tuple[Any, Callable]] = {
    "MaskedFilling": (BERT, lambda bert: widgets.MaskedFilling(bert, FIRST, masked=[(4, 7)], hide="left")),
    "NextSentence": (BERT, lambda bert: widgets.NextSentence(bert, FIRST, SECOND, cls_at="end")),
    "SentenceClassifier": (BERT, lambda bert: widgets.SentenceClassifier(bert, FIRST, hidden=[(4, 7)])),
    "TokenTagger": (BERT, lambda bert: widgets.TokenTagger(bert, SECOND, pinned=5)),
    "SentencePair": (BERT, lambda bert: widgets.SentencePair(bert, FIRST, SECOND, "sentiment")),
    "SpanExtraction": (BERT, lambda bert: widgets.SpanExtraction(bert, FIRST, SECOND)),
    "AttentionExplorer": (
        BERT,
        lambda bert: widgets.AttentionExplorer(bert, FIRST, SECOND, off=[(0, 0)], mass=0.5, query=1, key=2),
    ),
    "AttentionExplorer of patches": (
        VIT,
        lambda vit: widgets.AttentionExplorer(vit, image=PICTURE, off=[(0, 0)], mass=0.5, query=1, key=2),
    ),
    "PatchSplitter": (VIT, lambda vit: widgets.PatchSplitter(vit, PICTURE, keep_shape=True, side=64)),
    "PatchHiding": (VIT, lambda vit: widgets.PatchHiding(vit, PICTURE, hidden=[2, 3], positions="place")),
    "PatchAttention": (VIT, lambda vit: widgets.PatchAttention(vit, PICTURE, method="relevance", mass=0.5)),
}


NO_FLOATS = [("SpanExtraction", "vectors"), ("PatchSplitter", "matrix")]  # traits of that name elsewhere are


@each_device
@each_dtype
@pytest.mark.parametrize("name", WIDGETS)
def test_widgets_answer(name: str, dtype: torch.dtype, device: str) -> None:
    kind, make = WIDGETS[name]
    widget, wanted = make(model_of(kind, dtype, device)), make(model_of(kind, torch.float32, "cpu"))
    for action in ("explain", "try_all_heads", "test_map"):
        if hasattr(widget, action):
            getattr(widget, action)()
    for stage in widget._stages:
        widget.stage = stage
        assert widget.error == "", stage
    widget.stage = ""
    assert widget.error == "" and isinstance(widget.figure(), StillFigure)
    for trait in ("weights", "between", "bars", "joint", "matrix", "distances", "vectors", "logits"):
        value = getattr(widget, trait, b"")
        if isinstance(value, bytes) and value and (name, trait) not in NO_FLOATS:
            both = (value, getattr(wanted, trait))
            found, right = (np.frombuffer(data, np.float16).astype(float) for data in both)
            scale = max(1.0, np.abs(right).max())
            np.testing.assert_allclose(found, right, rtol=0, atol=(TOLERANCE[dtype] + 1e-3) * scale)
