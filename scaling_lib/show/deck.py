"""Slides as an editable 16:9 PowerPoint file, with real titles, tables and notes. Letters have 14 points or more."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scaling_lib.files import atomic_file
from scaling_lib.show.story import Story

WIDTH, MARGIN = 13.333, 0.6  # inches; 7.5 high
BOX = (MARGIN, 1.5, WIDTH - 2 * MARGIN, 4.55)  # of what a slide shows: left, top, width, height
COVER, HEADLINE, TEXT, CAPTION, SMALLEST = 44, 28, 24, 16, 14  # points
STYLES = ["scaling_lib.show.styles.blog", "scaling_lib.show.styles.slides"]
# Above the style sheets; "small" is 0.83 of the font's size, so that nothing falls below 14 points.
LETTERS = {"font.size": 17, "axes.titlesize": 17, "axes.labelsize": 17, "legend.fontsize": 14.5, "lines.linewidth": 2.6,
           "lines.markersize": 8}  # fmt: skip


def save_slides(slides: Sequence[Story], path: Path) -> Path:
    """Write the slides, the first of them as a cover, with real titles, tables and notes; returns ``path``.

    Raises ``InputError`` where the folder cannot be written.
    """
    import matplotlib.style
    from pptx import Presentation
    from pptx.util import Inches

    deck = Presentation()
    deck.slide_width, deck.slide_height = Inches(WIDTH), Inches(7.5)
    deck.core_properties.title, deck.core_properties.author = slides[0].headline, "scaling_lib"
    with matplotlib.style.context([*STYLES, LETTERS]):
        for number, slide in enumerate(slides, 1):
            cover = 1.7 if number == 1 else 0.0  # lower down by so many inches
            page = deck.slides.add_slide(deck.slide_layouts[5])  # a title and nothing else
            _place(page.shapes.title, (MARGIN, 0.35 + cover, BOX[2], 1.1))
            _write(page.shapes.title.text_frame, [slide.headline], COVER if cover else HEADLINE, bold=True)
            if callable(slide.figure):
                _picture(page, slide)
            elif isinstance(slide.figure[0], tuple):
                _table(page, slide.figure)
            else:
                _box(page, slide.figure, (MARGIN, BOX[1] + cover, BOX[2], BOX[3] - cover), TEXT)
            _box(page, [slide.caption], (MARGIN, 6.08, BOX[2], 0.95), CAPTION)
            _box(page, [str(number)], (WIDTH - MARGIN - 0.6, 7.05, 0.6, 0.4), SMALLEST)
            page.notes_slide.notes_text_frame.text = f"{slide.notes}\n\n{slide.caption}".strip()
    with atomic_file(path) as file:
        deck.save(file)
    return path


def _picture(page: Any, slide: Story) -> None:
    from matplotlib.figure import Figure
    from pptx.util import Inches

    assert callable(slide.figure)
    figure, pixels = Figure(figsize=BOX[2:]), io.BytesIO()
    slide.figure(figure)
    figure.savefig(pixels, format="png")
    picture = page.shapes.add_picture(pixels, *(Inches(v) for v in BOX))
    picture._element.nvPicPr.cNvPr.set("descr", f"{slide.headline}. {slide.alt}")


def _table(page: Any, rows: Any) -> None:
    from pptx.util import Inches

    table = page.shapes.add_table(len(rows), len(rows[0]), *(Inches(v) for v in (*BOX[:3], 0.45 * len(rows)))).table
    longest = [max(len(row[j]) for row in rows) + 3 for j in range(len(rows[0]))]
    for j, length in enumerate(longest):
        table.columns[j].width = Inches(BOX[2] * length / sum(longest))
        for i, row in enumerate(rows):
            _write(table.cell(i, j).text_frame, [row[j]], CAPTION, bold=i == 0)


def _place(shape: Any, box: tuple[float, ...]) -> None:
    from pptx.util import Inches

    shape.left, shape.top, shape.width, shape.height = (Inches(v) for v in box)


def _box(page: Any, lines: Any, box: tuple[float, ...], points: int) -> None:
    if any(lines):
        shape = page.shapes.add_textbox(0, 0, 0, 0)
        _place(shape, box)
        _write(shape.text_frame, lines, points)


def _write(frame: Any, lines: Sequence[str], points: int, bold: bool = False) -> None:
    """A paragraph a line; ``^`` after N, D, C or 2 raises what follows, a minus is one, intervals stay on one line."""
    from pptx.enum.text import PP_ALIGN
    from pptx.util import Pt

    frame.word_wrap = True
    for i, line in enumerate(lines):
        paragraph = frame.paragraphs[0] if i == 0 else frame.add_paragraph()
        paragraph.alignment, paragraph.space_after = PP_ALIGN.LEFT, Pt(points / 2 if len(lines) > 1 else 0)
        line = re.sub(r"(?<![\w-])-(?=\d)", "−", line.replace("alpha =", "α =").replace("beta =", "β ="))
        line = re.sub(r"\[([^\[\]]*), ([^\[\]]*)\]", "[\\1,\u00a0\\2]", line)
        for j, text in enumerate(re.split(r"(?<=[NDC2])\^(β/\(α\+β\)|[\w.]*\w)", line)):
            run = paragraph.add_run()
            run.text, run.font.size, run.font.bold = text, Pt(points), bold
            if j % 2:
                run.font._element.set("baseline", "30000")
