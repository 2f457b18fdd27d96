"""What nbval cannot see in the committed notebooks: were they run whole, do they test anything, do they keep our form?

nbval compares outputs that are there. A notebook whose outputs were cleared passes it without testing anything.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
MOST_LINES, MOST_WORDS, LEAST_CODE = 25, 1900, 90
UNCOMPARED = {"nbval-ignore-output", "nbval-skip"}
WIDGET = "application/vnd.jupyter.widget-view+json"
SKELETON = (
    (r"^# \d+\. .+", "a numbered title"),
    (r"^# .+\n\n\*\*[\"“].+\?.*[\"”]\*\*", "a question below its title, in bold and in quotes"),
    (r"^\*\*Before you start\.\*\*", "**Before you start.**"),
    (r"Run time: ", "its run time"),
    (r"^## You will learn\n\n- .+\n- .+\n- ", "## You will learn, with three points"),
    (r"^## Words\n", "## Words, its glossary"),
    (r"\*Predict first[:.*]", "*Predict first:*"),
    (r"^\*\*What we see\.\*\*", "**What we see.**"),
    (r"^## Limits\n", "## Limits"),
    (r"^## Take away\n\n1\. .+\n2\. .+\n3\. ", "## Take away, with three points"),
    (r"^## Exercises\n", "## Exercises"),
    (r"^\d\. \*\*Break it\b", "an exercise that begins with **Break it**"),
    (r"<details><summary>Answer</summary>", "folded answers"),
    (r"^## Next\n", "## Next"),
)
ORDER = ("You will learn", "Words", "Limits", "Take away", "Exercises", "Next")
ABSOLUTE = r"(?<![\w./:])(?:/(?:home|work|root|tmp|usr|opt|var|mnt|Users|private)/[\w.-]|~/|[A-Z]:\\)"

Cell = dict[str, Any]
Notebook = dict[str, Any]


def read(path: Path) -> Notebook:
    notebook: Notebook = json.loads(path.read_text(encoding="utf-8"))
    return notebook


def source(cell: Cell) -> str:
    return "".join(cell["source"])


def code(notebook: Notebook) -> list[Cell]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def prose(notebook: Notebook) -> str:
    return "\n\n".join(source(cell) for cell in notebook["cells"] if cell["cell_type"] == "markdown")


def tags(cell: Cell) -> set[str]:
    return set(cell["metadata"].get("tags", ()))


def printed(cell: Cell) -> str:
    """What nbval compares: text, not pictures."""
    parts = [output.get("text", "") for output in cell.get("outputs", ())]
    for output in cell.get("outputs", ()):
        if not any(kind.startswith("image/") for kind in output.get("data", {})):
            parts.append(output.get("data", {}).get("text/plain", ""))
    return "".join("".join(part) for part in parts)


# ---- the checks: each returns what is wrong, in words


def not_run_in_order(notebook: Notebook) -> list[str]:
    counts = [cell["execution_count"] for cell in code(notebook)]
    return [] if counts == list(range(1, len(counts) + 1)) else [f"execution counts {counts}: run it whole, once"]


def failed(notebook: Notebook) -> list[str]:
    out = []
    for i, cell in enumerate(code(notebook), 1):
        for output in cell["outputs"]:
            if output["output_type"] == "error" and "raises-exception" not in tags(cell):
                out.append(f"code cell {i} ends in {output.get('ename')}")
            if output.get("name") == "stderr":
                out.append(f"code cell {i} writes to stderr: {''.join(output['text'])[:80]}")
    return out


def compares_nothing(notebook: Notebook) -> list[str]:
    compared = [cell for cell in code(notebook) if not tags(cell) & UNCOMPARED]
    out = [] if any(printed(cell).strip() for cell in compared) else ["no cell has an output that nbval compares"]
    for cell in compared:
        if re.search(r"^print\(", source(cell), re.MULTILINE) and not printed(cell).strip():
            out.append(f"a cell that prints has no output: {source(cell)[:60]!r}")
    return out


def keeps_widget_state(notebook: Notebook) -> list[str]:
    return ["metadata.widgets: strip it"] if "widgets" in notebook["metadata"] else []


def has_long_cells(notebook: Notebook) -> list[str]:
    lengths = [(i, len(source(cell).splitlines())) for i, cell in enumerate(code(notebook), 1)]
    return [f"code cell {i} has {n} lines, more than {MOST_LINES}" for i, n in lengths if n > MOST_LINES]


def has_absolute_paths(notebook: Notebook) -> list[str]:
    texts = [source(cell) for cell in notebook["cells"]] + [printed(cell) for cell in code(notebook)]
    return [f"absolute path: {text[m.start() : m.end() + 30]!r}" for text in texts for m in re.finditer(ABSOLUTE, text)]


def tells_more_than_it_shows(notebook: Notebook) -> list[str]:
    words = len(prose(notebook).split())
    lines = sum(bool(line.strip()) for cell in code(notebook) for line in source(cell).splitlines())
    out = [f"{words} words of prose, more than {MOST_WORDS}"] if words > MOST_WORDS else []
    return out + ([f"{lines} lines of code, fewer than {LEAST_CODE}"] if lines < LEAST_CODE else [])


def lacks_skeleton(notebook: Notebook) -> list[str]:
    text = prose(notebook)
    out = [f"lacks {name}" for pattern, name in SKELETON if not re.search(pattern, text, re.MULTILINE)]
    places = [text.find(f"\n## {heading}") for heading in ORDER]
    return out + ([] if places == sorted(places) else [f"its parts are not in the order {', '.join(ORDER)}"])


def has_dead_links(notebook: Notebook) -> list[str]:
    out = []
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", prose(notebook))):
        if target.startswith("#"):
            headings = {line.lstrip("# ").replace(" ", "-") for line in prose(notebook).splitlines() if line[:1] == "#"}
            if target[1:] not in headings:
                out.append(f"no heading {target}")
        elif not target.startswith(("http://", "https://")):
            path = (ROOT / "notebooks" / target.partition("#")[0]).resolve()
            if not path.is_relative_to(ROOT) or not path.exists():
                out.append(f"the link {target} leads nowhere")
    return out


def shows_sliders_without_a_still(notebook: Notebook) -> list[str]:
    out, cells = [], code(notebook)
    for i, cell in enumerate(cells):
        if any(WIDGET in output.get("data", {}) for output in cell["outputs"]):
            if "nbval-ignore-output" not in tags(cell):
                out.append(
                    f"code cell {i + 1} shows a widget, which has another name each time: tag nbval-ignore-output"
                )
            after = cells[i + 1]["outputs"] if i + 1 < len(cells) else []
            if not any("image/png" in output.get("data", {}) for output in after):
                out.append(
                    f"code cell {i + 1} shows a widget and the next has no picture, for who reads without a kernel"
                )
    return out


Check = Callable[[Notebook], list[str]]
CHECKS: tuple[Check, ...] = (
    not_run_in_order, failed, compares_nothing, keeps_widget_state, has_long_cells, has_absolute_paths,
    tells_more_than_it_shows, lacks_skeleton, has_dead_links, shows_sliders_without_a_still,
)  # fmt: skip


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_passes_every_check(path: Path):
    assert [fault for check in CHECKS for fault in check(read(path))] == []


def test_there_are_notebooks_and_each_is_named_for_its_place():
    assert NOTEBOOKS
    for place, path in enumerate(NOTEBOOKS, 1):
        title = re.search(r"^# (\d+)\. ", prose(read(path)), re.MULTILINE)
        assert title, path.name
        assert path.name.startswith(f"{int(title[1]):02}_")
        assert int(title[1]) >= place  # some may be missing, none may have another's number


# ---- each check finds what it looks for


@pytest.fixture
def sound() -> Notebook:
    text = (
        '# 1. A title\n\n**"Why?"**\n\n**Before you start.** Nothing. Run time: 1 second.\n\n'
        "## You will learn\n\n- one,\n- two,\n- three.\n\n## Words\n\n- word: it.\n\n"
        "*Predict first:* what?\n\n**What we see.** [A file](../README_V2.md).\n\n## Limits\n\nMany.\n\n"
        "## Take away\n\n1. one\n2. two\n3. three\n\n## Exercises\n\n1. **Break it.** How?\n"
        "   <details><summary>Answer</summary>So."
        "</details>\n\n## Next\n\nNothing."
    )
    lines = [["%matplotlib inline\n", "print(1)"], *[["x = 1\n"] * 24] * 4]
    cells = [
        {"cell_type": "code", "execution_count": i, "metadata": {}, "source": of, "outputs": []}
        for i, of in enumerate(lines, 1)
    ]
    cells[0]["outputs"] = [stream("1\n")]
    return {"metadata": {}, "cells": [{"cell_type": "markdown", "metadata": {}, "source": [text]}, *cells]}


def prose_with(old: str, new: str) -> Callable[[Notebook], None]:
    return lambda n: n["cells"][0].update(source=[source(n["cells"][0]).replace(old, new)])


def code_with(**parts: Any) -> Callable[[Notebook], None]:
    """Another source, count, output or tag of the first code cell."""
    return lambda n: n["cells"][1].update(parts)


def stream(text: str, name: str = "stdout") -> dict[str, Any]:
    return {"output_type": "stream", "name": name, "text": [text]}


def shown(kind: str) -> dict[str, Any]:
    return {"output_type": "display_data", "data": {kind: "", "text/plain": ["<it>"]}}


FAULTS: tuple[tuple[Check, Callable[[Notebook], None]], ...] = (
    (not_run_in_order, code_with(execution_count=None)),
    (failed, code_with(outputs=[{"output_type": "error", "ename": "ValueError"}])),
    (failed, code_with(outputs=[stream("1\n"), stream("a warning", "stderr")])),
    (compares_nothing, code_with(outputs=[])),
    (compares_nothing, code_with(metadata={"tags": ["nbval-ignore-output"]})),
    (compares_nothing, code_with(outputs=[shown("image/png")])),
    (keeps_widget_state, lambda n: n["metadata"].update(widgets={})),
    (has_long_cells, code_with(source=["x = 1\n"] * 26)),
    (has_absolute_paths, code_with(outputs=[stream("read /home/me/data.csv")])),
    (has_absolute_paths, code_with(source=["open('/tmp/x')"])),
    (has_absolute_paths, prose_with("Many.", "See ~/data.")),
    (tells_more_than_it_shows, prose_with("Many.", "many " * 2000)),
    (tells_more_than_it_shows, lambda n: n.update(cells=n["cells"][:2])),
    (lacks_skeleton, prose_with("## Limits", "## Bounds")),
    (lacks_skeleton, prose_with("\n3. three", "")),
    (lacks_skeleton, prose_with("**Break it.**", "")),
    (lacks_skeleton, prose_with("## You will learn\n\n- one,\n- two,\n- three.\n\n", "")),
    (has_dead_links, prose_with("../README_V2.md", "../README_V3.md")),
    (has_dead_links, prose_with("../README_V2.md", "../../elsewhere.md")),
    (shows_sliders_without_a_still, code_with(outputs=[shown(WIDGET)])),
)


def test_a_sound_notebook_passes_every_check(sound: Notebook):
    assert [fault for check in CHECKS for fault in check(sound)] == []


@pytest.mark.parametrize(("check", "spoil"), FAULTS)
def test_a_fault_is_found(sound: Notebook, check: Check, spoil: Callable[[Notebook], None]):
    spoilt = copy.deepcopy(sound)
    spoil(spoilt)
    assert spoilt != sound
    assert check(spoilt)
