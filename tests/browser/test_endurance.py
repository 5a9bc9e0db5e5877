"""Many clicks: nothing grows in the kernel, nor in the browser."""

import gc
import random

import pytest
import torch
from playwright.sync_api import Browser

from .every import every_widget, one_page
from .test_saved import axes, messages, widgets

pytestmark = [pytest.mark.browser, pytest.mark.slow]
REDRAW = """async (count) => {
    for (let at = 0; at < count; at++) {
        for (const model of models) model.set("revision", model.get("revision") + 1);
        await new Promise(requestAnimationFrame);
    }
}"""


@pytest.mark.parametrize("name", widgets())
def test_two_thousand_clicks_leave_nothing_in_the_kernel(name: str) -> None:
    widget = widgets()[name]()
    groups, draw = widget.rehearse(), random.Random(0)
    clicks = [one for one in (axes(groups), messages(groups)) if one]

    def click(count: int) -> tuple[int, int, int]:
        for _ in range(count):
            chosen = draw.choice(draw.choice(clicks))
            if "do" in chosen:
                widget._on_message(None, chosen, None)
            else:
                ((trait, value),) = chosen.items()
                setattr(widget, trait, value)
            assert widget.error == ""
        gc.collect()
        hooks = [len(one._forward_hooks) + len(one._forward_pre_hooks) for one in widget.model.modules()]
        heard = [len(calls) for kinds in widget._trait_notifiers.values() for calls in kinds.values()]
        tensors = [one.nbytes for one in gc.get_objects() if isinstance(one, torch.Tensor)]
        return sum(hooks), sum(heard), len(gc.get_objects()), sum(tensors)

    *before, objects, held = click(300)
    *after, more_objects, more_held = click(2000)
    assert after == before
    assert more_objects - objects < 1500 and more_held - held < 300_000, (
        "no object a click, no bytes of tensors"
    )


def test_a_hundred_drawings_leave_nothing_in_the_browser(browser: Browser) -> None:
    pages = {name: widget._page() for name, widget in every_widget().items()}
    made = "for (const el of document.querySelectorAll("  # comes after the model
    pages = {
        name: page.replace(made, f"(window.models ??= []).push(model);\n{made}")
        for name, page in pages.items()
    }
    page = browser.new_page()
    page.set_content(one_page(pages))
    page.wait_for_function(
        "window.models?.length === 11 && document.querySelectorAll('[data-revision]').length"
    )
    chrome = page.context.new_cdp_session(page)
    chrome.send("Performance.enable")

    def draw(count: int) -> dict[str, float]:
        page.evaluate(REDRAW, count)
        for _ in range(3):
            chrome.send("HeapProfiler.collectGarbage")
        metrics = chrome.send("Performance.getMetrics")["metrics"]
        return {metric["name"]: metric["value"] for metric in metrics}

    before, after = draw(20), draw(100)
    page.close()
    assert after["JSEventListeners"] <= before["JSEventListeners"] + 5
    assert after["Nodes"] <= before["Nodes"] + 50
    assert after["JSHeapUsedSize"] < before["JSHeapUsedSize"] + 2e6
