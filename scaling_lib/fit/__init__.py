"""Scaling laws: fits with honest intervals, verdicts, allocation, and back-tests on published models.

Everything here takes plain arrays and works without torch.
"""

from __future__ import annotations

from scaling_lib._lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Allocation": "allocate",
        "BacktestResult": "backtests",
        "EnvelopeResult": "isoflops",
        "FitResult": "result",
        "IsoFlopResult": "isoflops",
        "LAWS": "laws",
        "Law": "laws",
        "Verdict": "result",
        "backtest": "backtests",
        "compare_laws": "compare",
        "compute_optimal": "allocate",
        "envelope": "isoflops",
        "fit_joint": "estimate",
        "fit_law": "estimate",
        "fit_power_law": "estimate",
        "get_law": "laws",
        "isoflop": "isoflops",
        "read_table": "table",
    },
    submodules=("laws", "published"),
)
