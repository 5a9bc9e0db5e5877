"""The `workbench` command: opens the lessons, makes pages of them, looks into checkpoints.

Everything heavy is imported where it is used, so that `workbench --help` answers at once.
"""

import argparse
import hashlib
import json
import os
import platform
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from workbench import __version__
from workbench.files import write_whole

FIRST_LESSON = "00_start_here.ipynb"
LESSONS_FOLDER, PAGES_FOLDER = "workbench-lessons", "workbench-pages"
COPIED = ".copied.json"  # in that folder: the SHA-256 of every lesson as it was copied


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command; without `arguments` it reads those of the process.

    A bad input is one sentence on stderr and exit code 2.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        options = _parser().parse_args(arguments)
        _check_current_folder()
        options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has read enough; what is left is not told when Python ends, either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except (ValueError, OSError) as error:
        print(f"workbench: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _check_current_folder() -> None:
    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise FileNotFoundError("The current folder was deleted; go to another one and try again.") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="workbench",
        description="See inside BERT and ViT. Without a command it opens the lessons in JupyterLab.",
    )
    parser.add_argument("--version", action="version", version=f"workbench {__version__}")
    parser.set_defaults(run=open_lab, browser=True, originals=False, port=8888)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    lab = commands.add_parser("lab", help="open the lessons in JupyterLab (the default)")
    lab.add_argument("--no-browser", dest="browser", action="store_false", help="only print the address")
    lab.add_argument("--originals", action="store_true", help="the lessons as shipped, to edit them: no copy")
    lab.add_argument("--port", type=_port, default=8888, help="first port to try (default: %(default)s)")

    info = commands.add_parser("info", help="what is installed here, or what is inside a checkpoint")
    info.add_argument("model", nargs="?", metavar="MODEL", help="a folder, an .npz file or a Hub id")
    info.set_defaults(run=print_info)

    pages = commands.add_parser(
        "pages", help="the lessons as web pages that need neither Python nor a network"
    )
    pages.add_argument("folder", nargs="?", type=Path, default=Path(PAGES_FOLDER), metavar="FOLDER")
    pages.add_argument("notebooks", nargs="*", type=Path, metavar="NOTEBOOK", help="others than the lessons")
    pages.set_defaults(run=make_pages)
    return parser


# --- info ----------------------------------------------------------------------------------------


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"a port is a whole number between 1 and 65535, not {text}")
    return int(text)


def print_info(options: argparse.Namespace) -> None:
    """Prints the report on the checkpoint `options.model`, or on this installation if there is none. Raises
    `ValueError` for a checkpoint that cannot be read."""
    from workbench import checkpoint

    if options.model is not None:
        print(checkpoint.inspect_checkpoint(options.model))
        return

    import torch

    from workbench.tasks import device_name

    shipped = []
    for name, folder in checkpoint.shipped_checkpoints().items():
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        shipped.append(f"{name} ({size / 1e6:.1f} MB)")
    facts = {
        "workbench": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": device_name(checkpoint.pick_device("auto")),
        "lessons": notebooks_folder(),
        "checkpoints": ", ".join(shipped) or "none",
    }
    for label, value in facts.items():
        print(f"{label:<12} {value}")


# --- lessons -------------------------------------------------------------------------------------


def notebooks_folder() -> Path:
    """The folder with the lessons as they were shipped: beside the package, or inside it (from a wheel).

    Raises `FileNotFoundError` if there is neither.
    """
    package = Path(__file__).resolve().parent
    for folder in (package.parent / "notebooks", package / "notebooks"):
        if (folder / FIRST_LESSON).is_file():
            return folder
    raise FileNotFoundError("The lessons are missing from this installation; please install it again.")


def working_folder() -> Path:
    """The user's own copy of the lessons, made or brought up to date.

    It is `workbench-lessons` in the current folder, or in the home folder if the current one is read-only.
    A lesson that is missing there is copied; one that the user has not touched follows the shipped one;
    one that was changed stays. Raises `OSError` if neither folder can be written to.
    """
    shipped, here = notebooks_folder(), Path.cwd()
    copy = here if here.name == LESSONS_FOLDER else here / LESSONS_FOLDER
    if not os.access(copy if copy.exists() else here, os.W_OK):
        copy = Path.home() / LESSONS_FOLDER
    print(f"Your copy of the lessons is in {copy}")
    if kept := _renew(copy, shipped):
        print(f"Not renewed, as yours differ: {', '.join(kept)}. Delete one there to get the new lesson.")
    return copy


def _renew(copy: Path, shipped: Path) -> list[str]:
    """Brings `copy` up to date and returns which lessons stay behind, since the user changed them."""
    record, copied, kept = copy / COPIED, {}, []
    with suppress(OSError, ValueError, TypeError):  # not there, or not as it was written: all is new
        copied = dict(json.loads(record.read_text()))
    before = dict(copied)
    for source in sorted(shipped.rglob("*")):
        name = source.relative_to(shipped)
        if not source.is_file() or any(part.startswith(".") or part == LESSONS_FOLDER for part in name.parts):
            continue
        target, newest = copy / name, _digest(source)
        now = _digest(target) if target.is_file() else None
        if now in (None, copied.get(str(name))) and now != newest:
            target.parent.mkdir(parents=True, exist_ok=True)
            write_whole(target, source.read_bytes())
            now = newest
        if now == newest:
            copied[str(name)] = newest
        elif copied.get(str(name)) != newest:
            kept.append(str(name))
    if copied != before:
        write_whole(record, json.dumps(copied, indent=1).encode())
    return kept


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def make_pages(options: argparse.Namespace) -> None:
    """Writes pages of the lessons, or of `options.notebooks`, into `options.folder`; see `write_pages`."""
    _own_kernel_first()
    from workbench.pages import write_pages

    lessons = sorted(notebooks_folder().glob("*.ipynb"))
    write_pages(options.folder, options.notebooks or lessons)
    print(f"Open {options.folder.resolve() / 'index.html'}")


# --- JupyterLab ----------------------------------------------------------------------------------


def open_lab(options: argparse.Namespace) -> None:
    """Runs JupyterLab on the first lesson until it is stopped: on this machine, with a token, offline."""
    folder = notebooks_folder() if options.originals else working_folder()
    _own_kernel_first()
    from jupyterlab.labapp import LabApp

    settings = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": options.port,
        "ServerApp.port_retries": max(0, min(50, (65533 - options.port) // 2)),  # up to twice as far off
        "ServerApp.open_browser": options.browser and _has_display(),
        "ServerApp.allow_root": hasattr(os, "geteuid") and os.geteuid() == 0,
        "ServerApp.root_dir": folder,
        "Application.log_level": "WARN",
        "LabApp.default_url": f"/doc/tree/{FIRST_LESSON}",  # a lesson has the width, with no list of files
        # These three would ask the network for news, new versions and extensions.
        "LabApp.news_url": None,
        "LabApp.check_for_updates_class": "jupyterlab.handlers.announcements.NeverCheckForUpdate",
        "LabApp.extension_manager": "readonly",
    }
    _send_kernel_messages_at_once()
    _save_widgets_with_notebooks()
    server = LabApp.initialize_server([f"--{name}={value}" for name, value in settings.items()])
    server.web_app.settings["page_config_hook"] = _without_announcements
    print("JupyterLab is starting; press Control-C twice here to stop it.", flush=True)
    server.start()


def _own_kernel_first() -> None:
    """Puts this Python before all other places for kernels and extensions: "Python 3" has to be the one that
    has the workbench, whatever else of that name the user has installed."""
    places = [os.path.join(sys.prefix, "share", "jupyter"), os.environ.get("JUPYTER_PATH")]
    os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, places))


def _save_widgets_with_notebooks() -> None:
    """Turns on "Save Widget State Automatically" for this server, unless the user's own settings say no."""
    with suppress(ImportError, AttributeError):  # of another make: a setting in its menu does the same
        from jupyterlab_server import handlers

        read = handlers._get_overrides

        def read_more(folder: str) -> tuple[dict[str, Any], str]:
            overrides, fault = read(folder)
            return {"@jupyter-widgets/jupyterlab-manager:plugin": {"saveState": True}} | overrides, fault

        handlers._get_overrides = read_more


def _has_display() -> bool:
    """Whether a browser would open in a window, and not as a text browser over this terminal."""
    return sys.platform != "linux" or any(map(os.environ.get, ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY")))


def _without_announcements(handler: Any, page_config: dict[str, Any]) -> dict[str, Any]:
    """Switches off the plugin that asks each new user whether to fetch news."""
    disabled = page_config.get("disabledExtensions", [])
    return page_config | {"disabledExtensions": [*disabled, "@jupyterlab/apputils-extension:announcements"]}


def _send_kernel_messages_at_once() -> None:
    """Sets TCP_NODELAY on the websocket of every kernel: small answers no longer wait for others."""
    with suppress(ImportError, AttributeError):  # of another make: only the speed is lost
        from jupyter_server.services.kernels.websocket import KernelWebsocketHandler

        original = KernelWebsocketHandler.open

        def open_at_once(self: Any, *arguments: Any, **named: Any) -> Any:
            with suppress(Exception):
                self.set_nodelay(True)
            return original(self, *arguments, **named)

        KernelWebsocketHandler.open = open_at_once
