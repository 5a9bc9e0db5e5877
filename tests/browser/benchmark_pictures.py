"""From a click on a picture to the answer on the screen; and how long a ViT-B/16 takes to open.

`python -m pytest tests/browser/benchmark_pictures.py -s`
"""

import platform
import statistics
from collections.abc import Callable, Iterable

from .conftest import Lesson, Widget
from .test_pictures import give, patch_at, picture, show

# Notes the milliseconds from each event of the user to the painted answer.
WATCH = """root => {
    let start = null, waiting = () => {};
    window.times = [];
    window.more = (count) => new Promise((done) => {
        waiting = () => window.times.length > count && done();
        waiting();
    });
    const begin = () => (start = performance.now());
    for (const kind of ["pointerdown", "input", "change"]) root.addEventListener(kind, begin, true);
    new MutationObserver(() => requestAnimationFrame(() => setTimeout(() => {
        if (start !== null) window.times.push(performance.now() - start);
        start = null;
        waiting();
    }))).observe(root, { attributes: true, attributeFilter: ["data-revision"] });
}"""
BASE = """
import sys, time
from workbench.checkpoint import make_ready
from workbench.image import Preprocessing
from workbench.vit import ViT, ViTConfig
large = ViT(ViTConfig(), [str(n) for n in range(1000)], Preprocessing(size=(224, 224)))
make_ready(large, "ViT-B/16, random")
PatchAttention(large)
start = time.perf_counter()
w = PatchAttention(large)
forward = float(w.status.split()[-2])
print(len(w.maps), 1000 * (time.perf_counter() - start) - forward, forward)
"""


def times(widget: Widget, actions: Iterable[Callable], warm: int = 10) -> list[float]:
    """Milliseconds of each action; the first ones warm up. Nobody asks the page anything meanwhile."""
    widget.root.evaluate(WATCH)
    for action in actions:
        count = widget.page.evaluate("window.times.length")
        action()
        widget.page.evaluate("count => window.more(count)", count)
        widget.page.wait_for_timeout(100)  # as a person would, not as fast as possible
    return widget.page.evaluate("window.times")[warm:]


def told(what: str, found: list[float], widget: Widget) -> None:
    cuts = statistics.quantiles(found, n=20, method="inclusive")
    status = widget.root.locator(".status").text_content()
    print(f"\n{what}, {len(found)} times, {platform.machine()}; last: {status}")
    print(f"p50 {statistics.median(found):.0f} ms, p95 {cuts[18]:.0f} ms, worst {max(found):.0f} ms")


def patches(widget: Widget, count: int) -> Iterable[Callable]:
    board = widget.root.locator("canvas.patch-board").first
    for click in range(count):
        place = patch_at(widget, 2 + click % 5, 2 + click // 5 % 5)
        yield lambda place=place: board.click(position=place)


def test_click_a_patch_to_its_maps(lesson):
    widget = show(lesson, "PatchAttention(vit)")
    told("a patch to its maps", times(widget, patches(widget, 110)), widget)


def test_hide_a_patch_to_new_classes(lesson):
    widget = show(lesson, "PatchHiding(vit)")
    told("a patch hidden to new classes", times(widget, patches(widget, 110)), widget)


def test_a_photo_of_12_megapixels(lesson, tmp_path):
    widget = show(lesson, "PatchSplitter(vit)")
    photo = picture(tmp_path / "photo.jpg", 4000, 3000, quality=90)
    found = times(widget, [lambda: give(widget, photo)] * 6, warm=1)
    told(f"a photo of 12 megapixels, {photo.stat().st_size / 2**20:.1f} MiB", found, widget)


def test_hiding_what_a_map_marks_step_by_step(lesson):
    widget = show(lesson, "PatchAttention(vit)")
    button = widget.button("Hide its top patches, step by step")
    told("deletion and insertion", times(widget, [button.click] * 6, warm=1), widget)


def shown(opened: Lesson) -> float:
    """Milliseconds to show the widget `w` of the kernel in a new cell."""
    return opened.page.evaluate(
        """async () => {
            const panel = window.jupyterapp.shell.currentWidget, cells = panel.content.model.sharedModel;
            cells.insertCell(2, { cell_type: "code", source: "w" });
            panel.content.activeCellIndex = 2;
            const before = document.querySelectorAll(".workbench[data-revision]").length;
            const start = performance.now();
            window.jupyterapp.commands.execute("notebook:run-cell");
            while (document.querySelectorAll(".workbench[data-revision]").length === before)
                await new Promise((done) => requestAnimationFrame(done));
            await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
            return performance.now() - start;
        }"""
    )


def test_a_large_vit_opens(lesson):
    opened = show(lesson, "PatchAttention(vit)").lesson
    size, made, forward = map(float, opened.python(f"from workbench.widgets import *{BASE}").split())
    print(f"\nViT-B/16 at 224 px: all maps of one query in {size:,.0f} bytes; forward pass {forward:.0f} ms,")
    print(f"then {made:.0f} ms to make the widget and {shown(opened):.0f} ms to show it")
