"""What follows from a destination's answer: the C-STORE statuses of PS3.4 table B.2-1 and PS3.7 annex C."""

from dataclasses import dataclass
from typing import Final

from dicom_node.peers.scu import SendOutcome, Sent
from worker.states import DeliveryState


@dataclass(frozen=True, slots=True)
class Verdict:
    """The delivery's next state, and whether a person should hear of it now."""

    state: DeliveryState
    alert: bool = False

    @property
    def has_arrived(self) -> bool:
        """Whether the destination took the object."""
        return self.state in (DeliveryState.SENT, DeliveryState.SENT_WARNING)


ARRIVED: Final = Verdict(DeliveryState.SENT)
WARNED: Final = Verdict(DeliveryState.SENT_WARNING, alert=True)
LATER: Final = Verdict(DeliveryState.PENDING)
UNKNOWN: Final = Verdict(DeliveryState.UNKNOWN)
REFUSED: Final = Verdict(DeliveryState.FAILED, alert=True)

STATUSES: Final[tuple[tuple[range, Verdict], ...]] = (
    (range(0x0001), ARRIVED),
    (range(0x0001, 0x0002), WARNED),  # requested optional attributes are not supported
    (range(0x0107, 0x0108), WARNED),  # attribute list error
    (range(0x0110, 0x0111), LATER),  # processing failure
    (range(0x0116, 0x0117), WARNED),  # attribute value out of range
    (range(0x0117, 0x0118), REFUSED),  # invalid SOP instance
    (range(0x0122, 0x0123), REFUSED),  # SOP class not supported
    (range(0x0124, 0x0125), REFUSED),  # not authorised
    (range(0x0213, 0x0214), LATER),  # resource limitation
    (range(0xA700, 0xA800), LATER),  # out of resources
    (range(0xA900, 0xAA00), REFUSED),  # data set does not match SOP class
    (range(0xB000, 0xC000), WARNED),  # coercion, elements discarded, data set does not match
    (range(0xC000, 0xD000), REFUSED),  # cannot understand
)

_WITHOUT_STATUS: Final = {
    Sent.UNKNOWN: UNKNOWN,
    Sent.NOT_SENT: LATER,
    # Never passed over in silence: the job is held. A fallback SOP class would be tried from here.
    Sent.NOT_ACCEPTED: REFUSED,
    # an HTTP answer that gives no reason
    Sent.REFUSED: REFUSED,
}


def judge(outcome: SendOutcome) -> Verdict:
    """Look the answer up; a status that no table knows is refused once and told, never tried in a loop."""
    if outcome.status is None:
        return _WITHOUT_STATUS[outcome.outcome]
    return next((verdict for statuses, verdict in STATUSES if outcome.status in statuses), REFUSED)


def describe(outcome: SendOutcome) -> str:
    """Words for the ledger; nothing in them comes from a data set."""
    if outcome.outcome is Sent.NOT_ACCEPTED:
        return "sop_class_not_accepted: the destination takes no objects of this SOP class"
    known = outcome.status is None or any(outcome.status in statuses for statuses, _ in STATUSES)
    words = outcome.outcome if known else "unknown status"
    status = "" if outcome.status is None else f", status 0x{outcome.status:04X}"
    return words + status + ("" if outcome.http_status is None else f", HTTP {outcome.http_status}")
