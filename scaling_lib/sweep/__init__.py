"""Many runs: recipes and modes, the plan with its cost, execution on an engine, locks."""

from scaling_lib._lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "MODES": "recipes",
        "RECIPES": "recipes",
        "Mode": "recipes",
        "cells": "recipes",
        "make_train_config": "recipes",
        "make_plan": "plan",
        "run_sweep": "execute",
    },
)
