"""Audit events as messages of PS3.15 A.5.1 (XML) in the syslog format of RFC 5424."""

import os
import socket
from typing import Final
from xml.etree.ElementTree import Element, SubElement, tostring

from dicom_node.audit import AuditEvent, AuditEventId

PRIORITY: Final = 10 * 8 + 5
"""Facility security (10), severity notice (5), as PS3.15 A.6 asks for."""

_ACTIONS: Final = {
    AuditEventId.APPLICATION_ACTIVITY: "E",
    AuditEventId.BEGIN_TRANSFERRING: "E",
    AuditEventId.INSTANCES_ACCESSED: "R",
    AuditEventId.INSTANCES_TRANSFERRED: "C",
    AuditEventId.PROCEDURE_RECORD: "U",
    AuditEventId.SECURITY_ALERT: "E",
    AuditEventId.USER_AUTHENTICATION: "E",
}
_TYPE_CODES: Final = {
    AuditEventId.APPLICATION_ACTIVITY: {
        "started": ("110120", "Application Start"),
        "stopped": ("110121", "Application Stop"),
    },
    AuditEventId.USER_AUTHENTICATION: {"login": ("110122", "Login"), "logout": ("110123", "Logout")},
}
_NODE_ALERT: Final = ("110126", "Node Authentication")


def build_message(event: AuditEvent, audit_source: str) -> bytes:
    """Build the AuditMessage document of one event; `audit_source` names our installation."""
    root = Element("AuditMessage")
    identification = SubElement(
        root,
        "EventIdentification",
        EventActionCode=_ACTIONS[event.event_id],
        EventDateTime=event.occurred_at.isoformat(),
        EventOutcomeIndicator=str(int(event.outcome)),
    )
    _code(identification, "EventID", event.event_id, event.event_id.meaning)
    if type_code := _TYPE_CODES.get(event.event_id, {}).get(event.detail):
        _code(identification, "EventTypeCode", *type_code)
    elif event.event_id is AuditEventId.SECURITY_ALERT:
        _code(identification, "EventTypeCode", *_NODE_ALERT)
    if event.detail:
        repeated = f", {event.repeated} more before" if event.repeated else ""
        SubElement(identification, "EventOutcomeDescription").text = _clean(event.detail + repeated)
    _participants(root, event)
    SubElement(root, "AuditSourceIdentification", AuditSourceID=_clean(audit_source))
    _objects(root, event)
    document: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return document


def syslog_frame(event: AuditEvent, audit_source: str) -> bytes:
    """One RFC 5424 message without transport framing; MSGID as PS3.15 A.6 gives it."""
    header = (
        f"<{PRIORITY}>1 {event.occurred_at.isoformat(timespec='milliseconds')} "
        f"{socket.gethostname()[:255]} gliograde {os.getpid()} DICOM+RFC3881 - "
    )
    return header.encode("ascii", "replace") + b"\xef\xbb\xbf" + build_message(event, audit_source)


def _participants(root: Element, event: AuditEvent) -> None:
    application = event.event_id is AuditEventId.APPLICATION_ACTIVITY
    source_role = ("110150", "Application") if application else ("110153", "Source Role ID")
    for ae_title, role, is_requestor in (
        (event.source, source_role, "true"),
        (event.target, ("110152", "Destination Role ID"), "false"),
    ):
        if not ae_title and is_requestor == "false":
            continue
        attributes = {"UserID": _clean(ae_title) or "unknown", "UserIsRequestor": is_requestor}
        if event.address and is_requestor == "true":
            attributes |= {"NetworkAccessPointID": event.address, "NetworkAccessPointTypeCode": "2"}
        participant = SubElement(root, "ActiveParticipant", attributes)
        _code(participant, "RoleIDCode", *role)


def _objects(root: Element, event: AuditEvent) -> None:
    if event.study_instance_uid:
        study = SubElement(
            root,
            "ParticipantObjectIdentification",
            ParticipantObjectID=event.study_instance_uid,
            ParticipantObjectTypeCode="2",
            ParticipantObjectTypeCodeRole="3",
        )
        _code(study, "ParticipantObjectIDTypeCode", "110180", "Study Instance UID")
        description = SubElement(study, "ParticipantObjectDescription")
        for sop_class_uid, count in sorted(event.instances.items()):
            SubElement(description, "SOPClass", UID=sop_class_uid, NumberOfInstances=str(count))
    if event.patient_id:
        patient = SubElement(
            root,
            "ParticipantObjectIdentification",
            ParticipantObjectID=_clean(event.patient_id),
            ParticipantObjectTypeCode="1",
            ParticipantObjectTypeCodeRole="1",
        )
        _code(patient, "ParticipantObjectIDTypeCode", "2", "Patient Number", "RFC-3881")


def _code(parent: Element, name: str, code: str, meaning: str, scheme: str = "DCM") -> None:
    attributes = {"csd-code": str(code), "codeSystemName": scheme, "originalText": meaning}
    SubElement(parent, name, attributes)


def _clean(text: str) -> str:
    """Text from the network without what XML 1.0 can't hold."""
    return "".join(character if character.isprintable() else "?" for character in text)
