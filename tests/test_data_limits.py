"""Ladders in D: gaps and correlations against SciPy, the worth of epochs against the authors' own losses."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy import stats

from scaling_lib import shipped
from scaling_lib.config import ModelConfig, RunConfig, TrainConfig
from scaling_lib.errors import InputError
from scaling_lib.fit import published
from scaling_lib.lm.schedule import learning_rate
from scaling_lib.runs import Point, Run
from scaling_lib.show import data_limits as dl

mpl.use("agg")
MODEL = ModelConfig(2, 2, 32, 512, 64)
LARGER = ModelConfig(2, 4, 64, 512, 64)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def run(
    steps: int,
    loss: float,
    *,
    curve: dict[int, float] | None = None,
    seed: int = 0,
    model: ModelConfig = MODEL,
    recipe: str = "v2",
) -> Run:
    """A record whose validation curve is ``curve`` (step -> loss) and ends at ``loss``."""
    schedule = "wsd" if recipe == "wsd" else "cosine"
    train = TrainConfig(recipe, steps, 16, 1e-3, schedule, 10, steps // 5 if recipe == "wsd" else 0, seed=seed)
    rows = [(0, 6.2), *(curve or {}).items(), (steps, loss)]
    return Run(
        run_id=f"{recipe}-{model.name}-{steps}-{seed}",
        status="finished",
        config=RunConfig(model, train, "python-stdlib"),
        corpus={"fingerprint": "f" * 64},
        history=tuple(Point(s, s * 1024, 1e-3, v, v) for s, v in rows),
        val_loss=loss,
        val_loss_se=0.1,
        bits_per_byte=None,
        epochs=0.1,
        environment={},
        seconds=1.0,
        tokens_per_second=1000,
    )


# ---- points on the way -----------------------------------------------------------------


def test_a_curve_is_read_along_a_straight_line_in_the_logarithm_of_the_step():
    r = run(400, 3.0, curve={25: 5.0, 100: 4.0})
    assert dl.curve_value(r, 25) == 5.0
    assert dl.curve_value(r, 50) == pytest.approx(4.5)  # half way from 25 to 100 in the logarithm
    assert dl.curve_value(r, 200) == pytest.approx(3.5)
    assert dl.curve_value(r, 400) == 3.0
    assert dl.measured_curve(r, least_step=100)[0].tolist() == [100, 400]


@pytest.mark.parametrize("step", [24, 401])
def test_a_curve_is_not_continued(step):
    with pytest.raises(InputError, match="measured from 25 to 400") as error:
        dl.curve_value(run(400, 3.0, curve={25: 5.0}), step)
    assert "\n" not in str(error.value)


def test_gaps_are_paired_by_seed_and_their_interval_is_that_of_a_t_test():
    rng = np.random.default_rng(2)
    ends = rng.normal(4.0, 0.3, 4)
    way = ends + 0.05 + rng.normal(0, 0.01, 4)
    runs = [run(100, end, curve={50: 5.0}, seed=s) for s, end in enumerate(ends)]
    runs += [run(400, 3.0, curve={50: 5.0, 100: x}, seed=s) for s, x in enumerate(way)]
    runs += [run(400, 3.0, curve={50: 5.0, 100: 9.0}, seed=77)]  # has no partner
    (gap,) = dl.schedule_gaps(runs[::-1], "v2")
    oracle = stats.ttest_rel(way, ends).confidence_interval(0.9)
    assert (gap.step, gap.planned) == (100, 400)
    assert gap.gaps == pytest.approx(way - ends)
    assert gap.interval() == pytest.approx((oracle.low, oracle.high))


def test_gaps_compare_curves_with_curves_and_never_with_the_final_loss_on_more_text():
    runs = [run(100, 4.0, curve={50: 5.0}), run(400, 3.0, curve={50: 5.0, 100: 4.2})]
    object.__setattr__(runs[0], "val_loss", 3.9)
    assert dl.schedule_gaps(runs, "v2")[0].mean == pytest.approx(0.2)


def test_every_pair_of_lengths_of_every_model_is_compared_and_one_seed_has_no_interval():
    runs = [run(n, 4.0, curve={10: 5.0}, model=m) for n in (50, 100, 200) for m in (LARGER, MODEL)]
    gaps = dl.schedule_gaps(runs, "v2")
    assert [(g.model, g.step, g.planned) for g in gaps] == [
        (m, a, b) for m in (MODEL, LARGER) for a, b in ((50, 100), (50, 200), (100, 200))
    ]
    assert gaps[0].interval() == (-np.inf, np.inf)


@pytest.mark.parametrize(
    ("runs", "recipe", "words"),
    [
        ([run(100, 4.0)], "wsd", "no finished runs of recipe 'wsd'"),
        ([run(100, 4.0), run(200, 4.0, seed=1)], "v2", "two lengths with a common seed"),
    ],
)
def test_runs_that_cannot_be_compared_are_named(runs, recipe, words):
    with pytest.raises(InputError, match=words) as error:
        dl.schedule_gaps(runs, recipe)
    assert "\n" not in str(error.value)


def test_the_committed_trunks_lie_above_their_ends_at_every_size_and_length():
    gaps = [g for g in dl.schedule_gaps(shipped("laptop"), "wsd") if g.planned == 7812]
    assert len(gaps) == 8 * 4
    assert min(g.mean for g in gaps) > 0.03
    assert max(g.mean for g in gaps) < 0.19


# ---- seeds -------------------------------------------------------------------------------


def two_lengths(first, second, model=MODEL, recipe="v2"):
    runs = [run(100, x, seed=s, model=model, recipe=recipe) for s, x in enumerate(first)]
    return runs + [run(200, x, seed=s, model=model, recipe=recipe) for s, x in enumerate(second)]


def test_the_correlation_and_its_interval_are_those_of_pearson():
    rng = np.random.default_rng(3)
    first = rng.normal(4.0, 0.02, 7)
    second = 3.5 + 0.5 * (first - 4.0) + rng.normal(0, 0.01, 7)
    runs = [*two_lengths(first, second), *(run(150, 9.0, seed=s) for s in range(7))]  # a length between does not count
    found = dl.seed_correlation(runs[::-1], "v2")
    oracle = stats.pearsonr(first, second)
    interval = oracle.confidence_interval(0.9)
    assert found.r == pytest.approx(oracle.statistic)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_models_of_different_loss_do_not_make_a_correlation():
    rng = np.random.default_rng(4)
    parts = [rng.normal(level, 0.001 * level, (2, 200)) for level in (4.0, 3.0)]  # each without any correlation
    runs = [r for part, m in zip(parts, (MODEL, LARGER), strict=True) for r in two_lengths(*part, model=m)]
    found = dl.seed_correlation(runs, "v2")
    assert abs(found.r) < 0.15
    assert found.low < 0 < found.high


def test_too_few_seeds_show_no_correlation():
    with pytest.raises(InputError, match="has 2 spare seeds"):
        dl.seed_correlation(two_lengths([4.0, 4.1, 4.2], [3.0, 3.1, 3.2]), "v2")


# ---- doublings and epochs -----------------------------------------------------------------


def test_under_a_law_each_doubling_takes_off_two_to_the_beta_times_less():
    tokens = 1024 * np.array([100, 200, 400, 800])
    law = 1.5 + 300 / tokens**0.4
    runs = [
        run(n, x + s, seed=k) for n, x in zip((100, 200, 400, 800), law, strict=True) for k, s in ((0, 0.1), (1, -0.1))
    ]
    ((model, (at, falls)),) = dl.doublings(runs[::-1], "v2").items()
    assert model == MODEL
    assert at.tolist() == tokens.tolist()
    assert falls == pytest.approx(law[:-1] - law[1:])
    assert falls[:-1] / falls[1:] == pytest.approx(2**0.4)


def test_the_worth_of_epochs_gives_the_authors_own_losses():
    law = published.laws["muennighoff"].params
    unique = 25e9
    # With alpha = beta the size that U tokens can feed is U G^2, G = (A / B)^(1 / (2 alpha)).
    fed = unique * (law["A"] / law["B"]) ** (1 / law["alpha"])
    for n, d, loss in ((6.34e9, 242e9, 2.2256440889984477), (8.67e9, 178e9, 2.2269634075087867)):
        size = fed * dl.worth_of_epochs(n / fed, law["R_N"])
        data = unique * dl.worth_of_epochs(d / unique, law["R_D"])
        ours = law["E"] + law["A"] / size ** law["alpha"] + law["B"] / data ** law["beta"]
        assert ours == pytest.approx(loss, rel=1e-6)


def test_epochs_are_worth_themselves_up_to_one_and_less_and_less_beyond():
    worth = dl.worth_of_epochs([0.25, 1.0, 2.0, 3.0, 1e9], 15.0)
    assert worth[:2].tolist() == [0.25, 1.0]
    assert worth[2] - 1 < 1
    assert worth[3] - worth[2] == pytest.approx((worth[2] - 1) * np.exp(-1 / 15))
    assert worth[4] == pytest.approx(16.0)


# ---- figures -------------------------------------------------------------------------------


def test_doublings_are_drawn_at_their_ends_on_a_logarithmic_axis():
    runs = [run(n, 6 / n**0.1, model=m) for n in (100, 200, 400) for m in (MODEL, LARGER)]
    axes = dl.plot_doublings(dl.doublings(runs, "v2"))
    assert [line.get_label() for line in axes.lines] == ["2x32", "2x64"]
    assert axes.lines[0].get_xdata().tolist() == [1024 * 200, 1024 * 400]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert "nats" in axes.get_ylabel()


def test_curves_end_in_a_star_and_are_means_over_the_seeds():
    runs = [run(n, 4.0 - n / 1e3 + s / 10, curve={50: 5.0 + s}, seed=s) for n in (100, 400) for s in (0, 1)]
    axes = dl.plot_curves_and_ends(runs, "v2", MODEL)
    first, second, ends = axes.lines
    assert first.get_xdata().tolist() == [50 * 1024, 100 * 1024]
    assert first.get_ydata() == pytest.approx([5.5, 3.95])
    assert ends.get_xdata().tolist() == [100 * 1024, 400 * 1024]
    assert ends.get_ydata() == pytest.approx([3.95, 3.65])
    assert second.get_label() == "made for 410k tokens"


def test_the_trunk_is_drawn_as_the_schedule_has_it():
    runs = [run(n, 4.0, recipe="wsd") for n in (100, 200, 400)]
    axes = dl.plot_trunk(runs, MODEL)
    assert [len(line.get_xdata()) for line in axes.lines] == [4, 2, 2]  # one trunk, and a branch each
    for line, r in zip(axes.lines, sorted(runs, key=lambda r: -r.config.n_tokens), strict=True):
        start, end = line.get_xdata()[-2:] * 1e6 / 1024
        assert (start, end) == pytest.approx((r.config.train.decay_start, r.config.train.max_steps))
        middle = round((start + end) / 2)
        drawn = np.interp(middle, [start, end], line.get_ydata()[-2:])
        assert drawn == pytest.approx(learning_rate(middle, r.config.train))
    assert [text.get_text() for text in axes.texts] == ["410k", "200k", "100k"]


def test_correlations_and_worth_are_drawn_with_units():
    found = dl.seed_correlation(two_lengths([4.0, 4.1, 4.2, 3.9], [3.0, 3.1, 3.25, 2.95]), "v2")
    axes = dl.plot_seed_correlation([found])
    assert axes.lines[-1].get_xdata() == pytest.approx(100 * found.first)
    assert axes.get_xlabel().endswith("(%)")
    worth = dl.plot_worth(published.laws["muennighoff"], most=64)
    curve = worth.lines[1]
    assert curve.get_ydata()[-1] == pytest.approx(16.13, abs=0.01)
    assert "epochs" in worth.get_xlabel()
