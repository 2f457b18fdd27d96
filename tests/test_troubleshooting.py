"""The troubleshooting of the guide: every message of the launcher and of the commands, and no others."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence

from markdown_reader import ROOT, Document

GUIDE = Document(ROOT / "EXPERIMENT_GUIDE_V2.md")
LAUNCHER = (ROOT / "run_experiments.sh").read_text(encoding="utf-8")

# Modules whose messages only callers of the library can see; their docstrings say what they raise.
FOR_CALLERS = re.compile(
    r"config|fit/(_line|allocate|backtests|bootstrap|check|compare|coverage|estimate|influence|isoflops|laws|setup|"
    r"uncertainty)|show/(ablation|approaches|bias|context|conventions|data_limits|effect|exercise|extrapolation|known|"
    r"retrained|rounding|switches|trust|sliders/\w+)"
)


def template(node: ast.AST) -> str:
    """A message with ``…`` for all that it fills in."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(template(v) for v in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return template(node.left) + template(node.right)
    return "…"


def messages() -> dict[str, str]:
    """Every message of the launcher and of what the commands use -> where it comes from."""
    found: dict[str, str] = {}
    for path in sorted((ROOT / "scaling_lib").rglob("*.py")):
        module = path.relative_to(ROOT / "scaling_lib").with_suffix("").as_posix()
        if FOR_CALLERS.fullmatch(module):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "InputError" and node.args:
                found[re.sub("…+", "…", template(node.args[0]))] = module
    for stop in re.findall(r'\bstop \d+ "((?:[^"\\$]|\$\([^)]*\)|\$\{?\w+\}?)*)"', LAUNCHER):
        found[re.sub(r"\$\([^)]*\)|\$\{?\w+\}?", "…", stop)] = "run_experiments.sh"
    return {m: where for m, where in found.items() if m != "…"}


def patterns(rows: Sequence[str]) -> list[re.Pattern[str]]:
    return [re.compile(".*".join(map(re.escape, row.split("…")))) for row in rows]


def rows_of_the_guide() -> list[str]:
    section = GUIDE.text.partition("\n## Troubleshooting")[2].partition("\n## ")[0]
    return re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)


def test_every_message_has_its_row_in_the_guide() -> None:
    known = patterns(rows_of_the_guide())
    found = messages()
    assert len(found) > 120
    assert {"run_experiments.sh", "cli", "lm/documents", "runs"} <= set(found.values())
    missing = [f"{where}: {m}" for m, where in found.items() if not any(p.fullmatch(m) for p in known)]
    assert not missing, "add rows to the troubleshooting of EXPERIMENT_GUIDE_V2.md:\n" + "\n".join(missing)


def test_every_row_of_the_guide_is_a_message() -> None:
    everything = LAUNCHER + "".join(p.read_text(encoding="utf-8") for p in (ROOT / "scaling_lib").rglob("*.py"))
    plain = re.sub(r'"\s+f?"', "", everything)  # strings that go on in the next line
    for row in rows_of_the_guide():
        longest = max(re.split(r"…", row), key=len).strip()
        assert longest in plain, f"no message says {longest!r}"
