"""Joules of memories outside the chip: values computed by hand, values of each kind, and refused input."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lutern.hw.presets import preset
from lutern.measure.calibration import Coefficient, load
from lutern.measure.dram import DRAMS, dram_of, joules
from lutern.measure.energy import with_memory, without_nets
from lutern.measure.estimate import Estimate
from lutern.measure.resources import resources
from lutern.model_ref.errors import LuternError
from lutern.model_ref.synthetic import PUBLISHED


def test_every_kind_is_an_interval_and_has_its_own_event() -> None:
    assert len({dram.event for dram in DRAMS.values()}) == len(DRAMS)
    for dram in DRAMS.values():
        for item in (dram.core, dram.interface, dram.standby):
            assert 0 <= item.low <= item.value <= item.high, dram.name
        assert dram.byte.high == pytest.approx(8 * (dram.core.high + dram.interface.high))
    below = [DRAMS[name].byte.value for name in ("sdram", "ddr3", "ddr4", "hbm2")]
    assert below == sorted(below, reverse=True)


@pytest.mark.parametrize(
    ("machine", "kind", "parts"),
    [
        ("sdram-x16", "sdram", 1),
        ("sdram-x32", "sdram", 2),
        ("ddr3-x16", "ddr3", 1),
        ("axi-x128", "ddr4", 1),
        ("axi-x256", "ddr4", 2),
        ("axi-x512", "ddr4", 4),
        ("hbm-x4096", "hbm2", 1),
        ("stream-x64", "ddr3", 1),
    ],
)
def test_parts_of_a_machine(machine: str, kind: str, parts: int) -> None:
    """A DDR4-2400 x16 part delivers 4.8 GB/s, which are 128 bits at 300 MHz."""
    assert DRAMS[kind].parts(preset(machine)) == parts


def test_a_token_of_13b_from_ddr4() -> None:
    """The values are computed by hand: 261 MB at 8.1 to 25.2 pJ per bit, and four parts of 38 to 76 mW for a 73rd of a
    second."""
    found = joules(PUBLISHED["1.3b"], preset("axi-x512"), DRAMS["ddr4"], 73.5)
    assert found.byte_count == pytest.approx(261.3e6, rel=1e-3)
    assert (found.transport.low, found.transport.high) == pytest.approx((16.9e-3, 52.7e-3), rel=0.01)
    assert (found.standby.low, found.standby.high) == pytest.approx((4 * 0.038 / 73.5, 4 * 0.076 / 73.5))


def test_which_memory_a_machine_has() -> None:
    for name, kind in (("sdram-x16", "sdram"), ("ddr3-x16", "ddr3")):
        assert dram_of(preset(name)) is dram_of(preset(name), kind) is DRAMS[kind]
    for name in ("sim-64", "stream-x16", "host", "resident-25f"):
        assert dram_of(preset(name)) is None
    assert dram_of(preset("axi-x512"), "hbm2") is DRAMS["hbm2"]
    for name in ("axi-x512", "stream-x64"):
        with pytest.raises(
            LuternError, match=rf"^the memory at the ports of {name} is the user's, .*; give --dram, one"
        ):
            dram_of(preset(name))
    with pytest.raises(
        LuternError, match=r"^there is no kind of memory ddr9; choose one of sdram, ddr3, ddr4, hbm2\.$"
    ):
        dram_of(preset("axi-x512"), "ddr9")
    for name, has in (("sdram-x16", "SDR SDRAM"), ("sim-64", "no DRAM")):
        with pytest.raises(LuternError, match=rf"^--dram ddr4 is .*, but {name} has {has}; leave --dram out\.$"):
            dram_of(preset(name), "ddr4")


def test_a_calibration_has_priority() -> None:
    """A coefficient of the calibration has priority over the table's coefficient, and the source says which one was
    used."""
    shipped, ddr4 = load(), DRAMS["ddr4"]
    assert with_memory(shipped, ddr4).coefficients["ddr4_byte"] == ddr4.byte
    assert with_memory(shipped, ddr4).source == f"{shipped.source}; DDR4-2400: {ddr4.source}"
    measured = Coefficient(1e-10, 1e-10, 1e-10)
    mine = replace(shipped, coefficients={**shipped.coefficients, "ddr4_byte": measured})
    assert with_memory(mine, ddr4) is mine


def test_standby_is_separate_from_dynamic_joules() -> None:
    """If the same token takes longer, the dynamic joules of its bytes stay the same, and the joules of standby grow."""
    config = preset("ddr3-x16")
    machine = Estimate(1, 1_000_000, 1, 1, 10.0, 10.0, 10.0, resources(config))
    fast, slow = (
        without_nets("LFE5U-85F", load(), config, replace(machine, tokens_per_second=rate)) for rate in (10.0, 1.0)
    )
    [of_fast], [of_slow] = ([term for term in one.terms if term.name == "ddr3_byte"] for one in (fast, slow))
    assert of_fast == of_slow and fast.standby == slow.standby == DRAMS["ddr3"].standby
    for found, rate in ((fast, 10.0), (slow, 1.0)):
        still = found.static.value + found.standby.value
        assert found.joules.value == pytest.approx(found.dynamic.value + still / rate)
