"""C-STORE command sets, against pynetdicom's own encoding and decoding."""

from io import BytesIO

from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import MRImageStorage
from pynetdicom.dimse_messages import C_ECHO_RQ, C_STORE_RQ, DIMSEMessage
from pynetdicom.dimse_primitives import C_ECHO, C_STORE
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.pdu_primitives import P_DATA

from dicom_node.receiving.store_message import StoreRequest, parse_store_request

uids = st.from_regex(r"[1-9](\.[1-9][0-9]{0,4}){1,9}", fullmatch=True)
numbers = st.integers(0, 65535)


def command_of(message: DIMSEMessage) -> bytes:
    """The command set as pynetdicom sends it."""
    first = next(iter(message.encode_msg(1, 0)))
    [[_, value]] = first.presentation_data_value_list
    return bytes(value[1:])


def store_request(instance_uid: str, message_id: int, *, dataset: bool = True) -> bytes:
    primitive = C_STORE()
    primitive.MessageID, primitive.Priority = message_id, 2
    primitive.AffectedSOPClassUID, primitive.AffectedSOPInstanceUID = MRImageStorage, instance_uid
    if dataset:
        primitive.DataSet = BytesIO(b"\0\0")
    message = C_STORE_RQ()
    message.primitive_to_message(primitive)
    return command_of(message)


@given(instance_uid=uids, message_id=numbers, context_id=st.integers(0, 127).map(lambda n: 2 * n + 1))
def test_a_request_is_read_as_pynetdicom_wrote_it(
    instance_uid: str, message_id: int, context_id: int
) -> None:
    request = parse_store_request(context_id, store_request(instance_uid, message_id))
    assert request is not None
    assert (request.context_id, request.message_id) == (context_id, message_id)
    assert (request.sop_class_uid, request.sop_instance_uid) == (MRImageStorage, instance_uid)


@given(instance_uid=uids, message_id=numbers, status=numbers)
def test_pynetdicom_reads_the_response(instance_uid: str, message_id: int, status: int) -> None:
    request = parse_store_request(3, store_request(instance_uid, message_id))
    assert request is not None
    pdu = P_DATA_TF()
    pdu.decode(request.response(status))
    received = DIMSEMessage()
    assert received.decode_msg(pdu.to_primitive())
    assert received.context_id == 3
    response = received.message_to_primitive()
    assert isinstance(response, C_STORE)
    assert (response.MessageIDBeingRespondedTo, response.Status) == (message_id, status)
    assert response.AffectedSOPInstanceUID == instance_uid
    assert isinstance(pdu.to_primitive(), P_DATA)


def test_other_messages_are_left_to_others() -> None:
    echo = C_ECHO()
    echo.MessageID = 1
    message = C_ECHO_RQ()
    message.primitive_to_message(echo)
    assert parse_store_request(1, command_of(message)) is None
    assert parse_store_request(1, store_request("1.2", 1, dataset=False)) is None


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_none(command: bytes) -> None:
    assert isinstance(parse_store_request(1, command), StoreRequest | None)


def test_a_uid_that_is_none_is_no_error() -> None:
    whole = store_request("1.2.3", 1)
    changed = whole.replace(b"1.2.3\0", b"\xff\xfe..\0\0")
    request = parse_store_request(1, changed)
    assert request is not None
    assert request.sop_instance_uid.endswith("..")
