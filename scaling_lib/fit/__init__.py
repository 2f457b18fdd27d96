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
        "EnvelopeResult": "envelopes",
        "FitResult": "result",
        "IsoFlopResult": "isoflops",
        "Advice": "design",
        "Difference": "seeds",
        "difference": "seeds",
        "LAWS": "laws",
        "Law": "laws",
        "PublishedLaw": "published",
        "Report": "report",
        "RunTable": "rows",
        "Verdict": "result",
        "backtest": "backtests",
        "compare_with_joint": "report",
        "compute_optimal": "allocate",
        "data_constrained": "allocate",
        "envelope": "envelopes",
        "fit_joint": "estimate",
        "fit_law": "estimate",
        "fit_power_law": "estimate",
        "fit_table": "report",
        "get_law": "laws",
        "isoflop": "isoflops",
        "next_runs": "design",
        "overtraining_cost": "allocate",
        "parse_table": "table",
        "read_table": "table",
        "scoreboard": "scores",
        "table_from_arrays": "table",
    },
    submodules=("backtests", "laws", "published"),
)
