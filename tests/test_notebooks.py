"""Lessons run from top to bottom, offline, in time, and are committed clean."""

import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from jupyter_client import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.util import run_sync

from workbench import widgets
from workbench.cli import notebooks_folder

LESSONS = sorted(notebooks_folder().glob("*.ipynb"))
RUN = [  # lesson 10 trains two models from nothing, which takes a minute
    pytest.param(path, marks=[pytest.mark.slow] if path.stem == "10_pretraining" else []) for path in LESSONS
]


# What a lesson says of a model that it has just trained.
HELD = {
    "04_token_tagging": """
text, names = "Florence flew to Sydney and asked Jordan for help.", ("Florence", "Sydney", "Jordan")
for order in ((0, 1, 2), (1, 0, 2), (0, 2, 1)):
    swapped = " ".join(names[order[names.index(one)]] if one in names else one for one in text.split())
    tags = wb.tag_words(tuned, swapped, head="lesson")
    said = [tag.label for tag in tags if tag.label != "O"]
    assert said == ["PERSON", "PLACE", "PERSON"], (swapped, tags)
""",
    "05_sentence_pairs": """
for answer, label in (("At nine in the morning.", "fits"), ("Behind the station.", "does not fit")):
    said = wb.classify_pair(tuned, "When does the museum open?", answer, head="lesson")[0].label
    assert said == label, (answer, said)
""",
    "08_vit_classification": """
frozen, whole = (view.trained[name].log[-1]["held_out_accuracy"] for name in ("frozen", "fine-tuned"))
assert 0.6 < frozen < 0.9 < 0.94 < whole, (frozen, whole)
""",
}


@pytest.fixture(scope="module")
def working_copy(checkout) -> Path:
    """The folder that `workbench` opens in a fresh checkout."""
    code = "from workbench.cli import working_folder; working_folder()"
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    subprocess.run([sys.executable, "-c", code], cwd=checkout, env=environment, check=True)
    return checkout / "workbench-lessons"


@pytest.fixture(scope="module")
def kernels() -> Iterator[list[AsyncKernelManager]]:
    """The kernel that runs the lessons, once there is one: it has imported PyTorch, which takes seconds."""
    kernels: list[AsyncKernelManager] = []
    yield kernels
    for kernel in kernels:
        run_sync(kernel.shutdown_kernel)(now=True)


@pytest.mark.parametrize("path", RUN, ids=lambda path: path.stem)
def test_lesson_runs(path, working_copy, checkout, kernels):
    notebook = nbformat.read(working_copy / path.name, as_version=4)
    start = time.monotonic()
    client = NotebookClient(
        notebook,
        km=kernels.pop() if kernels else None,
        timeout=120,
        kernel_name="python3",
        resources={"metadata": {"path": working_copy}},
    )
    notebook.cells.insert(0, nbformat.v4.new_code_cell("%reset -f"))  # no name of another lesson is left
    held = HELD.get(path.stem, "")
    assert all(text in path.read_text() for text in re.findall('"([A-Z].+?)"', held)), (
        "the lesson's own texts"
    )
    notebook.cells.append(nbformat.v4.new_code_cell(held))
    client.execute(cleanup_kc=False)
    notebook.cells = notebook.cells[1:-1]
    kernels.append(client.km)
    nbformat.write(notebook, working_copy / path.name)
    assert subprocess.check_output(["git", "status", "--porcelain"], cwd=checkout) == b""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert outputs
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    printed = [output["text"] for output in outputs if output["output_type"] == "stream"]
    printed += [
        output["data"]["text/plain"] for output in outputs if [*output.get("data", [])] == ["text/plain"]
    ]
    assert len(widest := max("\n".join(printed).splitlines(), key=len)) <= 78, f"it is torn apart: {widest}"
    shown = [  # ours; the bar of a training is one, too
        output
        for output in outputs
        if "application/vnd.jupyter.widget-view+json" in output.get("data", {})
        and output["data"]["text/plain"].startswith(
            tuple(f"{name}(" for name in dir(widgets) if name[0].isupper())
        )
    ]
    assert shown and all("image/png" in output["data"] for output in shown), (
        "a still picture for places without a kernel"
    )
    assert time.monotonic() - start < 120


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_every_section_says_what_to_notice(path):
    """And whoever trains has a line to try it."""
    cells = nbformat.read(path, as_version=4).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    sections = re.split("^## ", text, flags=re.MULTILINE)[1:]
    numbers = [int(one.split(".")[0]) for one in sections if one[0].isdigit()]
    assert numbers == list(range(1, len(numbers) + 1)), "no section has lost its title"
    untold = {one.splitlines()[0] for one in sections if "**Notice.**" not in one}
    assert untold <= {"A checkpoint of your own", "Keep what you see"}, "what nothing is shown in"
    assert text.count("<details>") == text.count("</details>")
    assert not re.search("</details>\n\n[^#]", text), "an answer has no space below it: write </details><br>"
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    trained = sum("FineTuning(" in source for source in code)
    assert text.count("**Try it") == trained or path.stem == "10_pretraining"


def test_code_of_the_lessons_is_short():
    cells = [cell for path in LESSONS for cell in nbformat.read(path, as_version=4).cells]
    cells = [cell for cell in cells if cell.cell_type == "code"]
    lines = [len(cell.source.splitlines()) for cell in cells]
    assert statistics.median(lines) <= 4
    widest = max((line for cell in cells for line in cell.source.splitlines()), key=len)
    assert len(widest) <= 78, f"it cannot be read whole in a narrow window: {widest}"


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_lesson_is_committed_clean(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert "widgets" not in notebook.metadata
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert "wb.describe(" in first.source, "the first cell says which device it found"
    for cell in notebook.cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None and "attachments" not in cell
        if cell.cell_type == "code":
            lines = cell.source.splitlines()
            assert len(lines) <= 12 and not any(line.startswith(("def ", "class ")) for line in lines)
