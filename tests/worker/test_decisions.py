"""A study that waits for a person, and what happens when the person has spoken."""

import io
from copy import deepcopy
from datetime import timedelta

import pytest
from pydicom.uid import generate_uid
from rich.console import Console
from sqlalchemy import func, select

from dicom_node.reading.mr_study import PROTOCOL
from dicom_node.reading.series_rules import SeriesRole as Role
from dicom_node.reading.site_rules import SiteRule
from model.grade import Contrast
from tests.command import gliograde
from tests.faults.conftest import series_of
from tests.faults.service import header
from tests.worker.samples import spool_object
from tests.worker.test_indexing import make_study
from worker.answers.tables import roles_table
from worker.records.database import Job, RoleDecision, SeriesCandidate, SeriesRole, Study, StudyVersion
from worker.states import JobState, StudyState
from worker.study import steps
from worker.study.claimed import ClaimedStep, take_claim
from worker.study.decisions import (
    RolesError,
    decide_roles,
    find_study,
    load_decisions,
    parse_roles,
    series_standings,
)
from worker.study.freezing import CompletenessRule, freeze_complete_studies, manifest_digest
from worker.study.indexing import index_spool


@pytest.fixture
def node(make_node):
    return make_node(series_wait=timedelta(0))


def receive(node, *names, tag=()):
    """A study of these series, numbered from 1; those in `tag` carry a contrast agent."""
    for number, name in enumerate(names, start=1):
        for dataset in series_of(name if name in PROTOCOL else "t1", number, header("roles", "P1")):
            if name not in PROTOCOL:
                dataset.SeriesDescription = dataset.ProtocolName = name
            if number in tag:
                dataset.ContrastBolusAgent = "Gd"
            spool_object(node.spool, dataset)
    index_spool(node.sessions, node.spool)
    freeze(node)


def freeze(node):
    with node.sessions.begin() as session:
        return freeze_complete_studies(session, CompletenessRule(timedelta(0)))


def prepare(node):
    """Run the newest job's prepare step; returns the job after it."""
    with node.sessions() as session:
        job_id = session.scalars(select(func.max(Job.id))).one()
    claim = take_claim(node, job_id, JobState.PREPARE)
    assert claim is not None
    with ClaimedStep(node, claim) as step:
        steps.prepare(step)
    with node.sessions() as session:
        return session.get_one(Job, job_id)


def decide(node, **named):
    with node.sessions.begin() as session:
        return decide_roles(
            session, 1, {Contrast(word): series for word, series in named.items()}, "technologist"
        )


def standings(node):
    with node.sessions() as session:
        return series_standings(session, 1)


def test_a_doubtful_study_waits_and_is_graded_after_the_person_decided(node):
    receive(node, "flair", "t2", "T1", "T1 nochmal")
    job = prepare(node)
    assert (job.state, job.reason_code) == (JobState.HELD, "roles_uncertain")
    assert "gliograde roles" in job.reason
    assert decide(node, t1ce="4") == 2
    job = prepare(node)
    assert (job.id, job.state) == (2, JobState.GRADE)
    with node.sessions() as session:
        roles = {
            row.contrast: row for row in session.scalars(select(SeriesRole).where(SeriesRole.job_id == 2))
        }
        assert session.get_one(Job, 1).state is JobState.HELD
        decision = session.scalars(select(RoleDecision)).one()
    assert roles[Contrast.T1CE].confidence == 1.0
    assert roles[Contrast.T1CE].evidence.startswith("set by a person; ")
    assert "contrast uptake" in roles[Contrast.T1CE].evidence  # what the pixels say is kept beside it
    assert (decision.decided_by, decision.decided_at is not None) == ("technologist", True)


def test_every_series_is_kept_with_what_it_is_taken_for_and_why(node):
    receive(node, "flair", "t2", "T1", "t1ce", "T1 survey")
    prepare(node)
    found = {item.series_number: item for item in standings(node)}
    assert [found[k].taken_as for k in (1, 2, 3, 4, 5)] == [
        Contrast.FLAIR, Contrast.T2, None, Contrast.T1CE, None
    ]  # fmt: skip
    assert (found[3].role, found[3].confidence) == (Role.T1, 0.97)
    assert found[5].passed_over == "a localizer or calibration"
    assert all(item.instances == 12 and item.evidence for item in found.values())
    with node.sessions() as session:
        assert session.scalar(select(func.count()).select_from(SeriesCandidate)) == 5


def test_a_plain_t1_set_by_a_person_is_their_decision(node):
    receive(node, "flair", "t2", "T1 nativ")
    job = prepare(node)
    assert (job.state, job.reason_code) == (JobState.NOT_GRADABLE, "missing_t1ce")
    decide(node, t1ce="3")
    assert prepare(node).state is JobState.GRADE


def test_the_newest_decision_counts_and_each_is_a_version(node):
    receive(node, "flair", "t2", "T1", "T1 nochmal")
    assert [decide(node, t1ce="3"), decide(node, t1ce="4"), decide(node, t1ce="3")] == [2, 3, 4]
    with node.sessions() as session:
        assert load_decisions(session, 1)[Contrast.T1CE][0] == standings(node)[2].series_instance_uid
        states = session.scalars(select(Job.state).order_by(Job.id)).all()
        digests = session.scalars(select(StudyVersion.manifest_sha256)).all()
    assert states == [*[JobState.SUPERSEDED] * 3, JobState.PREPARE]
    assert len(set(digests)) == 4


def test_a_decision_outlives_a_late_series(node):
    receive(node, "flair", "t2", "T1 nativ")
    decide(node, t1ce="3")
    late = series_of("t1ce", 9, header("roles", "P1"))
    for dataset in late:
        spool_object(node.spool, dataset)
    index_spool(node.sessions, node.spool)
    with node.sessions.begin() as session:
        assert decide_roles(session, 1, {Contrast.T2: "2"}, "technologist") is None  # it is arriving
    freeze(node)
    prepare(node)
    assert {item.series_number: item.taken_as for item in standings(node)} == {
        1: Contrast.FLAIR, 2: Contrast.T2, 3: Contrast.T1CE, 9: None
    }  # fmt: skip


def test_of_a_double_echo_the_t2_is_taken_and_a_part_can_be_set(node):
    receive(node, "flair", "t1ce")
    late_echo = series_of("t2", 3, header("roles", "P1"))
    early_echo = deepcopy(late_echo)
    for dataset in early_echo:
        dataset.EchoTime, dataset.SOPInstanceUID = 15, generate_uid()
    for dataset in [*late_echo, *early_echo]:
        dataset.SeriesDescription = dataset.ProtocolName = "PD/T2 TSE"
        spool_object(node.spool, dataset)
    index_spool(node.sessions, node.spool)
    freeze(node)
    assert prepare(node).state is JobState.GRADE
    found = {item.part: item for item in standings(node) if item.series_number == 3}
    assert (found["TE 95"].taken_as, found["TE 15"].taken_as) == (Contrast.T2, None)
    with pytest.raises(RolesError, match="say which volume of series 3: 3:TE 15, 3:TE 95"):
        decide(node, t2="3")
    decide(node, t2="3:TE 95")
    assert prepare(node).state is JobState.GRADE


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ({"t1ce": "7"}, "study 1 has no series 7"),
        ({"t1ce": "2"}, "one series can't be set for two contrasts"),
        ({"flair": "1:TE 95"}, "series 1 is one volume"),
    ],
)
def test_what_is_not_there_is_told_in_one_sentence(node, named, words):
    receive(node, "flair", "t2", "t1ce")
    prepare(node)
    decide(node, t2="2")
    with pytest.raises(RolesError, match=words):
        decide(node, **named)
    with node.sessions() as session:
        assert session.scalar(select(func.count()).select_from(RoleDecision)) == 1


def test_a_study_whose_identity_is_in_doubt_is_not_decided_on(node):
    for patient in ("P1", "P2"):
        make_study(node.sessions, node.spool, 1, PatientID=patient)
    with node.sessions() as session:
        assert session.get_one(Study, 1).state is StudyState.HELD
    with pytest.raises(RolesError, match="is held and can't be graded: patient_conflict"):
        decide(node, t1ce="1")


def test_a_study_is_found_by_number_or_uid(node):
    receive(node, "flair")
    with node.sessions() as session:
        uid = find_study(session, "1").study_instance_uid
        assert find_study(session, uid).id == 1
        for name in ("2", "1.2.3", "x", "9" * 30):
            with pytest.raises(RolesError, match="there is no study"):
                find_study(session, name)


def test_roles_are_read_as_a_person_writes_them():
    assert parse_roles(["T1CE=5", "t2=4:TE 95"]) == {Contrast.T1CE: "5", Contrast.T2: "4:TE 95"}
    for text in ("t1=5", "t1ce", "t1ce=", "=5"):
        with pytest.raises(RolesError, match="say flair, t1ce or t2"):
            parse_roles([text])
    with pytest.raises(RolesError, match="two series"):
        parse_roles(["t2=4", "t2=5"])


def test_without_decisions_a_manifest_has_the_digest_it_always_had():
    instances = [("1.2", "aa"), ("1.1", "bb")]
    assert manifest_digest(instances) == manifest_digest(reversed(instances))
    assert manifest_digest(instances) != manifest_digest(instances, [1])
    assert manifest_digest(instances, [2, 1]) == manifest_digest(instances, [1, 2])


def test_a_site_rule_of_the_settings_is_followed(make_node):
    rule = SiteRule.model_validate({"role": "t1ce", "conditions": {"SeriesDescription": "^T1 hausintern$"}})
    node = make_node(series_rules=(rule,), series_wait=timedelta(0))
    receive(node, "flair", "t2", "T1 hausintern")
    assert prepare(node).state is JobState.GRADE
    with node.sessions() as session:
        evidence = session.scalars(
            select(SeriesRole.evidence).where(SeriesRole.contrast == Contrast.T1CE)
        ).one()
    assert evidence.startswith("site rule 1 says T1CE")


def test_the_command_shows_the_series_and_takes_a_persons_word(make_node, node, database_url):
    receive(node, "flair", "t2", "T1 nativ")
    prepare(node)
    environment = {
        "GLIOGRADE_DATABASE_URL": database_url,
        "GLIOGRADE_DATA_FOLDER": str(node.settings.data_folder),
    }
    shown = gliograde("roles", 1, **environment)
    assert shown.returncode == 0
    assert "name says before contrast agent" in shown.stdout
    done = gliograde("roles", 1, "--set", "t1ce=3", "--by", "Dr. A", **environment)
    assert (done.returncode, done.stdout) == (0, "study 1 is graded anew as version 2\n")
    wrong = gliograde("roles", 7, **environment)
    assert (wrong.returncode, wrong.stderr) == (2, "gliograde: there is no study 7\n")
    prepare(node)
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(roles_table(1, standings(node)))
    text = console.export_text()
    assert "T1CE" in text
    assert "1.00" in text
    assert "set as t1ce by Dr. A" in text
