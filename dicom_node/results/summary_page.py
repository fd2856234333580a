"""The page at the front: grade, probability on its scale, the three contrasts where attention is highest.

Only numbers and our own wording are drawn, never a name or an identifier of the patient.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from dicom_node.reading.frames import Frame
from dicom_node.results.drawing import (
    AMBER,
    BAR_COLUMNS,
    GAP,
    GREY,
    HEADLINE_SIZE,
    MARGIN,
    TEXT_SIZE,
    WHITE,
    draw_bar,
    draw_edges,
    lay_out,
    write_lines,
)
from dicom_node.results.pane import Pane, edges_of, place_of
from dicom_node.results.report import (
    CLASSES_SENTENCE,
    CONTRAST_WORDS,
    PICTURE_SENTENCES,
    RESEARCH_SENTENCE,
    Report,
)
from model.grade import Contrast

_GRADE_SIZE = 34
_BOX = 340
_ROW_GAP = 6
_TITLE_ROWS = 48
_SCALE_ROWS = 64
_SCALE_COLUMNS = 700


@dataclass(frozen=True, slots=True, eq=False)
class SummaryPane:
    """One contrast's frame, made ready."""

    contrast: Contrast
    frame: Frame
    pane: Pane


def draw_summary(panes: Sequence[SummaryPane], report: Report) -> npt.NDArray[np.uint8]:
    """Draw the page, RGB of shape (row, column, 3); panes stand side by side in true proportions.

    The attention stands over the anatomy, the anatomy alone below it: what is bright would not show through.
    """
    width = 2 * MARGIN + len(panes) * (_BOX + GAP) + BAR_COLUMNS
    research = [(RESEARCH_SENTENCE, HEADLINE_SIZE, AMBER)] if report.research_use_only else []
    above = lay_out(
        [
            *research,
            (report.result_words, _GRADE_SIZE, WHITE),
            *_what_is_known(report),
        ],
        width - 2 * MARGIN,
    )
    below = lay_out(
        [
            (report.algorithm.training_statement, TEXT_SIZE, AMBER),
            *((f"Taken as {role.short_text}", TEXT_SIZE, WHITE) for role in report.roles),
            (PICTURE_SENTENCES, TEXT_SIZE, GREY),
            (CLASSES_SENTENCE, TEXT_SIZE, GREY),
            (report.algorithm.short_text, TEXT_SIZE, GREY),
        ],
        width - 2 * MARGIN,
    )
    scale_top = MARGIN + sum(line.height for line in above)
    panes_top = scale_top + (_SCALE_ROWS if report.tells_probability else 0) + _TITLE_ROWS
    words_top = panes_top + 2 * _BOX + _ROW_GAP + MARGIN
    image = Image.new("RGB", (width, words_top + sum(line.height for line in below) + MARGIN))
    draw = ImageDraw.Draw(image)
    write_lines(draw, above, MARGIN, MARGIN)
    if report.tells_probability:
        _draw_scale(draw, report, scale_top)
    for index, pane in enumerate(panes):
        _draw_pane(image, pane, (MARGIN + index * (_BOX + GAP), panes_top))
    draw_bar(image, (width - MARGIN - BAR_COLUMNS, panes_top), _BOX)
    write_lines(draw, below, MARGIN, words_top)
    return np.asarray(image)


def _what_is_known(report: Report) -> list[tuple[str, int, tuple[int, int, int]]]:
    """The probability where it is told, and the reason where there is no grade."""
    words = [(report.probability_words, HEADLINE_SIZE, WHITE), (report.judgement.sentence, TEXT_SIZE, AMBER)]
    return [line for line in words if line[0]]


def _draw_scale(draw: ImageDraw.ImageDraw, report: Report, top: int) -> None:
    """Draw the probability as a mark on 0-100 %, with the threshold that decides."""
    font = ImageFont.load_default(TEXT_SIZE)
    left, line = MARGIN + 40, top + 20
    right = left + _SCALE_COLUMNS
    threshold = left + round(report.prediction.threshold * _SCALE_COLUMNS)
    value = left + round(report.prediction.probability * _SCALE_COLUMNS)
    draw.line([(left, line), (right, line)], fill=GREY, width=3)
    draw.line([(threshold, line - 14), (threshold, line + 14)], fill=GREY, width=2)
    draw.text((left - 6, line), "LGG", font=font, fill=GREY, anchor="rm")
    draw.text((right + 6, line), "HGG", font=font, fill=GREY, anchor="lm")
    draw.text((threshold, line + 18), f"threshold {report.threshold_text}", font=font, fill=GREY, anchor="ma")
    draw.polygon([(value, line - 12), (value + 9, line), (value, line + 12), (value - 9, line)], fill=WHITE)


def _draw_pane(image: Image.Image, shown: SummaryPane, corner: tuple[int, int]) -> None:
    left, top = corner
    draw = ImageDraw.Draw(image)
    titles = lay_out(
        [
            (CONTRAST_WORDS[shown.contrast], TEXT_SIZE, WHITE),
            (place_of(shown.frame), TEXT_SIZE, GREY),
        ],
        _BOX,
    )
    write_lines(draw, titles, left, top - _TITLE_ROWS)
    grey = np.repeat(shown.pane.grey[..., None], 3, axis=-1)
    columns, rows = _fit(shown.frame)
    for picture in (shown.pane.overlay, grey):
        place = (left + (_BOX - columns) // 2, top + (_BOX - rows) // 2)
        image.paste(Image.fromarray(picture).resize((columns, rows), Image.Resampling.LANCZOS), place)
        draw_edges(draw, edges_of(shown.frame), place, (columns, rows))
        top += _BOX + _ROW_GAP


def _fit(frame: Frame) -> tuple[int, int]:
    """Columns and rows of the largest picture in the box that has the frame's proportions in millimetres."""
    height, width = np.array(frame.shape) * frame.spacing_mm
    scale = _BOX / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))
