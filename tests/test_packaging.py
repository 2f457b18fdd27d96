"""What is shipped: pins that agree with each other, imports that stay light, a wheel that is complete."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
FILES = {  # those of the library, by the names of their modules
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in (ROOT / "scaling_lib").rglob("*.py")
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LAUNCHER_EXTRAS = ("notebooks", "test")
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
LEFT_TO_TORCH = re.compile(r"nvidia-.*|cuda-.*|triton")  # a CUDA build brings these at versions that torch fixes


def read_lines(name: str) -> list[str]:
    """The lines of a file of the repository without comments and blank lines."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


def read_pins() -> dict[str, str]:
    return dict(line.split("==") for line in read_lines("constraints.txt"))


def read_requirements(*extras: str) -> list[Requirement]:
    """The package's own requirements and those of the extras named."""
    lines = PROJECT["dependencies"] + [line for e in extras for line in PROJECT["optional-dependencies"][e]]
    return [Requirement(line) for line in lines]


# ---- the three files of versions -------------------------------------------------


def test_constraints_hold_one_exact_public_version_a_line_sorted() -> None:
    lines = read_lines("constraints.txt")
    assert lines == sorted(set(lines), key=lambda line: line.split("==")[0])
    for line in lines:
        name, version = line.split("==")
        assert name == canonicalize_name(name)
        assert version == version.strip()
        assert Version(version).local is None, f"{line}: a local build tag exists on one index only"


def test_every_requirement_of_every_extra_is_pinned_within_its_range() -> None:
    pins = read_pins()
    for requirement in read_requirements(*PROJECT["optional-dependencies"]):
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement


def installed_requirements() -> Iterator[tuple[str, Requirement]]:
    """All that the installed packages ask for in turn; their own metadata knows nothing of constraints.txt."""
    waiting = [("pyproject.toml", r) for r in read_requirements(*PROJECT["optional-dependencies"])]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        asker, requirement = waiting.pop()
        yield asker, requirement
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        try:
            lines = importlib.metadata.requires(requirement.name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # an extra that is not installed here
        for inner in map(Requirement, lines):
            wanted = [{"extra": extra} for extra in ("", *requirement.extras)]
            if inner.marker is None or any(inner.marker.evaluate(extra) for extra in wanted):
                waiting.append((requirement.name, inner))


def test_pins_cover_what_the_installed_packages_need_in_turn() -> None:
    pins = read_pins()
    checked = 0
    for asker, requirement in installed_requirements():
        name = canonicalize_name(requirement.name)
        if LEFT_TO_TORCH.fullmatch(name):
            continue
        assert name in pins, f"{asker} needs {requirement}, which constraints.txt does not pin"
        assert requirement.specifier.contains(pins[name]), f"{asker} needs {requirement}, pinned is {pins[name]}"
        checked += 1
    assert checked > 100


def test_conda_gets_the_same_versions_as_the_launcher() -> None:
    pins = read_pins()
    names = {canonicalize_name(requirement.name) for requirement in read_requirements(*LAUNCHER_EXTRAS)}
    lines = [line.strip().removeprefix("- ") for line in read_lines("environment.yml")]
    conda = dict(line.split("=") for line in lines if re.fullmatch(r"[a-z0-9-]+=[0-9.]+", line))
    python = conda.pop("python")
    assert conda == {CONDA_NAMES.get(name, name): pins[name] for name in names}
    assert SpecifierSet(PROJECT["requires-python"]).contains(f"{python}.0")
    assert lines[-1] == "-e ."
    assert f"-e '.[{','.join(LAUNCHER_EXTRAS)}]'" in (ROOT / "run_experiments.sh").read_text(encoding="utf-8")


def test_readers_on_binder_get_the_pinned_versions_without_torch_and_notebooks_that_need_no_more() -> None:
    lines = [line.strip().removeprefix("- ") for line in read_lines("binder/environment.yml")]
    conda = dict(line.split("=") for line in lines if re.fullmatch(r"[a-z0-9-]+=[0-9.]+", line))
    assert conda.pop("python") == "3.11"
    versions = {name.replace("matplotlib-base", "matplotlib"): version for name, version in conda.items()}
    assert versions.items() <= read_pins().items()
    assert {canonicalize_name(r.name) for r in read_requirements()} - {"torch"} <= set(versions)
    assert not any("torch" in line for line in lines)
    assert os.access(ROOT / "binder" / "postBuild", os.X_OK)
    paths = sorted((ROOT / "notebooks").glob("0[4567]_*.ipynb"))
    assert len(paths) == 4
    for path in paths:
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            lines = "".join(cell["source"]).splitlines() if cell["cell_type"] == "code" else []
            for node in ast.walk(ast.parse("\n".join(line for line in lines if not line.startswith("%")))):
                if isinstance(node, (ast.Import, ast.ImportFrom)):
                    asked = ast.unparse(node)
                    assert not re.search(r"\btorch|scaling_lib\.lm|import lm|sweep\.(execute|cost)", asked), asked


def test_no_file_of_the_setup_names_a_package_index() -> None:
    for name in ("constraints.txt", "environment.yml", "pyproject.toml", "run_experiments.sh", ".ci/run"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert not re.search(r"index-url|find-links|https?://", text), name


# ---- imports ---------------------------------------------------------------------

# Torch is made impossible to import, so that an import hidden in a module's own imports is found too.
IMPORT_WITHOUT_TORCH = """
import importlib, sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ImportError("torch is imported")

sys.meta_path.insert(0, NoTorch())
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def test_all_but_the_language_models_import_without_torch() -> None:
    light = [name for name in FILES if not name.startswith("scaling_lib.lm.") and name != "scaling_lib.__main__"]
    light += [f"scaling_lib.lm.{name}" for name in ("schedule", "synthetic", "corpus")]
    command = [sys.executable, "-c", IMPORT_WITHOUT_TORCH, *light]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_the_package_itself_imports_nothing_heavy() -> None:
    code = "import sys, scaling_lib; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "scipy", "matplotlib", "tokenizers"} & set(result.stdout.split())


# ---- what git and a wheel hold ---------------------------------------------------


@pytest.mark.skipif(
    shutil.which("git") is None or not (ROOT / ".git").exists(),
    reason="not a git clone: what git ignores is not checked",
)
def test_git_ignores_what_is_made_here_and_keeps_results() -> None:
    made = [".venv/bin/python", "runs/demo/a.json", "scaling_lib/__pycache__/x.pyc", ".pytest_cache/x", "dist/x"]
    kept = ["results/demo/a.json", "constraints.txt", "notebooks/01.ipynb", "scaling_lib/runs.py"]
    result = subprocess.run(
        ["git", "check-ignore", "--no-index", *made, *kept], cwd=ROOT, capture_output=True, text=True
    )
    assert result.stdout.split() == made
    # Also where git turns line ends into those of Windows, the shell must be able to read the launcher.
    ends = subprocess.run(["git", "check-attr", "eol", "run_experiments.sh"], cwd=ROOT, capture_output=True, text=True)
    assert ends.stdout.split() == ["run_experiments.sh:", "eol:", "lf"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    pytest.importorskip("hatchling", reason="hatchling (extra `test`) is absent: the wheel is not checked")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    files = [p for p in (ROOT / "scaling_lib").rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    on_disk = {p.relative_to(ROOT).as_posix() for p in files}
    in_wheel = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert in_wheel == on_disk
    assert "scaling_lib/py.typed" in in_wheel


def test_the_wheels_metadata_is_pyproject_s(wheel: zipfile.ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = Parser().parsestr(wheel.read(name).decode())
    assert (metadata["Name"], metadata["Version"]) == (PROJECT["name"], PROJECT["version"])
    assert (metadata["Requires-Python"], metadata["License-Expression"]) == (">=3.11", "MIT")
    assert set(metadata.get_all("Provides-Extra", [])) == set(PROJECT["optional-dependencies"])
    plain = [r for r in map(Requirement, metadata.get_all("Requires-Dist", [])) if r.marker is None]
    assert set(plain) == set(read_requirements())
    assert metadata.get_payload().strip().startswith("#"), "the front page is the long description"
    (entry,) = (name for name in wheel.namelist() if name.endswith("/entry_points.txt"))
    assert "scaling-lib = scaling_lib.cli:main" in wheel.read(entry).decode()
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in wheel.namelist())


# Which part of the library may import which, at the top of a file or inside a function; the command line may all.
ANYWHERE = {"_lazy", "errors", "files", "machine", "words"}
MAY_IMPORT: dict[str, set[str]] = {
    **{name: set() for name in (*ANYWHERE, "counting", "fit", "scaling_lib")},
    "config": {"counting"},
    "runs": {"config", "counting"},
    "progress": {"sweep"},  # the type of what it shows
    "lm": {"config", "counting", "runs"},
    "sweep": {"config", "counting", "runs", "lm"},
    "show": {"config", "counting", "runs", "fit", "lab"},
    "lab": {"config", "counting", "runs", "fit", "progress", "sweep"},
}
TORCH = {"checkpoint", "evaluate", "group", "loss", "model", "record", "runtime", "speed", "train"}


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Every module that a file imports, by its whole name, and whether it does so at its top level."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in FILES else node.module for name in inner]
        yield from ((name, node in tree.body) for name in names)


def test_imports_point_one_way_between_wings_and_between_files() -> None:
    for name, path in FILES.items():
        here, _, file = name.removeprefix("scaling_lib.").partition(".")
        for module, top in imports(path):
            first, _, rest = module.partition(".")
            wing = rest.partition(".")[0]
            assert first != "torch" or (here == "lm" and file in TORCH), f"{name} imports torch"
            if first == "scaling_lib" and wing and not here.startswith(("cli", "__main__")):
                assert wing in MAY_IMPORT[here] | ANYWHERE | {here}, f"{name} imports {module}"
                # The sweep plans without torch: what trains is imported inside the function that trains.
                assert not (top and (here, wing) == ("sweep", "lm")), f"{name} imports {module} at the top"
    graph = {name: {module for module, _ in imports(path) if module in FILES} - {name} for name, path in FILES.items()}
    TopologicalSorter(graph).prepare()  # an error names the circle
