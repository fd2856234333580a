"""What the demo leaves behind: each study's report as text and its attention images as PNG."""

import re
from collections.abc import Sequence
from pathlib import Path

from pydicom import dcmread

from dicom_node.peers.stand_in_pacs import StoredInstance
from dicom_node.results.result_kind import ResultKind, kind_of
from dicom_node.results.secondary_capture import SUMMARY_NUMBER
from dicom_node.results.show import render_text, to_png
from worker.demonstration.demo_study import DemoStudy


def export_study(study: DemoStudy, number: int, instances: Sequence[StoredInstance], folder: Path) -> Path:
    """Write what the PACS holds of a study below `folder`, or why it holds nothing; returns the place."""
    slug = re.sub(r"[^a-z0-9]+", "-", study.title.lower()).strip("-")
    place = folder / f"{number}-{slug}"
    place.mkdir(parents=True)
    for instance in instances:
        dataset = dcmread(instance.path)
        match kind_of(instance.sop_class_uid):
            case ResultKind.IMAGES:
                name = "summary" if dataset.InstanceNumber == SUMMARY_NUMBER else "attention"
                to_png(dataset, place / f"{name}-{dataset.InstanceNumber:02d}.png")
            case ResultKind.REPORT:
                (place / "report.txt").write_text(render_text(dataset))
    if not instances and study.standing is not None:
        (place / "not-graded.txt").write_text(f"{study.standing.hold_reason or study.standing.reason}\n")
    return place
