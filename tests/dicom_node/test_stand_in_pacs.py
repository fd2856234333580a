from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind as Find  # type: ignore[attr-defined]

from dicom_node.peers.scu import Destination, Sent, send
from dicom_node.peers.stand_in_pacs import STORED_CLASSES, StandInPacs


def to(pacs: StandInPacs) -> Destination:
    return Destination(name="pacs", ae_title=pacs.ae_title, address="127.0.0.1", port=pacs.port)


def query(pacs: StandInPacs, level: str, **keys: object) -> list[Dataset]:
    entity = AE()
    entity.add_requested_context(Find)
    association = entity.associate("127.0.0.1", pacs.port)
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    matches = [
        match for status, match in association.send_c_find(identifier, Find) if status.Status == 0xFF00
    ]
    association.release()
    assert all(match is not None for match in matches)
    return [match for match in matches if match is not None]


def test_queries_count_what_is_held(tmp_path: Path, study: list[Dataset], study_files: list[Path]) -> None:
    with StandInPacs(tmp_path / "pacs") as pacs:
        list(send(study_files, to(pacs)))
        (found,) = query(pacs, "STUDY", StudyInstanceUID="", PatientID=study[0].PatientID)
        assert found.StudyInstanceUID == study[0].StudyInstanceUID
        assert (found.NumberOfStudyRelatedInstances, found.NumberOfStudyRelatedSeries) == (48, 4)
        assert found.ModalitiesInStudy == "MR"
        series = query(pacs, "SERIES", StudyInstanceUID=found.StudyInstanceUID)
        assert [match.NumberOfSeriesRelatedInstances for match in series] == [12] * 4
        wanted = [series[0].SeriesInstanceUID, series[2].SeriesInstanceUID]
        assert len(query(pacs, "IMAGE", SeriesInstanceUID=wanted)) == 24
        assert query(pacs, "IMAGE", SOPInstanceUID="1.2.3") == []
        assert query(pacs, "NONSENSE") == []


def test_the_first_of_two_objects_with_one_uid_is_kept(tmp_path: Path, study_files: list[Path]) -> None:
    changed = dcmread(study_files[0])
    changed.PatientComments = "changed"
    changed.save_as(tmp_path / "changed.dcm")
    with StandInPacs(tmp_path / "pacs") as pacs:
        sent = list(send([study_files[0], tmp_path / "changed.dcm"], to(pacs)))
        assert [outcome.outcome for outcome in sent] == [Sent.SENT, Sent.SENT]
        (held,) = pacs.instances
        assert pacs.receptions[held.sop_instance_uid] == 2
        assert "PatientComments" not in dcmread(held.path)
        assert len(list((tmp_path / "pacs").iterdir())) == 1


def test_a_failure_is_not_kept(tmp_path: Path, study_files: list[Path]) -> None:
    with StandInPacs(tmp_path / "pacs", status_hook=lambda _: 0xA700) as pacs:
        list(send(study_files[:1], to(pacs)))
        assert pacs.instances == ()
        assert sum(pacs.receptions.values()) == 1


def test_every_class_that_we_send_is_stored(tmp_path: Path) -> None:
    entity = AE()
    for uid in STORED_CLASSES:
        entity.add_requested_context(uid)
    with StandInPacs(tmp_path / "pacs", ae_title="ARCHIVE") as pacs:
        association = entity.associate("127.0.0.1", pacs.port, ae_title="ARCHIVE")
        accepted = {context.abstract_syntax for context in association.accepted_contexts}
        association.release()
    assert accepted == set(STORED_CLASSES)


def test_a_taken_port_is_an_error(tmp_path: Path) -> None:
    with StandInPacs(tmp_path / "one") as pacs, pytest.raises(OSError, match="in use"):
        StandInPacs(tmp_path / "two", port=pacs.port).__enter__()
