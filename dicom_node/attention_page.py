"""The picture of one slice: anatomy under its attention, the plain slice beside it, and what must be read.

Only numbers and our own wording are drawn, never a name or an identifier of the patient.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from dicom_node.colour import overlay_attention
from dicom_node.report import ATTENTION_SENTENCE, CLASSES_SENTENCE, RESEARCH_SENTENCE, Report

_WHITE, _GREY, _AMBER = (255, 255, 255), (190, 190, 190), (255, 190, 60)
_MARGIN = 12
_GAP = 24
_BAR_COLUMNS = 84
_BAR_GREY = 96
_TEXT_SIZE, _HEADLINE_SIZE = 16, 22
_LINE_SPACING = 1.3

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True, slots=True)
class PageText:
    """Words that differ from slice to slice: orientation letters of the edges, and the slice's place."""

    left: str
    right: str
    top: str
    bottom: str
    place: str


def draw_page(
    grey: npt.NDArray[np.uint8], attention: npt.NDArray[np.float32], text: PageText, report: Report
) -> npt.NDArray[np.uint8]:
    """Draw an RGB page of shape (row, column, 3) whose top-left pixel is that of `grey`.

    `grey` and `attention` (0-1) share the shape (row, column). Left the overlay, right of it the plain
    slice, then the colour bar; the words stand below, so that they hide no anatomy.
    """
    rows, columns = grey.shape
    right = columns + _GAP
    width = right + columns + _BAR_COLUMNS
    words = _lay_out(report, text, width - 2 * _MARGIN)
    height = rows + 2 * _MARGIN + sum(_line_height(font) for _, font, _ in words)
    page = np.zeros((height, width, 3), dtype=np.uint8)
    page[:rows, :columns] = overlay_attention(grey, attention)
    page[:rows, right : right + columns] = grey[..., None]
    image = Image.fromarray(page)
    draw = ImageDraw.Draw(image)
    for left in (0, right):
        _draw_edges(draw, text, left, rows, columns)
    _draw_bar(image, right + columns, rows)
    top = rows + _MARGIN
    for line, font, colour in words:
        draw.text((_MARGIN, top), line, font=font, fill=colour)
        top += _line_height(font)
    return np.asarray(image)


def _lay_out(report: Report, text: PageText, width: int) -> list[tuple[str, Font, tuple[int, int, int]]]:
    small, large = ImageFont.load_default(_TEXT_SIZE), ImageFont.load_default(_HEADLINE_SIZE)
    research = [(RESEARCH_SENTENCE, large, _AMBER)] if report.research_use_only else []
    paragraphs = [
        (report.headline, large, _WHITE),
        *research,
        (report.algorithm.training_statement, small, _AMBER),
        (text.place, small, _WHITE),
        (f"{ATTENTION_SENTENCE} {CLASSES_SENTENCE}", small, _GREY),
        (report.algorithm.short_text, small, _GREY),
    ]
    return [(line, font, ink) for words, font, ink in paragraphs for line in _wrap(words, font, width)]


def _wrap(words: str, font: Font, width: int) -> list[str]:
    lines = [""]
    for word in words.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _line_height(font: Font) -> int:
    return round(_LINE_SPACING * (font.size if isinstance(font, ImageFont.FreeTypeFont) else _TEXT_SIZE))


def _draw_edges(draw: ImageDraw.ImageDraw, text: PageText, left: int, rows: int, columns: int) -> None:
    font = ImageFont.load_default(_TEXT_SIZE)
    for letter, across, down, anchor in (
        (text.left, 4, rows // 2, "lm"),
        (text.right, columns - 4, rows // 2, "rm"),
        (text.top, columns // 2, 4, "ma"),
        (text.bottom, columns // 2, rows - 4, "md"),
    ):
        place = (left + across, down)
        draw.text(place, letter, font=font, fill=_WHITE, anchor=anchor, stroke_width=1, stroke_fill=(0, 0, 0))


def _draw_bar(image: Image.Image, left: int, rows: int) -> None:
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(_TEXT_SIZE)
    top, bottom = 3 * _MARGIN, rows - 2 * _MARGIN
    ramp = np.repeat(np.linspace(1, 0, bottom - top, dtype=np.float32)[:, None], 18, axis=1)
    # Over grey as in the picture, so that a reader compares like with like.
    bar = overlay_attention(np.full(ramp.shape, _BAR_GREY, dtype=np.uint8), ramp)
    image.paste(Image.fromarray(bar), (left + _MARGIN, top))
    draw.text((left + 4, 6), "Attention", font=font, fill=_WHITE)
    for value in (0.0, 0.25, 0.5, 0.75, 1.0):
        down = bottom - 1 - value * (bottom - 1 - top)
        draw.text((left + _MARGIN + 26, down), f"{value:g}", font=font, fill=_WHITE, anchor="lm")
