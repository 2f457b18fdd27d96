"""Run records: what is written is what is read, and what is damaged is said in one line."""

import json
import math
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scaling_lib.config import ModelConfig, RunConfig, TrainConfig
from scaling_lib.errors import InputError
from scaling_lib.files import write_atomically
from scaling_lib.runs import Point, Run, check_poolable, read_run, read_runs, shipped, table, write_run

finite = st.floats(allow_nan=False, allow_infinity=False)
maybe = st.none() | finite
points = st.builds(Point, st.integers(0, 10**9), st.integers(0, 10**15), finite, maybe, maybe)
text = st.text(max_size=20)


CURVE = (Point(0, 0, 0.1, 6.2), Point(10, 640, 0.1, 5.0, 5.1))


def make(history=CURVE, **changes) -> Run:
    config = RunConfig(
        ModelConfig(2, 2, 32, 512, 64), TrainConfig("v1", 10, 16, 1e-3, "constant"), "text:/some/where.txt"
    )
    run = Run(
        run_id="v1-2x32-s10-r0-abc",
        status="finished",
        config=config,
        corpus={"name": "text:where.txt", "fingerprint": "f" * 64},
        history=tuple(history),
        val_loss=5.0,
        val_loss_se=0.1,
        bits_per_byte=3.0,
        epochs=0.5,
        environment={"device": "cpu"},
        seconds=1.5,
        tokens_per_second=1000,
    )
    return replace(run, **changes)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(history=st.lists(points, max_size=30), loss=maybe, notes=st.lists(text, max_size=3), environment=text)
def test_a_record_written_is_the_record_read(tmp_path, history, loss, notes, environment):
    run = make(history, val_loss=loss, notes=tuple(notes), environment={"device_name": environment})
    assert read_run(write_run(run, tmp_path)) == run


def test_losses_that_are_no_numbers_are_stored_as_none(tmp_path):
    run = make([Point(0, 0, 0.1, math.nan, math.inf)], val_loss=math.nan, status="diverged")
    back = read_run(write_run(run, tmp_path))
    assert (back.val_loss, back.history[0].train_loss, back.history[0].val_loss) == (None, None, None)
    assert not back.finished
    json.loads((tmp_path / f"{run.run_id}.json").read_text(), parse_constant=pytest.fail)  # no NaN in the file


def damage(path: Path, change) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(schema=99), "schema 99 is newer"),
        (lambda d: d.update(val_loss=1.0), "sha256 does not fit"),
        (lambda d: d["history"]["train_loss"].__setitem__(0, 1.0), "sha256 does not fit"),
        (lambda d: d.pop("sha256"), "sha256 does not fit"),
        (lambda d: d.pop("run_id"), "not a run record"),
    ],
)
def test_a_changed_record_is_refused_in_one_line(tmp_path, change, message):
    path = write_run(make(), tmp_path)
    damage(path, change)
    with pytest.raises(InputError) as error:
        read_run(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("keep", [0, 1, 100, -2])
def test_a_truncated_record_is_refused_in_one_line(tmp_path, keep):
    path = write_run(make(), tmp_path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match="not a whole JSON file") as error:
        read_run(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"[]", b"3", b'"x"', b"\xff\xfe", b"{}"])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(InputError):
        read_runs(tmp_path)


def test_folders_without_records_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        read_runs(tmp_path / "none")
    with pytest.raises(InputError, match="holds no run records"):
        read_runs(tmp_path)


def test_a_reader_never_sees_half_a_file(tmp_path):
    path = tmp_path / "x.json"
    versions = [json.dumps([i] * 20_000).encode() for i in (1, 2)]
    write_atomically(path, versions[0])
    stop = threading.Event()

    def write():
        for i in range(150):
            write_atomically(path, versions[i % 2])
        stop.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    while not stop.is_set():
        content = path.read_bytes()
        assert content in versions
        seen.add(content)
    writer.join()
    assert len(seen) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]  # no temporary file is left


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from scaling_lib.errors import InputError
from scaling_lib.files import write_atomically
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # every write beyond 1,000 bytes fails, as on a full disk
try:
    write_atomically(Path(sys.argv[1]), b"new" * 1000)
except InputError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits a process as POSIX does; the full disk is not tried")
def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.bin"
    path.write_bytes(b"old")
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"cannot write {path}: ")
    assert done.stdout.count("\n") == 1
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x.bin"]


def test_the_table_has_a_row_a_run_and_every_count(tmp_path):
    runs = [make(), make(run_id="b", val_loss=None, status="diverged")]
    columns = table(runs)
    assert list(columns["run_id"]) == ["v1-2x32-s10-r0-abc", "b"]
    assert np.isnan(columns["val_loss"][1])
    assert set(runs[0].counts) <= set(columns)
    assert columns["n_tokens"][0] == 10 * 16 * 64
    assert columns["tokens_per_param"][0] == pytest.approx(10 * 16 * 64 / 24_736)


def test_runs_of_two_texts_or_vocabularies_are_not_pooled():
    run = make()
    check_poolable([run, run])
    with pytest.raises(InputError, match="corpus fingerprint"):
        check_poolable([run, replace(run, corpus={"fingerprint": "0" * 64})])
    other = replace(run.config, model=replace(run.config.model, vocab_size=1024))
    with pytest.raises(InputError, match="vocabulary"):
        check_poolable([run, replace(run, config=other)])


def test_shipped_sweeps_are_read_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert len(shipped("v1-to-v2")) == 87
    with pytest.raises(InputError, match="no such folder"):
        shipped("never-run")


def test_shipped_records_name_no_folder_of_the_machine_that_made_them():
    results = Path(__file__).resolve().parents[1] / "results"
    for path in results.glob("*/*.json"):
        content = path.read_text()
        assert not any(word in content for word in ("/home/", "/root/", "/Users/", "/work/", "/tmp/")), path
