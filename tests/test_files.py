"""Files appear whole or not at all, whoever is killed and however full the disk."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scaling_lib.errors import InputError
from scaling_lib.files import DAY, atomic_file, remove_leftovers, write_atomically


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_what_is_written_is_there_and_folders_are_made(tmp_path):
    path = tmp_path / "a" / "b" / "x.bin"
    for content in (b"one", b"", bytes(range(256)) * 1000):
        write_atomically(path, content)
        assert path.read_bytes() == content
        assert names(path.parent) == ["x.bin"]


def test_only_old_leftovers_are_removed(tmp_path):
    for name in (".old.tmp", ".new.tmp", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_text("x")
    (tmp_path / ".file.tmp").write_text("x")
    for name in (".old.tmp", ".file.tmp", "other"):
        os.utime(tmp_path / name, (time.time() - 2 * DAY,) * 2)
    remove_leftovers(tmp_path, tmp_path / "missing")
    assert names(tmp_path) == [".new.tmp", "other"]


def test_nothing_is_to_be_seen_before_all_is_written(tmp_path):
    path = tmp_path / "x.bin"
    with atomic_file(path) as file:
        file.write(b"half")
        file.flush()
        assert not path.exists()
    write_atomically(path, b"old")
    with atomic_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_disk_that_fails_at_any_point_leaves_the_old_file(call, tmp_path, monkeypatch):
    path = tmp_path / "x.bin"
    write_atomically(path, b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    message = r"\Acannot write [^\n]*x\.bin: No space left on device; [^\n]+\Z"
    if call == "write":
        with pytest.raises(InputError, match=message), atomic_file(path):
            full()
    else:
        monkeypatch.setattr(os, call, full)
        with pytest.raises(InputError, match=message):
            write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["x.bin"]


def test_a_folder_that_is_a_file_is_said_in_one_line(tmp_path):
    (tmp_path / "file").write_bytes(b"in the way")
    with pytest.raises(InputError, match=r"\Acannot write [^\n]*--out\)\Z"):
        write_atomically(tmp_path / "file" / "x.bin", b"new")
    assert (tmp_path / "file").read_bytes() == b"in the way"


KILLED = """
import os, signal, sys
from pathlib import Path
from scaling_lib.files import write_atomically
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
setattr(os, sys.argv[2], die)  # at the moment before the content is safe, or before it gets its name
write_atomically(Path(sys.argv[1]), b"new" * 100_000)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them: killing is not tried")
@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_process_killed_while_writing_leaves_the_old_file(moment, tmp_path):
    path = tmp_path / "x.bin"
    path.write_bytes(b"old")
    done = subprocess.run([sys.executable, "-c", KILLED, str(path), moment], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    write_atomically(path, b"newer")  # and what it left behind is in nobody's way
    assert path.read_bytes() == b"newer"
