"""What stays true after a click: the keyboard's focus, candidates in their places, and what is said."""

import numpy as np
import pytest
from PIL import Image
from tiny import attends, our_bert, patch_vit, sentence_bert

from workbench.widgets import (
    AttentionExplorer,
    FineTuning,
    MaskedFilling,
    NextSentence,
    PatchHiding,
    SpanExtraction,
    TokenTagger,
)

from .conftest import USUAL_SCREEN
from .drawn import View, cells, shares

pytestmark = [pytest.mark.browser, USUAL_SCREEN]
WHITE = Image.new("RGB", (48, 32), "white")  # 4 x 6 patches of 8 pixels
ACTIVE = "document.activeElement.textContent || document.activeElement.tagName"
# What the kernel would answer.
ANSWER = """(values) => {
    for (const [name, value] of Object.entries({ ...values, revision: model.get("revision") + 1 }))
        model.set(name, value);
    sent.length = 0; // it is no click
    return settle();
}"""


def press(view: View, name: str, key: str = "Enter") -> None:
    view.page.get_by_role("button", name=name, exact=True).focus()
    view.page.keyboard.press(key)


def answer(view: View, **values: object) -> None:
    view.page.evaluate(ANSWER, values)


# --- the keyboard's focus


def test_focus_stays_beside_a_button_that_is_disabled(page):
    view = View(page, FineTuning(sentence_bert(), [("the cat", "cat")] * 9, lambda *_: None))
    press(view, "Train")
    assert view.sent() == [{"do": "train"}]
    answer(view, state="training", now="frozen")
    assert page.evaluate("document.activeElement.className") == "bar-row"
    page.keyboard.press("Enter")
    assert view.sent() == [], "a second Enter presses no other button"
    page.keyboard.press("Tab")
    assert page.evaluate(ACTIVE) == "Stop, keep what was learned"
    page.keyboard.press("Enter")
    answer(view, state="stopped")
    page.keyboard.press("Tab")
    assert page.evaluate(ACTIVE) == "Train anew"


def test_pages_turn_by_one_button(page):
    widget = MaskedFilling(our_bert("mlm"), "the cat sat on a mat a red dog ran the cat sat on a mat")
    widget.masked = [(word["start"], word["end"]) for word in widget.words[1:-1]]
    assert widget.guesses["count"] == 16 and not widget.error
    for pinned, turns in ((0, [True, False]), (6, [False, False]), (12, [False, True])):
        widget.pinned = pinned
        view = View(page, widget)
        buttons = page.get_by_role("button", name="previous"), page.get_by_role("button", name="next")
        assert [one.is_disabled() for one in buttons] == turns
    press(view, "previous")
    assert view.sent() == [{"pinned": 11}]
    passage = "the cat sat on a mat. " * 12
    widget = SpanExtraction(our_bert("span", max_position_embeddings=48), "a cat", passage)
    view = View(page, widget)
    assert widget.view["windows"] > 1
    last = widget.view["windows"] - 1
    for window in (0, last):
        widget.window = window
        view = View(page, widget)
        assert page.get_by_role("button", name="next").is_disabled() == (window == last)
        assert page.get_by_role("button", name="previous").is_disabled() == (window == 0)


def test_a_drawing_moves_no_focus_in_the_game(page):
    widget = NextSentence(our_bert("nsp"), "the cat sat.", "a dog ran.")
    widget._act({"do": "play"})
    view = View(page, widget)
    page.get_by_role("button", name="It is from elsewhere").focus()
    page.set_viewport_size({"width": 700, "height": 3000})
    page.evaluate("settle()")
    page.set_viewport_size({"width": 1000, "height": 3000})
    page.evaluate("settle()")
    assert page.evaluate(ACTIVE) == "It is from elsewhere"
    page.keyboard.press("Enter")
    assert view.sent() == [{"do": "guess", "is_next": False}]
    answer(view, game=widget.game | {"truth": True, "guess": False, "model": 0.6})
    assert page.evaluate(ACTIVE) == "Next pair"


@pytest.mark.parametrize(("text", "turned"), [("the cat sat", False), ("שלום לכל העולם", True)])
def test_arrow_keys_go_where_they_point(page, text, turned):
    view = View(page, MaskedFilling(our_bert("mlm"), text))
    view.at("button.chip", 1).focus()
    page.keyboard.press("ArrowRight")
    chips = view.read("button.chip", "(chip) => chip === document.activeElement")
    assert chips.index(True) == (0 if turned else 2)
    lefts = view.read("button.chip", "(chip) => chip.getBoundingClientRect().left")
    assert lefts[chips.index(True)] > lefts[1]


# --- candidates in their places


def test_a_candidate_lasts_as_long_as_its_guesses(page):
    widget = MaskedFilling(our_bert("mlm"), "the cat sat", masked="cat")
    view = View(page, widget)

    def shown() -> str:
        return view.read(".chip .text", "(one) => one.textContent")[2]

    name = widget.guesses["cards"][0]["candidates"][1][0]
    for change in (
        {"text": "a dog ran"},  # with a mask at the same place
        {"words": [one | ({"kind": "word"} if at == 2 else {}) for at, one in enumerate(widget.words)]},
        {"guesses": widget.guesses | {"cards": [widget.guesses["cards"][0] | {"candidates": [["x", 1, 1]]}]}},
    ):
        view = View(page, widget)
        view.at(".card .bar", 1).click()
        page.mouse.move(0, 0)
        assert shown() == name
        answer(view, lines=True)
        assert shown() == name
        answer(view, **change)
        assert shown() != name, change
    widget = MaskedFilling(our_bert("mlm"), "the [MASK] sat")
    name = widget.guesses["cards"][0]["candidates"][1][0]
    view = View(page, widget)
    view.at(".card .bar", 1).click()
    view.at(".chip", 2).click()  # and the typed mask itself
    page.mouse.move(0, 0)
    assert shown() == "[MASK]" and not view.read("[aria-pressed=true].bar", "(one) => 1")


def test_enter_ends_a_word_of_an_input_method_first(page):
    view = View(page, MaskedFilling(our_bert("mlm"), "the cat sat"))
    press(view, "Edit text")
    key = "(area) => area.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', isComposing: %s}))"
    for composing, editing in (("true", True), ("false", False)):
        view.at("textarea").evaluate(key % composing)
        assert view.at("textarea").is_visible() == editing


# --- what is said


def test_what_is_told_of_a_word_stays_after_a_click(page):
    view = View(page, TokenTagger(sentence_bert(), "The unplayful cat sat"))
    view.at(".chip", 2).hover()
    said = view.texts(".told")[0]
    assert said.startswith("“cat”: ")
    answer(view, pinned=2)
    assert view.texts(".told")[0] == said


def test_what_is_told_of_a_map_is_of_the_map_that_is_shown(page):
    bert = our_bert("mlm")
    maps = attends(bert, 8)
    text = "the cat sat on a mat"
    view = View(page, AttentionExplorer(bert, text, view="matrix", layer=1, head=1))
    canvas, tip = view.at("canvas.large"), view.at(".one .told")
    place = cells(8, 8, view.box(canvas, 84, 84))[8 * 2 + 5]
    (said,) = view.told(canvas, [place], ".one .told")
    assert shares(said) == [pytest.approx(float(maps[1, 1, 2, 5]), abs=0.006)]
    other = AttentionExplorer(bert, text, view="matrix", layer=3, head=2)
    numbers = np.frombuffer(other.matrix, np.float16).tobytes()
    page.evaluate("(all) => model.set('matrix', new DataView(Uint8Array.from(all).buffer))", list(numbers))
    answer(view, layer=3, head=2)
    assert shares(tip.text_content()) == [pytest.approx(float(maps[3, 2, 2, 5]), abs=0.006)]
    canvas.evaluate("(canvas) => point(canvas, 'mouseleave', [0, 0])")
    assert tip.text_content() == ""


def test_the_keys_begin_at_the_head_that_is_shown(page):
    view = View(page, AttentionExplorer(our_bert("mlm"), "the cat sat", layer=1, head=2))
    grid = view.at("canvas.head-grid")
    answer(view, layer=3)
    assert grid.get_attribute("aria-label").endswith("Now: layer 4, head 3.")
    page.get_by_role("button", name="switch it off").click()
    view.click(grid, [18 + 2, 18 + 2])  # of the first head
    answer(view, head=-1)
    press(view, "mean of heads")
    assert view.sent()[-1] == {"head": 2}


def test_two_texts_of_which_one_is_emptied_leave_a_map(page):
    widget = AttentionExplorer(our_bert("mlm"), "the cat sat.", second="a dog ran.", pair="second to first")
    widget.second = ""
    assert float(np.frombuffer(widget.matrix, np.float16).sum()) == pytest.approx(6, abs=0.02)
    view = View(page, widget)
    assert "left out" not in view.told(view.at("canvas.large"), [[9, 9]], ".one .told")[0]


def test_a_hidden_patch_is_said_to_be_hidden(page):
    view = View(page, PatchHiding(patch_vit(), WHITE, hidden=[1]))
    view.at("canvas.patch-board").focus()
    for key, said in (("ArrowRight", "row 1, column 2, hidden"), ("ArrowRight", "row 1, column 3")):
        page.keyboard.press(key)
        assert view.texts(".overlaid .unseen")[0] == said


def test_the_answer_is_read_aloud_and_milliseconds_are_not(page):
    view = View(page, MaskedFilling(our_bert("mlm"), "the cat sat", masked="cat"))
    assert view.read(".status", "(one) => one.role") == [None]
    (answer,) = view.read(".stages [aria-live]", "(one) => one.textContent")
    assert answer.startswith(view.widget.guesses["cards"][0]["candidates"][0][0])


def test_a_training_that_was_cut_off_says_so(page):
    widget = FineTuning(sentence_bert(), [("the cat", "cat")] * 9, lambda *_: None, steps=40)
    widget.state, widget.now, widget.awaited = "training", "frozen", True
    view = View(page, widget)
    answer(view, planned=40)
    train = page.get_by_role("button", name="Train anew")
    assert train.is_disabled() and "A cell waits" in view.texts(".bar-row [role=status]")[0]
    page.evaluate("model.saved = true")  # no kernel is behind it any more
    answer(view)
    assert view.texts(".bar-row [role=status]")[0].endswith("step 0 of 40. It was cut off there.")
    train.click()
    assert "This is a saved view" in view.texts(".error")[0]
    page.evaluate("model.saved = false")


def test_what_a_saved_view_said_goes_with_the_next_click(page):
    view = View(page, MaskedFilling(our_bert("mlm"), "the cat sat"))
    page.evaluate("model.saved = true")
    view.at(".chip", 1).click()
    page.wait_for_function("document.querySelector('.error').textContent")
    press(view, "Lines")
    assert view.texts(".error") == [""]


def test_bars_are_printed(page):
    view = View(page, MaskedFilling(our_bert("mlm"), "the cat sat", masked="cat"))
    assert {*view.read(".bar *", "(one) => getComputedStyle(one).printColorAdjust")} == {"exact"}
