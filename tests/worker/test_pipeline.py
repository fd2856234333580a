from hypothesis import given
from hypothesis import strategies as st

from dicom_node.results.result_kind import DEFAULT_KINDS, ResultKind
from model.grade import Contrast
from worker.study.pipeline import InputInstance, result_identity

INPUTS = st.lists(
    st.builds(
        InputInstance,
        st.sampled_from(list(Contrast)),
        st.from_regex(r"[0-9]+(\.[0-9]+){1,5}", fullmatch=True),
        st.text("0123456789abcdef", min_size=64, max_size=64),
    ),
    min_size=1,
    unique_by=lambda item: item.sop_instance_uid,
)


def identity(inputs, study="1.2.3", checkpoint="aa", images=24, kinds=DEFAULT_KINDS):
    return result_identity(study, inputs, checkpoint, images, kinds)


@given(INPUTS, st.randoms())
def test_the_same_input_in_any_order_is_the_same_result(inputs, random):
    shuffled = list(inputs)
    random.shuffle(shuffled)
    assert identity(inputs) == identity(shuffled)


@given(INPUTS)
def test_whatever_the_network_saw_is_in_the_identity(inputs):
    one, *rest = inputs
    others = [
        identity(rest),
        identity(inputs, study="1.2.4"),
        identity(inputs, checkpoint="bb"),
        identity(inputs, images=12),
        identity(inputs, kinds=(*DEFAULT_KINDS, ResultKind.PDF)),
        identity([InputInstance(one.contrast, one.sop_instance_uid, "0" * 64 + one.sha256), *rest]),
        identity(
            [
                InputInstance(
                    next(c for c in Contrast if c is not one.contrast), one.sop_instance_uid, one.sha256
                ),
                *rest,
            ]
        ),
    ]
    assert identity(inputs) not in others
