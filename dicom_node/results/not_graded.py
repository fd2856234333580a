"""What goes back of a study without a grade: one page and one report, so that the study doesn't vanish.

Only our own sentences stand in them: the reason, and what each series was found to be.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from pydicom import Dataset

from dicom_node.reading.evidence import Evidence, InstanceReference
from dicom_node.results.capture import CaptureBuilder
from dicom_node.results.drawing import (
    AMBER,
    GAP,
    GREY,
    HEADLINE_SIZE,
    TEXT_SIZE,
    WHITE,
    Line,
    lay_out,
    write_lines,
)
from dicom_node.results.report import (
    CONTRAST_WORDS,
    NOT_GRADED_SENTENCE,
    NOT_GRADED_WORDS,
    RESEARCH_SENTENCE,
    NotGraded,
)
from dicom_node.results.structured_report import build_not_graded_report

_WIDTH = 1024
_SMALLEST_HEIGHT = 1024
_EDGE = 40
_HEADLINE_SIZE, _REASON_SIZE, _SENTENCE_SIZE = 44, 30, 20
_SECTION_GAP = 28
_COLUMN = 260


def build_not_graded(notice: NotGraded, evidence: Evidence) -> tuple[Dataset, Dataset]:
    """Build the page (Secondary Capture) and the report (Comprehensive 3D SR), in the order of sending."""
    page = CaptureBuilder(notice, evidence).build_notice(draw_notice(notice), notice.headline)
    return page, build_not_graded_report(notice, evidence, [InstanceReference.of(page)])


def draw_notice(notice: NotGraded) -> npt.NDArray[np.uint8]:
    """Draw the page, RGB of shape (row, column, 3): square, taller only where its words need that."""
    width = _WIDTH - 2 * _EDGE
    research = [(RESEARCH_SENTENCE, HEADLINE_SIZE, AMBER)] if notice.research_use_only else []
    above = [
        lay_out([*research, (f"AI result: {NOT_GRADED_WORDS}", _HEADLINE_SIZE, WHITE)], width),
        lay_out([(notice.reason[:1].upper() + notice.reason[1:], _REASON_SIZE, WHITE)], width),
        lay_out([(NOT_GRADED_SENTENCE, _SENTENCE_SIZE, GREY)], width),
    ]
    received = lay_out(
        [
            ("What was received", HEADLINE_SIZE, GREY),
            *((line, TEXT_SIZE, WHITE) for line in notice.received or ("no MR series",)),
        ],
        width,
    )
    footer = lay_out([(notice.algorithm.short_text, TEXT_SIZE, GREY)], width)
    table = _lay_out_table(notice, width)
    blocks = [*above, [line for row in table for line in row.left], received, footer]
    rows = 2 * _EDGE + sum(_height(block) + _SECTION_GAP for block in blocks) - _SECTION_GAP
    rows += sum(max(0, _height(row.right) - _height(row.left)) for row in table)
    image = Image.new("RGB", (_WIDTH, max(_SMALLEST_HEIGHT, rows)))
    draw = ImageDraw.Draw(image)
    top = _EDGE
    for block in above:
        top = write_lines(draw, block, _EDGE, top) + _SECTION_GAP
    for row in table:
        ends = (
            write_lines(draw, row.left, _EDGE, top),
            write_lines(draw, row.right, _EDGE + _COLUMN, top),
        )
        top = max(ends)
    write_lines(draw, received, _EDGE, top + (_SECTION_GAP if table else 0))
    write_lines(draw, footer, _EDGE, image.height - _EDGE - _height(footer))
    return np.asarray(image)


@dataclass(frozen=True, slots=True)
class _Row:
    left: list[Line]
    right: list[Line]


def _lay_out_table(notice: NotGraded, width: int) -> list[_Row]:
    """Lay out what grading needs, beside what there is of it."""
    if not notice.needed:
        return []
    rows = [_Row(lay_out([("What is needed", HEADLINE_SIZE, GREY)], width), [])]
    for needed in notice.needed:
        words, ink = (needed.words, WHITE) if needed.series else ("none found", AMBER)
        rows.append(
            _Row(
                lay_out([(CONTRAST_WORDS[needed.contrast], _SENTENCE_SIZE, WHITE)], _COLUMN - GAP),
                lay_out([(words, _SENTENCE_SIZE, ink)], width - _COLUMN),
            )
        )
    return rows


def _height(lines: Sequence[Line]) -> int:
    return sum(line.height for line in lines)
