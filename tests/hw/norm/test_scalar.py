"""The states of the scalar unit and the table of their cycles. test_rms_norm.py tests the values that it computes."""

from __future__ import annotations

import gc

import pytest

from lutern.hw.config import HwConfig
from lutern.hw.layouts import Eps
from lutern.hw.norm import RmsNorm
from lutern.hw.norm.quantiser import Quantiser
from lutern.hw.norm.scalar import PATH, NormScalar
from lutern.hw.norm.statistics import largest_latency
from lutern.sim.convert import convert_rtlil


@pytest.mark.parametrize("streams", [1, 2])
def test_the_table_agrees_with_the_states(streams: int) -> None:
    convert_rtlil(NormScalar(HwConfig("bench", streams=streams)))


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
@pytest.mark.parametrize("step", [step for step in PATH if step != "ADD"])
def test_a_wrong_entry_of_the_table_is_found(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The assertion finds a wrong entry for every step except ADD, whose states are made from the table."""
    monkeypatch.setitem(PATH, step, PATH[step] + 1)
    with pytest.raises(AssertionError, match="PATH says"):
        convert_rtlil(NormScalar(HwConfig("bench", streams=2)))
    gc.collect()  # free the components here, where their warnings are off


def test_figures() -> None:
    """The cycles that follow from the table equal the cycles that were counted in the bench."""
    norm = RmsNorm(HwConfig("bench"))
    largest = largest_latency(norm.config)
    assert norm.latency == largest + NormScalar.factor_latency + Quantiser.latency - Quantiser.factor_stage
    assert NormScalar.factor_latency == 7
    assert {eps: norm.scale_latency(eps) - largest for eps in Eps} == {Eps.NONE: 25, Eps.O_PROJ: 30, Eps.DOWN_PROJ: 29}
    assert (norm.first_interval, norm.next_interval) == (26, 13)
    assert NormScalar.preparation == {Eps.NONE: 0, Eps.O_PROJ: 11, Eps.DOWN_PROJ: 14}
