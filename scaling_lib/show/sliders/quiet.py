"""Setting several sliders with one redrawing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


class Quiet:
    """For a class whose sliders call it back: inside ``with self.quietly():`` they are to be set without effect."""

    busy = False

    @contextlib.contextmanager
    def quietly(self) -> Iterator[None]:
        self.busy = True
        try:
            yield
        finally:
            self.busy = False
