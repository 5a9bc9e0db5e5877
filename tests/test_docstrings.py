"""Every example in a docstring runs, on the shipped checkpoints, and gives what it says."""

import doctest
import importlib
import pkgutil
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import workbench as wb
from workbench import widgets
from workbench.training.lessons import fine_tune, read_labelled
from workbench.widgets.samples import PICTURES, sample_image

MODULES = [
    importlib.import_module(module.name)
    for module in pkgutil.walk_packages(wb.__path__, "workbench.")
    if not module.name.endswith("__main__")
]
WIDGETS = [name for name in dir(widgets) if name[0].isupper()]
EXAMPLES = [
    test
    for module in MODULES
    for test in doctest.DocTestFinder().find(module, module.__name__)
    if test.examples
]


class Given(doctest.OutputChecker):
    """Where an example says nothing of what it gives, it only has to run."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        return not want or super().check_output(want, got, optionflags)


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What the examples take for granted."""
    bert, vit = wb.load_bert(device="cpu"), wb.load_vit(device="cpu")
    pixels = wb.prepare_image(sample_image("cat"), vit.preprocessing)
    encoding = bert.tokenizer.encode("It began to rain.", "She opened her umbrella.")
    own = {"bert": bert, "vit": vit, "pixels": pixels, "encoding": encoding, "wb": wb, "torch": torch}
    return own | {"fine_tune": fine_tune, "read_labelled": read_labelled}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_runs(
    example: doctest.DocTest, names: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("my_cat.jpg", "dog.jpg"):
        shutil.copy(PICTURES["cat"], name)
    for line in example.examples:
        if "bert-base-uncased" not in line.source:  # which would be fetched
            line.options.pop(doctest.SKIP, None)
    example.globs = names | example.globs
    told: list[str] = []
    doctest.DocTestRunner(Given()).run(example, out=told.append)
    assert told == []


def test_there_are_examples_of_every_widget() -> None:
    found = {example.name.rsplit(".", 1)[-1] for example in EXAMPLES}
    assert set(WIDGETS) | {"fill_mask", "place_cls", "record_attention", "word_vectors"} <= found
