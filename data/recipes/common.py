"""What the recipes share: commands, sets of the Hub, a last layer that is fitted, tables of figures."""

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import datasets
import torch
import tyro
from torch import Tensor, nn

from workbench.training import loop

ELSE = "something else"  # the class of pictures of things that have none
# What, its measure, a share or what to print, and of how many.
Figure = tuple[str, str, float | Tensor | str, int]


def run(
    commands: Callable | dict[str, Callable], description: str, arguments: Sequence[str] | None = None
) -> None:
    """Runs a function; its options are its parameters, or the fields of a dataclass parameter.

    Args:
        commands: the function, or several by the name of their command.
        description: what `--help` says.
        arguments: None for those of the process.

    A bad input is one sentence on stderr and exit code 2.
    """
    cli = tyro.extras.subcommand_cli_from_dict if isinstance(commands, dict) else tyro.cli
    try:
        cli(
            commands,
            description=description,
            args=arguments,
            config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
        )
    except (ValueError, OSError) as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def load_set(source: str) -> datasets.DatasetDict:
    """A folder as `datasets` reads it, or a set on the Hub; a ValueError if there is none."""
    try:
        return datasets.load_dataset(source)
    except Exception as error:  # offline, or nothing to read: it shows itself in many kinds of errors
        raise ValueError(f"{source} is neither a folder with a set nor one on the Hub.") from error


def check_new(folder: Path, resume: bool) -> None:
    """Raises `ValueError` before a training begins where another is kept, which would be lost."""
    if not resume and loop.last_state(folder):
        raise ValueError(
            f"{folder} holds a training, which stays as it is: go on with --resume, or take another folder."
        )


def fit(layer: nn.Module, loss: Callable[[], Tensor]) -> None:
    """Gives a layer the parameters with the least loss (L-BFGS)."""
    optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        total = loss()
        total.backward()
        return total

    optimizer.step(closure)


def print_figures(figures: Iterable[Figure]) -> None:
    """Prints a table."""
    print(f"\n{'what':<48}{'measure':<24}{'value':>8}{'number':>8}")
    for what, measure, value, count in figures:
        printed = value if isinstance(value, str) else f"{value:.1%}"
        print(f"{what:<48}{measure:<24}{printed:>8}{count:>8,.0f}")
