"""A story: one message with its figure and its words, which becomes a picture or a slide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from scaling_lib.fit.result import FitResult
from scaling_lib.show.ladders import Ladder, recipe_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

THING = {"N": "parameters", "D": "tokens"}


class Story(NamedTuple):
    """One message. In all its text ``^`` after N, D, C or 2 raises the word or number after it.

    name : of its files; "" for a slide alone. headline : the title of its slide; "" for a file alone.
    figure : draws on an empty figure. Of a slide alone also lines of text, or a table's rows, the first its headings.
    caption : what stands below it. alt : what is to be seen, for a reader who cannot. notes : the speaker's.
    tall : whether it has two rows of panels.
    """

    name: str
    headline: str
    figure: Callable[[Figure], object] | Sequence[tuple[str, ...]] | Sequence[str]
    caption: str = ""
    alt: str = ""
    notes: str = ""
    tall: bool = False


def one_panel(draw: Callable[[Axes], object]) -> Callable[[Figure], object]:
    """What draws on an empty figure, from what draws on axes."""
    return lambda figure: draw(figure.add_subplot())


# ---- V1 against V2 ---------------------------------------------------------------


def law_of(ladder: Ladder) -> str:
    """A law's name in words."""
    return f"{recipe_name(ladder.recipe)}, L({ladder.variable})"


def doubt(fit: FitResult) -> str:
    """What a headline adds where the verdict is weak."""
    return " (weak)" if fit.verdict().level == "weak" else ""
