"""From a key or a click on words to the answer on the screen; long passages; BERT-base in the explorer.

`python -m pytest tests/browser/benchmark_texts.py -s`
"""

from collections.abc import Callable, Iterable
from itertools import cycle, islice

import pytest
from playwright.sync_api import Page

from .benchmark_pictures import shown, times, told
from .conftest import Widget
from .test_pictures import show

# 64 tokens with [CLS] and [SEP]; of two texts, with another [SEP], the first two thirds and the rest.
TEXT = (
    "the old library by the river was closed in winter so she walked along the water to the market and "
    "bought some bread and a red apple for her brother who had been waiting at the station since early "
    "morning because the last train had left the city without him and the next one would come "
    "only in the evening after snow"
)
WORDS = TEXT.split()
FIRST, SECOND = " ".join(WORDS[:41]), " ".join(WORDS[41:61])
TYPED = " and then they all went home again"
TYPING = {  # the widget, and the field to type in
    "MaskedFilling": (f"MaskedFilling(bert, {TEXT!r}, masked=[(4, 7), (39, 45)])", "textarea"),
    "NextSentence": (f"NextSentence(bert, {FIRST!r}, {SECOND!r})", "textarea"),
    "SentencePair": (f"SentencePair(bert, {FIRST!r}, {SECOND!r})", "textarea"),
    "SentenceClassifier": (f"SentenceClassifier(bert, {TEXT!r})", "textarea"),
    "TokenTagger": (f"TokenTagger(bert, {TEXT!r})", "textarea"),
    "SpanExtraction": (f"SpanExtraction(bert, {SECOND!r}, {FIRST!r})", "textarea"),
    "AttentionExplorer": (f"AttentionExplorer(bert, {TEXT + ' [MASK]'!r})", "textarea"),
}
CLICKING = {  # the widget, and what to click
    "MaskedFilling": "button.chip",
    "TokenTagger": ".chips button",
    "SpanExtraction": "button.piece",
}
# Milliseconds from each letter to the painted letter, whatever Python is doing.
LETTERS = """root => {
    window.letters = [];
    root.addEventListener("input", () => {
        const start = performance.now();
        requestAnimationFrame(() => setTimeout(() => window.letters.push(performance.now() - start)));
    }, true);
}"""
# Frames of the next two seconds, in milliseconds each.
FRAMES = """() => new Promise((done) => {
    const times = [], start = performance.now();
    const next = (now) => (times.push(now), now < start + 2000 ? requestAnimationFrame(next)
        : done(times.slice(1).map((time, at) => time - times[at])));
    requestAnimationFrame(next);
})"""
BASE = """
import json, time
from ipywidgets.widgets.widget import _remove_buffers
from workbench.bert import Bert, BertConfig
from workbench.checkpoint import make_ready
large = Bert(BertConfig(), tokenizer=bert.tokenizer)
make_ready(large, "BERT-base, random")
text = " ".join("water river stone light house garden winter letter music bread".split() * 51)
AttentionExplorer(large, text)
start = time.perf_counter()
w = AttentionExplorer(large, text)
forward = float(w.status.split()[-2])
made = 1000 * (time.perf_counter() - start) - forward
state, _, buffers = _remove_buffers(w.get_state())
del state["_esm"], state["_css"]
print(len(w.tokens), len(json.dumps(state)) + sum(map(len, buffers)), made, forward)
"""


def text_widget(lesson, code: str) -> Widget:
    return show(lesson, f"(bert := wb.load_bert(), {code})[1]")


def keys(widget: Widget, field: str, count: int) -> Iterable[Callable]:
    if widget.button("Edit text").count():
        widget.button("Edit text").click()
    widget.root.locator(field).first.press("End")
    for letter in islice(cycle(TYPED), count):
        yield lambda letter=letter: widget.page.keyboard.press(letter if letter != " " else "Space")


@pytest.mark.parametrize("name", TYPING)
def test_typing(lesson, name):
    code, field = TYPING[name]
    widget = text_widget(lesson, code)
    told(f"{name}: a key to its answer", times(widget, keys(widget, field, 60)), widget)
    widget.root.evaluate(LETTERS)
    widget.page.keyboard.type(TYPED * 2, delay=60)  # 1,000 letters a minute
    widget.page.wait_for_timeout(500)
    told(f"{name}: a letter to the letter", widget.page.evaluate("window.letters"), widget)
    assert widget.root.locator(field).first.input_value().endswith(TYPED * 2), "no letter is lost"


@pytest.mark.parametrize("name", CLICKING)
def test_clicking(lesson, name):
    widget = text_widget(lesson, TYPING[name][0])
    things = widget.root.locator(CLICKING[name])
    count = things.count()
    clicks = [lambda at=at: things.nth(at % count).click() for at in range(3, 3 * 111, 3)]
    told(f"{name}: a click to its answer", times(widget, clicks), widget)


@pytest.mark.parametrize("name", ["MaskedFilling", "TokenTagger"])
def test_opening_a_stage(lesson, name):
    widget = text_widget(lesson, TYPING[name][0])
    stages = cycle(["embeddings", "layer", "read", "head", "softmax"])
    buttons = [widget.root.locator(f"[data-stage={stage}]") for stage in islice(stages, 45)]
    told(f"{name}: opening a stage", times(widget, [button.click for button in buttons]), widget)


def test_a_passage_of_3000_characters(lesson):
    text = "Anna sells flowers in the old town, and Paul sells fish. " * 52
    widget = text_widget(lesson, f"SpanExtraction(bert, 'Who buys fish?', {text[:3000]!r})")
    field = widget.root.locator("textarea").first
    asked = [
        lambda who=who: field.fill(f"Who sells {who}?") for who in ("fish", "flowers", "bread", "tea") * 2
    ]
    told("SpanExtraction, 3,000 characters", times(widget, asked, warm=2), widget)


def test_all_heads_off_one_by_one(lesson):
    widget = text_widget(lesson, "AttentionExplorer(bert, 'The capital of France is the city of [MASK].')")
    button = widget.button("Try each head off")
    told("all heads off, one by one", times(widget, [button.click] * 6, warm=1), widget)


def test_bert_base_with_512_tokens(lesson):
    opened = text_widget(lesson, "AttentionExplorer(bert)").lesson
    count, size, made, forward = map(float, opened.python(BASE).split())
    print(f"\nBERT-base, {count:.0f} tokens: {size:,.0f} bytes; forward pass {forward:.0f} ms, then")
    print(f"{made:.0f} ms to make the widget and {shown(opened):.0f} ms to show it")
    widget = opened.widget(1)
    thumbs, large = (widget.root.locator(f"canvas.{name}").first for name in ("head-grid", "large"))
    area = thumbs.bounding_box()
    size = (area["width"] - 18) / 12
    cells = [divmod(at, 12) for at in range(1, 61)]
    places = [{"x": 18 + size * (column + 0.5), "y": 18 + size * (row + 0.5)} for row, column in cells]
    clicks = [lambda place=place: thumbs.click(position=place) for place in places]
    told("another head", times(widget, clicks), widget)
    for view in ("lines", "matrix"):
        widget.button(view).click()
        for what, canvas in (("heads", thumbs), ("tokens", large)):
            canvas.scroll_into_view_if_needed()
            box = canvas.bounding_box()
            frames = frames_while(
                widget.page,
                lambda at, box=box: widget.page.mouse.move(
                    box["x"] + 30 + at % 12 * 15,
                    max(box["y"], 60) + 30 + 7 * at % min(box["height"] - 60, 500),
                ),
            )
            told_frames(f"the mouse over {what}, {view}", frames)
        large.hover(position={"x": 40, "y": 60})
        told_frames(f"scrolling, {view}", frames_while(widget.page, lambda _: widget.page.mouse.wheel(0, 40)))


def frames_while(page: Page, move: Callable[[int], None]) -> list[float]:
    """Milliseconds of each frame while something moves 60 times a second, for two seconds."""
    page.evaluate(f"window.frames = ({FRAMES})()")
    for at in range(100):
        move(at)
        page.wait_for_timeout(15)
    return page.evaluate("window.frames")


def told_frames(what: str, frames: list[float]) -> None:
    rate = 1000 * len(frames) / sum(frames)
    print(f"{what}: {rate:.0f} frames/s, longest {max(frames):.0f} ms")
