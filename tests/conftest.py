"""What every test shares: the same random numbers, few threads, and no network."""

import ipaddress
import os
import random
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported; child processes inherit it

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, settings

torch.set_num_threads(1)  # tiny models gain nothing from two, and wait for each other on a busy machine
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # kernels and commands that a test starts: others run beside them


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz", type=int, default=0, help="so many new examples in each test of test_fuzz.py")


def pytest_configure(config: pytest.Config) -> None:
    """Without --fuzz a few examples, the same each time."""
    count = config.getoption("fuzz")
    settings.register_profile(
        "fuzz",
        max_examples=count or 25,
        derandomize=not count,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    settings.load_profile("fuzz")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """For all tests a process on each core, up to four. None for tests that are named on the command line,
    nor for the slow ones: some are measured by the clock."""
    everything = config.args_source is config.ArgsSource.TESTPATHS and config.option.markexpr == "not slow"
    return min(os.cpu_count() or 1, 4) if everything else 0


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long comes first, so that no process has to wait for another at the end. The lessons, and
    what needs a JupyterLab, are the last that another process takes: each starts kernels of its own."""

    def long(item: pytest.Item) -> list[bool]:
        lab = "lab" in getattr(item, "fixturenames", ())
        return [
            item.nodeid.startswith("tests/test_notebooks.py"),
            lab,
            item.nodeid.startswith("tests/browser/"),
        ]

    items.sort(key=long, reverse=True)


@pytest.fixture(autouse=True)
def same_random_numbers() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def outgoing_connections(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Hosts outside this machine that the test tried to reach: each try fails, and then so does the test.

    A test of how the package behaves without a network may clear the list.
    """
    tried: list[str] = []

    def guard(function: Any, address_of: Any, error: type[OSError]) -> Any:
        def guarded(*arguments: Any, **named: Any) -> Any:
            host = address_of(arguments)
            if _is_outside(host):
                tried.append(str(host))
                raise error(f"Tests stay offline: no connection to {host}.")
            return function(*arguments, **named)

        return guarded

    def peer(arguments: tuple) -> str | None:
        return arguments[1][0] if arguments[0].family in (socket.AF_INET, socket.AF_INET6) else None

    for method in ("connect", "connect_ex"):
        original = getattr(socket.socket, method)
        monkeypatch.setattr(socket.socket, method, guard(original, peer, ConnectionRefusedError))
    lookup = guard(socket.getaddrinfo, lambda arguments: arguments[0], socket.gaierror)
    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    yield tried
    assert not tried, f"The test tried to reach {tried}."


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package and the lessons as one has them after `git clone`: nothing is new to git."""
    here, folder = Path(__file__).parents[1], tmp_path_factory.mktemp("checkout")
    for name in ("notebooks", "workbench"):
        shutil.copytree(here / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(here / ".gitignore", folder / ".gitignore")
    (folder / "data").symlink_to(here / "data")
    identity = "-c user.name=test -c user.email=test -c commit.gpgsign=false"
    for command in ("init --quiet", "add .", f"{identity} commit --quiet --message all"):
        subprocess.run(["git", *command.split()], cwd=folder, check=True)
    return folder


def _is_outside(host: str | bytes | None) -> bool:
    host = host.decode() if isinstance(host, bytes) else host
    if host in (None, "", "localhost", "0.0.0.0", "::", socket.gethostname()):
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return True
