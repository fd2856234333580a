from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from dicom_node.reading.evidence import build_evidence
from dicom_node.results.part10 import write_bytes
from dicom_node.results.secondary_capture import build_attention_images
from dicom_node.results.show import ShowError, render_text, show_report, to_png
from dicom_node.results.structured_report import build_structured_report, select_key_frames
from tests.dicom_node.result_samples import attention_at, enhanced_series, make_report

SERIES = enhanced_series()
EVIDENCE = build_evidence(SERIES[0], SERIES)
REPORT = make_report()
IMAGES = build_attention_images(SERIES, attention_at((0, 0, 0)), REPORT, EVIDENCE)


def test_the_text_says_what_the_report_says_and_no_name():
    document = build_structured_report(REPORT, EVIDENCE, select_key_frames(IMAGES[:1], [SERIES]), IMAGES)
    text = render_text(dcmread(BytesIO(write_bytes(document))))
    for sentence in REPORT.comments:
        assert f"  Comment: {sentence}\n" in text
    assert "      Probability of high-grade glioma: 87.3 %\n" in text
    assert "      AI-predicted glioma grade: High Grade Glioma (C4822, NCIt)\n" in text
    assert f"Device Observer UID: {REPORT.device.uid}\n" in text
    assert f"Enhanced MR Image Storage {SERIES[0].SOPInstanceUID} frame 4\n" in text
    assert "Doe" not in text


def test_the_png_holds_the_pixels(tmp_path):
    dataset = dcmread(BytesIO(write_bytes(IMAGES[0].dataset)))
    to_png(dataset, tmp_path / "image.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "image.png")), dataset.pixel_array)


def test_a_file_is_shown_if_it_is_a_report_of_ours(tmp_path):
    path = tmp_path / "object.dcm"
    document = build_structured_report(REPORT, EVIDENCE, images=IMAGES)
    path.write_bytes(write_bytes(document))
    assert show_report(path) == render_text(document)
    document.Manufacturer = "another"
    path.write_bytes(write_bytes(document))
    with pytest.raises(ShowError, match="another device"):
        show_report(path)
    path.write_bytes(write_bytes(IMAGES[0].dataset))
    with pytest.raises(ShowError, match="no Structured Report"):
        show_report(path)
    path.write_bytes(b"text")
    with pytest.raises(ShowError, match="no DICOM"):
        show_report(path)
