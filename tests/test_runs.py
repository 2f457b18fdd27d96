"""Run records: what is written is what is read, and what is damaged is said in one line."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scaling_lib.cli import main
from scaling_lib.config import ModelConfig, RunConfig, TrainConfig, digest
from scaling_lib.errors import InputError
from scaling_lib.runs import (
    Point,
    Run,
    check_poolable,
    find_run,
    has_records,
    is_recorded,
    read_run,
    read_runs,
    shipped,
    write_run,
)  # fmt: skip
from scaling_lib.sweep.pack import forget, pack

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


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
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


def changed(change: Callable[[dict], object]) -> Callable[[bytes], bytes]:
    def apply(content: bytes) -> bytes:
        data = json.loads(content)
        change(data)
        return json.dumps(data).encode()

    return apply


def resigned(data: dict) -> None:
    data["sha256"] = digest({key: value for key, value in data.items() if key != "sha256"})


DAMAGES = {
    "newer": (changed(lambda d: d.update(schema=99) or resigned(d)), "schema 99 is newer"),
    "flipped": (changed(lambda d: d.update(schema=3)), "sha256 does not fit"),
    "changed loss": (changed(lambda d: d.update(val_loss=1.0)), "sha256 does not fit"),
    "changed curve": (changed(lambda d: d["history"]["train_loss"].__setitem__(0, 1.0)), "sha256 does not fit"),
    "no hash": (changed(lambda d: d.pop("sha256")), "sha256 does not fit"),
    "no name": (changed(lambda d: d.pop("run_id")), "sha256 does not fit"),
    "no record": (lambda b: b"{}", "not a run record"),
    "empty": (lambda b: b"", "not a whole JSON file"),
    "truncated": (lambda b: b[:-2], "not a whole JSON file"),
    "not text": (lambda b: b"\xff\xfe" + b, "not a whole JSON file"),
    "too deep": (lambda b: b"[" * 100_000, "not a whole JSON file"),
    "too long a number": (lambda b: b"9" * 10_000, "not a whole JSON file"),
}


@pytest.mark.parametrize(("change", "message"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_record_is_refused_in_one_line_that_names_it(tmp_path, change, message):
    path = write_run(make(), tmp_path)
    path.write_bytes(change(path.read_bytes()))
    for reader in (read_run, lambda path: read_runs(path.parent)):
        with pytest.raises(InputError, match=message) as error:
            reader(path)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)


def test_folders_without_records_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        read_runs(tmp_path / "none")
    with pytest.raises(InputError, match="holds no run records"):
        read_runs(tmp_path)


# ---- many records in one file ----------------------------------------------------


def contents(folder: Path) -> list[dict]:
    """The records of a folder as its files hold them, by a reader that knows nothing of ours."""
    lines = [line for path in folder.glob("runs.jsonl") for line in path.read_text("utf-8").splitlines()]
    texts = lines + [path.read_text("utf-8") for path in folder.glob("*.json")]
    return sorted(map(json.loads, texts), key=lambda d: d["run_id"])


@pytest.fixture
def three(tmp_path):
    runs = [make(run_id=f"v1-2x32-s10-r{i}-abc", val_loss=5.0 + i, notes=("line\nbreak\u2028 é",)) for i in range(3)]
    for run in runs:
        write_run(run, tmp_path)
    return runs


def test_packed_records_are_the_records(tmp_path, three):
    before = contents(tmp_path)
    assert pack(tmp_path) == 3
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["runs.jsonl"]
    assert contents(tmp_path) == before  # with the same sha256
    assert read_runs(tmp_path) == three


def test_a_sweep_that_goes_on_in_a_packed_folder_writes_files_of_its_own(tmp_path, three):
    pack(tmp_path)
    write_run(three[0], tmp_path)  # copied there a second time: the same record
    fourth = make(run_id="v1-2x32-s10-r3-abc")
    write_run(fourth, tmp_path)
    assert len(read_runs(tmp_path)) == 4
    assert find_run(tmp_path, three[1].run_id) == three[1]
    assert find_run(tmp_path, fourth.run_id) == fourth
    assert find_run(tmp_path, "another") is None
    assert not is_recorded(tmp_path, "another")
    assert pack(tmp_path) == 4
    assert is_recorded(tmp_path, fourth.run_id)  # though the file was looked into before it had this line
    assert len(contents(tmp_path)) == 4


def test_a_copy_of_a_record_is_named_and_not_counted(tmp_path, three):
    path = tmp_path / f"{three[0].run_id}.json"
    copy = tmp_path / f"{three[0].run_id} (1).json"  # as file synchronisers make
    copy.write_bytes(path.read_bytes())
    with pytest.warns(UserWarning, match=r"\(1\)\.json") as said:
        assert read_runs(tmp_path) == three
    assert len(said) == 1


def test_two_different_records_of_one_run_are_refused(tmp_path, three):
    pack(tmp_path)
    path = write_run(replace(three[1], val_loss=1.0), tmp_path)
    for reader in (read_runs, pack):
        with pytest.raises(InputError, match="two records of the run") as error:
            reader(tmp_path)
        assert str(path) in str(error.value)
        assert f"{tmp_path / 'runs.jsonl'}, line 2" in str(error.value)
    assert path.exists()


@pytest.mark.parametrize("change", [lambda x: x[:50], lambda x: x.replace(b"5.0", b"5.5", 1), lambda x: b"[]"])
def test_a_broken_line_is_named_with_its_file_and_number(tmp_path, three, change):
    pack(tmp_path)
    path = tmp_path / "runs.jsonl"
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([lines[0], change(lines[0]), *lines[2:]]))
    for reader in (read_runs, pack, lambda folder: find_run(folder, "any")):
        with pytest.raises(InputError) as error:
            reader(tmp_path)
        assert str(error.value).startswith(f"{path}, line 2: ")
        assert "the line" in str(error.value)
        assert "\n" not in str(error.value)


PACK = """
import os, sys
from pathlib import Path
from scaling_lib.sweep.pack import pack

def counted(call):
    def counting(*args, **options):
        if next(left, None) is None:
            os._exit(9)
        return call(*args, **options)
    return counting

left = iter(range(int(sys.argv[2])))
os.replace, os.unlink = counted(os.replace), counted(os.unlink)
pack(Path(sys.argv[1]))
"""


def test_a_packing_that_is_killed_at_any_step_loses_nothing(tmp_path, three):
    pack(tmp_path)
    for i in (3, 4, 5):
        write_run(make(run_id=f"v1-2x32-s10-r{i}-abc"), tmp_path)
    before = read_runs(tmp_path)
    for steps in range(20):
        status = subprocess.run([sys.executable, "-c", PACK, str(tmp_path), str(steps)]).returncode
        assert read_runs(tmp_path) == before
        if status == 0:
            break
        assert status == 9
    assert steps > 3
    assert status == 0
    assert not list(tmp_path.glob("*.json"))


def test_a_forgotten_run_is_gone_in_either_form_and_the_others_stay(tmp_path, three):
    pack(tmp_path)
    fourth = make(run_id="v1-2x32-s10-r3-abc")
    write_run(fourth, tmp_path)
    forget(tmp_path, [three[1].run_id, fourth.run_id])
    assert read_runs(tmp_path) == [three[0], three[2]]
    forget(tmp_path, [run.run_id for run in three])
    assert not has_records(tmp_path)


def test_the_command_packs_folders(tmp_path, three, capsys):
    assert main(["pack", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'runs.jsonl'}: 3 records\n"
    assert main(["pack", str(tmp_path / "none")]) == 2


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
    for path in results.glob("*/*.json*"):
        content = path.read_text()
        assert not any(word in content for word in ("/home/", "/root/", "/Users/", "/work/", "/tmp/")), path
