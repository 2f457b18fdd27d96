"""Our documents against the program: every command runs, every link leads somewhere, every number is measured."""

from __future__ import annotations

import io
import re
import runpy
import shlex
import shutil
import sys
import tomllib
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path

import pytest
from claims import CLAIMS, GIVEN, PYTHON
from markdown_reader import ROOT, Block, Document, documents, notebooks
from test_launcher import JOBS

from scaling_lib import cli
from scaling_lib.lm import documents as texts
from scaling_lib.sweep import cost as planning
from tools.experiment_summary import BLOCK
from tools.facts import facts

DOCUMENTS = [Document(path) for path in documents()]
BY_NAME = {d.name: d for d in DOCUMENTS}


def squeezed(text: str) -> str:
    return " ".join(text.split())


# ---- commands --------------------------------------------------------------------

# Not run here, and why. What is long is run as `RUNS_LONG` below, or by .ci/run itself.
NOT_RUN = {
    r"source \.venv/bin/activate": "activates the environment that runs this test",
    r"conda env create -f [\w/.-]+": "conda is not here; test_packaging and a test below hold the files to the pins",
    r"python benchmarks/\w+\.py.*": "measures for minutes",
    r"python -m (pytest|ruff|mypy|jupyter) .*": "what .ci/run does",
    r"\.ci/run": "runs this test",
    r"python -m tools\.\w+( --tables| [\w-]+)?": "writes the tables of documents; test_experiment_summary runs it",
    r"voila .*": "a server; test_browser starts it",
}
# Too long for a test that everybody runs: parsed always, one of each kind run among the slow tests.
RUNS_LONG = ("summary", "figures", "compare")

COMMANDS = {c for d in [*DOCUMENTS, *notebooks()] for c in d.commands}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, small_text: Path) -> Path:
    """A working folder as a reader would have it: the repository's folders, a book, the tables of the documents."""
    folder = tmp_path_factory.mktemp("desk")
    for name in ("results", "notebooks", "docs"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "runs").mkdir()
    for name in ("demo", "quick"):  # as if they had been trained
        (folder / "runs" / name).symlink_to(ROOT / "results" / "v1-to-v2")
    shutil.copy(small_text, folder / "my_book.txt")
    for document in DOCUMENTS:
        for block in document.blocks:
            if block.language == "csv":
                path = folder / block.name
                assert not path.exists() or path.read_text() == block.text, f"two tables are called {block.name}"
                path.write_text(block.text)
    return folder


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch, desk: Path) -> None:
    """In that folder, with speeds that need no measuring and the list of installed packages kept."""
    monkeypatch.chdir(desk)
    monkeypatch.setattr(planning, "calibrate", lambda plan, budget=0.0: {c.model: 1e-6 for c in plan.cells})
    monkeypatch.setattr(texts, "package_files", texts.stdlib_files)


def run_library(argv: list[str], long: bool) -> None:
    """``python -m scaling_lib ARGV``: a training as a dry run, what takes long only parsed, the rest as it is."""
    if "--help" in argv:
        with pytest.raises(SystemExit) as end, redirect_stdout(io.StringIO()):
            cli.main(argv)
        assert not end.value.code
        return
    args = cli._parser().parse_args(argv)
    if argv[0] in ("lab", "doctor"):
        return  # a step of a game needs those before it: test_cli_lab plays one; test_doctor measures
    for folder in [getattr(args, "folder", []), getattr(args, "folders", [])]:
        for path in folder if isinstance(folder, list) else [folder]:
            assert path.is_dir(), f"{path} is no folder"
    if (argv[0] in RUNS_LONG and not long) or argv[:2] == ["backtest", "--all"]:
        return  # the back-test of every table at hand takes minutes
    argv = [re.sub(r"^(random-walk|hierarchy)(:|$)", r"\1:train_tokens=300000,", word).rstrip(",") for word in argv]
    if argv[0] in ("plan", "run") and (args.engine != "local" or "hub:" in (args.corpus or "")):
        return  # wants a cluster, or the network
    if argv[0] == "run" and "--dry-run" not in argv:
        argv = [*argv, "--dry-run"]
    assert cli.main(argv) == 0


def asked_by_script(name: str, argv: list[str]) -> list[str]:
    """What a script of ours asks of the command line."""
    asked: list[list[str]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "main", lambda words: asked.append(list(words)) or 0)
        patch.setattr(sys, "argv", [name, *argv])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(ROOT / name), run_name="__main__")
    assert not end.value.code
    return asked[0]


def execute(command: str, long: bool) -> None:
    words = shlex.split(command)
    for word in words:
        if re.fullmatch(r"(notebooks|tests|benchmarks|results)/[\w./-]+", word) and "--out" not in words:
            assert (ROOT / word).exists(), f"{word} does not exist"
    if any(re.fullmatch(pattern, command) for pattern in NOT_RUN):
        if words[:2] == ["conda", "env"]:
            assert (ROOT / words[-1]).exists()
        return
    if words[:3] == ["python", "-m", "scaling_lib"]:
        run_library(words[3:], long)
    elif words[0] == "torchrun":
        run_library(words[words.index("scaling_lib") + 1 :], long)
    elif words[0] == "python" and (ROOT / words[1]).exists():
        run_library(asked_by_script(words[1], words[2:]), long)
    elif words[0] == "./run_experiments.sh":
        job = JOBS[words[1]].split()  # which test_launcher.py holds the launcher to
        if job[1] == "scaling_lib":
            run_library([*job[2:], *words[2:]], long)
    elif words[:2] == ["pip", "install"]:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        assert set(re.findall(r"\.\[([\w,]+)\]", command)) <= set(project["optional-dependencies"])
        assert "-c" not in words or (ROOT / words[words.index("-c") + 1]).exists()
    else:
        pytest.fail(f"{command!r} is neither run nor excused: see NOT_RUN")


@pytest.mark.parametrize("command", sorted(COMMANDS), ids=lambda c: c[:90])
def test_a_command_of_a_document_runs(command: str, cheap: None, capsys: pytest.CaptureFixture[str]) -> None:
    execute(command, False)


def long_commands() -> list[str]:
    """One of each kind, on a short sweep: the short test parses all, and looks for their folders."""
    told = r"( (results|runs|figures)/\S+| --out \S+)+"
    kinds = {
        re.sub(told, "", c) for c in COMMANDS if c.startswith(tuple(f"python -m scaling_lib {n}" for n in RUNS_LONG))
    }
    most = {kind for kind in kinds if not any(other.startswith(f"{kind} ") for other in kinds)}
    short = {"summary": "uniform-tokens", "figures": "uniform-tokens", "compare": "v1-to-v2"}
    return sorted(re.sub("|".join(short), lambda m: f"{m[0]} results/{short[m[0]]}", kind) for kind in most)


@pytest.mark.slow
@pytest.mark.parametrize("command", long_commands(), ids=lambda c: c[:90])
def test_a_long_command_of_a_document_runs_whole(command: str, cheap: None, capsys: pytest.CaptureFixture[str]) -> None:
    execute(command, True)


def test_an_unknown_command_is_found() -> None:
    for command in ("make all", "python -m scaling_lib dream", "./run_experiments.sh sleep", "pip install -e '.[no]'"):
        with pytest.raises((AssertionError, KeyError, SystemExit, pytest.fail.Exception)):
            execute(command, False)


SHOWN = [(d.name, a, b) for d in DOCUMENTS for a, b in d.outputs()]


@pytest.mark.parametrize(("name", "code", "output"), SHOWN, ids=[f"{n}:{a.start}" for n, a, _ in SHOWN])
def test_what_a_document_shows_is_what_is_printed(
    name: str, code: Block, output: Block, cheap: None, capsys: pytest.CaptureFixture[str]
) -> None:
    if code.language == "python":
        exec(compile(code.text, name, "exec"), {})
    else:
        (command,) = code.text.strip().splitlines()
        run_library(shlex.split(command, comments=True)[3:], True)
    printed = capsys.readouterr().out
    for line in output.text.splitlines():
        assert line in printed, f"{name} shows {line!r}, printed was:\n{printed}"


# ---- links and paths -------------------------------------------------------------

# Paths that a reader makes, and names that are patterns.
MADE = {
    "runs/demo", "runs/quick", "runs/try", "runs/MODE", "my_book.txt", "my_runs.csv", "my_grid.csv", "figures/paper",
    "runs/lab/ledger.json", "shared/laptop", "timings.csv",
    ".venv/bin/activate", ".venv/install.log", "owner/name", "/path/to/python",
}  # fmt: skip
LOOKS_LIKE_A_PATH = re.compile(r"\.?[\w-]+(/[\w.-]+)+/?|[\w-]+\.(py|md|sh|json|yml|toml|txt|ipynb|csv|cff)")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: d.name)
def test_links_and_paths_lead_somewhere(document: Document) -> None:
    for link in document.links:
        if re.match(r"https://[\w.-]+\.[a-z]+(/|$)", link):
            continue
        target, _, anchor = link.partition("#")
        path = (document.path.parent / target).resolve() if target else document.path
        assert path.exists(), f"{link} leads nowhere"
        assert not path.is_absolute() or path.is_relative_to(ROOT), f"{link} leads out of the repository"
        if anchor and path.suffix == ".md":
            assert anchor in Document(path).anchors, f"{link}: no such heading"
    for code in document.inline_code:
        if LOOKS_LIKE_A_PATH.fullmatch(code) and code not in MADE:
            places = (ROOT, document.path.parent, ROOT / "scaling_lib", ROOT / "results")
            assert any((place / code).exists() for place in places), f"`{code}` does not exist"
    for alternative, path in document.images:
        assert len(alternative) > 15, f"{path}: say what it shows"


def test_documents_begin_with_a_title_and_name_no_place_on_a_machine() -> None:
    for document in DOCUMENTS:
        assert not re.search(r"(?<![\w.:/])/(home|work|root|tmp|usr|opt)/", document.text), document.name
        assert document.text.startswith("# "), document.name
        assert document.text.count("```") % 2 == 0, document.name


@pytest.mark.parametrize("name", ["README_V2.md", "README_V2.zh.md"])
def test_the_front_page_lists_every_notebook(name: str) -> None:
    told = re.findall(r"\]\(notebooks/(\S+)\) \| .+ \| \d+ (?:s|秒) \|", BY_NAME[name].text)
    assert told == sorted(p.name for p in (ROOT / "notebooks").glob("[0-9]*.ipynb"))


# ---- numbers ---------------------------------------------------------------------

DECIMAL = re.compile(r"(?<![\w.])[+-]?\d[\d,]*\.\d+(?:e\d+)?(?![\d.]*\.\d)")
NO_RESULTS = r"arXiv \d{4}\.\d{5}|\b\d+\.\d+\.\d+\b"  # addresses of papers, versions
known = cache(lambda: facts(ROOT))


def uncovered(document: Document) -> tuple[list[str], list[str]]:
    """Claims that the document does not make, and decimal numbers outside of code and tables that no claim makes."""
    prose = Document(document.path, BLOCK.sub("", document.text)).prose
    quiet = re.sub(r"\]\([^)]*\)|`[^`]*`", lambda m: DECIMAL.sub("", m.group()), prose)
    text = re.sub(NO_RESULTS, "", squeezed(quiet))
    claims = [claim.format_map(known()) for claim in CLAIMS[document.name]]
    covered = {i for claim in claims for m in re.finditer(re.escape(claim), text) for i in range(*m.span())}
    given = PYTHON | GIVEN.get(document.name, set())
    bare = [m for m in DECIMAL.finditer(text) if m.start() not in covered and m.group().lstrip("+-") not in given]
    return [c for c in claims if c not in text], [text[max(0, m.start() - 40) : m.end() + 20] for m in bare]


@pytest.mark.parametrize("name", sorted(CLAIMS))
def test_every_number_of_a_document_is_measured(name: str) -> None:
    missing, bare = uncovered(BY_NAME[name])
    assert not missing, "the records say:\n" + "\n".join(missing)
    assert not bare, "no claim in tests/claims.py covers:\n" + "\n".join(bare)


def test_every_document_is_checked_for_its_numbers() -> None:
    own = {d.name for d in DOCUMENTS if not d.name.startswith(("results/", "benchmarks/"))}  # theirs say what was seen
    assert own == set(CLAIMS)


def test_a_wrong_number_and_a_new_one_are_found() -> None:
    document, number = BY_NAME["docs/blog_post.md"], f"{known()['gpt3'].value:.2f} ["
    missing, bare = uncovered(Document(document.path, document.text.replace(number, "2.71 [")))
    assert any(number in m for m in missing)
    assert any("2.71" in b for b in bare)
    assert any("4.321" in b for b in uncovered(Document(document.path, document.text + "\nA loss of 4.321.\n"))[1])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: d.name)
def test_tables_are_rectangular(document: Document) -> None:
    width = 0
    for line in document.prose.splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        assert not (cells and width) or cells == width, f"{cells - 1} cells in place of {width - 1}: {line[:80]}"
        width = cells
