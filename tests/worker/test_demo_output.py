from dicom_node.peers.stand_in_pacs import StoredInstance
from dicom_node.results.part10 import write_bytes
from dicom_node.results.result_kind import ResultKind, kind_of
from dicom_node.results.show import render_text
from tests.dicom_node.result_samples import mr_series, stored
from tests.dicom_node.test_extra_objects import build
from worker.demonstration.demo_output import export_study
from worker.demonstration.demo_study import DemoStudy


def test_of_all_kinds_of_object_the_images_and_the_report_are_left(tmp_path):
    objects = build([stored(dataset) for dataset in mr_series()])
    instances = []
    for number, item in enumerate(objects):
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(write_bytes(item))
        instances.append(
            StoredInstance(
                path=path,
                study_instance_uid=item.StudyInstanceUID,
                series_instance_uid=item.SeriesInstanceUID,
                sop_instance_uid=item.SOPInstanceUID,
                sop_class_uid=item.SOPClassUID,
                modality=item.Modality,
                patient_id=item.PatientID,
            )
        )
    kinds = [kind_of(item.SOPClassUID) for item in objects]
    assert set(kinds) == set(ResultKind)
    place = export_study(DemoStudy("A: study", "HGG", "1.2.3"), 1, instances, tmp_path)
    assert place.name == "1-a-study"
    assert (place / "report.txt").read_text() == render_text(objects[kinds.index(ResultKind.REPORT)])
    assert len(list(place.glob("attention-*.png"))) == kinds.count(ResultKind.IMAGES) - 1
    assert len(list(place.glob("summary-*.png"))) == 1
