"""Patches and the widgets on one picture, without a browser: the model's own numbers, errors as sentences."""

import base64
import io
import json
import re
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import VIT_SIZES, patch_vit, refuses

import workbench as wb
from workbench import patches
from workbench.image import Preprocessing
from workbench.plots import in_percent
from workbench.training import lessons
from workbench.vit import ViT, ViTConfig
from workbench.widgets import FineTuning, PatchHiding, PatchSplitter, patch_hiding
from workbench.widgets.samples import PICTURES, sample_image

WIDGETS = [PatchSplitter, PatchHiding]


@pytest.fixture
def vit() -> ViT:
    return patch_vit()


def noise(width: int = 40, height: int = 30, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def png(image: Image.Image, kind: str = "png", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format=kind, **options)
    return file.getvalue()


def bomb() -> bytes:
    """A PNG of a few bytes that claims 50,000 x 50,000 pixels."""
    chunks = b"\x89PNG\r\n\x1a\n"
    for name, data in (
        (b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0" * 100)),
        (b"IEND", b""),
    ):
        chunks += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return chunks


def numbers(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.float16).astype(float)


# --- pictures of every kind --------------------------------------------------------------------

KINDS = {
    "CMYK": lambda: png(noise().convert("CMYK"), "jpeg"),
    "16-bit grey": lambda: png(Image.fromarray(np.full((20, 30), 40_000, np.uint16))),
    "transparent": lambda: png(Image.new("RGBA", (30, 20), (255, 0, 0, 0))),
    "palette": lambda: png(noise().convert("P")),
    "animated": lambda: png(noise(), "gif", save_all=True, append_images=[noise().rotate(90)]),
    "tiny": lambda: png(noise(1, 1)),
    "narrow": lambda: png(noise(3000, 2)),
    "mislabelled": lambda: png(noise(), "webp"),
}


@pytest.mark.parametrize("widget", WIDGETS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_picture_is_read(vit: ViT, widget: type, kind: str) -> None:
    shown = widget(vit, noise())
    before, revision = shown.picture, shown.revision
    shown.set_state({"upload_name": "mine.png", "upload": memoryview(KINDS[kind]())})
    assert shown.error == "" and shown.upload == b"" and shown.revision > revision
    assert shown.picture != before and shown.sample == ""
    assert Image.open(io.BytesIO(shown.picture)).size == (48, 32)


BAD = {
    "junk": (lambda: b"not a picture", "no picture that can be read"),
    "truncated": (lambda: png(noise(300, 300))[:500], "no picture that can be read"),
    "bomb": (bomb, "too large"),
}


@pytest.mark.parametrize("widget", WIDGETS)
@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_gets_a_sentence_and_the_picture_stays(vit: ViT, widget: type, kind: str) -> None:
    make, said = BAD[kind]
    shown = widget(vit, sample="coffee")
    before = shown.picture
    shown.set_state({"upload_name": "<b>bad</b>.png", "upload": memoryview(make())})
    assert said in shown.error and shown.error.startswith("<b>bad</b>.png: ")
    assert shown.picture == before and shown.sample == "coffee" and shown.upload == b""
    shown.sample = "boat"
    assert shown.error == "" and shown.picture != before
    shown.sample = "<i>none</i>"
    assert "no sample picture" in shown.error and shown.sample == "boat"


def test_a_photo_is_turned_upright_and_a_large_one_shrunk(vit: ViT) -> None:
    photo = Image.new("RGB", (60, 40), "black")
    photo.paste("white", (0, 0, 30, 40))  # left half; the camera was held on its side
    exif = Image.Exif()
    exif[0x0112] = 6
    shown = PatchHiding(vit, png(photo, "jpeg", exif=exif, quality=95))
    pixels = np.asarray(Image.open(io.BytesIO(shown.picture)))
    assert pixels[:10].mean() > 200 and pixels[-10:].mean() < 60
    assert max(PatchHiding(vit, noise(3000, 500))._image.size) == 1024


def test_samples_are_there_and_need_no_network() -> None:
    for name in PICTURES:
        assert min(sample_image(name).size) >= 96


# --- the widgets -------------------------------------------------------------------------------


def test_splitter_follows_a_patch(vit: ViT) -> None:
    shown = PatchSplitter(vit, noise(), patch=7, output=4, stage="embeddings")
    with torch.inference_mode():
        pixels = wb.prepare_image(noise(), vit.preprocessing)
        steps = patches.projection_steps(vit, pixels, 7)
    assert shown.grid == [4, 6] and shown.patch == 7
    np.testing.assert_allclose(numbers(shown.values), steps["values"], atol=2e-3)
    three = torch.stack([steps[name] for name in ("projected", "position", "token")]).detach()
    np.testing.assert_allclose(numbers(shown.numbers).reshape(3, -1), three, atol=2e-2)
    np.testing.assert_allclose(numbers(shown.vector), three[0], atol=2e-2)
    assert [name for name, _ in shown.drawer["rows"]] == ["patch 2, 2 × E", "+ position", "= sum"]
    assert sum(shown.total) == pytest.approx(float(steps["projected"][4]), abs=1e-3)
    assert numbers(shown.weights) @ numbers(shown.values) == pytest.approx(shown.total[0], abs=2e-2)
    colors = np.frombuffer(shown.colors, np.uint8).reshape(3, 8, 8)
    picture = np.asarray(Image.open(io.BytesIO(shown.picture)))
    np.testing.assert_allclose(colors.transpose(1, 2, 0), picture[8:16, 8:16], atol=1)


def test_splitter_cuts_in_other_sizes(vit: ViT) -> None:
    shown = PatchSplitter(vit, noise(40, 20), stage="embeddings")
    assert shown.patch == 1 * 6 + 3  # near the middle
    shown.patch_size = 12
    assert shown.grid == [3, 4] and shown.vector == b"" and shown.error == "" and shown.patch == 6
    assert "patches of 8 pixels only" in shown.status
    assert "takes patches of 8 × 8 pixels. Another patch size needs another matrix" in shown.drawer["empty"]
    assert shown.line[1][2] == "this needs another E"
    shown.patch_size, shown.keep_shape = 8, True
    assert shown.grid == [3, 7] and shown.vector and shown.numbers
    picture = shown.picture
    shown.patch_size = 0
    assert "No picture" in shown.error and shown.patch_size == 8 and shown.picture == picture
    shown.side = 900
    assert "patches; at most" in shown.error and shown.side == 39 and shown.picture == picture
    shown.patch = 9999
    assert shown.patch == 20 and shown.error == ""
    shown.patch = -1
    front = vit.embeddings
    token = (front.prefix_tokens[0, 0] + front.position_embeddings[0, 0]).detach()
    np.testing.assert_allclose(numbers(shown.numbers).reshape(3, -1)[2], token, atol=5e-3)
    assert shown.line[-1] == ["", "the encoder", "3 layers"]
    refuses(lambda: PatchSplitter(vit, noise(), stage="head"), "there are: embeddings", ValueError)


def test_hiding_gives_the_models_own_classes(vit: ViT) -> None:
    shown = PatchHiding(vit, noise())
    whole = {c.label: c.probability for c in wb.classify_image(vit, noise())}
    assert {label: now for label, now, _ in shown.bars} == pytest.approx(whole, abs=1e-4)
    assert all(now == before for _, now, before in shown.bars)
    assert shown.line[-1] == ["", shown.bars[0][0], in_percent(shown.bars[0][1])]
    shown.hidden = [0, 5, 7]
    pixels = wb.prepare_image(noise(), vit.preprocessing)
    with torch.inference_mode():
        states = vit.encoder(*patches.rearranged(vit, pixels, [0, 5, 7]))
        right = patches.class_by_layer(vit, states)
    for label, now, before in shown.bars:
        assert now == pytest.approx(float(right[-1, vit.labels.index(label)]), abs=1e-4)
        assert before == pytest.approx(whole[label], abs=1e-4)
    closed = shown.bars
    shown.layer = 1
    assert shown.bars == closed, "a closed stage changes no answer"
    shown.stage = "layer"
    assert shown.bars[0][1] == pytest.approx(float(right[1].max()), abs=1e-4)
    with torch.inference_mode():
        before = patches.class_by_layer(vit, vit(pixels))[1]
    for label, _, was in shown.bars:
        assert was == pytest.approx(float(before[vit.labels.index(label)]), abs=1e-4)
    assert [part for _, part in shown.drawer["by_layer"]] == pytest.approx(right.amax(-1).tolist(), abs=1e-4)
    shown.hidden = [99]
    assert "cannot be hidden" in shown.error and shown.hidden == [0, 5, 7]


def test_hiding_answers_its_buttons(vit: ViT) -> None:
    shown = PatchHiding(vit, noise())

    def press(**content: object) -> None:
        shown._on_message(shown, content, [])
        assert shown.error == ""

    press(do="hide", share=0.25)
    first = shown.hidden
    assert len(first) == 6
    press(do="invert")
    assert sorted(first + shown.hidden) == list(range(24))
    press(do="keep")
    press(do="reset")
    before = [now for _, now, _ in shown.bars]
    press(do="shuffle")
    assert sorted(shown.order) == list(range(24))
    assert [now for _, now, _ in shown.bars] == pytest.approx(before, abs=1e-4)
    shown.positions = "place"
    assert [now for _, now, _ in shown.bars] != pytest.approx(before, abs=1e-4)
    kept = shown.kept[0]
    assert "18 hidden" in kept["name"] and len(kept["bars"]) == 3
    press(do="keep")
    shown.stage, shown.layer = "layer", 1
    press(do="keep")
    shown.stage, shown.positions = "", "none"
    press(do="keep")
    marks = [one["name"].split(", shuffled")[1] for one in shown.kept[1:]]
    places = ", positions of the new places"
    assert marks == [places, f"{places}, after layer 1", ", no positions"]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(kept["picture"]))))
    assert (pixels == 150).all(-1).mean() == pytest.approx(0.75, abs=0.01)
    for _ in range(2):
        shown.keep()
    shown._on_message(shown, {"do": "keep"}, [])
    assert "forget" in shown.error
    press(do="forget")
    assert shown.kept == []


def test_judging_on_held_out_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same patches are hidden, shuffled or stripped in every picture, whatever is on the screen."""
    vit = patch_vit()
    said = [wb.classify_image(vit, noise(seed=seed))[0].label for seed in range(25)]
    wrong = {0, 7, 24}  # the answer that is asked for there is another one than the model's
    others = [vit.labels[(vit.labels.index(label) + 1) % 3] for label in said]
    asked = [others[i] if i in wrong else label for i, label in enumerate(said)]
    pictures = tuple((noise(seed=seed), label) for seed, label in enumerate(asked))
    monkeypatch.setattr(patch_hiding, "held_out_pictures", lambda: pictures)
    shown = PatchHiding(vit, noise())
    assert shown.judges and shown.judged == []
    steps: list[list[int]] = []
    monkeypatch.setattr(shown, "send", lambda content: steps.append(content["judged"]))
    shown.judge()
    assert shown.judged == [25, 25, 22, 22]
    assert steps == [[10, 25, 8, 8], [20, 25, 18, 18], [25, 25, 22, 22]]
    shown.hidden, shown.positions = list(range(4, 24)), "place"
    assert shown.judged == []  # it was of another arrangement
    shown._on_message(shown, {"do": "judge"}, [])
    right = 0
    for image, label in pictures:
        pixels = wb.prepare_image(image, vit.preprocessing)
        with torch.inference_mode():
            states = vit.encoder(*patches.rearranged(vit, pixels, range(4, 24), None, "place"))
            right += vit.labels[int(vit.logits(states[-1]).argmax())] == label
    assert shown.judged == [25, 25, 22, right]
    monkeypatch.setattr(patch_hiding, "held_out_pictures", lambda: ((noise(), "owl"),))
    stranger = PatchHiding(vit, noise())
    stranger._on_message(stranger, {"do": "judge"}, [])
    assert not stranger.judges and "other classes" in stranger.error


def test_a_vit_without_head_or_preprocessing_is_refused_with_a_sentence() -> None:
    config = ViTConfig(**VIT_SIZES)
    with pytest.raises(ValueError, match="no head for classes"):
        PatchHiding(ViT(config, preprocessing=Preprocessing(size=(32, 48))))
    assert PatchSplitter(ViT(config, preprocessing=Preprocessing(size=(32, 48)))).vector
    with pytest.raises(ValueError, match="without a preprocessing"):
        PatchSplitter(ViT(config, ["a"]))
    with pytest.raises(TypeError, match="no option 'patchsize'"):
        PatchSplitter(ViT(config, ["a"], Preprocessing(size=(32, 48))), patchsize=3)


@pytest.mark.parametrize("widget", WIDGETS)
def test_a_page_holds_what_was_shown(vit: ViT, widget: type, tmp_path) -> None:
    shown = widget(vit, noise())
    shown.upload_name = "</script><b>x"
    page = shown.save(tmp_path / "a.html").read_text()
    state = json.loads(re.search(r"Object\.entries\((\{.*\})\)\) \{", page).group(1))["view"]
    assert base64.b64decode(state["picture"]["bytes"]) == shown.picture
    assert page.count("</script>") == 1


# --- a new head --------------------------------------------------------------------------------


def test_a_new_head_learns_and_the_old_model_stays(vit: ViT) -> None:
    plain = [(Image.new("RGB", (9, 9), tone), tone) for tone in ("red", "blue")] * 6
    before = {name: value.clone() for name, value in vit.state_dict().items()}
    seen: list[dict[str, float]] = []
    learned = lessons.fine_tune(
        vit, plain, kind="picture", steps=20, looks=2, watch=lambda result: seen.append(result.log[-1])
    )
    assert learned.log[-1]["held_out_accuracy"] == 1 and seen == [*learned.log, learned.log[-1]]
    assert learned.answers and all(true == said for _, true, said in learned.answers)
    assert [image.getpixel((0, 0)) for image, *_ in learned.answers] == [
        {"red": (255, 0, 0), "blue": (0, 0, 255)}[true] for _, true, _ in learned.answers
    ]
    assert wb.classify_image(learned.model, plain[0][0])[0].label == "red"
    assert vit.labels == ("cat", "dog", "cup")
    assert all(torch.equal(value, before[name]) for name, value in vit.state_dict().items())
    frozen = lessons.fine_tune(vit, plain, kind="picture", frozen=True, steps=2)
    changed = [
        name
        for name, value in frozen.model.state_dict().items()
        if not name.startswith("heads") and not torch.equal(value, before[name])
    ]
    assert changed == [] and all(parameter.requires_grad for parameter in frozen.model.parameters())


def test_pictures_that_nothing_can_be_learned_from(vit: ViT, tmp_path) -> None:
    shapes = lessons.draw_shapes(8, side=32)
    assert [label for _, label in shapes[:3]] == ["square", "cross", "square"]
    for few, said in ((shapes[::2], "1 class"), (shapes[:5], "at least 3"), ([], "no class")):
        with pytest.raises(ValueError, match=said):
            lessons.fine_tune(vit, few, kind="picture")
    with pytest.raises(ValueError, match="no pictures in folders"):
        lessons.read_folders(tmp_path)
    for name, (image, label) in enumerate(shapes):
        (tmp_path / label).mkdir(exist_ok=True)
        image.save(tmp_path / label / f"{name}.png")
    assert sorted(label for _, label in lessons.read_folders(tmp_path)) == ["cross"] * 4 + ["square"] * 4


def test_what_is_looked_at_while_training_is_of_all_classes(vit: ViT) -> None:
    """In whatever order the pictures come: folders give class after class."""
    shapes = sorted(lessons.draw_shapes(100, side=32), key=lambda row: row[1])
    exercise = lessons.picture_exercise(vit, shapes, True, 0)
    for looked in (exercise.seen, exercise.held_out):
        targets = torch.cat([batch["targets"] for batch in looked])
        assert min(targets.bincount()) > len(targets) / 4


def test_a_widget_trains_on_pictures(vit: ViT) -> None:
    plain = [(Image.new("RGB", (9, 9), tone), tone) for tone in ("red", "blue")] * 6
    widget = FineTuning(vit, plain, lessons.fine_tune, steps=20)
    assert widget.kind == "picture" and widget.classes == [["blue", 6], ["red", 6]] and widget.count == 12
    assert widget.figure().axes

    def tone(address: str) -> str:
        with Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))) as image:
            red, _, blue = image.convert("RGB").getpixel((5, 5))
        return "red" if red > blue else "blue"

    assert [tone(address) for address, _ in widget.rows] == [label for _, label in widget.rows]
    assert wb.classify_image(widget.finish().model, plain[0][0])[0].label == "red"
    widget._on_message(None, {"do": "look", "cell": ["fine-tuned", "red", "red"]}, None)
    assert widget.shown and {tone(address) for address in widget.shown} == {"red"}
    widget._on_message(None, {"do": "add"}, None)
    assert "in their folders" in widget.error and widget.count == 12
    with pytest.raises(ValueError, match="does not learn from examples of the kind 'word'"):
        FineTuning(vit, plain, lessons.fine_tune, kind="word")


def test_a_still_says_where_positions_are_others() -> None:
    shown = PatchHiding(patch_vit(), noise(), positions="none")
    assert shown.figure().get_axes()[0].get_title(loc="left") == "0 of 24 patches hidden, no positions"
