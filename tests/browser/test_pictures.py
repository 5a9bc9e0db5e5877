"""PatchSplitter and PatchHiding: own pictures, clicks, brush, keys, errors, themes, saved pages."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from .conftest import Lesson
from .test_masked_filling import HAS_INK, accessibility_faults

pytestmark = pytest.mark.browser
# Drops, or pastes, a file made in the browser onto the widget's root.
GIVE = """(root, kind) => {
    const data = new DataTransfer();
    data.items.add(new File([new Uint8Array([1, 2, 3])], `<b>${kind}</b>.png`, { type: "image/png" }));
    root.dispatchEvent(kind === "drop"
        ? new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer: data })
        : new ClipboardEvent("paste", { bubbles: true, cancelable: true, clipboardData: data }));
}"""


def picture(path: Path, width: int, height: int, **options: object) -> Path:
    """Noise, blue but for a red upper left corner."""
    pixels = np.random.default_rng(0).integers(0, 60, (height, width, 3), dtype=np.uint8)
    pixels[..., 2] += 150
    pixels[: height // 2, : width // 2] = (230, 20, 20)
    Image.fromarray(pixels).save(path, **options)
    return path


def give(widget, path: Path) -> None:
    widget.root.locator("input[type=file]").set_input_files(path)


def patch_at(widget, row: int, column: int, board: int = 0) -> dict[str, float]:
    """Where a patch is on a board, both counted from 1."""
    area = widget.root.locator("canvas.patch-board").nth(board).bounding_box()
    rows, columns = 12, 12
    return {"x": area["width"] * (column - 0.5) / columns, "y": area["height"] * (row - 0.5) / rows}


SPLITTER = "PatchSplitter(vit)"
HIDING = "PatchHiding(vit)"
MAKE = "import workbench as wb; from workbench.widgets import *; vit = wb.load_vit(); w = {}"


def show(lesson, code: str, width: int = 1280):
    """A widget in a notebook's own output, made by code in its last cell."""
    opened = lesson("07_patch_splitting.ipynb", width=width)
    opened.page.evaluate(
        """(code) => {
            const panel = window.jupyterapp.shell.currentWidget;
            const cells = panel.content.model.sharedModel;
            while (cells.cells.length > 1) cells.deleteCell(1);
            cells.insertCell(1, { cell_type: "code", source: code });
        }""",
        MAKE.format(code) + "; w",
    )
    opened.run_all()
    return opened.widget()


def test_splitting_own_pictures_by_click_and_keys(lesson, tmp_path):
    splitter = show(lesson, SPLITTER)
    board = splitter.root.locator("canvas.patch-board").first
    assert board.evaluate(HAS_INK)
    large = picture(tmp_path / "large.jpg", 4000, 3000, quality=97)
    assert large.stat().st_size > 2**20
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down: red comes to the lower right
    splitter.after(lambda: give(splitter, large))
    sent = splitter.lesson.python("print(w._image.size, w.error, w.upload_name, len(w.upload))")
    assert sent == "(1024, 768)  large.jpg 0", "shrunk in the browser"
    turned = picture(tmp_path / "turned.jpg", 2400, 1800, quality=97, exif=exif)
    splitter.after(lambda: give(splitter, turned))
    tones = splitter.lesson.python("print(w._image.getpixel((5, 5)), w._image.getpixel((1000, 760)))")
    first, last = eval(tones.replace(") (", "), ("))
    assert first[2] > first[0] and last[0] > last[2], "as the camera was held"

    splitter.after(splitter.root.locator("[data-stage=embeddings]").click)
    splitter.after(lambda: board.click(position=patch_at(splitter, 2, 3)))
    assert splitter.root.get_by_text("Patch 15: row 2, column 3").is_visible()
    board.focus()
    splitter.page.keyboard.press("ArrowDown")
    splitter.page.keyboard.press("ArrowRight")
    splitter.after(lambda: splitter.page.keyboard.press("Enter"))
    assert splitter.root.get_by_text("Patch 28: row 3, column 4").is_visible()
    assert splitter.lesson.python("print(w.patch)") == "27"
    splitter.after(
        lambda: splitter.root.locator("input[type=number]").fill("7") or splitter.page.keyboard.press("Tab")
    )
    total, bias = eval(splitter.lesson.python("print(w.total)"))
    written = f"= {total + bias:.3f}".replace("-", "−")
    assert written in splitter.root.locator(".product").text_content()
    assert splitter.lesson.python("print(w.output)") == "6"
    splitter.after(lambda: splitter.root.get_by_label("Patch size").fill("16"))
    assert "6 × 6 patches + 1 = 37 tokens" in splitter.root.locator(".sum").text_content()
    assert "Another patch size needs another matrix" in splitter.root.locator(".empty").text_content()
    splitter.after(splitter.button("As the checkpoint has it").click)
    assert splitter.root.locator("canvas.strip.pick").is_visible()
    tokens = splitter.root.locator("canvas.patch-board").nth(1)
    splitter.after(lambda: tokens.click(position={"x": 8, "y": 8}))
    assert "“*” becomes a vector" in splitter.root.locator(".drawer h4").first.text_content()

    before = board.evaluate("c => c.toDataURL()")
    for kind in ("drop", "paste"):
        splitter.after(lambda kind=kind: splitter.root.evaluate(GIVE, kind))
        error = splitter.root.locator(":scope > .error").text_content()
        assert error.startswith(f"<b>{kind}</b>.png: This is no picture"), "names are text"
    (tmp_path / "empty.png").touch()
    give(splitter, tmp_path / "empty.png")
    assert "the file is empty" in splitter.root.locator(".picture-input .error").text_content()
    assert board.evaluate("c => c.toDataURL()") == before, "the picture stays"
    splitter.after(lambda: splitter.root.get_by_label("or a sample").select_option("coffee"))
    assert splitter.root.locator(":scope > .error").text_content() == ""
    assert accessibility_faults(splitter.lesson) == []


def test_hiding_by_click_brush_and_keys(lesson, browser, tmp_path):
    hiding = show(lesson, HIDING)
    board = hiding.root.locator("canvas.patch-board")
    hidden = "print(w.hidden)"
    hiding.after(lambda: board.click(position=patch_at(hiding, 1, 2)))
    assert hiding.lesson.python(hidden) == "[1]" and hiding.root.locator(".before").count() >= 5
    area = board.bounding_box()
    at = [{key: area[key] + patch_at(hiding, 1, column)[key] for key in "xy"} for column in (4, 6)]
    hiding.page.mouse.move(**at[0])
    hiding.page.mouse.down()
    hiding.page.mouse.move(**at[1], steps=12)
    hiding.page.mouse.up()
    hiding.lesson.wait(lambda: hiding.lesson.python(hidden) == "[1, 3, 4, 5]", "what was brushed over")
    board.click(position=patch_at(hiding, 1, 5))
    hiding.lesson.wait(lambda: hiding.lesson.python(hidden) == "[1, 3, 5]", "one of them is shown again")
    board.focus()
    hiding.page.keyboard.press("ArrowDown")
    hiding.page.keyboard.press("Enter")
    hiding.lesson.wait(lambda: hiding.lesson.python(hidden) == "[1, 3, 5, 16]", "the one below is hidden")
    hiding.button("Swap hidden and shown").click()
    told = hiding.root.locator(".sum")
    hiding.lesson.wait(lambda: "4 of 144 patches in sight" in told.text_content(), "the others")
    hiding.after(hiding.button("Reset").click)
    before = hiding.root.locator(".part .bar .word").all_text_contents()
    hiding.after(hiding.button("Shuffle").click)
    assert hiding.root.locator(".part .bar .word").all_text_contents() == before
    hiding.after(hiding.root.locator("[data-stage=layer]").click)
    hiding.after(lambda: hiding.root.get_by_label("Layer", exact=True).fill("0"))
    assert "after layer 0" in hiding.root.get_by_label("Classes").text_content()
    hiding.after(hiding.button("Keep to compare").click)
    assert hiding.root.locator(".kept figure").count() == 1
    assert accessibility_faults(hiding.lesson) == []

    page = tmp_path / "page.html"
    hiding.lesson.python(f"w.upload_name = '</script><i>'; w.save({str(page)!r})")
    context = browser.new_context(offline=True)
    alone = Lesson(context.new_page())
    alone.page.goto(page.as_uri())
    widget = alone.widget()
    alone.wait(lambda: widget.root.locator("canvas.patch-board").evaluate(HAS_INK), "the picture")
    widget.button("Shuffle").click()
    expect(widget.root.locator(".error").last).to_contain_text("saved view")
    assert accessibility_faults(alone) == [] and alone.faults == []
    context.close()


@pytest.mark.parametrize("name", ["patch_splitter", "patch_hiding"])
def test_narrow_and_both_themes(lesson, name):
    codes = {"patch_splitter": SPLITTER, "patch_hiding": "PatchHiding(vit, hidden=[*range(16)])"}
    widget = show(lesson, codes[name], width=800)
    overflow = "r => r.scrollWidth - r.clientWidth"
    assert widget.root.evaluate(overflow) <= 0
    for theme in ("Light", "Dark"):
        widget.lesson.dress(theme)
        assert accessibility_faults(widget.lesson) == [], theme
        widget.page.set_viewport_size({"width": 1280, "height": 1900})
        widget.page.wait_for_timeout(500)
        assert widget.root.evaluate(overflow) <= 0
        widget.picture(name)
        widget.page.set_viewport_size({"width": 800, "height": 900})
