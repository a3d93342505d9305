"""Computes the joules per token of each released model with each kind of memory (`lutern power table`).

    PUBLISHED, kind of memory, streams ─► machine ─► bytes, tokens/s ─► dram.joules ─┬─► Row
    idle watts of a chip or board ─► x seconds per token ────────────────────────────┘

The joules are the sum of three energies: of the bytes that are read, of the memory in standby, and of the idle chip or
board. The machine's logic, clocks and block RAM are not included, because the large machines were neither routed nor
measured. Tokens/s with SDR and DDR3 assume that only refreshes make the machine wait for memory, and that the lanes
keep up. Tokens/s with DDR4 and HBM2 are from the cycle model, with an assumed fraction of the peak.
"""

from __future__ import annotations

from dataclasses import dataclass

from lutern.firmware.limits import sizes_of
from lutern.hw.config import HwConfig
from lutern.hw.presets import preset
from lutern.measure import axi_rates
from lutern.measure.calibration import Coefficient
from lutern.measure.dram import DRAMS, Dram, Joules, joules
from lutern.measure.energy import TYPICAL_STATIC_WATTS
from lutern.measure.word_rate import mean_word_hz
from lutern.model_ref.synthetic import PUBLISHED

SHARE = 0.9
"""Assumed fraction of the peak rate of a DDR4 or HBM2 that a machine reads."""
AXI_HZ = 300e6
STREAMS = axi_rates.STREAMS


@dataclass(frozen=True)
class Idle:
    """Watts of a chip or board that does nothing."""

    title: str
    watts: Coefficient
    source: str


_ECP5 = TYPICAL_STATIC_WATTS["85F"]
ECP5 = Idle(
    "LFE5U-85F",
    Coefficient(_ECP5, _ECP5, 2 * _ECP5),
    "the chip alone, ECP5 and ECP5-5G Family Data Sheet, typical supply currents at 25 degrees; twice that when warm",
)
KV260 = Idle(
    "KV260",
    Coefficient(3.81, 3.81, 3.81),
    "the whole board with processors and DDR4, measured by MerlijnW70 (bitnet-kv260, docs/measurements.md)",
)
U50 = Idle(
    "Alveo U50",
    Coefficient(11.0, 5.3, 17.4),
    "sensors of one card with HBM2, in a log of pull request 5184 of Xilinx/XRT (low: the rails Internal FPGA Vcc "
    "and Vcc IO; high: 12 V and 3.3 V from the PCIe slot together)",
)
MACHINES = {
    "sdram": ("sdram-x32", ECP5),
    "ddr3": ("ddr3-x16", ECP5),
    "ddr4": ("axi-x512", KV260),
    "hbm2": ("hbm-x4096", U50),
}


@dataclass(frozen=True)
class Row:
    """The joules per token if a pass computes ``streams`` tokens from one kind of memory. ``token`` is the joules of
    the memory, and ``idle`` the joules that the idle chip or board takes in the time of the token."""

    model: str
    streams: int
    memory: Dram
    token: Joules
    chip: Idle
    idle: Coefficient

    @property
    def together(self) -> Coefficient:
        """Joules of transport, standby and idle chip together."""
        parts = (self.token.transport, self.token.standby, self.idle)
        return Coefficient(*(sum(getattr(part, name) for part in parts) for name in ("value", "low", "high")))


def _machine(kind: str, model: str, streams: int) -> tuple[HwConfig, float]:
    """Return a machine as wide as the model, and its tokens/s of all streams together."""
    name = MACHINES[kind][0]
    if preset(name).memory == "axi":
        row = axi_rates.find(name, model, streams)
        return row.config.with_(clock_hz=int(AXI_HZ)), row.rate(AXI_HZ, SHARE)
    model_config = PUBLISHED[model]
    config = preset(name).with_(
        max_width=max(model_config.hidden_size, model_config.intermediate_size), streams=streams, state="memory"
    )
    return config, streams * mean_word_hz(config) / sizes_of(model_config, config).pass_words(streams)


def rows() -> list[Row]:
    """Return a row for every model, kind of memory and number of streams."""
    found = []
    for model in PUBLISHED:
        for streams in STREAMS:
            for kind, memory in DRAMS.items():
                config, rate = _machine(kind, model, streams)
                chip = MACHINES[kind][1]
                idle = Coefficient(*(getattr(chip.watts, name) / rate for name in ("value", "low", "high")))
                token = joules(PUBLISHED[model], config, memory, rate, streams)
                found.append(Row(model, streams, memory, token, chip, idle))
    return found


__all__ = ["AXI_HZ", "ECP5", "KV260", "MACHINES", "SHARE", "STREAMS", "U50", "Idle", "Row", "rows"]
