"""Corpora: documents -> byte-level BPE -> 16-bit tokens in memory maps, made once and kept in the user's cache folder.

Documents are ordered by their own SHA-256, which is a random order that no file name or machine decides: the same
documents give the same tokens anywhere. The first of that order are the validation set.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scaling_lib.errors import InputError
from scaling_lib.lm import synthetic
from scaling_lib.lm.documents import Source, find_source, read_documents, state

if TYPE_CHECKING:
    from tokenizers import Tokenizer

KINDS = ("python-stdlib", "python-env", "random-walk", "uniform", "text:PATH", "hub:ID")
SMALLEST_VOCABULARY = 257  # 256 bytes and the token that starts a document
LARGEST_VOCABULARY = 65_535  # tokens are stored in 16 bits
END_OF_DOCUMENT = "<|endofdocument|>"  # token 0; it starts every document, and so also ends the one before
VAL_FRACTION = 0.05
SMALLEST_VAL_SHARE = 0.02  # of the bytes: with few documents, 5% of them may be none
BPE_BYTES = 2**25  # the tokenizer learns from this much of the training text; more changes it little
FORMAT = 1  # of what is kept in the cache; raise it when the split, the tokenizer or the files change
_BATCH_BYTES = 2**20  # encoded at a time: the library's results take some 50 times their text in memory
_FILES = ("train.bin", "val.bin", "val_document.npy", "tokenizer.json")


@dataclass(frozen=True, eq=False)
class Corpus:
    """A text as tokens, split into training and validation documents.

    Attributes
    ----------
    name : the corpus as asked for, such as "python-stdlib" or "text:PATH".
    fingerprint : SHA-256 (hex) of the sorted SHA-256s of the documents, whatever the vocabulary; of the tokens for a
        synthetic language.
    vocab_size : tokens are below it. The tokenizer may have learnt fewer: ``details["tokenizer_size"]``.
    train, val : uint16 memory maps (n_train_tokens,), (n_val_tokens,).
    val_document : int64 (n_val_documents + 1,), where each validation document begins in `val`, and its end.
    val_bytes_per_token : bytes of UTF-8 per validation token, counting the token that starts a document, so that
        ``loss / ln 2 / val_bytes_per_token`` is bits per byte; None for a synthetic language.
    entropy_rate : nats per token, exact, for a synthetic language; else None.
    n_documents, n_bytes : of the distinct documents, both parts together; for a synthetic language stretches of
        validation tokens, and 0.
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

    def describe(self) -> dict[str, Any]:
        """What a run record keeps of the corpus: plain JSON data, and of a path only the last part."""
        return {
            "name": self.details["label"],
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
    InputError : an unknown kind or option, a text that is missing, empty or evidently not UTF-8, a library that is
        not installed, or a vocabulary outside 257 to 65,535.
    """
    _find(spec, vocab_size)


def load_corpus(
    spec: str, vocab_size: int, *, seed: int = 0, cache_dir: Path | None = None, progress: bool = False
) -> Corpus:
    """Open a corpus, making it first where the cache has none that is whole and up to date.

    Parameters
    ----------
    spec : "python-stdlib", "python-env", "text:PATH", "hub:ID[@CONFIG][:COLUMN]", "uniform", or "random-walk"; the last
        two take options, such as "random-walk:degree=16,spread=0.5,train_tokens=1000000,val_tokens=50000".
    vocab_size : 257 to 65,535.
    seed : of a synthetic language. Texts do not depend on it.
    cache_dir : default `cache_folder()`.
    progress : show bars on stderr.

    Raises
    ------
    InputError : as in `check_spec`; a text that is not UTF-8 or too small to be split; a cache that cannot be written.
    """
    found = _find(spec, vocab_size)
    root = Path(cache_dir) if cache_dir is not None else cache_folder()
    try:
        root.mkdir(parents=True, exist_ok=True)
        _sweep(root)
        if isinstance(found, Source):
            return _load_text(spec, found, vocab_size, root, progress)
        return _load_synthetic(spec, *found, vocab_size, seed, root)
    except OSError as error:
        raise InputError(
            f"the corpus cache {root} cannot be used: {error.strerror or error}; "
            "free some space there or set SCALING_LIB_CACHE to another folder"
        ) from error


def cache_folder() -> Path:
    """``$SCALING_LIB_CACHE``, or the user's cache folder of the platform."""
    if chosen := os.environ.get("SCALING_LIB_CACHE"):
        return Path(chosen).expanduser()
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("scaling_lib", appauthor=False))


def load_tokenizer(corpus: Corpus) -> Tokenizer:
    """The tokenizer of a corpus of text: ``load_tokenizer(corpus).decode(corpus.val[:50].tolist())``."""
    from tokenizers import Tokenizer

    if corpus.entropy_rate is not None:
        raise InputError(
            f"{corpus.name} is a synthetic language: its tokens are numbers, there is no tokenizer"
        )
    tokenizer = Tokenizer.from_file(str(corpus.folder / "tokenizer.json"))
    tokenizer.encode_special_tokens = True  # a text that spells the marker out does not get the marker
    return tokenizer


def _find(spec: str, vocab_size: int) -> Source | tuple[str, dict[str, float]]:
    if not SMALLEST_VOCABULARY <= vocab_size <= LARGEST_VOCABULARY:
        raise InputError(
            f"vocabulary {vocab_size} must lie between {SMALLEST_VOCABULARY} (every byte, and the start of a "
            f"document) and {LARGEST_VOCABULARY} (16 bits a token)"
        )
    kind, _, argument = spec.partition(":")
    if kind in ("random-walk", "uniform"):
        options = synthetic.parse_options(kind, argument)
        if kind == "random-walk" and not 2 <= options["degree"] <= vocab_size // 2:
            raise InputError(
                f"random-walk: degree={options['degree']} must lie between 2 and {vocab_size // 2}"
            )
        return kind, options
    if kind not in [name.partition(":")[0] for name in KINDS]:
        raise InputError(f"unknown corpus {spec!r}; there are {', '.join(KINDS)}")
    return find_source(kind, argument)


# ------------------------------------------------------------------------------------------------ texts


def _load_text(spec: str, source: Source, vocab_size: int, root: Path, progress: bool) -> Corpus:
    def folder_of(fingerprint: str) -> Path:
        version = metadata.version("tokenizers")
        return root / f"{fingerprint[:20]}-{vocab_size}-bpe{version}-{FORMAT}"

    # A note from files (paths, sizes, times) to a fingerprint spares reading the documents again.
    note = root / f"files-{state(source)[:20]}.json"
    try:
        fingerprint = json.loads(note.read_text(encoding="utf-8"))["fingerprint"]
        corpus = _open(folder_of(fingerprint), spec, source.label)
    except (OSError, ValueError, KeyError, TypeError):
        corpus = None
    if corpus is not None:
        return corpus

    with _building(root) as build:
        spool = build / "documents"
        digests, spans = _gather(source, spool, progress)
        fingerprint = sha256("".join(digests).encode()).hexdigest()
        folder = folder_of(fingerprint)
        corpus = _open(folder, spec, source.label)
        if corpus is None:
            meta = _tokenize(spool, digests, spans, vocab_size, build, source.label, progress)
            spool.unlink()
            corpus = _publish(build, folder, {**meta, "fingerprint": fingerprint}, spec, source.label)
    _write_whole(note, json.dumps({"fingerprint": fingerprint}))
    return corpus


def _gather(source: Source, spool: Path, progress: bool) -> tuple[list[str], np.ndarray]:
    """Copy the distinct documents into one file.

    Returns
    -------
    digests : their SHA-256s, sorted.
    spans : int64 (n_documents, 2), begin and end of each in the file, in the same order.
    """
    where: dict[str, tuple[int, int]] = {}
    end = 0
    with spool.open("wb") as out, _bar("reading", None, progress) as bar:
        for document in read_documents(source):
            bar.update(len(document))
            digest = sha256(document).hexdigest()
            if digest not in where:
                out.write(document)
                where[digest] = (end, end + len(document))
                end += len(document)
    digests = sorted(where)
    if len(digests) < 2:
        raise InputError(
            f"corpus {source.label}: {len(digests)} distinct document(s) of text in {end} bytes, too small to be split "
            "into training and validation; give several files, or one of more than 8 kB"
        )
    return digests, np.array([where[digest] for digest in digests], np.int64)


def n_validation(digests: list[str], sizes: np.ndarray) -> int:
    """How many documents, in the order of their hashes, are for validation.

    Those whose hash lies in the first `VAL_FRACTION` of all hashes, so that a document stays where it is when others
    come or go; more in the same order if these make less than `SMALLEST_VAL_SHARE` of the bytes, which
    happens when documents are few. At least one, and one is left for training.
    """
    bound = sum(int(digest[:12], 16) < VAL_FRACTION * 16**12 for digest in digests)
    share = np.cumsum(sizes) / np.sum(sizes)
    enough = 1 + int(np.searchsorted(share, SMALLEST_VAL_SHARE))
    return min(max(bound, enough), len(digests) - 1)


def _tokenize(
    spool: Path,
    digests: list[str],
    spans: np.ndarray,
    vocab_size: int,
    build: Path,
    label: str,
    progress: bool,
) -> dict[str, Any]:
    """Train the tokenizer on training documents, write both parts as tokens, and return the meta data."""
    text = np.memmap(spool, np.uint8, mode="r")
    sizes = spans[:, 1] - spans[:, 0]
    n_val = n_validation(digests, sizes)

    def documents(first: int, last: int) -> Iterator[str]:
        return (bytes(text[begin:end]).decode() for begin, end in spans[first:last])

    learn = n_val + max(1, int(np.searchsorted(np.cumsum(sizes[n_val:]), BPE_BYTES, side="right")))
    with _threads():
        with _bar("tokenizer", int(sizes[n_val:learn].sum()), progress) as bar:
            tokenizer = train_tokenizer(documents(n_val, learn), vocab_size, bar)
        tokenizer.save(str(build / "tokenizer.json"))
        with _bar("encoding", int(sizes.sum()), progress) as bar:
            lengths = _encode(tokenizer, documents(0, n_val), build / "val.bin", bar)
            _encode(tokenizer, documents(n_val, len(spans)), build / "train.bin", bar)
    np.save(build / "val_document.npy", np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
    return {
        "vocab_size": vocab_size,
        "val_bytes_per_token": float(sizes[:n_val].sum() / sum(lengths)),
        "entropy_rate": None,
        "n_documents": len(spans),
        "n_bytes": int(sizes.sum()),
        "details": {
            "tokenizer": f"byte-level BPE, tokenizers {metadata.version('tokenizers')}",
            "tokenizer_size": tokenizer.get_vocab_size(),
            "tokenizer_bytes": int(sizes[n_val:learn].sum()),
        },
    }


def train_tokenizer(documents: Iterator[str], vocab_size: int, bar: Any = None) -> Tokenizer:
    """Byte-level BPE (the split of GPT-2, no added space); token 0 marks a document, every byte is a token.

    A text that offers too few pairs to merge gives a smaller vocabulary than asked for.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    def counted() -> Iterator[str]:
        for document in documents:
            yield document
            if bar is not None:
                bar.update(len(document.encode()))

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=[END_OF_DOCUMENT],
        show_progress=False,
    )
    tokenizer.train_from_iterator(counted(), trainer)
    tokenizer.encode_special_tokens = True
    return tokenizer


def _encode(tokenizer: Tokenizer, documents: Iterator[str], path: Path, bar: Any) -> list[int]:
    """Write the documents' tokens, each document after its marker; return their lengths with it."""
    lengths = []
    with path.open("wb") as out:
        for texts in _batches(documents):
            for text, encoding in zip(
                texts, tokenizer.encode_batch_fast(texts, add_special_tokens=False), strict=True
            ):
                tokens = np.array([0, *encoding.ids], np.uint16)
                tokens.tofile(out)
                lengths.append(len(tokens))
                bar.update(len(text.encode()))
    return lengths


def _batches(documents: Iterator[str]) -> Iterator[list[str]]:
    texts: list[str] = []
    for text in documents:
        texts.append(text)
        if sum(map(len, texts)) >= _BATCH_BYTES:
            yield texts
            texts = []
    if texts:
        yield texts


_threads_used_by: int | None = None


@contextmanager
def _threads() -> Iterator[None]:
    """Let `tokenizers` use all cores here, and leave it so that a later fork neither warns nor hangs.

    A fork does not copy threads, so a child that was forked after them must not ask for them: it stays serial. A
    user's own TOKENIZERS_PARALLELISM is obeyed.
    """
    global _threads_used_by
    if "TOKENIZERS_PARALLELISM" in os.environ and _threads_used_by is None:
        yield
        return
    if _threads_used_by is None:
        _threads_used_by = os.getpid()
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if _threads_used_by == os.getpid() else "false"
    try:
        yield
    finally:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"


# ------------------------------------------------------------------------------------------------ synthetic languages


def _load_synthetic(
    spec: str, kind: str, options: dict[str, float], vocab_size: int, seed: int, root: Path
) -> Corpus:
    label = f"{kind}:" + ",".join(f"{key}={value}" for key, value in sorted(options.items()))
    key = sha256(json.dumps([label, seed, np.__version__]).encode()).hexdigest()
    folder = root / f"{kind}-{key[:20]}-{vocab_size}-{FORMAT}"
    corpus = _open(folder, spec, label)
    if corpus is not None:
        return corpus
    with _building(root) as build:
        train, val, entropy_rate = synthetic.generate(kind, vocab_size, options, seed)
        train.tofile(build / "train.bin")
        val.tofile(build / "val.bin")
        begins = np.append(np.arange(0, len(val), synthetic.STRETCH), len(val))
        np.save(build / "val_document.npy", begins.astype(np.int64))
        (build / "tokenizer.json").write_text("null")
        meta = {
            "fingerprint": sha256(sha256(train).digest() + sha256(val).digest()).hexdigest(),
            "vocab_size": vocab_size,
            "val_bytes_per_token": None,
            "entropy_rate": entropy_rate,
            "n_documents": len(begins) - 1,
            "n_bytes": 0,
            "details": {"seed": seed, **options},
        }
        return _publish(build, folder, meta, spec, label)


# ------------------------------------------------------------------------------------------------ the cache


def _open(folder: Path, spec: str, label: str) -> Corpus | None:
    """The corpus kept in a folder, or None if it is missing or any of its files is not what was written."""
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        if any(_checksum(folder / name) != meta["checksums"][name] for name in _FILES):
            return None
        return Corpus(
            name=spec,
            fingerprint=meta["fingerprint"],
            vocab_size=meta["vocab_size"],
            train=np.memmap(folder / "train.bin", np.uint16, mode="r"),
            val=np.memmap(folder / "val.bin", np.uint16, mode="r"),
            val_document=np.load(folder / "val_document.npy", allow_pickle=False),
            val_bytes_per_token=meta["val_bytes_per_token"],
            entropy_rate=meta["entropy_rate"],
            n_documents=meta["n_documents"],
            n_bytes=meta["n_bytes"],
            details={"label": label, **meta["details"]},
            folder=folder,
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _publish(build: Path, folder: Path, meta: dict[str, Any], spec: str, label: str) -> Corpus:
    """Give a finished folder its name, all at once. If another process was faster, its corpus is as good."""
    meta["checksums"] = {name: _checksum(build / name) for name in _FILES}
    (build / "meta.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")
    for _ in range(10):
        corpus = _open(folder, spec, label)
        if corpus is not None:
            return corpus
        if folder.exists():  # damaged: out of the way, in one step, so that no one sees half of it removed
            with suppress(OSError):
                os.rename(folder, Path(tempfile.mkdtemp(prefix=".building-", dir=folder.parent)) / "damaged")
        with suppress(OSError):
            os.rename(build, folder)
    raise OSError(f"the folder {folder} cannot be replaced")


def _checksum(path: Path) -> list[int]:
    """Size and CRC-32 of a file: no protection from malice, but a damaged file does not pass; about 1 GB/s."""
    crc = 0
    with path.open("rb") as handle:
        while chunk := handle.read(2**20):
            crc = zlib.crc32(chunk, crc)
    return [path.stat().st_size, crc]


@contextmanager
def _building(root: Path) -> Iterator[Path]:
    """A folder beside its future place, removed whatever happens unless it was renamed."""
    build = Path(tempfile.mkdtemp(prefix=".building-", dir=root))
    try:
        yield build
    finally:
        shutil.rmtree(build, ignore_errors=True)


def _sweep(root: Path) -> None:
    """Remove what killed processes left behind more than a day ago."""
    for left in root.glob(".building-*"):
        with suppress(OSError):
            if left.stat().st_mtime < time.time() - 86_400:
                shutil.rmtree(left, ignore_errors=True)


def _write_whole(path: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(prefix=".building-", dir=path.parent)
    with os.fdopen(handle, "w", encoding="utf-8") as out:
        out.write(text)
    os.replace(name, path)


def _bar(what: str, total: int | None, progress: bool) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, desc=what, unit="B", unit_scale=True, disable=not progress)
