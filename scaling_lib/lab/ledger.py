"""The ledger: one readable JSON file to which entries are added, each chained to the one before it by its hash.

An entry's ``sha256`` covers the entry and, through ``before``, all earlier ones; ``head`` repeats the last, so that an
entry that is cut off is missed too. The file is replaced whole, under a lock: a reader sees the old ledger or the new
one, and of two processes the second sees what the first has spent. A hash is no signature: it shows an edit by hand,
and a person who recomputes every hash is caught only by comparing the seal's hash with the one that was told before.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from scaling_lib.config import digest
from scaling_lib.errors import InputError
from scaling_lib.files import content_of, write_atomically
from scaling_lib.sweep.locks import locked

Entry: TypeAlias = dict[str, Any]
SCHEMA = 1
PATIENCE_SECONDS = 60.0  # longer than a lock whose owner has vanished on another machine stays (sweep.locks)


def read_ledger(path: Path) -> list[Entry]:
    """The entries of a ledger, oldest first; none where there is no file.

    Raises
    ------
    InputError
        When the file cannot be read, is no ledger, or was changed by hand.
    """
    return _parse(path, content_of(path))


def add_entries(path: Path, make: Callable[[list[Entry]], list[Entry]]) -> list[Entry]:
    """Add what ``make`` returns of the entries so far, in one step that happens whole or not at all.

    ``make`` is called while no other process can write; where it raises, nothing is written. Returns all entries.

    Raises
    ------
    InputError
        As `read_ledger`; when the folder cannot be written or the disk is full; when the ledger stays locked.
    """
    lock_path, began = path.with_name(f".{path.name}.lock"), time.monotonic()
    while True:
        with locked(lock_path) as lock:
            if lock is not None:
                before = content_of(path)
                entries = _parse(path, before)
                for new in make(entries):
                    chained = {"entry": len(entries), **new, "before": entries[-1]["sha256"] if entries else ""}
                    entries.append({**chained, "sha256": digest(chained)})
                text = _written(entries)
                # A process that was stopped for longer than a lock lives may find the ledger gone on: it starts again.
                if content_of(path) == before:
                    if text != before:
                        write_atomically(path, text)
                    return entries
        if time.monotonic() - began > PATIENCE_SECONDS:
            raise InputError(f"{path} is in use by another process; wait for it, or delete {lock_path} if none runs")
        time.sleep(0.05)


def _written(entries: list[Entry]) -> bytes:
    """One entry a line, so that a person can read it and a diff shows what was added."""
    lines = ",\n  ".join(json.dumps(e, ensure_ascii=False, allow_nan=False) for e in entries)
    head = entries[-1]["sha256"] if entries else ""
    return f'{{"schema": {SCHEMA},\n "entries": [\n  {lines}\n ],\n "head": "{head}"}}\n'.encode()


def _parse(path: Path, content: bytes | None) -> list[Entry]:
    if not content:
        return []
    mend = "restore the file from a copy, or open a new lab in another folder"
    try:
        data = json.loads(content)
        schema, entries, head = data["schema"], list(data["entries"]), data["head"]
        kinds = [str(e["kind"]) for e in entries]
    except (ValueError, RecursionError, KeyError, TypeError):
        raise InputError(f"{path}: not a whole ledger of a lab; {mend}") from None
    if schema != SCHEMA:
        raise InputError(f"{path}: schema {schema!r} is not the known {SCHEMA}; update scaling_lib")
    before = ""
    for i, entry in enumerate(entries):
        bare = {k: v for k, v in entry.items() if k != "sha256"}
        try:
            fits = entry.get("sha256") == digest(bare) and entry.get("before") == before and entry.get("entry") == i
        except (TypeError, ValueError):  # a number that JSON does not know
            fits = False
        if not fits:
            raise InputError(f"{path}: entry {i} ({kinds[i]}) does not fit its hash: it was changed by hand; {mend}")
        before = entry["sha256"]
    if head != before:
        raise InputError(f"{path}: its last entries were cut off by hand; {mend}")
    return entries
