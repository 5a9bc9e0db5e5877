"""Saved views, opened from a file with no kernel and no network: what was rehearsed is what Python says."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page
from tiny import our_bert, our_vit

from workbench.widgets import MaskedFilling, PatchAttention
from workbench.widgets.base import WorkbenchWidget
from workbench.widgets.rehearsal import NO_ANSWERS

pytestmark = pytest.mark.browser
SAVED = "This is a saved view: run the cell to make it live."
# Asks for an answer as a click does, and shows it; gives whether there was one.
CLICK = """async (click) => {
    const answer = await rehearsed.answer(click);
    for (const [trait, value] of Object.entries(answer ?? {})) model.set(trait, value);
    return answer !== null;
}"""
STATE = """(names) => Object.fromEntries(names.map((name) => {
    const value = model.get(name);
    return [name, value instanceof DataView ? { bytes: Array.from(new Uint8Array(
        value.buffer, value.byteOffset, value.byteLength)) } : value];
}))"""


def widgets() -> dict[str, Any]:
    """By name, what makes a widget; a small checkpoint each."""
    bert, vit = our_bert("mlm"), our_vit(heads=1)
    return {
        "MaskedFilling": lambda: MaskedFilling(bert, "the cat sat", masked=[(4, 7)]),
        "PatchAttention": lambda: PatchAttention(vit),
    }


NAMES = ("MaskedFilling", "PatchAttention")


@pytest.fixture
def open_saved(browser: Browser, tmp_path: Path) -> Iterator:
    """Saves a widget and opens its page, light or dark; at the end nothing may have gone wrong."""
    pages: list[Page] = []
    faults: list[str] = []

    def opened(widget: WorkbenchWidget, theme: str = "light") -> Page:
        file = widget.save(tmp_path / f"{type(widget).__name__}.html")
        text = file.read_text(encoding="utf-8")
        text = text.replace("model: shared_js", "model: window.model = shared_js")
        text = text.replace("</script>", "window.rehearsed = shared_js.answerer(model);</script>")
        file.write_text(text, encoding="utf-8")
        page = browser.new_context(offline=True, color_scheme=theme).new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: faults.append(request.url))
        page.goto(file.as_uri())
        page.wait_for_selector(".workbench[data-revision]")
        pages.append(page)
        return page

    yield opened
    for page in pages:
        page.context.close()
    assert all(fault.startswith(("file:", "blob:")) for fault in faults), faults


@pytest.mark.parametrize("name", NAMES)
def test_a_walk_over_rehearsed_clicks_shows_what_python_says(open_saved, name: str) -> None:
    widget = widgets()[name]()
    groups = widget.rehearse()
    page = open_saved(widget)
    names = [key for key in widget.keys if key not in NO_ANSWERS and not key.startswith("_")]
    draw, answered = random.Random(0), 0

    def now() -> dict[str, Any]:
        traits = {key: getattr(widget, key) for key in names}
        return {k: {"bytes": list(v)} if isinstance(v, bytes) else v for k, v in traits.items()}

    for _ in range(60):
        click = draw.choice([*axes(groups), *messages(groups)])
        before = {key: getattr(widget, key) for key in click if key != "do"}
        if before == click or not page.evaluate(CLICK, click):
            continue
        answered += 1
        if "do" in click:
            widget._on_message(None, click, None)
        else:
            ((trait, value),) = click.items()
            setattr(widget, trait, value)
        assert widget.error == ""
        shown = page.evaluate(STATE, names)
        for key, value in now().items():
            assert shown[key] == as_json(value), (click, key)
    assert answered > 20


def told(page: Page) -> str:
    return page.locator(".error").last.text_content()


def test_a_word_is_masked_and_what_was_not_rehearsed_says_so(open_saved) -> None:
    widget = widgets()["MaskedFilling"]()
    page = open_saved(widget)
    page.get_by_role("button", name="cat", exact=True).or_(page.locator(".chip.mask")).first.click()
    page.locator(".empty").wait_for()
    page.locator(".chip", has_text="sat").click()
    page.locator(".card").wait_for()
    widget.masked = [(8, 11)]
    expected = [label for label, *_ in widget.guesses["cards"][0]["candidates"]]
    assert page.locator(".card .bar .word").all_text_contents() == expected
    assert told(page) == ""
    page.get_by_label("layer", exact=False).first.select_option("0")
    assert told(page) == "" and page.evaluate("model.get('attention_layer')") == 0
    page.locator(".chip", has_text="the").click()  # a second mask
    page.wait_for_function("document.querySelector('.error').textContent")
    assert told(page) == SAVED
    assert page.locator(".card").count() == 1, "what was there stays"
    page.get_by_role("button", name="Unmask all").click()
    page.locator(".empty").wait_for()
    assert told(page) == "", "an answer takes the sentence away"


def test_a_patch_looks_and_a_head_is_chosen(open_saved) -> None:
    widget = widgets()["PatchAttention"]()
    page = open_saved(widget)
    page.locator(".patch-board").first.click(position={"x": 5, "y": 5})
    page.wait_for_function("model.get('query') === 1")
    page.locator(".head-grid").click(position={"x": 25, "y": 25})
    page.wait_for_function("model.get('layer') === 0")
    widget.query, widget.layer, widget.head = 1, 0, 0
    assert page.locator("figcaption").first.text_content() == widget.titles[0]
    page.get_by_label("colours").select_option("viridis")  # only the look
    assert told(page) == ""
    page.get_by_label("or a sample").select_option("boat")
    page.wait_for_function(f"document.querySelector('.workbench').innerText.includes({SAVED!r})")


def axes(groups: list[dict]) -> list[dict]:
    return [{n: v} for group in groups for n, values in group.items() if n != "do" for v in values]


def messages(groups: list[dict]) -> list[dict]:
    return [message for group in groups for message in group.get("do", [])]


def as_json(value: Any) -> Any:
    """Lists for tuples, as the browser has them."""
    if isinstance(value, list | tuple):
        return [as_json(one) for one in value]
    return {key: as_json(one) for key, one in value.items()} if isinstance(value, dict) else value
