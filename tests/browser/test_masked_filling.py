"""MaskedFilling and its lesson, by mouse and by keyboard, in JupyterLab and in a saved page."""

import json
import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from .conftest import Lesson, cells_of

pytestmark = pytest.mark.browser
LESSON = "01_masked_filling.ipynb"
# The page around a widget is JupyterLab's; its own findings are not ours. And no list of all that is right.
AXE = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"], "resultTypes": ["violations"]}

HAS_INK = "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(v => v > 0)"


def accessibility_faults(lesson: Lesson, within: str = ".workbench") -> list[str]:
    results = Axe().run(lesson.page, context=within, options=AXE)
    return [f"{fault['id']}: {fault['nodes'][0]['html']}" for fault in results.response["violations"]]


@pytest.fixture
def filling(lesson):
    """The lesson's first widget."""
    return lesson(LESSON).run_to()


def test_click_masks_and_unmasks(filling):
    assert "tea" in filling.guesses()
    filling.after(filling.chip("cup").click)
    assert filling.root.locator(".card").count() == 2
    assert filling.root.locator("button.chip.mask").all_text_contents() == ["[MASK]", "[MASK]"]
    filling.after(filling.root.locator("button.chip.mask").first.click)
    assert filling.root.locator(".card").count() == 1
    assert filling.chip("cup").get_attribute("aria-pressed") == "false"
    filling.after(filling.button("Unmask all").click)
    filling.button("Unmask all").click()  # there is nothing left to do, and so to wait for
    filling.page.wait_for_timeout(500)
    assert "waiting" not in filling.root.get_attribute("class")


def test_the_bars_are_the_models_own_numbers(filling):
    filling.after(filling.chip("morning").click)
    said = filling.lesson.python(
        "print([(c.label, f'{100 * c.probability:.1f}') for c in wb.fill_mask(bert, "
        "'I drink a cup of tea every morning.', masks=[(17, 20), (27, 34)])[0].candidates])"
    )
    assert filling.guesses() == re.findall(r"\('(.+?)',", said)
    widths = (
        filling.root.locator(".card")
        .first.locator(".fill")
        .evaluate_all("bars => bars.map(b => b.offsetWidth)")
    )
    assert widths == sorted(widths, reverse=True) and widths[0] > 0


def test_hover_previews_and_click_pins_a_candidate(filling):
    chip = filling.root.locator("button.chip.mask")
    second = filling.root.locator(".bar").nth(1)
    word = filling.guesses()[1]
    second.hover()
    assert filling.root.locator("button.chip.filled").text_content() == word
    filling.page.mouse.move(0, 0)
    assert chip.text_content() == "[MASK]"
    second.click()
    filling.page.mouse.move(0, 0)
    assert filling.root.locator("button.chip.filled").text_content() == word
    assert second.get_attribute("aria-pressed") == "true"
    filling.after(filling.button("Unmask all").click)
    assert filling.root.locator("button.chip.filled").count() == 0, "the model reads the text as it was typed"


def test_editing_keeps_masks_and_errors_keep_the_last_good_state(filling):
    filling.button("Edit text").click()
    area = filling.root.locator("textarea")
    filling.after(lambda: area.fill("Quickly I drink a cup of tea every morning."))
    area.press("Enter")
    assert filling.root.locator("button.chip.mask").count() == 1
    assert filling.guesses() and filling.chip("Quickly").is_visible()

    filling.button("Edit text").click()
    for text, said in [("   ", "empty"), ("word " * 20_000, "shorten"), ("\ud83d", "no word")]:
        # Playwright cannot type a lone surrogate: set it as a script would.
        area.evaluate(
            "(a, t) => { a.value = JSON.parse(t); a.dispatchEvent(new Event('input')); }", json.dumps(text)
        )
        filling.lesson.wait(lambda said=said: said in filling.root.locator(".error").text_content(), said)
        assert filling.guesses(), "the last good state stays"
    filling.after(lambda: area.fill("Dies ist leider kein englischer Satz geworden"))
    assert (
        "do not trust"
        in filling.root.get_by_role("status").and_(filling.root.locator(".remark")).text_content()
    )
    filling.after(lambda: area.fill("Good <script>alert(1)</script> tea [SEP] is [MASK]."))
    area.press("Enter")
    assert filling.root.locator(".error").text_content() == ""
    assert "script" in filling.root.locator(".chips").text_content()
    assert filling.lesson.python("print(1 + 1)") == "2", "the kernel lives"


def test_random_masking_shows_what_became_of_each_word(filling):
    widget = filling.lesson.run_to(2)
    kinds = set()
    for _ in range(9):
        widget.after(widget.button("Mask 15 % at random").click)
        classes = widget.root.locator("button.chip[aria-pressed=true]").evaluate_all(
            "c => c.map(e => e.className)"
        )
        assert 5 <= len(classes) <= 7  # 15 % of 41 words
        kinds |= {name.split()[1] for name in classes}
    assert kinds == {"mask", "random", "keep"}
    widget.after(widget.button("Unmask all").click)
    assert widget.root.locator(".empty").is_visible()


def test_layers_context_attention_and_top_k(filling):
    layers = filling.root.locator(".by-layer li")
    assert layers.count() == 0, "what is closed is not there"
    filling.after(filling.root.locator("[data-stage=layer]").click)
    assert layers.count() == 7
    filling.after(lambda: filling.root.get_by_label("Layer", exact=True).fill("0"))
    first = layers.first.text_content()
    assert filling.guesses()[0] in first, "cards and list agree"
    filling.after(lambda: filling.root.get_by_label("Layer", exact=True).fill("6"))
    assert "tea" in filling.guesses()

    filling.after(filling.button("hide left").click)
    assert filling.root.locator("button.chip.hidden").count() == 5
    assert filling.root.locator(".before").count() == 5
    assert "tea" not in filling.guesses()
    filling.after(filling.button("all words").click)
    assert "tea" in filling.guesses()

    def shades():
        return filling.root.locator(".chip").evaluate_all(
            "c => c.map(e => e.style.getPropertyValue('--shade'))"
        )

    mean = shades()
    filling.after(lambda: filling.root.get_by_label("head").select_option("3"))
    assert shades() != mean
    filling.after(lambda: filling.root.get_by_label("Attention: layer").select_option("1"))
    filling.button("Lines").click()
    filling.lesson.wait(lambda: filling.root.locator("canvas.links").evaluate(HAS_INK), "lines")
    filling.after(
        lambda: (
            filling.root.get_by_label("Candidates for each mask").fill("8"),
            filling.page.keyboard.press("Tab"),
        )
    )
    assert len(filling.guesses()) == 8


def test_keyboard_alone(filling):
    page, cells = filling.page, cells_of(filling.page)
    filling.root.locator("button.chip").first.focus()
    page.keyboard.press("ArrowRight")
    filling.after(lambda: page.keyboard.press("Enter"))
    assert filling.root.locator("button.chip").nth(1).text_content() == "[MASK]"
    page.keyboard.press("d")
    page.keyboard.press("d")  # in JupyterLab's command mode this deletes a cell
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.textContent") == "."
    filling.after(lambda: page.keyboard.press("Space"))
    assert page.evaluate("document.activeElement.textContent") == "[MASK]", "focus stays on the word"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Edit text"
    page.keyboard.press("Enter")
    page.keyboard.press("Control+A")
    page.keyboard.type("A dog.")  # Python answers as often as it can keep up
    page.keyboard.press("Enter")
    filling.lesson.wait(filling.chip("dog").is_visible, "the typed word")
    assert cells_of(page) == cells


@pytest.mark.parametrize("width", [1280, 800])
@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_light_and_dark_wide_and_narrow(lesson, theme, width):
    opened = lesson(LESSON, width=width)
    opened.dress(theme)
    opened.run_all()
    widget = opened.widget(3)
    widget.after(widget.root.locator("[data-stage=layer]").click)
    back = widget.root.evaluate("e => getComputedStyle(e).backgroundColor")
    assert (int(re.findall(r"\d+", back)[0]) > 128) == (theme == "Light")
    overflow = """root => [...root.querySelectorAll("*")].filter((part) =>
        part.clientWidth > 0 && part.scrollWidth > part.clientWidth + 2
        && getComputedStyle(part).overflowX === "visible").map((part) => part.className)"""
    assert widget.root.evaluate("e => e.scrollWidth <= e.clientWidth"), "nothing is cut off"
    assert widget.root.evaluate(overflow) == []
    blocks, layers = (
        widget.root.locator(part).bounding_box()
        for part in (".drawer .columns > div", ".drawer .columns > section")
    )
    apart = blocks["x"] + blocks["width"] <= layers["x"] or blocks["y"] + blocks["height"] <= layers["y"]
    assert apart, "panels do not lie on each other"
    assert accessibility_faults(opened) == []
    first = opened.widget()
    first.after(first.chip("cup").click)
    first.picture("masked_filling")


def test_kernel_restart(filling):
    """The view stays, says that nobody answers, and works again after the cell was run again."""
    filling.lesson.page.evaluate(
        "window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()"
    )
    filling.lesson.wait_for_kernel()
    again = filling.lesson.run_to()
    again.after(again.chip("cup").click)
    assert again.root.locator(".card").count() == 2


def test_saved_page_stands_alone(filling, browser, tmp_path):
    filling.after(filling.chip("cup").click)
    page = tmp_path / "page.html"
    filling.lesson.python(
        "from workbench.widgets import base; base.LARGEST = 100_000\n"  # bytes; all of them take seconds
        "w = MaskedFilling(bert, 'Tea </script><b>for</b> two.', masked=[(0, 3)])\n"
        f"print(w.save({str(page)!r}))"
    )
    context = browser.new_context(offline=True)
    alone = Lesson(context.new_page())
    alone.page.goto(page.as_uri())
    widget = alone.widget()
    assert (
        widget.guesses()
        == filling.lesson.python("print(*[c[0] for c in w.guesses['cards'][0]['candidates']])").split()
    )
    assert "script" in widget.root.locator(".chips").text_content()
    widget.button("Mask 15 % at random").click()
    expect(widget.root.locator(".error")).to_contain_text("saved view")
    widget.button("Lines").click()
    assert widget.root.locator("canvas.links").evaluate(HAS_INK), "what needs no kernel still works"
    assert accessibility_faults(alone) == [] and alone.faults == []
    context.close()


def test_start_here_runs(lesson):
    opened = lesson("00_start_here.ipynb")
    opened.run_all()
    widget = opened.widget()
    widget.after(widget.chip("sky").click)
    assert widget.root.locator(".card").count() == 2
    assert accessibility_faults(opened) == []
