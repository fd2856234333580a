"""The books of the soak's end: what was acknowledged, what the ledger says, and what lies at the PACS."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING

from sqlalchemy import select

from dicom_node.peers.stand_in_pacs import StoredInstance
from dicom_node.receiving.spool import Spool
from tests.faults.service import CANARY, Service, dataset_sha256
from tests.faults.soak_faults import SoakPacs
from worker.records.database import Delivery, Instance, Job, Result, ResultObject, Series, Study, StudyVersion
from worker.states import JobState
from worker.study.reporting import object_path

if TYPE_CHECKING:
    from tests.faults.soak import Acknowledged


@dataclass
class Books:
    lost: int = 0
    duplicated: int = 0
    seconds_to_report: list[float] = field(default_factory=list)
    figures: dict[str, int] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)

    def rows(self) -> list[tuple[str, str]]:
        rows = [("lost", str(self.lost)), ("duplicated", str(self.duplicated))]
        rows += [(name, str(number)) for name, number in self.figures.items()]
        if len(self.seconds_to_report) > 1:
            last = quantiles(self.seconds_to_report, n=20)[-1]
            words = f"{median(self.seconds_to_report):.0f}, {last:.0f}, {max(self.seconds_to_report):.0f}"
            rows.append(("seconds from the last object to the report: median, 95 %, longest", words))
        return rows


def compare(service: Service, pacs: SoakPacs, acknowledged: "Sequence[Acknowledged]") -> Books:
    books = Books()
    _compare_received(service, acknowledged, books)
    _compare_sent(service, pacs, acknowledged, books)
    for log in service.folder.glob("*.log"):
        if CANARY in log.read_text(errors="replace"):
            books.complaints.append(f"{log.name} names a patient")
    if not service.answers_echo():
        books.complaints.append("the node does not answer")
    return books


def _compare_received(service: Service, acknowledged: "Sequence[Acknowledged]", books: Books) -> None:
    """Every acknowledged object has one row, in its study, and its bytes."""
    spool = Spool(service.settings.spool_folder)
    with service.sessions() as session:
        rows = session.execute(
            select(Study.study_instance_uid, Study.patient_id, Instance.sha256).select_from(Instance)
            .join(Series, Series.id == Instance.series_id).join(Study, Study.id == Series.study_id)
        ).all()  # fmt: skip
    indexed: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for study_uid, patient_id, sha256 in rows:
        indexed[study_uid, patient_id].append(sha256)
    for study in acknowledged:
        found = Counter(indexed.pop((study.study_instance_uid, study.patient_id), []))
        whole = {sha256 for sha256 in study.sha256 if dataset_sha256(spool.object_path(sha256)) == sha256}
        books.lost += len(study.sha256 - (found.keys() & whole))
        books.duplicated += sum(number - 1 for number in found.values())
        if found.keys() - study.sha256:
            books.complaints.append(f"{study.patient_id} has objects that it never had")
    if indexed:
        books.complaints.append(f"{len(indexed)} studies that nobody sent")
    if books.lost or books.duplicated:
        books.complaints.append(f"objects: {books.lost} lost, {books.duplicated} twice")


def _compare_sent(
    service: Service, pacs: SoakPacs, acknowledged: "Sequence[Acknowledged]", books: Books
) -> None:
    """Every study has one result, and its objects lie at the PACS once, as the ledger has them."""
    with service.sessions() as session:
        jobs = session.execute(
            select(Study.study_instance_uid, Job.state, Job.reason_code, Job.result_id)
            .select_from(Job)
            .join(StudyVersion, StudyVersion.id == Job.study_version_id)
            .join(Study, Study.id == StudyVersion.study_id)
        ).all()
        built = session.execute(
            select(Study.study_instance_uid, ResultObject.sop_instance_uid, ResultObject.sha256)
            .select_from(Delivery)
            .join(ResultObject, ResultObject.id == Delivery.result_object_id)
            .join(Result, Result.id == ResultObject.result_id)
            .join(Study, Study.id == Result.study_id)
            .where(Delivery.sent_at.is_not(None))
        ).all()
    done = {job.study_instance_uid: job for job in jobs if job.state is JobState.DONE}
    wanted: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for study_uid, sop_uid, sha256 in built:
        wanted[study_uid][sop_uid] = sha256
    at_pacs = defaultdict(list)
    for item in pacs.instances:
        at_pacs[item.study_instance_uid].append(item)
    for study in acknowledged:
        objects = at_pacs.pop(study.study_instance_uid, [])
        reports = [item for item in objects if item.modality == "SR"]
        if study.study_instance_uid not in done or not reports:
            books.lost += 1
            states = [str(job.state) for job in jobs if job.study_instance_uid == study.study_instance_uid]
            books.complaints.append(f"{study.patient_id} has no report at the PACS; its jobs: {states}")
        books.duplicated += max(0, len(reports) - 1)
        books.seconds_to_report += [pacs.came_at[item.sop_instance_uid] - study.at for item in reports]
        expected = {
            sop_uid: object_path(service.settings.results_folder, sha256)
            for sop_uid, sha256 in wanted[study.study_instance_uid].items()
        }
        books.complaints += [
            f"{study.patient_id}: {words}" for words in _differences(study, objects, expected)
        ]
    if at_pacs:
        books.complaints.append(f"{len(at_pacs)} studies at the PACS that nobody sent")
    if changed := [uid for uid, digests in pacs.digests.items() if len(digests) > 1]:
        books.duplicated += len(changed)
    if books.duplicated:
        books.complaints.append(f"{books.duplicated} duplicates")
    books.figures |= {
        "studies with their one report at the PACS": len(done),
        "jobs that did not end as done": len(jobs) - len(done),
        "objects at the PACS": len(pacs.instances),
        "lines cut by the PACS after storing": pacs.cuts,
        "objects that were sent twice, with the same bytes": sum(n > 1 for n in pacs.receptions.values()),
    }


def _differences(
    study: "Acknowledged", objects: Sequence[StoredInstance], expected: Mapping[str, Path]
) -> Iterator[str]:
    """What differs between the objects at the PACS and the ledger's, which are files by their UID."""
    if {item.sop_instance_uid for item in objects} != expected.keys():
        yield "PACS and ledger name other objects"
    for item in objects:
        if item.patient_id != study.patient_id:
            yield f"an object is that of {item.patient_id}"
        ours = expected.get(item.sop_instance_uid)
        if ours is not None and dataset_sha256(ours) != dataset_sha256(item.path):
            yield "other bytes at the PACS than in the ledger"
