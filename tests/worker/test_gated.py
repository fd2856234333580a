"""A study that the network has seen and a gate keeps without a grade, from its stack to its report."""

import json
import re
from dataclasses import asdict
from datetime import UTC, datetime

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import SecondaryCaptureImageStorage
from rich.console import Console
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from dicom_node.results.show import render_text
from model.gates import Judgement
from model.grade import GradePrediction, Verdict
from model.space.stack import Stack
from model.space.volume import Volume, save_volume
from tests.faults.conftest import series_of
from tests.faults.service import header
from tests.worker.test_indexing import make_study
from tests.worker.test_steps import few_slices, flat, node, receive, run, study  # noqa: F401 - fixtures
from worker.answers.story_page import story_page
from worker.answers.study_story import tell_story
from worker.answers.tables import results_table, to_csv
from worker.delivery.delivering import settle_job
from worker.records.database import Job, Result, ResultObject
from worker.records.queries import study_standings
from worker.states import JobState
from worker.study import steps
from worker.study.reporting import object_path

SENTENCE = {
    Verdict.GRADED: "",
    Verdict.INDETERMINATE: "Indeterminate: too near the threshold.",
    Verdict.NO_TUMOUR_SEEN: "No tumour seen by the network: not graded.",
    Verdict.OUT_OF_DISTRIBUTION: "Not graded: the images are unlike those trained on.",
}
SHOWN = {
    Verdict.INDETERMINATE: ("AI result: INDETERMINATE - probability of HGG 48.0 %", "Indeterminate ("),
    Verdict.NO_TUMOUR_SEEN: ("NOT GRADED, NO TUMOUR SEEN\n", "Not graded, no tumour seen ("),
    Verdict.OUT_OF_DISTRIBUTION: ("NOT GRADED, UNUSUAL IMAGES\n", "Not graded, images out of distribution ("),
}


class Judged:
    """A network whose gates have said what the test says."""

    def __init__(self, verdict):
        self.judgement = Judgement(verdict, SENTENCE[verdict], 2.5, 1.25)

    def grade(self, prepared, folder):
        stack = Stack.load(prepared / "stack.npz")
        slices = len(stack.array)
        prediction = GradePrediction(0.48, 0.5, (0.48,) * slices, (1 / slices,) * slices)
        save_volume(Volume(stack.mask.astype(np.float32), stack.affine), folder / "attention.nii")
        content = {
            "prediction": asdict(prediction),
            "judgement": asdict(self.judgement),
            "graded_at": datetime.now(UTC).isoformat(),
        }
        (folder / "prediction.json").write_text(json.dumps(content))


def answer(node, verdict):  # noqa: F811
    """Bring the newest job to its end; give its report and its images."""
    run(node, JobState.PREPARE, steps.prepare)
    run(node, JobState.GRADE, lambda step: steps.grade(step, Judged(verdict)))
    job = run(node, JobState.REPORT, steps.report)
    with node.sessions.begin() as session:
        session.execute(text("UPDATE delivery SET state = 'sent'"))
    settle_job(node, job.id)
    with node.sessions() as session:
        rows = session.scalars(select(ResultObject).order_by(ResultObject.position)).all()
    files = [dcmread(object_path(node.settings.results_folder, row.sha256)) for row in rows]
    images = [file for file in files if file.SOPClassUID == SecondaryCaptureImageStorage]
    return render_text(files[-1]), images


def printed(renderable):
    console = Console(width=250, force_terminal=False)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


@pytest.mark.parametrize("verdict", SHOWN)
def test_what_the_gates_say_reaches_report_database_and_command_line(node, study, verdict):  # noqa: F811
    receive(node, flat(study))
    report, images = answer(node, verdict)
    headline, code = SHOWN[verdict]
    assert headline in report
    assert f"AI-predicted glioma grade: {code}" in report
    assert f"Comment: {SENTENCE[verdict]}\n" in report
    assert f"verdict={verdict}\n" in report
    assert "attention_ml=2.5\n" in report
    assert "appearance_distance=1.25\n" in report
    assert "Volume of the brain with attention above 0.5: 2.5 ml\n" in report
    assert "High Grade" not in report
    assert "Low Grade" not in report
    assert len(images) > 1
    told = verdict is Verdict.INDETERMINATE
    assert ("Probability of high-grade glioma: 48.0 %" in report) == told
    assert bool(re.search(r"48\.?0? ?%", report)) == told
    assert ("Finding: Glioma" in report) == told
    with node.sessions() as session:
        result = session.scalars(select(Result)).one()
        job = session.scalars(select(Job)).one()
        view = session.execute(text("SELECT * FROM v_results")).mappings().one()
        standings = study_standings(session)
        story = tell_story(session, 1)
    assert (result.verdict, result.grade, result.reason_code) == (verdict, None, verdict.value)
    assert result.probability == (0.48 if told else None)
    assert job.state is (JobState.DONE if told else JobState.NOT_GRADABLE)
    assert (job.reason_code, job.reason) == (verdict.value, SENTENCE[verdict])
    assert (view["verdict"], view["attention_ml"], view["appearance_distance"]) == (verdict, 2.5, 1.25)
    assert view["is_current"]
    assert view["manufacturer"] == "gliograde simulated scanner"
    words = verdict.replace("_", " ")
    assert words in printed(results_table(standings))
    assert f"{verdict},,{'0.48' if told else ''},False,2.5,1.25," in to_csv(standings)
    page = printed(story_page(story))
    assert f"result: {words}" in page
    assert "attention over 2.5 ml, distance from usual images 1.25" in page
    assert ("P(HGG) 0.480 (not calibrated)" in page) == told


def test_unchanged_input_ends_as_before_and_sends_nothing(node, study):  # noqa: F811
    receive(node, flat(study))
    answer(node, Verdict.NO_TUMOUR_SEEN)
    receive(node, series_of("flair", 9, header("late", "P1"))[:1])
    job = run(node, JobState.PREPARE, steps.prepare)
    assert (job.state, job.result_id) == (JobState.NOT_GRADABLE, 1)
    assert (job.reason_code, job.reason) == ("no_tumour_seen", SENTENCE[Verdict.NO_TUMOUR_SEEN])


def test_a_checkpoint_without_gates_says_that_none_was_applied(node, study):  # noqa: F811
    receive(node, flat(study))
    report, _ = answer(node, Verdict.GRADED)
    assert node.card.gates is None
    assert "Comment: No gate was applied" in report
    assert "Comment: The probability is not calibrated" in report
    assert "calibrated=no\n" in report
    assert "AI-predicted glioma grade: Low Grade Glioma" in report


@pytest.mark.parametrize(
    "columns",
    [
        {"verdict": "graded", "grade": None, "probability": 0.5, "reason_code": "x"},
        {"verdict": "no_tumour_seen", "grade": None, "probability": 0.5, "reason_code": "x"},
        {"verdict": "out_of_distribution", "grade": "HGG", "probability": None, "reason_code": None},
        {"verdict": "indeterminate", "grade": None, "probability": None, "reason_code": "x"},
        {"verdict": None, "grade": "HGG", "probability": 0.5, "reason_code": None},
        {"verdict": None, "grade": None, "probability": 0.5, "reason_code": "x"},
    ],
)
def test_the_ledger_takes_no_verdict_that_contradicts_its_grade(node, columns):  # noqa: F811
    make_study(node.sessions, node.spool)
    insert = text(
        "INSERT INTO result (study_id, result_uid, verdict, grade, probability, reason_code, model_name,"
        " model_version, checkpoint_sha256, trained_on_simulated, pipeline_version)"
        " VALUES ((SELECT min(id) FROM study), 'u', :verdict, :grade, :probability, :reason_code, 'm', '1',"
        " 'c', true, '4')"
    )
    with node.sessions() as session:
        with pytest.raises(IntegrityError, match="ck_result"):
            session.execute(insert, columns)
        session.rollback()
        good = {"verdict": "indeterminate", "grade": None, "probability": 0.5, "reason_code": "x"}
        session.execute(insert, good)
