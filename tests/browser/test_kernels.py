"""Two tabs on one kernel, and a kernel that dies in the middle of an answer."""

import pytest
from playwright.sync_api import expect

from .conftest import Lesson

pytestmark = [pytest.mark.browser, pytest.mark.slow]
LESSON = "01_masked_filling.ipynb"


def test_two_tabs_on_one_kernel(lesson, lab: str) -> None:
    first = lesson(LESSON).run_to()
    tab = Lesson(first.page.context.new_page())
    # A workspace of its own: JupyterLab would notice that this one is open, and load the tab a second time.
    tab.open(lab.format(name=LESSON).replace("/lab/", "/lab/workspaces/second/"))
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
    opened.page.locator(".jp-Dialog button.jp-mod-accept").click(timeout=60_000)  # JupyterLab says so, too
    opened.wait_for_kernel()
    again = opened.run_to()
    again.after(again.chip("cup").click)
    assert again.root.locator(".card").count() == 2
