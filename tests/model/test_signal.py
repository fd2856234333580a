import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.simulation.signal import RELAXATION_3T, Protocol, Relaxation, Tissue, nulling_ti

FLAIR = Protocol(9000, 120, nulling_ti(9000, RELAXATION_3T[Tissue.CSF].t1))
T1 = Protocol(550, 12)
T1CE = Protocol(550, 12, gadolinium=True)
T2 = Protocol(5000, 100)

relaxations = st.builds(
    Relaxation, st.floats(200, 5000), st.floats(10, 2000), st.floats(0.05, 1), st.floats(0, 1)
)


def _shown(protocol, tissue):
    return protocol.signal(RELAXATION_3T[tissue])


def test_flair_nulls_csf_and_t2_shows_it_brightest():
    assert _shown(FLAIR, Tissue.CSF) == pytest.approx(0, abs=1e-9)
    assert _shown(T2, Tissue.CSF) > 2 * _shown(T2, Tissue.GREY)


def test_each_series_orders_tissues_as_a_scanner_does():
    assert _shown(T1, Tissue.WHITE) > _shown(T1, Tissue.GREY) > _shown(T1, Tissue.CSF)
    assert _shown(T2, Tissue.GREY) > _shown(T2, Tissue.WHITE)
    assert _shown(FLAIR, Tissue.OEDEMA) > _shown(FLAIR, Tissue.GREY) > _shown(FLAIR, Tissue.WHITE)
    assert _shown(T1CE, Tissue.ENHANCING) > 1.3 * _shown(T1CE, Tissue.WHITE)
    assert _shown(T1, Tissue.ENHANCING) < _shown(T1, Tissue.WHITE)


ROUNDING = 1e-12


@given(relaxations)
def test_gadolinium_never_darkens_a_t1_image(tissue):
    assert T1CE.signal(tissue) >= T1.signal(tissue) * (1 - ROUNDING)


@given(relaxations, st.floats(5, 150), st.floats(1, 50))
def test_a_longer_echo_never_brightens(tissue, te, more):
    assert Protocol(3000, te + more).signal(tissue) <= Protocol(3000, te).signal(tissue) * (1 + ROUNDING)
