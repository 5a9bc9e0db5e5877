"""What the benchmarks share: the machine in one line, and fair timing.

Other work on the machine distorts figures; where that cannot be stopped, `chrt -r 1 python ...` (as root)
goes before it.
"""

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch


def machine() -> str:
    """Processor, cores, threads and versions: figures mean nothing without them."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), cpu)
    load = f", load {os.getloadavg()[0]:.1f} before" if hasattr(os, "getloadavg") else ""
    return (
        f"{cpu}, {os.cpu_count()} cores{load}; "
        f"torch {torch.__version__} with {torch.get_num_threads()} threads, "
        f"transformers {version('transformers')}, Python {platform.python_version()}"
    )


def interleaved(
    runs: dict[str, Callable[[], object]], seconds: float, least: int = 5
) -> dict[str, list[float]]:
    """Seconds that each of `runs` takes, in rounds A B C A B C, so that a noisy neighbour hits all alike.

    Every other round goes backwards: nobody always runs on the other's warm caches.
    """
    for run in runs.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    started = time.perf_counter()
    while time.perf_counter() - started < seconds or len(times[next(iter(runs))]) < least:
        order = list(runs.items())
        for name, run in order if len(times[order[0][0]]) % 2 else reversed(order):
            begun = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - begun)
    return times


def ratio(times: dict[str, list[float]], name: str, base: str) -> float:
    """How many times as long `name` takes as `base`: the median over rounds."""
    return statistics.median(a / b for a, b in zip(times[name], times[base], strict=True))


def table(head: list[str], rows: list[list[object]]) -> str:
    """A Markdown table; numbers go to the right."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
