"""What a process may use: the limits of a made-up container."""

import psutil
import pytest

from scaling_lib import machine


def test_cores_are_what_joblib_grants(monkeypatch):
    assert machine.cores() >= 1
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    assert machine.cores() == 1


@pytest.mark.parametrize(
    ("group", "file"),
    [
        ("0::/", "memory.max"),
        ("0::/user.slice/job", "user.slice/memory.max"),  # a limit of any group above holds too
        ("3:cpu:/x\n5:memory:/docker/abc", "memory/docker/abc/memory.limit_in_bytes"),
    ],
)
def test_memory_is_the_least_that_a_control_group_allows(group, file, tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "CGROUPS", tmp_path)
    monkeypatch.setattr(machine, "OWN_GROUP", tmp_path / "own")
    assert machine.memory_bytes() == psutil.virtual_memory().total
    (tmp_path / "own").write_text(f"{group}\n")
    limit = tmp_path / file
    limit.parent.mkdir(parents=True, exist_ok=True)
    for content, expected in (("max\n", psutil.virtual_memory().total), ("1000000\n", 1e6)):
        limit.write_text(content)
        assert machine.memory_bytes() == expected
