"""Every widget with all that it can show, and several of them on one page."""

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import cycle
from typing import Any

import torch

import workbench as wb
from workbench.training.lessons import FineTuned
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
from workbench.widgets.base import WorkbenchWidget, guarded

# Nothing was drawn in ten frames, one after the other.
SETTLED = """() => new Promise((done) => {
    let frames = 0;
    const all = { subtree: true, childList: true, attributes: true, characterData: true };
    new MutationObserver(() => (frames = 0)).observe(document.body, all);
    const next = () => (++frames > 10 ? done() : requestAnimationFrame(next));
    next();
})"""
FIGURES = ("step", "loss", "accuracy", "held_out_loss", "held_out_accuracy")


def every_widget() -> dict[str, WorkbenchWidget]:
    """By name, with answers, reasons, a game, tables and curves on the screen."""
    bert, vit = wb.load_bert(device="cpu"), wb.load_vit(device="cpu")
    text = "The cat chased the mouse because it was hungry."
    tuning = FineTuning(bert, [("I am glad", "joy"), ("I am cross", "anger")] * 4, learned)
    tuning.finish()
    widgets = [
        MaskedFilling(bert, "The cat sat on the mat.", masked=[(4, 7), (19, 22)], lines=True, hide="right"),
        asked(NextSentence(bert), "play", {"do": "guess", "is_next": True}),
        SentenceClassifier(bert, "The food was good, but the service was slow."),
        TokenTagger(bert, "They light the unforgettable light.", pinned=1),
        SentencePair(bert, "A man sleeps.", "A man is awake.", pinned=3, lines=True),
        SpanExtraction(
            bert,
            "Who sells flowers?",
            "Anna sells flowers, and her brother Paul sells fish.",
            start_by_end=True,
        ),
        asked(AttentionExplorer(bert, text, query=2, key=3, off=[(0, 1)]), "all heads", "compare"),
        asked(tuning, {"do": "look", "cell": ["frozen", "joy", "anger"]}),
        PatchSplitter(vit, words=["[CLS]", "a", "cat", "looks", "at", "you", "[SEP]"]),
        asked(PatchHiding(vit, hidden=[0, 1, 2, 30]), "keep", "judge"),
        asked(PatchAttention(vit, method="relevance", second=3), "test"),
    ]
    for widget, stage in zip(
        widgets, cycle(["layer", "embeddings", "read", "head", "softmax"]), strict=False
    ):
        if stage in [name for name, *_ in getattr(widget, "line", [])]:
            widget.stage = stage
        guarded(type(widget)._complete)(widget)
    return {type(widget).__name__: widget for widget in widgets}


def asked(widget: WorkbenchWidget, *messages: str | dict[str, Any]) -> WorkbenchWidget:
    """The widget after these messages of its buttons."""
    for message in messages:
        widget._on_message(None, {"do": message} if isinstance(message, str) else message, None)
        assert widget.error == ""
    return widget


def learned(_: Any, examples: Any, watch: Callable, **options: Any) -> None:
    """Trains nothing, and tells what a training would."""
    log = [dict(zip(FIGURES, (step, 1 / step, 1 - 1 / step, 1 / step, 0.5), strict=True)) for step in (1, 2)]
    answers = [("I am glad", "joy", "anger"), ("So happy", "joy", "joy"), ("I am cross", "anger", "anger")]
    result = FineTuned(None, ("joy", "anger"), log, [torch.rand(3, 8), torch.rand(3, 8)], [0, 0, 1])
    watch(result)
    watch(replace(result, answers=answers))


def one_page(pages: dict[str, str], style: str = "") -> str:
    """Saved pages as one, without the background that they have; each view in a <div> of its name."""
    content = f'<!doctype html><html lang="en"><meta charset="utf-8"><style>{style}</style>'
    for name, page in pages.items():
        css, script = re.search(r"<style>(.*)</style>.*?(<script.*)</body>", page, re.DOTALL).groups()
        script = script.replace('Object.entries({"view":', f'Object.entries({{"{name}":')
        place = f'<div id="{name}" data-widget="{name}"></div>'
        content += f"<style>{css.partition('}')[2]}</style>{place}{script}"
    return content
