"""The picture of one slice: anatomy under its attention, the plain slice beside it, and what must be read.

Only numbers and our own wording are drawn, never a name or an identifier of the patient.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from dicom_node.results.drawing import (
    AMBER,
    BAR_COLUMNS,
    GAP,
    GREY,
    HEADLINE_SIZE,
    MARGIN,
    TEXT_SIZE,
    WHITE,
    Edges,
    Line,
    draw_bar,
    draw_edges,
    lay_out,
    write_lines,
)
from dicom_node.results.pane import Pane
from dicom_node.results.report import (
    CLASSES_SENTENCE,
    PICTURE_SENTENCES,
    RESEARCH_SENTENCE,
    Report,
)


@dataclass(frozen=True, slots=True, eq=False)
class PageParts:
    """What stands on a page side by side: RGB of shape (row, column, 3) each."""

    overlay: npt.NDArray[np.uint8]
    plain: npt.NDArray[np.uint8]
    scale: npt.NDArray[np.uint8]


def split_page(page: npt.NDArray[np.uint8], source: tuple[int, int]) -> PageParts:
    """Take apart what `draw_page` has drawn of a source of this shape (row, column).

    Raises ValueError where the page can't show a whole multiple of such a source.
    """
    columns, odd = divmod(page.shape[1] - GAP - BAR_COLUMNS, 2)
    scale, rest = divmod(columns, source[1])
    rows, right = scale * source[0], columns + GAP
    if odd or rest or scale < 1 or rows > page.shape[0]:
        raise ValueError(f"a page of shape {page.shape} shows no source of shape {source}")
    return PageParts(
        overlay=page[:rows, :columns],
        plain=page[:rows, right : right + columns],
        scale=page[:rows, right + columns :],
    )


def draw_page(pane: Pane, edges: Edges, place: str, report: Report) -> npt.NDArray[np.uint8]:
    """Draw an RGB page of shape (row, column, 3) whose top-left pixel is that of `pane`.

    Left the overlay, right of it the plain slice, then the colour bar; the words stand below, so that they
    hide no anatomy.
    """
    rows, columns = pane.grey.shape
    right = columns + GAP
    width = right + columns + BAR_COLUMNS
    words = _lay_out(report, place, width - 2 * MARGIN)
    height = rows + 2 * MARGIN + sum(line.height for line in words)
    page = np.zeros((height, width, 3), dtype=np.uint8)
    page[:rows, :columns] = pane.overlay
    page[:rows, right : right + columns] = pane.grey[..., None]
    image = Image.fromarray(page)
    draw = ImageDraw.Draw(image)
    for left in (0, right):
        draw_edges(draw, edges, (left, 0), (columns, rows))
    draw_bar(image, (right + columns, 0), rows)
    write_lines(draw, words, MARGIN, rows + MARGIN)
    return np.asarray(image)


def _lay_out(report: Report, place: str, width: int) -> list[Line]:
    research = [(RESEARCH_SENTENCE, HEADLINE_SIZE, AMBER)] if report.research_use_only else []
    paragraphs = [
        (report.headline, HEADLINE_SIZE, WHITE),
        *research,
        (report.algorithm.training_statement, TEXT_SIZE, AMBER),
        (place, TEXT_SIZE, WHITE),
        (PICTURE_SENTENCES, TEXT_SIZE, GREY),
        (CLASSES_SENTENCE, TEXT_SIZE, GREY),
        (report.algorithm.short_text, TEXT_SIZE, GREY),
    ]
    return lay_out(paragraphs, width)
