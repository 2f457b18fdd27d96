"""The cache of folders: whole or not there, whoever else builds, whatever was damaged."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from scaling_lib.lm import cache


def make(root: Path, folder: Path, text: str = "payload") -> dict[str, object]:
    with cache.building(root) as build:
        (build / "a.bin").write_text(text)
        (build / "b.bin").write_text("b" * 3_000_000)
        return cache.publish(build, folder, {"said": text})


def damage(folder: Path, how: str) -> None:
    content = (folder / "b.bin").read_bytes()
    if how == "flipped":
        (folder / "b.bin").write_bytes(content[:2_000_000] + b"c" + content[2_000_001:])
    elif how == "short":
        (folder / "b.bin").write_bytes(content[:-1])
    elif how == "gone":
        (folder / "a.bin").unlink()
    elif how == "meta gone":
        (folder / "meta.json").unlink()
    elif how == "meta half":
        (folder / "meta.json").write_text((folder / "meta.json").read_text()[:20])
    elif how == "meta other":
        (folder / "meta.json").write_text("[1, 2]")
    else:
        for file in folder.iterdir():
            file.unlink()


def test_what_is_published_is_read(tmp_path: Path) -> None:
    assert cache.read_folder(tmp_path / "f") is None
    assert make(tmp_path, tmp_path / "f") == {"said": "payload"}
    assert cache.read_folder(tmp_path / "f") == {"said": "payload"}
    assert os.listdir(tmp_path) == ["f"]


def test_the_first_to_finish_stays(tmp_path: Path) -> None:
    make(tmp_path, tmp_path / "f", "first")
    assert make(tmp_path, tmp_path / "f", "second") == {"said": "first"}
    assert (tmp_path / "f" / "a.bin").read_text() == "first"
    assert os.listdir(tmp_path) == ["f"]


@pytest.mark.parametrize("how", ["flipped", "short", "gone", "meta gone", "meta half", "meta other", "emptied"])
def test_a_damaged_folder_is_noticed_and_replaced(tmp_path: Path, how: str) -> None:
    make(tmp_path, tmp_path / "f", "first")
    damage(tmp_path / "f", how)
    assert cache.read_folder(tmp_path / "f") is None
    assert make(tmp_path, tmp_path / "f", "second") == {"said": "second"}
    assert cache.read_folder(tmp_path / "f") == {"said": "second"}
    assert os.listdir(tmp_path) == ["f"]


def test_a_failure_while_building_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with cache.building(tmp_path) as build:
            (build / "half").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not os.listdir(tmp_path)


def test_only_old_leftovers_are_removed(tmp_path: Path) -> None:
    for name in (".building-old", ".building-new", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_text("x")
    (tmp_path / ".building-file").write_text("x")
    long_ago = time.time() - 2 * 86_400
    for name in (".building-old", ".building-file", "other"):
        os.utime(tmp_path / name, (long_ago, long_ago))
    cache.remove_leftovers(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".building-new", "other"]


def test_write_whole_replaces(tmp_path: Path) -> None:
    cache.write_whole(tmp_path / "note", "one")
    cache.write_whole(tmp_path / "note", "two")
    assert (tmp_path / "note").read_text() == "two"
    assert os.listdir(tmp_path) == ["note"]


def test_the_environment_chooses_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SCALING_LIB_CACHE", str(tmp_path))
    assert cache.cache_folder() == tmp_path
    monkeypatch.delenv("SCALING_LIB_CACHE")
    assert cache.cache_folder().name == "scaling_lib"
