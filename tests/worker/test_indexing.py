import os
from datetime import UTC, datetime, timedelta
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from sqlalchemy import and_, func, select, update

from dicom_node.results.report import MANUFACTURER, Device
from model.grade import Grade, Verdict
from tests.worker.samples import make_header, spool_object
from worker.records.database import (
    Instance,
    Job,
    ManifestEntry,
    Result,
    ResultObject,
    Series,
    Study,
    StudyVersion,
)
from worker.states import JobState, StudyState
from worker.study import indexing
from worker.study.freezing import CompletenessRule, freeze_complete_studies, manifest_digest
from worker.study.indexing import index_instance, index_spool
from worker.study.interventions import retry_study


def make_study(sessions, spool, count=3, **attributes):
    for _ in range(count):
        spool_object(spool, make_header(**attributes))
    index_spool(sessions, spool)


def freeze_now(sessions):
    with sessions.begin() as session:
        return freeze_complete_studies(session, CompletenessRule(timedelta(0)))


def only_study(sessions):
    with sessions() as session:
        return session.scalars(select(Study)).one()


def jobs(sessions):
    with sessions() as session:
        return session.scalars(select(Job).order_by(Job.id)).all()


def test_objects_become_rows_and_leave_the_inbox(sessions, spool):
    make_study(sessions, spool)
    with sessions() as session:
        assert session.scalar(select(func.count()).select_from(Instance)) == 3
    assert list(spool.entries()) == []
    assert only_study(sessions).patient_id == "P1"


def test_the_index_can_be_rebuilt_and_rescanning_changes_nothing(sessions, spool):
    make_study(sessions, spool)
    before = only_study(sessions).last_instance_at
    assert spool.rescan() == 3
    assert index_spool(sessions, spool) == 3
    with sessions() as session:
        assert session.scalar(select(func.count()).select_from(Instance)) == 3
    assert only_study(sessions).last_instance_at == before


def test_study_numbers_have_no_gaps(sessions, spool):
    make_study(sessions, spool, study="1.2.3")
    make_study(sessions, spool, study="1.2.4", series="1.2.4.1")
    with sessions() as session:
        assert session.scalars(select(Study.id).order_by(Study.id)).all() == [1, 2]


def test_a_study_is_frozen_once(sessions, spool):
    make_study(sessions, spool)
    assert freeze_now(sessions) == [1]
    assert freeze_now(sessions) == []
    assert [job.state for job in jobs(sessions)] == [JobState.PREPARE]
    with sessions() as session:
        assert session.scalar(select(func.count()).select_from(ManifestEntry)) == 3


def test_a_study_that_is_not_quiet_is_left_alone(sessions, spool):
    make_study(sessions, spool)
    with sessions.begin() as session:
        assert freeze_complete_studies(session, CompletenessRule(timedelta(hours=1))) == []
    assert only_study(sessions).state is StudyState.OPEN


def test_a_late_instance_makes_a_new_version_and_supersedes_the_job(sessions, spool):
    make_study(sessions, spool)
    freeze_now(sessions)
    make_study(sessions, spool, count=1)
    assert only_study(sessions).state is StudyState.OPEN
    freeze_now(sessions)
    assert [job.state for job in jobs(sessions)] == [JobState.SUPERSEDED, JobState.PREPARE]
    with sessions() as session:
        assert session.scalars(select(StudyVersion.number).order_by(StudyVersion.id)).all() == [1, 2]


def test_a_version_knows_when_its_last_object_came_unless_a_person_made_it(sessions, spool):
    first, last = (datetime(2026, 1, 1, hour, tzinfo=UTC) for hour in (10, 11))
    for received_at in (last, first):
        spool_object(spool, make_header(), received_at)
    index_spool(sessions, spool)
    freeze_now(sessions)
    with sessions.begin() as session:
        session.execute(update(Job).values(state=JobState.HELD))
        retry_study(session, 1, "Dr. A")
    with sessions() as session:
        versions = session.scalars(select(StudyVersion.received_at).order_by(StudyVersion.number)).all()
    assert versions == [last, None]


def test_the_same_object_again_does_not_reopen(sessions, spool):
    header = make_header()
    spool_object(spool, header)
    index_spool(sessions, spool)
    freeze_now(sessions)
    spool_object(spool, header)
    spool.rescan()
    index_spool(sessions, spool)
    assert only_study(sessions).state is StudyState.STABLE


@pytest.mark.parametrize(
    "other", [{"PatientID": "P2"}, {"PatientSex": "M"}, {"PatientBirthDate": "19700101"}]
)
def test_two_patients_in_one_study_hold_it(sessions, spool, other):
    make_study(sessions, spool)
    freeze_now(sessions)
    make_study(sessions, spool, count=1, **other)
    study = only_study(sessions)
    assert study.state is StudyState.HELD
    assert study.hold_reason.startswith("patient_conflict")
    assert [job.state for job in jobs(sessions)] == [JobState.HELD]
    assert freeze_now(sessions) == []


def test_one_uid_with_two_contents_holds_the_study_and_keeps_both(sessions, spool):
    make_study(sessions, spool, count=1, instance="1.2.3.4")
    make_study(sessions, spool, count=1, instance="1.2.3.4", SeriesDescription="changed")
    study = only_study(sessions)
    assert study.state is StudyState.HELD
    assert study.hold_reason.startswith("instance_conflict")
    with sessions() as session:
        hashes = session.scalars(select(Instance.sha256)).all()
    assert len(set(hashes)) == 2
    assert all(spool.object_path(sha256).exists() for sha256 in hashes)


def test_a_held_study_stays_held(sessions, spool):
    make_study(sessions, spool)
    make_study(sessions, spool, count=1, PatientID="P2")
    make_study(sessions, spool, count=1)
    assert only_study(sessions).state is StudyState.HELD


PIXELS = {"Rows": 2, "Columns": 2, "BitsAllocated": 8, "PixelData": b"\1\2\3\4"}


def test_26_a_corrected_header_makes_a_new_version_of_the_newest_revision(sessions, spool):
    make_study(sessions, spool, count=1, instance="1.2.3.4", **PIXELS)
    freeze_now(sessions)
    make_study(sessions, spool, count=1, instance="1.2.3.4", SeriesDescription="corrected", **PIXELS)
    assert only_study(sessions).state is StudyState.OPEN
    freeze_now(sessions)
    with sessions() as session:
        manifests = session.execute(
            select(StudyVersion.number, ManifestEntry.instance_id)
            .join(ManifestEntry)
            .order_by(StudyVersion.number)
        ).all()
    assert [tuple(row) for row in manifests] == [(1, 1), (2, 2)]
    assert [job.state for job in jobs(sessions)] == [JobState.SUPERSEDED, JobState.PREPARE]


@pytest.mark.parametrize("other", [{"PixelData": b"\1\2\3\5"}, {"Rows": 1, "Columns": 4}])
def test_26_other_pixels_under_the_same_uid_hold_the_study(sessions, spool, other):
    make_study(sessions, spool, count=1, instance="1.2.3.4", **PIXELS)
    make_study(sessions, spool, count=1, instance="1.2.3.4", **PIXELS | other)
    assert only_study(sessions).hold_reason.startswith("instance_conflict")


def test_26_one_uid_in_two_studies_holds_both(sessions, spool):
    make_study(sessions, spool, count=1, instance="1.2.3.4", **PIXELS)
    make_study(sessions, spool, count=1, instance="1.2.3.4", study="1.2.9", series="1.2.9.1", **PIXELS)
    with sessions() as session:
        assert session.scalars(select(Study.state)).all() == [StudyState.HELD] * 2


def test_29_an_object_of_our_own_is_ignored(sessions, spool):
    make_study(sessions, spool)
    freeze_now(sessions)
    make_study(sessions, spool, count=1, Manufacturer=MANUFACTURER)
    assert only_study(sessions).state is StudyState.STABLE
    assert list(spool.entries()) == []
    assert Device.__dataclass_fields__["manufacturer"].default == MANUFACTURER


def test_29_a_copy_of_a_result_under_another_manufacturer_is_ignored(sessions, spool):
    make_study(sessions, spool)
    freeze_now(sessions)
    with sessions.begin() as session:
        result = Result(
            study_id=1, result_uid="r", verdict=Verdict.GRADED, grade=Grade.HGG, probability=0.9,
            is_calibrated=False, threshold=0.5, slice_count=1,
            model_name="m", model_version="1", checkpoint_sha256="c", trained_on_simulated=True,
            pipeline_version="1",
        )  # fmt: skip
        session.add(result)
        session.flush()
        session.add(
            ResultObject(
                result_id=result.id,
                position=0,
                sop_class_uid="1",
                sop_instance_uid="1.2.3.77",
                series_instance_uid="1.2.3.7",
                sha256="s",
                size_bytes=1,
            )
        )
    make_study(sessions, spool, count=1, instance="1.2.3.77")
    make_study(sessions, spool, count=1, series="1.2.3.7")
    assert only_study(sessions).state is StudyState.STABLE


@pytest.mark.parametrize("number", [None, 2**31 - 1])
def test_a_series_number_may_be_anything(sessions, spool, number):
    make_study(sessions, spool, count=1, SeriesNumber=number)
    with sessions() as session:
        assert session.scalars(select(Series.series_number)).one() == number


def test_an_object_that_cannot_be_indexed_holds_up_no_other(sessions, spool, caplog, monkeypatch):
    header = make_header(PatientID="ZZCANARY")
    bad, changed = spool_object(spool, header), spool_object(spool, make_header())

    def read(path, **options):
        if bad.sha256 in path.name:
            raise ValueError("ZZCANARY")
        return dcmread(path, **options)

    monkeypatch.setattr(indexing, "dcmread", read)
    with spool.object_path(changed.sha256).open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\xff")
    make_study(sessions, spool)
    with sessions() as session:
        assert session.scalar(select(func.count()).select_from(Instance)) == 3
    assert {entry.sha256 for entry in spool.entries()} == {bad.sha256, changed.sha256}
    assert "unreadable" in caplog.text
    assert "other bytes than were received" in caplog.text
    assert "ZZCANARY" not in caplog.text


def test_a_name_that_a_power_cut_took_is_no_loss(sessions, spool):
    entry = spool_object(spool, make_header())
    spool.object_path(entry.sha256).unlink()
    assert index_spool(sessions, spool) == 1
    assert spool.is_intact(entry)


@given(order=st.permutations(range(8)))
@settings(max_examples=1000, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_25_no_interleaving_of_two_studies_mixes_them(sessions, spool, order):
    """Same name, same series numbers, two patients: each instance ends in its own patient's study.

    Each study's manifest holds its own instances, and its digest doesn't depend on the order.
    """
    objects = _two_studies(spool)
    with sessions() as session:
        for position in order:
            index_instance(session, spool, *objects[position])
        # within one transaction no time passes
        frozen = freeze_complete_studies(session, CompletenessRule(timedelta(microseconds=-1)))
        rows = session.execute(
            select(Study.patient_id, Study.state, Instance.sop_instance_uid, StudyVersion.manifest_sha256)
            .select_from(ManifestEntry)
            .join(StudyVersion, StudyVersion.id == ManifestEntry.study_version_id)
            .join(Study, Study.id == StudyVersion.study_id)
            .join(Instance, Instance.id == ManifestEntry.instance_id)
            .join(Series, and_(Series.id == Instance.series_id, Series.study_id == Study.id))
        ).all()
        session.rollback()
    assert len(frozen) == 2
    assert sorted(tuple(row) for row in rows) == sorted(
        (
            header.PatientID,
            StudyState.STABLE,
            entry.sop_instance_uid,
            manifest_digest(
                (other.sop_instance_uid, other.sha256)
                for other, _ in objects
                if other.study_instance_uid == entry.study_instance_uid
            ),
        )
        for entry, header in objects
    )


@cache
def _two_studies(spool):
    objects = []
    for patient in ("1", "2"):
        for number in range(4):
            study = f"1.2.{patient}"
            header = make_header(
                study, f"{study}.{number % 2}", f"{study}.9.{number}", PatientID=f"P{patient}",
                SeriesNumber=number % 2,
            )  # fmt: skip
            objects.append((spool_object(spool, header), header))
    return objects


PAIRS = st.lists(
    st.tuples(st.from_regex(r"[0-9.]{1,10}", fullmatch=True), st.text("0123456789abcdef", min_size=1))
)


@given(PAIRS, st.randoms())
def test_a_manifest_digest_knows_no_order(pairs, random):
    shuffled = list(pairs)
    random.shuffle(shuffled)
    assert manifest_digest(pairs) == manifest_digest(shuffled)


@given(PAIRS, st.tuples(st.just("9.9.9"), st.just("ff")))
def test_a_manifest_digest_changes_with_an_instance(pairs, more):
    assert manifest_digest(pairs) != manifest_digest([*pairs, more])
