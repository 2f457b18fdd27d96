"""Train small GPTs on real text, fit scaling laws with honest uncertainty, and draw what was found.

``import scaling_lib`` is cheap and does not import torch; names below load on first use.
"""

from scaling_lib._lazy import lazy_exports

__version__ = "2.0.0"

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "ModelConfig": "config",
        "TrainConfig": "config",
        "RunConfig": "config",
        "InputError": "errors",
        "Run": "runs",
        "read_run": "runs",
        "read_runs": "runs",
        "shipped": "runs",
        "write_run": "runs",
    },
    ("counting", "fit", "lab", "lm", "runs", "show", "sweep"),
)
