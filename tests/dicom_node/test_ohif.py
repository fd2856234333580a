"""OHIF's own code opens our reports as text: every label with its value, and no error."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from dicom_node.results.part10 import write_bytes
from dicom_node.results.report import RESEARCH_SENTENCE, Predecessor
from dicom_node.results.structured_report import as_enhanced
from tests.dicom_node.result_samples import enhanced_series, make_report, mr_series, stored
from tests.dicom_node.test_not_graded import REASON
from tests.dicom_node.test_not_graded import build as build_answer
from tests.dicom_node.test_results_templates import result_set
from tests.dicom_node.test_results_validate import SOURCES, build

READER = Path(__file__).parent.parent / "ohif"
NODE = shutil.which("node")

pytestmark = [
    pytest.mark.node,
    pytest.mark.skipif(NODE is None, reason="needs node"),
    pytest.mark.skipif(
        not (READER / "node_modules").exists(), reason="needs OHIF's code: npm ci --prefix tests/ohif"
    ),
]


def read(data, folder):
    """What OHIF makes of a report, and the lines that it shows."""
    path = folder / "report.dcm"
    path.write_bytes(data)
    command = [str(NODE), READER / "read.js", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-1000:]
    opened = json.loads(done.stdout)
    blocks = re.split(r"</?div[^>]*>", opened.pop("html"))
    lines = [html.unescape(re.sub(r"<[^>]*>", "", block)).replace("\xa0", " ") for block in blocks]
    return opened, [line for line in lines if line]


@pytest.mark.parametrize("source", [mr_series, enhanced_series])
@pytest.mark.parametrize("variant", [lambda document: document, as_enhanced], ids=["3D", "enhanced SR"])
def test_it_shows_grade_number_and_marking(source, variant, tmp_path):
    document, _ = result_set([stored(dataset) for dataset in source()])
    opened, lines = read(write_bytes(variant(document)), tmp_path)
    assert opened == {
        "isImagingMeasurementReport": False,
        "isRehydratable": False,
        "measurements": [],
        "label": document.SeriesDescription,
    }
    assert lines[0] == "1. Oncology Measurement Report"
    assert "1.1.1. Measurement Group" in lines
    assert f"Comment: {RESEARCH_SENTENCE}" in lines
    assert "Finding: Glioma" in lines
    assert "Probability of high-grade glioma: 87.3 %" in lines
    assert "AI-predicted glioma grade: High Grade Glioma" in lines
    assert [line for line in lines if line.startswith("Algorithm Parameters: T1 post-contrast: series")]
    # images alone are what its text has no form for, and they come last
    unsupported = [number for number, line in enumerate(lines) if "[" in line]
    assert {lines[number] for number in unsupported} == {
        "Source of Measurement: [IMAGE is not supported]",
        "Visual explanation: [IMAGE is not supported]",
    }
    assert unsupported == list(range(unsupported[0], len(lines)))


def test_what_is_said_does_not_depend_on_the_source(tmp_path):
    first, _ = build(mr_series(), make_report())
    shown = read(first, tmp_path)
    for name in ("japanese", "type 2 absent", "empty patient id"):
        document, _ = build([stored(dataset) for dataset in SOURCES[name]()], make_report())
        assert read(document, tmp_path) == shown


def test_it_shows_why_a_study_is_not_graded(tmp_path):
    predecessor = Predecessor("1.2.3", "1.2.3.4", "1.2.840.10008.5.1.4.1.1.88.34")
    _, report = build_answer(mr_series(), predecessor=predecessor)
    _, lines = read(write_bytes(report), tmp_path)
    assert f"Comment: AI result: NOT GRADED - {REASON}" in lines
    assert "AI-predicted glioma grade: Not graded" in lines
    assert f"Comment: {RESEARCH_SENTENCE}" in lines


def test_it_would_drop_the_labels_of_a_continuous_container(tmp_path):
    """The check can fail."""
    document, _ = result_set(mr_series())
    for container in containers(document):
        container.ContinuityOfContent = "CONTINUOUS"
    _, lines = read(write_bytes(document), tmp_path)
    assert not [line for line in lines if line.startswith("Probability of high-grade glioma")]


def containers(item):
    yield item
    for child in item.ContentSequence:
        if child.ValueType == "CONTAINER":
            yield from containers(child)
