"""The conformance statement's tables, as the running configuration makes them (PS3.2)."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

from pydicom.sr.coding import Code
from pydicom.uid import (
    UID,
    Comprehensive3DSRStorage,
    EncapsulatedPDFStorage,
    EnhancedSRStorage,
    ExplicitVRLittleEndian,
    KeyObjectSelectionDocumentStorage,
    ParametricMapStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at import time
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)

from dicom_node.association import (
    MAXIMUM_PDU_BYTES,
    MESSAGE_TRANSFER_SYNTAXES,
    MR_STORAGE_CLASSES,
    RECEIVED_TRANSFER_SYNTAXES,
)
from dicom_node.peers.scu import CONNECTION_TIMEOUT, RESPONSE_TIMEOUT, Destination
from dicom_node.peers.stow import (
    BUSY_STATUSES,
    REFUSED_OBJECT_STATUSES,
    WRONG_SETTING_STATUSES,
    WebDestination,
)
from dicom_node.results import codes
from dicom_node.results.attention_grid import MAP_SERIES_NUMBER, REGION_SERIES_NUMBER
from dicom_node.results.capture import SERIES_NUMBER as IMAGE_SERIES_NUMBER
from dicom_node.results.key_objects import SERIES_NUMBER as KEY_OBJECTS_SERIES_NUMBER
from dicom_node.results.printed_summary import SERIES_NUMBER as PDF_SERIES_NUMBER
from dicom_node.results.result_kind import ResultKind
from dicom_node.results.structured_report import SERIES_NUMBER as REPORT_SERIES_NUMBER
from dicom_node.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from model.grade import Grade
from worker.delivery.verdicts import STATUSES
from worker.settings import Settings

SENT_CLASSES: Final[tuple[UID, ...]] = (
    SecondaryCaptureImageStorage,
    Comprehensive3DSRStorage,
    EnhancedSRStorage,
)
"""Storage SOP classes of what goes back; the last only to a peer that does not accept the second."""

OPTIONAL_CLASSES: Final[Mapping[ResultKind, UID]] = MappingProxyType(
    {
        ResultKind.ATTENTION_MAP: ParametricMapStorage,
        ResultKind.REGION: SegmentationStorage,
        ResultKind.PDF: EncapsulatedPDFStorage,
        ResultKind.KEY_OBJECTS: KeyObjectSelectionDocumentStorage,
    }
)
"""Storage SOP classes of what goes back where a destination asks for it."""

_ASKED_CLASSES: Final[tuple[UID, ...]] = (
    Verification,
    StudyRootQueryRetrieveInformationModelFind,
    StorageCommitmentPushModel,
)

_TEXT: Final = Path(__file__).with_name("conformance.md")


def conformance_statement(settings: Settings) -> str:
    """Write the statement: the fixed text of `conformance.md`, each `{name}` in it replaced by its table."""
    text = _TEXT.read_text()
    for name, table in _tables(settings).items():
        text = text.replace(f"{{{name}}}", table)
    return text


def _tables(settings: Settings) -> dict[str, str]:
    return {
        "network_services": _network_services(settings),
        "identification": _identification(settings),
        "scp_contexts": _contexts(
            [
                *((uid, RECEIVED_TRANSFER_SYNTAXES, "SCP", "none") for uid in MR_STORAGE_CLASSES),
                (Verification, MESSAGE_TRANSFER_SYNTAXES, "SCP", "none"),
                (StorageCommitmentPushModel, MESSAGE_TRANSFER_SYNTAXES, "SCU", "role selection"),
            ]
        ),
        "scu_contexts": _contexts(
            [
                *(
                    (uid, [ExplicitVRLittleEndian], "SCU", "none")
                    for uid in (*SENT_CLASSES, *OPTIONAL_CLASSES.values())
                ),
                *((uid, MESSAGE_TRANSFER_SYNTAXES, "SCU", "none") for uid in _ASKED_CLASSES),
            ]
        ),
        "web_answers": _web_answers(),
        "store_statuses": _statuses(),
        "settings": _settings(settings),
        "series": _table(
            ["Series", "Series number", "SOP class"],
            [
                ["Report", REPORT_SERIES_NUMBER, Comprehensive3DSRStorage.name],
                ["Images", IMAGE_SERIES_NUMBER, SecondaryCaptureImageStorage.name],
                ["`attention_map`", MAP_SERIES_NUMBER, ParametricMapStorage.name],
                ["`region`", REGION_SERIES_NUMBER, SegmentationStorage.name],
                ["`pdf`", PDF_SERIES_NUMBER, EncapsulatedPDFStorage.name],
                ["`key_objects`", KEY_OBJECTS_SERIES_NUMBER, KeyObjectSelectionDocumentStorage.name],
            ],
        ),
        "private_codes": _codes(
            [
                codes.PREDICTED_GRADE,
                *codes.VERDICTS.values(),
                codes.NOT_GRADED,
                codes.HGG_PROBABILITY,
                codes.ATTENTION_VOLUME,
            ]
        ),
        "standard_codes": _codes(
            [
                codes.REPORT_TITLE,
                codes.PROCEDURE_REPORTED,
                codes.COMMENT,
                codes.QUALITATIVE_EVALUATIONS,
                codes.FINDING_CATEGORY,
                codes.FINDING,
                codes.FINDING_SITE,
                codes.ALGORITHM_FAMILY,
                codes.PERCENT,
                codes.MILLILITRE,
                *(codes.GRADES[grade] for grade in Grade),
                codes.SOURCE_OF_MEASUREMENT,
                codes.VISUAL_EXPLANATION,
                codes.SOURCE_IMAGE,
                codes.SALIENCY,
                codes.NO_UNITS,
                codes.SPATIAL_CONCEPT,
                codes.KEY_OBJECTS_TITLE,
            ]
        ),
    }


def _network_services(settings: Settings) -> str:
    dicom = [one for one in settings.destinations if isinstance(one, Destination)]
    commitment = any(destination.storage_commitment for destination in dicom)
    query = any(destination.verify_by_query for destination in dicom) or settings.sources
    wanted = settings.result_kinds
    rows = [
        *([uid.name, uid, "no", "yes"] for uid in MR_STORAGE_CLASSES),
        *([uid.name, uid, "yes", "no"] for uid in SENT_CLASSES),
        *([uid.name, uid, _on(kind in wanted), "no"] for kind, uid in OPTIONAL_CLASSES.items()),
        [Verification.name, Verification, "yes", "yes"],
        [
            StudyRootQueryRetrieveInformationModelFind.name,
            StudyRootQueryRetrieveInformationModelFind,
            _on(bool(query)),
            "no",
        ],
        [StorageCommitmentPushModel.name, StorageCommitmentPushModel, _on(commitment), "no"],
    ]
    return _table(["SOP class", "UID", "User (SCU)", "Provider (SCP)"], rows)


def _web_answers() -> str:
    rows = [
        [_statuses_of(BUSY_STATUSES), "the service is waited for, with a wait that doubles", "no"],
        [_statuses_of(WRONG_SETTING_STATUSES), "the service is left alone for `send_refused_delay`", "yes"],
        [_statuses_of(REFUSED_OBJECT_STATUSES), "the object is `failed`", "yes"],
        ["415", "the object's SOP class is not accepted, as with 0x0122", "yes"],
        ["200, 202, 409", "the answer's data set says it of the object", "as its reason says"],
        ["any other", "the object is `unknown` and is asked for by QIDO-RS before it is sent again", "no"],
    ]
    return _table(["HTTP status", "Then", "A person is told"], rows)


def _statuses_of(statuses: Collection[int]) -> str:
    words = [str(status) for status in sorted(statuses) if not 300 <= status < 400]
    return ", ".join(["3xx", *words] if 300 in statuses else words)


def _on(active: bool) -> str:
    return "yes" if active else "by setting, off now"


def _identification(settings: Settings) -> str:
    return _table(
        ["Item", "Value"],
        [
            ["AE title", settings.ae_title],
            ["AE title, sending", "`calling_ae_title` of the destination"],
            ["Implementation class UID", IMPLEMENTATION_CLASS_UID],
            ["Implementation version name", IMPLEMENTATION_VERSION_NAME],
            ["Maximum PDU size received", f"{MAXIMUM_PDU_BYTES} bytes"],
            ["Application context name", "1.2.840.10008.3.1.1.1"],
        ],
    )


def _contexts(offered: Iterable[tuple[UID, Sequence[UID], str, str]]) -> str:
    rows = [
        [sop_class.name, sop_class, syntax.name, syntax, role, negotiated]
        for sop_class, syntaxes, role, negotiated in offered
        for syntax in syntaxes
    ]
    return _table(["Abstract syntax", "UID", "Transfer syntax", "UID", "Role", "Extended negotiation"], rows)


def _statuses() -> str:
    rows = []
    for statuses, verdict in STATUSES:
        first, last = statuses.start, statuses.stop - 1
        code = f"0x{first:04X}" if first == last else f"0x{first:04X}-0x{last:04X}"
        rows.append([code, verdict.state.value, "yes" if verdict.alert else "no"])
    return _table(["Status", "Then the object is", "A person is told"], rows)


def _settings(settings: Settings) -> str:
    return _table(
        ["Parameter", "Value"],
        [
            ["Address and port", f"{settings.bind_address}:{settings.dicom_port}"],
            ["TLS for incoming associations", "on" if settings.tls_certificate else "off"],
            ["Peers that may send", len(settings.peers)],
            ["Associations at a time", settings.maximum_associations],
            ["Associations at a time, one peer", settings.maximum_associations_per_peer],
            ["Idle association kept", f"{settings.network_timeout.total_seconds():g} s"],
            ["Largest object received", f"{settings.maximum_object_bytes} bytes"],
            ["Destinations", len(settings.destinations)],
            ["Of these by DICOMweb", sum(isinstance(one, WebDestination) for one in settings.destinations)],
            ["Destinations with TLS", sum(one.uses_tls for one in settings.destinations)],
            ["Connection and association timeout, sending", f"{CONNECTION_TIMEOUT.total_seconds():g} s"],
            ["Response timeout, sending (default)", f"{RESPONSE_TIMEOUT.total_seconds():g} s"],
            ["Attention images of one study at most", settings.maximum_images],
            ["A study that is not graded is answered", "on" if settings.report_not_graded else "off"],
        ],
    )


def _codes(listed: Iterable[Code]) -> str:
    return _table(
        ["Value", "Scheme", "Meaning"],
        [[code.value, code.scheme_designator, code.meaning] for code in listed],
    )


def _table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)
