"""What the pages show, what an operator decides, and the same data for programs."""

import io
import json
import re
from datetime import UTC, datetime
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import select, text, update

from dicom_node.results.result_kind import ResultKind, kind_of
from tests.dicom_node.result_samples import COLUMNS, ROWS
from tests.worker.test_decisions import prepare, receive
from tests.worker.test_indexing import freeze_now, make_study
from tests.worker.test_interventions import hold_incomplete, hold_job
from tests.worker.web.browser import PATIENT, SCANNER, UID, Browser, grade_a_study
from worker.answers.study_story import tell_story
from worker.records.database import (
    Delivery,
    DestinationState,
    Feedback,
    Instance,
    Job,
    Result,
    ResultObject,
    RoleDecision,
    WorkDecision,
)
from worker.records.destinations import ensure_destinations
from worker.records.user_role import UserRole
from worker.states import DeliveryState, JobState
from worker.study.reporting import object_path
from worker.upkeep.audit import copy_audit_trail
from worker.web.charts import draw_bars, draw_lines
from worker.web.worklist import PAGE_ROWS

VIEWER, OPERATOR, ADMIN = UserRole


def picture(answer):
    assert answer.headers["content-type"] == "image/png"
    return np.asarray(Image.open(io.BytesIO(answer.content)))


def test_the_worklist_shows_states_and_no_patient(graded, log_in):
    page = log_in(VIEWER).get("/").text
    assert "deliver</td>" in page
    assert "0.900*" in page
    assert "trained on simulated tumours" in page
    assert PATIENT["AccessionNumber"] in page
    assert PATIENT["PatientID"] not in page
    assert PATIENT["PatientName"] not in page


def test_the_worklist_filters_and_pages(node, web, log_in):
    for number in range(PAGE_ROWS + 2):
        make_study(node.sessions, node.spool, 1, study=f"9.{number}", series=f"9.{number}.1")
    browser = log_in(VIEWER)
    first = browser.get("/")
    numbers = [int(number) for number in re.findall(r'href="/studies/(\d+)"', first.text)]
    assert numbers == list(range(PAGE_ROWS + 2, 2, -1))
    (older,) = re.findall(r'href="([^"]+)" rel="next"', first.text)
    assert re.findall(r'href="/studies/(\d+)"', browser.get(older).text) == ["2", "1"]
    assert "No study." in browser.get("/?state=done").text
    assert "No study." in browser.get("/?grade=HGG&state=&since=&until=").text
    assert "No study." in browser.get("/?until=2020-01-01").text
    assert browser.get("/?state=nonsense").status_code == 422


def test_a_study_shows_its_patient_series_steps_and_result(graded, log_in):
    page = log_in(VIEWER).get("/studies/1").text
    for words in (*PATIENT.values(), UID, "HGG, P(HGG) 0.900", "prepare", "here"):
        assert words in page
    assert 'action="/studies/1/retry"' not in page
    assert 'action="/studies/1/retry"' in log_in(OPERATOR).get("/studies/1").text


def test_what_a_header_says_is_text_and_no_markup(node, log_in):
    make_study(node.sessions, node.spool, 1, SeriesDescription="<script>x</script>", PatientName="<b>^x")
    page = log_in(VIEWER).get("/studies/1").text
    assert "<script>x" not in page
    assert "&lt;script&gt;x" in page
    assert "&lt;b&gt;" in page


def test_layers_of_an_attention_image_are_its_panes(graded, web, log_in):
    browser = log_in(VIEWER)
    pages = browser.get("/studies/1/attention").text
    (slices,) = re.findall(r'data-slices="([\d,]+)"', pages)
    assert 'data-layered="yes"' in pages
    for position in slices.split(","):
        whole, plain, overlay = (
            picture(browser.get(f"/studies/1/objects/{position}/{layer}.png"))
            for layer in ("page", "plain", "overlay")
        )
        assert plain.shape == overlay.shape
        assert plain.shape[0] / plain.shape[1] == ROWS / COLUMNS
        assert np.array_equal(whole[: overlay.shape[0], : overlay.shape[1]], overlay)
        assert np.array_equal(plain[..., 0], plain[..., 1])
    # the last image holds some of the spot: there, and only there, the anatomy is covered
    differs = np.any(plain != overlay, axis=-1)
    assert differs.any()
    assert not differs.all()


def test_only_images_of_the_newest_result_are_served(graded, web, log_in):
    browser = log_in(VIEWER)
    with web.sessions() as session:
        count = len(session.scalars(select(ResultObject)).all())
    assert browser.get("/studies/1/objects/0/page.png").status_code == 200
    for path in (
        f"/studies/1/objects/{count - 1}/page.png",
        f"/studies/1/objects/{count}/page.png",
        "/studies/2/objects/0/page.png",
        "/studies/2/attention",
        "/studies/2/report",
        f"/studies/{2**70}",
    ):
        assert browser.get(path).status_code == 404, path
    assert browser.get("/studies/1/objects/0/passwd.png").status_code == 422


def test_without_its_sources_an_image_is_shown_whole(graded, web, log_in):
    browser = log_in(VIEWER)
    with web.sessions() as session:
        for sha256 in session.scalars(select(Instance.sha256)):
            web.spool.object_path(sha256).unlink()
    assert 'data-layered="no"' in browser.get("/studies/1/attention").text
    assert browser.get("/studies/1/objects/1/page.png").status_code == 200
    assert browser.get("/studies/1/objects/1/plain.png").status_code == 404


def test_a_result_whose_file_is_gone_is_told(graded, web, log_in):
    browser = log_in(VIEWER)
    with web.sessions() as session:
        for sha256 in session.scalars(select(ResultObject.sha256)):
            object_path(web.settings.results_folder, sha256).unlink()
    answer = browser.get("/studies/1/report")
    assert (answer.status_code, "isn&#39;t kept any more" in answer.text) == (404, True)
    assert browser.get("/studies/1/objects/1/page.png").status_code == 404


def test_the_report_is_text(graded, log_in):
    page = log_in(VIEWER).get("/studies/1/report").text
    assert "Oncology Measurement Report" in page
    assert PATIENT["PatientName"] not in page


def test_the_report_and_the_images_are_found_among_all_kinds_of_object(node, web, log_in):
    grade_a_study(node, ResultKind)
    browser = log_in(VIEWER)
    assert "Oncology Measurement Report" in browser.get("/studies/1/report").text
    assert "Oncology Measurement Report" in browser.get("/api/v1/studies/1/report").json()["text"]
    with web.sessions() as session:
        rows = session.execute(select(ResultObject.position, ResultObject.sop_class_uid)).all()
    assert {kind_of(sop_class) for _, sop_class in rows} == set(ResultKind)
    for position, sop_class in rows:
        code = 200 if kind_of(sop_class) is ResultKind.IMAGES else 404
        assert browser.get(f"/studies/1/objects/{position}/page.png").status_code == code, position


def test_a_study_is_found_by_accession_number_or_patient_id(graded, log_in):
    browser = log_in(VIEWER)
    for words in (PATIENT["PatientID"], f" {PATIENT['AccessionNumber']} "):
        assert browser.post("/find", words=words).headers["location"] == "/studies/1"
    assert "No study has" in browser.post("/find", words="ZZCANARY").text
    assert "No study has" in browser.post("/find", words="").text
    make_study(graded.sessions, graded.spool, 1, study="9.9", series="9.9.1", PatientID=PATIENT["PatientID"])
    found = browser.post("/find", words=PATIENT["PatientID"]).text
    assert re.findall(r'href="/studies/(\d)"', found) == ["2", "1"]


def test_an_operator_retries_once_and_is_named(node, web, log_in):
    make_study(node.sessions, node.spool)
    freeze_now(node.sessions)
    hold_job(node)
    browser = log_in(OPERATOR)
    assert "held" in browser.get("/waiting").text
    assert browser.post("/studies/1/retry").headers["location"] == "/studies/1?said=retry"
    assert "Done: retried." in browser.get("/studies/1?said=retry").text
    again = browser.post("/studies/1/retry")
    assert (again.status_code, "stand still" in again.text) == (409, True)
    assert browser.post("/studies/9/retry").status_code == 404
    with web.sessions() as session:
        assert session.scalars(select(WorkDecision.decided_by)).all() == ["operator"]
    copy_audit_trail(node)
    with web.sessions() as session:
        events = tell_story(session, 1).events
    assert ("retried", "operator") in [(event.detail, event.source) for event in events]


def test_what_a_destination_refused_of_a_study_waits_in_one_line(graded, web, log_in):
    with web.sessions.begin() as session:
        ensure_destinations(session, ["pacs"])
        objects = session.scalars(select(ResultObject.id)).all()
        refused = {"destination": "pacs", "state": DeliveryState.FAILED, "failed_at": datetime.now(UTC)}
        session.add_all(Delivery(result_object_id=item, **refused) for item in objects)
    browser = log_in(VIEWER)
    assert f"<td>delivery of {len(objects)} objects to pacs</td>" in browser.get("/waiting").text
    (failure,) = browser.get("/api/v1/failures").json()
    assert (failure["kind"], failure["objects"]) == ("delivery", len(objects))


def test_an_operator_releases(node, web, log_in):
    hold_incomplete(node)
    browser = log_in(OPERATOR)
    assert browser.post("/studies/1/release").status_code == 303
    assert browser.post("/studies/1/release").status_code == 409
    with web.sessions() as session:
        assert session.scalars(select(Job.state)).all() == [JobState.PREPARE]


def test_an_operator_dismisses_what_was_refused_and_says_why(graded, web, log_in):
    with web.sessions.begin() as session:
        session.add(DestinationState(name="pacs"))
        session.flush()
        session.add(Delivery(result_object_id=1, destination="pacs", state="failed", failed_at=text("now()")))
        session.execute(update(Job).values(state=JobState.HELD))
    browser = log_in(OPERATOR)
    assert browser.post("/studies/1/dismiss", reason=" ").status_code == 422
    assert browser.post("/studies/1/dismiss", reason="retired").headers["location"].endswith("said=dismiss")
    assert browser.post("/studies/1/dismiss", reason="retired").status_code == 409
    copy_audit_trail(graded)
    with web.sessions() as session:
        assert session.scalars(select(Delivery.state)).all() == [DeliveryState.DISMISSED]
        assert ("dismissed: retired", "operator") in [
            (event.detail, event.source) for event in tell_story(session, 1).events
        ]


def test_an_operator_sets_series_as_the_page_offers_them(make_node, node, web, log_in):
    receive(node, "flair", "t2", "T1", "T1 nochmal")
    with web.sessions.begin() as session:
        session.execute(
            update(Job).values(state=JobState.HELD, reason_code="roles_uncertain", reason="doubt")
        )
    browser = log_in(OPERATOR)
    page = browser.get("/studies/1").text
    (value,) = set(re.findall(r'<option value="([^"]+)">4 T1 nochmal', page))
    assert browser.post("/studies/1/roles", t1ce=value).status_code == 303
    assert "choose a series" in browser.post("/studies/1/roles").text
    assert browser.post("/studies/1/roles", t2=value).status_code == 409
    with web.sessions() as session:
        rows = session.execute(select(RoleDecision.contrast, RoleDecision.decided_by)).all()
        jobs = session.scalars(select(Job.state).order_by(Job.id)).all()
    assert rows == [("t1ce", "operator")]
    assert jobs == [JobState.HELD, JobState.PREPARE]
    assert prepare(node).reason_code != "roles_uncertain"
    assert "set as t1ce by operator" in browser.get("/studies/1").text


def test_an_operator_records_a_known_grade(graded, web, log_in):
    browser = log_in(OPERATOR)
    assert browser.post("/studies/1/known-grade", grade="LGG", source="pathology").status_code == 303
    assert browser.post("/studies/1/known-grade", grade="III", source="pathology").status_code == 422
    with web.sessions() as session:
        rows = session.execute(select(Feedback.grade, Feedback.given_by)).all()
    assert rows == [("LGG", "operator")]


def test_figures_are_drawn_and_said(graded, log_in):
    page = log_in(VIEWER).get("/figures").text
    assert page.count("<svg") == 4
    assert re.search(r">Maker One MR1</text>", page)
    for word in SCANNER.values():
        assert f"<td>{word}</td>" in page
    assert "trained on simulated tumours" in page
    assert log_in(VIEWER).get("/figures?days=0").status_code == 422


def test_a_chart_escapes_its_words_and_keeps_its_marks_inside():
    chart = draw_lines("<t>", ["<a>", "b"], {"<x>": [1.0, 3.0], "y": [None, 2.0]})
    drawn = ET.fromstring(chart)
    assert "<a>" not in chart
    circles = list(drawn.iter("circle"))
    assert len(circles) == 3
    assert all(
        0 <= float(item.attrib["cx"]) <= 640 and 0 <= float(item.attrib["cy"]) <= 200 for item in circles
    )
    bars = list(ET.fromstring(draw_bars("t", ["a"], {"x": [1.0], "y": [3.0]})).iter("rect"))
    lower, upper = [float(bar.attrib["height"]) for bar in bars if bar.attrib["width"] == "40.0"]
    assert upper == pytest.approx(3 * lower, abs=0.3)
    assert "polyline" in draw_lines("empty", [], {"x": []})


def test_a_legend_too_long_for_a_line_takes_more_and_hides_no_mark():
    names = [f"Maker {number} of a long name, Model, STATION" for number in range(3)]
    drawn = ET.fromstring(draw_lines("t", ["a"], {name: [1.0] for name in names}))
    left, top, width, height = map(float, drawn.attrib["viewBox"].split())
    assert (left, top + height, width) == (0, 200, 640)
    keys = [(float(key.attrib["x"]), float(key.attrib["y"])) for key in drawn.iter("rect")]
    assert len(set(keys)) == 3
    assert all(top <= y < 24 for _, y in keys)


def test_the_scanners_with_most_results_are_drawn_and_the_table_has_all(graded, web, log_in):
    with web.sessions.begin() as session:
        [first] = session.scalars(select(Result))
        columns = {
            column.name: getattr(first, column.name)
            for column in Result.__table__.columns
            if column.name not in ("id", "result_uid", "station_name")
        }
        for number in range(2, 9):
            for count in range(2):
                session.add(Result(**columns, result_uid=f"{number}.{count}", station_name=f"MR{number}"))
    page = log_in(VIEWER).get("/figures").text
    assert len(re.findall(r">Maker One MR\d</text>", page)) == 6
    assert ">Maker One MR1</text>" not in page
    assert len(re.findall(r"<td>MR\d</td>", page)) == 8


def test_the_interface_says_the_same_as_the_pages(graded, log_in):
    browser = log_in(VIEWER)
    (study,) = browser.get("/api/v1/studies").json()["items"]
    assert (study["grade"], study["probability"]) == ("HGG", pytest.approx(0.9))
    assert "patient_id" not in study
    story = browser.get("/api/v1/studies/1").json()
    assert story["study_instance_uid"] == UID
    assert story["versions"][0]["result"]["grade"] == "HGG"
    report = browser.get("/api/v1/studies/1/report").json()["text"]
    assert report.splitlines()[0] in browser.get("/studies/1/report").text
    (drift,) = browser.get("/api/v1/drift").json()
    assert (drift["manufacturer"], drift["model"], drift["station"]) == ("Maker", "One", "MR1")
    assert (drift["count"], drift["hgg_share"]) == (1, 1)
    assert browser.get("/api/v1/grades").json()[0]["hgg"] == 1
    assert browser.get("/api/v1/turnaround").json() == []
    assert browser.get("/api/v1/studies/9").json() == {"detail": "there is no such study"}
    assert browser.get("/api/v1/studies?state=secret").json() == {"detail": "not understood: state"}


def test_the_interface_is_described_to_who_is_logged_in(graded, web, log_in):
    browser = log_in(VIEWER)
    described = browser.get("/api/v1/openapi.json").json()
    assert set(described["paths"]) >= {"/api/v1/studies", "/api/v1/studies/{study_id}", "/api/v1/drift"}
    assert all(set(methods) == {"get"} for methods in described["paths"].values())
    page = browser.get("/docs").text
    for path in described["paths"]:
        assert path in page
    for path in ("/openapi.json", "/redoc"):
        assert Browser(web).get(path).status_code == 404
    assert json.dumps(described).count("description") > 20
