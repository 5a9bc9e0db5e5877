"""How long until something happens: `python tests/benchmarks/startup.py`.

Fresh processes: `import torch`, everything that `import workbench` offers, and from there the first guess.
"""

import argparse
import json
import statistics
import subprocess
import sys

from common import machine, table

IMPORT = """
import time, json
a = time.perf_counter()
{}
print(json.dumps([time.perf_counter() - a]))
"""
# `import workbench` alone loads nothing yet: its names are loaded when they are used.
WORKBENCH = """
import workbench as wb
everything = [getattr(wb, name) for name in wb.__all__]
"""
GUESS = """
import time, json
import workbench as wb
everything = [getattr(wb, name) for name in wb.__all__]
a = time.perf_counter()
bert = wb.load_bert({checkpoint})
b = time.perf_counter()
wb.fill_mask(bert, "She drank a cup of [MASK].")
c = time.perf_counter()
wb.fill_mask(bert, "She drank a cup of [MASK].")
print(json.dumps([b - a, c - b, c - a, time.perf_counter() - c]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", help="default: the shipped one")
    parser.add_argument("--times", type=int, default=5, help="processes of each kind (default: %(default)s)")
    options = parser.parse_args()
    programs = {
        "torch": IMPORT.format("import torch"),
        "workbench": IMPORT.format(WORKBENCH),
        "guess": GUESS.format(checkpoint=repr(options.checkpoint)),
    }
    times = {name: [] for name in programs}
    for number in range(options.times + 1):
        for name, program in programs.items():
            done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
            if number:  # the first round warms the disk
                times[name].append(json.loads(done.stdout))
    torch, workbench = ([run[0] for run in times[name]] for name in ("torch", "workbench"))
    steps = zip(*times["guess"], strict=True)
    figures = [torch, workbench, [b - a for a, b in zip(torch, workbench, strict=True)], *steps]
    names = ["import torch", "all of workbench", "of it over torch", "load the checkpoint", "first guess"]
    names += ["load + first guess", "second guess"]
    print(machine(), end="\n\n")
    rows = [[name, f"{statistics.median(values):.3f}"] for name, values in zip(names, figures, strict=True)]
    print(table(["step", "seconds"], rows))


if __name__ == "__main__":
    main()
