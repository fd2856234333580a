"""The conformance statement says what the code and the settings say."""

import os
import re
from pathlib import Path

from pydicom.sr.coding import Code

from dicom_node.peers.scu import Destination
from dicom_node.peers.stow import WebDestination
from dicom_node.results import codes
from dicom_node.results.result_kind import DEFAULT_KINDS, ResultKind, kind_of
from worker.commands.conformance import OPTIONAL_CLASSES, SENT_CLASSES, conformance_statement
from worker.settings import Settings

STATEMENT = Path(__file__).parents[2] / "docs" / "CONFORMANCE.md"


def test_the_statement_of_the_default_settings_is_the_one_in_the_documents(monkeypatch):
    for name in [name for name in os.environ if name.startswith("GLIOGRADE_")]:
        monkeypatch.delenv(name)
    assert STATEMENT.read_text() == conformance_statement(Settings())


def test_no_place_in_the_text_is_left_open():
    assert not re.search(r"\{\w+\}", conformance_statement(Settings()))


def test_settings_change_the_tables():
    plain = Settings()
    place = Destination(name="pacs", ae_title="PACS", address="127.0.0.1", port=104, storage_commitment=True)
    changed = plain.model_copy(update={"ae_title": "GRADER", "destinations": (place,)})
    text = conformance_statement(changed)
    assert "| AE title | GRADER |" in text
    assert "| Storage Commitment Push Model SOP Class | 1.2.840.10008.1.20.1 | yes | no |" in text
    assert "| 1.2.840.10008.1.20.1 | by setting, off now | no |" in conformance_statement(plain)


def test_every_class_that_is_sent_is_stated():
    text = conformance_statement(Settings())
    assert all(f"| {uid.name} | {uid} | yes | no |" in text for uid in SENT_CLASSES)


def test_every_code_that_is_sent_is_stated():
    text = conformance_statement(Settings())
    values = [value for value in vars(codes).values() if isinstance(value, (Code, dict))]
    listed = [code for value in values for code in (value.values() if isinstance(value, dict) else [value])]
    sent = [code for code in listed if isinstance(code, Code)]
    assert len(sent) > 20
    for code in sent:
        assert f"| {code.value} | {code.scheme_designator} | {code.meaning} |" in text


def test_an_optional_class_is_stated_as_sent_where_a_destination_asks_for_it():
    place = WebDestination(name="web", url="https://host/x", objects=(ResultKind.PDF,))
    plain, asked = Settings(), Settings().model_copy(update={"destinations": (place,)})
    assert set(OPTIONAL_CLASSES) == set(ResultKind) - set(DEFAULT_KINDS)
    for kind, uid in OPTIONAL_CLASSES.items():
        assert kind_of(uid) is kind
        assert f"| {uid.name} | {uid} | by setting, off now | no |" in conformance_statement(plain)
    assert "| Encapsulated PDF Storage | 1.2.840.10008.5.1.4.1.1.104.1 | yes | no |" in (
        conformance_statement(asked)
    )
    assert "| Of these by DICOMweb | 1 |" in conformance_statement(asked)
