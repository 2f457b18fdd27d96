"""The report of a table: the same numbers as the fit, plain JSON, refusals kept as refusals."""

import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling_lib.errors import InputError
from scaling_lib.fit import published
from scaling_lib.fit.allocate import compute_optimal
from scaling_lib.fit.estimate import fit_joint
from scaling_lib.fit.report import fit_table, parse_target
from scaling_lib.fit.table import parse_table, table_from_arrays

TRUTH = published.laws["chinchilla-epoch"]


def grid(noise=0.004, groups=False):
    """Return 40 runs of a known law on a grid of N and D."""
    n, d = (a.ravel() for a in np.meshgrid(np.geomspace(1e7, 1e9, 8), np.geomspace(2e8, 2e10, 5)))
    loss = TRUTH.predict(n, d) * np.exp(noise * np.random.default_rng(0).standard_normal(40))
    return table_from_arrays(loss, n_params=n, n_tokens=d, groups=np.repeat(np.arange(8), 5) if groups else None)


def strict(report):
    """Return the report after a round trip through strict JSON."""
    return json.loads(json.dumps(report.to_dict(), allow_nan=False))


def test_the_report_says_what_the_fit_says():
    table = grid()
    report = fit_table(table, law="chinchilla", predict=["N=3e9,D=6e10"])
    fit = fit_joint(table.n_params, table.n_tokens, table.loss, law="chinchilla")
    d = strict(report)
    assert d["params"] == pytest.approx(fit.params)
    assert d["objective"] == {"name": "huber", "value": pytest.approx(fit.cost), "delta": 1e-3}
    (p,) = d["predictions"]
    assert p["target"] == {"N": 3e9, "D": 6e10}
    assert p["loss"] == pytest.approx(fit.predict(3e9, 6e10))
    assert p["mean_interval"] == pytest.approx(fit.interval(3e9, 6e10))
    assert p["new_run_interval"] == pytest.approx(fit.interval(3e9, 6e10, kind="new_run"))
    assert p["loss"] == pytest.approx(TRUTH.predict(3e9, 6e10), rel=0.01)
    assert not p["refused"]
    assert f"{p['loss']:.4f} nats per token" in report.to_text()
    low, high = fit.parameter_interval("alpha", level=0.5)
    assert f"50% interval [{low:.4g}, {high:.4g}]" in fit_table(table, law="chinchilla", level=0.5).to_text()


def test_a_budget_alone_means_its_best_split():
    report = fit_table(grid(), predict=["C=1e21"])
    best = compute_optimal(report.fit, 1e21)
    (p,) = strict(report)["predictions"]
    assert p["target"] == {"N": pytest.approx(best.n_params), "D": pytest.approx(best.n_tokens), "C": 1e21}
    assert p["loss"] == pytest.approx(best.loss)


def test_a_target_at_another_length_or_in_an_unknown_variable_is_refused():
    n = np.geomspace(1e6, 1e8, 7)
    lengths = table_from_arrays(1.5 + 30 / n**0.2, n_params=n, n_tokens=np.full(7, 1e9))
    assert strict(fit_table(lengths, predict=["N=1e8,D=1e9"]))["predictions"][0]["loss"] > 1.5
    for table, target in (
        (lengths, "N=1e8,D=3e9"),
        (lengths, "N=1e8,C=6e16"),
        (table_from_arrays(1.5 + 30 / n**0.2, n_params=n), "N=1e8,D=1e9"),
    ):
        (p,) = fit_table(table, predict=[target]).predictions
        assert (p.level, p.refused, p.loss) == ("no law", True, None)
    c = np.geomspace(1e17, 1e21, 7)
    n = np.sqrt(c / 120)
    spent = table_from_arrays(1.5 + 90 / c**0.1, n_params=n, n_tokens=20 * n, flops=3 * c)  # not 6 N D
    both, alone = fit_table(spent, predict=["N=2e10,D=4e11", "C=1e22"]).predictions
    assert (both.level, alone.loss) == ("no law", pytest.approx(1.5 + 90 / (1e22 / 3) ** 0.1, rel=1e-3))


def test_a_refused_prediction_has_no_number_anywhere():
    report = fit_table(grid(), predict=["N=1e25,D=1e28"])
    (p,) = strict(report)["predictions"]
    assert p["refused"]
    assert p["loss"] is p["mean_interval"] is p["new_run_interval"] is None
    assert p["reasons"][0] in report.to_text()
    n = np.geomspace(1e6, 1e8, 6)
    flat = table_from_arrays(9.21 + 1e-3 * np.array([1, -1, 1, -1, 1, -1]), n_params=n)
    d = strict(fit_table(flat, predict=["N=1e9"]))
    assert (d["verdict"]["level"], d["predictions"][0]["loss"]) == ("no trend", None)


def test_the_law_follows_from_the_table_and_the_objective_from_the_law():
    d = strict(fit_table(published.cerebras_gpt()))
    assert (d["law"], d["objective"]["name"], d["objective"]["delta"]) == ("power_c", "log_mse", None)
    d = strict(fit_table(published.pythia(), predict=["N=2e10"]))
    assert (d["law"], d["fit_range"]["N"]) == ("power_n", [18_915_328, 11_327_027_200])
    d = strict(fit_table(grid(groups=True), objective="log_mse", fixed={"E": 1.8}))
    assert (d["law"], d["fixed"], d["bootstrap"]["clusters"]) == ("chinchilla", {"E": 1.8}, 8)


def test_units_and_derivations_are_told():
    text = "N,C,bits_per_byte\n" + "".join(
        f"{n:g},{6 * n * d:g},{TRUTH.predict(n, d) / 3:.5f}\n" for n in (1e7, 1e8, 1e9) for d in (1e9, 1e10, 1e11)
    )
    report = fit_table(parse_table(text), law="chinchilla", predict=[{"N": 1e9, "D": 2e10}])
    d = strict(report)
    assert (d["loss_unit"], d["derived"], d["columns"]["C"]) == ("bits per byte", ["D"], "C")
    assert "loss from 'bits_per_byte', D from C = 6 N D; loss in bits per byte" in report.to_text()


def test_targets_are_read_in_any_dress():
    for text in ("N=175e9,D=300e9", " d = 300B , n = 175B ", {"N": 175e9, "D": 300e9}, {"N": 175e9, "C": 3.15e23}):
        assert parse_target(text).at == {"N": 175e9, "D": pytest.approx(300e9), "C": pytest.approx(3.15e23)}
    assert parse_target("D=2e10,C=1.2e20").at["N"] == pytest.approx(1e9)
    assert parse_target("C=1e21").at == {"C": 1e21}
    assert parse_target("GPT-3").at["D"] == 300e9


@pytest.mark.parametrize(
    ("options", "words"),
    [
        *(
            ({"predict": [target]}, words)
            for target, words in {
                "": "no model", "175e9": "no model", "N=1.000,D=2e10": "thousands", "N=175e9,D=nan": "finite",
                "N=175e9,D=-1": "above zero", "N=175e9,D=": "empty", "N=1,N=2": "twice", "X=1,D=2": "names N, D, C",
                "N=1e9,D=2e10,C=5": "two of the three",
            }.items()
        ),
        ({"predict": [{"N": "1e9"}]}, "give numbers"),
        ({"predict": [{"N": 1e9, "D": np.inf}]}, "finite"),
        ({"predict": [{"U": 1e9}]}, "give numbers"),
        *(({"predict": [odd]}, "write it as") for odd in (5, None, {}, ("N", 1))),
        ({"predict": [{"N": [1e9], "D": 2e10}]}, "give numbers"),
        ({"level": 1.0}, "level"),
        ({"law": "nonsense"}, "unknown law"),
        ({"law": "data_constrained"}, "unique tokens"),
    ],
)  # fmt: skip
def test_bad_targets_and_options_are_one_line(options, words):
    with pytest.raises(InputError, match=words) as caught:
        fit_table(grid(), **{"law": "chinchilla", **options})
    assert "\n" not in str(caught.value)


RUN = st.tuples(
    st.floats(1e3, 1e12), st.floats(1e6, 1e14), st.one_of(st.floats(0.5, 12.0), st.just(9.21), st.floats(1e-6, 1e6))
)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.lists(RUN, min_size=1, max_size=12),
    st.sampled_from(["auto", "chinchilla", "power_n", "power_d", "power_c", "kaplan", "over_training"]),
    st.sampled_from([None, "huber", "log_mse"]),
    st.sampled_from([0, 20]),
    st.sampled_from([None, 1, 3]),
    st.booleans(),
)
def test_any_table_gives_a_report_in_strict_json_or_one_line(runs, law, objective, bootstrap, groups, one_ratio):
    n, d, loss = (np.array(v) for v in zip(*runs, strict=True))
    codes = None if groups is None else np.arange(len(n)) % groups
    table = table_from_arrays(loss, n_params=n, n_tokens=20 * n if one_ratio else d, groups=codes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            report = fit_table(table, law=law, objective=objective, bootstrap=bootstrap, predict=["N=1e11,D=2e12"])
            text, told = report.to_text(), strict(report)
        except InputError as error:
            text, told = str(error), None
    if told is None:
        assert text.isprintable()
        return
    assert "nan" not in text.replace("nats", "").lower().split()
    for p in told["predictions"]:
        assert (p["loss"] is None) == p["refused"]
