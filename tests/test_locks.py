"""Locks between real processes: one holder, dead owners relieved, live ones left alone."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from scaling_lib import machine
from scaling_lib.sweep import locks

HOLD = """
import sys, time
from pathlib import Path
from scaling_lib.sweep.locks import try_lock
lock = try_lock(Path(sys.argv[1]))
print("held" if lock else "taken", flush=True)
time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
    """Another process that holds the lock; killed at the end."""
    path = tmp_path / "run.lock"
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield path, process
    process.kill()
    process.wait()


def test_one_holder_at_a_time(tmp_path):
    path = tmp_path / "run.lock"
    with locks.locked(path) as first:
        assert first is not None
        assert locks.try_lock(path) is None
    with locks.locked(path) as again:
        assert again is not None
    assert not path.exists()
    assert not list(tmp_path.iterdir())


def relieve(path) -> None:
    lock = locks.try_lock(path)
    assert lock is not None
    lock.release()


@pytest.mark.parametrize("buried", [True, False])
def test_a_live_owner_is_left_alone_and_a_dead_one_relieved(other, buried):
    """Also one whom its parent has not buried."""
    path, process = other
    assert locks.try_lock(path) is None
    process.kill()
    if buried:
        process.wait()
    while not buried and psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    relieve(path)


def test_only_one_of_many_relieves_a_dead_owner(other):
    path, process = other
    process.kill()
    process.wait()
    rivals = [
        subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    said = [rival.stdout.readline() for rival in rivals]
    for rival in rivals:
        rival.kill()
        rival.wait()
    assert sorted(said) == ["held\n", "taken\n", "taken\n", "taken\n"]


def write(path, beat: int, host: str = "another-machine", pid: int = 1, token: str = "t") -> None:
    path.write_text(json.dumps({"token": token, "host": host, "pid": pid, "beat": beat}))


def test_a_lock_of_another_machine_is_stale_once_its_counter_stands_still(tmp_path, monkeypatch):
    path = tmp_path / "run.lock"
    now = 1000.0
    monkeypatch.setattr(locks.time, "monotonic", lambda: now)
    monkeypatch.setattr(time, "time", lambda: 4e9)  # the year 2096: a date changes nothing
    write(path, 1)
    assert locks.try_lock(path) is None
    now += locks.STALE_SECONDS - 1
    assert locks.try_lock(path) is None
    write(path, 2)  # it beats: the wait begins again
    now += locks.STALE_SECONDS - 1
    assert locks.try_lock(path) is None
    now += locks.STALE_SECONDS + 1
    relieve(path)


@pytest.mark.parametrize("content", ["", "[]", '{"token": 3}', "a live process's number"])
def test_a_lock_that_names_no_owner_or_a_living_stranger_is_stale_in_time(tmp_path, monkeypatch, content):
    """Its owner was killed before it wrote its name, or the number of its process is another's by now."""
    path = tmp_path / "run.lock"
    path.write_text(content)
    if content.startswith("a live"):
        write(path, 7, locks.here(), os.getpid())
    now = 1000.0
    monkeypatch.setattr(locks.time, "monotonic", lambda: now)
    assert locks.try_lock(path) is None
    now += locks.STALE_SECONDS + 1
    relieve(path)


@pytest.mark.parametrize("what", ["table of processes", "start"])
def test_a_process_of_another_table_is_not_looked_for_in_this_one(what, tmp_path, monkeypatch):
    """Two containers of one host name, or two copies of one machine: the other's process is not here, and lives."""
    path = tmp_path / "run.lock"
    here = machine.here.__wrapped__
    with monkeypatch.context() as patch:
        patch.setattr(*(machine.os, "readlink", lambda link: "x") if what != "start" else (machine, "BOOT", path))
        path.write_text("another start")
        elsewhere = here()
    write(path, 1, elsewhere, 2**22 + 1)
    assert elsewhere != here() == locks.here()
    assert locks.try_lock(path) is None


def test_a_lock_that_was_taken_over_meanwhile_stays(tmp_path, monkeypatch):
    path = tmp_path / "run.lock"
    write(path, 1, locks.here(), 2**22 + 1)  # dead: no process has such a number
    create = locks._create

    def slow(at, content):
        made = create(at, content)
        if at != path:
            write(path, 5, token="u")  # between reading and removing it
        return made

    monkeypatch.setattr(locks, "_create", slow)
    assert locks.try_lock(path) is None
    assert locks.holder(path)["host"] == "another-machine"
    assert list(tmp_path.iterdir()) == [path]


def test_one_process_at_a_time_removes_a_stale_lock(tmp_path, monkeypatch):
    path = tmp_path / "run.lock"
    write(path, 1, locks.here(), 2**22 + 1)
    mark = Path(f"{path}.clearing")
    mark.touch()  # of one who is at it, or was killed at it on another machine
    assert locks.try_lock(path) is None
    monkeypatch.setattr(locks, "STALE_SECONDS", 0.0)
    locks.try_lock(path).release()
    for pid in (2**22 + 1, os.getpid()):  # a dead one of this machine, and a live one
        write(path, 1, locks.here(), 2**22 + 1)
        write(mark, 0, locks.here(), pid)
        monkeypatch.setattr(locks, "STALE_SECONDS", 30.0)
        lock = locks.try_lock(path)
        assert (lock is None) == (pid == os.getpid())
        if lock:
            lock.release()


def test_the_holder_beats_and_tells_its_progress(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "BEAT_SECONDS", 0.05)
    path = tmp_path / "run.lock"
    with locks.locked(path) as lock:
        lock.tell(done=0.5, loss=3.0)
        for _ in range(100):
            held = locks.holder(path)
            if held.get("done") == 0.5 and held["beat"] > 2:
                break
            time.sleep(0.05)
        assert held["done"] == 0.5
        assert held["beat"] > 2
    assert not locks.holder(path)
