"""Folders of derived files that appear whole or not at all, and are known when damaged.

A folder is built beside its future place under a temporary name and then renamed. Any number of processes may
build the same one at once: the first to finish gives it its name, and all of them use that one.
"""

import json
import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from scaling_lib.files import cache_folder as cache_folder
from scaling_lib.files import temporary_beside


def read_folder(folder: Path) -> dict[str, Any] | None:
    """The content that `publish` was given for a folder; None where the folder is missing or damaged."""
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        crc = meta.pop("crc", None)  # folders of earlier versions have none
        whole = crc == _crc(meta) if crc is not None else meta.keys() == {"checksums", "content"}
        whole = whole and all(_checksum(folder / name) == known for name, known in meta["checksums"].items())
        return meta["content"] if whole else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def publish(build: Path, folder: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Give a finished folder its name, in one step; return the content of the folder that then bears it.

    Where another process was faster, its folder stays; a damaged one is replaced. ``build`` holds files alone, and
    ``content`` is plain JSON data to keep with them. Raises OSError where the folder cannot be put in place.
    """
    checksums = {path.name: _checksum(path) for path in sorted(build.iterdir())}
    meta = {"checksums": checksums, "content": content}
    (build / "meta.json").write_text(json.dumps({**meta, "crc": _crc(meta)}, indent=1), encoding="utf-8")
    for _ in range(10):  # each round is lost only if another process moved the folder meanwhile
        present = read_folder(folder)
        if present is not None:
            return present
        with suppress(OSError), building(folder) as aside:
            os.rename(folder, aside / "found")
            if read_folder(aside / "found") is not None:  # another process has put a whole one there meanwhile
                os.rename(aside / "found", folder)
                continue
        with suppress(OSError):
            os.rename(build, folder)
    raise OSError(f"{folder} cannot be put in place")


@contextmanager
def building(folder: Path) -> Iterator[Path]:
    """A new folder beside ``folder`` to build in; what is left of it at the end is removed, whatever happened."""
    build = temporary_beside(folder)
    build.mkdir(mode=0o700)
    try:
        yield build
    finally:
        shutil.rmtree(build, ignore_errors=True)


def _crc(meta: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(meta, sort_keys=True).encode())


def _checksum(path: Path) -> list[int]:
    """Size and CRC-32 of a file: finds damage, not malice, at about 1 GB/s."""
    size = crc = 0
    with path.open("rb") as handle:
        while chunk := handle.read(2**20):
            crc = zlib.crc32(chunk, crc)
            size += len(chunk)
    return [size, crc]
