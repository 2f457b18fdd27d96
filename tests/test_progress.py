"""Progress on stderr: durations in words, and lines where there is no terminal."""

import pytest

from scaling_lib import progress
from scaling_lib.progress import Bar
from scaling_lib.sweep.execute import Snapshot
from scaling_lib.words import counted, duration


def test_numbers_as_people_say_them():
    said = {0: "1 s", 45: "45 s", 89: "89 s", 90: "2 min", 600: "10 min", 5399: "90 min", 5400: "1.5 h",
            86_400: "24.0 h", 3 * 86_400: "3 days"}  # fmt: skip
    assert {seconds: duration(seconds) for seconds in said} == said
    assert [counted(n, "run") for n in (0, 1, 2, 1200)] == ["0 runs", "1 run", "2 runs", "1,200 runs"]


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def snapshot(share: float, done: int = 1) -> Snapshot:
    return Snapshot(done, 4, share, (("v2-2x32-s300-r0-0123456789", 4.567, 12_345.0), ("v1-2x32-s9-r0-0", 5.0, 1.0)))


def test_a_pipe_gets_a_line_now_and_then_and_the_last(clock, capsys):
    with Bar() as bar:
        bar.show(snapshot(0.01))
        assert capsys.readouterr().err == ""  # too soon for a line
        clock[0] += 30
        bar.show(snapshot(0.25))
        clock[0] += 10
        bar.show(snapshot(0.3))
        clock[0] += 11
        bar.show(snapshot(0.5, 2))
        bar.show(snapshot(1.0, 4))
        bar.show(snapshot(1.0, 4))  # while the sweep says good-bye: once is enough
    err = capsys.readouterr().err
    assert "\x1b" not in err
    assert "\r" not in err
    running = "v2-2x32-s300-r0: loss 4.57, 12,345 tokens/s"
    assert err.splitlines() == [
        f" 25%  1/4 runs, 2 min left; {running}",  # 30 s for a quarter: 90 s for the rest
        f" 50%  2/4 runs, 52 s left; {running}",
        f"100%  4/4 runs; {running}",
    ]


def test_what_was_finished_before_makes_nothing_look_faster(clock, capsys):
    with Bar() as bar:
        bar.show(snapshot(0.6, 3))
        clock[0] += 60
        bar.show(snapshot(0.7, 3))
    assert " 70%  3/4 runs, 3 min left;" in capsys.readouterr().err


@pytest.mark.parametrize("term", ["dumb", "xterm"])
def test_a_terminal_gets_a_bar_unless_it_is_dumb(term, clock, capsys, monkeypatch):
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", term)
    with Bar() as bar:
        clock[0] += 30
        bar.show(snapshot(0.25))
        bar.show(snapshot(1.7))  # an estimate of the share may overshoot
    err = capsys.readouterr().err
    if term == "dumb":
        assert err.startswith(" 25%  1/4 runs")
        assert "\r" not in err
    else:
        assert "\r 25% |" in err
        assert "\r100% |" in err
        assert "170%" not in err
