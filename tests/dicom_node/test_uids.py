from hypothesis import given
from hypothesis import strategies as st

from dicom_node.uids import IMPLEMENTATION_CLASS_UID, derive_uid

PARTS = st.lists(st.text(), min_size=1, max_size=5)


@given(PARTS)
def test_a_derived_uid_is_legal(parts):
    uid = derive_uid(*parts)
    assert uid.is_valid
    assert len(uid) <= 44
    assert int(uid.removeprefix("2.25.")) < 2**128


@given(PARTS, PARTS)
def test_equal_parts_and_only_they_give_equal_uids(one, other):
    assert (derive_uid(*one) == derive_uid(*other)) == (one == other)


@given(st.text(), st.text(min_size=1), st.text())
def test_the_border_between_parts_counts(left, middle, right):
    assert derive_uid(left + middle, right) != derive_uid(left, middle + right)


def test_our_implementation_keeps_its_uid():
    assert IMPLEMENTATION_CLASS_UID == "2.25.323740486180957254293139442352822622699"
