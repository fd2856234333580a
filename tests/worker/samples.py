"""Small real objects for the ledger's tests: a spool with studies in it."""

from datetime import UTC, datetime

from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid
from pynetdicom.dsutils import encode

from dicom_node.receiving.spool_file import Reception


def make_header(study="1.2.3", series="1.2.3.1", instance=None, **attributes):
    """A small MR object without pixels."""
    dataset = Dataset()
    dataset.SOPClassUID = MRImageStorage
    dataset.SOPInstanceUID = instance or generate_uid()
    dataset.StudyInstanceUID = study
    dataset.SeriesInstanceUID = series
    dataset.PatientID = "P1"
    dataset.PatientName = "Test^Patient"
    dataset.PatientSex = "F"
    dataset.Modality = "MR"
    dataset.SeriesNumber = 1
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def reception_of(dataset, received_at=None):
    """What the Storage SCP notes beside a dataset."""
    return Reception(
        sop_instance_uid=str(dataset.SOPInstanceUID),
        sop_class_uid=str(dataset.SOPClassUID),
        transfer_syntax_uid=str(ExplicitVRLittleEndian),
        study_instance_uid=str(dataset.StudyInstanceUID),
        series_instance_uid=str(dataset.SeriesInstanceUID),
        calling_ae_title="SCANNER",
        called_ae_title="GLIOGRADE",
        peer_address="127.0.0.1",
        association_id="1",
        received_at=received_at or datetime.now(UTC),
    )


def spool_object(spool, dataset, received_at=None):
    """Put a dataset into the spool as the Storage SCP would."""
    encoded = encode(dataset, is_implicit_vr=False, is_little_endian=True)
    return spool.store(encoded, reception_of(dataset, received_at))
