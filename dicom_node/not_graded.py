"""What goes back of a study without a grade: one page and one report, so that the study doesn't vanish.

Only our own sentences stand in them: the reason, and what each series was found to be.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from pydicom import Dataset

from dicom_node.capture import CaptureBuilder
from dicom_node.drawing import AMBER, GREY, HEADLINE_SIZE, MARGIN, TEXT_SIZE, WHITE, lay_out, write_lines
from dicom_node.evidence import Evidence, InstanceReference
from dicom_node.report import NOT_GRADED_SENTENCE, NOT_GRADED_WORDS, RESEARCH_SENTENCE, NotGraded
from dicom_node.structured_report import build_not_graded_report

_WIDTH = 1024
_HEADLINE_SIZE = 34


def build_not_graded(notice: NotGraded, evidence: Evidence) -> tuple[Dataset, Dataset]:
    """Build the page (Secondary Capture) and the report (Comprehensive 3D SR), in the order of sending."""
    page = CaptureBuilder(notice, evidence).build_notice(draw_notice(notice), notice.headline)
    return page, build_not_graded_report(notice, evidence, [InstanceReference.of(page)])


def draw_notice(notice: NotGraded) -> npt.NDArray[np.uint8]:
    """Draw the page, RGB of shape (row, column, 3)."""
    research = [(RESEARCH_SENTENCE, HEADLINE_SIZE, AMBER)] if notice.research_use_only else []
    lines = lay_out(
        [
            *research,
            (f"AI result: {NOT_GRADED_WORDS}", _HEADLINE_SIZE, WHITE),
            (notice.reason, HEADLINE_SIZE, WHITE),
            (NOT_GRADED_SENTENCE, TEXT_SIZE, GREY),
            *((line, TEXT_SIZE, WHITE) for line in notice.received),
            (notice.algorithm.short_text, TEXT_SIZE, GREY),
        ],
        _WIDTH - 2 * MARGIN,
    )
    image = Image.new("RGB", (_WIDTH, 2 * MARGIN + sum(line.height for line in lines)))
    write_lines(ImageDraw.Draw(image), lines, MARGIN, MARGIN)
    return np.asarray(image)
