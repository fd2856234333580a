"""What another checkpoint says stays in the database, beside the result and apart from it."""

import re
import shutil
from datetime import timedelta

import pytest
import torch
from sqlalchemy import func, select, text

from model.card import default_checkpoint_folder, read_card
from model.checkpoint import load_checkpoint, save_checkpoint
from model.grade import Grade, Verdict
from model.network import AttentionVGG16
from model.space.stack import Stack
from tests.command import gliograde
from tests.worker.deliveries import job_to_deliver, make_object
from tests.worker.test_delivering import deliver_step
from tests.worker.test_gated import Judged
from tests.worker.test_steps import (
    InProcess,
    few_slices,  # noqa: F401 - a fixture
    flat,
    predictor,  # noqa: F401 - a fixture
    receive,
    run,
    run_to_delivery,
    study,  # noqa: F401 - a fixture
)
from worker import tasks
from worker.answers.agreement import cohens_kappa, measure_agreement
from worker.checkpoints import add_checkpoint
from worker.records.database import Delivery, Job, Result, SecondReading, StudyVersion
from worker.records.wanted import Standing, Wanted
from worker.states import JobState, ReadingOrigin
from worker.study import pipeline, steps
from worker.study.inference import InferenceError, InferenceLostError, InferenceUnavailableError
from worker.study.second_readings import (
    Reader,
    jobs_to_read,
    keep_for_shadow,
    open_shadow,
    read_in_shadow,
    replay,
    shadow_needs_intensities,
)
from worker.study.workspace import workspace_of

ALL = Wanted()


@pytest.fixture
def node(make_node):
    return make_node(series_wait=timedelta(0))


@pytest.fixture(scope="module")
def candidate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("candidate")
    torch.manual_seed(5)
    card = read_card(default_checkpoint_folder()).model_copy(update={"name": "site", "version": "7"})
    save_checkpoint(folder, AttentionVGG16(batch_norm=False), card)
    return folder


class Fails:
    def __init__(self, error):
        self.error = error

    def grade(self, *_):
        raise self.error


def reader_of(predictor, candidate):  # noqa: F811
    """The candidate's card; the shipped network stands in for its weights."""
    return Reader(read_card(candidate), InProcess(predictor))


def readings(node):
    with node.sessions() as session:
        return session.scalars(select(SecondReading)).all()


def replayed(node, reader, wanted=ALL, limit=None):
    with node.sessions() as session:
        jobs = jobs_to_read(session, reader.card, wanted, limit)
        return list(replay(session, node.spool, reader, jobs))


def test_a_replay_reads_the_same_input_once_and_changes_no_result(node, study, predictor, candidate):  # noqa: F811
    receive(node, flat(study))
    run_to_delivery(node, predictor)
    with node.sessions() as session:
        result = session.scalars(select(Result)).one()
    reader = reader_of(predictor, candidate)
    [said] = replayed(node, reader)
    assert said.graded is not None
    assert said.graded.prediction.probability == pytest.approx(result.probability, abs=1e-6)
    [row] = readings(node)
    assert (row.origin, row.grade, row.model_name) == (ReadingOrigin.REPLAY, result.grade, "site")
    assert row.verdict is Verdict.GRADED
    assert replayed(node, reader) == []
    with node.sessions() as session:
        assert session.scalars(select(Result.id)).all() == [result.id]
        assert session.scalars(select(func.count(Delivery.id))).one() == 0
        assert session.scalars(select(Job.state)).all() == [JobState.DELIVER]
        [pair] = measure_agreement(session)
        held = session.execute(text("SELECT count(*) FROM v_results")).scalar()
    assert (pair.origin, pair.studies, pair.agreeing, pair.kappa) == ("replay", 1, 1, None)
    assert pair.mean_change == pytest.approx(0, abs=1e-6)
    assert held == 1


@pytest.mark.parametrize(
    ("verdict", "probability"), [(Verdict.INDETERMINATE, 0.48), (Verdict.NO_TUMOUR_SEEN, None)]
)
def test_what_the_candidates_gates_keep_back_is_another_verdict_and_no_grade(
    node,
    study,  # noqa: F811
    predictor,  # noqa: F811
    candidate,
    verdict,
    probability,
):
    receive(node, flat(study))
    run_to_delivery(node, predictor)
    replayed(node, Reader(read_card(candidate), Judged(verdict)))
    [row] = readings(node)
    assert (row.verdict, row.grade, row.probability) == (verdict, None, probability)
    with node.sessions() as session:
        [pair] = measure_agreement(session)
    assert (pair.studies, pair.other_verdicts, pair.graded, pair.agreeing) == (1, 1, 0, 0)
    assert (pair.kappa, pair.mean_change is None) == (None, probability is None)


def test_what_the_gates_in_use_keep_back_is_read_by_the_candidate_too(node, study, predictor, candidate):  # noqa: F811
    receive(node, flat(study))
    run(node, JobState.PREPARE, steps.prepare)
    run(node, JobState.GRADE, lambda step: steps.grade(step, Judged(Verdict.OUT_OF_DISTRIBUTION)))
    run(node, JobState.REPORT, steps.report)
    replayed(node, reader_of(predictor, candidate))
    [row] = readings(node)
    assert row.verdict is Verdict.GRADED
    with node.sessions() as session:
        [pair] = measure_agreement(session)
        view = session.execute(text("SELECT * FROM v_model_agreement")).mappings().one()
    assert (pair.studies, pair.other_verdicts, pair.graded, pair.mean_change) == (1, 1, 0, None)
    assert (view["older_verdict"], view["newer_verdict"], view["agree"]) == (
        *("out_of_distribution", "graded"),
        None,
    )


def test_a_replay_takes_what_is_asked_for(node, study, predictor, candidate):  # noqa: F811
    receive(node, flat(study))
    run_to_delivery(node, predictor)
    card = read_card(candidate)
    with node.sessions() as session:
        [(_, job_id)] = jobs_to_read(session, card, Wanted(state=Standing.DELIVER))
        assert jobs_to_read(session, card, Wanted(state=Standing.DONE)) == []
        assert jobs_to_read(session, node.card, ALL) == []
        session.add(StudyVersion(study_id=1, number=2, manifest_sha256="more"))
        session.flush()
        # a newer version counts, and has no result yet
        assert jobs_to_read(session, card, ALL) == []
    assert job_id == 1


def test_a_study_that_cannot_be_replayed_is_told_and_the_others_go_on(node, study, predictor, candidate):  # noqa: F811
    receive(node, flat(study))
    run_to_delivery(node, predictor)
    failing = Reader(read_card(candidate), Fails(InferenceError("ValueError")))
    [said] = replayed(node, failing)
    assert (said.graded, said.failure) == (None, "ValueError")
    shutil.rmtree(node.settings.spool_folder, ignore_errors=True)
    shutil.rmtree(node.spool.object_path("00").parent.parent)
    [said] = replayed(node, reader_of(predictor, candidate))
    assert said.failure == "its images are no longer in the spool"
    assert readings(node) == []


def test_a_graded_study_is_read_in_shadow_after_its_workspace_is_gone(node, study, predictor, candidate):  # noqa: F811
    receive(node, flat(study))
    run(node, JobState.PREPARE, steps.prepare)
    run(node, JobState.GRADE, lambda step: steps.grade(step, InProcess(predictor)))
    kept = keep_for_shadow(node, 1)
    assert kept is not None
    run(node, JobState.REPORT, steps.report)
    shutil.rmtree(node.settings.jobs_folder / "1")
    read_in_shadow(node, reader_of(predictor, candidate), 1, kept)
    [row] = readings(node)
    assert (row.origin, row.job_id) == (ReadingOrigin.SHADOW, 1)
    assert list(node.settings.jobs_folder.iterdir()) == []
    with node.sessions() as session:
        assert [pair.origin for pair in measure_agreement(session)] == ["shadow"]


@pytest.mark.parametrize(
    "error",
    [
        InferenceError("x"),
        InferenceLostError("x"),
        InferenceUnavailableError("AcceleratorError"),
        OSError("no space"),
    ],
)
def test_a_shadow_that_fails_touches_nothing(node, study, predictor, candidate, error, caplog):  # noqa: F811
    receive(node, flat(study))
    run(node, JobState.PREPARE, steps.prepare)
    job = run(node, JobState.GRADE, lambda step: steps.grade(step, InProcess(predictor)))
    kept = keep_for_shadow(node, 1)
    assert kept is not None
    read_in_shadow(node, Reader(read_card(candidate), Fails(error)), 1, kept)
    assert "is not read in shadow" in caplog.text
    assert readings(node) == []
    with node.sessions() as session:
        now = session.get_one(Job, 1)
    assert (now.state, now.fence, now.attempts, now.lease_until) == (job.state, job.fence, 0, None)
    assert run(node, JobState.REPORT, steps.report).state is JobState.DELIVER


def test_without_a_prepared_stack_there_is_no_shadow_reading_and_no_error(node, caplog):
    assert keep_for_shadow(node, 17) is None
    assert "job 17 is not read in shadow" in caplog.text


def test_the_grade_task_hints_first_and_then_reads_in_shadow(node, study, predictor, candidate, monkeypatch):  # noqa: F811
    receive(node, flat(study))
    run(node, JobState.PREPARE, steps.prepare)
    order = []

    class Watched(InProcess):
        def grade(self, prepared, folder):
            order.append("read")
            super().grade(prepared, folder)

    monkeypatch.setattr(tasks, "current_node", lambda: node)
    monkeypatch.setattr(tasks, "current_inference", lambda: InProcess(predictor))
    monkeypatch.setattr(tasks, "current_shadow", lambda: Reader(read_card(candidate), Watched(predictor)))
    monkeypatch.setattr(tasks, "send_hint", lambda _app, hint: order.append(hint.state))
    tasks.grade(1)
    assert order == [JobState.REPORT, "read"]
    assert [row.origin for row in readings(node)] == [ReadingOrigin.SHADOW]


def test_a_shadow_that_is_not_installed_is_logged_and_stops_nobody(make_node, caplog):
    assert open_shadow(make_node().settings) is None
    assert open_shadow(make_node(shadow_model="nowhere").settings) is None
    assert "there is no checkpoint 'nowhere'" in caplog.text


def test_a_shadow_finds_the_intensities_that_it_needs(make_node, study, candidate, tmp_path):  # noqa: F811
    checkpoint = load_checkpoint(candidate)
    described = checkpoint.card.input.model_copy(update={"mean": (1.0,) * 3, "deviation": (2.0,) * 3})
    save_checkpoint(tmp_path, checkpoint.network, checkpoint.card.model_copy(update={"input": described}))
    installed = add_checkpoint(tmp_path, make_node().settings.data_folder)
    for shadow, kept in ((None, False), (installed.name, True)):
        node = make_node(series_wait=timedelta(0), shadow_model=shadow)
        assert shadow_needs_intensities(node.settings) is kept
    receive(node, flat(study))
    run(node, JobState.PREPARE, steps.prepare)
    stack = Stack.load(workspace_of(node.settings.jobs_folder, 1).of("prepare") / "stack.npz")
    assert stack.intensities is not None


def test_nothing_is_held_open_while_a_study_is_prepared(node, study, predictor, candidate, monkeypatch):  # noqa: F811
    """PostgreSQL ends a session that is idle in a transaction for a minute, and preparing takes longer."""
    receive(node, flat(study))
    run_to_delivery(node, predictor)
    reader = reader_of(predictor, candidate)
    with node.sessions() as session:
        jobs = jobs_to_read(session, reader.card, ALL)
        session.commit()
        prepare = pipeline.prepare

        def watched(*arguments, **options):
            assert not session.in_transaction()
            return prepare(*arguments, **options)

        monkeypatch.setattr(pipeline, "prepare", watched)
        [said] = replay(session, node.spool, reader, jobs)
    assert said.failure == ""


def test_the_commands_replay_and_compare(node, candidate, database_url):
    deliver_step(node, job_to_deliver(node, make_object()))
    added = add_checkpoint(candidate, node.settings.data_folder)
    environment = {
        "GLIOGRADE_DATABASE_URL": database_url,
        "GLIOGRADE_DATA_FOLDER": str(node.settings.data_folder),
        "GLIOGRADE_DEVICE": "cpu",
    }
    # its job has a result and took no series, so that there is nothing to convert
    told = gliograde("replay", "--model", added.name, "--limit", 5, **environment)
    assert (told.returncode, told.stderr) == (1, "")
    assert "study 1: not read: " in told.stdout
    none = gliograde("replay", "--model", added.name, "--grade", "lgg", **environment)
    assert (none.returncode, none.stdout[:14]) == (0, "0 studies read")
    with node.sessions.begin() as session:
        session.add(
            SecondReading(
                job_id=1,
                origin=ReadingOrigin.REPLAY,
                verdict=Verdict.GRADED,
                grade=Grade.LGG,
                probability=0.4,
                threshold=0.5,
                model_name="site",
                model_version="7",
                checkpoint_sha256=added.card.weights_sha256,
                trained_on_simulated=False,
                pipeline_version="1",
            )
        )
    read = gliograde("replay", "--model", added.name, **environment)
    assert (read.returncode, read.stdout[:14]) == (0, "0 studies read")
    shown = gliograde("model", "agreement", **environment)
    assert shown.returncode == 0, shown.stderr
    assert re.search(r"site 7 +│ replay +│ +1 │ +0 │ +1 │ +0 │ +0.00 │ +0.500", shown.stdout)
    unknown = gliograde("replay", "--model", "nowhere", **environment)
    assert (unknown.returncode, "there is no checkpoint 'nowhere'" in unknown.stderr) == (2, True)


@pytest.mark.parametrize(
    ("counts", "kappa"),
    [
        # Cohen's kappa of 2 × 2 tables, by hand
        ((20, 5, 10, 15), 0.4),
        ((10, 0, 0, 10), 1.0),
        ((0, 10, 10, 0), -1.0),
        ((5, 5, 5, 5), 0.0),
        ((7, 0, 0, 0), None),
    ],
)
def test_kappa(counts, kappa):
    cells = [(first, second) for first in Grade for second in Grade]
    found = cohens_kappa({cell: count for cell, count in zip(cells, counts, strict=True) if count})
    assert found == (None if kappa is None else pytest.approx(kappa))
