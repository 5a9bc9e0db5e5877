"""Pictures: whatever comes in, upright RGB comes out, or one sentence; prepared as transformers does."""

import io
import json
import struct
import tracemalloc
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import close, our_vit, transformers

import workbench as wb
from workbench.image import Preprocessing, as_seen, normalize
from workbench.widgets import AttentionExplorer, PatchAttention, PatchHiding, PatchSplitter
from workbench.widgets.samples import sample_image

RED, GREEN, WHITE = (255, 0, 0), (0, 128, 0), (255, 255, 255)


def normalized(picture: Any, preprocessing: Preprocessing) -> torch.Tensor:
    """A picture that is resized already, as the model takes it."""
    return normalize(torch.from_numpy(np.array(picture, "uint8")).permute(2, 0, 1)[None], preprocessing)


def file_of(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixel(source: Any, place: tuple[int, int] = (0, 0)) -> tuple[int, int, int]:
    image = wb.load_image(source)
    assert image.mode == "RGB"
    return image.getpixel(place)


# --- every mode of PIL -------------------------------------------------------------------------


def half_transparent_palette() -> Image.Image:
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *GREEN])
    image.putpixel((1, 0), 1)
    image.info["transparency"] = 1
    return image


MODES = {  # picture, colour at (0, 0), colour at (1, 0)
    "1": (Image.fromarray(np.array([[True, False]])), WHITE, (0, 0, 0)),
    "L": (Image.fromarray(np.array([[200, 10]], "uint8")), (200,) * 3, (10,) * 3),
    "LA": (Image.merge("LA", [Image.new("L", (2, 1), 10), Image.new("L", (2, 1), 0)]), WHITE, WHITE),
    "P": (Image.new("RGB", (2, 1), RED).convert("P"), RED, RED),
    "P with transparency": (half_transparent_palette(), RED, WHITE),
    "PA": (Image.new("RGBA", (2, 1), (*RED, 255)).convert("PA"), RED, RED),
    "RGB": (Image.new("RGB", (2, 1), GREEN), GREEN, GREEN),
    "RGBA": (Image.new("RGBA", (2, 1), (0, 0, 0, 128)), (127,) * 3, (127,) * 3),
    "RGBX": (Image.new("RGBX", (2, 1), (*GREEN, 3)), GREEN, GREEN),
    "CMYK": (Image.new("CMYK", (2, 1), (0, 255, 255, 0)), RED, RED),
    "YCbCr": (Image.new("RGB", (2, 1), RED).convert("YCbCr"), (254, 0, 0), (254, 0, 0)),
    "HSV": (Image.new("HSV", (2, 1), (0, 255, 255)), RED, RED),
    "I;16": (Image.fromarray(np.array([[65535, 257]], "uint16")), WHITE, (1, 1, 1)),
    "I;16B": (Image.frombytes("I;16B", (2, 1), b"\xff\xff\x01\x01"), WHITE, (1, 1, 1)),
    "I, 8 bits": (Image.fromarray(np.array([[255, 7]], "int32")), WHITE, (7, 7, 7)),
    "I, 16 bits": (Image.fromarray(np.array([[65535, -5]], "int32")), WHITE, (0, 0, 0)),
    "I, 32 bits": (Image.fromarray(np.array([[2**30, 2**29]], "int32")), WHITE, (128,) * 3),
    "F below 0": (Image.fromarray(np.array([[0.0, -1.0, 1.0]], "float32")), (128,) * 3, (0, 0, 0)),
    "F with no end": (Image.fromarray(np.array([[np.inf, 0.5]], "float32")), WHITE, (128,) * 3),
    "F to 1": (Image.fromarray(np.array([[1.0, 0.2]], "float32")), WHITE, (51,) * 3),
    "F to 255": (Image.fromarray(np.array([[255.0, np.nan]], "float32")), WHITE, (0, 0, 0)),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode(mode: str) -> None:
    image, first, second = MODES[mode]
    for place, wanted in (((0, 0), first), ((1, 0), second)):
        assert np.abs(np.subtract(pixel(image, place), wanted)).max() <= 1


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("1", "PNG"),
        ("L", "PNG"),
        ("LA", "PNG"),
        ("P with transparency", "PNG"),
        ("P with transparency", "GIF"),
        ("RGBA", "WEBP"),
        ("I;16", "PNG"),
        ("CMYK", "TIFF"),
        ("F to 1", "TIFF"),
        ("RGB", "BMP"),
    ],
)
def test_modes_through_a_file(mode: str, kind: str, tmp_path: Path) -> None:
    image, first, second = MODES[mode]
    options = {"lossless": True} if kind == "WEBP" else {}
    content = file_of(image, kind, **options)
    (tmp_path / "picture").write_bytes(content)
    for source in (content, tmp_path / "picture", str(tmp_path / "picture")):
        for place, wanted in (((0, 0), first), ((1, 0), second)):
            assert np.abs(np.subtract(pixel(source, place), wanted)).max() <= 1


def test_a_transparent_colour_of_16_bits_is_none_of_8() -> None:
    """300 is 1 in 8 bits, and 44 by its last byte."""
    content = file_of(Image.fromarray(np.array([[300, 44 * 257]], "uint16")), transparency=300)
    assert pixel(content, (1, 0)) == (44, 44, 44)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_stand_upright(orientation: int) -> None:
    """A camera stores its picture turned and notes that; red is at the upper left of what was seen."""
    seen = Image.new("RGB", (48, 32), GREEN)
    seen.paste(RED, (0, 0, 16, 16))
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = seen.transpose(undo[orientation]) if orientation > 1 else seen
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = wb.load_image(file_of(stored, "JPEG", exif=exif, quality=95))
    assert image.size == (48, 32)
    assert np.abs(np.subtract(image.getpixel((4, 4)), RED)).max() < 12
    assert np.abs(np.subtract(image.getpixel((40, 28)), GREEN)).max() < 12


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_the_first_frame_of_an_animation(kind: str) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, GREEN, WHITE)]
    options = {"lossless": True} if kind == "WEBP" else {}
    content = file_of(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert pixel(content) == RED
    opened = Image.open(io.BytesIO(content))
    opened.seek(2)
    assert pixel(opened) == RED


def test_bytes_of_every_kind_files_and_homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = file_of(Image.new("RGB", (3, 2), RED))
    (tmp_path / "picture.png").write_bytes(content)
    monkeypatch.setenv("HOME", str(tmp_path))
    padded = memoryview(b"x" + content + b"x")[1:-1]
    for source in (content, bytearray(content), memoryview(content), padded, "~/picture.png"):
        assert pixel(source) == RED
    with (tmp_path / "picture.png").open("rb") as file:
        assert pixel(file) == RED and pixel(file) == RED, "read from its beginning each time"
    assert pixel(io.BytesIO(content)) == RED


def test_16_bits_take_little_memory() -> None:
    """Ten million pixels: 80 MB as floats, and three times that on the way."""
    ramp = np.linspace(0, 65535, 4000).round().astype(np.uint16)
    image = Image.fromarray(np.broadcast_to(ramp, (2500, 4000)).copy())
    tracemalloc.start()
    try:
        seen = wb.load_image(image)
        assert tracemalloc.get_traced_memory()[1] < 60e6
    finally:
        tracemalloc.stop()
    assert np.array_equal(np.asarray(seen)[::100, :, 1], np.broadcast_to((ramp / 257).round(), (25, 4000)))


def test_what_other_libraries_remark_is_not_shown(recwarn: pytest.WarningsRecorder, capfd) -> None:
    palette = half_transparent_palette()
    palette.info["transparency"] = b"\xff\x00"
    exif = file_of(Image.new("RGB", (3, 2), RED), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01")
    for source in (palette, file_of(palette), exif):
        wb.load_image(source)
    tiff = bytearray(file_of(Image.fromarray(PHOTO), "TIFF", compression="tiff_deflate"))
    tiff[-60:-20] = bytes(40)
    with suppress(ValueError):
        wb.load_image(bytes(tiff))
    assert not recwarn.list
    assert capfd.readouterr() == ("", "")


# --- what is no picture ------------------------------------------------------------------------


def refuses(source: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        wb.load_image(source)
    assert "\n" not in str(caught.value)


PHOTO = np.asarray(sample_image("astronaut"))[:64, :80]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.8])
def test_truncated_files(kind: str, share: float) -> None:
    content = file_of(Image.fromarray(PHOTO), kind)
    refuses(content[: int(len(content) * share)], "no picture that can be read")


def test_damaged_files_give_a_picture_or_the_sentence() -> None:
    """200 files with a few bytes changed: nothing else may come out."""
    generator = np.random.default_rng(0)
    for kind in ("PNG", "JPEG", "GIF", "WEBP", "TIFF"):
        content = file_of(Image.fromarray(PHOTO), kind)
        for _ in range(40):
            damaged = np.frombuffer(content, np.uint8).copy()
            places = generator.integers(0, min(len(damaged), 400), 8)
            damaged[places] = generator.integers(0, 256, 8)
            try:
                assert wb.load_image(damaged.tobytes()).mode == "RGB"
            except ValueError as error:
                assert str(error).startswith(("This is no picture", "The picture is too large"))  # noqa: PT017


@pytest.mark.parametrize(
    "content", [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", bytes(range(256)) * 40, b"GIF89a"]
)
def test_junk(content: bytes) -> None:
    refuses(content, "no picture that can be read")


def test_files_that_are_no_pictures(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("I am no picture.")
    refuses(tmp_path / "text.png", "no picture that can be read")
    refuses(tmp_path / "gone.png", "There is no picture '.*gone.png'")
    refuses(tmp_path, "no picture that can be read")
    refuses(None, "no picture that can be read")
    refuses("\0", "no picture")
    refuses("~nobody/gone.png", "picture")
    refuses("x" * 5000, "picture")
    refuses(io.StringIO("text"), "no picture that can be read")
    refuses([[1, 2]], "no picture that can be read")
    refuses(Image.new("RGB", (0, 3)), "no picture that can be read")
    refuses(torch.zeros(2, 3, device="meta"), "no picture that can be read")


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"hevc", b"mif1"])
def test_heic_has_its_own_sentence(tmp_path: Path, brand: bytes) -> None:
    content = b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1heic" + bytes(100)
    (tmp_path / "IMG_0001.HEIC").write_bytes(content)
    for source in (content, memoryview(content), io.BytesIO(content), tmp_path / "IMG_0001.HEIC"):
        refuses(source, "This is a HEIC picture.*save it as JPEG or PNG")


@pytest.mark.parametrize("size", [(9000, 8000), (20_000, 20_000), (2**31 - 1, 2**31 - 1)], ids=str)
def test_bombs(size: tuple[int, int]) -> None:
    """A small file that says it is large: refused before it is unpacked."""
    content = bytearray(file_of(Image.new("1", (1, 1))))
    content[16:24] = struct.pack(">II", *size)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    refuses(bytes(content), "too large: at most 64 million")


def test_large_pictures_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.image.MAX_PIXELS", 99)
    refuses(Image.new("1", (10, 10)), "too large")
    assert pixel(Image.new("1", (9, 11), 1)) == WHITE


def test_one_pixel() -> None:
    image = Image.new("RGB", (1, 1), RED)
    assert pixel(file_of(image)) == RED
    for keep_shape in (False, True):
        pixels = wb.prepare_image(image, Preprocessing(size=(16, 24), keep_shape=keep_shape))
        assert pixels.shape == (1, 3, 16, 24)
        close(pixels, torch.tensor([1.0, -1, -1])[:, None, None].expand(1, 3, 16, 24))


# --- arrays ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("array", "colour"),
    [
        (np.full((2, 3), 200, "uint8"), (200,) * 3),
        (np.full((2, 3, 1), 200, "uint8"), (200,) * 3),
        (np.full((2, 3, 3), (1, 2, 3), "uint8"), (1, 2, 3)),
        (np.full((2, 3, 4), (0, 0, 0, 0), "uint8"), WHITE),
        (np.full((2, 3), 65535, "uint16"), WHITE),
        (np.full((2, 3, 3), (257, 514, 771), "uint16"), (1, 2, 3)),
        (np.full((2, 3), True), WHITE),
        (np.full((2, 3), 0.2, "float16"), (51,) * 3),
        (np.full((2, 3, 3), (0.0, 0.2, 1.0), "float32"), (0, 51, 255)),
        (np.full((2, 3, 4), (1.0, 0.0, 0.0, 1.0), "float64"), RED),
        (np.full((3, 2), 0.2).T, (51,) * 3),
        (np.full((2, 3), 65535, ">u2"), WHITE),
        (np.full((2, 3, 3), (128, 129, 386), "uint16"), (0, 1, 2)),
        (torch.full((2, 3), 200, dtype=torch.uint8), (200,) * 3),
        (torch.tensor(RED, dtype=torch.uint8)[:, None, None].expand(3, 2, 3), RED),
        (torch.tensor(RED, dtype=torch.uint8).expand(2, 3, 3), RED),
        (torch.full((1, 2, 3), 0.2, dtype=torch.bfloat16, requires_grad=True), (51,) * 3),
        (torch.ones(4, 2, 3), WHITE),
    ],
    ids=lambda value: f"{value.dtype}{tuple(value.shape)}" if hasattr(value, "dtype") else "",
)
def test_arrays(array: np.ndarray | torch.Tensor, colour: tuple) -> None:
    image = wb.load_image(array)
    assert image.size == (3, 2)
    assert pixel(array) == colour


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 3), "int64"), "not int64"),
        (np.zeros((2, 3), "int8"), "not int8"),
        (np.zeros((2, 3), "complex64"), "not complex64"),
        (np.array([["a"]]), "not <U1"),
        (np.zeros((2, 3), object), "not object"),
        (np.full((2, 3), 1.01), "between 0 and 1"),
        (np.full((2, 3), -0.01), "between 0 and 1"),
        (np.full((2, 3), np.nan), "between 0 and 1"),
        (np.zeros((2, 3, 2), "uint8"), r"not \(2, 3, 2\)"),
        (np.zeros((1, 2, 3, 3), "uint8"), r"not \(1, 2, 3, 3\)"),
        (np.zeros(5, "uint8"), r"not \(5,\)"),
        (np.zeros((0, 3), "uint8"), r"not \(0, 3\)"),
        (np.zeros((), "uint8"), r"not \(\)"),
        (np.broadcast_to(np.uint8(0), (8001, 8000)), "too large"),
    ],
    ids=lambda value: f"{value.dtype}{value.shape}" if isinstance(value, np.ndarray) else "",
)
def test_odd_arrays_are_one_sentence(array: np.ndarray, message: str) -> None:
    refuses(array, message)


# --- preprocessing -----------------------------------------------------------------------------

RECIPES = [
    ("ViT", {}),
    ("ViT", {"size": {"height": 96, "width": 160}, "resample": 3, "image_mean": [0.1, 0.2, 0.3]}),
    ("ViT", {"size": 64, "resample": 0}),
    ("ViT", {"do_normalize": False}),
    ("ViT", {"do_rescale": False, "image_mean": [120.0, 130.0, 90.0], "image_std": [60.0, 70.0, 80.0]}),
    ("ViT", {"rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3}),
    ("ViT", {"do_rescale": False, "do_normalize": False}),
    ("ViT", {"size": {"shortest_edge": 69}, "do_center_crop": True, "crop_size": 64}),
    ("ViT", {"size": {"shortest_edge": 80}, "do_center_crop": True, "crop_size": 64}),
    ("ViT", {"size": {"shortest_edge": 64}, "do_center_crop": True, "crop_size": 64, "resample": 3}),
    ("DeiT", {}),
    ("DeiT", {"size": 256, "crop_size": 224, "image_std": [0.2, 0.3, 0.4]}),
]


@pytest.mark.parametrize("photo", ["astronaut", "coffee", "tall"])
@pytest.mark.parametrize(("kind", "options"), RECIPES, ids=str)
def test_prepared_as_transformers_does(kind: str, options: dict, photo: str, tmp_path: Path) -> None:
    """To 1/255 at the least: transformers rounds to whole steps of brightness in between, as we do."""
    picture = np.asarray(sample_image("coffee" if photo == "tall" else photo))
    picture = picture[:, :151] if photo == "tall" else picture
    theirs = getattr(transformers, f"{kind}ImageProcessorPil")(**options)
    theirs.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "preprocessor_config.json").read_text())
    ours = Preprocessing.from_hf(settings, (224, 224))
    expected = theirs(Image.fromarray(picture), return_tensors="pt")["pixel_values"]
    pixels = wb.prepare_image(picture, ours)
    assert pixels.shape == expected.shape
    difference = (pixels - expected) * torch.tensor(ours.std)[:, None, None] * 255
    assert difference.abs().max() < 1.01
    assert difference.abs().mean() < 0.01


@pytest.mark.parametrize(("kind", "options"), RECIPES, ids=str)
def test_written_as_it_was_read(kind: str, options: dict, tmp_path: Path) -> None:
    theirs = getattr(transformers, f"{kind}ImageProcessorPil")(**options)
    theirs.save_pretrained(tmp_path)
    ours = Preprocessing.from_hf(json.loads((tmp_path / "preprocessor_config.json").read_text()), (224, 224))
    written = json.loads(json.dumps(ours.to_hf()))
    assert Preprocessing.from_hf(written, (1, 1)) == ours
    again = transformers.ViTImageProcessorPil(**written)
    close(
        again(PHOTO, return_tensors="pt")["pixel_values"], theirs(PHOTO, return_tensors="pt")["pixel_values"]
    )


def test_timms_recipe() -> None:
    """crop_pct 0.9 of 224: the short side to 248, then the middle."""
    ours = Preprocessing.from_timm({"crop_pct": 0.9, "interpolation": "bicubic"}, (224, 224))
    assert ours.scaled == (248, 248)
    photo = sample_image("coffee")  # 600 x 400
    wanted = photo.resize((372, 248), Image.Resampling.BICUBIC).crop((74, 12, 298, 236))
    close(wb.prepare_image(photo, ours), normalized(wanted, ours), 1e-6)
    assert Preprocessing.from_hf(ours.to_hf(), (1, 1)).scaled == (248, 248)
    assert Preprocessing.from_hf(ours.to_hf(), (1, 1)).round_crop
    assert not Preprocessing.from_timm({"crop_pct": 1.0, "crop_mode": "squash"}, (224, 224)).crops


def test_timms_recipe_where_the_file_is_silent() -> None:
    """ImageNet's mean and deviation; and a size that is no square, `ResizeKeepRatio` rounds."""
    ours = Preprocessing.from_timm({"crop_pct": 1.0, "std": None}, (32, 48))
    assert (ours.mean, ours.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    photo = sample_image("coffee").crop((0, 0, 86, 91))  # 91 / (86 / 48) = 50.8
    wanted = photo.resize((48, 51), Image.Resampling.BICUBIC).crop((0, 10, 48, 42))
    close(wb.prepare_image(photo, ours), normalized(wanted, ours), 1e-6)
    again = Preprocessing.from_hf(ours.to_hf(), (1, 1))
    close(wb.prepare_image(photo, again), wb.prepare_image(photo, ours), 1e-6)
    with pytest.raises(ValueError, match="a mean of .* for 1 channels"):
        Preprocessing.from_timm({}, (32, 48), channels=1)


@pytest.mark.parametrize(("crop", "margin", "offset"), [(0.95, 11, 6), (0.945, 13, 6), (0.94, 14, 7)])
def test_timm_rounds_the_crop_as_torchvision_does(crop: float, margin: int, offset: int) -> None:
    """`int(round((height - crop_height) / 2.0))`, where 5.5 and 6.5 become 6; HF cuts off: 5 and 6."""
    photo = sample_image("astronaut").resize((300, 300))
    side = 224 + margin
    for ours, start in (
        (Preprocessing.from_timm({"crop_pct": crop, "interpolation": "bilinear"}, (224, 224)), offset),
        (Preprocessing(crop_share=crop, keep_shape=True), margin // 2),
    ):
        assert ours.scaled == (side, side)
        scaled = photo.resize((side, side), Image.Resampling.BILINEAR)
        wanted = scaled.crop((start, start, start + 224, start + 224))
        close(wb.prepare_image(photo, ours), normalized(wanted, ours), 1e-6)


def test_grey_pictures_for_a_model_of_one_channel() -> None:
    vit = our_vit(num_channels=1)
    pixels = wb.prepare_image(PHOTO, vit.preprocessing)
    grey = Image.fromarray(PHOTO).convert("L").resize((48, 32), Image.Resampling.BICUBIC)
    close(pixels, torch.from_numpy(np.asarray(grey) / 127.5 - 1)[None, None], 1e-6)
    found = wb.classify_image(vit, PHOTO)
    assert sum(candidate.probability for candidate in found) == pytest.approx(1)
    shown = as_seen(pixels, vit.preprocessing)
    assert shown.shape == (32, 48, 3)
    assert np.array_equal(shown[..., 1], np.asarray(grey))
    assert PatchHiding(vit, PHOTO).error == ""
    assert PatchAttention(vit, PHOTO).error == ""
    assert AttentionExplorer(vit, image=PHOTO).error == ""
    with pytest.raises(ValueError, match="reads grey pictures"):
        PatchSplitter(vit, PHOTO)


def test_another_size_keeps_the_recipe() -> None:
    ours = Preprocessing(size=(32, 32), crop_share=0.8, keep_shape=True)
    assert wb.prepare_image(PHOTO, ours, size=(48, 16)).shape == (1, 3, 48, 16)
    assert wb.prepare_image(PHOTO, ours, size=(48, 16)).abs().max() <= 1


def test_very_narrow_pictures_are_refused() -> None:
    narrow = Image.new("RGB", (1, 70_000))
    assert wb.prepare_image(narrow, Preprocessing(size=(32, 32))).shape == (1, 3, 32, 32)
    with pytest.raises(ValueError, match="1 x 70000 pixels is too narrow"):
        wb.prepare_image(narrow, Preprocessing(size=(32, 32), keep_shape=True))


@pytest.mark.parametrize("options", [{"resample": "magic"}, {"crop_share": 0}, {"crop_share": 1.2}], ids=str)
def test_odd_recipes(options: dict) -> None:
    with pytest.raises(ValueError):
        Preprocessing(**options)


def test_a_recipe_in_words() -> None:
    assert str(Preprocessing()).startswith("whole picture to 224 x 224, bilinear")
    recipe = Preprocessing(crop_share=0.875, keep_shape=True, resample="bicubic")
    assert str(recipe).startswith("short side to 256 x 256, middle of 224 x 224, bicubic")


def test_normalised_numbers() -> None:
    ours = Preprocessing(mean=(0.5, 0.5, 0.0), std=(0.5, 0.25, 1.0))
    values = normalized([[[0, 127, 255]]], ours)
    close(values[0, :, 0, 0], torch.tensor([-1.0, (127 / 255 - 0.5) / 0.25, 1.0]), 1e-6)
