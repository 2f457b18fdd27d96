"""The cache of folders: whole or not there, whoever else builds, whatever was damaged."""

import json
import os
from pathlib import Path

import pytest

from scaling_lib.lm import cache


def make(folder: Path, text: str = "payload") -> dict[str, object]:
    with cache.building(folder) as build:
        (build / "a.bin").write_text(text)
        (build / "b.bin").write_text("b" * 1_100_000)
        return cache.publish(build, folder, {"said": text})


def test_what_is_published_is_read_and_the_first_to_finish_stays(tmp_path):
    folder = tmp_path / "f"
    assert cache.read_folder(folder) is None
    assert make(folder, "first") == {"said": "first"}
    assert make(folder, "second") == cache.read_folder(folder) == {"said": "first"}
    assert (folder / "a.bin").read_text() == "first"
    assert os.listdir(tmp_path) == ["f"]


DAMAGES = {  # the file, and what becomes of its content
    "flipped": ("b.bin", lambda b: b[:1_050_000] + b"c" + b[1_050_001:]),
    "short": ("b.bin", lambda b: b[:-1]),
    "gone": ("a.bin", None),
    "meta gone": ("meta.json", None),
    "meta half": ("meta.json", lambda b: b[:20]),
    "meta other": ("meta.json", lambda b: b"[1, 2]"),
}


@pytest.mark.parametrize(("name", "change"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_folder_is_noticed_and_replaced(tmp_path, name, change):
    make(tmp_path / "f", "first")
    path = tmp_path / "f" / name
    path.write_bytes(change(path.read_bytes())) if change else path.unlink()
    assert cache.read_folder(tmp_path / "f") is None
    assert make(tmp_path / "f", "second") == cache.read_folder(tmp_path / "f") == {"said": "second"}
    assert os.listdir(tmp_path) == ["f"]


def test_a_whole_folder_that_another_process_put_there_meanwhile_stays(tmp_path, monkeypatch):
    rename, rivals = os.rename, ["rival"]

    def slow(source, target):
        if source == tmp_path / "f" and rivals:  # about to move a damaged folder aside
            make(tmp_path / "f", rivals.pop())
        rename(source, target)

    monkeypatch.setattr(cache.os, "rename", slow)
    assert make(tmp_path / "f", "mine") == {"said": "rival"} == cache.read_folder(tmp_path / "f")
    assert os.listdir(tmp_path) == ["f"]


def test_no_flipped_bit_of_the_notes_is_believed(tmp_path):
    make(tmp_path / "f")
    path = tmp_path / "f" / "meta.json"
    content = path.read_bytes()
    for at in range(len(content)):
        path.write_bytes(content[:at] + bytes([content[at] ^ (1 << at % 8)]) + content[at + 1 :])
        assert cache.read_folder(tmp_path / "f") in (None, {"said": "payload"}), at
    meta = json.loads(content)
    del meta["crc"]  # as folders of earlier versions are
    path.write_text(json.dumps(meta))
    assert cache.read_folder(tmp_path / "f") == {"said": "payload"}


def test_a_failure_while_building_leaves_nothing(tmp_path):
    def interrupted() -> None:
        with cache.building(tmp_path / "f") as build:
            (build / "half").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not os.listdir(tmp_path)


def test_the_environment_chooses_the_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("SCALING_LIB_CACHE", str(tmp_path))
    assert cache.cache_folder() == tmp_path
    monkeypatch.delenv("SCALING_LIB_CACHE")
    assert cache.cache_folder().name == "scaling_lib"
