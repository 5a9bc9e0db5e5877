"""AttentionExplorer in lesson 11: words and patches, by mouse and by keyboard."""

import pytest
from playwright.sync_api import expect

from .conftest import Lesson, cells_of
from .test_masked_filling import HAS_INK, accessibility_faults

pytestmark = pytest.mark.browser
LESSON = "11_one_encoder.ipynb"


@pytest.fixture
def explorer(lesson):
    opened = lesson(LESSON)
    widget = opened.run_to()
    # It is drawn once before it has a place on the page, and again when it has.
    opened.wait(lambda: widget.root.locator("canvas.large").first.bounding_box()["width"] > 200, "its size")
    widget.after(lambda: widget.root.locator("canvas.head-grid").click(position=place(widget, 1, 1)))
    return widget


def pixels(widget) -> str:
    return widget.root.locator("canvas.large").first.evaluate("c => c.toDataURL()")


def place(widget, layer: int, head: int) -> dict[str, float]:
    """Where a head's thumbnail is on its canvas, both counted from 1."""
    box = widget.root.locator("canvas.head-grid").bounding_box()
    size = (box["width"] - 18) / 12
    return {"x": 18 + size * (head - 0.5), "y": 18 + size * (layer - 0.5)}


def test_hover_previews_click_pins_and_keys_do_the_same(explorer):
    thumbs, title = explorer.root.locator("canvas.head-grid"), explorer.root.locator(".one h4")
    assert title.text_content() == "Layer 1, head 1" and thumbs.evaluate(HAS_INK)
    before = pixels(explorer)
    thumbs.hover(position=place(explorer, 4, 7))
    assert "layer 4, head 7" in explorer.root.locator(".heads .told").text_content()
    assert pixels(explorer) != before and title.text_content() == "Layer 1, head 1"
    explorer.page.mouse.move(0, 0)
    assert pixels(explorer) == before
    explorer.after(lambda: thumbs.click(position=place(explorer, 4, 7)))
    assert title.text_content() == "Layer 4, head 7"
    thumbs.focus()
    explorer.page.keyboard.press("ArrowDown")
    explorer.after(lambda: explorer.page.keyboard.press("Enter"))
    assert title.text_content() == "Layer 5, head 7"
    explorer.after(explorer.button("mean of heads").click)
    assert title.text_content() == "Layer 5, mean of all heads"


def test_a_pinned_pair_is_explained_and_views_filter(explorer):
    explorer.after(lambda: explorer.root.get_by_label("looks").select_option("3"))
    explorer.after(lambda: explorer.root.locator(".one select").last.select_option("6"))
    steps = explorer.root.locator(".steps")
    assert "How “bank” comes to look at “river”" in steps.text_content()
    assert steps.locator(".name").count() == 3
    explorer.button("switch it off").click()
    explorer.after(lambda: explorer.root.locator("canvas.head-grid").click(position=place(explorer, 1, 1)))
    assert "were this head not switched off" in steps.text_content()
    explorer.after(explorer.button("All heads on").click)
    assert "not switched off" not in steps.text_content()
    lines = pixels(explorer)
    explorer.button("matrix").click()
    explorer.lesson.wait(lambda: pixels(explorer) != lines, "the matrix")
    matrix = pixels(explorer)
    explorer.after(explorer.button("hide [CLS] and [SEP]").click)
    assert pixels(explorer) != matrix
    explorer.after(lambda: explorer.root.get_by_label("keep what makes up").fill("0.5"))
    assert "50 %" in explorer.root.locator("output").text_content()
    explorer.after(explorer.button("Keep to compare").click)
    assert "kept: layer 1, head 1" in explorer.root.locator("figcaption").last.text_content()


def test_heads_are_switched_off_and_tried(explorer):
    explorer.button("switch it off").click()
    explorer.after(lambda: explorer.root.locator("canvas.head-grid").click(position=place(explorer, 6, 4)))
    assert "1 of 72 heads are off" in explorer.root.locator(".answers").text_content()
    assert explorer.root.locator(".before").count() >= 3
    explorer.after(explorer.button("All heads on").click)
    assert explorer.root.locator(".before").count() == 0
    explorer.after(explorer.button("Try each head off").click)
    explorer.root.locator("canvas.head-grid").hover(position=place(explorer, 6, 8))
    assert "without it the answer" in explorer.root.locator(".heads .told").text_content()


def test_nothing_waits_for_an_answer_that_never_comes(explorer):
    explorer.button("matrix").click()
    explorer.root.locator("canvas.head-grid").click(position=place(explorer, 1, 1))  # it is shown already
    assert explorer.button("All heads on").is_disabled()
    explorer.page.wait_for_timeout(500)
    assert "waiting" not in explorer.root.get_attribute("class")


def test_texts_are_typed_and_errors_keep_what_was_there(explorer):
    field = explorer.root.get_by_label("Text", exact=True)
    shown = pixels(explorer)
    explorer.after(lambda: (field.fill("  "), field.press("Enter")))
    assert "empty" in explorer.root.locator(".error").text_content() and pixels(explorer) == shown
    explorer.after(lambda: (field.fill("<b>Two</b> [SEP] words [MASK]"), field.press("Enter")))
    assert explorer.root.locator(".error").text_content() == "" and pixels(explorer) != shown
    second = explorer.root.get_by_label("Second text")
    explorer.after(lambda: (second.fill("And more."), second.press("Enter")))
    explorer.after(lambda: explorer.root.get_by_label("segments").select_option("first to second"))
    cells = cells_of(explorer.page)
    explorer.root.locator("canvas.head-grid").focus()
    explorer.page.keyboard.press("d")
    explorer.page.keyboard.press("d")
    assert cells_of(explorer.page) == cells


def test_canvases_follow_the_theme(explorer):
    before = pixels(explorer)
    light = explorer.page.evaluate("document.body.dataset.jpThemeLight") == "true"
    explorer.lesson.command("apputils:change-theme", theme=f"JupyterLab {'Dark' if light else 'Light'}")
    explorer.lesson.wait(lambda: pixels(explorer) != before, "the colours of the other theme")


@pytest.mark.parametrize(("theme", "width"), [("Light", 1280), ("Dark", 1280), ("Dark", 800)])
def test_light_and_dark_wide_and_narrow(lesson, theme, width):
    opened = lesson(LESSON, width=width)
    opened.dress(theme)
    opened.run_all(short=True)
    for index in (0, 3):  # words, patches
        widget = opened.widget(index)
        assert widget.root.evaluate("e => e.scrollWidth <= e.clientWidth"), "nothing is cut off"
        assert widget.root.locator("canvas.large:visible, .patch-board:visible").first.evaluate(HAS_INK)
    patches = opened.widget(3)
    patches.after(lambda: patches.root.locator(".patch-board").first.click(position={"x": 60, "y": 60}))
    assert patches.root.get_by_role("combobox", name="looks").input_value() != "-1"
    assert accessibility_faults(opened) == []
    opened.widget(1).picture("attention_explorer")


def test_saved_page_stands_alone(explorer, browser, tmp_path):
    page = tmp_path / "page.html"
    explorer.lesson.python(
        f"w = AttentionExplorer(bert, 'Tea </script> for two.', query=1)\nprint(w.save({str(page)!r}))"
    )
    context = browser.new_context(offline=True)
    alone = Lesson(context.new_page())
    alone.page.goto(page.as_uri())
    widget = alone.widget()
    assert widget.root.locator("canvas.large").first.evaluate(HAS_INK)
    widget.root.locator("textarea").first.fill("Something else.")
    expect(widget.root.locator(".error")).to_contain_text("saved view")
    assert accessibility_faults(alone) == [] and alone.faults == []
    context.close()
