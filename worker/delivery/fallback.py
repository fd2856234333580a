"""A report for a destination that takes no Comprehensive 3D SR: the same tree as Enhanced SR.

The delivery is pointed at the other object, which is kept beside the first; its bytes follow from the
first's, so that every destination that needs it gets the same.
"""

from io import BytesIO

from pydicom import dcmread
from pydicom.uid import Comprehensive3DSRStorage
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from dicom_node.results.structured_report import as_enhanced
from worker.delivery.consignments import Parcel
from worker.delivery.outcomes import Line
from worker.records.database import Delivery, ResultObject
from worker.states import DELIVERY_TRANSITIONS, DeliveryState
from worker.study.pipeline import serialise
from worker.study.reporting import object_path, write_objects

DETAIL = "Comprehensive 3D SR is not accepted: goes as Enhanced SR"


def has_fallback(parcel: Parcel) -> bool:
    """Whether a destination that doesn't accept the parcel's SOP class may accept another."""
    return parcel.sop_class_uid == Comprehensive3DSRStorage


def fall_back(line: Line, parcel: Parcel) -> None:
    """Let the delivery bring the parcel's Enhanced SR instead; it is due at once."""
    results_folder = line.node.settings.results_folder
    document = dcmread(BytesIO(object_path(results_folder, parcel.sha256).read_bytes()))
    enhanced = serialise(as_enhanced(document))
    write_objects(results_folder, [enhanced])
    with line.node.sessions.begin() as session:
        line.hold(session)
        delivery = session.get_one(Delivery, parcel.delivery_id)
        first = session.get_one(ResultObject, delivery.result_object_id)
        session.execute(
            insert(ResultObject).on_conflict_do_nothing(),
            {
                "result_id": first.result_id,
                "position": _next_position(session, first.result_id),
                "sop_class_uid": enhanced.sop_class_uid,
                "sop_instance_uid": enhanced.sop_instance_uid,
                "series_instance_uid": enhanced.series_instance_uid,
                "sha256": enhanced.sha256,
                "size_bytes": len(enhanced.content),
            },
        )
        delivery.result_object_id = session.scalars(
            select(ResultObject.id).where(ResultObject.sop_instance_uid == enhanced.sop_instance_uid)
        ).one()
        assert DeliveryState.PENDING in DELIVERY_TRANSITIONS[delivery.state], delivery.state
        delivery.state, delivery.detail, delivery.not_before = DeliveryState.PENDING, DETAIL, None


def _next_position(session: Session, result_id: int) -> int:
    last = session.scalars(
        select(func.max(ResultObject.position)).where(ResultObject.result_id == result_id)
    ).one()
    return int(last) + 1
