"""The wheel, built for real: it has to carry the lessons and the data, in their place, and nothing else."""

import hashlib
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent


def tracked(folder: str) -> set[str]:
    """Files of a folder that git knows or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", folder]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return {name for name in listed if (ROOT / name).is_file()}


@pytest.mark.slow
def test_the_wheel_holds_the_package_the_lessons_and_the_data(tmp_path):
    # Without isolation: hatchling is in the extra `test`, so that nothing is fetched.
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT]
    subprocess.run(command, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    lessons, data = ({f"workbench/{name}" for name in tracked(folder)} for folder in ("notebooks", "data"))
    left_out = {
        name for name in data if name.startswith(("workbench/data/recipes/", "workbench/data/screen"))
    }
    assert names == tracked("workbench") | lessons | data - left_out
    assert "workbench/notebooks/00_start_here.ipynb" in names
    assert "workbench/data/README.md" in names


def test_the_list_of_data_knows_every_file_as_it_is():
    lines = (ROOT / "data" / "README.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.split("|")] for line in lines if line.startswith("|")][2:]
    listed = {name: digest for _, name, _, _, digest, *_ in rows}
    for name, digest in listed.items():
        if digest:
            assert hashlib.sha256((ROOT / "data" / name).read_bytes()).hexdigest() == digest, name
    others = r"README.md|recipes/.*|screenshots/.*|checkpoints/.*(README.md|config.json)"
    unknown = {name.removeprefix("data/") for name in tracked("data")} - set(listed)
    assert {name for name in unknown if not re.fullmatch(others, name)} == set()


def test_what_is_needed_is_among_what_the_tests_ran_on():
    """The lowest releases of pyproject.toml, and the highest of tests/constraints.txt."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    dependencies = re.search(r"\ndependencies = \[(.*?)\n\]", text, re.DOTALL)[1]
    lines = (ROOT / "tests" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    highest = {Requirement(line).name: Requirement(line) for line in lines if line and line[0] != "#"}
    for needed in map(Requirement, re.findall(r'"(.+?)"', dependencies)):
        (lowest,) = needed.specifier
        assert lowest.operator == ">=", needed
        assert highest[canonicalize_name(needed.name)].specifier.contains(lowest.version), needed
