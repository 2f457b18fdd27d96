"""Corpora: documents -> byte-level BPE -> 16-bit tokens in memory maps, made once and kept in a cache.

Documents are ordered by a SHA-256 of their own content, which is a random order that no file name or machine decides:
the same documents give the same tokens anywhere. (`python-stdlib` takes the SHA-256 of the file's name, which its
versions have in common.) The first of that order are the validation set.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scaling_lib.config import MAX_VOCAB, MIN_VOCAB
from scaling_lib.errors import InputError
from scaling_lib.files import plainly, remove_leftovers, write_atomically
from scaling_lib.lm import synthetic
from scaling_lib.lm.bpe import open_tokenizer, train_tokenizer, write_tokens
from scaling_lib.lm.cache import building, cache_folder, publish, read_folder
from scaling_lib.lm.documents import Source, find_source, read_documents, state

if TYPE_CHECKING:
    from tokenizers import Tokenizer

KINDS = ("python-stdlib", "python-env", "random-walk", "hierarchy", "uniform", "text:PATH", "hub:ID")
VAL_FRACTION = 0.05  # of the documents
SMALLEST_VAL_SHARE = 0.02  # of the bytes: with few documents, 5% of them may be none
BPE_BYTES = 2**25  # the tokenizer learns from this much of the training text; more changes it little
FORMAT = 1  # of what is kept in the cache; raise it when the split, the tokenizer or the files change


@dataclass(frozen=True, eq=False)
class Corpus:
    """A text or a synthetic language as tokens, split into training and validation documents."""

    name: str  # the corpus as asked for, such as "python-stdlib" or "text:PATH"
    # SHA-256 (hex) of the sorted SHA-256s of the documents, whatever the vocabulary; of a language, of its tokens.
    fingerprint: str
    vocab_size: int  # tokens are below it; the tokenizer may have learnt fewer: ``details["tokenizer_size"]``
    train: np.ndarray  # uint16 memory map (n_train_tokens,)
    val: np.ndarray  # uint16 memory map (n_val_tokens,)
    val_document: np.ndarray  # int64 (n_val_documents + 1,): where each validation document begins, and the end
    # Bytes of UTF-8 per validation token, counting the token that starts a document, so that
    # ``loss / ln 2 / val_bytes_per_token`` is bits per byte; None for a synthetic language.
    val_bytes_per_token: float | None
    entropy_rate: float | None  # nats per token, exact, of a synthetic language; else None
    n_documents: int  # distinct, both parts together; of a language, stretches of validation tokens
    n_bytes: int  # of these documents; 0 of a language
    details: dict[str, Any] = field(default_factory=dict)  # more for a record, as plain JSON data
    folder: Path = Path()  # where the cache keeps it

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
    InputError
        An unknown kind or option, a text that is missing, empty or evidently not UTF-8, a library that is not
        installed, or a vocabulary outside 257 to 65,535.
    """
    _find(spec, vocab_size)


def load_corpus(
    spec: str, vocab_size: int, *, seed: int = 0, cache_dir: Path | None = None, progress: bool = False
) -> Corpus:
    """Open a corpus, making it first where the cache has none that is whole and up to date.

    Parameters
    ----------
    spec : str
        "python-stdlib", "python-env", "text:PATH", "hub:ID", "uniform", "random-walk" or "hierarchy". The hub's
        may be "hub:ID@CONFIG:COLUMN"; the last three take options, "random-walk:degree=16,spread=0.5".
    vocab_size : int
        257 to 65,535.
    seed : int
        Of a synthetic language. Texts do not depend on it.
    cache_dir : Path, optional
        By default `cache_folder()`.
    progress : bool
        Show bars on stderr.

    Raises
    ------
    InputError
        As in `check_spec`; a text that is not UTF-8 or too small to be split; a cache that cannot be written.
    """
    found = _find(spec, vocab_size)
    root = Path(cache_dir) if cache_dir is not None else cache_folder()
    mend = "; free some space there or set SCALING_LIB_CACHE to another folder"
    with plainly(f"the corpus cache {root} cannot be used", mend):
        root.mkdir(parents=True, exist_ok=True)
        remove_leftovers(root)
        if isinstance(found, Source):
            folder, content, label = _open_text(found, vocab_size, root, progress)
        else:
            folder, content, label = _open_language(*found, vocab_size, seed, root)
        return Corpus(
            name=spec,
            train=np.memmap(folder / "train.bin", np.uint16, mode="r"),
            val=np.memmap(folder / "val.bin", np.uint16, mode="r"),
            val_document=np.load(folder / "val_document.npy", allow_pickle=False),
            folder=folder,
            **{**content, "details": {"label": label, **content["details"]}},
        )


def load_tokenizer(corpus: Corpus) -> Tokenizer:
    """The tokenizer of a corpus of text: ``load_tokenizer(corpus).decode(corpus.val[:50].tolist())``."""
    if corpus.entropy_rate is not None:
        raise InputError(f"{corpus.name} is a synthetic language: its tokens are numbers, there is no tokenizer")
    return open_tokenizer(corpus.folder / "tokenizer.json")


def _find(spec: str, vocab_size: int) -> Source | tuple[str, dict[str, Any]]:
    if not MIN_VOCAB <= vocab_size <= MAX_VOCAB:
        raise InputError(
            f"vocabulary {vocab_size} must lie between {MIN_VOCAB} (every byte, and the start of a document) and "
            f"{MAX_VOCAB} (16 bits a token)"
        )
    kind, _, argument = spec.partition(":")
    if kind not in [name.partition(":")[0] for name in KINDS]:
        raise InputError(f"unknown corpus {spec!r}; there are {', '.join(KINDS)}")
    if kind in synthetic.LANGUAGES:
        return kind, synthetic.parse_options(kind, argument, vocab_size)
    return find_source(kind, argument)


Opened = tuple[Path, dict[str, Any], str]  # a folder of the cache, its content, and the corpus's name for a record


def _open(folder: Path, make: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """The content of a folder of the cache, made where there is none that is whole."""
    content = read_folder(folder)
    if content is None:
        with building(folder) as build:
            content = publish(build, folder, make(build))
    return content


def _open_text(source: Source, vocab_size: int, root: Path, progress: bool) -> Opened:
    def folder_of(fingerprint: str) -> Path:
        return root / f"{fingerprint[:20]}-{vocab_size}-bpe{metadata.version('tokenizers')}-{FORMAT}"

    # A note from files (paths, sizes, times) to a fingerprint spares reading the documents again.
    note = root / f"files-{state(source)[:20]}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        folder = folder_of(json.loads(note.read_text(encoding="utf-8"))["fingerprint"])
        if content := read_folder(folder):
            return folder, content, source.label
    keys, documents = _gather(source, progress)
    digests = sorted(sha256(document).hexdigest() for document in documents)
    fingerprint = sha256("".join(digests).encode()).hexdigest()
    folder = folder_of(fingerprint)  # which may be there, made from files that have moved since

    def make(build: Path) -> dict[str, Any]:
        return {"fingerprint": fingerprint, **_tokenize(keys, documents, vocab_size, build, progress)}

    content = _open(folder, make)
    with suppress(InputError):  # all is there without it
        write_atomically(note, json.dumps({"fingerprint": fingerprint}).encode())
    return folder, content, source.label


def _gather(source: Source, progress: bool) -> tuple[list[str], list[bytes]]:
    """The distinct documents of a source in the order of their keys, and these keys, SHA-256s in hex."""
    seen: set[bytes] = set()
    found: dict[str, bytes] = {}
    total = sum(file.stat().st_size for file in source.files) or None
    with _bar("reading", total, progress) as bar:
        for key, document in read_documents(source):
            bar.update(len(document))
            digest = sha256(document).digest()
            if digest not in seen:
                seen.add(digest)
                found[key] = document
    if len(found) < 2:
        raise InputError(
            f"corpus {source.label}: {sum(map(len, found.values()))} bytes in {len(found)} distinct document(s), too "
            "small to be split into training and validation; give a text of 8 kB or more, or several files"
        )
    keys = sorted(found)
    return keys, [found[key] for key in keys]


def n_validation(keys: list[str], sizes: np.ndarray) -> int:
    """How many documents, the first in the order of their hashes, are for validation.

    Those whose hash lies in the first `VAL_FRACTION` of all hashes, so that a document stays where it is when
    others come or go. Where these hold less than `SMALLEST_VAL_SHARE` of the bytes, which happens when
    documents are few, the next ones too. At least one is left for training.

    ``keys`` are SHA-256s in hex, sorted, two or more; ``sizes``, integers (n_documents,), the bytes of each.
    """
    by_hash = sum(int(key[:12], 16) < VAL_FRACTION * 16**12 for key in keys)
    share = np.cumsum(sizes) / np.sum(sizes)
    enough = 1 + int(np.searchsorted(share, SMALLEST_VAL_SHARE))
    return min(max(by_hash, enough), len(keys) - 1)


def _tokenize(keys: list[str], documents: list[bytes], vocab_size: int, build: Path, progress: bool) -> dict[str, Any]:
    """Learn a vocabulary from training documents, write a corpus's files, return what to keep with them."""
    sizes = np.array([len(document) for document in documents])
    n_val = n_validation(keys, sizes)
    # The order of hashes is random, so the first training documents are a fair sample of all.
    n_learn = max(1, int(np.searchsorted(np.cumsum(sizes[n_val:]), BPE_BYTES, side="right")))
    with _bar("vocabulary", None, progress):
        tokenizer = train_tokenizer((d.decode() for d in documents[n_val : n_val + n_learn]), vocab_size)
    (build / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    with _bar("encoding", int(sizes.sum()), progress) as bar:
        lengths = write_tokens(tokenizer, (d.decode() for d in documents[:n_val]), build / "val.bin", bar.update)
        write_tokens(tokenizer, (d.decode() for d in documents[n_val:]), build / "train.bin", bar.update)
    np.save(build / "val_document.npy", np.concatenate([[0], np.cumsum(lengths)]))
    return {
        "vocab_size": vocab_size,
        "val_bytes_per_token": float(sizes[:n_val].sum() / lengths.sum()),
        "entropy_rate": None,
        "n_documents": len(documents),
        "n_bytes": int(sizes.sum()),
        "details": {
            "tokenizer": f"byte-level BPE, tokenizers {metadata.version('tokenizers')}",
            "tokenizer_size": tokenizer.get_vocab_size(),
            "tokenizer_bytes": int(sizes[n_val : n_val + n_learn].sum()),
        },
    }


def _open_language(kind: str, options: dict[str, Any], vocab_size: int, seed: int, root: Path) -> Opened:
    label = f"{kind}:" + ",".join(f"{key}={value}" for key, value in sorted(options.items()))
    # A new NumPy may draw other numbers from the same seed.
    key = sha256(json.dumps([label, seed, np.__version__]).encode()).hexdigest()
    folder = root / f"{kind}-{key[:20]}-{vocab_size}-{FORMAT}"

    def make(build: Path) -> dict[str, Any]:
        train, val, entropy_rate, unit = synthetic.generate(kind, vocab_size, options, seed)
        train.tofile(build / "train.bin")
        val.tofile(build / "val.bin")
        begins = np.append(np.arange(0, len(val), synthetic.STRETCH), len(val))
        np.save(build / "val_document.npy", begins.astype(np.int64))
        return {
            "fingerprint": sha256(sha256(train.tobytes()).digest() + sha256(val.tobytes()).digest()).hexdigest(),
            "vocab_size": vocab_size,
            "val_bytes_per_token": None,
            "entropy_rate": entropy_rate,
            "n_documents": len(begins) - 1,
            "n_bytes": 0,
            "details": {"seed": seed, "unit": unit, **options},
        }

    return folder, _open(folder, make), label


def _bar(what: str, total: int | None, progress: bool) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, desc=what, unit="B", unit_scale=True, disable=not progress)
