"""Published numbers: sources and tags, known values, and the file that is fetched."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from scaling_lib.errors import InputError
from scaling_lib.fit import fit_joint, published

DATA = os.environ.get("SCALING_LIB_DATA")
needs_epoch = pytest.mark.skipif(
    not DATA or not (Path(DATA or ".") / "chinchilla_epoch.csv").is_file(),
    reason="no chinchilla_epoch.csv under SCALING_LIB_DATA: the check against Epoch's own data is lost",
)


def test_every_row_has_its_source_and_a_known_tag_and_gpt4_is_a_rumour():
    for path in (Path(published.__file__).parent / "tables").glob("*.csv"):
        for row in published.read(path.stem):
            assert None not in row, row  # a comma too many
            assert None not in row.values(), row  # a comma too few
            assert row["source"].strip()
            assert row["tag"] in {"P", "T", "S", "C", "rumour"}, row
            assert any("GPT-4" in v for v in row.values()) == (row["tag"] == "rumour" and "rumour" in row["name"])
    with pytest.raises(InputError, match=r"no published table 'x': choose one of cerebras_gpt"):
        published.read("x")


# (law, point, loss, digits): the values that the sources print or that FACTS computed from them.
KNOWN = [
    ("chinchilla-epoch", (175e9, 300e9), 2.01, 2),
    ("chinchilla-epoch", (1.8e12, 13e12), 1.88, 2),
    ("chinchilla-epoch", (405e9, 15.6e12), 1.89, 2),
    ("gpt3-compute", (3640 * published.PF_DAY,), 1.734, 3),
    ("kaplan-n", (8.8e13,), 1.0, 9),
    ("kaplan-d", (5.4e13,), 1.0, 9),
    ("kaplan-c", (3.1e8 * 8.64e19,), 1.0, 9),
    ("cerebras-gpt", (5.984e22,), 1.5066, 9),
    ("chinchilla-printed", (70e9, 1.4e12), 1.69 + 406.4 / 70e9**0.34 + 410.7 / 1.4e12**0.28, 12),
    ("kaplan-joint", (6.4e13, 1.8e13), 2**0.103, 12),
    ("muennighoff", (6.34e9, 242e9, 25e9), 2.2256440889984477, 9),
    ("muennighoff", (8.67e9, 178e9, 25e9), 2.2269634075087867, 9),
]


@pytest.mark.parametrize(("name", "point", "loss", "digits"), KNOWN)
def test_known_values(name, point, loss, digits):
    assert round(published.laws[name].predict(*point) - loss, digits) == 0


def test_the_paper_s_source_rounds_to_what_the_paper_prints():
    exact, printed = published.laws["chinchilla"].params, published.laws["chinchilla-printed"].params
    for name in exact:
        digits = {"A": 1, "B": 1}.get(name, 2)
        assert round(exact[name], digits) == pytest.approx(printed[name], abs=1e-9)


def test_what_the_optima_say():
    o = published.optima
    assert o["llama3-printed-D"].at(3.8e25) == pytest.approx(10.5e12, rel=0.01)
    assert o["llama3-figure-D"].at(3.8e25) == pytest.approx(16.3e12, rel=0.01)
    assert o["kaplan-N"].at(published.PF_DAY) == pytest.approx(1.3e9)
    assert o["deepseek-M"].at(1e20) * o["deepseek-D"].at(1e20) == pytest.approx(1e20, rel=2e-3)
    assert [round(o[f"chinchilla-approach-{i}-N"].exponent, 2) for i in (1, 2, 3)] == [0.50, 0.49, 0.46]
    porian = [p.exponent for n, p in o.items() if n.startswith("porian-refinedweb")]
    assert porian == [0.835, 0.706, 0.602, 0.571, 0.497]
    with pytest.raises(InputError, match="exponent only"):
        o["chinchilla-approach-1-N"].at(1e20)
    with pytest.raises(InputError, match="above zero"):
        o["kaplan-N"].at([-1.0])


def test_models_hold_together():
    models = {m.name: m for m in published.models()}
    assert models["GPT-3 175B"].n_params == 174.6e9
    assert len([m for m in models.values() if m.family == "GPT-3"]) == 8
    for name in ("GPT-3 175B", "GPT-3 13B", "Chinchilla", "Llama 3 405B"):
        m = models[name]
        assert m.flops == pytest.approx(6 * m.n_params * m.n_tokens, rel=0.15)
    assert models["LLaMA 6.7B"].flops is None


def test_runs_of_cerebras_and_pythia_and_how_parameters_are_counted():
    t = published.cerebras_gpt()
    assert t.n_tokens / t.n_params == pytest.approx(np.full(7, 20), rel=0.02)
    assert (t.loss[-1], published.cerebras_gpt("model_card").loss[-1]) == (1.572, 1.575)
    ne, total = published.pythia(), published.pythia("total")
    assert np.all(ne.n_params < total.n_params)
    assert ne.loss.tolist() == total.loss.tolist()
    for call in (published.cerebras_gpt, published.pythia):
        with pytest.raises(InputError, match="choose"):
            call("x")


def test_a_band_only_where_a_covariance_is_published():
    law = published.laws["chinchilla-epoch"]
    low, high = law.interval(175e9, 300e9)
    assert low < law.predict(175e9, 300e9) < high
    with pytest.raises(InputError, match="without a covariance"):
        published.laws["chinchilla"].interval(1e9, 2e10)
    with pytest.raises(InputError, match="level"):
        law.interval(1e9, 2e10, level=2)
    rng = np.random.default_rng(0)
    draws = law.law.to_natural(rng.multivariate_normal(law.law.to_working(law.values), law.cov, 20_000))
    ends = np.array(law.interval(np.array([1e10, 1e11]), np.array([2e11, 2e12]))).T
    for n, d, (low, high) in zip((1e10, 1e11), (2e11, 2e12), ends, strict=True):
        drawn = np.quantile(law.law.value(draws, n, d), [0.05, 0.95])
        assert drawn == pytest.approx([low, high], abs=0.15 * (high - low))


@needs_epoch
def test_epoch_s_table_is_read_and_cut_as_in_the_study():
    t = published.epoch_runs()
    assert len(t) == 240
    assert len(published.epoch_runs(all_runs=True)) == 245
    assert t.derived == ("D",)
    law = published.laws["chinchilla-epoch"]
    r = np.log(law.law.value(law.values, t.n_params, t.n_tokens) / t.loss)
    huber = np.where(np.abs(r) <= 1e-3, r**2 / 2, 1e-3 * (np.abs(r) - 5e-4)).sum()
    assert huber <= 1.018275e-3
    for row in published.read("epoch_intervals"):
        assert float(row["low"]) < law.params[row["parameter"]] < float(row["high"])


@needs_epoch
@pytest.mark.slow
def test_the_shipped_covariance_is_that_of_a_case_bootstrap():
    """1,000 new draws: standard errors within 10% of the shipped ones, correlations within 0.1."""
    t, law = published.epoch_runs(), published.laws["chinchilla-epoch"]
    draws = fit_joint(t.n_params, t.n_tokens, t.loss, bootstrap=1000, bootstrap_kind="case", seed=7).draws
    new = np.cov(law.law.to_working(draws).T)
    assert np.sqrt(np.diag(new) / np.diag(law.cov)) == pytest.approx(np.ones(5), abs=0.1)
    unit = [np.sqrt(np.outer(np.diag(c), np.diag(c))) for c in (new, law.cov)]
    assert new / unit[0] == pytest.approx(law.cov / unit[1], abs=0.1)


def test_the_shipped_covariance_is_one():
    cov = published.laws["chinchilla-epoch"].cov
    assert np.allclose(cov, cov.T)
    assert np.linalg.eigvalsh(cov).min() > 0
    # Epoch's printed bootstrap: E .026, alpha .015, beta .021.
    assert np.sqrt(np.diag(cov))[[0, 3, 4]] == pytest.approx([0.026, 0.015, 0.021], rel=0.2)


def test_another_file_is_not_taken_for_epoch_s(tmp_path, monkeypatch):
    (tmp_path / "chinchilla_epoch.csv").write_text("N,D,loss\n1,2,3\n")
    monkeypatch.setenv("SCALING_LIB_DATA", str(tmp_path))
    for path, words in (
        (tmp_path / "chinchilla_epoch.csv", "another file"), (None, "another file"), (tmp_path / "x", "cannot be read")
    ):  # fmt: skip
        with pytest.raises(InputError, match=words):
            published.epoch_runs(path)


def test_epoch_s_table_is_fetched_once_and_checked(tmp_path, monkeypatch):
    """pooch is played: once as a machine without a network, once as one that has fetched the file."""
    import pooch

    monkeypatch.delenv("SCALING_LIB_DATA", raising=False)
    monkeypatch.setenv("SCALING_LIB_CACHE", str(tmp_path / "cache"))

    def retrieve(url, known_hash, fname, path):
        assert (url, known_hash) == (published.EPOCH_URL, f"sha256:{published.EPOCH_SHA256}")
        raise OSError("no network\nhere")

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    with pytest.raises(InputError, match="SCALING_LIB_DATA") as caught:
        published.epoch_runs()
    assert "\n" not in str(caught.value)
    assert published.EPOCH_URL in str(caught.value)
    monkeypatch.setenv("SCALING_LIB_CACHE", "~no-such-user/cache")
    with pytest.raises(InputError, match="that user"):
        published.epoch_runs()
    monkeypatch.delenv("SCALING_LIB_CACHE")
    if DATA and (Path(DATA) / "chinchilla_epoch.csv").is_file():
        real = (Path(DATA) / "chinchilla_epoch.csv").read_bytes()
        assert hashlib.sha256(real).hexdigest() == published.EPOCH_SHA256
        (tmp_path / "x.csv").write_bytes(real)
        monkeypatch.setattr(pooch, "retrieve", lambda *a, **k: str(tmp_path / "x.csv"))
        assert len(published.epoch_runs()) == 240
