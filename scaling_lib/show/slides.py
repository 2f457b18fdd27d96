"""Slides as an editable 16:9 PowerPoint file: real titles, tables and text, pictures with descriptions, speaker notes.

What the slides say is ``talk``'s business. Needs python-pptx (the extra ``slides``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling_lib.errors import InputError
from scaling_lib.files import atomic_file

if TYPE_CHECKING:
    from pptx.presentation import Presentation
    from pptx.slide import Slide as Page

WIDTH, HEIGHT = 13.333, 7.5  # inches, 16:9
MARGIN = 0.5
PICTURE = (MARGIN, 1.42, 8.8, 4.95)  # left, top, width, height in inches; the pictures are 16:9 as well
BESIDE = (9.5, 1.42, WIDTH - 9.5 - MARGIN, 4.95)
CAPTION = (MARGIN, 6.4, WIDTH - 2 * MARGIN, 0.66)
BLUE, DARK, GREY = "0072B2", "222222", "666666"
MOST_CAPTION = 420  # characters: three lines; the rest is in the notes


@dataclass(frozen=True)
class Slide:
    """One idea.

    section : in small letters above the title. title : a sentence. points : short lines, beside the picture where
        there is one. formula : on a line of its own; ``^`` raises the word or number after it, here as in all lines.
    picture, alt, caption : the file, its description for who cannot see it, and the words below it.
    table : rows of cells, the first one the headings. notes : what to say. source : where the numbers come from.
    """

    section: str
    title: str
    points: tuple[str, ...] = ()
    formula: str = ""
    picture: Path | None = None
    alt: str = ""
    caption: str = ""
    table: tuple[tuple[str, ...], ...] = ()
    notes: str = ""
    source: str = ""


def save_slides(slides: Sequence[Slide], path: Path, title: str) -> Path:
    """Write the slides, the first of them as a cover; returns ``path``.

    Raises
    ------
    InputError
        When python-pptx is not installed, or the file cannot be written.
    """
    check_pptx()
    deck = _empty_deck()
    deck.core_properties.title = title
    deck.core_properties.author = "scaling_lib"
    for i, slide in enumerate(slides):
        page = _cover(deck, slide) if i == 0 else _page(deck, slide, i + 1)
        notes = page.notes_slide.notes_text_frame
        assert notes is not None  # the template has one
        notes.text = slide.notes
    with atomic_file(path) as file:
        deck.save(file)
    return path


def check_pptx() -> None:
    """Raise ``InputError`` where python-pptx is absent."""
    import importlib.util

    if importlib.util.find_spec("pptx") is None:
        raise InputError(
            "python-pptx is not installed: pip install -c constraints.txt -e '.[slides]', or choose --target slides "
            "for the pictures alone"
        )


def _empty_deck() -> Presentation:
    """python-pptx's own template, whose layouts are 4:3, made 16:9."""
    from pptx import Presentation as open_deck
    from pptx.util import Inches

    deck = open_deck()
    stretch = Inches(WIDTH) / (deck.slide_width or Inches(10))
    deck.slide_width, deck.slide_height = Inches(WIDTH), Inches(HEIGHT)
    for sheet in (deck.slide_master, *deck.slide_layouts):
        for shape in sheet.placeholders:
            shape.left, shape.width = round(shape.left * stretch), round(shape.width * stretch)
    return deck


def _cover(deck: Presentation, slide: Slide) -> Page:
    from pptx.util import Inches

    page = deck.slides.add_slide(deck.slide_layouts[0])
    title, below = page.shapes.title, page.placeholders[1]
    assert title is not None
    title.text = slide.title
    title.text_frame.paragraphs[0].runs[0].font.bold = True
    below.left, below.top, below.width, below.height = (Inches(v) for v in (1.2, 4.2, WIDTH - 2.4, 2.0))
    below.text_frame.text = "\n".join(slide.points)
    _sizes(below.text_frame, 20)
    return page


def _page(deck: Presentation, slide: Slide, number: int) -> Page:
    page = deck.slides.add_slide(deck.slide_layouts[5])  # a title and nothing else
    _title(page, slide)
    top = PICTURE[1]
    if slide.formula:
        _text(page, [slide.formula], (MARGIN, top, WIDTH - 2 * MARGIN, 1.0), 32, bold=True, centred=True)
        top += 1.2
    if slide.picture is not None:
        from pptx.util import Inches

        left, upper, width, height = (Inches(v) for v in PICTURE)
        picture = page.shapes.add_picture(str(slide.picture), left, upper, width, height)
        picture._element.nvPicPr.cNvPr.set("descr", slide.alt)
        picture.name = slide.picture.stem
        _text(page, slide.points, BESIDE, 16, bullets=True)
        _text(page, [_short(slide.caption)], CAPTION, 12, colour=GREY)
    else:
        if slide.table:
            top = _table(page, slide.table, top) + 0.25
        _text(page, slide.points, (MARGIN, top, WIDTH - 2 * MARGIN, 6.9 - top), 22, bullets=True)
    _footer(page, slide.source, number)
    return page


def _title(page: Page, slide: Slide) -> None:
    from pptx.enum.text import MSO_ANCHOR, PP_ALIGN
    from pptx.util import Inches

    _text(page, [slide.section], (MARGIN, 0.22, WIDTH - 2 * MARGIN, 0.33), 14, colour=BLUE, bold=True)
    title = page.shapes.title
    assert title is not None
    title.left, title.top, title.width, title.height = (Inches(v) for v in (MARGIN, 0.55, WIDTH - 2 * MARGIN, 0.85))
    title.text_frame.text = _set(slide.title)
    title.text_frame.word_wrap = True
    title.text_frame.vertical_anchor = MSO_ANCHOR.MIDDLE
    for paragraph in title.text_frame.paragraphs:
        paragraph.alignment = PP_ALIGN.LEFT
        paragraph.line_spacing = 0.9
    _sizes(title.text_frame, 28 if len(slide.title) < 58 else 24)
    title.text_frame.paragraphs[0].runs[0].font.bold = True


def _sizes(frame: Any, points: int) -> None:
    from pptx.util import Pt

    for paragraph in frame.paragraphs:
        for run in paragraph.runs:
            run.font.size = Pt(points)


def _text(
    page: Page,
    lines: Sequence[str],
    box: tuple[float, float, float, float],
    points: int,
    *,
    colour: str = DARK,
    bold: bool = False,
    bullets: bool = False,
    centred: bool = False,
) -> None:
    """A text box in the theme's own font, a paragraph a line; nothing where there is nothing to say."""
    from pptx.dml.color import RGBColor
    from pptx.enum.text import PP_ALIGN
    from pptx.util import Inches, Pt

    if not any(lines):
        return
    frame = page.shapes.add_textbox(*(Inches(v) for v in box)).text_frame
    frame.word_wrap = True
    for i, line in enumerate(lines):
        paragraph = frame.paragraphs[0] if i == 0 else frame.add_paragraph()
        if centred:
            paragraph.alignment = PP_ALIGN.CENTER
        if bullets:
            paragraph.space_after = Pt(points / 2)
            _bullet(paragraph, points)
        for text, raised in _raised(_set(line)):
            run = paragraph.add_run()
            run.text = text
            run.font.size, run.font.bold, run.font.color.rgb = Pt(points), bold, RGBColor.from_string(colour)
            if raised:
                run.font._element.set("baseline", "30000")


def _bullet(paragraph: Any, points: int) -> None:
    """A real bullet with a hanging indent, which PowerPoint's own buttons change."""
    from pptx.util import Pt

    properties = paragraph._p.get_or_add_pPr()
    properties.set("marL", str(Pt(points)))
    properties.set("indent", str(-Pt(points)))
    bullet = properties.makeelement("{http://schemas.openxmlformats.org/drawingml/2006/main}buChar", {"char": "•"})
    properties.append(bullet)


def _raised(line: str) -> list[tuple[str, bool]]:
    """``A / N^α + B`` as pieces, ``α`` of them raised."""
    pieces = re.split(r"\^(\w+(?:\.\d+)?)", line)
    return [(text, i % 2 == 1) for i, text in enumerate(pieces) if text]


def _set(line: str) -> str:
    """As a typesetter has it: Greek exponents, a minus that is one, and intervals that stay on one line."""
    line = line.replace("alpha", "α").replace("beta", "β")
    line = re.sub(r"(?<![\w-])-(?=\d)", "−", line)
    return re.sub(r"\[([^\[\]]*), ([^\[\]]*)\]", "[\\1,\u00a0\\2]", line)


def _table(page: Page, rows: Sequence[Sequence[str]], top: float) -> float:
    """A native table under ``top`` (inches); returns where it ends."""
    from pptx.util import Inches, Pt

    height = 0.42 * len(rows)
    box = (Inches(v) for v in (MARGIN, top, WIDTH - 2 * MARGIN, height))
    table = page.shapes.add_table(len(rows), len(rows[0]), *box).table
    longest = [max(len(row[j]) for row in rows) + 3 for j in range(len(rows[0]))]
    for j, length in enumerate(longest):
        table.columns[j].width = Inches((WIDTH - 2 * MARGIN) * length / sum(longest))
    for i, row in enumerate(rows):
        for j, cell in enumerate(row):
            table.cell(i, j).text = _set(cell)
            for run in table.cell(i, j).text_frame.paragraphs[0].runs:
                run.font.size = Pt(14)
    return top + height


def _footer(page: Page, source: str, number: int) -> None:
    _text(page, [source], (MARGIN, 7.08, WIDTH - 2.5, 0.3), 10, colour=GREY)
    _text(page, [str(number)], (WIDTH - MARGIN - 0.8, 7.08, 0.8, 0.3), 10, colour=GREY)


def _short(caption: str) -> str:
    """A caption that fits below the picture: whole parts of it, and a word where the rest is."""
    if len(caption) <= MOST_CAPTION:
        return caption
    cut = max(caption.rfind(mark, 0, MOST_CAPTION - 20) for mark in ("; ", ". ", ", "))
    return caption[: cut + 1] + " (more in the notes)"
