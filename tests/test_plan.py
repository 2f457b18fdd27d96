"""A plan against brute force: what shares a trunk, what runs beside what, and how long it takes."""

import csv
import heapq
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling_lib.config import ModelConfig, RunConfig, TrainConfig
from scaling_lib.counting import count_parameters, training_bytes, training_flops
from scaling_lib.errors import InputError
from scaling_lib.sweep import cost, execute
from scaling_lib.sweep import plan as module
from scaling_lib.sweep.cost import STARTING_SECONDS, calibrate, expected_seconds, log_timing, within_budget
from scaling_lib.sweep.plan import IMPORTS_BYTES, Job, Options, make_plan
from scaling_lib.sweep.recipes import cells

TINY = ModelConfig(1, 2, 16, 257, 16)
LARGE = ModelConfig(4, 4, 256, 10_000, 64)


def run(model: ModelConfig = TINY, steps: int = 100, **changes: object) -> RunConfig:
    return RunConfig(model, replace(TrainConfig("v2", steps, 4, 0.01, "constant"), **changes), "uniform")


def wsd(steps: int, model: ModelConfig = TINY, **changes: object) -> RunConfig:
    return run(model, steps, recipe="wsd", schedule="wsd", warmup_steps=5, decay_steps=steps // 5, **changes)


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.setattr(module, "cores", lambda: 2)


def test_every_run_is_planned_once_and_the_costliest_jobs_come_first():
    wanted = cells("laptop") + cells("demo")
    plan = make_plan(wanted, Options())
    assert sorted(map(repr, plan.cells)) == sorted(map(repr, wanted))
    for phase in plan.phases:
        flops = [job.flops for job in phase.jobs]
        assert flops == sorted(flops, reverse=True)


def test_only_wsd_runs_that_differ_in_length_alone_share_a_job():
    alike = [wsd(400), wsd(100), wsd(200)]
    others = [wsd(100, seed=1), wsd(100, lr=0.02), wsd(100, weight_decay=0.1), wsd(100, ModelConfig(1, 2, 32, 257, 16))]
    plan = make_plan([*alike, *others, run(steps=100), run(steps=200)], Options())
    jobs = sorted((job.cells for phase in plan.phases for job in phase.jobs), key=len)
    assert [len(job) for job in jobs] == [1] * 6 + [3]
    assert [c.train.max_steps for c in jobs[-1]] == [100, 200, 400]  # the shortest leaves a trunk for the next


def test_progress_weighs_what_a_run_trains_itself():
    chain = [wsd(100), wsd(200), wsd(400)]
    plan = make_plan([*chain, run(steps=100)], Options())
    weights = execute._weights(plan, {c.model: 2.0 for c in plan.cells}, [])
    tokens = 4 * 16
    assert [weights[c][0] for c in chain] == [2 * n * tokens for n in (100, 120, 240)]
    assert [weights[c][1] for c in chain] == pytest.approx([0, 80 / 200, 160 / 400])
    assert weights[run(steps=100)] == (2 * 100 * tokens, 0.0)
    again = execute._weights(plan, {c.model: 2.0 for c in plan.cells}, chain[:1])  # its trunk is gone
    assert [again[c][0] for c in chain] == [2 * n * tokens for n in (100, 200, 240)]
    assert sum(w for w, _ in execute._weights(plan, None, []).values()) == pytest.approx(plan.flops)


def test_a_grid_on_shared_trunks_costs_what_the_closed_form_says():
    job = Job((wsd(100), wsd(200), wsd(400)))
    steps = [100, 120, 240]  # 100; 200 less the trunk of 80; 400 less the trunk of 160
    assert [tokens for _, tokens in job.own_tokens()] == [n * 4 * 16 for n in steps]
    assert job.flops == training_flops(TINY, sum(steps) * 4 * 16)
    found = cells("laptop")
    lengths = sorted({c.train.max_steps for c in found})
    # All of the longest run, and of each shorter one its decay alone: the trunk is that of the longest.
    in_all = lengths[-1] + sum(round(0.2 * n) for n in lengths[:-1])
    (step_tokens,) = {c.train.batch_size * c.model.seq_len for c in found}
    plan = make_plan(found, Options())
    models = {c.model for c in found}
    assert plan.flops == pytest.approx(sum(training_flops(m, in_all * step_tokens) for m in models), rel=1e-12)
    alone = sum(training_flops(c.model, c.n_tokens) for c in found)
    assert 0.6 < plan.flops / alone < 0.62  # 1.19 of 1.94 longest runs: what sharing saves


def test_small_models_run_side_by_side_and_large_ones_alone(two_cores):
    plan = make_plan([run(seed=s) for s in range(5)] + [run(LARGE, seed=s) for s in range(3)], Options())
    small, large = plan.phases
    assert (len(small.jobs), small.workers, small.threads) == (5, 2, 1)
    assert (len(large.jobs), large.workers, large.threads) == (3, 1, 2)
    (alone,) = make_plan([run()], Options()).phases
    assert (alone.workers, alone.threads) == (1, 2)  # nothing else wants the second core
    (asked,) = make_plan([run(seed=s) for s in range(5)], Options(workers=3)).phases
    assert (asked.workers, asked.threads) == (3, 1)
    (one,) = make_plan([run(LARGE)], Options(workers=8)).phases
    assert (one.workers, one.threads) == (1, 2)
    assert "8 at a time" not in one.why
    (gpu,) = make_plan([run(), run(LARGE)], Options(on_gpu=True)).phases
    assert (gpu.workers, len(gpu.jobs)) == (1, 2)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 64), st.integers(1, 40), st.none() | st.integers(1, 100))
def test_no_more_threads_than_cores_unless_more_workers_are_asked_for(n_cores, jobs, workers):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "cores", lambda: n_cores)
        plan = make_plan([run(seed=s) for s in range(jobs)] + [run(LARGE)], Options(workers=workers))
    for phase in plan.phases:
        assert phase.workers >= 1
        assert phase.threads >= 1
        assert phase.workers * phase.threads <= max(n_cores, workers or 1)
    assert plan.phases[0].workers <= jobs


def test_threads_that_are_asked_for_are_taken(two_cores):
    plan = make_plan([run(), run(LARGE)], Options(threads=3))
    assert [phase.threads for phase in plan.phases] == [3, 3]


def test_memory_is_that_of_the_worst_moment(two_cores):
    plan = make_plan([run(seed=s) for s in range(4)] + [run(LARGE)], Options())
    small = 2 * (IMPORTS_BYTES + training_bytes(TINY, 4))
    large = IMPORTS_BYTES + training_bytes(LARGE, 4)
    assert plan.peak_bytes() == max(small, large)
    half = max(2 * (IMPORTS_BYTES + training_bytes(TINY, 4, 2)), IMPORTS_BYTES + training_bytes(LARGE, 4, 2))
    assert plan.peak_bytes(lambda cell: (cell.train.batch_size, 2)) == half < max(small, large)


@settings(deadline=None, max_examples=12)
@given(st.lists(st.integers(1, 1000), min_size=1, max_size=12), st.integers(1, 5))
def test_expected_time_is_that_of_a_queue(steps, workers):
    jobs = [run(steps=n, seed=i, eval_tokens=1) for i, n in enumerate(steps)]
    plan = make_plan(jobs, Options(workers=workers))
    ends = [0.0] * min(workers, len(jobs))
    for n in sorted(steps, reverse=True):  # the first to be free takes the costliest job left
        heapq.heappush(ends, heapq.heappop(ends) + n * 64 * 1e-3)
    evaluation = len(jobs) * (1 + 2 + math.log2(100)) * 1e-3  # at most: one token each, for every point of a curve
    expected = expected_seconds(plan, {TINY: 1e-3}) - STARTING_SECONDS
    assert max(ends) <= expected + 1e-9 <= max(ends) + evaluation + 2e-9


def test_what_is_done_costs_nothing(two_cores):
    first, second = run(seed=0), run(seed=1, steps=300)
    plan = make_plan([first, second], Options(workers=1))
    seconds = {TINY: 1e-3}
    whole = expected_seconds(plan, seconds) - STARTING_SECONDS
    assert expected_seconds(plan, seconds, [first, second]) == 0
    parts = [expected_seconds(plan, seconds, [done]) - STARTING_SECONDS for done in (first, second)]
    assert sum(parts) == pytest.approx(whole)


def timed_by(law: Callable[[ModelConfig], float], patch: pytest.MonkeyPatch) -> list[ModelConfig]:
    """Let a law stand for the clock; returns the models that will have been timed."""
    from scaling_lib.lm import speed

    measured: list[ModelConfig] = []

    def seconds(config: RunConfig, runtime: object, budget: float) -> float:
        measured.append(config.model)
        return law(config.model)

    patch.setattr(speed, "seconds_per_token", seconds)
    return measured


def test_models_between_those_measured_are_interpolated_in_log_log(monkeypatch):
    measured = timed_by(lambda model: 1e-9 * training_flops(model, 1) ** 0.7, monkeypatch)
    found = calibrate(make_plan(cells("demo", recipes=["v2"]), Options(device="cpu", workers=1)), 1.0)
    assert [m.d_model for m in measured] == [16, 32, 64]  # the smallest, the middle and the largest of five
    assert len(found) == 5
    for model, seconds in found.items():
        assert seconds == pytest.approx(1e-9 * training_flops(model, 1) ** 0.7, rel=1e-6)


def test_a_small_plan_is_not_measured_for_long(monkeypatch):
    budgets = []
    monkeypatch.setattr(cost, "_measure", lambda phase, plan, cells, budget: budgets.append(budget) or np.zeros((1, 2)))
    small, large = cells("demo", recipes=["v2"], max_steps=10), cells("full", recipes=["v2"])
    for plan in (small, large):
        calibrate(make_plan(plan, Options(device="cpu", workers=1)), 10.0)
    assert budgets[0] <= 1.0
    assert sum(budgets[1:]) == pytest.approx(10.0)


def test_a_model_too_large_to_be_timed_is_reckoned_from_the_largest_that_is(monkeypatch):
    """A laptop that asks what `full` would cost must neither wait for 490M parameters nor hold their batch."""
    measured = timed_by(lambda model: 1e-11 * training_flops(model, 1), monkeypatch)
    found = calibrate(make_plan(cells("full", recipes=["v2"]), Options(device="cpu", workers=1)), 10.0)
    largest = max(found, key=lambda m: training_flops(m, 1))
    assert largest not in measured
    assert found[largest] == pytest.approx(1e-11 * training_flops(largest, 1), rel=1e-6)


@pytest.mark.usefixtures("one_thread")
def test_the_machine_is_measured_by_real_steps():
    models = [TINY, ModelConfig(2, 2, 64, 257, 16)]
    found = calibrate(make_plan([run(m) for m in models], Options(device="cpu", workers=1)), 0.2)
    assert set(found) == set(models)
    assert all(0 < seconds < math.inf for seconds in found.values())


def test_a_budget_leaves_out_the_most_expensive_runs_first():
    chosen = cells("laptop")
    plan = make_plan(chosen, Options(device="cpu", compile=False))
    speed = {c.model: 1e-10 * training_flops(c.model, 1) for c in chosen}
    whole = expected_seconds(plan, speed)
    for limits in ({"max_flops": plan.flops / 3}, {"max_seconds": whole / 4}):
        fits, cut = within_budget(plan, speed, **limits)
        costs = [training_flops(c.model, c.n_tokens) for c in cut]
        assert costs == sorted(costs, reverse=True)
        assert max(training_flops(c.model, c.n_tokens) for c in fits.cells) <= costs[-1]
        assert set(fits.cells) | set(cut) == set(chosen)
        assert fits.flops <= limits.get("max_flops", math.inf)
        assert expected_seconds(fits, speed) <= limits.get("max_seconds", math.inf)
        # And not more than that: with the last run cut put back it would be too much.
        more = make_plan([*fits.cells, cut[-1]], plan.options)
        assert more.flops > limits.get("max_flops", math.inf) or (
            expected_seconds(more, speed) > limits.get("max_seconds", math.inf)
        )
    assert within_budget(plan, speed, max_flops=plan.flops, max_seconds=whole) == (plan, [])
    # What is done stays: it takes no time, but its FLOPs count, so that a command repeats itself.
    assert within_budget(plan, speed, chosen[1:], max_seconds=600.0)[1] == []
    assert within_budget(plan, speed, chosen[1:], max_flops=plan.flops / 2)[1] == [chosen[0]]
    fits, cut = within_budget(plan, speed, max_flops=plan.flops / 3)
    assert within_budget(plan, speed, fits.cells[:5], max_flops=plan.flops / 3)[1] == cut


def test_a_budget_that_nothing_fits_is_refused():
    plan = make_plan(cells("demo"), Options(device="cpu"))
    speed = {c.model: 1e-6 for c in plan.cells}
    for limits in ({"max_flops": 1e6}, {"max_seconds": 1.0}):
        with pytest.raises(InputError, match=r"\Anot even the cheapest run [^\n]+\Z"):
            within_budget(plan, speed, **limits)


def test_what_was_expected_and_taken_is_kept_line_by_line(tmp_path):
    plan = make_plan([run(seed=0), run(seed=1), run(LARGE)], Options())
    for seconds in (10.0, 20.0):
        log_timing(tmp_path, plan, [run(seed=0)], runs=2, expected=12.34, seconds=seconds)
    rows = list(csv.DictReader((tmp_path / "timings.csv").open()))
    assert [float(r["seconds"]) for r in rows] == [10, 20]
    assert {float(r["expected_seconds"]) for r in rows} == {12.3}
    assert {(r["runs"], r["largest_model"]) for r in rows} == {("2", str(count_parameters(LARGE).total))}
    flops = training_flops(TINY, 100 * 4 * 16) + training_flops(LARGE, 100 * 4 * 64)
    assert float(rows[0]["flops"]) == pytest.approx(flops, rel=1e-3)


def test_on_a_cluster_the_scheduler_divides_the_jobs():
    plan = make_plan([run(seed=0), run(LARGE)], Options(engine="dask", address="tcp://nowhere:1"))
    assert [(len(p.jobs), p.threads) for p in plan.phases] == [(1, 1), (1, 0)]
    assert all("dask" in p.why for p in plan.phases)


@pytest.mark.usefixtures("one_thread")
def test_a_cut_batch_does_not_pay_for_the_whole_update(monkeypatch):
    """Of a large model few sequences are timed; its update must be shared by all tokens of a real batch.

    By a clock that only the model and the optimizer move: a second for a sequence, 80 for an update.
    """
    import torch

    from scaling_lib.lm import speed
    from scaling_lib.lm.runtime import Runtime

    clock = [0.0]
    rows: set[int] = set()
    loss, update = speed.GPT.loss, torch.optim.AdamW.step

    def slow_loss(self: object, x: torch.Tensor, y: torch.Tensor) -> object:
        rows.add(len(x))
        clock[0] += len(x)
        return loss(self, x, y)

    def slow_update(self: object, *args: object) -> object:
        clock[0] += 80.0
        return update(self, *args)

    monkeypatch.setattr(speed.GPT, "loss", slow_loss)
    monkeypatch.setattr(torch.optim.AdamW, "step", slow_update)
    monkeypatch.setattr(speed.time, "perf_counter", lambda: clock[0])
    config, runtime = run(batch_size=8), Runtime("cpu", "float32", False, 1)
    for rate, timed in ((1e11, 8), (1.0, 1)):
        monkeypatch.setitem(speed.ROUGH_FLOPS_PER_SECOND, "cpu", rate)
        rows.clear()
        assert speed.seconds_per_token(config, runtime, 500.0) == pytest.approx(1 / 16 + 80 / (8 * 16))
        assert rows == {timed}
