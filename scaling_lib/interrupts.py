"""Ctrl-C, kill, a time limit and a closed terminal become a KeyboardInterrupt, in an import once that has ended."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
AGAIN_SECONDS, MOST_SECONDS = 0.02, 20.0
_held_back: dict[int, tuple[float, threading.Timer]] = {}  # by signal: since when, and what will send it again


def interrupt(signum: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, as the handler of a signal; while a package is being imported, once that has ended.

    NumPy and torch cannot be loaded again after an import that was cut off, and may end Python on the spot.
    """
    began = _held_back[signum][0] if signum in _held_back else time.monotonic()
    if _importing(frame) and time.monotonic() - began < MOST_SECONDS:
        timer = threading.Timer(AGAIN_SECONDS, _again, [signum])
        timer.daemon = True
        _held_back[signum] = began, timer
        timer.start()
        return
    _forget()
    raise KeyboardInterrupt


def _forget() -> None:
    for _, timer in _held_back.values():
        timer.cancel()
    _held_back.clear()


def _again(signum: int) -> None:
    """Send the signal to the main thread, which may be in a call that only a signal of its own ends."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signum)
    else:
        signal.raise_signal(signum)


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def usual() -> list[int]:
    """The signals that nobody has chosen to ignore, as nohup and a shell's background do."""
    return [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


@contextlib.contextmanager
def ended_like_ctrl_c() -> Iterator[None]:
    """Every signal of ``usual`` raises KeyboardInterrupt in the block; a second one ends the process and its workers.

    The second also after the block.
    """
    if threading.current_thread() is not threading.main_thread():  # signals belong to the main thread
        yield
        return
    numbers = usual()
    before = {number: signal.getsignal(number) for number in numbers}

    def first(signum: int, frame: FrameType | None) -> None:
        try:
            interrupt(signum, frame)
        except KeyboardInterrupt:
            before.clear()  # there is no way back
            for number in numbers:
                signal.signal(number, end_at_once)
            raise

    def end_at_once(signum: int, frame: FrameType | None) -> None:
        import psutil

        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()
        os._exit(130)

    for number in numbers:
        signal.signal(number, first)
    try:
        yield
        if _held_back:  # a signal that came in an import, after which all was done at once
            _forget()
            raise KeyboardInterrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
