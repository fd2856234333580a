"""What the Storage SCP received, as audit events: one for each association and study (PS3.15 A.5.3.7)."""

import threading
from collections import Counter, defaultdict
from typing import Final

from pynetdicom import evt
from pynetdicom.events import EventHandlerType

from dicom_node.audit import AuditEvent, AuditEventId, AuditOutcome, AuditSpool

_MOST_STUDIES: Final = 256
"""Studies counted for one association before their events are written early: memory stays bounded."""


class ReceivedTransfers:
    """Counts stored objects while associations are open and writes them down when they end."""

    def __init__(self, audit: AuditSpool, ae_title: str) -> None:
        self._audit = audit
        self._ae_title = ae_title
        self._lock = threading.Lock()
        self._open: defaultdict[object, dict[str, Counter[str]]] = defaultdict(dict)

    def stored(self, event: evt.Event, study_instance_uid: str, sop_class_uid: str) -> None:
        """Count one object that was answered with Success."""
        with self._lock:
            studies = self._open[event.assoc]
            studies.setdefault(study_instance_uid, Counter())[sop_class_uid] += 1
            full = self._open.pop(event.assoc) if len(studies) > _MOST_STUDIES else {}
        self._write(event, full, AuditOutcome.SUCCESS)

    def handlers(self) -> list[EventHandlerType]:
        """What to bind so that the end of an association is seen, however it ends."""
        return [(evt.EVT_RELEASED, self._released), (evt.EVT_CONN_CLOSE, self._cut)]

    def _released(self, event: evt.Event) -> None:
        self._end(event, AuditOutcome.SUCCESS)

    def _cut(self, event: evt.Event) -> None:
        self._end(event, AuditOutcome.MINOR_FAILURE)

    def _end(self, event: evt.Event, outcome: AuditOutcome) -> None:
        with self._lock:
            studies = self._open.pop(event.assoc, {})
        self._write(event, studies, outcome)

    def _write(self, event: evt.Event, studies: dict[str, Counter[str]], outcome: AuditOutcome) -> None:
        for study_instance_uid, instances in studies.items():
            self._audit.write(
                AuditEvent(
                    event_id=AuditEventId.INSTANCES_TRANSFERRED,
                    outcome=outcome,
                    detail="received" if outcome is AuditOutcome.SUCCESS else "received, then cut",
                    source=event.assoc.requestor.ae_title.strip(),
                    target=self._ae_title,
                    address=event.assoc.requestor.address,
                    study_instance_uid=study_instance_uid,
                    instances=dict(instances),
                )
            )
