"""Where documents come from: the interpreter's sources, installed packages, text files, the Hugging Face hub.

`find_source` turns a corpus name into a `Source`, cheaply: it lists files and looks at none but their sizes.
`read_documents` then yields the documents, each as valid UTF-8 bytes, with the key that decides its place.
"""

import codecs
import contextlib
import functools
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
from scaling_lib.files import plainly, with_home
from scaling_lib.machine import memory_bytes

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
# Which of the loaders that `datasets` has for files reads a file, by its suffix.
_LOADERS = {".parquet": "parquet", ".json": "json", ".jsonl": "json"}
# The beginning of a file of records, one a line or in a list: their braces and names are no text to learn.
_RECORDS = re.compile(r'\ufeff?\s*(\{\s*"[^\n]*\}\s*\n|\[\s*\{\s*"(?s:.*?)\}\s*,)\s*\{\s*"')


@dataclass(frozen=True)
class Source:
    """Documents that have been found but not read."""

    kind: str  # "python-stdlib", "python-env", "text" or "hub"
    label: str  # the corpus name for a record: of a path only the last part
    files: tuple[Path, ...] = ()  # to read, in order; empty for a dataset on the hub
    # Where set, a document's place in the corpus is decided by its file's name below this folder, not by its
    # content, so that an edited file stays on its side of the split.
    root: Path | None = None
    dataset: str = ""  # what to read of the hub
    config: str | None = None
    column: str = "text"


def find_source(kind: str, argument: str) -> Source:
    """List the files of a corpus, or check that a dataset can be asked for.

    Raises
    ------
    InputError
        Nothing is there, or an argument is missing or not wanted.
    """
    if kind in ("python-stdlib", "python-env"):
        if argument:
            raise InputError(f"corpus {kind}:{argument}: {kind} takes no argument; write {kind}")
        if kind == "python-stdlib":
            return Source(kind, kind, tuple(shared_files()), _library())
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
    InputError
        A text is not UTF-8 or is a binary file; the hub, or a column of its dataset, is not there.
    """
    if source.kind == "hub":
        yield from ((sha256(document).hexdigest(), document) for document in _read_hub(source))
        return
    for path in source.files:
        with plainly(f"corpus {source.label}: cannot read {path}"):
            content = path.read_bytes()
        if source.kind == "text":
            documents = [piece.encode() for piece in cut(_decode(content, path)) if piece.strip()]
            yield from ((sha256(document).hexdigest(), document) for document in documents)
        elif content.strip() and _is_utf8(content):  # the few sources in other encodings are skipped
            if source.root is None:
                yield sha256(content).hexdigest(), content
            else:
                name = path.relative_to(source.root).as_posix()
                yield sha256(name.encode()).hexdigest(), content.replace(b"\r\n", b"\n")  # Windows ends lines so


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


# ---- Python


def _library() -> Path:
    return Path(sysconfig.get_path("stdlib"))


def shared_files() -> list[Path]:
    """The .py files of the standard library that every Python from 3.11 to 3.14 has, by a list; sorted.

    Not on it are modules that came or went between these versions, parts that some distributions leave out, and text
    that a program wrote: the tables of ``encodings`` and the topics of ``pydoc``.
    """
    names = (resources.files("scaling_lib.lm") / "stdlib_files.txt").read_text("utf-8").split()
    return _some(path for path in (_library() / name for name in names) if path.is_file())


def stdlib_files() -> list[Path]:
    """The .py files of the running interpreter's whole standard library, without its test packages; sorted."""
    files: list[Path] = []
    for folder, below, names in os.walk(_library()):
        below[:] = [name for name in below if name not in _NOT_LIBRARY and not name.startswith("config-")]
        files += [Path(folder, n) for n in names if n.endswith(".py") and not _NOT_SOURCE.match(n)]
    return _some(iter(files))


def _some(files: Iterator[Path]) -> list[Path]:
    found = sorted(files)
    if not found:
        raise InputError(
            f"corpus python-stdlib: no .py files in {_library()} (a zipped or frozen Python?); "
            "use a Python with its library as files, or text:PATH"
        )
    return found


def package_files() -> list[Path]:
    """The .py files of the packages that `package_names` lists, none from outside site-packages; sorted."""
    files: set[Path] = set()
    real = functools.cache(os.path.realpath)
    for name in package_names():
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # required, but broken or removed since
        site = real(str(distribution.locate_file("")))
        for entry in distribution.files or []:
            path = Path(site, *entry.parts)
            if entry.suffix != ".py" or ".." in entry.parts or path.is_symlink() or not path.is_file():
                continue
            if Path(real(path.parent)).is_relative_to(site):  # a linked folder may lead elsewhere
                files.add(path)
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


# ---- text


def _text_source(argument: str) -> Source:
    path = with_home(argument)
    if not path.exists():
        raise InputError(f"corpus text: {path} does not exist; give a file or a folder of UTF-8 text")
    found = [path]
    if path.is_dir():
        below = ((p, p.relative_to(path).parts) for p in sorted(path.rglob("*")))
        found = [p for p, parts in below if p.is_file() and not any(part.startswith(".") for part in parts)]
    files = [file for file in found if file.stat().st_size]
    if not files:
        raise InputError(f"corpus text: {path} is empty; give a file or a folder of UTF-8 text")
    if (size := sum(file.stat().st_size for file in files)) > memory_bytes() / 4:
        raise InputError(
            f"corpus text: {path} has {size / 1e9:.1f} GB, too much for {memory_bytes() / 1e9:.1f} GB of memory, in "
            "which its documents are held several times; give a part of it"
        )
    for file in files[:100]:  # a look at the beginnings finds most mistakes before anything is planned
        with plainly(f"corpus text: cannot read {file}"), file.open("rb") as handle:
            beginning = handle.read(2**16)
        _decode(beginning, file, whole=len(beginning) < 2**16)
    return Source("text", f"text:{path.resolve().name}", tuple(files))


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
        text = codecs.getincrementaldecoder("utf-8")().decode(content, final=whole)
    except UnicodeDecodeError as error:
        raise InputError(
            f"corpus text: {path} is not UTF-8 (byte {error.start}); convert it: iconv -f LATIN1 -t UTF-8 old.txt > "
            "new.txt (or -f GBK, or whatever it is in)"
        ) from None
    if path.suffix.lower() in (".jsonl", ".ndjson") or _RECORDS.match(text):
        raise InputError(
            f"corpus text: {path} holds records in JSON, not text; hub:{path.stem}.jsonl:COLUMN reads one column of a "
            "file with that ending"
        )
    return text


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


# ---- the hub


def _hub_source(argument: str) -> Source:
    """`ID`, `ID@CONFIG` or the path of a .parquet, .json or .jsonl file, each perhaps with `:COLUMN`."""
    name, column = argument, "text"
    if not with_home(name).is_file() and ":" in name:
        name, column = name.rsplit(":", 1)
    path = with_home(name)
    if importlib.util.find_spec("datasets") is None:
        raise InputError(f"corpus hub:{argument}: needs the datasets library; install it with: pip install -e '.[hub]'")
    if path.suffix.lower() in _LOADERS:
        if not path.is_file():
            raise InputError(f"corpus hub: {path} does not exist; give a file, or a dataset as owner/name")
        return Source("hub", f"hub:{path.name}:{column}", (path,), column=column)
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?(@[\w.-]+)?", name):
        raise InputError(f"corpus hub: {name!r} is no dataset's name; write owner/name or owner/name@config")
    dataset, _, config = name.partition("@")
    return Source("hub", f"hub:{name}:{column}", dataset=dataset, config=config or None, column=column)


def _read_hub(source: Source) -> Iterator[bytes]:
    """Stream the rows of the dataset's training split until `HUB_BYTES`."""
    import datasets

    where: dict[str, str | None] = {"path": source.dataset, "name": source.config}
    for path in source.files:
        where = {"path": _LOADERS[path.suffix.lower()], "data_files": str(path)}
    said = datasets.logging.get_verbosity()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # our one line says what is wrong
    n_bytes = 0
    try:
        for row in datasets.load_dataset(**where, split="train", streaming=True):
            document = _text_of(row, source).encode(errors="replace")  # JSON may hold half a surrogate pair
            if document.strip():
                n_bytes += len(document)
                yield document
            if n_bytes >= HUB_BYTES:
                return
    except InputError:
        raise
    except Exception as error:  # the library raises its own, the network's and the file formats' errors
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        advice = "check the file" if source.files else "check its name, its configuration and the network"
        raise InputError(f"corpus {source.label}: cannot be read: {reason}; {advice}") from error
    finally:
        datasets.logging.set_verbosity(said)


def _text_of(row: dict[str, object], source: Source) -> str:
    """The document in a row; the empty text where the row has none."""
    if source.column not in row:
        columns = ", ".join(sorted(row))
        raise InputError(
            f"corpus {source.label}: there is no column {source.column!r}; write hub:ID:COLUMN with one of {columns}"
        )
    text = row[source.column]
    if text is not None and not isinstance(text, str):
        raise InputError(f"corpus {source.label}: column {source.column!r} holds no text; name another")
    return text if text and text.strip() else ""
