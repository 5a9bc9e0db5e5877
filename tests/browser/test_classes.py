"""SentenceClassifier, TokenTagger and FineTuning in their lessons, by mouse and by keyboard."""

import re
from functools import partial

import pytest
from playwright.sync_api import expect

from .conftest import WRITE_SCREENSHOTS, Lesson, cells_of
from .test_masked_filling import accessibility_faults

pytestmark = pytest.mark.browser
OVERFLOW = """root => [...root.querySelectorAll("*")].filter((part) =>
    part.clientWidth > 0 && part.scrollWidth > part.clientWidth + 2
    && getComputedStyle(part).overflowX === "visible").map((part) => part.className)"""


LOOKS = pytest.mark.parametrize(
    ("theme", "width"), [("Light", 1280), ("Dark", 1280), ("Light", 800), ("Dark", 800)]
)


def run_without_training(opened: Lesson) -> None:
    """All cells, but those that wait for a training: this test presses the buttons itself."""
    opened.page.evaluate(
        """() => {
            for (const cell of window.jupyterapp.shell.currentWidget.content.model.cells)
                if (/\\.finish\\(\\)|trained\\[|tuned/.test(cell.sharedModel.source) && cell.type === "code")
                    cell.sharedModel.setSource("pass");
        }"""
    )
    opened.run_all()


def widget_of(opened: Lesson, kind: str, index: int = 0):
    opened.wait(lambda: opened.page.locator(f".workbench.{kind}").count() > index, kind)
    classes = opened.page.locator(".workbench").evaluate_all("all => all.map((root) => root.className)")
    return opened.widget([at for at, names in enumerate(classes) if kind in names.split()][index])


def explained(widget) -> None:
    widget.lesson.wait(lambda: widget.root.get_attribute("data-explained") == "true", "the reasons")


@pytest.fixture
def sentences(lesson):
    opened = lesson("03_sentence_classification.ipynb")
    run_without_training(opened)
    return opened


@pytest.fixture
def words(lesson):
    opened = lesson("04_token_tagging.ipynb")
    run_without_training(opened)
    return opened


def looks_right(lesson, name: str, kinds: list[str], theme: str, width: int) -> Lesson:
    opened = lesson(name, width=width, height=1200)
    opened.dress(theme)
    run_without_training(opened)
    for kind in kinds:
        widget = widget_of(opened, kind)
        if kind == "sentence-classifier":
            explained(widget)
        if kind == "fine-tuning" and width == 1280:
            steps = 40 if WRITE_SCREENSHOTS else 4
            opened.python(f"view.steps = {steps}")
            widget.button("Train").click()
            opened.wait(partial(is_done, widget), "the end of the training", 200)
        back = widget.root.evaluate("e => getComputedStyle(e).backgroundColor")
        assert (int(re.findall(r"\d+", back)[0]) > 128) == (theme == "Light")
        assert widget.root.evaluate(OVERFLOW) == [], kind
        widget.picture(kind.replace("-", "_"))
    assert accessibility_faults(opened) == []
    return opened


def test_typing_a_sentence_and_hiding_words(sentences):
    widget = widget_of(sentences, "sentence-classifier")
    explained(widget)
    assert widget.root.locator(".reasons .chips").first.locator("button").count() == 11
    area = widget.root.get_by_label("The sentence", exact=True)
    widget.after(lambda: area.fill("What a wonderful <b>surprise</b>, thank you."))
    explained(widget)
    assert "<" in widget.root.locator(".chips").first.text_content(), "text is text"
    said = sentences.python(
        "print(wb.classify_sentence(bert, 'What a wonderful <b>surprise</b>, thank you.')[0])"
    )
    assert f"'{widget.root.locator('.bar .word').first.text_content()}'" in said
    word = widget.root.get_by_label(re.compile("^Leave one out. Arrow")).get_by_role(
        "button", name=re.compile("^wonderful")
    )
    widget.after(word.click)
    explained(widget)  # else the next portion of reasons may pass for the answer to the next click
    assert widget.root.locator(".chip.off").count() == 2, "hidden in both pictures"
    assert widget.root.locator(".bar .before").count() == 2, "a tick where the bars were"
    widget.after(widget.button("Show all words").click)
    assert widget.root.locator(".chip.off").count() == 0
    other = widget.root.locator(".bar").nth(1)
    name = other.locator(".word").text_content()
    widget.after(other.click)
    explained(widget)
    assert widget.root.locator(".columns p b").text_content() == f"“{name}”"


def test_keyboard_and_errors(sentences):
    page, cells = sentences.page, cells_of(sentences.page)
    widget = widget_of(sentences, "sentence-classifier", 1)
    explained(widget)
    area = widget.root.get_by_label("The sentence", exact=True)
    bars = widget.root.locator(".bar .value").all_text_contents()
    for text, said in [("  ", "empty"), ("word " * 4000, "shorten")]:
        area.fill(text)
        sentences.wait(lambda said=said: said in widget.root.locator(".error").text_content(), said)
        assert widget.root.locator(".bar .value").all_text_contents() == bars, "the last good state stays"
    widget.after(lambda: area.fill("Dies ist leider kein englischer Satz geworden"))
    sentences.wait(lambda: "do not trust" in widget.root.locator(".remark").text_content(), "a remark")
    widget.after(lambda: area.fill("Good tea."))
    explained(widget)
    assert widget.root.locator(".error").text_content() == ""
    group = widget.root.get_by_label(re.compile("^Gradient relevance. Arrow"))
    group.locator("button").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.textContent").startswith("tea")
    widget.after(lambda: page.keyboard.press("Enter"))
    assert widget.root.locator(".chip.off").count() == 2
    page.keyboard.press("d")
    page.keyboard.press("d")  # in JupyterLab's command mode this deletes a cell
    assert cells_of(page) == cells


def test_training_live_then_stopping(sentences):
    widget = widget_of(sentences, "fine-tuning")
    widget.button("Train").click()
    sentences.wait(lambda: widget.root.locator("circle.fresh").count() >= 4, "curves that grow", 90)
    assert widget.root.get_attribute("data-state") == "training"
    other = widget_of(sentences, "sentence-classifier")
    other.after(lambda: other.root.get_by_label("The sentence", exact=True).fill("Meanwhile the page lives."))
    widget = widget_of(sentences, "fine-tuning")
    widget.button("Stop, keep what was learned").click()
    sentences.wait(lambda: widget.root.get_attribute("data-state") == "stopped", "the stop", 60)
    assert widget.root.locator("table.confusion").count() >= 1, "what was learned is kept"
    wrong = widget.root.locator(".count:enabled").first
    widget.after(wrong.click)
    assert widget.root.locator(".shown li").count() > 0
    assert int(sentences.python("print(view.trained['frozen'].steps)")) > 0


def test_own_examples_are_pasted_and_trained(sentences):
    widget = widget_of(sentences, "fine-tuning", 1)
    widget.root.locator("summary").click()
    widget.after(widget.button("Empty the table").click)
    pasted = "".join(
        f"{text} {n}\t{label}\n"
        for n in range(6)
        for text, label in (("I am glad", "joy"), ("I am cross", "anger"))
    )
    first = widget.root.get_by_label("Text of example 1", exact=True)
    widget.after(
        lambda: first.evaluate(
            """(field, text) => {
            const data = new DataTransfer();
            data.setData("text", text);
            const how = { clipboardData: data, bubbles: true, cancelable: true };
            field.dispatchEvent(new ClipboardEvent("paste", how));
        }""",
            pasted,
        )
    )
    assert "anger 6 · joy 6" in widget.root.text_content()
    widget.after(widget.button("next").click)
    field = widget.root.get_by_label("Class of example 9", exact=True)
    widget.after(lambda: (field.fill("delight"), field.press("Tab")))
    assert "delight 1" in widget.root.text_content()
    widget.after(widget.button("Shipped examples").click)
    one, other = (widget.root.get_by_label(f"Text of example {at}", exact=True) for at in (1, 2))
    widget.after(
        lambda: one.evaluate(
            """(field, other) => {
            field.focus();
            field.value = "typed first";
            field.dispatchEvent(new Event("change"));
            other.focus();
            other.value = "typed before the answer came";
        }""",
            other.element_handle(),
        )
    )
    assert (one.input_value(), other.input_value()) == ("typed first", "typed before the answer came")
    widget.after(lambda: (other.press("End"), other.press("!"), other.press("Tab")))
    assert other.input_value() == "typed before the answer came!"
    widget.after(widget.button("Empty the table").click)
    widget.button("Train").click()
    sentences.wait(lambda: "at least 8" in widget.root.locator(".error").text_content(), "a sentence")


@LOOKS
def test_sentences_light_and_dark_wide_and_narrow(lesson, theme, width):
    kinds = ["sentence-classifier", "fine-tuning"]
    looks_right(lesson, "03_sentence_classification.ipynb", kinds, theme, width)


def test_word_classes_and_their_dot_product(words):
    widget = widget_of(words, "token-tagger")
    said = words.python(
        "print([t.label for t in wb.tag_words(bert, 'They light the light in a light room.')])"
    )
    assert widget.root.locator(".chip > small:nth-child(2)").all_text_contents() == re.findall(
        r"'(\w+)'", said
    )
    colors = """canvas => new Set(new Uint32Array(canvas.getContext("2d")
        .getImageData(0, 0, canvas.width, canvas.height).data.buffer)).size"""
    widget.after(widget.root.locator("[data-stage=head]").click)
    matrix = widget.root.locator("canvas.vectors").nth(1)
    assert matrix.evaluate(colors) > 100, "the weights are painted"
    widget.after(widget.root.locator(".chip").nth(3).click)
    assert widget.root.locator(".chip").nth(3).get_attribute("aria-pressed") == "true"
    matrix.hover(position={"x": 40, "y": 30})
    hovered = widget.root.locator(".said").text_content()
    assert re.match(r"ADP, number \d+ of 384: weight .\d", hovered), hovered
    widget.after(lambda: widget.root.get_by_label(re.compile("^VERB, logit")).click())
    assert widget.root.locator(".numbered .name").last.text_content() == "T × VERB"
    words.page.keyboard.press("ArrowDown")
    assert words.page.evaluate("document.activeElement.textContent") == "X"
    area = widget.root.get_by_label("The sentence", exact=True)
    widget.after(lambda: area.fill("Unforgettably"))
    assert "##" in widget.root.locator(".pieces").first.text_content()
    area.fill("")
    words.wait(lambda: "empty" in widget.root.locator(".error").text_content(), "a sentence")
    assert widget.root.locator(".chip").count() == 1


@LOOKS
def test_words_light_and_dark_wide_and_narrow(lesson, theme, width):
    opened = looks_right(lesson, "04_token_tagging.ipynb", ["token-tagger"], theme, width)
    products = widget_of(opened, "token-tagger", 2).root.locator(".scroll")
    assert products.evaluate("box => box.scrollWidth <= box.clientWidth"), "their sum is in sight"


def is_done(widget) -> bool:
    return widget.root.get_attribute("data-state") == "done"


def test_saved_pages_stand_alone(words, browser, tmp_path):
    page = tmp_path / "page.html"
    words.python(f"TokenTagger(bert, 'Tea </script><b>for</b> two.').save({str(page)!r})")
    context = browser.new_context(offline=True)
    alone = Lesson(context.new_page())
    alone.page.goto(page.as_uri())
    widget = alone.widget()
    assert "script" in widget.root.locator(".chips").text_content()
    widget.root.locator("textarea").first.fill("Something else.")
    expect(widget.root.locator(".error")).to_contain_text("saved view")
    assert alone.faults == [] and accessibility_faults(alone) == []
    context.close()
