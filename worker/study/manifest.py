"""What a job works on: the frozen manifest of its study version, read from the ledger."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.reading.series_choice import SeriesChoice
from dicom_node.receiving.spool import Spool
from model.grade import Contrast
from worker.records.database import Instance, Job, ManifestEntry, Series, SeriesRole, Study, StudyVersion
from worker.states import Completeness
from worker.study.pipeline import InputInstance

PURGED = "purged"
"""Reason code of a job whose images are gone."""


@dataclass(frozen=True, slots=True)
class ManifestInstance:
    """One instance of the manifest and where its file lies."""

    series_id: int
    series_instance_uid: str
    sop_instance_uid: str
    sha256: str
    path: Path


@dataclass(frozen=True, slots=True)
class Manifest:
    """The instances of one study version."""

    study_id: int
    study_instance_uid: str
    version: int
    completeness: Completeness
    instances: Sequence[ManifestInstance]
    purged: bool = False
    """Files of it were purged: it can't be prepared until they are sent again."""

    def files_by_series(self) -> dict[str, list[Path]]:
        """Files of each series, keyed by Series Instance UID."""
        series: defaultdict[str, list[Path]] = defaultdict(list)
        for instance in self.instances:
            series[instance.series_instance_uid].append(instance.path)
        return dict(series)

    def series_ids(self) -> dict[str, int]:
        """Row id of each series, keyed by Series Instance UID."""
        return {instance.series_instance_uid: instance.series_id for instance in self.instances}

    def inputs(self, choices: Mapping[Contrast, SeriesChoice]) -> list[InputInstance]:
        """Instances of the chosen volumes."""
        return [
            InputInstance(contrast, instance.sop_instance_uid, instance.sha256)
            for contrast, choice in choices.items()
            for instance in self.instances
            if instance.sop_instance_uid in choice.sop_instance_uids
        ]

    def files(self, sop_instance_uids: Collection[str]) -> list[Path]:
        """Files of the named instances."""
        return [item.path for item in self.instances if item.sop_instance_uid in sop_instance_uids]


def load_manifest(session: Session, spool: Spool, job_id: int) -> Manifest:
    """Read the manifest of a job's study version."""
    study = session.execute(
        select(Study.id, Study.study_instance_uid, StudyVersion.number, StudyVersion.completeness)
        .join(StudyVersion)
        .join(Job, Job.study_version_id == StudyVersion.id)
        .where(Job.id == job_id)
    ).one()
    rows = session.execute(
        select(
            Instance.series_id,
            Series.series_instance_uid,
            Instance.sop_instance_uid,
            Instance.sha256,
            Instance.purged_at,
        )
        .join(Series)
        .join(ManifestEntry, ManifestEntry.instance_id == Instance.id)
        .join(Job, Job.study_version_id == ManifestEntry.study_version_id)
        .where(Job.id == job_id)
        .order_by(Instance.id)
    ).all()
    instances = [ManifestInstance(*row[:4], path=spool.object_path(row.sha256)) for row in rows]
    return Manifest(*study, instances=instances, purged=any(row.purged_at for row in rows))


def load_roles(session: Session, job_id: int) -> dict[Contrast, tuple[str, SeriesRole]]:
    """Read the chosen series of a job: contrast → (Series Instance UID, role)."""
    rows = session.execute(
        select(Series.series_instance_uid, SeriesRole)
        .join(SeriesRole, SeriesRole.series_id == Series.id)
        .where(SeriesRole.job_id == job_id)
    )
    return {role.contrast: (uid, role) for uid, role in rows}
