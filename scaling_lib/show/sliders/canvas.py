"""A figure that is drawn once and whose movable parts are drawn again over its picture: fast, and without flicker."""

from __future__ import annotations

import html
import io
import re
import struct
import textwrap
import zlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import ipywidgets
import matplotlib.style
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure, FigureBase
from PIL import Image

A = TypeVar("A", bound=Artist)
DPI = 100  # a pixel drawn for a pixel shown: the browser has nothing to resample
ROOM = 8  # pixels of a box round its parts
HIDDEN = "position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%)"
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#888888"
PERCENT = (-50, -20, -10, -5, -2, -1, 0, 1, 2, 5, 10, 20, 50)


class Canvas:
    """One figure and the image widgets that show it; ``widget`` holds those and a description for who cannot see them.

    Axes, ticks, data and labels are drawn by ``freeze``; what ``moving`` was told of, by ``redraw``, in some
    20 ms. No ``Output`` widget and no ``pyplot``: a figure made later in the notebook cannot be drawn into.

    Parameters
    ----------
    width, height : pixels.
    alt : what the figure shows, in words.
    shares : of the width, one for each of its ``parts``. A part is a (sub)figure with an image of its own, so that a
        narrow page sets it below the part before.
    """

    def __init__(self, width: int = 900, height: int = 430, alt: str = "", shares: Sequence[float] = (1.0,)) -> None:
        self.figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, layout="constrained")
        self._agg = FigureCanvasAgg(self.figure)
        self.parts: list[FigureBase] = [self.figure]
        if len(shares) > 1:
            made: Any = self.figure.subfigures(1, len(shares), width_ratios=shares)
            self.parts = list(made)
        ends = np.round(width * np.cumsum(shares) / sum(shares)).astype(int)
        self._columns = [slice(int(start), int(end)) for start, end in zip((0, *ends), ends, strict=False)]
        # The height follows the width, so that a narrow page shrinks a picture and does not squeeze it.
        self.images = [
            ipywidgets.Image(
                format="png", layout={"width": f"{c.stop - c.start}px", "height": "auto", "max_width": "100%"}
            )
            for c in self._columns
        ]
        row = ipywidgets.Box(self.images, layout={"flex_flow": "row wrap", "max_width": f"{width + ROOM}px"})
        # Words that are read aloud and take no room. A tooltip on an Image would do, but breaks it in the browser.
        aloud = ipywidgets.HTML(f'<span style="{HIDDEN}">{html.escape(alt)}</span>', layout={"height": "0"})
        self.widget = ipywidgets.VBox([aloud, row])
        self._moving: list[Artist] = []
        self._background: Any = None

    @staticmethod
    def style() -> AbstractContextManager[None]:
        """The style in which axes are to be made."""
        return matplotlib.style.context(["scaling_lib.show.styles.blog", {"font.size": 9.5}])

    def clear(self) -> None:
        """Forget the moving artists, before the axes are cleared."""
        self._moving.clear()
        self._background = None

    def moving(self, artist: A) -> A:
        """Register an artist that ``redraw`` draws; returns it."""
        artist.set_animated(True)
        artist.set_in_layout(False)
        self._moving.append(artist)
        return artist

    def freeze(self) -> None:
        """Draw what stands still: once at first, and again when it changes."""
        self._agg.draw()
        self._background = self._agg.copy_from_bbox(self.figure.bbox)

    def redraw(self) -> None:
        """Draw the moving artists over the picture, and show it."""
        if self._background is None:
            self.freeze()
        self._agg.restore_region(self._background)
        for artist in self._moving:
            axes = artist.axes
            assert axes is not None
            axes.draw_artist(artist)
        pixels = self._pixels()
        for image, columns in zip(self.images, self._columns, strict=True):
            image.value = png(pixels[:, columns])

    def _pixels(self) -> np.ndarray:
        return np.asarray(self._agg.buffer_rgba())[:, :, :3]

    def still(self, words: str = "") -> Picture:
        """What is shown now, as a plain picture, with words (HTML or plain) below it."""
        lines = [part for line in plain(words).splitlines() for part in textwrap.wrap(line, 128)]
        below = Figure(figsize=(self.figure.get_figwidth(), 0.19 * len(lines) + 0.1), dpi=DPI)
        below.text(0.01, 1.0, "\n".join(lines), fontsize=9.5, va="top", linespacing=1.35)
        strip = FigureCanvasAgg(below)
        strip.draw()
        both = [self._pixels(), np.asarray(strip.buffer_rgba())[:, :, :3]]
        return Picture(np.vstack(both if words else both[:1]))


def png(pixels: np.ndarray) -> bytes:
    """Pixels, uint8 (height, width, 3), as a PNG file, quickly.

    Pillow tries five filters on every row, which takes a third of the time of a redraw. A figure is mostly white and
    compresses as well without. (The format: a signature, then chunks of length, name, data, CRC; w3.org/TR/png.)
    """
    height, width, _ = pixels.shape
    rows = np.zeros((height, 1 + 3 * width), np.uint8)  # each begins with its filter: 0, none
    rows[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits a channel, RGB
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


class Picture:
    """A still of a canvas, for readers of a page where nothing moves."""

    def __init__(self, pixels: np.ndarray) -> None:
        self._pixels = pixels
        self._shown: Any = None

    def _ipython_display_(self) -> None:
        from IPython.display import display

        self._shown = display({"image/png": self._repr_png_(), "text/plain": repr(self)}, raw=True, display_id=True)

    def vanish(self) -> None:
        """Take it off the page where it was shown."""
        if self._shown is not None:
            self._shown.update({"text/plain": ""}, raw=True)
            self._shown = None

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(self._pixels).save(buffer, "png", optimize=True)
        return buffer.getvalue()

    def __repr__(self) -> str:
        return "<picture of the sliders as they stand>"


def plain(words: str) -> str:
    """HTML as plain text: no tags, an exponent after a caret, a line for each ``<br>``."""
    text = re.sub(r"<br ?/?>", "\n", words)
    text = re.sub(r"<sup>(.*?)</sup>", r"^\1", text)
    return html.unescape(re.sub(r"<[^>]+>", "", text))


def percent_axis(axes: Axes, most: float) -> None:
    """A y axis of errors in per cent, up to ``most`` either way: one per cent and tens of them in one picture."""
    axes.set_yscale("asinh", linear_width=2.0)
    axes.set_ylim(-most, most)
    axes.set_yticks(PERCENT)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:+.0f}" if value else "0")
    axes.minorticks_off()


def band(axes: Axes, colour: str, alpha: float = 0.2) -> PolyCollection:
    """An empty band whose edges ``set_band`` moves."""
    return axes.fill_between([1.0, 2.0], [1.0, 1.0], [1.0, 1.0], color=colour, alpha=alpha, linewidth=0)


def set_band(found: PolyCollection, x: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
    """Move a band's edges; where they are not finite it has none."""
    good = np.isfinite(low) & np.isfinite(high)
    if not good.any():
        found.set_verts([])
        return
    x, low, high = x[good], low[good], high[good]
    found.set_verts([np.column_stack([np.concatenate([x, x[::-1]]), np.concatenate([low, high[::-1]])])])
