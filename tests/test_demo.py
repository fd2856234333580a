"""The main job, as a newcomer runs it: one command, real processes, real sockets."""

import json
import re

import pytest

from tests.command import gliograde, processes_naming

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "gliograde-demo"
    finished = gliograde("demo", "--folder", folder)
    answer = gliograde("results", "--json", GLIOGRADE_DATA_FOLDER=str(folder / "node"))
    return finished, folder, {item["accession_number"]: item for item in json.loads(answer.stdout)}


def test_all_goes_as_expected(demo):
    finished, folder, _ = demo
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "all went as expected" in finished.stdout
    assert str(folder / "results") in finished.stdout


def test_nothing_is_left_running(demo):
    _, folder, _ = demo
    assert processes_naming(folder) == []


def test_each_study_ends_as_it_should(demo):
    _, _, results = demo
    states = {accession: item["job_state"] for accession, item in results.items()}
    assert states == {
        "DEMO900001": "done",
        "DEMO900002": "done",
        "DEMO900003": "done",
        "DEMO900004": "not_gradable",
        "DEMO900005": "done",
    }
    assert results["DEMO900004"]["reason_code"] == "missing_t1ce"
    assert results["DEMO900004"]["grade"] is None
    assert results["DEMO900005"]["version"] > 1


def test_misleading_names_are_seen_through(demo):
    _, _, results = demo
    taken = results["DEMO900003"]
    assert (taken["flair_series_number"], taken["t1ce_series_number"], taken["t2_series_number"]) == (1, 4, 3)


def test_report_and_database_agree(demo):
    _, folder, results = demo
    reports = sorted((folder / "results").glob("*/report.txt"))
    assert len(reports) == 4
    for report, accession in zip(
        reports, ["DEMO900001", "DEMO900002", "DEMO900003", "DEMO900005"], strict=True
    ):
        text = report.read_text()
        (percent,) = re.findall(r"Probability of high-grade glioma: ([0-9.]+) %", text)
        assert float(percent) == pytest.approx(100 * results[accession]["probability"], abs=0.051)
        assert ("High Grade Glioma" in text) == (results[accession]["grade"] == "HGG")
        assert "RESEARCH USE ONLY" in text
        assert "simulated" in text
        assert results[accession]["checkpoint_sha256"] in text


def test_the_pacs_got_every_object(demo):
    _, folder, results = demo
    for number, accession in ((1, "DEMO900001"), (2, "DEMO900002"), (3, "DEMO900003"), (5, "DEMO900005")):
        images = list((folder / "results").glob(f"{number}-*/*.png"))
        assert results[accession]["delivered"] == results[accession]["deliveries"] == len(images) + 1


def test_logs_hold_nothing_of_a_patient(demo):
    _, folder, _ = demo
    for log in (folder / "node" / "logs").glob("*.log"):
        assert "Simulated^" not in log.read_text()
        assert not re.search(r"SIM9000", log.read_text())
