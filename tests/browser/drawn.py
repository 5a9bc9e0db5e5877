"""A widget on a page without a kernel: what it draws is read back, and what a click sends is caught."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from playwright.sync_api import Locator, Page

from workbench.widgets.base import WorkbenchWidget

# Comes before the widget's own script. Places are pixels of CSS, from the upper left corner of a node.
TOOLS = """<script>
const images = [];
const PlainImage = window.Image;
window.Image = function () {
    images.push(new PlainImage());
    return images.at(-1);
};
async function settle() {
    await Promise.all(images.filter((image) => image.src).map((image) => image.decode()));
    for (const _ of [1, 2]) await new Promise(requestAnimationFrame);
}
const sent = []; // what the kernel would be told
function listen() {
    const set = model.set;
    model.saved = false;
    model.send = (what) => sent.push(what);
    model.set = (name, value) => {
        sent.push({ [name]: value });
        set(name, value);
    };
}
function colours(canvas, places) {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const [across, down] = [canvas.width / canvas.clientWidth, canvas.height / canvas.clientHeight];
    return places.map(([x, y]) => {
        const at = 4 * (Math.floor(y * down) * canvas.width + Math.floor(x * across));
        return [...data.slice(at, at + 4)];
    });
}
function point(node, kind, [x, y]) {
    const { left, top } = node.getBoundingClientRect();
    const [clientX, clientY] = [left + node.clientLeft + x, top + node.clientTop + y];
    const place = { bubbles: true, clientX, clientY };
    node.dispatchEvent(new (kind.startsWith("pointer") ? PointerEvent : MouseEvent)(kind, place));
}
// The box around all of one colour on a canvas: left, top, right, bottom.
function boxOf(canvas, name) {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const wanted = rgb(name);
    const found = [...Array(data.length / 4).keys()].filter((at) =>
        data[4 * at + 3] > 200 && wanted.every((value, band) => Math.abs(value - data[4 * at + band]) < 12));
    const [x, y] = [found.map((at) => at % canvas.width), found.map((at) => Math.floor(at / canvas.width))];
    const scale = canvas.clientWidth / canvas.width;
    const [least, most] = [(a, b) => Math.min(a, b), (a, b) => Math.max(a, b)];
    const ends = [x.reduce(least, 1e9), y.reduce(least, 1e9), x.reduce(most, -1) + 1, y.reduce(most, -1) + 1];
    return ends.map((at) => at * scale);
}
function rgb(name) {
    const pen = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d");
    const style = getComputedStyle(document.querySelector(".workbench"));
    pen.fillStyle = name.startsWith("--") ? style.getPropertyValue(name).trim() : name;
    pen.fillRect(0, 0, 1, 1);
    return [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3);
}
</script>"""


def cells(rows: int, columns: int, box: Sequence[float], share: float = 0.5) -> list[list[float]]:
    """A point in each cell of a grid in a box (left, top, width, height), row by row; `share` 0 is a cell's
    upper left corner, 1 its lower right one."""
    left, top, width, height = box
    y, x = np.mgrid[:rows, :columns] + share
    return np.stack([left + x * width / columns, top + y * height / rows], -1).reshape(-1, 2).tolist()


def shares(text: str) -> list[float]:
    """The percentages in a text, 0 to 1."""
    return [
        0.0005 if found[0] == "<" else float(found) / 100
        for found in re.findall(r"(<\s0\.1|[\d.]+)\s%", text)
    ]


def near(shown: Any, known: Any, by: float = 0.008) -> None:
    """The same numbers at the same places, but for what the screen rounds off."""
    np.testing.assert_allclose(np.asarray(shown, float), np.asarray(known, float), atol=by, rtol=0)


class View:
    """A widget on the page, with nothing behind it but what Python computed before."""

    def __init__(self, page: Page, widget: WorkbenchWidget) -> None:
        self.page, self.widget = page, widget
        content = widget._page().replace("<main", f"{TOOLS}<main")
        page.goto("about:blank")
        page.set_content(content.replace("const model = saved", "const model = window.model = saved"))
        page.wait_for_selector(".workbench[data-revision]")
        page.evaluate("listen(), settle()")

    def at(self, selector: str, index: int = 0) -> Locator:
        return self.page.locator(selector).nth(index)

    def sent(self) -> list[dict]:
        """What was told to Python since the last time."""
        return self.page.evaluate("sent.splice(0)")

    def texts(self, selector: str) -> list[str]:
        return self.page.locator(selector).all_text_contents()

    def box(self, node: Locator, left: float = 0, top: float = 0) -> list[float]:
        """Left, top, width and height inside a node, without margins on the left and above."""
        width, height = node.evaluate("node => [node.clientWidth, node.clientHeight]")
        return [left, top, width - left, height - top]

    def told(self, node: Locator, places: Sequence, says: str) -> list[str]:
        """What `says` says while the mouse is at each of these places."""
        return node.evaluate(
            """(node, [places, says]) => places.map((place) => {
                for (const kind of ["pointermove", "mousemove"]) point(node, kind, place);
                return document.querySelector(says).textContent;
            })""",
            [places, says],
        )

    def click(self, node: Locator, place: Sequence[float]) -> list[dict]:
        """A true click; returns what it sends."""
        area = node.bounding_box()
        self.page.mouse.click(area["x"] + place[0], area["y"] + place[1])
        return self.sent()

    def colours(self, canvas: Locator, places: Sequence) -> np.ndarray:
        """Red, green, blue and opacity at each place, 0 to 255: (places, 4)."""
        return np.array(canvas.evaluate("(canvas, places) => colours(canvas, places)", places), float)

    def signed(self, canvas: Locator, rows: int, columns: int) -> np.ndarray:
        """Numbers of `signedPixels`, as shares of the strongest: (rows, columns)."""
        red, _, blue, opacity = self.colours(canvas, cells(rows, columns, self.box(canvas))).T
        return (np.where(blue > red, 1, -1) * opacity / 255).reshape(rows, columns)

    def read(self, selector: str, of_each: str) -> list:
        """What a JavaScript function of a node gives for each of these nodes."""
        return self.page.locator(selector).evaluate_all(f"nodes => nodes.map({of_each})")

    def opacity(
        self, canvas: Locator, places: Sequence, paper: str = "--soft", ink: str = "--accent"
    ) -> np.ndarray:
        """How much of `ink` lies on the `paper` at each place, 0 to 1: (places,)."""
        paper, ink = (np.array(self.page.evaluate("rgb", name)) for name in (paper, ink))
        band = np.abs(ink - paper).argmax()
        return (self.colours(canvas, places)[:, band] - paper[band]) / (ink - paper)[band]

    def framed(self, canvas: Locator, colour: str, area: Sequence[float]) -> None:
        """There is a frame of this colour around this area (left, top, width, height), and nowhere else."""
        left, top, width, height = area
        shown = canvas.evaluate("(canvas, colour) => boxOf(canvas, colour)", colour)
        near(shown, [left, top, left + width, top + height], 3)

    def bars(self, part: Locator, known: Iterable[Sequence]) -> None:
        """The bars of a part are these: [name, share], or with a tick [name, share, the share before]."""
        shown = part.evaluate(
            """part => [...part.querySelectorAll(".bar")].map((bar) => [
                bar.querySelector(".word").textContent,
                bar.querySelector(".value").textContent,
                bar.querySelector(".fill").getBoundingClientRect().width
                    / bar.querySelector(".track").clientWidth,
                [...bar.querySelectorAll(".before")].map((tick) => parseFloat(tick.style.left) / 99),
            ])"""
        )
        assert [name for name, *_ in shown] == [name for name, *_ in known]
        for (name, written, width, ticks), (_, share, *before) in zip(shown, known, strict=True):
            near(shares(written), [share])
            near(width, share, 0.015)
            assert len(ticks) == len(before), name
            near(ticks, before, 0.001)
