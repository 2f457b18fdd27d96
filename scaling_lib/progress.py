"""Progress of a sweep on stderr; a part of the command line."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from scaling_lib.words import counted, duration

if TYPE_CHECKING:
    from scaling_lib.sweep.execute import Snapshot


class Bar:
    """Progress on stderr: a bar on a terminal, elsewhere a line now and then."""

    LINE_SECONDS = 20.0

    def __enter__(self) -> Bar:
        from tqdm import tqdm

        self._line = time.monotonic()
        self._ended = False  # whether the line that says 100% has been printed
        self._first: tuple[float, float] | None = None  # when, and the share that was done before
        self._live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._bar = tqdm(total=1.0, disable=not self._live, bar_format="{percentage:3.0f}% |{bar}| {desc}")
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.close()

    def show(self, snapshot: Snapshot) -> None:
        now = time.monotonic()
        share = snapshot.share_done
        began, before = self._first = self._first or (now, share)
        gained = share - before  # runs that were finished before took no time now
        left = f", {duration((now - began) / gained * (1 - share))} left" if gained > 0.02 and share < 1 else ""
        text = f"{snapshot.runs_done}/{counted(snapshot.runs_total, 'run')}{left}"
        for name, loss, speed in snapshot.running[:1]:
            text += f"; {name.rsplit('-', 1)[0]}: loss {loss:.2f}, {speed:,.0f} tokens/s"
        self._bar.set_description_str(text, refresh=False)
        self._bar.n = min(share, 1.0)
        self._bar.refresh()
        if not self._live and not self._ended and (now - self._line > self.LINE_SECONDS or share >= 1):
            self._line, self._ended = now, share >= 1
            print(f"{100 * share:3.0f}%  {text}", file=sys.stderr, flush=True)
