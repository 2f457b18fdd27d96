"""Scaling laws: fits with honest intervals, verdicts, allocation, and back-tests on published models.

Everything here takes plain arrays and works without torch.
"""

from __future__ import annotations

from scaling_lib._lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Allocation": "allocate",
        "BacktestResult": "backtest",
        "EnvelopeResult": "isoflop",
        "FitResult": "result",
        "IsoFlopResult": "isoflop",
        "LAWS": "laws",
        "Law": "laws",
        "Verdict": "result",
        "backtest": "backtest",
        "compare_laws": "compare",
        "compute_optimal": "allocate",
        "envelope": "isoflop",
        "fit_joint": "estimate",
        "fit_law": "estimate",
        "fit_power_law": "estimate",
        "get_law": "laws",
        "isoflop": "isoflop",
        "read_table": "table",
    },
    submodules=("laws", "published"),
)
