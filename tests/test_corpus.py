"""Corpora from text to tokens: the split, the fingerprint, the cache, and every kind of bad input."""

import errno
import hashlib
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from scaling_lib.errors import InputError
from scaling_lib.lm import corpus as module
from scaling_lib.lm import documents, synthetic
from scaling_lib.lm.corpus import Corpus, check_spec, load_corpus, load_tokenizer, n_validation

ONE_LINE = r"\A[^\n]+\Z"
WORDS = ["the", "of", "and", "cat", "dog", "house", "river", "walks", "sees", "green", "old", "very", "then"]


def write_text(folder: Path, n_files: int = 60, seed: int = 0) -> list[bytes]:
    """Files of random sentences, two of them alike; returns the distinct documents."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    contents = [" ".join(rng.choice(WORDS, 200)) + f" größer {i}.\n" for i in range(n_files)]
    for i, content in enumerate([*contents, contents[0]]):
        (folder / f"{i:03}.txt").write_text(content, encoding="utf-8")
    return [content.encode() for content in contents]


def parts(corpus: Corpus) -> tuple[list[bytes], list[bytes]]:
    """The training and the validation documents, decoded from the tokens."""
    tokenizer = load_tokenizer(corpus)
    out = []
    for tokens in (corpus.train, corpus.val):
        begins = np.flatnonzero(tokens == 0)
        assert begins[0] == 0
        ends = [*begins[1:], len(tokens)]
        pieces = [tokens[b + 1 : e].tolist() for b, e in zip(begins, ends, strict=True)]
        out.append([piece.encode() for piece in tokenizer.decode_batch(pieces, skip_special_tokens=False)])
    return out[0], out[1]


def check_text_corpus(
    corpus: Corpus, contents: list[bytes] | None = None, names: dict[bytes, str] | None = None
) -> None:
    """What must hold of a corpus of text: `contents` are its distinct documents, and `names` decide their order."""
    train, val = parts(corpus)
    assert train
    assert val
    assert not set(train) & set(val)
    assert len(set(train)) == len(train)
    assert len(set(val)) == len(val)
    everything = sorted(train + val)
    if contents is not None:
        assert everything == sorted(contents)
    assert corpus.n_documents == len(everything)
    assert corpus.n_bytes == sum(map(len, everything))
    digests = sorted(hashlib.sha256(document).hexdigest() for document in everything)
    assert corpus.fingerprint == hashlib.sha256("".join(digests).encode()).hexdigest()
    # The order is that of the hashes, and validation comes first in it.
    keys = [hashlib.sha256(names[x].encode() if names else x).hexdigest() for x in val + train]
    assert keys == sorted(keys)
    np.testing.assert_array_equal(corpus.val_document, [*np.flatnonzero(corpus.val == 0), len(corpus.val)])
    assert corpus.val_document.dtype == np.int64
    assert corpus.val_bytes_per_token == pytest.approx(sum(map(len, val)) / len(corpus.val))
    assert max(corpus.train.max(), corpus.val.max()) < corpus.details["tokenizer_size"] <= corpus.vocab_size
    assert corpus.train.dtype == corpus.val.dtype == np.uint16
    assert corpus.entropy_rate is None


def same(one: Corpus, two: Corpus) -> bool:
    return (
        one.fingerprint == two.fingerprint
        and np.array_equal(one.train, two.train)
        and np.array_equal(one.val, two.val)
        and one.describe() == two.describe()
    )


# ---- text


def test_a_folder_of_text_and_a_fingerprint_of_the_documents_alone(tmp_path):
    contents = write_text(tmp_path / "text")
    cache, spec = tmp_path / "cache", f"text:{tmp_path / 'text'}"
    one = load_corpus(spec, 300, cache_dir=cache)
    check_text_corpus(one, contents)
    (tmp_path / "moved").mkdir()
    for i, content in enumerate(reversed(contents)):
        (tmp_path / "moved" / f"{i}.md").write_bytes(content)
    moved = load_corpus(f"text:{tmp_path / 'moved'}", 300, cache_dir=cache)
    elsewhere = load_corpus(f"text:{tmp_path / 'moved'}", 300, cache_dir=tmp_path / "other")
    larger = load_corpus(spec, 320, cache_dir=cache)
    assert one.fingerprint == moved.fingerprint == elsewhere.fingerprint == larger.fingerprint
    for other in (moved, elsewhere):
        np.testing.assert_array_equal(one.train, other.train)
        np.testing.assert_array_equal(one.val, other.val)
    assert len(larger.train) < len(one.train)
    (tmp_path / "text" / "new.txt").write_text("a new document")
    second = load_corpus(spec, 300, cache_dir=cache)
    assert second.fingerprint != one.fingerprint
    assert second.n_documents == one.n_documents + 1

    record = one.describe()  # plain data that tell no path
    assert json.loads(json.dumps(record)) == record
    assert (one.name, record["name"]) == (spec, "text:text")
    assert str(tmp_path) not in json.dumps(record)
    assert (record["n_train_tokens"], record["n_val_tokens"]) == (len(one.train), len(one.val))


def test_a_document_does_not_change_sides_when_others_come(tmp_path):
    sides = []
    for n_files in (400, 500):
        write_text(tmp_path / str(n_files), n_files)
        sides.append(parts(load_corpus(f"text:{tmp_path / str(n_files)}", 257, cache_dir=tmp_path / "cache")))
    (train, val), (more_train, more_val) = sides
    assert set(train) < set(more_train)
    assert set(val) < set(more_val)


def test_about_five_percent_are_for_validation_and_never_none():
    def keys(n: int) -> list[str]:
        return sorted(hashlib.sha256(str(i).encode()).hexdigest() for i in range(n))

    assert n_validation(keys(20_000), np.ones(20_000)) == pytest.approx(1000, abs=125)  # 4 standard deviations
    for n in (*range(2, 12), 59):
        sizes = np.arange(1, n + 1) ** 3  # a few long documents, and the short ones come first
        n_val = n_validation(keys(n), sizes)
        assert 1 <= n_val < n
        assert n_val == n - 1 or sizes[:n_val].sum() >= 0.02 * sizes.sum()


def test_a_vocabulary_larger_than_the_text_offers_keeps_its_size(tmp_path):
    write_text(tmp_path / "text", 5)
    corpus = load_corpus(f"text:{tmp_path / 'text'}", 65_535, cache_dir=tmp_path / "cache")
    check_text_corpus(corpus)
    assert corpus.vocab_size == corpus.describe()["vocab_size"] == 65_535
    assert corpus.describe()["tokenizer_size"] == load_tokenizer(corpus).get_vocab_size() < 1000


def test_a_large_text_is_learnt_from_a_sample(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BPE_BYTES", 5000)
    contents = write_text(tmp_path / "text")
    corpus = load_corpus(f"text:{tmp_path / 'text'}", 300, cache_dir=tmp_path / "cache")
    check_text_corpus(corpus, contents)
    assert 3000 < corpus.details["tokenizer_bytes"] <= 5000


def test_a_single_file_is_cut_into_documents(tmp_path):
    paragraphs = [" ".join(WORDS[i % 7 :]) + f" {i}.\n\n" for i in range(1000)]
    (tmp_path / "book.txt").write_text("".join(paragraphs))
    corpus = load_corpus(f"text:{tmp_path / 'book.txt'}", 300, cache_dir=tmp_path / "cache")
    check_text_corpus(corpus)
    assert corpus.n_bytes == (tmp_path / "book.txt").stat().st_size
    assert corpus.n_documents > 10


@pytest.mark.skipif(
    "SCALING_LIB_DATA" not in os.environ,
    reason="SCALING_LIB_DATA is not set: Shakespeare and WikiText-2 are not read, made-up text is",
)
@pytest.mark.parametrize(("name", "n_bytes"), [("tinyshakespeare.txt", 1_115_394), ("wikitext2", 2_378_130)])
def test_real_text(name, n_bytes, tmp_path):
    path = Path(os.environ["SCALING_LIB_DATA"], name).resolve()
    corpus = load_corpus(f"text:{path}", 1024, cache_dir=tmp_path / "cache")
    check_text_corpus(corpus)
    assert corpus.n_bytes == n_bytes
    assert corpus.details["tokenizer_size"] == 1024
    assert corpus.val_bytes_per_token is not None
    assert 2 < corpus.val_bytes_per_token < 3
    assert 0.02 < len(corpus.val) / (len(corpus.val) + len(corpus.train)) < 0.1


def by_content(files: list[Path]) -> dict[bytes, str]:
    """Distinct texts of the standard library -> the first file's name, which decides where it stands."""
    root = Path(os.__file__).parent
    return {file.read_bytes(): file.relative_to(root).as_posix() for file in reversed(files)}


def test_part_of_the_standard_library(tmp_path, monkeypatch):
    chosen = ("json", "email", "http", "asyncio")
    files = [file for file in documents.shared_files() if file.parent.name in chosen]
    monkeypatch.setattr(documents, "shared_files", lambda: files)
    corpus = load_corpus("python-stdlib", 512, cache_dir=tmp_path)
    names = by_content(files)
    check_text_corpus(corpus, [content for content in names if content.strip()], names)


@pytest.mark.parametrize("kind", ["random-walk", "uniform"])
def test_a_synthetic_corpus_has_its_exact_entropy_on_record(kind, tmp_path):
    spec = f"{kind}:train_tokens=20000,val_tokens=100500"
    corpus = load_corpus(spec, 400, seed=7, cache_dir=tmp_path)
    exact = synthetic.random_walk(400, seed=7).entropy_rate if kind == "random-walk" else np.log(400)
    assert corpus.describe()["entropy_rate"] == corpus.entropy_rate == pytest.approx(exact)
    assert (len(corpus.train), len(corpus.val), corpus.val_bytes_per_token) == (20_000, 100_500, None)
    assert np.diff(corpus.val_document).tolist() == [1024] * 98 + [148]
    assert same(corpus, load_corpus(spec, 400, seed=7, cache_dir=tmp_path / "other"))
    assert load_corpus(spec, 400, seed=8, cache_dir=tmp_path).fingerprint != corpus.fingerprint
    assert load_corpus(spec, 401, seed=7, cache_dir=tmp_path).fingerprint != corpus.fingerprint
    with pytest.raises(InputError, match=ONE_LINE):
        load_tokenizer(corpus)


# ---- the cache


@pytest.mark.parametrize("kind", ["text", "random-walk"])
def test_a_second_call_reads_no_document_and_a_damaged_cache_is_made_again(kind, tmp_path, monkeypatch):
    write_text(tmp_path / "text")
    cache = tmp_path / "cache"
    spec = f"text:{tmp_path / 'text'}" if kind == "text" else "random-walk:train_tokens=5000,val_tokens=3000"
    first = load_corpus(spec, 300, cache_dir=cache)
    kept = {name: (first.folder / name).read_bytes() for name in sorted(os.listdir(first.folder))}

    def refuse(*arguments: object) -> None:
        raise AssertionError("made again")

    with monkeypatch.context() as patch:
        patch.setattr(module, "read_documents", refuse)
        patch.setattr(synthetic, "generate", refuse)
        assert same(load_corpus(spec, 300, cache_dir=cache), first)

    for name, content in kept.items():
        for damaged in (content[: len(content) // 2], content[:-1] + b"?"):
            (first.folder / name).write_bytes(damaged)
            again = load_corpus(spec, 300, cache_dir=cache)
            assert {n: (again.folder / n).read_bytes() for n in kept} == kept
    for note in cache.glob("files-*.json"):
        for text in ("", "[]", '{"fingerprint": 5}', '{"fingerprint": "0000"}'):
            note.write_text(text)
            assert same(load_corpus(spec, 300, cache_dir=cache), first)
    assert not list(cache.glob(".*.tmp"))


def test_two_processes_at_once_end_with_the_same_corpus(tmp_path):
    write_text(tmp_path / "text")
    code = (
        "import sys, hashlib, pathlib\n"
        "from scaling_lib.lm.corpus import load_corpus\n"
        "input()\n"  # all start together
        "c = load_corpus(sys.argv[1], 300, cache_dir=pathlib.Path(sys.argv[2]))\n"
        "print(c.fingerprint, hashlib.sha256(c.train.tobytes() + c.val.tobytes()).hexdigest())\n"
    )
    command = [sys.executable, "-c", code, f"text:{tmp_path / 'text'}", str(tmp_path / "cache")]
    pipe = subprocess.PIPE
    running = [subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(2)]
    for process in running:
        process.stdin.write("\n")
        process.stdin.flush()
    results = [process.communicate(timeout=100) for process in running]
    corpus = load_corpus(command[3], 300, cache_dir=tmp_path / "cache")
    tokens = hashlib.sha256(corpus.train.tobytes() + corpus.val.tobytes()).hexdigest()
    assert results == [(f"{corpus.fingerprint} {tokens}\n", "")] * 2
    assert not list((tmp_path / "cache").glob(".*.tmp"))


def test_a_full_disk_is_one_line_and_leaves_what_was_there(tmp_path, monkeypatch):
    write_text(tmp_path / "text")
    spec = f"text:{tmp_path / 'text'}"
    first = load_corpus(spec, 300, cache_dir=tmp_path / "cache")

    def full(*arguments: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_tokens", full)
        with pytest.raises(InputError, match=r"\A[^\n]*No space left[^\n]*SCALING_LIB_CACHE[^\n]*\Z"):
            load_corpus(spec, 320, cache_dir=tmp_path / "cache")
        assert same(load_corpus(spec, 300, cache_dir=tmp_path / "cache"), first)
    assert not list((tmp_path / "cache").glob(".*.tmp"))
    load_corpus(spec, 320, cache_dir=tmp_path / "cache")


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        monkeypatch.setenv("SCALING_LIB_CACHE", str(folder))
        with pytest.raises(InputError, match=r"\A[^\n]*SCALING_LIB_CACHE[^\n]*\Z"):
            load_corpus("uniform:train_tokens=100,val_tokens=100", 300)


# ---- bad input


@pytest.mark.parametrize(
    ("spec", "vocab_size", "says"),
    [
        ("python", 512, r"unknown corpus 'python'; there are python-stdlib, .*random-walk.*hub:ID"),
        ("python-stdlib", 256, "256 must lie between 257"),
        ("uniform", 65_536, "65536 must lie between 257"),
        ("random-walk:degree=200", 300, "degree=200"),
        ("text:/no/such/file", 512, "does not exist"),
    ],
)
def test_bad_input_is_one_line_before_and_at_the_start(spec, vocab_size, says, tmp_path):
    for check in (check_spec, partial(load_corpus, cache_dir=tmp_path)):
        with pytest.raises(InputError, match=says) as error:
            check(spec, vocab_size)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["short", "one paragraph. " * 300, " \n \n"])
def test_a_text_too_small_to_split_is_one_line(content, tmp_path):
    (tmp_path / "t.txt").write_text(content)
    with pytest.raises(InputError, match=r"\A[^\n]*too small[^\n]*\Z"):
        load_corpus(f"text:{tmp_path / 't.txt'}", 300, cache_dir=tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*"))


def test_the_checks_cost_no_heavy_import():
    code = (
        "import sys\n"
        "from scaling_lib.lm import batches\n"
        "from scaling_lib.lm.corpus import check_spec, load_corpus\n"
        "check_spec('python-stdlib', 512)\n"
        "print({'torch', 'tokenizers', 'datasets', 'scipy', 'tqdm'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_progress_is_on_stderr_and_only_when_asked_for(tmp_path, capfd):
    write_text(tmp_path / "text")
    load_corpus(f"text:{tmp_path / 'text'}", 300, cache_dir=tmp_path / "quiet")
    assert capfd.readouterr() == ("", "")
    load_corpus(f"text:{tmp_path / 'text'}", 300, cache_dir=tmp_path / "loud", progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "reading" in err
    assert "encoding: 100%" in err
