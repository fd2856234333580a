"""Late instances and waiting, decided in the prepare step on real, tiny studies."""

import re
from datetime import timedelta

import numpy as np
import pytest
from PIL import ImageDraw
from pydicom import dcmread
from pydicom.uid import SecondaryCaptureImageStorage
from sqlalchemy import select, text, update

from dicom_node.peers.scu import Destination
from dicom_node.reading.mr_study import PROTOCOL, build_mr_series
from dicom_node.results.report import EXTENT_SENTENCE
from dicom_node.results.result_kind import DEFAULT_KINDS, ResultKind, kind_of
from dicom_node.results.show import render_text
from model.grade import Contrast, Grade
from model.space import stack
from model.space.volume import Volume
from tests.faults.conftest import series_of
from tests.faults.service import header
from tests.heads import coarse_brain
from tests.worker.samples import spool_object
from worker.delivery.consignments import next_consignment
from worker.records import ledger
from worker.records.database import (
    Delivery,
    Job,
    PreprocessingQuality,
    Result,
    ResultObject,
    SeriesRole,
    Study,
)
from worker.records.queries import live_results
from worker.states import DeliveryState, JobState
from worker.study import pipeline, steps
from worker.study.claimed import ClaimedStep, take_claim
from worker.study.freezing import CompletenessRule, freeze_complete_studies
from worker.study.indexing import INCOMPLETE, hold_study, index_spool
from worker.study.inference import InferenceUnavailableError
from worker.study.interventions import release_study
from worker.study.reporting import object_path
from worker.study.workspace import workspace_of

CONTRASTS = ("flair", "t2", "t1ce")


@pytest.fixture(scope="module")
def predictor(checkpoint):
    from model.predict import Predictor

    return Predictor(checkpoint, "cpu")


@pytest.fixture(autouse=True)
def few_slices(monkeypatch):
    """The network is the longest part of these tests."""
    monkeypatch.setattr(stack, "SLICES", range(50, 106, 14))


class InProcess:
    """The network in this process: what `worker.study.inference` runs in a child."""

    device = "cpu"

    def __init__(self, predictor):
        self.predictor = predictor

    def grade(self, prepared, folder):
        pipeline.grade(prepared, self.predictor, folder)


@pytest.fixture
def study():
    return {
        name: series_of(name, number, header("late", "P1")) for number, name in enumerate(CONTRASTS, start=1)
    }


@pytest.fixture
def node(make_node):
    place = Destination(name="pacs", ae_title="PACS", address="127.0.0.1", port=1)
    return make_node(series_wait=timedelta(0), destinations=(place,))


def receive(node, datasets):
    for dataset in datasets:
        spool_object(node.spool, dataset)
    index_spool(node.sessions, node.spool)
    with node.sessions.begin() as session:
        freeze_complete_studies(session, CompletenessRule(timedelta(0)))


def run(node, state, function):
    """Run one step of the newest job; returns the job after it."""
    with node.sessions() as session:
        job_id = session.scalars(select(Job.id).order_by(Job.id.desc()).limit(1)).one()
    claim = take_claim(node, job_id, state)
    assert claim is not None
    with ClaimedStep(node, claim) as step:
        function(step)
    with node.sessions() as session:
        return session.get_one(Job, job_id)


def run_to_delivery(node, predictor):
    job = run(node, JobState.PREPARE, steps.prepare)
    assert (job.state, job.reason) == (JobState.GRADE, None)
    run(node, JobState.GRADE, lambda step: steps.grade(step, InProcess(predictor)))
    return run(node, JobState.REPORT, steps.report)


def states(node):
    with node.sessions() as session:
        return session.scalars(select(Job.state).order_by(Job.id)).all()


def flat(study):
    return [dataset for series in study.values() for dataset in series]


def test_27_a_result_not_sent_is_called_off_and_named_by_nobody(node, study, predictor):
    *first, last = flat(study)
    receive(node, first)
    run_to_delivery(node, predictor)
    receive(node, [last])
    run(node, JobState.PREPARE, steps.prepare)
    assert states(node) == [JobState.SUPERSEDED, JobState.GRADE]
    assert take_claim(node, 1, JobState.DELIVER) is None
    run(node, JobState.GRADE, lambda step: steps.grade(step, InProcess(predictor)))
    run(node, JobState.REPORT, steps.report)
    with node.sessions() as session:
        assert session.scalars(live_results()).all() == [2]
        assert session.scalars(select(Result.predecessor_id)).all() == [None, None]


@pytest.mark.parametrize("state", [DeliveryState.SENT, DeliveryState.UNKNOWN])
def test_27_a_result_that_may_be_out_stays_and_is_the_predecessor(node, study, predictor, state):
    *first, last = flat(study)
    receive(node, first)
    run_to_delivery(node, predictor)
    with node.sessions.begin() as session:
        session.execute(update(Delivery).where(Delivery.id == 1).values(state=state))
    receive(node, [last])
    run_to_delivery(node, predictor)
    assert states(node) == [JobState.DELIVER, JobState.DELIVER]
    with node.sessions() as session:
        assert session.get_one(Result, 2).predecessor_id == 1
        assert session.scalars(select(Result.is_replaced).order_by(Result.id)).all() == [True, False]


def test_27_a_result_that_is_being_sent_is_let_be(node, study, predictor):
    *first, last = flat(study)
    receive(node, first)
    job = run_to_delivery(node, predictor)
    assert take_claim(node, job.id, JobState.DELIVER) is not None
    receive(node, [last])
    run(node, JobState.PREPARE, steps.prepare)
    assert states(node) == [JobState.DELIVER, JobState.GRADE]


def test_27_unchanged_input_links_and_leaves_the_old_delivery_alone(node, study, predictor):
    receive(node, flat(study))
    run_to_delivery(node, predictor)
    localizer = series_of("flair", 9, header("late", "P1"))[:1]
    receive(node, localizer)
    job = run(node, JobState.PREPARE, steps.prepare)
    assert (job.state, job.reason_code, job.result_id) == (JobState.DONE, "same_input", 1)
    assert states(node)[0] is JobState.DELIVER


def test_input_that_returns_after_its_delivery_was_called_off_is_sent(node, study, predictor):
    receive(node, flat(study))
    run_to_delivery(node, predictor)
    with node.sessions.begin() as session:
        assert ledger.cancel_unsent(session, 1, 2) == [1]
    receive(node, series_of("flair", 9, header("late", "P1"))[:1])
    job = run(node, JobState.PREPARE, steps.prepare)
    assert (job.state, job.result_id) == (JobState.DELIVER, 1)


@pytest.mark.parametrize("state", [DeliveryState.PENDING, DeliveryState.UNKNOWN, DeliveryState.UNCOMMITTED])
def test_the_rest_of_a_result_that_was_held_half_delivered_is_sent_after_a_release(
    node, study, predictor, state
):
    receive(node, flat(study))
    run_to_delivery(node, predictor)
    with node.sessions.begin() as session:
        session.execute(update(Delivery).values(state=DeliveryState.SENT))
        session.execute(update(Delivery).where(Delivery.id == 2).values(state=state))
        hold_study(session, session.get_one(Study, 1), f"{INCOMPLETE}: the longest wait is over")
        release_study(session, 1, "Dr. A")
    job = run(node, JobState.PREPARE, steps.prepare)
    assert (job.state, job.result_id) == (JobState.DELIVER, 1)
    with node.sessions() as session:
        consignment = next_consignment(session, "pacs")
    assert consignment is not None
    assert (consignment.job_id, [parcel.delivery_id for parcel in consignment.parcels]) == (job.id, [2])


def test_a_result_that_was_held_wholly_delivered_stands_after_a_release(node, study, predictor):
    receive(node, flat(study))
    run_to_delivery(node, predictor)
    with node.sessions.begin() as session:
        session.execute(update(Delivery).values(state=DeliveryState.SENT))
        hold_study(session, session.get_one(Study, 1), f"{INCOMPLETE}: the longest wait is over")
        release_study(session, 1, "Dr. A")
    job = run(node, JobState.PREPARE, steps.prepare)
    assert (job.state, job.reason_code) == (JobState.DONE, "same_input")


def test_a_study_that_lacks_a_series_is_waited_for_and_then_not_gradable(make_node, study):
    node = make_node(series_wait=timedelta(hours=1))
    receive(node, study["flair"])
    job = run(node, JobState.PREPARE, steps.prepare)
    assert (job.state, job.reason_code, job.attempts) == (JobState.PREPARE, "waiting_series", 0)
    assert job.not_before is not None
    with node.sessions.begin() as session:
        session.execute(text("UPDATE study SET opened_at = now() - interval '2 hours'"))
        session.execute(update(Job).values(not_before=None))
    job = run(node, JobState.PREPARE, steps.prepare)
    assert (job.state, job.reason_code) == (JobState.NOT_GRADABLE, "missing_t1ce_t2")


def test_a_series_that_comes_wakes_a_waiting_study(make_node, study):
    node = make_node(series_wait=timedelta(hours=1))
    receive(node, study["flair"])
    run(node, JobState.PREPARE, steps.prepare)
    receive(node, [*study["t2"], *study["t1ce"]])
    job = run(node, JobState.PREPARE, steps.prepare)
    assert (job.state, job.reason_code) == (JobState.GRADE, None)


def test_17_a_worker_that_cannot_grade_gives_the_job_back_uncounted(node, study):
    class Lost:
        def grade(self, *_):
            raise InferenceUnavailableError("AcceleratorError")

    receive(node, flat(study))
    run(node, JobState.PREPARE, steps.prepare)
    with pytest.raises(InferenceUnavailableError):
        run(node, JobState.GRADE, lambda step: steps.grade(step, Lost()))
    with node.sessions() as session:
        job = session.scalars(select(Job)).one()
    assert (job.state, job.attempts, job.lease_until) == (JobState.GRADE, 0, None)
    assert not workspace_of(node.settings.jobs_folder, job.id).of("grade").exists()


def test_completeness_is_said_in_the_report(node, study, predictor):
    receive(node, flat(study))
    run_to_delivery(node, predictor)
    [report] = [
        dataset
        for path in node.settings.results_folder.glob("??/*.dcm")
        if (dataset := dcmread(path)).Modality == "SR"
    ]
    texts = [element.value for element in report.iterall() if element.keyword == "TextValue"]
    assert "completeness=quiet" in texts


def test_quality_is_kept_and_said_in_the_report(node, study, predictor):
    receive(node, flat(study))
    run_to_delivery(node, predictor)
    with node.sessions() as session:
        row = session.scalars(select(PreprocessingQuality)).one()
    assert row.brain_ml == pytest.approx(1450, rel=0.05)
    assert row.flair_similarity > 1.025
    assert row.warnings == ""
    [report] = [
        dataset
        for path in node.settings.results_folder.glob("??/*.dcm")
        if (dataset := dcmread(path)).Modality == "SR"
    ]
    texts = [element.value for element in report.iterall() if element.keyword == "TextValue"]
    assert f"flair_similarity={row.flair_similarity:.4g}" in texts
    assert "preprocessing_warnings=none" in texts


def test_a_gate_that_fails_ends_in_a_reason_and_keeps_the_values(node, study):
    """T2 reaches the back of the head only."""
    t2 = coarse_brain()[Contrast.T2]
    start = t2.affine.copy()
    start[:3, 3] += 18 * start[:3, 1]
    half = Volume(np.ascontiguousarray(t2.array[:, 18:]), start)
    series = build_mr_series(half, PROTOCOL["t2"], header("late", "P1"), 2)
    receive(node, [*study["flair"], *series, *study["t1ce"]])
    job = run(node, JobState.PREPARE, steps.prepare)
    assert (job.state, job.reason_code) == (JobState.NOT_GRADABLE, "not_covered")
    assert job.reason is not None
    assert job.reason.startswith("not gradable: the T2 series reaches ")
    with node.sessions() as session:
        row = session.scalars(select(PreprocessingQuality)).one()
    assert row.t2_coverage < 0.85
    assert "t2_coverage" in row.warnings.split(",")


def test_every_number_is_the_same_in_report_images_and_database(node, study, predictor, monkeypatch):
    drawn = []
    draw = ImageDraw.ImageDraw.text

    def draw_and_note(self, xy, words, *rest, **options):
        drawn.append(words)
        draw(self, xy, words, *rest, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", draw_and_note)
    receive(node, flat(study))
    run_to_delivery(node, predictor)
    with node.sessions() as session:
        result = session.scalars(select(Result)).one()
        quality = session.scalars(select(PreprocessingQuality)).one()
        roles = session.scalars(select(SeriesRole)).all()
        objects = session.scalars(select(ResultObject).order_by(ResultObject.position)).all()
        uids = {role.contrast: role.series.series_instance_uid for role in roles}
    files = [dcmread(object_path(node.settings.results_folder, item.sha256)) for item in objects]
    said = render_text(files[-1])
    (percent,) = re.findall(r"Probability of high-grade glioma: ([\d.]+) %\n", said)
    (threshold,) = map(float, re.findall(r"decision_threshold=([\d.]+)\n", said))
    assert float(percent) == pytest.approx(100 * result.probability, abs=0.05)
    assert threshold == result.threshold
    grade = "High Grade Glioma" if result.grade is Grade.HGG else "Low Grade Glioma"
    assert f"AI-predicted glioma grade: {grade} (" in said
    version = f"Algorithm Version: {result.model_version}, checkpoint sha256 {result.checkpoint_sha256}\n"
    assert version in said
    measured = dict(re.findall(r"(\w+)=([-\d.e+]+)\n", said))
    for name in ("brain_ml", "atlas_similarity", "atlas_overlap", "flair_similarity", "t2_similarity"):
        assert float(measured[name]) == pytest.approx(getattr(quality, name), rel=1e-3)
    for role in roles:
        assert f"series {uids[role.contrast]}, confidence {role.confidence:.2f}: {role.evidence}" in said
    # the same sentence stands in the report and on each image, whatever its line breaks
    images = [file for file in files if file.SOPClassUID == SecondaryCaptureImageStorage]
    words = " ".join(drawn)
    shown = f"probability of HGG {percent} % (threshold {100 * threshold:g} %)"
    assert f"{shown}\n" in said
    assert words.count(f"probability of HGG {percent} %") == len(images)
    shares = set(re.findall(r"[\d.]+ %", EXTENT_SENTENCE))
    assert set(re.findall(r"[\d.]+ %", words)) - shares == {f"{percent} %", f"{100 * threshold:g} %"}


def test_a_destination_gets_the_optional_objects_it_asks_for_and_no_other_does(make_node, study, predictor):
    def place(name, *kinds):
        return Destination(name=name, ae_title="PACS", address="127.0.0.1", port=1, objects=kinds)

    everything = place("all", *ResultKind)
    usual = place("usual", *DEFAULT_KINDS)
    node = make_node(series_wait=timedelta(0), destinations=(everything, usual))
    receive(node, flat(study))
    run_to_delivery(node, predictor)
    with node.sessions() as session:
        rows = session.execute(
            select(Delivery.destination, ResultObject.sop_class_uid)
            .join(ResultObject, ResultObject.id == Delivery.result_object_id)
            .order_by(ResultObject.position)
        ).all()
    got = {name: [kind_of(uid) for to, uid in rows if to == name] for name in ("all", "usual")}
    assert set(got["usual"]) == set(DEFAULT_KINDS)
    # this network's attention may nowhere reach one half, and then there is no region
    assert set(ResultKind) - set(got["all"]) <= {ResultKind.REGION}
    assert got["all"][-2:] == [ResultKind.REPORT, ResultKind.KEY_OBJECTS]
