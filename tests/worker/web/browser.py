"""The web page as its users see it: a graded study with real attention images, and logins."""

import re
from typing import Any

from fastapi.testclient import TestClient
from sqlalchemy import func, update

from dicom_node.results.result_kind import DEFAULT_KINDS
from model.grade import Contrast
from tests.dicom_node.result_samples import attention_at, make_report, mr_series
from tests.worker.deliveries import job_to_deliver
from tests.worker.samples import spool_object
from worker.records.database import Result
from worker.records.user_role import UserRole
from worker.study.pipeline import build_objects
from worker.web.app import make_app
from worker.web.guard import Web
from worker.web.users import add_user

UID = "1.2.3"
PATIENT = {"PatientID": "ZZCANARYID", "PatientName": "ZZCANARY^NAME", "AccessionNumber": "ZZCANARY-A1"}
SCANNER = {"manufacturer": "Maker", "manufacturer_model_name": "One", "station_name": "MR1"}
HEADER: dict[str, Any] = {"StudyInstanceUID": UID, "PatientBirthDate": None, "StudyDate": None, **PATIENT}


def password_of(role):
    return f"correct horse {role}"


def make_web(node):
    """The web page on a node's resources, with one user of each role, named as the role."""
    with node.sessions.begin() as session:
        for role in UserRole:
            add_user(session, role.value, password_of(role), role)
    return Web(node.settings, node.sessions, node.spool, node.audit)


def grade_a_study(node, kinds=DEFAULT_KINDS):
    """Study 1: received, graded and built as the service builds it, its objects waiting to be sent."""
    entries = [spool_object(node.spool, dataset) for dataset in mr_series(**HEADER)]
    paths = tuple(node.spool.object_path(entry.sha256) for entry in entries)
    attention = dict.fromkeys(Contrast, attention_at((10.0, 10.0, 0.0)))
    objects = build_objects(
        make_report(), dict.fromkeys(Contrast, paths), attention, node.settings.maximum_images, kinds
    )
    job_to_deliver(node, *objects, study=UID, **PATIENT)
    with node.sessions.begin() as session:
        session.execute(update(Result).values(created_at=func.now(), **SCANNER))


class Browser:
    """Keeps cookies, sends forms with their tokens, and follows nothing."""

    def __init__(self, web, secure=False):
        scheme = "https" if secure else "http"
        self.client = TestClient(make_app(web), base_url=f"{scheme}://testserver", follow_redirects=False)

    def get(self, path, **headers):
        return self.client.get(path, headers=headers)

    def token(self, path="/login"):
        """The token of the first form of a page."""
        return re.findall(r'name="form_token" value="(\w+)"', self.get(path).text)[0]

    def post(self, path, page="/", **fields):
        return self.client.post(path, data={"form_token": self.token(page), **fields})

    def log_in(self, name, password=None):
        password = password_of(name) if password is None else password
        return self.post("/login", "/login", name=name, password=password)
