"""Corpora: documents -> byte-level BPE -> 16-bit tokens in memory maps, made once and kept in a cache.

Documents are ordered by a SHA-256 of their own content, which is a random order that no file name or machine decides:
the same documents give the same tokens anywhere. (`python-stdlib` takes the SHA-256 of the file's name, which its
versions have in common.) The first of that order are the validation set.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scaling_lib.errors import InputError
from scaling_lib.lm import synthetic
from scaling_lib.lm.bpe import open_tokenizer, train_tokenizer, write_tokens
from scaling_lib.lm.cache import building, cache_folder, publish, read_folder, remove_leftovers, write_whole
from scaling_lib.lm.documents import Source, find_source, read_documents, state

if TYPE_CHECKING:
    from tokenizers import Tokenizer

KINDS = ("python-stdlib", "python-env", "random-walk", "hierarchy", "uniform", "text:PATH", "hub:ID")
SMALLEST_VOCABULARY = 257  # 256 bytes and the token that starts a document
LARGEST_VOCABULARY = 65_535  # tokens are stored in 16 bits
VAL_FRACTION = 0.05  # of the documents
SMALLEST_VAL_SHARE = 0.02  # of the bytes: with few documents, 5% of them may be none
BPE_BYTES = 2**25  # the tokenizer learns from this much of the training text; more changes it little
FORMAT = 1  # of what is kept in the cache; raise it when the split, the tokenizer or the files change


@dataclass(frozen=True, eq=False)
class Corpus:
    """A text as tokens, split into training and validation documents.

    Attributes
    ----------
    name : the corpus as asked for, such as "python-stdlib" or "text:PATH".
    fingerprint : SHA-256 (hex) of the sorted SHA-256s of the documents, whatever the vocabulary; of the
        tokens for a synthetic language.
    vocab_size : tokens are below it. The tokenizer may have learnt fewer: ``details["tokenizer_size"]``.
    train, val : uint16 memory maps (n_train_tokens,), (n_val_tokens,).
    val_document : int64 (n_val_documents + 1,), where each validation document begins in `val`, and its end.
    val_bytes_per_token : bytes of UTF-8 per validation token, counting the token that starts a document, so
        that ``loss / ln 2 / val_bytes_per_token`` is bits per byte; None for a synthetic language.
    entropy_rate : nats per token, exact, for a synthetic language; else None.
    n_documents, n_bytes : of the distinct documents, both parts together; for a synthetic language stretches
        of validation tokens, and 0.
    details : more for a record, as plain JSON data.
    folder : where the cache keeps it.
    """

    name: str
    fingerprint: str
    vocab_size: int
    train: np.ndarray
    val: np.ndarray
    val_document: np.ndarray
    val_bytes_per_token: float | None
    entropy_rate: float | None
    n_documents: int
    n_bytes: int
    details: dict[str, Any] = field(default_factory=dict)
    folder: Path = Path()

    @property
    def unit(self) -> int:
        """Windows begin at multiples of this many tokens, so that they hold whole strings; 1 for a text."""
        return int(self.details.get("unit", 1))

    def describe(self) -> dict[str, Any]:
        """What a run record keeps of the corpus: plain JSON data, and of a path only the last part."""
        return {
            "name": self.details.get("label", self.name),
            "fingerprint": self.fingerprint,
            "vocab_size": self.vocab_size,
            "n_train_tokens": len(self.train),
            "n_val_tokens": len(self.val),
            "n_documents": self.n_documents,
            "n_val_documents": len(self.val_document) - 1,
            "n_bytes": self.n_bytes,
            "bytes_per_token": self.val_bytes_per_token,
            "entropy_rate": self.entropy_rate,
            **{key: value for key, value in self.details.items() if key != "label"},
        }


def check_spec(spec: str, vocab_size: int) -> None:
    """Check a corpus's name and a vocabulary without reading the text.

    Raises
    ------
    InputError : an unknown kind or option, a text that is missing, empty or evidently not UTF-8, a library
        that is not installed, or a vocabulary outside 257 to 65,535.
    """
    _find(spec, vocab_size)


def load_corpus(
    spec: str, vocab_size: int, *, seed: int = 0, cache_dir: Path | None = None, progress: bool = False
) -> Corpus:
    """Open a corpus, making it first where the cache has none that is whole and up to date.

    Parameters
    ----------
    spec : "python-stdlib", "python-env", "text:PATH", "hub:ID", "uniform", "random-walk" or "hierarchy". The hub's
        may be "hub:ID@CONFIG:COLUMN"; the last three take options, "random-walk:degree=16,spread=0.5".
    vocab_size : 257 to 65,535.
    seed : of a synthetic language. Texts do not depend on it.
    cache_dir : default `cache_folder()`.
    progress : show bars on stderr.

    Raises
    ------
    InputError : as in `check_spec`; a text that is not UTF-8 or too small to be split; a cache that cannot be
        written.
    """
    found = _find(spec, vocab_size)
    root = Path(cache_dir) if cache_dir is not None else cache_folder()
    try:
        root.mkdir(parents=True, exist_ok=True)
        remove_leftovers(root)
        if isinstance(found, Source):
            return _load_text(spec, found, vocab_size, root, progress)
        return _load_synthetic(spec, *found, vocab_size, seed, root)
    except OSError as error:
        raise InputError(
            f"the corpus cache {root} cannot be used: {error.strerror or error}; "
            "free some space there or set SCALING_LIB_CACHE to another folder"
        ) from error


def load_tokenizer(corpus: Corpus) -> Tokenizer:
    """The tokenizer of a corpus of text: ``load_tokenizer(corpus).decode(corpus.val[:50].tolist())``."""
    if corpus.entropy_rate is not None:
        raise InputError(f"{corpus.name} is a synthetic language: its tokens are numbers, there is no tokenizer")
    return open_tokenizer(corpus.folder / "tokenizer.json")


def _find(spec: str, vocab_size: int) -> Source | tuple[str, dict[str, float]]:
    if not SMALLEST_VOCABULARY <= vocab_size <= LARGEST_VOCABULARY:
        raise InputError(
            f"vocabulary {vocab_size} must lie between {SMALLEST_VOCABULARY} (every byte, and the start of a "
            f"document) and {LARGEST_VOCABULARY} (16 bits a token)"
        )
    kind, _, argument = spec.partition(":")
    if kind in ("random-walk", "hierarchy", "uniform"):
        options = synthetic.parse_options(kind, argument)
        if kind == "random-walk":
            synthetic.check_walk(vocab_size, options["degree"], options["spread"])
        if kind == "hierarchy":
            synthetic.check_hierarchy(vocab_size, *(options[k] for k in ("depth", "rules", "children", "skew")))
        return kind, options
    if kind not in [name.partition(":")[0] for name in KINDS]:
        raise InputError(f"unknown corpus {spec!r}; there are {', '.join(KINDS)}")
    return find_source(kind, argument)


# ---------------------------------------------------------------------------------------------- texts


@dataclass(frozen=True, eq=False)
class _Spool:
    """Distinct documents in one file, so that they are read from their source once only.

    Attributes
    ----------
    keys : the SHA-256s (hex) that decide their order, sorted.
    spans : int64 (n_documents, 2), where each begins and ends in the file, in the same order.
    fingerprint : SHA-256 (hex) of the sorted SHA-256s of their contents.
    """

    path: Path
    keys: list[str]
    spans: np.ndarray
    fingerprint: str

    @property
    def sizes(self) -> np.ndarray:
        return self.spans[:, 1] - self.spans[:, 0]

    def texts(self, first: int, last: int) -> Iterator[str]:
        with self.path.open("rb") as file:
            for begin, end in self.spans[first:last].tolist():
                file.seek(begin)
                yield file.read(end - begin).decode()


def _load_text(spec: str, source: Source, vocab_size: int, root: Path, progress: bool) -> Corpus:
    version = metadata.version("tokenizers")

    def folder_of(fingerprint: str) -> Path:
        return root / f"{fingerprint[:20]}-{vocab_size}-bpe{version}-{FORMAT}"

    # A note from files (paths, sizes, times) to a fingerprint spares reading the documents again.
    note = root / f"files-{state(source)[:20]}.json"
    try:
        fingerprint = json.loads(note.read_text(encoding="utf-8"))["fingerprint"]
        content = read_folder(folder_of(fingerprint))
    except (OSError, ValueError, KeyError, TypeError):
        content = None
    if content is None:
        with building(root) as aside, building(root) as build:
            spool = _gather(source, aside / "documents", progress)
            fingerprint = spool.fingerprint
            content = read_folder(folder_of(fingerprint))  # made before, from files that have moved since
            if content is None:
                content = {"fingerprint": fingerprint, **_tokenize(spool, vocab_size, build, progress)}
                content = publish(build, folder_of(fingerprint), content)
        write_whole(note, json.dumps({"fingerprint": fingerprint}))
    return _corpus(folder_of(fingerprint), content, spec, source.label)


def _gather(source: Source, path: Path, progress: bool) -> _Spool:
    digests: set[str] = set()
    where: dict[str, tuple[int, int]] = {}
    end = 0
    total = sum(file.stat().st_size for file in source.files) or None
    with path.open("wb") as out, _bar("reading", total, progress) as bar:
        for key, document in read_documents(source):
            bar.update(len(document))
            digest = sha256(document).hexdigest()
            if digest not in digests:
                out.write(document)
                digests.add(digest)
                where[key] = (end, end + len(document))
                end += len(document)
    if len(where) < 2:
        raise InputError(
            f"corpus {source.label}: {end} bytes in {len(where)} distinct document(s), too small to be split "
            "into training and validation; give a text of 8 kB or more, or several files"
        )
    keys = sorted(where)
    spans = np.array([where[key] for key in keys], np.int64)
    return _Spool(path, keys, spans, sha256("".join(sorted(digests)).encode()).hexdigest())


def n_validation(keys: list[str], sizes: np.ndarray) -> int:
    """How many documents, the first in the order of their hashes, are for validation.

    Those whose hash lies in the first `VAL_FRACTION` of all hashes, so that a document stays where it is when
    others come or go. Where these hold less than `SMALLEST_VAL_SHARE` of the bytes, which happens when
    documents are few, the next ones too. At least one is left for training.

    Parameters
    ----------
    keys : SHA-256s in hex, sorted; at least two.
    sizes : (n_documents,) bytes of each.
    """
    by_hash = sum(int(key[:12], 16) < VAL_FRACTION * 16**12 for key in keys)
    share = np.cumsum(sizes) / np.sum(sizes)
    enough = 1 + int(np.searchsorted(share, SMALLEST_VAL_SHARE))
    return min(max(by_hash, enough), len(keys) - 1)


def _tokenize(spool: _Spool, vocab_size: int, build: Path, progress: bool) -> dict[str, Any]:
    """Learn a vocabulary from training documents, write a corpus's files, return what to keep with them."""
    sizes = spool.sizes
    n_val, n = n_validation(spool.keys, sizes), len(sizes)
    # The order of hashes is random, so the first training documents are a fair sample of all.
    n_learn = max(1, int(np.searchsorted(np.cumsum(sizes[n_val:]), BPE_BYTES, side="right")))
    learn_bytes = int(sizes[n_val : n_val + n_learn].sum())
    with _bar("vocabulary", None, progress):
        tokenizer = train_tokenizer(spool.texts(n_val, n_val + n_learn), vocab_size)
    (build / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    with _bar("encoding", int(sizes.sum()), progress) as bar:
        lengths = write_tokens(tokenizer, spool.texts(0, n_val), build / "val.bin", bar.update)
        write_tokens(tokenizer, spool.texts(n_val, n), build / "train.bin", bar.update)
    np.save(build / "val_document.npy", np.concatenate([[0], np.cumsum(lengths)]))
    return {
        "vocab_size": vocab_size,
        "val_bytes_per_token": float(sizes[:n_val].sum() / lengths.sum()),
        "entropy_rate": None,
        "n_documents": n,
        "n_bytes": int(sizes.sum()),
        "details": {
            "tokenizer": f"byte-level BPE, tokenizers {metadata.version('tokenizers')}",
            "tokenizer_size": tokenizer.get_vocab_size(),
            "tokenizer_bytes": learn_bytes,
        },
    }


# ---------------------------------------------------------------------------------------------- synthetic
# languages


def _load_synthetic(spec: str, kind: str, options: dict[str, float], vocab_size: int, seed: int, root: Path) -> Corpus:
    label = f"{kind}:" + ",".join(f"{key}={value}" for key, value in sorted(options.items()))
    # A new NumPy may draw other numbers from the same seed.
    key = sha256(json.dumps([label, seed, np.__version__]).encode()).hexdigest()
    folder = root / f"{kind}-{key[:20]}-{vocab_size}-{FORMAT}"
    content = read_folder(folder)
    if content is None:
        with building(root) as build:
            train, val, entropy_rate = synthetic.generate(kind, vocab_size, options, seed)
            train.tofile(build / "train.bin")
            val.tofile(build / "val.bin")
            begins = np.append(np.arange(0, len(val), synthetic.STRETCH), len(val))
            np.save(build / "val_document.npy", begins.astype(np.int64))
            content = {
                "fingerprint": sha256(sha256(train.tobytes()).digest() + sha256(val.tobytes()).digest()).hexdigest(),
                "vocab_size": vocab_size,
                "val_bytes_per_token": None,
                "entropy_rate": entropy_rate,
                "n_documents": len(begins) - 1,
                "n_bytes": 0,
                "details": {"seed": seed, "unit": synthetic.unit(kind, options), **options},
            }
            content = publish(build, folder, content)
    return _corpus(folder, content, spec, label)


# ---------------------------------------------------------------------------------------------- both


def _corpus(folder: Path, content: dict[str, Any], spec: str, label: str) -> Corpus:
    return Corpus(
        name=spec,
        train=np.memmap(folder / "train.bin", np.uint16, mode="r"),
        val=np.memmap(folder / "val.bin", np.uint16, mode="r"),
        val_document=np.load(folder / "val_document.npy", allow_pickle=False),
        folder=folder,
        **{**content, "details": {"label": label, **content["details"]}},
    )


def _bar(what: str, total: int | None, progress: bool) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, desc=what, unit="B", unit_scale=True, disable=not progress)
