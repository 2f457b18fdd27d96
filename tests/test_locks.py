"""Locks between real processes: one holder, dead owners relieved, live ones left alone."""

import json
import os
import subprocess
import sys
import time

import psutil
import pytest

from scaling_lib.errors import InputError
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


def test_a_live_owner_is_left_alone_and_a_dead_one_relieved(other):
    path, process = other
    assert locks.try_lock(path) is None
    process.kill()
    process.wait()
    lock = locks.try_lock(path)
    assert lock is not None
    lock.release()


def test_a_dead_owner_whom_its_parent_has_not_buried_is_relieved(other):
    path, process = other
    process.kill()
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    lock = locks.try_lock(path)
    assert lock is not None
    lock.release()


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


def elsewhere(path, beat: int) -> None:
    path.write_text(json.dumps({"token": "t", "host": "another-machine", "pid": 1, "process_started": 0, "beat": beat}))


def test_a_lock_of_another_machine_is_stale_once_its_counter_stands_still(tmp_path, monkeypatch):
    path = tmp_path / "run.lock"
    now = 1000.0
    monkeypatch.setattr(locks.time, "monotonic", lambda: now)
    elsewhere(path, 1)
    assert locks.try_lock(path) is None
    now += locks.STALE_SECONDS - 1
    assert locks.try_lock(path) is None
    elsewhere(path, 2)  # it beats: the wait begins again
    now += locks.STALE_SECONDS - 1
    assert locks.try_lock(path) is None
    now += locks.STALE_SECONDS + 1
    lock = locks.try_lock(path)
    assert lock is not None
    lock.release()


def test_a_clock_that_jumps_changes_nothing(tmp_path, monkeypatch):
    path = tmp_path / "run.lock"
    elsewhere(path, 1)
    assert locks.try_lock(path) is None
    monkeypatch.setattr(time, "time", lambda: 4e9)  # the year 2096
    assert locks.try_lock(path) is None


def test_a_date_set_anew_does_not_make_a_live_owner_dead(other, monkeypatch):
    path, _ = other
    if not psutil.LINUX:
        pytest.skip("only on Linux does the date of the boot follow the machine's date")
    boot = psutil._pslinux.boot_time()
    started = psutil.Process().create_time()
    monkeypatch.setattr(psutil._pslinux, "boot_time", lambda: boot + 3600.0)
    assert psutil.Process().create_time() == pytest.approx(started + 3600, abs=2)  # as after a jump of an hour
    assert locks.try_lock(path) is None


def test_a_number_that_another_process_has_got_since_makes_no_live_owner(other):
    path, process = other
    held = json.loads(path.read_text())
    process.kill()
    process.wait()
    path.write_text(json.dumps({**held, "pid": os.getpid()}))
    lock = locks.try_lock(path)
    assert lock is not None
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
    assert locks.holder(path) is None


def test_a_folder_that_cannot_be_made_is_said_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write") as error:
        locks.try_lock(tmp_path / "file" / "run.lock")
    assert "\n" not in str(error.value)
