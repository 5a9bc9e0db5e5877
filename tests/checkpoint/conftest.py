"""Checkpoints as transformers saves them, and copies to break."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import hf_bert, hf_vit, saved

import workbench as wb


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders "bert" and "vit" as transformers saves them."""
    folder = tmp_path_factory.mktemp("good")
    saved(hf_bert("BertForPreTraining"), folder / "bert")
    saved(hf_vit("ViTForImageClassification"), folder / "vit")
    return folder


@pytest.fixture(params=["bert", "vit"])
def broken(request: pytest.FixtureRequest, good: Path, tmp_path: Path) -> tuple[Path, Callable]:
    """A copy to break, and what loads it."""
    folder = tmp_path / "mine"
    shutil.copytree(good / request.param, folder)
    return folder, (wb.load_bert if request.param == "bert" else wb.load_vit)
