"""Where documents come from: the interpreter's sources, installed packages, text files, the Hugging Face hub.

`find_source` turns a corpus name into a `Source`, cheaply: it lists files and looks at none but their sizes.
`read_documents` then yields the documents, each as valid UTF-8 bytes, with the key that decides its place.
"""

from __future__ import annotations

import codecs
import contextlib
import importlib.util
import json
import os
import re
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from importlib import metadata, resources
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scaling_lib.errors import InputError

# A file of text longer than two of these (in characters) is cut at blank lines into documents of at least
# one, so that a single file can have a validation part. 4,096 makes 270 documents of a megabyte.
PIECE = 4096
# A dataset of the hub is read from its beginning until this many bytes: about one epoch of the
# largest `full` run.
HUB_BYTES = 10**9
# Raise this when the reading below changes, so that what older versions noted about the same
# files is not believed.
READER_VERSION = 2

# Test packages are left out (some distributions do not ship them), and so is what differs between machines
# with the same Python: build settings and local customisation.
_NOT_LIBRARY = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
_NOT_SOURCE = re.compile(r"_sysconfigdata|sitecustomize\.py|usercustomize\.py")


@dataclass(frozen=True)
class Source:
    """Documents that have been found but not read.

    Attributes
    ----------
    kind : "python-stdlib", "python-env", "text" or "hub".
    label : the corpus name for a record: of a path only the last part.
    files : the files to read, in order; empty for a dataset on the hub.
    root : where set, a document's place in the corpus is decided by its file's name below this folder, not by its
        content, so that an edited file stays on its side of the split.
    dataset, config, column : what to read of the hub.
    """

    kind: str
    label: str
    files: tuple[Path, ...] = ()
    root: Path | None = None
    dataset: str = ""
    config: str | None = None
    column: str = "text"


def find_source(kind: str, argument: str) -> Source:
    """List the files of a corpus, or check that a dataset can be asked for.

    Raises
    ------
    InputError : nothing is there, or an argument is missing or not wanted.
    """
    if kind in ("python-stdlib", "python-env"):
        if argument:
            raise InputError(f"corpus {kind}:{argument}: {kind} takes no argument; write {kind}")
        if kind == "python-stdlib":
            return Source(kind, kind, tuple(shared_files()), Path(sysconfig.get_path("stdlib")))
        return Source(kind, kind, tuple(stdlib_files() + package_files()))
    if not argument:
        example = "text:book.txt" if kind == "text" else "hub:owner/dataset"
        raise InputError(f"corpus {kind}: says not which; write for example {example}")
    return _text_source(argument) if kind == "text" else _hub_source(argument)


def read_documents(source: Source) -> Iterator[tuple[str, bytes]]:
    """Yield the documents of a source as UTF-8 bytes, none of them blank.

    Each comes after its key, a SHA-256 (hex): sorted by it documents stand in a random order that the key alone
    decides. The key is that of the content, or of the file's name where the source has a `root`.

    Raises
    ------
    InputError : a text is not UTF-8 or is a binary file; the hub, or a column of its dataset, is not there.
    """
    if source.kind == "hub":
        yield from map(_by_content, _read_hub(source))
        return
    for path in source.files:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InputError(f"corpus {source.label}: cannot read {path}: {error.strerror}") from None
        if source.kind == "text":
            pieces = cut(_decode(content, path))
            yield from (_by_content(piece.encode()) for piece in pieces if piece.strip())
        elif content.strip() and _is_utf8(content):  # the few sources in other encodings are skipped
            if source.root is None:
                yield _by_content(content)
            else:
                name = path.relative_to(source.root).as_posix()
                yield sha256(name.encode()).hexdigest(), content.replace(b"\r\n", b"\n")  # Windows ends lines so


def _by_content(document: bytes) -> tuple[str, bytes]:
    return sha256(document).hexdigest(), document


def state(source: Source) -> str:
    """A SHA-256 over the paths, sizes and modification times of a source's files: has anything changed?

    A dataset of the hub has no such state here: its name stands for it, and once read it is not read again.
    """
    try:
        stats = [(os.path.abspath(path), (stat := path.stat()).st_size, stat.st_mtime_ns) for path in source.files]
    except OSError as error:
        raise InputError(f"corpus {source.label}: cannot read {error.filename}: {error.strerror}") from None
    options = (source.kind, source.dataset, source.config, source.column, HUB_BYTES)
    return sha256(json.dumps([READER_VERSION, options, stats]).encode()).hexdigest()


# ---------------------------------------------------------------------------------------------- Python


def shared_files() -> list[Path]:
    """The .py files of the standard library that every Python from 3.11 to 3.14 has, by a list; sorted.

    Not on it are modules that came or went between these versions, parts that some distributions leave out, and text
    that a program wrote: the tables of ``encodings`` and the topics of ``pydoc``.
    """
    root = Path(sysconfig.get_path("stdlib"))
    names = (resources.files("scaling_lib.lm") / "stdlib_files.txt").read_text("utf-8").split()
    files = sorted(root / name for name in names if (root / name).is_file())
    if not files:
        raise _no_library(root)
    return files


def _no_library(root: Path) -> InputError:
    return InputError(
        f"corpus python-stdlib: no .py files in {root} (a zipped or frozen Python?); "
        "use a Python with its library as files, or text:PATH"
    )


def stdlib_files() -> list[Path]:
    """The .py files of the running interpreter's whole standard library, without its test packages; sorted."""
    root = Path(sysconfig.get_path("stdlib"))
    files = []
    for folder, below, names in os.walk(root):
        below[:] = [name for name in below if name not in _NOT_LIBRARY and not name.startswith("config-")]
        files += [Path(folder, n) for n in names if n.endswith(".py") and not _NOT_SOURCE.match(n)]
    if not files:
        raise _no_library(root)
    return sorted(files)


def package_files() -> list[Path]:
    """The .py files of the packages that `package_names` lists, none from outside site-packages; sorted."""
    files: set[Path] = set()
    inside: dict[str, bool] = {}
    for name in package_names():
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # required, but broken or removed since
        site = os.path.realpath(str(distribution.locate_file("")))
        for entry in distribution.files or []:
            if entry.suffix != ".py" or ".." in entry.parts or entry.is_absolute():
                continue
            folder, path = os.path.join(site, *entry.parts[:-1]), os.path.join(site, *entry.parts)
            if folder not in inside:  # a linked folder may lead elsewhere: its real place decides
                inside[folder] = Path(os.path.realpath(folder)).is_relative_to(site)
            if inside[folder] and os.path.isfile(path) and not os.path.islink(path):
                files.add(Path(path))
    return sorted(files)


def package_names() -> list[str]:
    """The packages of `python-env`: those that scaling_lib requires, and what they require in turn, on this platform.

    Without its extras: the same text whether or not notebooks, tests or linters are installed beside it.
    """
    try:
        wanted = [(line, "") for line in metadata.requires("scaling-lib") or []]
    except metadata.PackageNotFoundError:
        raise InputError(
            "corpus python-env: scaling_lib is not installed, so nothing says which packages it needs; "
            "run pip install -c constraints.txt -e . or use python-stdlib"
        ) from None
    found: set[tuple[str, str]] = set()  # name, extra
    while wanted:
        line, extra = wanted.pop()
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        for asked in {"", *requirement.extras}:
            if (name, asked) in found:
                continue
            found.add((name, asked))
            with contextlib.suppress(metadata.PackageNotFoundError):
                wanted += [(line, asked) for line in metadata.requires(name) or []]
    return sorted({name for name, _ in found})


# ---------------------------------------------------------------------------------------------- text


def _text_source(argument: str) -> Source:
    path = Path(argument).expanduser()
    if not path.exists():
        raise InputError(f"corpus text: {path} does not exist; give a file or a folder of UTF-8 text")
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and not _is_hidden(p.relative_to(path)))
    else:
        files = [path]
    files = [file for file in files if file.stat().st_size]
    if not files:
        raise InputError(f"corpus text: {path} is empty; give a file or a folder of UTF-8 text")
    for file in files[:100]:  # a look at the beginnings finds most mistakes before anything is planned
        try:
            with file.open("rb") as handle:
                beginning = handle.read(4096)
        except OSError as error:
            raise InputError(f"corpus text: cannot read {file}: {error.strerror}") from None
        _decode(beginning, file, whole=len(beginning) < 4096)
    return Source("text", f"text:{path.resolve().name}", tuple(files))


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _decode(content: bytes, path: Path, whole: bool = True) -> str:
    """Text of a file, or of its beginning, which may end inside a character."""
    if b"\0" in content:
        raise InputError(f"corpus text: {path} is a binary file (it has zero bytes); give UTF-8 text only")
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(content, final=whole)
    except UnicodeDecodeError as error:
        raise InputError(
            f"corpus text: {path} is not UTF-8 (byte {error.start}); convert it, for example with iconv -t utf-8"
        ) from None


def cut(text: str, piece: int = PIECE) -> list[str]:
    """Cut a text at blank lines into pieces of at least `piece` characters; joined they give the text again.

    Where no blank line comes within 16 pieces the cut is made at a line's end, and where there is none
    either, at `piece` characters. What would remain as less than one piece stays with the last.
    """
    pieces, begin = [], 0
    while len(text) - begin >= 2 * piece:
        low, high = begin + piece, min(begin + 16 * piece, len(text) - piece)
        blank = re.compile(r"\n[ \t\r]*\n").search(text, low, high)
        line = text.find("\n", low, high)
        end = blank.end() if blank else line + 1 if line >= 0 else low
        pieces.append(text[begin:end])
        begin = end
    return [*pieces, text[begin:]]


# ---------------------------------------------------------------------------------------------- the hub


def _hub_source(argument: str) -> Source:
    """`ID`, `ID@CONFIG` or the path of a .parquet, .json or .jsonl file, each perhaps with `:COLUMN`."""
    name, column = argument, "text"
    if not Path(name).expanduser().is_file() and ":" in name:
        name, column = name.rsplit(":", 1)
    path = Path(name).expanduser()
    if importlib.util.find_spec("datasets") is None:
        raise InputError(f"corpus hub:{argument}: needs the datasets library; install it with: pip install -e '.[hub]'")
    if _loader(path):
        if not path.is_file():
            raise InputError(f"corpus hub: {path} does not exist; give a file, or a dataset as owner/name")
        return Source("hub", f"hub:{path.name}:{column}", (path,), column=column)
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?(@[\w.-]+)?", name):
        raise InputError(f"corpus hub: {name!r} is no dataset's name; write owner/name or owner/name@config")
    dataset, _, config = name.partition("@")
    return Source("hub", f"hub:{name}:{column}", dataset=dataset, config=config or None, column=column)


def _loader(path: Path) -> str | None:
    """Which of the loaders that `datasets` has for files reads this one, by its suffix."""
    return {".parquet": "parquet", ".json": "json", ".jsonl": "json"}.get(path.suffix.lower())


def _read_hub(source: Source) -> Iterator[bytes]:
    """Stream the rows of the dataset's training split until `HUB_BYTES`."""
    import datasets

    rows: Iterator[dict[str, object]] | None = None
    n_bytes = 0
    while n_bytes < HUB_BYTES:
        said = datasets.logging.get_verbosity()
        datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # our one line says what is wrong
        try:
            if rows is None:
                where = {"path": source.dataset, "name": source.config}
                if source.files:
                    where = {"path": _loader(source.files[0]), "data_files": str(source.files[0])}
                rows = iter(datasets.load_dataset(**where, split="train", streaming=True))
            row = next(rows, None)
        except Exception as error:  # the library raises its own, the network's and the file formats' errors
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            advice = "check the file" if source.files else "check its name, its configuration and the network"
            raise InputError(f"corpus {source.label}: cannot be read: {reason}; {advice}") from error
        finally:
            datasets.logging.set_verbosity(said)
        if row is None:
            return
        if source.column not in row:
            raise InputError(
                f"corpus {source.label}: there is no column {source.column!r}; "
                f"write hub:ID:COLUMN with one of {', '.join(sorted(row))}"
            )
        text = row[source.column]
        if text is not None and not isinstance(text, str):
            raise InputError(f"corpus {source.label}: column {source.column!r} holds no text; name another")
        if text and text.strip():
            document = text.encode(errors="replace")  # a JSON string may hold half a surrogate pair
            n_bytes += len(document)
            yield document
