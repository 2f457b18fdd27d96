"""The notebooks as tests, from whatever folder and in however many processes pytest is called."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest


def pytest_configure(config: pytest.Config) -> None:
    if getattr(config.option, "nbval_sanitize_with", "absent") is None:  # in pyproject.toml a path would be relative
        config.option.nbval_sanitize_with = str(Path(__file__).parent / "tests" / "nbval_sanitize.cfg")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long comes first, so that of several processes none is busy at the end while others wait."""
    slow = Counter(item.path for item in items for name in ("slow", "browser") if item.get_closest_marker(name))
    items.sort(key=lambda item: (-slow[item.path], item.path.suffix != ".ipynb"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """By files, where nothing else is asked for: the cells of a notebook share its kernel."""
    from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

    config.option.loadscopereorder = False  # it would put the files of many tests first, not those of long ones
    return LoadFileScheduling(config, log) if config.getvalue("dist") == "load" else None
