"""What destinations refused for good: back among what waits, or dismissed. A person says which.

The objects stay as they were made: the same bytes under the same UIDs go out again.
"""

from collections.abc import Sequence

from pydicom.uid import Comprehensive3DSRStorage, EnhancedSRStorage
from sqlalchemy import select
from sqlalchemy.orm import Session

from worker.records.database import Delivery, Result, ResultObject
from worker.states import DELIVERY_TRANSITIONS, UNSETTLED, DeliveryState


def refused_deliveries(
    session: Session, study_id: int, result_id: int | None = None, destination: str | None = None
) -> Sequence[Delivery]:
    """Lock what was refused of a study's results, or of the one result, by any destination or by the one."""
    refused = (
        select(Delivery)
        .join(ResultObject, ResultObject.id == Delivery.result_object_id)
        .join(Result, Result.id == ResultObject.result_id)
        .where(Result.study_id == study_id, Delivery.state == DeliveryState.FAILED)
        .order_by(Delivery.id)
        .with_for_update(of=Delivery)
    )
    if result_id is not None:
        refused = refused.where(Result.id == result_id)
    if destination is not None:
        refused = refused.where(Delivery.destination == destination)
    return session.scalars(refused).all()


def send_again(session: Session, refused: Sequence[Delivery]) -> None:
    """Let them wait for their destination as if it had never been asked; what it said is kept until then."""
    for delivery in refused:
        _move(delivery, DeliveryState.PENDING)
        delivery.attempts = 0
        delivery.result_object_id = _first_choice(session, delivery.result_object)


def dismiss(refused: Sequence[Delivery]) -> None:
    """Note that they need not be delivered."""
    for delivery in refused:
        _move(delivery, DeliveryState.DISMISSED)


def is_owed(session: Session, result_id: int) -> bool:
    """Whether a destination lacks something of a result that nobody has dismissed."""
    owed = (
        select(Delivery.id)
        .join(ResultObject, ResultObject.id == Delivery.result_object_id)
        .where(ResultObject.result_id == result_id, Delivery.state.in_(UNSETTLED))
    )
    return session.scalar(select(owed.exists())) is True


def _move(delivery: Delivery, state: DeliveryState) -> None:
    assert state in DELIVERY_TRANSITIONS[delivery.state], (delivery.state, state)
    delivery.state, delivery.failed_at = state, None


def _first_choice(session: Session, item: ResultObject) -> int:
    """A report that fell back to Enhanced SR is offered as it was made: its class may be taken by now."""
    if item.sop_class_uid != EnhancedSRStorage:
        return item.id
    return session.scalars(
        select(ResultObject.id).where(
            ResultObject.result_id == item.result_id, ResultObject.sop_class_uid == Comprehensive3DSRStorage
        )
    ).one()
