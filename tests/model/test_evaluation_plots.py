import numpy as np
import pytest
from PIL import Image

from model.assessment.evaluation import evaluate
from model.assessment.evaluation_measure import Measured, Picture
from model.assessment.evaluation_plots import ATTENTION, RELIABILITY, RISK, ROC, plot_evaluation
from model.attention_scores import AttentionScores
from model.gates import NOT_JUDGED
from model.grade import Grade
from tests.model.test_evaluation import CONFOUNDED

IS_HGG = np.array([each.grade is Grade.HGG for each in CONFOUNDED])
NO_SCORES = np.full((20, len(AttentionScores._fields)), np.nan)


def picture(patient, attended):
    disc = np.hypot(*np.ogrid[-112:112, -112:112])
    brain = disc < 80
    tumour = np.hypot(*np.ogrid[-90:134, -112:112]) < 15
    return Picture(
        patient,
        0.7,
        (brain * (1 + tumour)).astype(np.float32),
        (attended * tumour).astype(np.float32),
        tumour,
    )


def plot(card, folder, pictures=(), **evaluated):
    folder.mkdir()
    p = np.where(IS_HGG, 0.9, 0.1)
    judgement = np.array([NOT_JUDGED] * 20, dtype=object)
    measured = Measured(p, judgement, p, p, 1 - p, np.full(20, np.nan), NO_SCORES, NO_SCORES, pictures)
    evaluation = evaluate(card, CONFOUNDED, measured, resamples=20, **evaluated)
    plot_evaluation(folder, measured, evaluation, IS_HGG, 0.5)
    return folder


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_three_charts_are_drawn_and_no_attention_where_nobody_was_depicted(card, tmp_path):
    folder = plot(card, tmp_path / "plots")
    assert {path.name for path in folder.iterdir()} == {ROC, RELIABILITY, RISK}
    for path in folder.iterdir():
        assert pixels(path).std() > 10


def test_training_figures_say_so_in_red(card, tmp_path):
    def red(folder):
        found = pixels(folder / ROC)
        return int(((found[..., 0] > 150) & (found[..., 1:] < 60).all(axis=-1)).sum())

    assert red(plot(card, tmp_path / "unseen")) == 0
    assert red(plot(card, tmp_path / "seen", seen=frozenset({CONFOUNDED[0].id}))) > 100


@pytest.mark.parametrize("count", [1, 2, 3])
def test_attention_is_shown_on_a_fixed_scale(card, tmp_path, count):
    def yellow(folder):
        left = pixels(folder / ATTENTION)[:, : -200 or None]  # without the colour bar
        return int(((left[..., 0] - left[..., 2] > 60) & (left[..., 1] > 120)).sum())

    full, faint = (
        plot(card, tmp_path / f"{attended}", tuple(picture(each, attended) for each in CONFOUNDED[:count]))
        for attended in (1.0, 0.2)
    )
    assert yellow(full) > 200 * count
    assert yellow(faint) == 0
