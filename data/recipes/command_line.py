"""What the recipes share as commands: options from a function's parameters, errors in one sentence."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import tyro


def run(commands: dict[str, Callable[..., None]], description: str, arguments: Sequence[str] | None) -> None:
    """Runs one of the `commands`; its options are its parameters, or the fields of a dataclass parameter.

    Args:
        commands: functions by the name of their command.
        description: what `--help` says.
        arguments: None for those of the process.

    A bad input is one sentence on stderr and exit code 2.
    """
    try:
        tyro.extras.subcommand_cli_from_dict(
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
