"""Files are written whole or not at all: a full disk, or a stop, leaves those that were there."""

from contextlib import suppress
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file; one that is there is replaced only once all is written. `OSError` if it cannot be."""
    beside = path.with_name(f".writing-{path.name}")
    try:
        beside.write_bytes(content)
        beside.replace(path)
    except OSError as error:
        with suppress(OSError):
            beside.unlink()
        raise OSError(f"{path} could not be written ({error.strerror}); nothing was changed.") from error
