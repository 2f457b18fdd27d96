"""The environment for readers, without torch: its versions, and that their notebooks ask for no more."""

from __future__ import annotations

import ast
import json
import os
import re
import tomllib

from markdown_reader import ROOT


def test_binder_gets_the_pinned_versions_and_no_torch() -> None:
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    lines = (ROOT / "binder" / "environment.yml").read_text(encoding="utf-8").splitlines()
    names = dict(m.groups() for line in lines if (m := re.fullmatch(r"  - ([a-z0-9-]+)=([0-9.]+)", line)))
    assert names.pop("python") == "3.11"
    assert {n.replace("matplotlib-base", "matplotlib"): v for n, v in names.items()}.items() <= pins.items()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {re.split(r"[>=]", r)[0] for r in project["dependencies"]} - {"torch"}
    assert needed <= {n.replace("matplotlib-base", "matplotlib") for n in names}
    assert not any("torch" in line for line in lines if line.startswith("  - "))
    assert os.access(ROOT / "binder" / "postBuild", os.X_OK)


def test_readers_notebooks_import_nothing_that_imports_torch() -> None:
    """At the top or when called: that nothing but scaling_lib.lm imports it is checked in test_packaging.py."""
    paths = sorted((ROOT / "notebooks").glob("0[4567]_*.ipynb"))
    assert len(paths) == 4
    for path in paths:
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            lines = "".join(cell["source"]).splitlines() if cell["cell_type"] == "code" else []
            tree = ast.parse("\n".join(line for line in lines if not line.startswith("%")))
            for node in ast.walk(tree):
                if isinstance(node, (ast.Import, ast.ImportFrom)):
                    what = ast.unparse(node)
                    assert not re.search(r"\btorch|scaling_lib\.lm|import lm|sweep\.(execute|cost)", what), (
                        f"{path}: {what}"
                    )
