"""Writing files whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from scaling_lib.errors import InputError
from scaling_lib.machine import here, is_dead

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
        remove_leftovers(path.parent)
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


def with_home(path: str | Path) -> Path:
    """A path with ``~`` or ``~user`` replaced by that folder; raises InputError where there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(f"{path}: the folder of that user is not known ({error}); write it out") from None


def cache_folder() -> Path:
    """``$SCALING_LIB_CACHE``, or the user's cache folder of the platform."""
    if chosen := os.environ.get("SCALING_LIB_CACHE"):
        return with_home(chosen)
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("scaling_lib", appauthor=False))


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``, whole or not at all; raises as ``atomic_file`` does."""
    with atomic_file(path) as file:
        file.write(content)


def temporary_beside(path: Path) -> Path:
    """A hidden name in the folder of ``path`` that nobody else uses, and by which ``remove_leftovers`` knows us."""
    return path.with_name(f".{path.name[:100]}.{_here()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")


def remove_leftovers(*folders: Path) -> None:
    """Remove what processes that were killed left under temporary names: those of this machine, or of a day ago."""
    for left in (path for folder in folders for path in folder.glob(".*.tmp")):
        writer = re.search(r"\.(\w+)-(\d+)-\w+\.tmp$", left.name)
        dead = writer is not None and writer[1] == _here() and is_dead(int(writer[2]))
        with contextlib.suppress(OSError):
            if dead or left.lstat().st_mtime < time.time() - DAY:
                shutil.rmtree(left) if left.is_dir() else left.unlink()


def _here() -> str:
    return f"{zlib.crc32(here().encode()):08x}"
