"""What all objects built by highdicom need: sources that it doesn't stumble over, and our true header."""

from collections.abc import Iterable

from pydicom import Dataset

from dicom_node.reading.evidence import Evidence, InstanceReference
from dicom_node.reading.study_header import TYPE_2
from dicom_node.results.part10 import build_file_meta
from dicom_node.results.report import Statement


def stand_ins(evidence: Evidence, references: Iterable[InstanceReference]) -> list[Dataset]:
    """Make a dataset for each reference, with its UIDs and empty patient attributes.

    highdicom checks and copies the first one's header and stumbles over what real headers hold (absent
    type 2, ISO 2022 character sets, unknown sexes); `finish` puts the true header over it.
    """
    items = []
    for reference in references:
        item = Dataset()
        item.StudyInstanceUID = evidence.study_instance_uid
        item.SeriesInstanceUID = reference.series_instance_uid
        item.SOPInstanceUID = reference.sop_instance_uid
        item.SOPClassUID = reference.sop_class_uid
        for keyword in TYPE_2:
            setattr(item, keyword, "")
        items.append(item)
    return items


def finish(dataset: Dataset, statement: Statement, evidence: Evidence) -> Dataset:
    """Give the object its patient, its study and the job's moment, so that a second build gives the same."""
    date, time = statement.dicom_date_time(evidence.header)
    dataset.InstanceCreationDate = dataset.SeriesDate = dataset.ContentDate = date
    dataset.InstanceCreationTime = dataset.SeriesTime = dataset.ContentTime = time
    # highdicom names itself there, with the clock; a library is no equipment.
    dataset.pop("ContributingEquipmentSequence", None)
    dataset.update(evidence.header)
    dataset.file_meta = build_file_meta(dataset)
    return dataset
