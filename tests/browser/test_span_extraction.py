"""SpanExtraction and its lesson, by mouse and by keyboard."""

import re

import pytest
from playwright.sync_api import expect

from .conftest import Lesson, cells_of
from .test_masked_filling import HAS_INK, accessibility_faults
from .test_pairs import OVERFLOW

pytestmark = pytest.mark.browser
LESSON = "06_span_extraction.ipynb"
# Whether both signs have their colours on a canvas: blue above zero, orange below.
COLOURED = """canvas => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, 1);
    const differences = [...Array(data.length / 4).keys()].map((at) => data[4 * at] - data[4 * at + 2]);
    return Math.max(...differences) > 50 && Math.min(...differences) < -50;
}"""


@pytest.fixture
def span(lesson):
    """The lesson's first widget."""
    return lesson(LESSON).run_to()


def panel(span, name):
    return span.root.get_by_role("region", name=name)


def test_answers_are_the_models_own_and_can_be_pinned(span):
    rows = span.root.locator(".answers .word")
    said = span.lesson.python(
        "from workbench.widgets.samples import PASSAGES as P\n"
        "print(*[a.text for a in wb.answer_question(bert, P[0][1], P[0][0]).answers], sep='|')"
    )
    assert rows.all_text_contents() == said.split("|")
    span.after(span.root.locator(".answers .bar").nth(1).click)
    assert span.root.locator(".answers .bar").nth(1).get_attribute("aria-pressed") == "true"
    marked = "".join(span.root.locator(".piece.answer > span").all_text_contents())
    assert marked == rows.nth(1).text_content().replace(" ", "") or not marked  # none: "no answer"
    span.after(
        lambda: (span.root.get_by_label("How many answers").fill("8"), span.page.keyboard.press("Tab"))
    )
    assert rows.count() == 8


def test_threshold_decides_between_answer_and_none(span):
    slider = span.root.get_by_label("How much an answer must beat no answer by")
    said = set()
    for threshold in ("-12", "12"):
        if slider.input_value() != threshold:
            span.after(lambda threshold=threshold: slider.fill(threshold))
        said.add(span.root.locator(".verdict").text_content()[:6])
        marked = span.root.locator(".piece.answer").count()
        assert (marked > 0) == span.root.locator(".verdict").text_content().startswith("Answer")
    assert said <= {"Answer", "No ans"}


def test_a_word_shows_its_vector(span):
    pieces = span.root.locator("button.piece")
    span.after(span.root.locator("[data-stage=head]").click)
    span.after(pieces.nth(5).click)
    vectors = span.root.locator(".drawer")
    assert f"“{pieces.nth(5).locator('span').text_content().lower()}”: a linear" in vectors.text_content()
    first = vectors.locator(".sum").all_text_contents()
    pieces.nth(5).focus()
    span.page.keyboard.press("ArrowRight")
    span.after(lambda: span.page.keyboard.press("Enter"))
    assert vectors.locator(".sum").all_text_contents() != first
    assert vectors.locator("canvas").first.evaluate(HAS_INK)
    assert "chosen" in pieces.nth(6).get_attribute("class")


def test_the_map_by_mouse_and_keys(span):
    assert not span.root.locator("canvas.map").is_visible()
    span.button("Start × end").click()
    canvas, page = span.root.locator("canvas.map"), span.page
    cells, says = cells_of(page), panel(span, "Start × end").get_by_role("status")
    span.lesson.wait(lambda: canvas.evaluate(HAS_INK), "the map")
    box = canvas.bounding_box()
    canvas.hover(position={"x": box["width"] - 8, "y": 92})  # a late start with an early end
    assert "before the start" in says.text_content()
    canvas.hover(position={"x": 88, "y": 88})  # the first word of the map alone, beside the words on its axes
    alone = re.findall("“(.*)”: .*%", says.text_content())
    assert alone and " " not in alone[0] and alone[0] in span.root.locator(".passage").text_content()
    page.mouse.move(0, 0)
    canvas.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowDown")
    assert "“" in says.text_content()
    span.after(lambda: page.keyboard.press("Enter"))
    assert cells_of(page) == cells


def test_questions_passages_and_errors(span):
    question = span.root.get_by_label("Question")
    span.after(lambda: question.fill("Who sells flowers?"))
    assert span.root.locator(".answers li").count() == 5
    before = span.root.locator(".answers .word").all_text_contents()
    span.after(lambda: question.fill(" "))
    assert "The question is empty" in span.root.locator(".error").text_content()
    assert span.root.locator(".answers .word").all_text_contents() == before
    span.after(lambda: question.fill("Who sells flowers?"))
    span.button("Edit passage").click()
    passage = span.root.locator("textarea").nth(1)
    span.after(lambda: passage.fill(""))
    assert "The passage is empty" in span.root.locator(".error").text_content()
    span.after(lambda: passage.fill("😀 <i>Anna</i> sells flowers. Ben sells flowers, too. 😀"))
    assert span.root.locator(".error").text_content() == ""
    assert "<i>Anna</i> sells" in span.root.locator(".passage").text_content()
    span.after(lambda: passage.fill("العربية لغة جميلة"))
    places = span.root.locator("button.piece").evaluate_all("all => all.map((one) => one.offsetLeft)")
    assert places == sorted(places, reverse=True), "Arabic runs from right to left"
    span.after(lambda: span.root.get_by_label("Pick a passage").select_option("5"))
    assert "windows" in span.root.locator(".group.note", has_text="overlapping").text_content()
    span.after(span.button("previous" if "window 2" in span.root.text_content() else "next").click)
    assert span.root.locator(".outside").nth(0).text_content() or span.root.locator(".outside").nth(1)


def test_a_passage_of_20000_characters_shows_progress(span):
    span.button("Edit passage").click()
    page = span.page
    page.evaluate(
        """() => { window.seen = []; new MutationObserver(() => {
            const bar = document.querySelector(".workbench progress");
            if (!bar.hidden) window.seen.push(bar.value);
        }).observe(document.querySelector(".workbench progress"), { attributes: true }); }"""
    )
    text = "Anna sells flowers in the old town, and Paul sells fish. " * 350
    passage = span.root.locator("textarea").nth(1)
    before = span.revision()
    passage.fill(text)
    span.lesson.wait(lambda: span.revision() > before, "an answer", seconds=60)
    assert len(page.evaluate("window.seen")) > 2
    assert span.root.locator(".error").text_content() == ""
    assert span.root.locator("button.piece").count() < 512


@pytest.mark.parametrize(("theme", "width"), [("Light", 1280), ("Dark", 1280), ("Light", 800), ("Dark", 800)])
def test_light_and_dark_wide_and_narrow(lesson, theme, width):
    opened = lesson(LESSON, width=width, height=1400)
    opened.dress(theme)
    opened.run_all(short=True)
    widget = opened.widget()
    assert widget.root.evaluate("e => e.scrollWidth <= e.clientWidth"), "nothing is cut off"
    wide = widget.root.evaluate(OVERFLOW)
    assert [name for name in wide if "piece" not in name] == [], "but two bars are wider than a full stop"
    assert accessibility_faults(opened) == []
    widget.after(widget.root.locator("[data-stage=head]").click)
    colours = widget.root.locator("canvas.vectors").first
    opened.wait(lambda: colours.evaluate(COLOURED), "coloured numbers")
    assert widget.root.locator(".largest tr").first.text_content().endswith("all 384")
    widget.picture("span_extraction")


def test_saved_page_stands_alone(span, browser, tmp_path):
    page = tmp_path / "page.html"
    span.lesson.python(
        "w = SpanExtraction(bert, 'Who sat?', 'The cat </script><b>sat</b>.', start_by_end=True)\n"
        f"w.save({str(page)!r})"
    )
    context = browser.new_context(offline=True)
    alone = Lesson(context.new_page())
    alone.page.goto(page.as_uri())
    widget = alone.widget()
    assert "</script><b>sat</b>" in widget.root.locator(".passage").text_content()
    canvas = widget.root.locator("canvas.map")
    assert canvas.evaluate(HAS_INK)
    canvas.hover(position={"x": 88, "y": 88})
    assert "“The”" in widget.root.text_content(), "what needs no kernel still works"
    widget.root.locator("textarea").first.fill("Something else.")
    expect(widget.root.locator(".error")).to_contain_text("saved view")
    assert accessibility_faults(alone) == [] and alone.faults == []
    context.close()
