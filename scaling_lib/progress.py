"""Progress of a sweep on stderr, and durations as people say them; a part of the command line."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scaling_lib.sweep.execute import Snapshot


def duration(seconds: float) -> str:
    """Seconds as people say them: 45 s, 3 min, 2.5 h, 3 days."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} days"


class Bar:
    """Progress on stderr: a bar on a terminal, elsewhere a line now and then."""

    LINE_SECONDS = 20.0

    def __enter__(self) -> Bar:
        from tqdm import tqdm

        self._began = self._line = time.monotonic()
        self._live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._bar = tqdm(total=1.0, disable=not self._live, bar_format="{percentage:3.0f}% |{bar}| {desc}")
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.close()

    def show(self, snapshot: Snapshot) -> None:
        now = time.monotonic()
        elapsed, share = now - self._began, snapshot.share_done
        left = f", {duration(elapsed / share * (1 - share))} left" if 0.02 < share < 1 else ""
        text = f"{snapshot.runs_done}/{snapshot.runs_total} runs{left}"
        for name, loss, speed in snapshot.running[:1]:
            text += f"; {name.rsplit('-', 1)[0]}: loss {loss:.2f}, {speed:,.0f} tokens/s"
        self._bar.set_description_str(text, refresh=False)
        self._bar.n = min(share, 1.0)
        self._bar.refresh()
        if not self._live and (now - self._line > self.LINE_SECONDS or share >= 1):
            self._line = now
            print(f"{100 * share:3.0f}%  {text}", file=sys.stderr, flush=True)
