"""Sweeps end to end: every run once, whoever is stopped, and nothing lost that was finished."""

import shutil
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from scaling_lib.config import ModelConfig, RunConfig, TrainConfig, run_id, trunk_id
from scaling_lib.errors import InputError
from scaling_lib.lm import train as training
from scaling_lib.lm.corpus import Corpus
from scaling_lib.lm.runtime import Runtime
from scaling_lib.runs import Run, read_run, read_runs
from scaling_lib.sweep import execute
from scaling_lib.sweep.execute import Outcome, Snapshot, check_writable, run_sweep
from scaling_lib.sweep.locks import locked
from scaling_lib.sweep.pack import pack
from scaling_lib.sweep.plan import Options, Plan, make_plan

WALK = "random-walk:train_tokens=60000,val_tokens=8192"  # the corpus of the fixture `walk`
EXACT = Runtime("cpu", "float32", False, 1)
pytestmark = pytest.mark.usefixtures("one_thread")


def cell(d_model: int = 16, steps: int = 12, **changes: Any) -> RunConfig:
    train = TrainConfig("v2", steps, 4, 0.01, "constant", eval_tokens=1024)
    return RunConfig(ModelConfig(1, 2, d_model, 257, 16), replace(train, **changes), WALK)


def wsd(steps: int) -> RunConfig:
    return cell(steps=steps, recipe="wsd", schedule="wsd", warmup_steps=2, decay_steps=steps // 5)


def plan_of(*cells: RunConfig, workers: int = 1) -> Plan:
    # Exact, so that a record can be held against a model trained alone, bit for bit.
    return make_plan(cells, Options(device="cpu", dtype="float32", compile=False, workers=workers))


FOUR = [cell(d) for d in (8, 16, 24)] + [cell(steps=30)]


def what_was_learnt(run: Run) -> Run:
    """A record without what differs from one computation to the next."""
    return replace(run, seconds=0.0, tokens_per_second=0.0, environment={})


@pytest.fixture(scope="module")
def swept(walk, tmp_path_factory):
    """Four runs, trained by two worker processes."""
    out = tmp_path_factory.mktemp("sweep")
    said: list[Snapshot] = []
    return out, run_sweep(plan_of(*FOUR, workers=2), out, walk, on_snapshot=said.append), said


def test_every_run_leaves_one_whole_record_and_nothing_else(swept, walk):
    out, outcomes, said = swept
    names = {run_id(c, walk.fingerprint) for c in FOUR}
    assert {o.run_id for o in outcomes} == names
    assert {o.status for o in outcomes} == {"finished"}
    assert {p.name for p in out.rglob("*") if p.is_file()} == {f"{name}.json" for name in names}
    assert (said[-1].runs_done, said[-1].runs_total, said[-1].share_done) == (4, 4, pytest.approx(1.0))
    assert said[-1].running == ()


def test_workers_compute_what_one_process_computes(swept, walk):
    alone = training.train(FOUR[1], walk, runtime=EXACT)
    record = read_run(swept[0] / f"{alone.run_id}.json")
    assert what_was_learnt(record) == what_was_learnt(alone)


def test_a_second_call_trains_nothing_and_a_missing_record_alone(swept, walk, monkeypatch):
    out, _, _ = swept
    times = {p.name: p.stat().st_mtime_ns for p in out.glob("*.json")}
    trained = count_trainings(monkeypatch)
    outcomes = run_sweep(plan_of(*FOUR), out, walk)
    assert [o.status for o in outcomes] == ["skipped"] * 4
    assert not trained
    assert {p.name: p.stat().st_mtime_ns for p in out.glob("*.json")} == times

    lost = out / f"{run_id(FOUR[2], walk.fingerprint)}.json"
    before = read_run(lost)
    lost.unlink()
    outcomes = run_sweep(plan_of(*FOUR), out, walk)
    assert sorted(o.status for o in outcomes) == ["finished", "skipped", "skipped", "skipped"]
    assert trained == {lost.stem: 1}
    assert what_was_learnt(read_run(lost)) == what_was_learnt(before)
    assert {n: t for n, t in times.items() if n != lost.name} == {
        p.name: p.stat().st_mtime_ns for p in out.glob("*.json") if p != lost
    }


def test_a_sweep_goes_on_in_a_packed_folder(swept, walk, tmp_path, monkeypatch):
    for path in swept[0].glob("*.json"):
        shutil.copy(path, tmp_path)
    pack(tmp_path)
    trained = count_trainings(monkeypatch)
    said: list[Snapshot] = []
    outcomes = run_sweep(plan_of(*FOUR, cell(32)), tmp_path, walk, on_snapshot=said.append)
    assert [o.status for o in outcomes].count("skipped") == 4
    assert list(trained) == [run_id(cell(32), walk.fingerprint)]
    assert (said[-1].runs_done, said[-1].share_done) == (5, pytest.approx(1.0))
    assert len(read_runs(tmp_path)) == 5
    outcomes = run_sweep(plan_of(FOUR[0]), tmp_path, walk, force=True)
    assert [o.status for o in outcomes] == ["finished"]
    assert trained[run_id(FOUR[0], walk.fingerprint)] == 1
    assert len(read_runs(tmp_path)) == 5


def count_trainings(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    trained: Counter[str] = Counter()
    real = training.train

    def count(config: RunConfig, corpus: Corpus, **options: Any) -> Run:
        trained[run_id(config, corpus.fingerprint)] += 1
        return real(config, corpus, **options)

    monkeypatch.setattr(training, "train", count)
    return trained


def test_force_starts_over_and_touches_no_other_record(walk, tmp_path, monkeypatch):
    trained = count_trainings(monkeypatch)
    assert len(run_sweep(plan_of(cell(8), cell(16), cell(8)), tmp_path, walk)) == 2
    assert sorted(trained.values()) == [1, 1]  # a run that two ladders share is trained once
    (tmp_path / ".ckpt").mkdir(exist_ok=True)
    stale = tmp_path / ".ckpt" / f"{run_id(cell(8), walk.fingerprint)}.pt"
    stale.write_bytes(b"of an older call")
    other = tmp_path / f"{run_id(cell(16), walk.fingerprint)}.json"
    before = other.stat().st_mtime_ns
    outcomes = run_sweep(plan_of(cell(8)), tmp_path, walk, force=True)
    assert [o.status for o in outcomes] == ["finished"]
    assert sum(trained.values()) == 3
    assert other.stat().st_mtime_ns == before
    assert not stale.exists()


def test_two_launchers_on_one_folder_train_every_run_once(walk, tmp_path, monkeypatch):
    monkeypatch.setattr(execute, "WAIT_SECONDS", 0.02)
    trained = count_trainings(monkeypatch)
    found: list[list[Outcome]] = []
    launchers = [
        threading.Thread(target=lambda: found.append(run_sweep(plan_of(*FOUR), tmp_path, walk))) for _ in range(3)
    ]
    for launcher in launchers:
        launcher.start()
    for launcher in launchers:
        launcher.join()
    assert sorted(trained.values()) == [1] * 4
    assert len(found) == 3
    # Each counts its own runs alone, those of the others as runs that were there.
    assert Counter(o.status for outcomes in found for o in outcomes) == {"finished": 4, "skipped": 8}


def test_runs_of_one_trunk_branch_off_it_and_it_is_removed(walk, tmp_path):
    cells = [wsd(n) for n in (20, 40, 80)]
    plan = plan_of(*cells)
    assert [len(job.cells) for job in plan.jobs] == [3]
    run_sweep(plan, tmp_path, walk)
    runs = {r.config: r for r in read_runs(tmp_path)}
    assert [runs[c].environment["branched_at_step"] for c in cells] == [0, 16, 32]
    assert what_was_learnt(runs[cells[-1]]) == what_was_learnt(training.train(cells[-1], walk, runtime=EXACT))
    assert not list((tmp_path / ".ckpt").iterdir())  # the trunk served its purpose


def test_a_trunk_stays_while_another_launcher_needs_it_and_the_next_removes_it(walk, tmp_path):
    mark = tmp_path / ".locks" / f"{trunk_id(wsd(20), walk.fingerprint)}@other.lock"
    with locked(mark):
        run_sweep(plan_of(wsd(20), wsd(40)), tmp_path, walk)
        assert len(list((tmp_path / ".ckpt").glob("trunk-*.pt"))) == 2
    run_sweep(plan_of(wsd(20), wsd(40)), tmp_path, walk)
    assert not [*(tmp_path / ".ckpt").iterdir(), *(tmp_path / ".locks").iterdir()]


# ---- what goes wrong -------------------------------------------------------------


def test_weights_that_are_spoilt_on_the_way_are_noticed(walk, tmp_path, monkeypatch):
    real = training.learning_rate
    monkeypatch.setattr(training, "learning_rate", lambda step, t: 1e38 if step == t.max_steps - 1 else real(step, t))
    # The last update spoils the weights: no training loss is left to show it, only the validation.
    (outcome,) = run_sweep(plan_of(cell()), tmp_path, walk)
    assert outcome.status == "diverged"
    assert read_run(tmp_path / f"{outcome.run_id}.json").val_loss is None


def fail_where(choice: Callable[[RunConfig], bool], error: Exception, patch: pytest.MonkeyPatch) -> None:
    real = training.train

    def fail(config: RunConfig, corpus: Corpus, **options: Any) -> Run:
        if choice(config):
            raise error
        return real(config, corpus, **options)

    patch.setattr(training, "train", fail)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "MemoryError: "),
        (RuntimeError("out of memory\nand a long story"), "RuntimeError: out of memory"),
    ],
)
def test_a_run_that_fails_is_named_in_one_line_and_the_others_are_trained(error, message, walk, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        fail_where(lambda config: config.model.d_model == 16, error, patch)
        outcomes = {o.run_id: o for o in run_sweep(plan_of(cell(8), cell(16), cell(24)), tmp_path, walk)}
    failed = outcomes.pop(run_id(cell(16), walk.fingerprint))
    assert failed.status == "failed"
    assert failed.message.startswith(message)
    assert "\n" not in failed.message
    assert {o.status for o in outcomes.values()} == {"finished"}
    assert len(read_runs(tmp_path)) == 2
    assert not list((tmp_path / ".locks").iterdir())
    again = {o.run_id: o.status for o in run_sweep(plan_of(cell(8), cell(16), cell(24)), tmp_path, walk)}
    assert again[failed.run_id] == "finished"


def test_a_full_disk_ends_the_sweep_in_one_line_from_a_worker_too(walk, tmp_path):
    """The folder of the checkpoints is taken by a file: what is raised in a worker process arrives here whole."""
    (tmp_path / ".ckpt").write_text("in the way")
    with pytest.raises(InputError, match=r"\Acannot write [^\n]*\Z"):
        run_sweep(plan_of(cell(16), cell(24), workers=2), tmp_path, walk, checkpoint_seconds=0.0)
    assert not list(tmp_path.glob("*.json"))


def test_a_trunk_outlives_a_branch_that_failed(walk, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        fail_where(lambda config: config.train.max_steps == 40, MemoryError(), patch)
        run_sweep(plan_of(wsd(20), wsd(40)), tmp_path, walk)
    assert len(list((tmp_path / ".ckpt").glob("trunk-*.pt"))) == 1
    run_sweep(plan_of(wsd(20), wsd(40)), tmp_path, walk)
    assert [r.environment["branched_at_step"] for r in read_runs(tmp_path)] == [0, 16]


@contextmanager
def full_disk(room: int) -> Iterator[None]:
    """Let no file of this process grow beyond ``room`` bytes: writing fails as on a full disk."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.skipif(sys.platform == "win32", reason="limits a process as POSIX does: the full disk is not tried")
def test_a_disk_that_fills_up_during_training_leaves_the_old_checkpoint_to_go_on_from(walk, tmp_path, monkeypatch):
    real = training.batch
    config = cell(64, steps=40)

    def stop_at_20(tokens: Any, seed: int, step: int, *shape: int) -> Any:
        if step == 20:
            raise KeyboardInterrupt
        return real(tokens, seed, step, *shape)

    monkeypatch.setattr(training, "batch", stop_at_20)
    with pytest.raises(KeyboardInterrupt):
        run_sweep(plan_of(config), tmp_path, walk, checkpoint_seconds=0.0)
    monkeypatch.undo()
    (checkpoint,) = (tmp_path / ".ckpt").iterdir()
    before = checkpoint.read_bytes()
    with full_disk(len(before) // 2), pytest.raises(InputError, match=r"\Acannot write [^\n]*\Z") as error:
        run_sweep(plan_of(config), tmp_path, walk, checkpoint_seconds=0.0)
    assert str(checkpoint) in str(error.value)
    assert not list((tmp_path / ".locks").iterdir())
    assert [p.name for p in (tmp_path / ".ckpt").iterdir()] == [checkpoint.name]
    assert checkpoint.read_bytes() == before
    assert not list(tmp_path.glob("*.json"))

    (outcome,) = run_sweep(plan_of(config), tmp_path, walk)
    assert outcome.status == "finished"
    assert not list((tmp_path / ".ckpt").iterdir())  # a record makes its checkpoint needless
    (run,) = read_runs(tmp_path)
    assert what_was_learnt(run) == what_was_learnt(training.train(config, walk, runtime=EXACT))


def test_a_folder_that_cannot_be_written_is_said_before_anything_is_trained(walk, tmp_path, monkeypatch):
    trained = count_trainings(monkeypatch)
    (tmp_path / "file").write_text("in the way")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match=r"\A[^\n]*cannot write to [^\n]*--out\Z"):
            check_writable(out)
        with pytest.raises(InputError, match=r"\A[^\n]+\Z"):
            run_sweep(plan_of(cell()), out, walk)
    assert not trained
    assert (tmp_path / "file").read_text() == "in the way"
