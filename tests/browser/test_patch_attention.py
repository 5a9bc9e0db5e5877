"""PatchAttention in lesson 09: patches and heads by mouse and by keyboard, its test, themes, saved pages."""

import pytest
from playwright.sync_api import expect

from .conftest import Lesson, Widget, cells_of
from .test_masked_filling import HAS_INK, accessibility_faults

pytestmark = pytest.mark.browser
LESSON = "09_vit_attention.ipynb"


@pytest.fixture
def attention(lesson):
    return lesson(LESSON).run_to()


def board(widget: Widget, which: int = 0):
    return widget.root.locator("canvas.patch-board").nth(which)


def pixels(widget: Widget, which: int = 0) -> str:
    return board(widget, which).evaluate("c => c.toDataURL()")


def title(widget: Widget, which: int = 0) -> str:
    return widget.root.locator(".maps figcaption").nth(which).text_content()


def head_place(widget: Widget, layer: int, head: int) -> dict[str, float]:
    """Where a small map is on its canvas, both counted from 1."""
    canvas = widget.root.locator("canvas.head-grid")
    layers = int(canvas.get_attribute("aria-label").split()[0])
    size = (canvas.bounding_box()["height"] - 18) / layers
    return {"x": 18 + size * (head - 0.5), "y": 18 + size * (layer - 0.5)}


def test_click_a_patch_pin_a_head_and_do_both_by_keys(attention):
    assert "class token looks" in title(attention) and board(attention).evaluate(HAS_INK)
    heads = attention.root.locator("canvas.head-grid")
    before = heads.evaluate("c => c.toDataURL()")
    attention.after(lambda: board(attention).click(position={"x": 60, "y": 60}))
    assert ", patch " in title(attention) and heads.evaluate("c => c.toDataURL()") != before
    assert "of the output" in attention.root.get_by_label("flag patches by").text_content()
    assert "× the median" in attention.root.locator(".attention-main .told").text_content()
    board(attention).focus()
    attention.page.keyboard.press("ArrowRight")
    clicked = title(attention)
    attention.after(lambda: attention.page.keyboard.press("Enter"))
    assert title(attention) != clicked
    cells = cells_of(attention.page)
    attention.page.keyboard.press("d")
    attention.page.keyboard.press("d")
    assert cells_of(attention.page) == cells
    heads.scroll_into_view_if_needed()
    shown = pixels(attention)
    heads.hover(position=head_place(attention, 3, 2))
    assert "layer 3, head 2" in attention.root.locator(".attention-side .told").text_content()
    assert pixels(attention) != shown
    attention.after(lambda: heads.click(position=head_place(attention, 3, 2)))
    assert title(attention).startswith("layer 3, head 2")
    attention.page.keyboard.press("ArrowDown")
    attention.after(lambda: attention.page.keyboard.press("Enter"))
    assert title(attention).startswith("layer 4, head 2")
    attention.after(attention.button("Class token looks").click)
    assert "class token looks" in title(attention)
    shown = pixels(attention)
    attention.button("interpolated").click()
    assert pixels(attention) != shown  # no answer of Python's is needed
    attention.after(attention.button("relevance").click)
    attention.after(lambda: attention.root.get_by_label("beside it").select_option(index=2))
    assert title(attention, 1).startswith("relevance for") and board(attention, 1).evaluate(HAS_INK)


def test_a_map_is_tested_and_errors_keep_what_was_there(attention):
    attention.after(attention.button("rollout").click)
    attention.after(lambda: attention.root.get_by_label("leave out the smallest").fill("0.5"))
    assert "50 % left out" in title(attention)
    attention.after(attention.button("Hide its top patches, step by step").click)
    assert "rollout" in attention.root.locator(".map-verdict").text_content()
    assert attention.root.locator(".map-table tbody tr").count() == 1
    hidden = attention.root.locator(".map-shown canvas").first
    shown = hidden.evaluate("c => c.toDataURL()")
    attention.root.get_by_role("slider", name="hidden").fill("9")
    assert hidden.evaluate("c => c.toDataURL()") != shown
    shown = pixels(attention)
    junk = {"name": "junk.png", "mimeType": "image/png", "buffer": b"junk"}
    attention.after(lambda: attention.root.locator("input[type=file]").set_input_files(junk))
    assert "no picture" in attention.root.locator(".error").last.text_content()
    assert pixels(attention) == shown and attention.root.locator(".map-table tbody tr").count() == 1
    attention.after(lambda: attention.root.get_by_label("or a sample").select_option("boat"))
    attention.lesson.wait(lambda: pixels(attention) != shown, "another picture")


@pytest.mark.parametrize(("theme", "width"), [("Light", 1280), ("Dark", 1280), ("Dark", 800)])
def test_light_and_dark_wide_and_narrow_and_saved(lesson, browser, tmp_path, theme, width):
    opened = lesson(LESSON, width=width, height=2000)  # the whole widget is on the screen
    opened.dress(theme)
    last = 4
    opened.run_to(last)
    for index in (0, 1, last):
        widget = opened.widget(index)
        assert widget.root.evaluate("e => e.scrollWidth <= e.clientWidth"), "nothing is cut off"
        assert board(widget).evaluate(HAS_INK)
    assert accessibility_faults(opened) == []
    opened.widget(last).picture("patch_attention")
    if theme == "Dark":
        return
    page = tmp_path / "page.html"
    opened.python(f"asked.save({str(page)!r})")
    context = browser.new_context(offline=True)
    alone = Lesson(context.new_page())
    alone.page.goto(page.as_uri())
    widget = alone.widget()
    assert board(widget).evaluate(HAS_INK) and widget.root.locator(".map-table tbody tr").count() > 1
    widget.root.get_by_label("or a sample").select_option("boat")
    expect(widget.root.locator(".error").last).to_contain_text("saved view")
    assert accessibility_faults(alone) == [] and alone.faults == []
    context.close()
