from io import BytesIO

from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.results.part10 import write_bytes
from dicom_node.uids import IMPLEMENTATION_CLASS_UID
from tests.dicom_node.result_samples import mr_series


def test_a_dataset_becomes_a_file_of_ours_that_reads_back():
    dataset = mr_series()[0]
    data = write_bytes(dataset)
    assert data[128:132] == b"DICM"
    read = dcmread(BytesIO(data))
    assert read.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert read.file_meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
    assert read.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
    assert read == dataset


def test_writing_twice_gives_the_same_bytes():
    dataset = mr_series()[0]
    assert write_bytes(dataset) == write_bytes(dataset)
