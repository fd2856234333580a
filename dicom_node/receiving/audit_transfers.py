"""What the Storage SCP received, as audit events: one for each association and study (PS3.15 A.5.3.7)."""

import threading
from collections import Counter, defaultdict
from typing import Final

from pynetdicom import evt
from pynetdicom.association import Association
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

    def stored(self, association: Association, study_instance_uid: str, sop_class_uid: str) -> None:
        """Count one object that was answered with Success."""
        with self._lock:
            studies = self._open[association]
            studies.setdefault(study_instance_uid, Counter())[sop_class_uid] += 1
            full = self._open.pop(association) if len(studies) > _MOST_STUDIES else {}
        self._write(association, full, AuditOutcome.SUCCESS)

    def handlers(self) -> list[EventHandlerType]:
        """What to bind so that the end of an association is seen, however it ends."""
        return [(evt.EVT_RELEASED, self._released), (evt.EVT_CONN_CLOSE, self._cut)]

    def _released(self, event: evt.Event) -> None:
        self._end(event.assoc, AuditOutcome.SUCCESS)

    def _cut(self, event: evt.Event) -> None:
        self._end(event.assoc, AuditOutcome.MINOR_FAILURE)

    def _end(self, association: Association, outcome: AuditOutcome) -> None:
        with self._lock:
            studies = self._open.pop(association, {})
        self._write(association, studies, outcome)

    def _write(
        self, association: Association, studies: dict[str, Counter[str]], outcome: AuditOutcome
    ) -> None:
        for study_instance_uid, instances in studies.items():
            self._audit.write(
                AuditEvent(
                    event_id=AuditEventId.INSTANCES_TRANSFERRED,
                    outcome=outcome,
                    detail="received" if outcome is AuditOutcome.SUCCESS else "received, then cut",
                    source=association.requestor.ae_title.strip(),
                    target=self._ae_title,
                    address=association.requestor.address,
                    study_instance_uid=study_instance_uid,
                    instances=dict(instances),
                )
            )
