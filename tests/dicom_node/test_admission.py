import pytest

from dicom_node.receiving.admission import AllowList, Caller, Limits, Refusal, parse_caller, rejection
from dicom_node.settings import AllowedPeer

PRINT = "ab" * 32
ROWS = (
    AllowedPeer(ae_title="PACS", address="10.0.0.1"),
    AllowedPeer(ae_title="PACS", address="10.0.0.2", certificate_sha256=PRINT),
    AllowedPeer(ae_title=" CT ", address="10.1.0.0/16"),
    AllowedPeer(ae_title="V6", address="2001:db8::/32"),
)
ALLOWED = AllowList(ROWS, "GLIOGRADE", Limits(associations=3, associations_per_peer=2))


def caller(calling: str, address: str, certificate: str | None = None, called: str = "GLIOGRADE") -> Caller:
    return Caller(calling, called, address, certificate)


@pytest.mark.parametrize(
    ("who", "refusal"),
    [
        (caller("PACS", "10.0.0.1"), None),
        (caller("PACS", "10.0.0.1", PRINT), None),
        (caller("PACS", "10.0.0.2", PRINT), None),
        (caller("PACS", "10.0.0.2", "cd" * 32), Refusal.CALLING_AE_TITLE),
        (caller("PACS", "10.0.0.2"), Refusal.CALLING_AE_TITLE),
        (caller("PACS", "10.1.0.1"), Refusal.CALLING_AE_TITLE),
        (caller("pacs", "10.0.0.1"), Refusal.CALLING_AE_TITLE),
        (caller("CT", "10.1.200.9"), None),
        (caller("CT", "::ffff:10.1.200.9"), None),
        (caller("CT", "10.2.0.1"), Refusal.CALLING_AE_TITLE),
        (caller("V6", "2001:db8::7%eth0"), None),
        (caller("PACS", "10.0.0.1", called="OTHER"), Refusal.CALLED_AE_TITLE),
        (caller("", "10.0.0.1"), Refusal.CALLING_AE_TITLE),
    ],
)
def test_a_row_binds_ae_title_address_and_certificate(who: Caller, refusal: Refusal | None) -> None:
    assert ALLOWED.refusal(who, []) is refusal


def test_limits_hold_for_one_peer_and_for_all() -> None:
    pacs, scanner, other = (caller("PACS", "10.0.0.1"), caller("CT", "10.1.0.1"), caller("CT", "10.1.0.2"))
    assert ALLOWED.refusal(pacs, [pacs]) is None
    assert ALLOWED.refusal(pacs, [pacs, pacs]) is Refusal.LOCAL_LIMIT
    assert ALLOWED.refusal(scanner, [pacs, pacs]) is None
    assert ALLOWED.refusal(scanner, [pacs, pacs, other]) is Refusal.LOCAL_LIMIT


def test_only_addresses_of_rows_are_known() -> None:
    assert ALLOWED.knows("10.1.2.3")
    assert not ALLOWED.knows("127.0.0.1")


def test_a_request_says_who_calls_whom() -> None:
    request = b"\x01\x00\x00\x00\x00\xcc\x00\x01\x00\x00" + b"GLIOGRADE".ljust(16) + b"\xff\0A  ".ljust(16)
    assert parse_caller(request, "10.0.0.1", PRINT) == Caller("�\0A", "GLIOGRADE", "10.0.0.1", PRINT)


def test_rejections_are_encoded_as_the_standard_has_them() -> None:
    assert rejection(Refusal.LOCAL_LIMIT) == bytes.fromhex("03000000000400020302")
    assert rejection(Refusal.CALLING_AE_TITLE) == bytes.fromhex("03000000000400010103")
    assert rejection(Refusal.ADDRESS) == b""
