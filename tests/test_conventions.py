"""Counting conventions: N against torch's own count, fits against SciPy's, held-out runs against known truth."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy import optimize

from scaling_lib import shipped
from scaling_lib.config import ModelConfig, RunConfig, TrainConfig
from scaling_lib.errors import InputError
from scaling_lib.fit import backtest, backtests, fit_power_law
from scaling_lib.runs import Point, Run
from scaling_lib.show.conventions import (
    CONVENTIONS,
    plot_held_out_runs,
    plot_laws,
    plot_residuals,
    tables_by_convention,
)
from scaling_lib.show.plot import look

mpl.use("agg")
SHAPES = ((2, 2, 32), (2, 3, 48), (2, 4, 64), (3, 5, 80), (4, 6, 96), (5, 8, 128), (6, 7, 168))


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def run(shape: tuple[int, int, int], loss: float, *, steps: int = 100, seed: int = 0, status: str = "finished") -> Run:
    model = ModelConfig(*shape, 1024, 128)
    return Run(
        run_id=f"{model.name}-{steps}-{seed}",
        status=status,
        config=RunConfig(model, TrainConfig("v2", steps, 16, 1e-3, "cosine", seed=seed), "python-stdlib"),
        corpus={"fingerprint": "f" * 64},
        history=(Point(0, 0, 1e-3, 6.9),),
        val_loss=loss,
        val_loss_se=0.1,
        bits_per_byte=None,
        epochs=0.1,
        environment={},
        seconds=1.0,
        tokens_per_second=1000,
    )


def exact(count: str, noise: float = 0.0) -> list[Run]:
    """Runs whose losses are 2 + 40 / N^0.3 with N counted as ``count``."""
    rng = np.random.default_rng(0)
    blank = [run(shape, 1.0) for shape in SHAPES]
    losses = [(2 + 40 / r.counts[count] ** 0.3) * np.exp(noise * rng.standard_normal()) for r in blank]
    return [run(shape, loss) for shape, loss in zip(SHAPES, losses, strict=True)]


def test_counts_are_those_of_the_parameters_that_torch_holds():
    from scaling_lib.lm import GPT

    tables = tables_by_convention([run(shape, 3.0) for shape in SHAPES])
    for i, shape in enumerate(SHAPES):
        model = GPT(ModelConfig(*shape, 1024, 128))
        tokens = model.token_embedding.weight.numel()
        total = sum(p.numel() for p in model.parameters())
        assert tables["total"].n_params[i] == total
        assert tables["with head"].n_params[i] == total  # rotary positions have no parameters
        assert tables["non-embedding"].n_params[i] == total - tokens


def test_tables_are_in_the_order_of_size_and_share_their_losses():
    runs = exact("n_params_non_embedding")
    tables = tables_by_convention(runs[::-1])
    assert list(tables) == list(CONVENTIONS)
    for t in tables.values():
        assert t.loss == pytest.approx([r.val_loss for r in runs])
        assert (np.diff(t.n_params) > 0).all()
        assert t.labels.tolist() == [r.config.model.name for r in runs]


@pytest.mark.parametrize("count", list(CONVENTIONS))
def test_the_count_that_made_the_losses_predicts_the_largest_and_another_does_not(count):
    tables = tables_by_convention(exact(CONVENTIONS[count]))
    errors = {name: abs(backtest(t, hide=2, law="power_n").error[-1]) for name, t in tables.items()}
    other = "total" if count == "non-embedding" else "non-embedding"
    assert errors[count] < 1e-6
    assert errors[other] > 1e-3


@pytest.mark.parametrize(
    ("runs", "words"),
    [
        ([run(SHAPES[0], 3.0), run(SHAPES[1], 2.9, steps=200)], "2; select one"),
        ([run(SHAPES[0], 3.0), run(SHAPES[1], 2.9, status="diverged")], "2x48-100-0 did not finish"),
    ],
)
def test_what_is_no_ladder_is_refused_in_one_line(runs, words):
    with pytest.raises(InputError, match=words) as error:
        tables_by_convention(runs)
    assert "\n" not in str(error.value)


# ---- what notebook 2 says of the committed runs ------------------------------------


def scipy_fit(n, loss):
    """E, A, alpha by SciPy's least squares on log loss, from several starts."""

    def left(p):
        return np.log(p[0] + np.exp(p[1] - p[2] * np.log(n))) - np.log(loss)

    starts = [(e, np.log(loss[0] - e) + a * np.log(n[0]), a) for e in (0.5, 1.5, 2.0) for a in (0.2, 0.4, 0.8)]
    found = [optimize.least_squares(left, s, xtol=1e-14, ftol=1e-14, gtol=1e-14, x_scale="jac") for s in starts]
    return min(found, key=lambda f: f.cost).x


@pytest.mark.parametrize(("name", "alpha"), [("non-embedding", 0.324), ("with head", 0.482), ("total", 0.495)])
def test_the_exponent_of_the_laptop_ladder_by_each_count(name, alpha):
    longest = [r for r in shipped("laptop") if r.config.train.max_steps == 7812]
    table = tables_by_convention(longest)[name]
    fit = fit_power_law(table.n_params, table.loss)
    assert fit.params["alpha"] == pytest.approx(alpha, abs=5e-4)
    assert fit.params["alpha"] == pytest.approx(scipy_fit(table.n_params, table.loss)[2], rel=1e-4)


# ---- figures ----------------------------------------------------------------------


def points(axes):
    return [line for line in axes.lines if line.get_linestyle() == "None"]


def test_laws_are_drawn_with_every_run_solid_inside_and_dashed_beyond():
    tables = tables_by_convention(exact("n_params", noise=0.003))
    fits = {name: fit_power_law(t.n_params, t.loss) for name, t in tables.items()}
    axes = plot_laws(fits, extrapolate=10)
    for line, t in zip(points(axes), tables.values(), strict=True):
        assert line.get_xdata() == pytest.approx(t.n_params)
        assert line.get_ydata() == pytest.approx(t.loss)
    for fit, style, factor in zip([fits["total"]] * 2, ("-", "--"), (1, 10), strict=True):
        drawn = [x for x in axes.lines if x.get_linestyle() == style and x.get_color() == look(2)[0]]
        assert len(drawn) == 1
        assert drawn[0].get_xdata()[-1] == pytest.approx(factor * fit.fit_range["N"][1])
        assert drawn[0].get_ydata() == pytest.approx(fit.predict(drawn[0].get_xdata()))
    low, high = fits["total"].parameter_interval("alpha")
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels[2].startswith(f"total: α = {fits['total'].params['alpha']:.2f} [{low:.2f}, {high:.2f}]")
    assert axes.get_xlabel() == "parameters N"
    assert "nats" in axes.get_ylabel()


def test_residuals_are_percent_of_the_prediction_beside_the_noise():
    table = tables_by_convention(exact("n_params", noise=0.01))["total"]
    fit = fit_power_law(table.n_params, table.loss, law="power")
    axes = plot_residuals({"a": fit}, noise=0.004)
    assert points(axes)[0].get_ydata() == pytest.approx(100 * (table.loss / fit.predict(table.n_params) - 1))
    box = axes.patches[0].get_bbox() if hasattr(axes.patches[0], "get_bbox") else axes.patches[0].get_extents()
    assert (box.y0, box.y1) == pytest.approx((-0.658, 0.658), abs=1e-3)  # 90% of a normal distribution
    assert "%" in axes.get_ylabel()
    assert len(plot_residuals({"a": fit}).patches) == 0


def test_hidden_runs_are_drawn_hollow_and_only_when_revealed():
    table = tables_by_convention(exact("n_params", noise=0.003))["total"]
    result = backtest(table, hide=2, law="power_n")
    before, after = plot_held_out_runs(table, result, reveal=False), plot_held_out_runs(table, result)
    assert [len(line.get_xdata()) for line in points(before)] == [5]
    known, hidden = points(after)
    assert hidden.get_xdata() == pytest.approx(np.sort(table.n_params)[-2:])
    assert hidden.get_ydata() == pytest.approx(result.observed)
    assert (hidden.get_markerfacecolor(), known.get_markerfacecolor()) == ("white", look(0)[0])


def test_the_band_of_held_out_runs_is_that_of_a_new_run():
    from scaling_lib.fit import published

    table, result = published.pythia("total"), backtests.pythia()["total"]
    axes = plot_held_out_runs(table, result)
    outline = axes.collections[0].get_paths()[0].vertices
    at = outline[np.isclose(outline[:, 0], table.n_params.max() * 1.15, rtol=1e-6)]
    low, high = result.fit.interval(table.n_params.max() * 1.15, kind="new_run")
    assert (at[:, 1].min(), at[:, 1].max()) == pytest.approx((low, high), rel=2e-4)
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["Pythia, total N: fitted", "held out"]
