"""The environment for readers, without torch: its versions, and that their notebooks run in it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib

import pytest
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


WITHOUT_TORCH = """
import sys
class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ImportError("torch is imported")
sys.meta_path.insert(0, NoTorch())
import json
plain = {"__name__": "__main__"}
for cell in json.load(open(sys.argv[1]))["cells"]:
    if cell["cell_type"] == "code":
        lines = "".join(cell["source"]).splitlines()
        text = "\\n".join(x for x in lines if not x.startswith("%"))
        for much, little in (("SWEEPS = 300", "SWEEPS = 10"), ("(curves, 100,", "(curves, 10,")):
            text = text.replace(much, little)  # what they find is checked elsewhere
        exec(text, plain)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [2, 3, 5, 6])
def test_a_readers_notebook_runs_without_torch(number: int) -> None:
    (path,) = (ROOT / "notebooks").glob(f"0{number}_*.ipynb")
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, path.name], cwd=path.parent, capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 0, result.stderr
