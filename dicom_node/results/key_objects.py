"""What to open first, as a Key Object Selection (PS3.16 TID 2010)."""

from collections.abc import Sequence

from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from pydicom import Dataset
from pydicom.uid import KeyObjectSelectionDocumentStorage

from dicom_node.reading.evidence import Evidence, InstanceReference
from dicom_node.results import codes
from dicom_node.results.document import finish, stand_ins
from dicom_node.results.report import RESEARCH_SENTENCE, Report
from dicom_node.results.report_content import build_observer
from dicom_node.uids import derive_uid

SERIES_NUMBER = 9907
_SELECTED = "Selected by an algorithm: the summary of its result, the slices it attended most, their sources."


def build_key_objects(report: Report, evidence: Evidence, selected: Sequence[InstanceReference]) -> Dataset:
    """Build the document that names `selected`, images and frames of images, in this order."""
    named = stand_ins(evidence, selected)
    for item in named:
        item.Rows = item.Columns = 1  # by which highdicom knows an image
    marks = f"{RESEARCH_SENTENCE}. " if report.research_use_only else ""
    content = KeyObjectSelection(
        document_title=codes.KEY_OBJECTS_TITLE,
        referenced_objects=named,
        observer_device_context=build_observer(report),
        description=f"{marks}{_SELECTED}",
    )
    device = report.device
    document: Dataset = KeyObjectSelectionDocument(
        evidence=list({item.SOPInstanceUID: item for item in named}.values()),
        content=content,
        series_instance_uid=derive_uid(report.result_id, "key object series", evidence.study_instance_uid),
        series_number=SERIES_NUMBER,
        sop_instance_uid=derive_uid(report.result_id, "key objects", KeyObjectSelectionDocumentStorage),
        instance_number=1,
        manufacturer=device.manufacturer,
        manufacturer_model_name=device.model_name,
        software_versions=device.software_version,
        device_serial_number=device.serial_number,
        series_description=report.series_description("AI glioma key images"),
        requested_procedures=list(evidence.requests) or None,
    )
    _complete(document, selected)
    return finish(document, report, evidence)


def _complete(root: Dataset, selected: Sequence[InstanceReference]) -> None:
    """Take away the items' concept names, which TID 2010 forbids, and name the frames that are meant."""
    images = [item for item in root.ContentSequence if item.ValueType == "IMAGE"]
    for image, reference in zip(images, selected, strict=True):
        image.pop("ConceptNameCodeSequence", None)
        image.ReferencedSOPSequence[0].update(reference.build_item())
    root.ContinuityOfContent = "SEPARATE"
