"""Sliders for a notebook: move something, and see what a law says. Needs ipywidgets; works without torch."""

from scaling_lib._lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "BudgetLab": "budget_lab",
        "BudgetPlanner": "planner",
        "Explorer": "explorer",
        "IsoFlopLab": "isoflop_lab",
        "LawByHand": "by_hand",
        "MACHINES": "planner",
        "JointLaw": "sources",
        "our_source": "sources",
        "published_source": "sources",
    },
)
