"""What the report step reads from the ledger to say, and the rows and files it leaves."""

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydicom.uid import UID, Comprehensive3DSRStorage
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from dicom_node.durable import sync_folder, write_durably
from dicom_node.results.report import Algorithm, Device, Predecessor, Report
from dicom_node.results.report import SeriesRole as ReportedRole
from dicom_node.results.result_kind import kind_of
from model.card import Card
from model.gates import Judgement
from model.grade import Contrast, Verdict
from worker.node import Node
from worker.records.database import (
    Delivery,
    Job,
    PreprocessingQuality,
    Result,
    ResultObject,
    Series,
    SeriesRole,
)
from worker.records.destinations import ensure_destinations
from worker.records.queries import live_results
from worker.states import UNDELIVERED, JobState
from worker.study.manifest import Manifest
from worker.study.pipeline import PIPELINE_VERSION, BuiltObject, Graded
from worker.version import VERSION


def describe_report(
    session: Session,
    node: Node,
    job_id: int,
    manifest: Manifest,
    result_uid: str,
    graded: Graded,
    roles: Mapping[Contrast, tuple[str, SeriesRole]],
) -> Report:
    """Gather what the objects will say of one study."""
    card = node.card
    return Report(
        prediction=graded.prediction,
        judgement=graded.judgement,
        algorithm=Algorithm(
            name=card.name,
            version=card.version,
            checkpoint_sha256=card.weights_sha256,
            training_statement=card.training_statement,
            limits=(card.calibration_statement, card.gates_statement),
            parameters=(
                f"pooling={card.pooling}",
                f"pipeline_version={PIPELINE_VERSION}",
                f"completeness={manifest.completeness}",
                *_judgement_parameters(graded.judgement, card),
                *_quality_parameters(session, job_id),
            ),
        ),
        roles=tuple(
            ReportedRole(contrast, series_instance_uid, role.evidence, role.confidence)
            for contrast, (series_instance_uid, role) in sorted(roles.items())
        ),
        result_id=result_uid,
        created_at=graded.graded_at,
        device=describe_device(node),
        predecessor=find_predecessor(session, manifest.study_id),
    )


def describe_device(node: Node) -> Device:
    """This installation, as the objects name it."""
    return Device(
        uid=node.installation.device_uid,
        name=node.settings.ae_title,
        model_name="gliograde",
        software_version=VERSION,
        serial_number=str(node.installation.device_uid)[-12:],
    )


def _judgement_parameters(judgement: Judgement, card: Card) -> tuple[str, ...]:
    """Say what the gates measured; nothing of what they had no limit for."""
    measured = {"attention_ml": judgement.attention_ml, "appearance_distance": judgement.appearance_distance}
    return (
        f"verdict={judgement.verdict}",
        f"calibrated={'no' if card.calibration is None else 'yes'}",
        *(f"{name}={value:.4g}" for name, value in measured.items() if value is not None),
    )


def _quality_parameters(session: Session, job_id: int) -> tuple[str, ...]:
    """Say how well the series fitted: similarities and overlaps, and what a person should look at."""
    row = session.get_one(PreprocessingQuality, job_id)
    shown = ("brain_ml", "atlas_similarity", "atlas_overlap", "flair_similarity", "t2_similarity")
    measured = tuple(f"{name}={getattr(row, name):.4g}" for name in shown)
    return (*measured, f"preprocessing_warnings={row.warnings or 'none'}")


def write_objects(results_folder: Path, objects: Sequence[BuiltObject]) -> None:
    """Keep the serialised objects under their digest, on disk for good before anything refers to them."""
    for item in objects:
        path = object_path(results_folder, item.sha256)
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, path.with_name(f".{path.name}.{uuid.uuid4()}.part"), [item.content])
        sync_folder(path.parent)


def object_path(results_folder: Path, sha256: str) -> Path:
    """Where a result object's bytes lie."""
    return results_folder / sha256[:2] / f"{sha256}.dcm"


def record_result(
    session: Session,
    node: Node,
    job_id: int,
    study_id: int,
    result_uid: str,
    graded: Graded,
    objects: Sequence[BuiltObject],
) -> None:
    """Add the result, its objects and their deliveries in the caller's transaction."""
    prediction, judgement = graded.prediction, graded.judgement
    is_graded = judgement.verdict is Verdict.GRADED
    answer = {
        "verdict": judgement.verdict,
        "grade": prediction.grade if is_graded else None,
        "probability": prediction.probability if judgement.verdict.tells_probability else None,
        "reason_code": None if is_graded else judgement.verdict.value,
        "reason": judgement.sentence or None,
        "attention_ml": judgement.attention_ml,
        "appearance_distance": judgement.appearance_distance,
        "is_calibrated": node.card.calibration is not None,
        "threshold": prediction.threshold,
        "slice_count": len(prediction.slice_probabilities),
        "created_at": graded.graded_at,
        **_scanner(session, job_id),
    }
    record_answer(session, node, job_id, study_id, result_uid, answer, objects)


def _scanner(session: Session, job_id: int) -> dict[str, object]:
    """What the T1 post-contrast series of a job says of its scanner."""
    named = (Series.manufacturer, Series.manufacturer_model_name, Series.station_name)
    taken = (SeriesRole.job_id == job_id) & (SeriesRole.contrast == Contrast.T1CE)
    rows = session.execute(select(*named).join(SeriesRole, SeriesRole.series_id == Series.id).where(taken))
    return dict(rows.mappings().one_or_none() or {})


def record_answer(
    session: Session,
    node: Node,
    job_id: int,
    study_id: int,
    result_uid: str,
    answer: Mapping[str, object],
    objects: Sequence[BuiltObject],
) -> None:
    """Add a result with the columns of `answer`, its objects and their deliveries; see `record_result`."""
    card = node.card
    predecessor_id = latest_result_id(session, study_id)
    result = Result(
        **answer,
        study_id=study_id,
        result_uid=result_uid,
        model_name=card.name,
        model_version=card.version,
        checkpoint_sha256=card.weights_sha256,
        trained_on_simulated=card.is_simulated,
        pipeline_version=PIPELINE_VERSION,
        predecessor_id=predecessor_id,
    )
    session.add(result)
    session.execute(update(Result).where(Result.id == predecessor_id).values(is_replaced=True))
    session.flush()
    job = session.get_one(Job, job_id)
    job.result_id = result.id
    ensure_destinations(session, [destination.name for destination in node.settings.destinations])
    for position, item in enumerate(objects):
        row = ResultObject(
            result_id=result.id,
            position=position,
            sop_class_uid=item.sop_class_uid,
            sop_instance_uid=item.sop_instance_uid,
            series_instance_uid=item.series_instance_uid,
            sha256=item.sha256,
            size_bytes=len(item.content),
        )
        session.add(row)
        session.flush()
        kind = kind_of(item.sop_class_uid)
        session.add_all(
            Delivery(result_object_id=row.id, destination=destination.name)
            for destination in node.settings.destinations
            if kind in destination.objects
        )


def ends_as(result: Result) -> JobState:
    """The end of a job with this result: an indeterminate probability is an answer, none at all isn't."""
    if result.reason_code is None or result.verdict is Verdict.INDETERMINATE:
        return JobState.DONE
    return JobState.NOT_GRADABLE


def is_left_behind(session: Session, result_id: int) -> bool:
    """Whether something of the result was never sent and no job is at it: the study was held meanwhile."""
    jobs = select(Job.id).where(Job.result_id == result_id, Job.state == JobState.DELIVER)
    waiting = (
        select(Delivery.id)
        .join(ResultObject, ResultObject.id == Delivery.result_object_id)
        .where(ResultObject.result_id == result_id, Delivery.state.in_(UNDELIVERED))
    )
    return session.scalar(select(waiting.exists() & ~jobs.exists())) is True


def latest_result_id(session: Session, study_id: int) -> int | None:
    """The last result of the study that was sent or will be."""
    return session.scalars(
        live_results().where(Result.study_id == study_id).order_by(Result.id.desc()).limit(1)
    ).one_or_none()


def find_predecessor(session: Session, study_id: int) -> Predecessor | None:
    """The last report of the study that was sent or will be."""
    latest = latest_result_id(session, study_id)
    if latest is None:
        return None
    # one that a destination got as Enhanced SR names its predecessor's Enhanced SR by itself
    report = session.scalars(
        select(ResultObject)
        .where(ResultObject.result_id == latest, ResultObject.sop_class_uid == Comprehensive3DSRStorage)
        .limit(1)
    ).one()
    return Predecessor(
        series_instance_uid=UID(report.series_instance_uid),
        sop_instance_uid=UID(report.sop_instance_uid),
        sop_class_uid=UID(report.sop_class_uid),
    )
