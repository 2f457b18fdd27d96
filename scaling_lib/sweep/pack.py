"""The records of a finished sweep in one file: ``runs.jsonl``, a record a line, in place of a file for each run."""

import contextlib
import json
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from scaling_lib.errors import InputError
from scaling_lib.files import write_atomically
from scaling_lib.runs import PACKED, Record, has_records, packed_records, read_records, record_files
from scaling_lib.sweep.locks import locked


def pack(folder: Path) -> int:
    """Move every record of a folder into its ``runs.jsonl``; a record keeps its content and its ``sha256``.

    Records that were there stay. The new file is whole before the first old one goes, so that a process killed at any
    moment leaves each record in at least one place, and packing again finishes. A sweep may go on in the folder.
    Returns how many records the file holds.

    Raises
    ------
    InputError
        When a record is invalid, two of one run differ, or the folder cannot be written or is being packed.
    """
    if not has_records(folder):  # say so before a lock is laid there
        read_records(folder)
    with _alone(folder):
        files = record_files(folder)
        records = read_records(folder)
        _write(folder, records)
        for path in files:
            path.unlink(missing_ok=True)
    return len(records)


def forget(folder: Path, run_ids: Collection[str]) -> None:
    """Delete the records of some runs, alone or packed. Raises as ``pack`` does."""
    for name in run_ids:
        (folder / f"{name}.json").unlink(missing_ok=True)
    if (folder / PACKED).exists():
        with _alone(folder):
            kept = [r for r in packed_records(folder) if r.run.run_id not in run_ids]
            if kept:
                _write(folder, kept)
            else:
                (folder / PACKED).unlink()


def _write(folder: Path, records: Iterable[Record]) -> None:
    lines = [json.dumps(r.data, allow_nan=False, separators=(",", ":")) for r in records]
    write_atomically(folder / PACKED, "".join(f"{line}\n" for line in lines).encode())


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two that rewrite the file at once would lose what the other adds."""
    with locked(folder / ".locks" / f"{PACKED}.lock") as lock:
        if lock is None:
            raise InputError(f"{folder}: another process rewrites {PACKED} there; wait until it has finished")
        yield
