"""A narrow window, two tabs on one kernel, and a kernel that dies in the middle of an answer."""

import re

import pytest
from playwright.sync_api import expect

from .conftest import Lesson

pytestmark = [pytest.mark.browser, pytest.mark.slow]
LESSON = "01_masked_filling.ipynb"


def test_what_opens_has_room_in_a_narrow_window(browser, lab: str) -> None:
    page = browser.new_page(viewport={"width": 400, "height": 800})
    page.goto(re.sub("doc/tree.*&", "?", lab))
    page.wait_for_url("**/doc/tree/00_start_here.ipynb*")
    opened = Lesson(page)
    opened.open(page.url)
    view = opened.run_to()
    assert view.root.bounding_box()["width"] > 270
    view.after(view.root.locator("button.chip[aria-pressed=false]").first.click)
    assert view.root.evaluate("e => e.scrollWidth <= e.clientWidth"), "nothing is cut off"
    page.close()


def test_two_tabs_on_one_kernel(lesson, lab: str) -> None:
    first = lesson(LESSON).run_to()
    tab = Lesson(first.page.context.new_page())
    # A workspace of its own: JupyterLab would notice that this one is open, and load the tab a second time.
    tab.open(lab.format(name=LESSON).replace("/doc/", "/doc/workspaces/second/"))
    second = tab.run_to()
    assert tab.python("import os; print(os.getpid())") == first.lesson.python("print(os.getpid())")
    for view in (first, second, first):
        cards = view.root.locator(".card").count()
        view.after(view.root.locator("button.chip[aria-pressed=false]").first.click)
        assert view.root.locator(".card").count() == cards + 1
    assert first.root.locator(".card").count() == second.root.locator(".card").count() + 1
    assert tab.faults == []
    tab.page.close()


def test_a_kernel_that_dies_in_the_middle_of_an_answer(lesson) -> None:
    opened = lesson(LESSON)
    view = opened.run_to()
    opened.python("import os\nMaskedFilling._show = lambda widget: os._exit(1)")
    view.chip("cup").click()
    expect(view.root.locator(".error")).to_contain_text("run this cell again", timeout=60_000)
    assert view.chip("cup").count() == 1, "what was there stays"
    # JupyterLab says so, too, and on a busy machine twice.
    opened.page.locator(".jp-Dialog").first.wait_for(timeout=60_000)
    close = lambda dialog: dialog.first.locator("button.jp-mod-accept").click()  # noqa: E731
    opened.page.add_locator_handler(opened.page.locator(".jp-Dialog"), close)
    opened.wait_for_kernel()
    again = opened.run_to()
    again.after(again.chip("cup").click)
    assert again.root.locator(".card").count() == 2
