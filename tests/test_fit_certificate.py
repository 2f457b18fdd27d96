"""The certificate of an optimum against SciPy's many starts: a short form of benchmarks/certificate.py."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import certificate as slow
from scaling_lib.fit import fit_power_law, setup
from scaling_lib.fit.setup import certify


@pytest.mark.parametrize("seed", [5, 11, 65, 106])
def test_bent_valleys_that_are_hard_to_descend(seed: int) -> None:
    """Few sizes over a narrow span: E, A and alpha trade off, and a kink lies wherever a residual is zero."""
    outcome = slow.check(seed)
    assert outcome.certified
    assert abs(outcome.excess) < 1e-6


def test_no_certificate_is_false_and_few_are_refused() -> None:
    found = [slow.check(seed) for seed in range(200, 218)]
    assert not any(f.false for f in found)
    assert sum(f.certified for f in found) >= 17


def test_routes_that_disagree_or_did_not_come_to_rest_certify_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    n, d, loss = slow.design(np.random.default_rng(0))
    work = setup.make(slow.LAW, (n, d), loss, np.inf, {})
    theta, cost, found = certify(work, 8)
    assert found["agree"]
    monkeypatch.setattr(setup, "profile_route", lambda *_: (theta, cost, False))
    assert not certify(work, 8)[2]["agree"]
    monkeypatch.setattr(setup, "profile_route", lambda *_: (np.zeros(3), 1.0, True))
    x = np.geomspace(1e6, 1e9, 9)
    fit = fit_power_law(x, 1.7 + 400 / x**0.34 + 0.01 * np.cos(np.arange(9)))
    assert not fit.success
    assert fit.message in fit.verdict(2e9).reasons
