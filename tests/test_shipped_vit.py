"""The picture checkpoint that ships: what anybody would try first, and whether `transformers` agrees."""

import time

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

import workbench as wb
from workbench.attention import attention_relevance, attention_rollout, record_attention
from workbench.checkpoint import SHIPPED_VIT, shipped_checkpoints
from workbench.vit import ViT
from workbench.widgets.samples import held_out_pictures, sample_image

FOLDER = shipped_checkpoints()[SHIPPED_VIT]


@pytest.fixture(scope="module")
def vit() -> ViT:
    return wb.load_vit(device="cpu")


GALLERY = {
    "bird": "bird",
    "boat": "boat",
    "butterfly": "butterfly",
    "cat": "cat",
    "chair": "chair",
    "dog": "dog",
    "elephant": "elephant",
    "flower": "flower",
    "lemons": "fruit",
    "motorcycle": "something else",
    "piano": "musical instrument",
    "turtle": "sea animal",
}


@pytest.mark.parametrize("sample", GALLERY)
def test_the_gallery_is_recognised(vit: ViT, sample: str) -> None:
    image = sample_image(sample)
    best = wb.classify_image(vit, image)[0]
    assert best.label == GALLERY[sample] and best.probability > 0.6
    mirrored = wb.classify_image(vit, image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))[0]
    assert mirrored.label == GALLERY[sample]


def test_a_wide_picture_gives_a_larger_map(vit: ViT) -> None:
    """By interpolated positions."""
    assert wb.classify_image(vit, sample_image("cat"), size=(96, 144))[0].label == "cat"


def test_two_animals_in_one_picture(vit: ViT) -> None:
    best = {guess.label for guess in wb.classify_image(vit, sample_image("dog and cat"), top_k=2)}
    assert best == {"dog", "cat"}


@pytest.mark.parametrize("sample", ["astronaut"])
def test_people_are_no_animals(vit: ViT, sample: str) -> None:
    best = wb.classify_image(vit, sample_image(sample))[0]
    assert best.label == "something else" or best.probability < 0.5


def test_held_out_pictures_are_of_its_classes_and_mostly_right(vit: ViT) -> None:
    pictures = held_out_pictures()
    assert len(pictures) == 50 and {label for _, label in pictures} <= set(vit.labels)
    right = [wb.classify_image(vit, image)[0].label == label for image, label in pictures]
    assert sum(right) >= 36


def test_what_is_in_no_class_is_not_taken_for_sure(vit: ViT) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    for picture in (noise, np.full((96, 96, 3), 128, np.uint8), np.zeros((96, 96, 3), np.uint8)):
        assert wb.classify_image(vit, picture)[0].probability < 0.9


def test_it_looks_at_the_thing(vit: ViT) -> None:
    """Things fill the middle of these pictures: it gets more than its share of the patches."""
    middle = {"rollout": [], "relevance": []}
    for sample in ("bird", "butterfly", "cat", "chair", "dog", "elephant", "flower", "turtle"):
        pixels = wb.prepare_image(sample_image(sample), vit.preprocessing)
        with torch.no_grad(), record_attention(vit) as attention:
            best = vit.logits(vit(pixels)[-1]).argmax(-1)
        maps = {
            "rollout": attention_rollout(attention),
            "relevance": attention_relevance(vit, lambda x=pixels, c=best: vit.logits(vit(x)[-1])[:, c]),
        }
        for name, tokens in maps.items():
            patches = tokens[0, 0, 1:].view(vit.config.grid)
            middle[name].append(float(patches[2:10, 2:10].sum() / patches.sum() / (64 / 144)))
    assert np.mean(middle["rollout"]) > 1.05 and np.mean(middle["relevance"]) > 1.15, middle
    assert min(middle["relevance"]) > 1.0, middle


def test_transformers_opens_it_and_agrees(vit: ViT) -> None:
    theirs = transformers.ViTForImageClassification.from_pretrained(FOLDER, dtype=torch.float32).eval()
    processor = transformers.ViTImageProcessorPil.from_pretrained(FOLDER)
    image = sample_image("cat")
    pixels = processor(image, return_tensors="pt")["pixel_values"]
    assert torch.allclose(pixels, wb.prepare_image(image, vit.preprocessing), atol=0.02)
    with torch.inference_mode():
        assert torch.allclose(theirs(pixels).logits, vit.logits(vit(pixels)[-1]), atol=1e-4)
    assert tuple(theirs.config.id2label.values()) == vit.labels


def test_it_is_small_and_loads_fast() -> None:
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 14e6
    started = time.process_time()  # others may be using the machine, too
    wb.classify_image(wb.load_vit(device="cpu"), sample_image("cat"))
    assert time.process_time() - started < 2
