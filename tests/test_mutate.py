"""The faults of tests/mutate.py can all still be tried."""

import re
from pathlib import Path

import pytest
from mutate import FAULTS, ROOT, Fault


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: str(fault)[:60])
def test_a_fault_applies_and_its_tests_are_there(fault: Fault) -> None:
    assert fault.applies(), f"{fault.file} has not, or not once, the line: {fault.old}"
    assert fault.new != fault.old and fault.tests
    for test in fault.tests:
        file, name = re.fullmatch(r"(.+)::(\w+)(?:\[.+\])?", test).groups()
        assert f"def {name}(" in (ROOT / Path(file)).read_text(encoding="utf-8"), test
