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
import torch.nn.functional as F
from PIL import Image
from tiny import VIT_SIZES

import workbench as wb
from workbench import exercises, patches, plots
from workbench.image import Preprocessing
from workbench.training import picture_lesson
from workbench.vit import ViT, ViTConfig
from workbench.widgets import PatchHiding, PatchSplitter
from workbench.widgets.picture import SAMPLES, sample_image

WIDGETS = [PatchSplitter, PatchHiding]


@pytest.fixture
def vit() -> ViT:
    """4 x 6 patches of 8 pixels, two prefix tokens of which one has a position."""
    torch.manual_seed(0)
    config = ViTConfig(**VIT_SIZES, num_prefix_tokens=2)
    vit = ViT(config, ["cat", "dog", "cup"], Preprocessing(size=(32, 48), mean=(0.4,) * 3)).eval()
    with torch.no_grad():
        for parameter in vit.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return vit


def noise(width: int = 40, height: int = 30) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


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


# --- numbers about patches ---------------------------------------------------------------------


def test_one_patch_becomes_the_token_that_the_model_makes_of_it(vit: ViT) -> None:
    pixels = torch.randn(1, 3, 24, 32)  # 3 x 4 patches: positions are stretched
    with torch.inference_mode():
        steps, tokens = patches.projection_steps(vit, pixels, 6), vit.embeddings(pixels)
    torch.testing.assert_close(steps["token"], tokens[0, 2 + 6], atol=1e-5, rtol=1e-5)
    values = pixels[0, :, 8:16, 16:24].flatten()  # row 1, column 2
    torch.testing.assert_close(steps["values"], values)
    weight, bias = vit.embeddings.projection.weight, vit.embeddings.projection.bias
    torch.testing.assert_close(steps["projected"], weight @ values + bias, atol=1e-4, rtol=1e-4)


def test_filter_components_are_those_of_the_covariance(vit: ViT) -> None:
    found = patches.filter_components(vit, 5)
    assert found.shape == (5, 3, 8, 8)
    filters = vit.embeddings.projection.weight.detach().double().numpy()
    values, vectors = np.linalg.eigh(np.cov(filters, rowvar=False))
    for component, right in zip(found.flatten(1), vectors[:, ::-1].T, strict=False):
        assert abs(component.double().numpy() @ right) == pytest.approx(1, abs=1e-4)
        assert component.max() == component.abs().max()
    assert (np.diff(values) >= -1e-9).all()


def test_positions_are_compared_by_cosine(vit: ViT) -> None:
    similar = patches.position_similarity(vit)
    assert similar.shape == (4, 6, 4, 6)
    position = vit.embeddings.position_embeddings[0, 1:]  # the class token's comes first
    right = F.cosine_similarity(position[1 * 6 + 2], position[3 * 6 + 5], dim=0)
    assert float(similar[1, 2, 3, 5]) == pytest.approx(float(right.detach()), abs=1e-6)
    assert patches.position_similarity(vit, (2, 3)).shape == (2, 3, 2, 3)


def test_rearranged_hides_shuffles_and_strips(vit: ViT) -> None:
    pixels, order = torch.randn(1, 3, 32, 48), torch.randperm(24).tolist()

    def class_token(*arguments: object, **options: object) -> torch.Tensor:
        with torch.inference_mode():
            return vit.encoder(*patches.rearranged(vit, pixels, *arguments, **options))[-1][0, 0]

    whole = class_token()
    with torch.inference_mode():
        torch.testing.assert_close(whole, vit(pixels)[-1][0, 0])
        front, tokens = vit.embeddings(pixels).split([2, 24], dim=1)
        fewer = vit.encoder(torch.cat([front, tokens[:, 5:]], dim=1))[-1][0, 0]
        own = vit.embeddings.positions((4, 6))[:, 1:]
        closed = torch.cat([front, tokens[:, 5:] - own[:, 5:] + own[:, :19]], dim=1)
        closed = vit.encoder(closed)[-1][0, 0]
    near = {"atol": 1e-4, "rtol": 1e-4}
    torch.testing.assert_close(class_token(order=order), whole, **near)  # a set has no order
    torch.testing.assert_close(class_token(range(5)), fewer, **near)  # hidden is the same as gone
    torch.testing.assert_close(class_token(range(5), positions="place"), closed, **near)
    bare = class_token(positions="none")
    torch.testing.assert_close(class_token(order=order, positions="none"), bare, **near)
    for other in (bare, fewer, class_token(order=order, positions="place")):
        assert (other - whole).abs().max() > 1e-3
    assert torch.isfinite(class_token(range(24))).all()  # nothing but the class token
    with pytest.raises(ValueError, match="holds each number"):
        class_token(order=[0] * 24)
    with pytest.raises(ValueError, match="24 cannot be hidden"):
        class_token([24])


def test_tokens_are_counted_and_hints_are_given() -> None:
    right = {(224, 224, 16): 197, (384, 384, 16): 577, (224, 224, 14): 257, (32, 48, 8): 25}
    assert exercises.check_tokens(right).count("right") == 4
    given = {(224, 224, 16): 196, (384, 384, 16): 48, (96, 96, 8): None, (10, 10, 3): 1, (8, 8, 4): 64}
    for line, hint in zip(
        exercises.check_tokens(given).splitlines(),
        (
            "Something stands in front",
            "multiply them",
            "still to do",
            "cannot be cut",
            "These are the pixels",
        ),
        strict=True,
    ):
        assert hint in line


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
    shown.sample = "rocket"
    assert shown.error == "" and shown.picture != before
    shown.sample = "<i>none</i>"
    assert "no sample picture" in shown.error and shown.sample == "rocket"


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
    for name in SAMPLES:
        assert min(sample_image(name).size) >= 300


# --- the widgets -------------------------------------------------------------------------------


def test_splitter_follows_a_patch(vit: ViT) -> None:
    shown = PatchSplitter(vit, noise(), patch=7, output=4)
    with torch.inference_mode():
        pixels = wb.prepare_image(noise(), vit.preprocessing)
        steps = patches.projection_steps(vit, pixels, 7)
    assert shown.grid == [4, 6] and shown.patch == 7
    np.testing.assert_allclose(numbers(shown.values), steps["values"], atol=2e-3)
    three = torch.stack([steps[name] for name in ("projected", "position", "token")]).detach()
    np.testing.assert_allclose(numbers(shown.vectors).reshape(3, -1), three, atol=2e-2)
    assert sum(shown.total) == pytest.approx(float(steps["projected"][4]), abs=1e-3)
    assert numbers(shown.weights) @ numbers(shown.values) == pytest.approx(shown.total[0], abs=2e-2)
    colors = np.frombuffer(shown.colors, np.uint8).reshape(3, 8, 8)
    picture = np.asarray(Image.open(io.BytesIO(shown.picture)))
    np.testing.assert_allclose(colors.transpose(1, 2, 0), picture[8:16, 8:16], atol=1)


def test_splitter_cuts_in_other_sizes(vit: ViT) -> None:
    shown = PatchSplitter(vit, noise(40, 20))
    assert shown.patch == 1 * 6 + 3  # near the middle
    shown.patch_size = 12
    assert shown.grid == [3, 4] and shown.vectors == b"" and shown.error == "" and shown.patch == 6
    assert "patches of 8 pixels only" in shown.status
    shown.patch_size, shown.keep_shape = 8, True
    assert shown.grid == [3, 7] and shown.vectors
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
    np.testing.assert_allclose(numbers(shown.vectors).reshape(3, -1)[2], token, atol=5e-3)


def test_hiding_gives_the_models_own_classes(vit: ViT) -> None:
    shown = PatchHiding(vit, noise())
    whole = {c.label: c.probability for c in wb.classify_image(vit, noise())}
    assert {label: now for label, now, _ in shown.bars} == pytest.approx(whole, abs=1e-4)
    assert all(now == before for _, now, before in shown.bars) and len(shown.by_layer) == 4
    shown.hidden = [0, 5, 7]
    pixels = wb.prepare_image(noise(), vit.preprocessing)
    with torch.inference_mode():
        states = vit.encoder(*patches.rearranged(vit, pixels, [0, 5, 7]))
        right = patches.class_by_layer(vit, states)
    for label, now, before in shown.bars:
        assert now == pytest.approx(float(right[-1, vit.labels.index(label)]), abs=1e-4)
        assert before == pytest.approx(whole[label], abs=1e-4)
    shown.layer = 1
    assert shown.bars[0][1] == pytest.approx(float(right[1].max()), abs=1e-4)
    assert [part for _, part in shown.by_layer] == pytest.approx(right.amax(-1).tolist(), abs=1e-4)
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
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(kept["picture"]))))
    assert (pixels == 150).all(-1).mean() == pytest.approx(0.75, abs=0.01)
    for _ in range(5):
        shown.keep()
    shown._on_message(shown, {"do": "keep"}, [])
    assert "forget" in shown.error
    press(do="forget")
    assert shown.kept == []


def test_a_vit_without_head_or_preprocessing_is_refused_with_a_sentence() -> None:
    config = ViTConfig(**VIT_SIZES)
    with pytest.raises(ValueError, match="no head for classes"):
        PatchHiding(ViT(config, preprocessing=Preprocessing(size=(32, 48))))
    assert PatchSplitter(ViT(config, preprocessing=Preprocessing(size=(32, 48)))).vectors
    with pytest.raises(ValueError, match="without a preprocessing"):
        PatchSplitter(ViT(config, ["a"]))
    with pytest.raises(TypeError, match="no option 'patchsize'"):
        PatchSplitter(ViT(config, ["a"], Preprocessing(size=(32, 48))), patchsize=3)


@pytest.mark.parametrize("widget", WIDGETS)
def test_saving_in_all_forms(vit: ViT, widget: type, tmp_path) -> None:
    shown = widget(vit, noise())
    shown.upload_name = "</script><b>x"
    for name in ("a.png", "a.svg", "a.html"):
        assert shown.save(tmp_path / name).stat().st_size > 1000
    page = (tmp_path / "a.html").read_text()
    state = json.loads(re.search(r"const state = (\{.*\});\n", page).group(1))
    assert base64.b64decode(state["picture"]["bytes"]) == shown.picture
    assert page.count("</script>") == 1
    assert "image/png" in shown._repr_mimebundle_()[0]


def test_figures_of_the_front_door(vit: ViT) -> None:
    for figure in (
        plots.embedding_filters(patches.filter_components(vit)),
        plots.position_similarity(patches.position_similarity(vit), most=3),
    ):
        assert figure._repr_png_()


# --- a new head --------------------------------------------------------------------------------


def test_a_new_head_learns_and_the_old_model_stays(vit: ViT) -> None:
    plain = [(Image.new("RGB", (9, 9), tone), tone) for tone in ("red", "blue")] * 6
    before = {name: value.clone() for name, value in vit.state_dict().items()}
    seen: list[dict[str, float]] = []
    learned = picture_lesson.fine_tune_pictures(vit, plain, steps=20, looks=2, watch=seen.append)
    assert learned.log[-1]["held_out_accuracy"] == 1 and learned.mistakes == [] and seen == learned.log
    assert wb.classify_image(learned.vit, plain[0][0])[0].label == "red"
    assert vit.labels == ("cat", "dog", "cup")
    assert all(torch.equal(value, before[name]) for name, value in vit.state_dict().items())
    frozen = picture_lesson.fine_tune_pictures(vit, plain, frozen=True, steps=2)
    changed = [
        name
        for name, value in frozen.vit.state_dict().items()
        if not name.startswith("heads") and not torch.equal(value, before[name])
    ]
    assert changed == [] and all(parameter.requires_grad for parameter in frozen.vit.parameters())


def test_pictures_that_nothing_can_be_learned_from(vit: ViT, tmp_path) -> None:
    shapes = picture_lesson.draw_shapes(8, side=32)
    assert [label for _, label in shapes[:3]] == ["triangle", "cross", "triangle"]
    for few, said in ((shapes[::2], "1 class"), (shapes[:5], "at least 3"), ([], "no class")):
        with pytest.raises(ValueError, match=said):
            picture_lesson.fine_tune_pictures(vit, few)
    with pytest.raises(ValueError, match="no pictures in folders"):
        picture_lesson.read_folders(tmp_path)
    for name, (image, label) in enumerate(shapes):
        (tmp_path / label).mkdir(exist_ok=True)
        image.save(tmp_path / label / f"{name}.png")
    assert (
        sorted(label for _, label in picture_lesson.read_folders(tmp_path))
        == ["cross"] * 4 + ["triangle"] * 4
    )
    assert picture_lesson.contact_sheet(shapes).size == (8 * 76, 76)
