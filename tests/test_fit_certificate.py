"""The certificate of an optimum against SciPy's many starts: a one-minute form of benchmarks/certificate.py."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from scaling_lib.fit.certificate import certify


@pytest.fixture(scope="module")
def slow():
    path = Path(__file__).parents[1] / "benchmarks" / "certificate.py"
    spec = importlib.util.spec_from_file_location("certificate_benchmark", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("seed", [5, 11, 65, 106])
def test_bent_valleys_that_once_held_the_solver_up(slow, seed):
    """Of these designs 106 was once certified 2% above its optimum; of the others the optimum was missed."""
    outcome = slow.check(seed)
    assert outcome.certified
    assert abs(outcome.excess) < 1e-6


def test_no_certificate_is_false_and_few_are_refused(slow):
    found = [slow.check(seed) for seed in range(200, 224)]
    assert not any(f.false for f in found)
    assert sum(f.certified for f in found) >= 23


def test_the_check_itself_would_see_a_false_certificate(slow, monkeypatch):
    def careless(work, starts):
        theta, cost, certificate = certify(work, starts)
        return theta, cost * (1 + 1e-4), certificate

    monkeypatch.setattr(slow, "certify", careless)
    monkeypatch.setattr(slow, "reference", lambda work, rng, theta: certify(work, 48)[1])
    assert slow.check(200).false


def test_routes_that_did_not_come_to_rest_certify_nothing(slow, monkeypatch):
    from scaling_lib.fit import certificate, setup

    n, d, loss = slow.design(np.random.default_rng(0))
    work = setup.make(slow.LAW, (n, d), loss, np.inf, {})
    assert certify(work, 8)[2]["agree"]
    restless = certify(work, 8)[:2]
    monkeypatch.setattr(certificate, "profile_route", lambda *_: (*restless, False))
    assert not certify(work, 8)[2]["agree"]
