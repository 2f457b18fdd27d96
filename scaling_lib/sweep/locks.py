"""A lock file per run, so that two launchers on one folder never train the same run twice.

A lock names its owner and beats: the owner rewrites it every few seconds with a counter one higher and with
its progress. A lock is stale when its owner is a dead process of this machine, or when its counter has not
moved for ``STALE_SECONDS`` of the waiting process's own steady clock, so a wrong date disturbs nothing.
"""

import contextlib
import json
import os
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scaling_lib.errors import InputError
from scaling_lib.files import MAKE_ROOM, plainly, temporary_beside, write_atomically
from scaling_lib.machine import here, is_dead

BEAT_SECONDS = 2.0
STALE_SECONDS = 30.0

# When this process first saw each (lock, owner, counter): how long a counter has stood still.
_first_seen: dict[tuple[str, str, int], float] = {}


class Lock:
    """A lock that is held; made by ``try_lock``, given back by ``release``."""

    def __init__(self, path: Path, content: dict[str, Any]) -> None:
        self._path = path
        self._content = content
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def tell(self, **progress: float) -> None:
        """Say how far the work has come; written with the next beat."""
        self._content = {**self._content, **progress}

    def _beat(self) -> None:
        while not self._stop.wait(BEAT_SECONDS):
            content = {**self._content, "beat": self._content["beat"] + 1}
            self._content = content
            with contextlib.suppress(InputError):  # a full disk must not end a training
                if holder(self._path).get("token") == content["token"]:
                    write_atomically(self._path, json.dumps(content).encode())

    def release(self) -> None:
        self._stop.set()
        self._thread.join()
        if holder(self._path).get("token") == self._content["token"]:
            self._path.unlink(missing_ok=True)


def try_lock(path: Path) -> Lock | None:
    """Take the lock at ``path``, or return None while another process holds it.

    Raises
    ------
    InputError
        When the folder cannot be written.
    """
    content = {"token": uuid.uuid4().hex, "host": here(), "pid": os.getpid(), "beat": 0}
    with plainly(f"cannot write {path}", MAKE_ROOM):
        path.parent.mkdir(parents=True, exist_ok=True)
        if _create(path, content) or (_clear_if_stale(path) and _create(path, content)):
            return Lock(path, content)
    return None


@contextlib.contextmanager
def locked(path: Path) -> Iterator[Lock | None]:
    """``with locked(path) as lock:`` holds the lock inside, or gives None when another process has it."""
    lock = try_lock(path)
    try:
        yield lock
    finally:
        if lock:
            lock.release()


def _create(path: Path, content: dict[str, Any]) -> bool:
    """Make the lock file; False when the name is taken. Until it has its content, nobody is known to own it."""
    try:
        file = path.open("x")
    except FileExistsError:
        return False
    try:
        with file:
            file.write(json.dumps(content))
    except OSError:  # a full disk
        path.unlink(missing_ok=True)
        raise
    return True


def holder(path: Path) -> dict[str, Any]:
    """Who holds the lock at ``path`` and how far they have come; empty when it is free."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _clear_if_stale(path: Path) -> bool:
    """Remove a stale lock. True when the caller should try to take the lock again."""
    content = holder(path)
    if not path.exists():
        return True
    token = str(content.get("token"))
    if not _owner_is_dead(content) and not _stands_still(path, token, int(content.get("beat", 0))):
        return False
    # One process at a time removes a lock, and looks again before: another may have taken it over meanwhile.
    broom = path.with_name(f"{path.name}.clearing")
    mine = uuid.uuid4().hex
    if not _create(broom, {"token": mine, "host": here(), "pid": os.getpid()}):
        with contextlib.suppress(FileNotFoundError):
            found, left = broom.stat(), holder(broom)
            # Left by one who was killed at it?
            if _owner_is_dead(left) or _stands_still(broom, str(found.st_ino), found.st_mtime_ns):
                return _take_away(broom, str(left.get("token"))) and _clear_if_stale(path)
        return False
    try:
        return _take_away(path, token)
    finally:
        _take_away(broom, mine)


def _take_away(path: Path, token: str) -> bool:
    """Remove the lock of that token, in one step, which one process wins; another's is put back."""
    aside = temporary_beside(path)
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return False
    taken = holder(aside)
    judged = str(taken.get("token")) == token
    if not judged:
        _create(path, taken)
    aside.unlink(missing_ok=True)
    return judged


def _stands_still(path: Path, token: str, beat: int) -> bool:
    """Whether this process has seen that counter for so long that nobody moves it."""
    now = time.monotonic()
    return now - _first_seen.setdefault((str(path), token, beat), now) >= STALE_SECONDS


def _owner_is_dead(content: dict[str, Any]) -> bool:
    """Whether the owner is known to be dead. A number that another process has got since leaves it to the counter."""
    pid = content.get("pid")
    return content.get("host") == here() and isinstance(pid, int) and is_dead(pid)
