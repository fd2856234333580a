import numpy as np
import pytest

from dicom_node.results.attention_page import draw_page, split_page
from dicom_node.results.colour import overlay_attention
from dicom_node.results.drawing import Edges
from dicom_node.results.pane import Pane
from tests.dicom_node.result_samples import make_report

TEXT = Edges("R", "L", "A", "P"), "T1 post-contrast, series 4, image 7 (S 10.0 mm); slice 1 of 3"


@pytest.fixture
def grey():
    return np.full((300, 240), 90, dtype=np.uint8)


def draw(grey, attention, report, seen=None):
    seen = np.ones(grey.shape, np.bool_) if seen is None else seen
    return draw_page(Pane(grey, attention, seen, np.eye(4)), *TEXT, report)


def _plain_and_overlay(page, columns):
    return page[20:280, columns + 24 + 20 : 2 * columns + 24 - 20], page[20:280, 20 : columns - 20]


def test_without_attention_both_panes_show_the_same_anatomy(grey):
    page = draw(grey, np.zeros(grey.shape, np.float32), make_report())
    plain, overlay = _plain_and_overlay(page, 240)
    assert np.array_equal(plain, overlay)
    assert np.array_equal(page[:10, :100], np.repeat(grey[:10, :100, None], 3, axis=-1))


def test_attention_colours_the_left_pane_only(grey):
    attention = np.zeros(grey.shape, np.float32)
    attention[100:140, 60:90] = 0.9
    page = draw(grey, attention, make_report()).astype(int)
    coloured = np.ptp(page[:300, : 2 * 240 + 24], axis=-1) > 0
    rows, columns = np.nonzero(coloured)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (100, 139, 60, 89)


def test_what_the_network_was_not_shown_is_hatched_on_the_left_pane_only(grey):
    seen = np.ones(grey.shape, np.bool_)
    seen[150:] = False
    page = draw(grey, np.zeros(grey.shape, np.float32), make_report(), seen)
    plain, overlay = _plain_and_overlay(page, 240)
    drawn = (plain != overlay).any(axis=-1)
    shown, hidden = drawn[: 150 - 20], drawn[150 - 20 :]
    assert not shown.any()
    assert hidden.any(axis=1).all()
    assert hidden.mean() < 0.1


def test_the_words_stand_below_the_anatomy_and_within_the_page(grey):
    page = draw(grey, np.zeros(grey.shape, np.float32), make_report())
    words = page[300:].max(axis=-1)
    assert words.max() == 255
    assert not words[:, :6].any()
    assert not words[:, -6:].any()
    assert not words[-6:].any()


def test_amber_marks_research_only_where_it_is_so(grey):
    nothing = np.zeros(grey.shape, np.float32)
    with_mark = draw(grey, nothing, make_report())
    without = draw(grey, nothing, make_report(research_use_only=False))
    assert len(without) < len(with_mark)


def test_a_narrow_slice_still_gets_every_word():
    narrow = np.zeros((200, 100), dtype=np.uint8)
    nothing = np.zeros(narrow.shape, np.float32)
    wide = np.zeros((200, 600), dtype=np.uint8)
    page = draw(narrow, nothing, make_report())
    assert len(page) > len(draw(wide, np.zeros(wide.shape, np.float32), make_report()))
    assert not page[200:, -6:].any()


@pytest.mark.parametrize("scale", [1, 3])
def test_a_page_is_taken_apart_where_it_was_put_together(grey, scale):
    attention = np.linspace(0, 1, grey.size, dtype=np.float32).reshape(grey.shape)
    page = draw(grey, attention, make_report())
    parts = split_page(page, (300 // scale, 240 // scale))
    assert parts.plain.shape == parts.overlay.shape == (300, 240, 3)
    assert np.array_equal(parts.overlay[30:270, 30:210], overlay_attention(grey, attention)[30:270, 30:210])
    assert np.array_equal(parts.plain[:10, :100], np.repeat(grey[:10, :100, None], 3, axis=-1))
    assert parts.scale.max() == 255


@pytest.mark.parametrize("source", [(300, 7), (300, 480), (301, 1)])
def test_a_page_of_another_source_is_not_taken_apart(grey, source):
    page = draw(grey, np.zeros(grey.shape, np.float32), make_report())
    with pytest.raises(ValueError, match="shows no source"):
        split_page(page, source)
