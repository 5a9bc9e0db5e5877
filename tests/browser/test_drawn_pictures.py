"""Views on pictures draw what was computed, where it belongs, and know which patch is clicked."""

import base64
import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import attends, patch_vit

import workbench as wb
from workbench.attention import attention_distance, attention_relevance
from workbench.vit import split_patches
from workbench.widgets import AttentionExplorer, PatchAttention, PatchHiding, PatchSplitter

from .conftest import USUAL_SCREEN
from .drawn import View, cells, near, shares
from .test_pictures import GIVE

pytestmark = pytest.mark.browser
WHITE = Image.new("RGB", (48, 32), "white")  # 4 x 6 patches of 8 pixels
Y, X = np.mgrid[:32, :48]
PIXELS = np.stack([5 * X, 7 * Y, 128 + 0 * X], -1).astype(np.uint8)  # no two alike
COLOURED = Image.fromarray(PIXELS)
PATCHES = split_patches(torch.from_numpy(PIXELS).permute(2, 0, 1)[None], 8)[0].view(24, 3, 8, 8).numpy()
CENTRES = PATCHES[:, :, 4, 4]  # of each patch, the pixel a little below and right of the middle
SOME = (0, 5, 23, 9)  # the first patch, the last ones of the first and the last row, one in the middle


def heat(share: np.ndarray, opacity: float, paper: Sequence[float] = (255, 255, 255)) -> np.ndarray:
    """Colours of weights, as shares of the largest, over a picture of one colour: (patches, 4)."""
    share = np.asarray(share)[:, None]
    colour = np.concatenate([0 * share + 255, 255 * (1 - share), 0 * share], 1)
    shown = (1 - opacity * share) * np.array(paper) + opacity * share * colour
    return np.concatenate([shown, 0 * share + 255], 1)


def test_the_explorer_on_patches(page):
    vit = patch_vit()
    maps = attends(vit, 26)  # the class token, another one, 24 patches
    view = View(page, AttentionExplorer(vit, image=WHITE, layer=2, head=1, query=11))
    assert view.texts(".scale + figcaption")[0] == "layer 3, head 2, patch 2, 4 looks"
    canvas, small = view.at(".maps .patch-board"), view.at("canvas.head-grid")
    places = cells(4, 6, view.box(canvas))
    row = maps[2, 1, 11, 2:]
    near(view.colours(canvas, places), heat(row / row.max(), 0.8), 3)
    near(shares(view.texts(".scale")[0]), [row.max()])
    near(shares(view.texts(".scale ~ .note")[0]), [maps[2, 1, 11, 11]])
    for share in (0.1, 0.9):
        told = view.told(canvas, cells(4, 6, view.box(canvas), share), ".maps:has(.patch-board) + .told")
        for at, said in enumerate(told):
            assert said.startswith(f"patch {at // 6 + 1}, {at % 6 + 1}: ")
            near(shares(said), [row[at]])
    edge = (view.box(small)[2] - 18) / 4 - 3  # of a small map: 3 layers of 4 heads, 3 pixels apart
    x, y = 18 + (edge + 3) * 3, 18
    known = maps[0, 3, 11, 2:]
    soft = view.page.evaluate("rgb", "--soft")
    near(view.colours(small, cells(4, 6, [x, y, edge, edge])), heat(known / known.max(), 1, soft), 3)
    view.told(small, [[x + 9, y + 9]], ".heads .told")  # previewed, with its own scale
    near(view.colours(canvas, places), heat(known / known.max(), 0.8), 3)
    near(shares(view.texts(".scale")[0]), [known.max()])
    assert view.click(small, [x + 9, y + 9]) == [{"layer": 0}, {"head": 3}]
    for at in SOME[:3]:
        assert view.click(canvas, places[at]) == [{"query": at + 2}]
    view.bars(view.at(".answers"), [row[:2] for row in view.widget.answers])


def test_patch_attention(page):
    vit = patch_vit()
    maps = attends(vit, 26)
    options = {"query": 11, "layer": 1, "head": 2, "opacity": 0.6, "times": 1.2}
    view = View(page, PatchAttention(vit, WHITE, **options))
    board, small = view.at(".maps .patch-board"), view.at("canvas.head-grid")
    places = cells(4, 6, view.box(board))
    row = maps[1, 2, 11, 2:]
    near(view.colours(board, places), heat(row / row.max(), 0.6), 3)  # the less weight, the paler
    received = maps.mean((0, 1, 2))[2:]
    received /= received.median()
    norms = vit(wb.prepare_image(WHITE, vit.preprocessing))[-1][0, 2:].norm(dim=-1).detach()
    norms /= norms.median()
    assert view.widget.outliers == (received > 1.2).nonzero().flatten().tolist() != []
    for share in (0.1, 0.9):
        told = view.told(board, cells(4, 6, view.box(board), share), ".attention-main .told")
        for at, said in enumerate(told):
            assert said.startswith(f"patch {at // 6 + 1}, {at % 6 + 1}: ")
            near(shares(said), [row[at]])
            numbers = [float(number) for number in re.findall(r"([\d.]+) ×", said)]
            near(numbers, [received[at], norms[at]], 0.06)

    edge = (view.box(small)[2] - 18) / 4 - 3  # of a small map: 3 layers of 4 heads, 3 pixels apart
    corners = [[18 + (edge + 3) * head, 18 + (edge + 3) * layer] for layer in range(3) for head in range(4)]
    inside = [place for x, y in corners for place in cells(4, 6, [x, y, edge, edge])]
    rows = maps[:, :, 11, 2:]
    known = rows / rows.amax(-1, keepdim=True)
    soft = view.page.evaluate("rgb", "--soft")
    near(view.colours(small, inside), heat(known.flatten(), 1, soft), 3)
    far = attention_distance(maps, grid=(4, 6), patch_size=8, prefix_tokens=2)
    for share in (0.1, 0.9):
        points = [[x + share * edge, y + share * edge] for x, y in corners]
        told = view.told(small, points, ".attention-side .told")
        for (layer, head), said in zip(np.ndindex(3, 4), told, strict=True):
            assert said.startswith(f"layer {layer + 1}, head {head + 1}: looks ")
            near(float(re.search(r"looks (\d+)", said)[1]), far[layer, head], 0.6)
    for layer, head in ((0, 3), (2, 0), (1, 1)):  # previewed, then pinned
        x, y = corners[4 * layer + head]
        view.told(small, [[x + 9, y + 9]], ".attention-side .told")
        near(view.colours(board, places), heat(known[layer, head], 0.6), 3)
        assert view.click(small, [x + 9, y + 9]) == [{"layer": layer}, {"head": head}]
    read = "(dot) => ['cx', 'cy', 'r'].map((name) => +dot.getAttribute(name))"
    *dots, marked = view.read("circle", read)
    assert marked[2] == 5 and {dot[2] for dot in dots} == {3}  # drawn last, over the others
    dots = np.insert(dots, 4 * layer + head, marked, axis=0)
    near((dots[:, 0] - 52) / 400, np.repeat([1 / 6, 3 / 6, 5 / 6], 4), 0.001)
    near((1 - (dots[:, 1] - 10) / 112) * 20 * math.ceil(far.max() / 20), far.flatten(), 0.02)
    for at in SOME[:3]:
        assert view.click(board, places[at]) == [{"query": at + 2}]


def test_what_a_token_keeps_for_itself_is_said(page):
    widget = PatchAttention(patch_vit(), WHITE, layer=0, head=0)
    for keeps, said in (
        (0.993, "It keeps 99.3 % for itself: what is seen here is the rest."),
        (0.04, "It keeps 4.0 % for itself."),
        (None, ""),
    ):
        widget.keeps = [keeps]
        assert View(page, widget).texts(".scale ~ .note")[0].replace("\xa0", " ") == said


def test_patch_attention_for_two_classes(page):
    vit = patch_vit()
    options = {"method": "relevance", "target": 0, "second": 2}
    widget = PatchAttention(vit, WHITE, **options)
    widget.outliers = [14]
    widget.tests = [
        {
            "title": "a map",
            "label": "cup",
            "order": torch.randperm(24).tolist(),
            "areas": [0.31, 0.62, 0.205, 0.804, 0.513],
            "shares": [0, 0.25, 0.46, 0.75, 1],
            "deletion": [0.9, 0.7, 0.4, 0.22, 0.1],
            "insertion": [0.1, 0.5, 0.6, 0.8, 0.9],
            "random": [0.9, 0.85, 0.5, 0.3, 0.1],
            "hides": True,
            "shows": False,
        }
    ]
    view = View(page, widget)
    pixels = wb.prepare_image(WHITE, vit.preprocessing)
    for at, target in enumerate((0, 2)):
        relevance = attention_relevance(vit, lambda target=target: vit.logits(vit(pixels)[-1])[:, target])
        row = relevance[0, 0, 2:].detach()
        board = view.at(".maps .patch-board", at)
        places = cells(4, 6, view.box(board))
        assert view.texts("figcaption")[at] == f"relevance for “{vit.labels[target]}”"
        near(view.colours(board, places), heat(row / row.max(), 0.8), 3)
        near(float(view.texts(".scale")[at].split()[-1]), row.max(), 0.06 * float(row.max()))
        told = view.told(board, places, ".attention-main .told")
        near(
            [float(re.search(r": ([\d.e-]+)", said)[1]) for said in told],
            row,
            0.06 * float(row.max()),
        )
        view.page.evaluate(
            "document.querySelector('canvas.head-grid').dispatchEvent(new Event('pointerleave'))"
        )
        width, height = view.box(board)[2:]
        view.framed(board, "#00b7ff", [2 * width / 6, 2 * height / 4, width / 6, height / 4])  # patch 14

    # The test of a map, three of four steps on.
    (test,) = widget.tests
    hidden = view.at(".map-test canvas")
    colours = view.colours(hidden, cells(4, 6, view.box(hidden)))[:, :3]
    soft = np.array(view.page.evaluate("rgb", "--soft"))
    assert set(np.flatnonzero((colours == soft).all(-1))) == set(test["order"][:18])
    near(shares(hidden.get_attribute("aria-label")), [0.75, 0.22])
    shares_of = np.array(test["shares"])
    for at, (name, places) in enumerate((("deletion", shares_of), ("insertion", 1 - shares_of))):
        for kind, values, steps in (("main", test[name], shares_of), ("base", test["random"], places)):
            points = view.at(f".map-curves polyline.{kind}", at).get_attribute("points").split()
            x, y = np.array([point.split(",") for point in points], float).T
            near((x - 52) / 320, steps, 0.001)
            near((1 - (y - 10) / 152) * 0.9, values, 0.001)
    assert view.texts(".map-table td") == ["a map", "cup", "0.310", "0.620", "0.513 (0.205 to 0.804)"]
    assert "Only deletion speaks" in view.texts(".map-verdict")[0]


def test_patch_hiding(page):
    vit = patch_vit()
    order = torch.randperm(24).tolist()
    widget = PatchHiding(vit, COLOURED, hidden=[0, 9, 17], order=order)
    widget.keep()
    view = View(page, widget)
    board = view.at("canvas.patch-board")
    places = cells(4, 6, view.box(board), 0.55)
    colours = view.colours(board, places)[:, :3]
    covered = np.isin(order, [0, 9, 17])
    near(colours[~covered], CENTRES[order][~covered], 3)
    near(colours[covered], [[110, 116, 124]] * 3, 15)
    view.bars(view.at(".bars"), widget.bars)
    view.bars(view.at(".kept"), [row[:2] for row in widget.bars[:3]])
    hidden = {0, 9, 17}
    for place in SOME:
        hidden ^= {order[place]}
        assert view.click(board, places[place]) == [{"hidden": sorted(hidden)}]


def test_who_is_not_sure_says_so(page):
    vit = patch_vit()
    vit.heads[0].weight.data.zero_()
    for best, sure in ((0, False), (9, True)):
        vit.heads[0].bias.data[:] = torch.tensor([best, 0, 0])
        view = View(page, PatchHiding(vit, COLOURED))
        unseen = view.read(".away", "(one) => one.textContent")
        assert ("No class has half of the probability: the model is not sure." in unseen) == sure


def test_patch_splitter(page):
    vit = patch_vit()
    words = ["[CLS]", "a", "cat", "looks", "at", "you", "[SEP]"]
    options = {"patch": 10, "output": 5, "stage": "embeddings", "words": words}
    view = View(page, PatchSplitter(vit, COLOURED, **options))  # row 2, column 5
    page.evaluate("document.querySelector('.workbench').style.width = '640px'")  # tokens in two rows
    page.evaluate("settle()")
    assert view.texts(".sum")[0] == "48 × 32 pixels: 4 × 6 patches + 2 = 26 tokens"
    board, sequence = view.at("canvas.patch-board"), view.at("canvas.patch-board", 1)
    width, height = view.box(board)[2:]
    view.framed(board, "#1f6feb", [4 * width / 6, height / 4, width / 6, height / 4])
    places = cells(4, 6, view.box(board), 0.55)
    for at in SOME:
        assert view.click(board, places[at]) == [{"patch": at}]
    width, height = view.box(sequence)[2:]
    columns = next(count for count in range(25, 0, -1) if abs(width / count * -(-25 // count) - height) < 1)
    assert columns < 25
    places = cells(-(-25 // columns), columns, view.box(sequence), 0.55)
    near(view.colours(sequence, places[1:25])[:, :3], CENTRES, 3)
    for token in (0, 24, columns - 1, columns):
        assert view.click(sequence, places[token]) == [{"patch": token - 1}]
    assert view.read(".thumb", "(one) => one.getAttribute('aria-label')") == [
        f"patch {at}" for at in range(9, 15)
    ]
    thumbs = view.read(".thumb", "(one) => [...one.getContext('2d').getImageData(19, 19, 1, 1).data]")
    near(np.array(thumbs)[:, :3], CENTRES[8:14], 3)

    # One patch: its pixels, its numbers, and what the matrix makes of them.
    large, bands = view.at("canvas.large"), view.at(".flat canvas")
    near(view.colours(large, cells(8, 8, view.box(large)))[:, :3].T, PATCHES[10].reshape(3, 64), 1)
    told = view.told(large, cells(8, 8, view.box(large), 0.6), ".flat .note[aria-live]")
    values = (PATCHES[10].reshape(3, 64) / 255 - np.array([[0.4]] * 3)) / np.array([[0.5]] * 3)
    for at, said in enumerate(told):
        pairs = re.findall(r"(?:red|green|blue) (\d+) → (-?[\d.]+)", said.replace("−", "-"))
        assert (
            said.startswith(f"pixel {at + 1}: ")
            and [int(one) for one, _ in pairs] == PATCHES[10].reshape(3, 64)[:, at].tolist()
        )
        near([number for _, number in pairs], values[:, at], 0.02)
    drawn = view.colours(bands, cells(1, 192, view.box(bands)))[:, :3].reshape(3, 64, 3)
    for band in range(3):
        near(drawn[band], np.outer(PATCHES[10][band], np.eye(3)[band]), 1)
    assert "-" not in view.texts(".numbers")[0]  # it has a true minus sign, and none before zero
    numbers = re.findall(r"-?\d+\.\d\d", view.texts(".numbers")[0].replace("−", "-"))
    near(numbers, values.flatten(), 0.02)
    weight = vit.embeddings.projection.weight.detach()
    bias = float(vit.embeddings.projection.bias[5].detach())
    total = float(weight[5] @ torch.tensor(values.flatten(), dtype=torch.float32))
    said = re.findall(r"[−-]?\d+\.\d+", view.texts(".product")[0])
    said = [float(one.replace("−", "-")) for one in said]
    near(said, [total, bias, total + bias], 0.02)
    assert ("≈" in view.texts(".product")[0]) == (abs(said[0] + said[1] - said[2]) > 5e-4)
    vector = view.at("canvas.strip.pick")
    row = weight @ torch.tensor(values.flatten(), dtype=torch.float32)
    row += vit.embeddings.projection.bias.detach()
    near(view.signed(vector, 1, 36)[0], row / row.abs().max(), 0.02)
    filters = view.at("canvas.filter")
    shown = view.colours(filters, cells(8, 8, view.box(filters)))[:, :3].T
    near(shown, (128 + 127 * weight[5] / weight[5].abs().max()).view(3, 64), 1)
    rows, columns = view.widget.matrix_shape[:2]
    table = np.frombuffer(view.widget.matrix, np.int8).reshape(rows, columns) / 127
    drawn = view.signed(view.at("canvas.map"), rows, columns)
    assert view.widget.matrix_shape == [48, 36, 192, 36]  # the paper's E: four pixels in a row, all columns
    near(table, weight.T.view(48, 4, 36).mean(1) / weight.T.view(48, 4, 36).mean(1).abs().max(), 0.005)
    free = np.abs(np.arange(columns) - 5) > 1  # away from the mark at the chosen column
    near(drawn[:, free], table[:, free], 0.03)
    for canvas in (vector, view.at("canvas.map")):
        for at in (0, 35, 17):
            assert view.click(canvas, cells(1, 36, view.box(canvas))[at]) == [{"output": at}]

    widget = view.widget
    widget.patch_size = 16  # nothing of the old patch is left
    view = View(page, widget)
    for gone in ("canvas.map", "canvas.filter", "canvas.strip.pick", ".product"):
        assert not any(view.read(gone, "(one) => one.checkVisibility()")), gone
    assert "Another patch size needs another matrix" in view.texts(".empty")[0]
    assert view.texts(".drawer h4")[0] == "Patch 3: row 1, column 3"
    assert view.texts(".numbers")[0].startswith("768 ")
    widget.patch_size, widget.patch = 8, -1
    view = View(page, widget)
    assert view.texts(".token.first i")[1] == "*"
    widget.stage, widget.words = "", []  # a picture and its sequence are all that is left
    view = View(page, widget)
    assert view.texts("h4") == ["The sequence", "The same, with words"]
    assert view.read("h4", "(one) => one.checkVisibility()") == [True, False]


def test_a_fast_stroke_hides_all_that_it_crossed(page):
    """The browser tells where the pointer was now and then; what lies between is hidden, too."""
    view = View(page, PatchHiding(patch_vit(), COLOURED))
    board = view.at("canvas.patch-board")
    left, top, width, height = (board.bounding_box()[side] for side in ("x", "y", "width", "height"))

    def stroke(*places: tuple[float, float]) -> list[int]:
        """A stroke along these places, in shares of the picture; what is hidden then."""
        view.page.evaluate("set = model.set; set('hidden', [])")
        page.mouse.move(left + width * places[0][0], top + height * places[0][1])
        page.mouse.down()
        for x, y in places[1:]:
            page.mouse.move(left + width * x, top + height * y)
        page.mouse.up()
        return view.sent()[-1]["hidden"]

    def met(*places: tuple[float, float]) -> list[int]:
        """The patches that the line between these places meets."""
        ends = np.array(places)
        steps = np.linspace(0, 1, 20_001)[:, None]
        way = np.concatenate([a + (b - a) * steps for a, b in zip(ends, ends[1:], strict=False)])
        way = way[((way >= 0) & (way < 1)).all(-1)]
        return np.unique(np.floor(way[:, 1] * 4) * 6 + np.floor(way[:, 0] * 6)).astype(int).tolist()

    for places in (
        [(0.01, 0.03), (0.98, 0.97)],  # from corner to corner
        [(0.97, 0.05), (0.04, 0.9)],
        [(0.5, 0.1), (0.52, 0.96)],
        [(0.03, 0.6), (0.9, 0.55), (0.3, 0.05)],
        [(0.1, 0.1), (0.6, 1.6)],  # out of the picture
        [(0.1, 0.1), (1.3, 0.2), (0.9, 0.95)],  # out of it, and in again elsewhere
    ):
        assert stroke(*places) == met(*places), places
    assert len(met((0.01, 0.03), (0.98, 0.97))) == 9


# Files are decoded when a test says so.
SLOW = """() => {
    const decode = window.createImageBitmap;
    const bitmap = () => decode(Object.assign(document.createElement("canvas"), { width: 9, height: 9 }));
    window.waiting = {};
    window.createImageBitmap = (file) => new Promise((done, fail) => {
        waiting[file.name] = async (good) => {
            if (good) done(await bitmap());
            else fail(new Error());
            await new Promise((soon) => setTimeout(soon, 100));
        };
    });
}"""
PICTURE_WIDGETS = {
    "splitter": lambda vit: PatchSplitter(vit, WHITE),
    "hiding": lambda vit: PatchHiding(vit, WHITE),
    "attention": lambda vit: PatchAttention(vit, WHITE),
    "explorer": lambda vit: AttentionExplorer(vit, image=WHITE),
}
NAMES = "sent.splice(0).filter((one) => one.upload_name).map((one) => one.upload_name)"


def large(path: Path, size: int = 1, head: bytes = b"") -> Path:
    """A file of more than so many MiB, of which one is enough to be shrunk in the browser."""
    path.write_bytes(head + bytes(size * 2**20 + 1))
    return path


@pytest.mark.parametrize("name", PICTURE_WIDGETS)
@USUAL_SCREEN
def test_a_newer_picture_wins_over_one_that_takes_longer(page, tmp_path, name):
    view = View(page, PICTURE_WIDGETS[name](patch_vit()))
    view.page.evaluate(SLOW)
    field, said = view.at("input[type=file]"), view.at(".picture-input .error")
    for one in ("first", "second"):
        field.set_input_files(large(tmp_path / one))
    for one in ("second", "first"):  # the other way round
        view.page.evaluate("(name) => waiting[name](true)", one)
    assert view.page.evaluate(NAMES) == ["second"]
    field.set_input_files(large(tmp_path / "third"))
    field.set_input_files({"name": "fourth", "mimeType": "image/png", "buffer": b"small"})  # sent as it is
    view.page.wait_for_function("sent.some((one) => one.upload_name)")
    view.page.evaluate("waiting.third(true)")
    assert view.page.evaluate(NAMES) == ["fourth"]
    field.set_input_files(large(tmp_path / "fifth", 9))
    view.at(".picture-input select").select_option("boat")
    view.page.evaluate("waiting.fifth(false)")  # nobody asks for it any more
    assert view.page.evaluate(NAMES) == [] and said.text_content() == ""


@pytest.mark.parametrize("name", PICTURE_WIDGETS)
@USUAL_SCREEN
def test_pictures_are_dropped_and_pasted_on_every_widget(page, name):
    view = View(page, PICTURE_WIDGETS[name](patch_vit()))
    for kind in ("drop", "paste"):
        view.at(".workbench").evaluate(GIVE, kind)
        view.page.wait_for_function("sent.some((one) => one.upload_name)")
        assert view.page.evaluate(NAMES) == [f"<b>{kind}</b>.png"]


@USUAL_SCREEN
def test_files_that_the_browser_cannot_shrink(page, tmp_path):
    """A large HEIC file is told to Python by its first bytes; of what else is too large, the view says so."""
    view = View(page, PatchHiding(patch_vit(), WHITE))
    field, said = view.at("input[type=file]"), view.at(".picture-input .error")
    field.set_input_files(large(tmp_path / "IMG_1.HEIC", 9, b"\0\0\0\x18ftypheic"))
    view.page.wait_for_function("sent.some((one) => one.upload)")
    sent = "[...new Uint8Array(sent.splice(0).find((one) => one.upload).upload.buffer)]"
    view.widget.set_state({"upload_name": "IMG_1.HEIC", "upload": bytes(view.page.evaluate(sent))})
    assert view.widget.error.startswith("IMG_1.HEIC: This is a HEIC picture")
    field.set_input_files(large(tmp_path / "junk", 9))
    view.page.wait_for_function("document.querySelector('.picture-input .error').textContent")
    assert "too large to be sent as it is" in said.text_content() and view.sent() == []


@pytest.mark.parametrize("name", ["attention", "explorer"])
def test_captions_never_misalign_maps(page, name):
    """Titles of any length stand below the maps, whose upper edges lie on one line."""
    vit = patch_vit()
    widget = PICTURE_WIDGETS[name](vit)
    if name == "attention":
        widget.method, widget.target, widget.second = "relevance", 0, 2
        widget.titles = ["short", "a title that is much longer and goes on over several lines " * 3]
    else:
        widget.view = "matrix"
        widget.keep_to_compare()
    view = View(page, widget)
    selector = ".maps .patch-board" if name == "attention" else "canvas.large"
    tops = view.read(selector, "(one) => one.getBoundingClientRect().top")
    assert len(tops) == 2 and tops[0] == pytest.approx(tops[1], abs=0.5)


def test_a_sample_is_chosen_in_place_of_an_upload_that_still_waits(page):
    """Jupyter joins changes that wait into one message, and Python would show the upload."""
    view = View(page, PatchHiding(patch_vit(), WHITE))
    view.at(".picture-input select").select_option("boat")
    sent = view.sent()
    assert {"upload_name": ""} in sent and sent[-1] == {"sample": "boat"}
    assert [one for one in sent if "upload" in one], "emptied first"


def test_what_is_told_of_a_patch_stays_true(page):
    """When another patch looks, and where the slider leaves its weight out."""
    vit = patch_vit()
    attention = attends(vit, 26)
    view = View(page, PatchAttention(vit, WHITE, layer=1, head=2, query=5))
    board, tip = view.at(".maps .patch-board"), view.at(".attention-main .told")
    place = cells(4, 6, view.box(board))[7]
    view.told(board, [place], ".attention-main .told")
    near(shares(tip.text_content())[:1], [attention[1, 2, 5, 2 + 7]])
    other = PatchAttention(vit, WHITE, layer=1, head=2, query=9, mass=0.3)
    least = int((other._large[0] > 0).int().argmin())
    state = {name: getattr(other, name) for name in ("query", "titles", "tops", "mass", "keeps", "looker")}
    encoded = base64.b64encode(other.large).decode()
    page.evaluate(
        """([state, encoded]) => {
            const bytes = Uint8Array.from(atob(encoded), (one) => one.charCodeAt(0));
            const now = { ...state, large: new DataView(bytes.buffer), revision: 99 };
            for (const [name, value] of Object.entries(now)) model.set(name, value);
        }""",
        [state, encoded],
    )
    said = tip.text_content()
    kept = float(other._large[0, 7])
    assert "left out here" in said if kept == 0 else shares(said)[0] == pytest.approx(kept, abs=0.008)
    (said,) = view.told(board, [cells(4, 6, view.box(board))[least]], ".attention-main .told")
    assert ": left out here" in said


def test_two_checkpoints_beside_each_other(page):
    """Maps of the same head lie side by side, with names; where they differ most is framed in both."""
    vit, other = patch_vit(), patch_vit()
    other.name = "another"
    rows = [attends(one, 26, seed)[2, 1, 11, 2:].numpy() for seed, one in enumerate((vit, other))]
    widget = AttentionExplorer(vit, image=WHITE, layer=2, head=1, query=11, beside=other, opacity=0.5)
    view = View(page, widget)
    width, height = view.box(view.at(".maps .patch-board"))[2:]
    for which, row in enumerate(rows):
        board = view.at(".maps .patch-board", which)
        near(view.colours(board, cells(4, 6, view.box(board))), heat(row / np.max(rows), 0.5), 3)
        name = (vit.name, "another")[which]
        assert view.texts(".scale + figcaption")[which] == f"{name}: layer 3, head 2, patch 2, 4 looks"
        near(shares(view.texts(".scale")[which]), [np.max(rows)])
        own = [np.max(row)] if np.max(row) < np.max(rows) else []  # where the scale ends above it
        near(shares(view.texts(".board .note:last-child")[which])[:-1], own)
    change = np.abs(rows[0] - rows[1])
    marked = (-change).argsort()[:10]
    assert [key - 2 for _, key, *_ in widget.patch_differences] == marked.tolist()
    for which in (0, 1):  # green where the left map has more, orange where it has less
        for sign, ink in ((1, "--keep"), (-1, "--random")):
            patches = [at for at in marked if sign * (rows[0] - rows[1])[at] > 0]
            x, y = (np.array(patches) % 6) * width / 6, (np.array(patches) // 6) * height / 4
            framed = [x.min(), y.min(), x.max() - x.min() + width / 6, y.max() - y.min() + height / 4]
            view.framed(view.at(".maps .patch-board", which), ink, framed)
    said = view.texts(".one .note[aria-live]")[-1]
    first = marked[0]
    assert f"“patch {first // 6 + 1}, {first % 6 + 1}” with " in said
    near(shares(said)[:2], [row[first] for row in rows])
    assert view.texts(".status")[0].startswith(f"{vit.name} beside another · ")
    assert view.texts(".answer .note")[0] == "The tick is the answer of another."
    view.bars(view.at(".answers"), widget.answers)
    small = view.at("canvas.head-grid")
    told = view.told(small, [[30, 30]], ".heads .told")[0]
    near(shares(told), [np.frombuffer(widget.apart, np.float16)[0]])
