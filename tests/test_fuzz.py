"""Whatever comes in, a result or a sentence comes out, and the model is as it was.

A few hundred examples by default, the same each time; `pytest tests/test_fuzz.py --fuzz 10000` tries so many
others in each test.
"""

import functools
import io
import json
import linecache
import math
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import traitlets
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from tiny import hf_bert, hf_vit, our_bert, our_vit, saved

import workbench as wb
from workbench import tasks
from workbench.attention import ablate, attention_rollout, record_attention
from workbench.bert import Bert
from workbench.encoder import MODEL_LOCK
from workbench.image import RESAMPLE, Preprocessing, load_image, prepare_image
from workbench.vit import ViT
from workbench.widgets import (
    AttentionExplorer,
    FineTuning,
    MaskedFilling,
    NextSentence,
    PatchAttention,
    PatchHiding,
    PatchSplitter,
    SentenceClassifier,
    SentencePair,
    SpanExtraction,
    TokenTagger,
)
from workbench.widgets.base import FOLDER

PACKAGE = str(Path(wb.__file__).parent)

# --- what has to hold ----------------------------------------------------------------------------


def is_sentence(text: str) -> bool:
    return text.endswith(".") and "\n" not in text and "Traceback" not in text and len(text) < 1000


def outcome(action: Callable[[], Any]) -> Any:
    """The result, or None after an error of the package's own, in a sentence; nothing else may come out."""
    before = torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_dtype()
    result = None
    try:
        result = action()
    except (ValueError, TypeError, OSError) as error:
        trace = error.__traceback__
        while trace.tb_next:
            trace = trace.tb_next
        file, line = trace.tb_frame.f_code.co_filename, trace.tb_lineno
        raised = linecache.getline(file, line).strip()
        if not (file.startswith(PACKAGE) and raised.startswith("raise ") and is_sentence(str(error))):
            raise AssertionError(f"no sentence of ours: {error!r}") from error
    assert before == (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_dtype())
    return result


def check_untouched(model: Bert | ViT) -> None:
    """No watcher, hook, gradient or training mode is left behind, and nobody holds the lock."""
    assert not MODEL_LOCK._is_owned()
    assert not any(layer.attention.watchers for layer in model.encoder.layers)
    for module in model.modules():
        assert not module.training and not module._forward_hooks and not module._forward_pre_hooks
        assert not module._backward_hooks and not module._backward_pre_hooks
    assert all(p.grad is None and p.requires_grad and bool(p.isfinite().all()) for p in model.parameters())


def check_probabilities(values: Any, whole: bool = False) -> None:
    values = torch.as_tensor(values).double()
    assert bool(((values >= 0) & (values <= 1 + 1e-6)).all()), values
    total = float(values.sum())
    assert not whole or math.isclose(total, 1, abs_tol=1e-3), total


def check_answers(found: list, problem_type: str, whole: bool = True) -> None:
    """Candidates of all classes, best first, or finite numbers."""
    if problem_type == "regression":
        assert all(math.isfinite(number.value) for number in found)
        return
    probabilities = [candidate.probability for candidate in found]
    check_probabilities(probabilities, whole and problem_type != "multi_label_classification")
    assert probabilities == sorted(probabilities, reverse=True)


# --- what is tried -------------------------------------------------------------------------------

ODD = st.sampled_from(
    [None, True, -1, 0, 2.5, math.nan, math.inf, 10**9, -(10**20), "", "3", b"x", [], {}, [[]], object()]
)
FRAGMENTS = st.sampled_from(
    [
        "[MASK]",
        "[CLS]",
        "[SEP]",
        "[PAD]",
        "[UNK]",
        "[mask]",
        "the",
        "cat",
        "Cat",
        "ran",
        "##s",
        " ",
        "\n",
        "\t",
    ]
    + [
        ".",
        ",",
        "?",
        "'",
        "[",
        "]",
        "中",
        "中文",
        "שלום",
        "한국",
        "e\u0301",
        "\u0301",
        "İ",
        "ß",
        "ﬁ",
        "٣",
        "\0",
    ]
    + [
        "\u200b",
        "\ufeff",
        "\u2028",
        "👩‍👩‍👧",
        "\ud800",
        "<b>",
        "$x_1$",
        "word7",
        "x" * 120,
        "the cat sat " * 12,
    ]
)
TEXT = st.one_of(st.text(max_size=60), st.lists(FRAGMENTS, max_size=12).map("".join), FRAGMENTS | ODD)
COUNT = st.integers(-3, 200) | ODD
NUMBER = st.integers(-50, 50)
SPANS = st.lists(st.tuples(NUMBER, NUMBER), max_size=4) | ODD
HEAD = st.sampled_from([None, "sentiment", "pos", "mlm", "nsp", "span", "none"]) | ODD


@functools.cache
def bert_of(kind: str) -> Bert:
    """With heads of every kind, whose classes are read in one of three ways."""
    changes = {"type_vocab_size": 1} if kind == "one segment" else {}
    bert = our_bert("mlm", "nsp", "span", "sentiment", "pos", **changes)
    if kind in ("regression", "multi_label_classification"):
        for name in ("sentiment", "pos"):
            bert.heads[name].problem_type = kind
    return bert


@functools.cache
def vit_of(kind: str) -> ViT:
    vit = our_vit(num_channels=1) if kind == "grey" else our_vit(distilled=kind == "two tokens")
    if kind in ("regression", "multi_label_classification"):
        vit.problem_type = kind
    return vit


KINDS = ["usual", "regression", "multi_label_classification"]
BERTS = st.sampled_from([*KINDS, "one segment"]).map(bert_of)
VITS = st.sampled_from([*KINDS, "grey", "two tokens"]).map(vit_of)


# --- tasks ---------------------------------------------------------------------------------------


@given(BERTS, TEXT, COUNT, SPANS)
def test_masked_words(bert: Bert, text: Any, top_k: Any, masks: Any) -> None:
    found = outcome(lambda: tasks.fill_mask(bert, text, top_k, masks=masks)) or []
    assert [guess.position for guess in found] == sorted({guess.position for guess in found})
    for guess in found:
        assert 0 <= guess.start < guess.end <= len(text) and len(guess.candidates) == min(top_k, 99)
        check_answers(guess.candidates, "", whole=top_k >= 99)
    check_untouched(bert)


@given(BERTS, TEXT, TEXT, HEAD)
def test_classes_of_texts(bert: Bert, first: Any, second: Any, head: Any) -> None:
    follows = outcome(lambda: tasks.next_sentence(bert, first, second))
    check_probabilities([follows.is_next] if follows else [])
    for action in (
        lambda: tasks.classify_sentence(bert, first, head),
        lambda: tasks.classify_pair(bert, first, second, head),
    ):
        if found := outcome(action):
            name = head if head in ("sentiment", "nsp") else "sentiment"
            assert {each.label for each in found} == set(bert.heads[name].labels)
            check_answers(found, bert.heads[name].problem_type)
    vectors = outcome(lambda: tasks.embed(bert, first))
    assert vectors is None or (vectors.shape[1] == 36 and bool(vectors.isfinite().all()))
    check_untouched(bert)


@given(BERTS, TEXT, HEAD)
def test_classes_of_words(bert: Bert, text: Any, head: Any) -> None:
    end = 0
    for tag in outcome(lambda: tasks.tag_words(bert, text, head)) or []:
        assert text[tag.start : tag.end] == tag.word and end <= tag.start < tag.end
        end = tag.end
        if bert.heads["pos"].problem_type == "regression":
            check_answers(tag.numbers, "regression")
        else:
            check_probabilities([tag.probability])
    check_untouched(bert)


@given(BERTS, TEXT, TEXT, COUNT, COUNT)
def test_answers(bert: Bert, question: Any, passage: Any, top_k: Any, longest: Any) -> None:
    found = outcome(lambda: tasks.answer_question(bert, question, passage, top_k, longest=longest))
    if found:
        assert 1 <= len(found.answers) <= max(1, top_k)
        for answer in found.answers:
            assert passage[answer.start : answer.end] == answer.text and answer.start < answer.end
        check_answers(found.answers, "", whole=False)
        check_probabilities([found.no_answer])
        for part in (found.start_probabilities, found.end_probabilities):
            check_probabilities(part)
            assert len(part) == len(found.tokens) and part.sum() <= 1 + 1e-4
    check_untouched(bert)


@given(
    BERTS,
    st.none() | st.lists(st.integers(-1, 6) | ODD, max_size=4),
    st.lists(st.tuples(st.integers(-1, 5), st.integers(-1, 4)) | ODD, max_size=3),
    st.lists(st.tuples(*[st.integers(-1, 6)] * 4) | ODD, max_size=3),
    st.floats() | ODD,
)
def test_attention(bert: Bert, layers: Any, heads: Any, edges: Any, discard: Any) -> None:
    inputs = bert.tokenizer.encode("the cat").tensors(bert.device)

    def looked() -> dict[int, torch.Tensor]:
        with ablate(bert, heads, edges), record_attention(bert, layers) as maps, torch.inference_mode():
            bert(**inputs)
        return maps

    for weights in (outcome(looked) or {}).values():
        sums = weights.sum(-1)
        assert bool((((sums - 1).abs() < 1e-5) | (sums == 0)).all())
    with record_attention(bert) as maps, torch.inference_mode():
        bert(**inputs)
    rolled = outcome(lambda: attention_rollout(maps, discard_ratio=discard))
    assert rolled is None or bool(((rolled.sum(-1) - 1).abs() < 1e-4).all())
    check_untouched(bert)


# --- pictures ------------------------------------------------------------------------------------

MODES = ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"]
MODES += ["I", "F", "I;16", "I;16B", "I;16L"]
FILES = ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "ICO", "PPM", "TGA", "PCX", "JPEG2000", "AVIF", "MPO"]
SIDE = st.integers(0, 40)


@functools.cache
def picture_file(kind: str) -> bytes:
    """A small picture, or nothing where Pillow cannot write that kind."""
    file = io.BytesIO()
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (17, 23, 3), np.uint8))
    try:
        image.save(file, kind)
    except (KeyError, OSError):
        return b""
    return file.getvalue()


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Some bytes changed, some left out, the end cut off."""
    data = bytearray(content)
    for _ in range(draw(st.integers(0, 6))):
        if data:
            place = draw(st.integers(0, len(data) - 1) | st.integers(0, min(60, len(data) - 1)))
            data[place : place + draw(st.integers(0, 4))] = draw(st.binary(max_size=4))
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)


@st.composite
def arrays_of(draw: st.DrawFn) -> np.ndarray | torch.Tensor:
    kinds = ["u1", "<u2", ">u2", "i4", "i8", "f2", "f4", "f8", "?", "c8", "O", "U3", "u4"]
    shape = draw(st.lists(st.integers(0, 6), max_size=4))
    array = np.zeros(shape, draw(st.sampled_from(kinds)))
    if array.dtype.kind in "uif":
        elements = arrays.from_dtype(array.dtype) if draw(st.booleans()) else st.sampled_from([0, 1])
        array = draw(arrays.arrays(array.dtype, array.shape, elements=elements))
    if array.dtype.kind in "OU" or array.dtype.str == ">u2" or draw(st.booleans()):
        return array
    return torch.from_numpy(array)


PICTURES = st.one_of(
    st.sampled_from(FILES).map(picture_file).flatmap(damaged),
    st.binary(max_size=80).flatmap(lambda data: st.sampled_from([data, bytearray(data), memoryview(data)])),
    arrays_of(),
    st.builds(Image.new, st.sampled_from(MODES), st.tuples(SIDE, SIDE), st.integers(0, 1)),
    st.text(max_size=20),
    ODD,
    st.sampled_from(
        ["~", "~nobody", "/", "/dev/null", Path("x" * 3000), io.StringIO("x"), io.BytesIO(b"GIF89a")]
    ),
)


@pytest.fixture
def small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged header may ask for 64 million pixels: right, but slow."""
    monkeypatch.setattr("workbench.image.MAX_PIXELS", 300_000)


@pytest.mark.usefixtures("small_pictures")
def test_pictures(capfd: pytest.CaptureFixture[str]) -> None:
    @given(
        PICTURES,
        VITS,
        st.tuples(st.integers(1, 50), st.integers(1, 50)),
        st.sampled_from([0.01, 0.3, 0.9, 1.0]),
        st.booleans(),
        st.sampled_from(list(RESAMPLE)),
        COUNT,
        st.none() | st.tuples(st.sampled_from([-8, 0, 8, 9, 32, 10**6]), st.sampled_from([8, 16])) | ODD,
    )
    def fuzz(
        source: Any, vit: ViT, size: tuple, crop: float, keep: bool, resample: str, top_k: Any, other: Any
    ) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            image = outcome(lambda: load_image(source))
            if image is not None:
                assert image.mode == "RGB" and min(image.size) > 0
                recipe = Preprocessing(size, crop, keep, resample)
                pixels = outcome(lambda: prepare_image(image, recipe))
                assert pixels is None or (pixels.shape == (1, 3, *size) and bool(pixels.isfinite().all()))
            found = outcome(lambda: tasks.classify_image(vit, source, top_k, size=other)) or []
        check_answers(found, vit.problem_type, whole=len(found) == 5)
        check_untouched(vit)

    fuzz()
    assert capfd.readouterr() == ("", ""), "a library writes past Python"


# --- checkpoints ---------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 100) | st.floats() | st.text(max_size=5)
    | st.sampled_from([10**9, 2**40, -(2**70), 1e-12, 1e300, "gelu", "bilinear", "[MASK]"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)  # fmt: skip


@functools.cache
def checkpoint_of(kind: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    if kind == "bert":
        saved(hf_bert("BertForSequenceClassification", num_labels=3), folder)
    elif kind == "our bert":
        wb.save_checkpoint(bert_of("usual"), folder)
    elif kind == "vit":
        saved(hf_vit("ViTForImageClassification", num_labels=4), folder)
    else:
        wb.save_checkpoint(vit_of("usual"), folder)
    return folder


@st.composite
def changed_settings(draw: st.DrawFn, content: bytes) -> bytes:
    """One to three settings of a JSON file, anywhere in it, have another value, are gone, or are new."""
    settings = json.loads(content)
    for _ in range(draw(st.integers(1, 3))):
        part = settings
        while True:
            key = draw(st.sampled_from(sorted(part))) if isinstance(part, dict) and part else None
            if key is None or not isinstance(part[key], dict) or not part[key] or draw(st.booleans()):
                break
            part = part[key]
        if key is None or draw(st.integers(0, 9)) == 0:
            settings[draw(st.text(max_size=6))] = draw(JSON)
        elif draw(st.integers(0, 4)) == 0:
            del part[key]
        else:
            part[key] = draw(JSON)
    return json.dumps(settings).encode()


@st.composite
def changed_file(draw: st.DrawFn, kind: str) -> tuple[str, str, bytes | None]:
    """A kind of checkpoint, one of its files, and what is in it now; None: it is gone."""
    file = draw(st.sampled_from(sorted(checkpoint_of(kind).iterdir())))
    content = file.read_bytes()
    if file.suffix == ".json" and draw(st.integers(0, 5)):
        return kind, file.name, draw(changed_settings(content))
    if draw(st.integers(0, 9)) == 0:
        return kind, file.name, draw(st.sampled_from([None, b"", b"{}", b"[]", b"null", b"<!doctype html>"]))
    return kind, file.name, draw(damaged(content))


@given(st.sampled_from(["bert", "our bert", "vit", "our vit"]).flatmap(changed_file), st.booleans())
def test_checkpoints(change: tuple[str, str, bytes | None], own: bool) -> None:
    kind, name, content = change
    with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings(record=True) as told:
        folder = Path(shutil.copytree(checkpoint_of(kind), Path(temporary) / "changed"))
        (folder / name).unlink()
        if content is not None:
            (folder / name).write_bytes(content)
        warnings.simplefilter("always")
        load = wb.load_bert if "bert" in kind else wb.load_vit
        model = outcome(lambda: load(folder, device="cpu"))
        assert all("not known here" in str(each.message) for each in told)
        if isinstance(model, Bert):
            for head in model.heads.values():
                if head.kind == "sentence":
                    head = next(name for name, each in model.heads.items() if each is head)
                    found = (
                        outcome(lambda head=head: tasks.classify_sentence(model, "The cat sat.", head)) or []
                    )
                    check_answers(found, model.heads[head].problem_type)
            outcome(lambda: tasks.fill_mask(model, "The [MASK] sat."))
        elif model is not None:
            found = (
                outcome(lambda: tasks.classify_image(model, Image.new("RGB", (50, 40), "red"), 1000)) or []
            )
            check_answers(found, model.problem_type)
        if model is not None:
            check_untouched(model)
            outcome(lambda: wb.save_checkpoint(model, folder / "again"))


# --- widgets -------------------------------------------------------------------------------------

DONE = sorted(set(re.findall(r'do: "([^"]+)"', "".join(file.read_text() for file in FOLDER.glob("*.js")))))
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8))


def cannot_train(*_: Any, **__: Any) -> None:
    raise ValueError("Nothing is trained here.")


MAKE: dict[str, Callable[[], Any]] = {
    "MaskedFilling": lambda: MaskedFilling(bert_of("usual"), "the cat sat", masked=[(4, 7)]),
    "NextSentence": lambda: NextSentence(bert_of("usual"), "the cat", "a dog ran"),
    "SentenceClassifier": lambda: SentenceClassifier(bert_of("usual"), "the red cat"),
    "regression": lambda: SentenceClassifier(bert_of("regression"), "the red cat"),
    "TokenTagger": lambda: TokenTagger(bert_of("multi_label_classification"), "the cat ran"),
    "SentencePair": lambda: SentencePair(bert_of("usual"), "the cat", "a dog", head="nsp"),
    "SpanExtraction": lambda: SpanExtraction(bert_of("usual"), "cat?", "the cat sat on a mat"),
    "FineTuning": lambda: FineTuning(bert_of("usual"), [("the cat", "a"), ("a dog", "b")] * 20, cannot_train),
    "AttentionExplorer": lambda: AttentionExplorer(bert_of("usual"), "the cat", "a dog"),
    "explored picture": lambda: AttentionExplorer(vit_of("usual"), image=NOISE),
    "PatchSplitter": lambda: PatchSplitter(vit_of("usual"), NOISE),
    "PatchHiding": lambda: PatchHiding(vit_of("grey"), NOISE),
    "PatchAttention": lambda: PatchAttention(vit_of("two tokens"), NOISE),
}


def inputs(widget: Any) -> list[str]:
    """Traits whose change the widget answers."""
    handlers = {name: found.get("change", []) for name, found in widget._trait_notifiers.items()}
    return sorted(
        name
        for name, found in handlers.items()
        if any("._when." in getattr(each, "__qualname__", "") for each in found)
    )


def value_of(draw: st.DrawFn, trait: traitlets.TraitType, name: str) -> Any:
    match trait:
        case _ if draw(st.integers(0, 11)) == 0:
            return draw(ODD)
        case traitlets.Enum():
            return draw(st.sampled_from(list(trait.values)))
        case traitlets.Bool():
            return draw(st.booleans())
        case traitlets.Int():
            return draw(st.integers(-2, 12) | NUMBER | st.integers(-(2**40), 2**40))
        case traitlets.Float():
            return draw(st.floats())
        case traitlets.Bytes():
            return draw(st.sampled_from(FILES).map(picture_file).flatmap(damaged))
        case traitlets.List() if isinstance(trait._trait, traitlets.Int):
            return draw(st.lists(NUMBER, max_size=8) | st.permutations(range(24)))
        case traitlets.List():
            few = st.lists(st.integers(-1, 40), min_size=1, max_size=3)
            return draw(st.lists(few, max_size=4) | st.lists(ODD, max_size=2))
        case _ if name == "sample":
            return draw(st.sampled_from(["coffee", "", "none"]))
        case _ if name in ("head", "task", "target"):
            return draw(HEAD)
    return draw(STRING)


STRING = TEXT.filter(lambda text: isinstance(text, str))
MESSAGE = st.fixed_dictionaries(  # as a view sends them
    {
        "do": st.sampled_from(DONE),
        "index": st.integers(0, 2),
        "row": st.integers(0, 50),
        "share": st.floats(0, 1),
        "is_next": st.booleans(),
        "cell": st.lists(STRING, min_size=3, max_size=3),
        "rows": st.lists(st.lists(STRING, max_size=4), max_size=3),
    }
)
NO_MESSAGE = st.dictionaries(st.sampled_from(["do", "index", "row", "cell", "rows"]), ODD) | ODD


@pytest.mark.usefixtures("small_pictures")
@pytest.mark.parametrize("name", MAKE)
def test_widgets(name: str) -> None:
    @given(st.data())
    def fuzz(data: st.DataObject) -> None:
        widget = MAKE[name]()
        names = inputs(widget)
        for _ in range(data.draw(st.integers(1, 5))):
            if names and data.draw(st.integers(0, 2)):
                trait = data.draw(st.sampled_from(names))
                value = value_of(data.draw, widget.traits()[trait], trait)
                widget.set_state({trait: value})
            elif data.draw(st.integers(0, 3)):
                widget._on_message(widget, data.draw(MESSAGE), [])
                assert "cannot be answered" not in widget.error, widget.error
            else:
                widget._on_message(widget, data.draw(NO_MESSAGE), [])
            assert is_sentence(widget.error or "."), widget.error
            assert "Something went wrong inside" not in widget.error, widget.error
            check_untouched(widget.model)
        json.dumps({key: value for key, value in widget.get_state().items() if not isinstance(value, bytes)})
        if data.draw(st.integers(0, 19)) == 0:
            widget.figure()
        widget.close()

    fuzz()
