"""Saved views, opened from a file with no kernel and no network: what was rehearsed is what Python says."""

import base64
import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from playwright.sync_api import Browser, Page, expect
from tiny import our_bert, our_vit, randomize

from workbench.bert import Bert
from workbench.pages import write_pages
from workbench.plots import in_percent
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
from workbench.widgets.rehearsal import NO_ANSWERS, Rehearsal
from workbench.widgets.samples import PICTURES

from .conftest import Lesson
from .test_masked_filling import accessibility_faults

pytestmark = pytest.mark.browser
SAVED = "This is a saved view: run the cell to make it live."
# What each click changes, one after the other: all traits after it, or null where there is no answer. As one
# text, since Playwright takes seconds for as many numbers.
WALK = """async ([state, names, clicks]) => {
    const model = shared.savedModel(state);
    const rehearsed = shared.answerer(model);
    const same = ([name, value]) => JSON.stringify(model.get(name)) === JSON.stringify(value);
    const letters = (bytes) => bytes.reduce((all, byte) => all + String.fromCharCode(byte), "");
    const plain = (value) => value instanceof DataView
        ? { bytes: btoa(letters(new Uint8Array(value.buffer, value.byteOffset, value.byteLength))) } : value;
    const found = [];
    for (const click of clicks) {
        const answer = !click.do && Object.entries(click).every(same) ? null : await rehearsed.answer(click);
        for (const [name, value] of Object.entries(answer ?? {})) model.set(name, value);
        found.push(answer && Object.fromEntries(names.map((name) => [name, plain(model.get(name))])));
    }
    return JSON.stringify(found);
}"""


def widgets() -> dict[str, Any]:
    """By name, what makes a widget; of a small checkpoint."""
    bert, vit = our_bert("mlm", "nsp", "sentiment", "pos", "span"), our_vit()
    bert2, vit2 = (randomize(copy.deepcopy(model), seed=3) for model in (bert, vit))
    return {
        "MaskedFilling": lambda: MaskedFilling(bert, "the cat sat", masked=[(4, 7)]),
        "MaskedFilling of two": lambda: MaskedFilling(
            bert, "the cat sat", masked=[(4, 7), (8, 11)], pinned=1, hide="left"
        ),
        "NextSentence": lambda: NextSentence(bert, "the cat sat", "on the mat"),
        "SentenceClassifier": lambda: SentenceClassifier(bert, "the cat sat"),
        "TokenTagger": lambda: TokenTagger(bert, "the cat sat"),
        "SentencePair": lambda: SentencePair(bert, "the cat sat", "on the mat", head="sentiment"),
        "SpanExtraction": lambda: SpanExtraction(bert, "who sat", "the cat sat on the mat"),
        "AttentionExplorer": lambda: AttentionExplorer(bert, "the cat", "sat"),
        "AttentionExplorer of patches": lambda: AttentionExplorer(vit, image=PICTURES["cat"]),
        "AttentionExplorer of two": lambda: AttentionExplorer(bert, "the cat", "sat", beside=bert2),
        "AttentionExplorer of two, patches": lambda: AttentionExplorer(vit, beside=vit2),
        "FineTuning": lambda: trained(bert),
        "PatchSplitter": lambda: PatchSplitter(vit),
        "PatchHiding": lambda: PatchHiding(vit, hidden=[0, 1]),
        "PatchAttention": lambda: PatchAttention(vit),
    }


def trained(bert: Bert) -> FineTuning:
    """A widget as it is after a training."""
    widget = FineTuning(bert, [(f"the cat {at}", "ab"[at % 2]) for at in range(20)], lambda *_: None)
    answers = [("the cat", "a", "a"), ("the mat", "a", "b"), ("on the mat", "b", "b")]
    widget.trained = {"frozen": SimpleNamespace(answers=[list(answer) for answer in answers])}
    widget.tables = {"frozen": {"labels": ["a", "b"], "counts": [[1, 1], [0, 1]]}}
    return widget


@pytest.fixture
def open_saved(browser: Browser, tmp_path: Path) -> Iterator:
    """Saves a widget and opens its page, light or dark; at the end nothing may have gone wrong."""
    pages: list[Page] = []
    faults: list[str] = []

    def opened(widget: WorkbenchWidget, theme: str = "light") -> Page:
        file = widget.save(tmp_path / f"{type(widget).__name__}.html")
        text = file.read_text(encoding="utf-8")
        text = text.replace("const model = savedModel", "const model = window.model = savedModel")
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


@pytest.fixture(scope="module")
def shared(browser: Browser) -> Iterator[Page]:
    """A page with shared.js and nothing else."""
    page = browser.new_page()
    script = TokenTagger._esm.partition("const parts_js")[0]
    page.set_content(f"<script type=module>{script}window.shared = shared_js;</script>")
    page.wait_for_function("window.shared")
    yield page
    page.close()


def test_a_page_and_a_still_write_the_same_percentages(shared: Page) -> None:
    shares = [0.125, 0.625, 0.0025, 0.0015]  # halves go up, where the number is one
    shares += [0, 1e-6, 0.0009, 0.0012, 0.0994, 0.0996, 0.5, 0.9949, 0.996, 0.99951, 0.999999, 1]
    written = shared.evaluate("shares => shares.map(window.shared.percent)", shares)
    assert [text.replace("\u00a0", " ") for text in written] == [in_percent(share) for share in shares]
    assert len({*written} & {"0\u00a0%", "100\u00a0%"}) == 2 and written.count("100\u00a0%") == 1


@pytest.mark.parametrize("name", widgets())
def test_a_walk_over_rehearsed_clicks_shows_what_python_says(shared: Page, name: str) -> None:
    widget = widgets()[name]()
    guarded(type(widget)._complete)(widget)
    groups, draw = widget.rehearse(), random.Random(0)
    kinds = [one for one in (axes(groups), messages(groups)) if one]
    clicks = [draw.choice(draw.choice(kinds)) for _ in range(80)]
    clicks = [group["after"] for group in groups if "after" in group] + clicks
    if len(widget.fields) == 2:  # a value that a swap made known, and that nobody typed
        clicks.insert(0, {widget.fields[0]: getattr(widget, widget.fields[1])})
    names = [key for key in widget.keys if key not in NO_ANSWERS and not key.startswith("_")]
    state = {key: getattr(widget, key) for key in names} | {"rehearsal": Rehearsal(widget, 10**6).run()}
    encoded = {key: as_json(value) for key, value in state.items()}
    answers = json.loads(shared.evaluate(WALK, [encoded, names, clicks]))
    for click, answer in zip(clicks, answers, strict=True):
        if answer is None:
            continue
        if "do" in click:
            widget._on_message(None, click, None)
        else:
            ((trait, value),) = click.items()
            setattr(widget, trait, value)
        guarded(type(widget)._complete)(widget)
        assert widget.error == ""
        for key in names:
            assert answer[key] == as_json(getattr(widget, key)), (click, key)
    assert sum(answer is not None for answer in answers) > 20


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
    page.get_by_role("button", name="interpolated").click()  # only the look
    assert told(page) == ""
    page.get_by_label("or a sample").select_option("boat")
    page.wait_for_function(f"document.querySelector('.workbench').innerText.includes({SAVED!r})")
    shown = page.get_by_label("or a sample").input_value()
    assert shown == widget.sample, "what got no answer shows again what is there"


def test_a_notebook_opened_again_answers(lesson, lab: str, browser: Browser, on_screen: dict) -> None:
    """Saved, its kernel shut down: the view is there, answers, and blames no kernel."""
    opened = lesson("00_start_here.ipynb")
    opened.python("from workbench.widgets import rehearsal; rehearsal.NOTEBOOK, rehearsal.QUIET = 100_000, 1")
    before = opened.run_to(saves=True).guesses()
    played = (
        "from workbench.widgets.rehearsal import BACKGROUND as all; print(*(w.rehearsal for w in all.shown))"
    )

    def are_played() -> bool:
        opened.page.wait_for_timeout(500)  # who asks all the time keeps the kernel from playing
        return "\\x1f" in opened.python(played)

    opened.wait(are_played, "answers that are given beforehand", 240)
    opened.command("docmanager:save")
    opened.page.wait_for_function("!window.jupyterapp.shell.currentWidget.context.model.dirty")
    opened.page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    again = Lesson(browser.new_context().new_page())
    again.open(lab.format(name="00_start_here.ipynb"))
    view = again.widget()
    assert view.guesses() == before
    view.after(view.chip("sky").click)
    assert view.root.locator(".card").count() == 2 and told(again.page) == ""
    view.button("Mask 15 % at random").click()
    expect(view.root.locator(".error")).to_have_text(SAVED)
    assert opened.faults == []
    opened.page.context.close()
    on_screen["00_start_here.ipynb"] = again  # whose kernel lives: it serves again


@pytest.fixture(scope="module")
def page_of_a_notebook(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made by `workbench pages` of a notebook with three widgets, two of them of one kind, and a formula."""
    folder = tmp_path_factory.mktemp("pages")
    tests = Path(__file__).parents[1]
    cells = [
        new_markdown_cell("# Two widgets\n$$ s_i = \\frac{e^i}{2} $$"),
        new_code_cell(f"import sys; sys.path.append({str(tests)!r})\nfrom tiny import our_bert, our_vit"),
        new_code_cell(
            "from workbench.widgets import *; filling = MaskedFilling(our_bert('mlm'), 'the cat sat')"
        ),
        new_code_cell("filling"),
        new_code_cell("PatchAttention(our_vit())"),
        new_code_cell("filling.masked = [(4, 7)]; MaskedFilling(our_bert('mlm'), 'on the mat')"),
    ]
    nbformat.write(new_notebook(cells=cells), folder / "own.ipynb")
    write_pages(folder / "pages", [folder / "own.ipynb"])
    return folder / "pages" / "own.html"


def test_a_page_of_a_notebook_answers_without_a_network(browser: Browser, page_of_a_notebook: Path) -> None:
    for scheme in ("light", "dark"):
        check_a_page_answers(browser, page_of_a_notebook, scheme)


def check_a_page_answers(browser: Browser, page_of_a_notebook: Path, scheme: str) -> None:
    context = browser.new_context(offline=True, color_scheme=scheme)
    alone = Lesson(context.new_page())
    alone.page.goto(page_of_a_notebook.as_uri())
    alone.page.wait_for_function("document.querySelectorAll('.workbench[data-revision]').length === 3")
    first, second, third = (alone.widget(number) for number in range(3))
    assert first.root.locator(".card").count() == 1, "as it was at the end"
    first.after(first.chip("sat").click)  # a word is masked
    assert first.root.locator(".card").count() == 2
    assert third.root.locator(".card").count() == 0, "two widgets of one kind are two"
    second.after(lambda: second.root.locator(".patch-board").first.click(position={"x": 5, "y": 5}))
    second.after(lambda: second.root.locator(".head-grid").click(position={"x": 25, "y": 25}))
    assert [told(alone.page), first.root.locator(".error").text_content()] == ["", ""]
    first.button("Mask 15 % at random").click()
    expect(first.root.locator(".error")).to_have_text(SAVED)
    assert alone.page.locator("svg[aria-label*=frac]").bounding_box()["height"] > 20
    assert ("dark" in first.root.get_attribute("class").split()) == (scheme == "dark")
    assert accessibility_faults(alone) == [] and alone.faults == []
    context.close()


def test_a_page_without_scripts_is_a_still_picture(browser: Browser, page_of_a_notebook: Path) -> None:
    page = browser.new_context(java_script_enabled=False, offline=True).new_page()
    page.goto(page_of_a_notebook.as_uri())
    said = [image.get_attribute("alt") for image in page.locator("[data-widget] img").all()]
    assert [one.split(":")[0] for one in said] == ["MaskedFilling", "PatchAttention", "MaskedFilling"]
    assert "the [MASK] sat" in said[0], "as it was at the end"
    page.goto(page_of_a_notebook.with_name("index.html").as_uri())
    page.get_by_role("link", name="Two widgets").click()
    page.context.close()


def axes(groups: list[dict]) -> list[dict]:
    values = [item for group in groups for item in group.items() if item[0] not in ("do", "after")]
    return [{name: one} for name, several in values for one in several]


def messages(groups: list[dict]) -> list[dict]:
    return [message for group in groups for message in group.get("do", [])]


def as_json(value: Any) -> Any:
    """Lists for tuples, and bytes as base64, as the browser has them."""
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()}
    if isinstance(value, list | tuple):
        return [as_json(one) for one in value]
    return {key: as_json(one) for key, one in value.items()} if isinstance(value, dict) else value
