"""NextSentence and SentencePair with their lessons, by mouse and by keyboard."""

import re

import pytest
from playwright.sync_api import expect

from .conftest import Lesson, Widget, cells_of
from .test_masked_filling import HAS_INK, accessibility_faults

pytestmark = pytest.mark.browser
LINES = "Which word looks at which?"
NEXT, PAIRS = "02_next_sentence.ipynb", "05_sentence_pairs.ipynb"
OVERFLOW = """root => [...root.querySelectorAll("*")].filter((part) =>
    part.clientWidth > 0 && part.scrollWidth > part.clientWidth + 2
    && getComputedStyle(part).overflowX === "visible").map((part) => part.className)"""


LOOKS = pytest.mark.parametrize(
    ("theme", "width"), [("Light", 1280), ("Dark", 1280), ("Light", 800), ("Dark", 800)]
)


def first_widget(lesson, name: str) -> Widget:
    return lesson(name).run_to()


def value(widget: Widget, row: int = 0) -> str:
    return widget.root.locator(".bar .value").nth(row).text_content()


def looks_right(lesson, name: str, picture: str, theme: str, width: int) -> None:
    opened = lesson(name, width=width, height=1000)
    opened.dress(theme)
    opened.run_all(short=True)
    widget = opened.widget()
    assert widget.root.evaluate("e => e.scrollWidth <= e.clientWidth"), "nothing is cut off"
    assert widget.root.evaluate(OVERFLOW) == []
    assert accessibility_faults(opened) == []
    widget.picture(picture)


def test_next_sentence_by_mouse(lesson):
    widget = first_widget(lesson, NEXT)
    field = widget.root.locator("textarea")
    tokens = widget.root.locator(".token")
    assert tokens.first.locator("b").text_content() == "[CLS]"
    assert tokens.first.locator("small").text_content() == "0 · 0"
    assert widget.root.locator(".token.second small").first.text_content().startswith("1 · ")
    texts = [field.nth(0).input_value(), field.nth(1).input_value()]
    # The bar is the task's own number.
    said = widget.lesson.python(f"print(100 * wb.next_sentence(bert, *{texts!r}).is_next)")
    assert float(re.sub(r"[^\d.]", "", value(widget))) == pytest.approx(float(said), abs=0.6)

    widget.after(widget.button("Swap").click)
    assert [field.nth(0).input_value(), field.nth(1).input_value()] == texts[::-1]
    widget.after(widget.button("Random second sentence").click)
    assert field.nth(1).input_value() not in texts

    widget.after(widget.button("at the end").click)
    assert tokens.last.locator("b").text_content() == "[CLS]"
    count = tokens.count()
    assert tokens.last.locator("small").text_content() == f"0 · {count - 1}"
    widget.after(widget.button("stay with the token").click)
    assert tokens.last.locator("small").text_content() == "0 · 0"
    assert "The same as with [CLS] in front" in widget.root.locator(".answer").text_content()
    widget.after(
        lambda: widget.root.get_by_label("Attention from [CLS]: layer").select_option(label="all (rollout)")
    )
    assert widget.root.get_by_label("head").is_disabled(), "rollout is of all heads"
    assert widget.root.locator(".stack").count() == 0
    widget.after(widget.root.locator("[data-stage=layer]").click)
    assert widget.root.locator(".stack").count() == 18


def test_next_sentence_typing_and_errors(lesson):
    widget = first_widget(lesson, NEXT)
    field = widget.root.locator("textarea").nth(1)
    before = widget.root.locator(".token b").all_text_contents()
    for text, said in [("  ", "empty"), ("word " * 4000, "shorten")]:
        widget.after(lambda text=text: field.fill(text))
        assert said in widget.root.locator(".error").text_content()
        assert widget.root.locator(".token b").all_text_contents() == before
    widget.after(lambda: field.fill("<b>Then</b> [SEP] the sun came out."))
    assert widget.root.locator(".error").text_content() == ""
    assert "sun" in widget.root.locator(".token b").all_text_contents()
    assert widget.root.locator(".token b b").count() == 0, "text is set as text"
    first = widget.root.locator("textarea").nth(0)
    widget.after(lambda: field.fill(first.input_value()))
    assert "the same" in widget.root.locator(".remark").text_content()


def test_the_game_by_keyboard(lesson):
    opened = lesson(NEXT)
    widget = opened.run_to(2)  # the lesson has begun a game there
    cells, page = cells_of(opened.page), opened.page
    game = widget.root.locator(".game")
    assert "Pair 1 of 10" in game.text_content() and game.locator(".bar").count() == 0
    widget.button("It follows").focus()
    for number in range(1, 11):
        widget.after(lambda: page.keyboard.press("Enter"))  # a guess
        assert game.locator(".bar").count() == 1, "then the model's answer is shown"
        assert f"of {number}" in game.locator(".score").text_content()
        widget.after(lambda: page.keyboard.press("Enter"))  # the next pair
    assert "Game over" in game.text_content()
    assert "You 5" in game.locator(".score").text_content(), "half of the pairs follow"
    assert cells_of(page) == cells


@LOOKS
def test_next_sentence_light_and_dark_wide_and_narrow(lesson, theme, width):
    looks_right(lesson, NEXT, "next_sentence", theme, width)


def test_sentence_pair_edit_one_word(lesson):
    widget = first_widget(lesson, PAIRS)
    page = widget.page
    assert widget.root.locator(".classes .bar").count() == 3
    widget.button(LINES).click()
    assert widget.root.locator("canvas.overlay").evaluate(HAS_INK)
    word = widget.root.locator("button.chip.second", has_text=re.compile("^music$"))
    word.click()
    assert word.get_attribute("aria-pressed") == "true"
    assert "music →" in widget.root.locator(".note", has_text="The strongest lines").text_content()
    widget.button("Edit this word").click()
    assert page.evaluate("document.getSelection().toString()") == "music"
    start = [value(widget, row) for row in range(3)]
    for letter in "noise":  # the ticks stay at the answer before the first letter
        page.keyboard.type(letter)
        page.wait_for_timeout(150)
    widget.lesson.wait(
        lambda: widget.root.locator("button.chip.second", has_text="noise").count() == 1, "the new word"
    )
    before = widget.lesson.python(
        "from workbench.widgets import SentencePair\n"
        "print([round(100 * c.probability, 1) for c in wb.classify_pair(bert, "
        "'A woman is playing the guitar on a stage.', 'A woman is making music.')])"
    )
    ticks = [
        round(float(re.search(r"left: ([\d.]+)%", style).group(1)) / 0.99, 1)
        for style in widget.root.locator(".before").evaluate_all("t => t.map(e => e.getAttribute('style'))")
    ]
    wanted = [float(number) for number in before.strip("[]").split(", ")]
    assert all(min(abs(tick - number) for number in wanted) < 0.2 for tick in ticks) and ticks
    assert len(start) == 3 and word.count() == 0


def test_sentence_pair_keys_direction_and_errors(lesson):
    widget = first_widget(lesson, PAIRS)
    page = widget.page
    words = widget.root.locator("button.chip:not(.second)")
    assert not words.first.is_visible()
    widget.button(LINES).click()
    words.first.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.textContent") == words.nth(1).text_content()
    page.keyboard.press("Enter")
    assert words.nth(1).get_attribute("aria-pressed") == "true"
    page.keyboard.press("d")
    page.keyboard.press("d")
    widget.after(widget.button("premise looks at hypothesis").click)
    assert words.nth(1).get_attribute("aria-pressed") == "true", "what is pinned stays"
    widget.after(lambda: widget.root.get_by_label("head").select_option("3"))
    field = widget.root.locator("textarea").nth(1)
    widget.after(lambda: field.fill(" "))
    assert "empty" in widget.root.locator(".error").text_content()
    assert widget.root.locator(".classes .bar").count() == 3
    widget.after(lambda: widget.root.get_by_label("Pick a pair").select_option("9"))
    assert widget.root.locator(".error").text_content() == ""
    assert field.input_value() == "A white cat is chasing a black dog."


@LOOKS
def test_sentence_pair_light_and_dark_wide_and_narrow(lesson, theme, width):
    looks_right(lesson, PAIRS, "sentence_pair", theme, width)


@pytest.mark.parametrize("name", [NEXT, PAIRS])
def test_saved_page_stands_alone(lesson, browser, tmp_path, name):
    opened = lesson(name)
    opened.run_to()
    page = tmp_path / "page.html"
    kind = "NextSentence" if name == NEXT else "SentencePair"
    opened.python(
        f"w = {kind}(bert, 'Tea </script><b>for</b> two.', 'Coffee for one.')\nw.save({str(page)!r})"
    )
    context = browser.new_context(offline=True, color_scheme="dark")
    alone = Lesson(context.new_page())
    alone.page.goto(page.as_uri())
    widget = alone.widget()
    assert "Coffee for one." in widget.root.locator("textarea").nth(1).input_value()
    assert widget.root.locator(".bar .value").first.text_content()
    widget.root.locator("textarea").first.fill("Something else.")
    expect(widget.root.locator(".error")).to_contain_text("saved view")
    assert accessibility_faults(alone) == [] and alone.faults == []
    context.close()
