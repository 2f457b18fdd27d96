"""Writing files whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from scaling_lib.errors import InputError

DAY = 86_400.0  # seconds


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Open ``path`` for writing so that a reader sees the old content or the new, never a part.

    Written under a temporary name in the same folder, flushed to disk, renamed. Folders are made as needed.

    Raises
    ------
    InputError
        When the folder cannot be written or the disk is full; what stood at ``path`` is left as it was.
    """
    temporary = temporary_beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}; make room, or choose another folder (--out)"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``, whole or not at all; raises as ``atomic_file`` does."""
    with atomic_file(path) as file:
        file.write(content)


def temporary_beside(path: Path) -> Path:
    """A hidden name in the folder of ``path`` that nobody else uses, and that ``remove_leftovers`` knows."""
    return path.with_name(f".{path.name[:100]}.{uuid.uuid4().hex[:8]}.tmp")


def remove_leftovers(*folders: Path) -> None:
    """Remove what processes that were killed left under temporary names more than a day ago."""
    for left in (path for folder in folders for path in folder.glob(".*.tmp")):
        with contextlib.suppress(OSError):
            if left.lstat().st_mtime < time.time() - DAY:
                shutil.rmtree(left) if left.is_dir() else left.unlink()
