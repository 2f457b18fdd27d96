"""Where documents come from: which files are read, and what is refused."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling_lib.errors import InputError
from scaling_lib.lm import documents

ONE_LINE = r"\A[^\n]+\Z"
ROOT = Path(os.__file__).parent


def read(spec: str) -> list[bytes]:
    kind, _, argument = spec.partition(":")
    return [content for _, content in documents.read_documents(documents.find_source(kind, argument))]


# ---- Python's sources


def test_the_standard_library_is_taken_without_its_tests_and_python_stdlib_is_what_versions_share() -> None:
    files, shared = documents.stdlib_files(), documents.shared_files()
    assert {ROOT / "os.py", ROOT / "json" / "decoder.py"} <= set(shared) < set(files)
    assert len(files) == len(set(files)) > 400
    assert len(shared) > 340  # of 361: a distribution may leave out a few
    for file in files:
        assert file.suffix == ".py"
        assert not {"test", "tests", "idle_test", "site-packages"} & set(file.relative_to(ROOT).parts)
    assert 8e6 < sum(file.stat().st_size for file in files) < 25e6
    came_or_went = ("distutils", "lib2to3", "imp.py", "cgi.py", "tomllib/mypy", "zipfile", "pathlib.py", "_pyrepl")
    assert not [file for file in shared if file.relative_to(ROOT).as_posix().startswith(came_or_went)]


def test_an_edited_module_keeps_its_place_and_its_side_of_the_split(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Two made-up versions: one module was edited, one came, and on Windows lines end otherwise."""
    keys = {}
    for version in ("3.11", "3.12"):
        root = tmp_path / version
        (root / "json").mkdir(parents=True)
        monkeypatch.setattr(documents.sysconfig, "get_path", lambda name, root=root: str(root))
        for name in ("os.py", "abc.py", "json/decoder.py"):
            (root / name).write_bytes(f"# {name}\r\nx = 1\n".encode())
        if version == "3.12":
            (root / "os.py").write_bytes(b"# rewritten\n")
            (root / "only_in_3_12.py").write_bytes(b"new = 1\n")
        read = list(documents.read_documents(documents.find_source("python-stdlib", "")))
        keys[version] = [key for key, _ in read]
        assert len(read) == 3
        assert not any(b"\r" in content for _, content in read)
    assert keys["3.11"] == keys["3.12"]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages: one with all that may go wrong, one that nothing asks for."""
    site = tmp_path / "site"
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "far.py").write_text("far = 1\n")
    odd = ["latin.py", "empty.py", "linked.py", "linked/far.py", "gone.py"]
    needs_two = "Requires-Dist: other_two >=1 ; python_version>'3'\n"
    for name, files, requires in [("fake-one", odd, needs_two), ("other-two", ["data.json"], ""), ("third", [], "")]:
        module = name.replace("-", "_")
        info = site / f"{module}-1.0.dist-info"
        info.mkdir(parents=True)
        (site / module).mkdir()
        (site / module / "__init__.py").write_text(f"'''{name}'''\n")
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{requires}")
        record = [f"{module}/{file}" for file in ["__init__.py", *files]]
        record += ["../../outside/far.py", f"{tmp_path}/outside/far.py"]
        (info / "RECORD").write_text("".join(f"{file},,\n" for file in record))
    one = site / "fake_one"
    (one / "latin.py").write_bytes("name = 'café'\n".encode("latin-1"))
    (one / "empty.py").write_text(" \n")
    (one / "linked.py").symlink_to(tmp_path / "outside" / "far.py")
    (one / "linked").symlink_to(tmp_path / "outside", target_is_directory=True)
    monkeypatch.syspath_prepend(str(site))
    return site


def test_packages_are_read_inside_their_own_folder_only(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "package_names", lambda: ["fake-one", "not-installed", "other-two"])
    names = [file.relative_to(site).as_posix() for file in documents.package_files()]
    one = ["fake_one/__init__.py", "fake_one/empty.py", "fake_one/latin.py"]
    assert names == [*one, "other_two/__init__.py"]
    monkeypatch.setattr(documents, "stdlib_files", list)
    assert read("python-env") == [b"'''fake-one'''\n", b"'''other-two'''\n"]  # what is not UTF-8 is skipped


def test_the_packages_are_those_required_in_turn_without_extras(site: Path) -> None:
    names = documents.package_names()
    assert {"torch", "numpy", "sympy"} <= set(names)  # whatever is installed beside them
    assert not {"jupyterlab", "pytest", "nbval", "dask", "ipywidgets", "ruff"} & set(names)
    info = site / "scaling_lib-9.dist-info"
    info.mkdir()
    head = "Metadata-Version: 2.1\nName: scaling-lib\nVersion: 9\n"
    wanted = ["fake.one[more]>=1", "third; extra == 'test'", "absent; sys_platform == 'nowhere'", "not_there"]
    (info / "METADATA").write_text(head + "".join(f"Requires-Dist: {line}\n" for line in wanted))
    with (site / "fake_one-1.0.dist-info" / "METADATA").open("a") as file:
        file.write("Requires-Dist: asked_for; extra == 'more'\nRequires-Dist: unasked; extra == 'less'\n")
    assert documents.package_names() == ["asked-for", "fake-one", "not-there", "other-two"]


def test_a_python_without_sources_or_without_this_package_is_told_of(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def missing(name: str) -> list[str]:
        raise documents.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(documents.metadata, "requires", missing)
    monkeypatch.setattr(documents.sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(InputError, match=ONE_LINE):
        documents.package_names()
    with pytest.raises(InputError, match=ONE_LINE):
        documents.find_source("python-stdlib", "")


# ---- text


@given(st.text(st.sampled_from("ab \n\r"), max_size=400), st.integers(1, 20))
def test_cutting_loses_nothing(text: str, piece: int) -> None:
    pieces = documents.cut(text, piece)
    assert "".join(pieces) == text
    if len(text) >= piece:
        assert min(map(len, pieces)) >= piece
    assert max(map(len, pieces)) <= 17 * piece + 400 * ("\n" in text)


def test_a_text_is_cut_at_blank_lines_else_at_lines_else_anywhere() -> None:
    paragraphs = [f"Paragraph {i}.\nIts second line, of {i} words.\n{' ' * (i % 2)}\n" for i in range(500)]
    pieces = documents.cut("".join(paragraphs))
    assert len(pieces) == pytest.approx(sum(map(len, paragraphs)) / documents.PIECE, rel=0.3)
    assert all(piece.startswith("Paragraph") for piece in pieces)
    assert all(piece.endswith("\n") for piece in documents.cut("a line of text\n" * 3000))
    assert [len(piece) for piece in documents.cut("x" * 10_000)] == [4096, 5904]


def test_a_folder_is_read_file_by_file(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "two.txt").write_bytes("zwei\r\nGrüße\n".encode())  # line ends are kept
    (tmp_path / "a.txt").write_text("one\n")
    (tmp_path / "c.txt").write_text("  \n")  # blank: no document
    (tmp_path / "d.txt").write_text("")
    (tmp_path / ".hidden").write_bytes(b"\xff\0")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x").write_bytes(b"\xff\0")
    assert read(f"text:{tmp_path}") == [b"one\n", "zwei\r\nGrüße\n".encode()]


def test_a_character_across_the_first_look_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    for text in ("a" * shift + character * 3000 for shift in range(4) for character in "é中🙂"):
        path.write_text(text, encoding="utf-8")
        assert b"".join(read(f"text:{path}")).decode() == text


LONG = b"text " * 2000
BAD_TEXTS = {  # its content, what is said of it, and whether already before the text is read
    "missing": (None, "does not exist", True),
    "empty": (b"", "is empty", True),
    "latin-1": ("voilà un café\n".encode("latin-1") * 20, "is not UTF-8", True),
    "utf-16": ("some text\n".encode("utf-16") * 20, "binary|not UTF-8", True),
    "binary": (bytes(range(256)), "binary", True),
    "binary later": (LONG + b"\0" + b"text", "binary", False),
    "a record a line": (b'{"text": "one"}\n{"text": {"a": "two"}}\n' * 9, "holds records", True),
    "long records": ((b'{"id": 1, "text": "' + LONG + b'"}\n') * 9, "holds records", True),
    "a list of records": (b'[ {"text": "one"},\n {"text": "two"} ]', "holds records", True),
    "cut short": (LONG + "é".encode()[:1], "is not UTF-8", False),
}


@pytest.mark.parametrize(("content", "says", "soon"), BAD_TEXTS.values(), ids=BAD_TEXTS)
def test_a_bad_text_is_refused_in_one_line_that_names_it(
    tmp_path: Path, content: bytes | None, says: str, soon: bool
) -> None:
    path = tmp_path / "bad.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=says) as caught:
        read(f"text:{path}")
    assert "\n" not in str(caught.value)
    assert "bad.txt" in str(caught.value)
    if soon:
        with pytest.raises(InputError, match=says):
            documents.find_source("text", str(path))


def test_a_path_is_no_pattern_and_one_bad_file_is_named_among_good_ones(tmp_path: Path) -> None:
    for name in ("[a]*?", "中 文", os.fsdecode(b"na\xefve")):
        (tmp_path / name).mkdir()
        for file, text in ((name, "not JSON: {1}\n{2}\n"), ("package.json", '{\n "a": {"b": 1}\n}\n')):
            (tmp_path / name / file).write_text(text)
        assert len(read(f"text:{tmp_path / name}")) == 2
        (tmp_path / name / "picture.png").write_bytes(b"\x89PNG\0")
        with pytest.raises(InputError, match=r"picture\.png is a binary file"):
            read(f"text:{tmp_path / name}")
    with pytest.raises(InputError, match=r"~nobody-is-called-so/book\.txt"):
        documents.find_source("text", "~nobody-is-called-so/book.txt")


def test_a_folder_of_hidden_files_is_empty_and_arguments_are_needed_or_not(tmp_path: Path) -> None:
    (tmp_path / ".hidden").write_text("not seen")
    for spec in (f"text:{tmp_path}", "python-stdlib:x", "python-env:x", "text:", "hub:"):
        with pytest.raises(InputError, match=ONE_LINE):
            read(spec)


def test_state_knows_of_a_changed_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def state(path: str) -> str:
        return documents.state(documents.find_source("text", path))

    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "t.txt").write_text("some text")
        os.utime(tmp_path / folder / "t.txt", (1, 1))
    monkeypatch.chdir(tmp_path / "one")
    before = state("t.txt")
    assert state(str(tmp_path / "one" / "t.txt")) == before
    monkeypatch.chdir(tmp_path / "two")
    assert state("t.txt") != before  # of the same name, size and time, but another file
    os.utime("t.txt", (2, 2))
    later = state("t.txt")
    Path("t.txt").write_text("other text")
    os.utime("t.txt", (2, 2))
    assert state("t.txt") != later
    source = documents.find_source("text", "t.txt")
    Path("t.txt").unlink()
    with pytest.raises(InputError, match=ONE_LINE):
        documents.state(source)


# ---- the hub

needs_datasets = pytest.mark.skipif(
    importlib.util.find_spec("datasets") is None,
    reason="the extra 'hub' (datasets) is not installed: reading of hub: corpora is not checked",
)


def test_the_hub_without_its_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"\A[^\n]*pip install[^\n]*hub[^\n]*\Z"):
        documents.find_source("hub", "owner/dataset")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A parquet file with columns of text, of other text and of numbers, and the same text as JSON."""
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow comes with datasets")
    from pyarrow import parquet

    texts = [f"Document {i}: Grüße.\n" for i in range(20)]
    columns = {"text": [*texts, None, " "], "body": [*texts[::-1], "x", "y"], "n": list(range(22))}
    parquet.write_table(pyarrow.table(columns), tmp_path / "table.parquet")
    (tmp_path / "table.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return tmp_path / "table.parquet"


@needs_datasets
def test_hub_reads_a_local_file_up_to_its_limit_of_bytes(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"Document {i}: Grüße.\n".encode() for i in range(20)]
    assert read(f"hub:{table}") == texts  # neither the missing row nor the blank one
    assert read(f"hub:{table.with_suffix('.jsonl')}") == texts
    assert read(f"hub:{table}:body") == [*texts[::-1], b"x", b"y"]
    assert documents.find_source("hub", f"{table}:body").label == "hub:table.parquet:body"
    monkeypatch.setattr(documents, "HUB_BYTES", 100)
    found = read(f"hub:{table}")
    assert sum(map(len, found[:-1])) < 100 <= sum(map(len, found))


@needs_datasets
def test_a_bad_hub_corpus_is_refused_in_one_line(table: Path) -> None:
    (table.parent / "broken.parquet").write_bytes(b"PAR1 and nothing else")
    for argument, says in [
        (f"{table}:nothing", "body, n, text"),
        (f"{table}:n", "holds no text"),
        (f"{table.parent}/missing.parquet", "does not exist"),
        (f"{table.parent}/broken.parquet", "cannot be read"),
        ("no such name", "write owner/name"),
    ]:
        with pytest.raises(InputError, match=rf"\A[^\n]*{says}[^\n]*\Z"):
            read(f"hub:{argument}")


@needs_datasets
def test_hub_names_reach_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked: list[dict[str, object]] = []

    def load_dataset(**arguments: object) -> list[dict[str, str]]:
        asked.append(arguments)
        return [{"body": "text"}]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert read("hub:owner/name@small:body") == [b"text"]
    assert asked == [{"path": "owner/name", "name": "small", "split": "train", "streaming": True}]
