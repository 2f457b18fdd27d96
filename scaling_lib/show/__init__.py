"""Figures, tables in words, and exports; takes run records and fits, prints and saves nothing by itself."""

from scaling_lib._lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Ladder": "ladders",
        "find_ladders": "ladders",
        "plot_fit": "panels",
        "plot_overview": "panels",
        "plot_training_curves": "panels",
        "save_main": "export",
        "sweep_report": "report",
    },
    ("plot", "ladders"),
)
