"""What the pages have in common: inks, wrapped words, edge letters and the colour bar of attention."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from dicom_node.results.colour import overlay_attention

Ink = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

WHITE: Ink = (255, 255, 255)
GREY: Ink = (190, 190, 190)
AMBER: Ink = (255, 190, 60)
MARGIN = 12
GAP = 24
BAR_COLUMNS = 84
TEXT_SIZE, HEADLINE_SIZE = 16, 22
_BAR_GREY = 96
_LINE_SPACING = 1.3
_HATCH_PERIOD, _HATCH_WIDTH, _HATCH_OPACITY = 28, 2, 0.5


@dataclass(frozen=True, slots=True)
class Line:
    """One line of words that fits its page."""

    words: str
    font: Font
    ink: Ink

    @property
    def height(self) -> int:
        """Pixels from this line's top to the next one's."""
        size = self.font.size if isinstance(self.font, ImageFont.FreeTypeFont) else TEXT_SIZE
        return round(_LINE_SPACING * size)


@dataclass(frozen=True, slots=True)
class Edges:
    """Orientation letters of a pane's edges."""

    left: str
    right: str
    top: str
    bottom: str


def lay_out(paragraphs: Iterable[tuple[str, int, Ink]], width: int) -> list[Line]:
    """Break paragraphs (words, size, ink) into lines of at most `width` pixels where spaces allow."""
    lines = []
    for words, size, ink in paragraphs:
        font = ImageFont.load_default(size)
        lines += [Line(line, font, ink) for line in _wrap(words, font, width)]
    return lines


def write_lines(draw: ImageDraw.ImageDraw, lines: Sequence[Line], left: int, top: int) -> int:
    """Draw lines below one another; returns where the next one would stand."""
    for line in lines:
        draw.text((left, top), line.words, font=line.font, fill=line.ink)
        top += line.height
    return top


def draw_edges(
    draw: ImageDraw.ImageDraw, edges: Edges, corner: tuple[int, int], size: tuple[int, int]
) -> None:
    """Write the letters inside the pane at `corner` (across, down) of `size` (columns, rows)."""
    font = ImageFont.load_default(TEXT_SIZE)
    left, top = corner
    columns, rows = size
    for letter, across, down, anchor in (
        (edges.left, 4, rows // 2, "lm"),
        (edges.right, columns - 4, rows // 2, "rm"),
        (edges.top, columns // 2, 4, "ma"),
        (edges.bottom, columns // 2, rows - 4, "md"),
    ):
        place = (left + across, top + down)
        draw.text(place, letter, font=font, fill=WHITE, anchor=anchor, stroke_width=1, stroke_fill=(0, 0, 0))


def draw_bar(image: Image.Image, corner: tuple[int, int], rows: int) -> None:
    """Draw the colour bar, `BAR_COLUMNS` wide, at `corner` (across, down)."""
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(TEXT_SIZE)
    left, above = corner
    top, bottom = above + 3 * MARGIN, above + rows - 2 * MARGIN
    ramp = np.repeat(np.linspace(1, 0, bottom - top, dtype=np.float32)[:, None], 18, axis=1)
    # Over grey as in the picture, so that a reader compares like with like.
    bar = overlay_attention(np.full(ramp.shape, _BAR_GREY, dtype=np.uint8), ramp)
    image.paste(Image.fromarray(bar), (left + MARGIN, top))
    draw.text((left + 4, above + 6), "Attention", font=font, fill=WHITE)
    for value in (0.0, 0.25, 0.5, 0.75, 1.0):
        down = bottom - 1 - value * (bottom - 1 - top)
        draw.text((left + MARGIN + 26, down), f"{value:g}", font=font, fill=WHITE, anchor="lm")


def hatch(picture: npt.NDArray[np.uint8], where: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Draw thin diagonal lines over the part of an RGB picture (row, column, 3) that `where` marks."""
    diagonals = np.add.outer(*map(np.arange, where.shape))
    lines = where & (diagonals % _HATCH_PERIOD < _HATCH_WIDTH)
    hatched = picture.copy()
    inked = picture[lines] * (1 - _HATCH_OPACITY) + np.array(GREY) * _HATCH_OPACITY
    hatched[lines] = np.rint(inked)
    return hatched


def _wrap(words: str, font: Font, width: int) -> list[str]:
    lines = [""]
    for word in words.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
