# amaranth: UnusedElaboratable=no
# A component is made only to ask for its ports.
"""The cost of a lane on ECP5, from routed designs, for two kinds of lanes: folded lanes, which add in the LUT4 that
form the product (`hw/lane.py`), and products followed by an adder tree.

    LUT4 per lane = (TRELLIS_COMB of the routed unit in a wrapper - the wrapper's XORs - the unit's decoder) / lanes

The figure includes the accumulators, the drain and the control of the unit. The decoder of trits is equal for both
kinds of lanes and for any number of streams, and is counted separately. The decoder's cost is the difference from a
unit that uses the bits of a beat as trits.

Accumulator and drain cost 43 LUT4 per row of any length, so a lane of a longer row costs less. All shapes have at most
32 columns, so that their figures can be compared.
"""

from __future__ import annotations

from dataclasses import dataclass

from lutern.hw.config import HwConfig
from lutern.hw.pipeline import Stages
from lutern.hw.ternary import TernaryUnit, Trit
from lutern.measure.cost import count, place
from lutern.measure.wrapper import Wrapper

SHAPES = {16: (2, 8, 1), 32: (2, 16, 1), 64: (4, 16, 1), 128: (4, 32, 1), 256: (8, 32, 2), 512: (16, 32, 4)}
"""Rows, columns and results per cycle, by the number of lanes."""
TREE_LANES = 256
"""Largest number of lanes for which lanes with an adder tree are measured, as a comparison."""
STREAM_LANES = 256
"""Largest number of lanes for which a second stream is measured."""


@dataclass(frozen=True)
class LaneCost:
    """Cost of a ternary unit; figures are for one lane with all its streams."""

    lanes: int
    cells: str
    streams: int
    lut4: float
    ff: float
    decoder_lut4: float
    fmax_hz: float
    seed: int


class _Undecoded(TernaryUnit):
    """A ternary unit without decoder: it uses the bits of a beat as trits."""

    def _trits(self, stages: Stages) -> list[Trit]:
        beat = self.i_weights.payload
        bits = [stages.register(bit) for bit in beat]
        return [(bits[lane], bits[(lane + 1) % len(beat)]) for lane in range(self.config.lanes)]


def lane_config(lanes: int, cells: str, streams: int = 1) -> HwConfig:
    """Return a machine with this number of lanes."""
    rows, columns, results = SHAPES[lanes]
    return HwConfig(
        f"{lanes} lanes",
        rows=rows,
        columns=columns,
        results_per_cycle=results,
        codes_per_cycle=columns,
        streams=streams,
        cells=cells,
        debug_tap=False,
    )


def measure_lanes(lanes: int, cells: str, streams: int = 1, seed: int = 1) -> LaneCost:
    """Route one unit and measure it."""
    config = lane_config(lanes, cells, streams)
    wrapper = Wrapper(TernaryUnit(config))
    decoder = count(config.name, TernaryUnit(config)).comb - count(config.name, _Undecoded(config)).comb
    placed = place(config.name, TernaryUnit(config), seed)
    return LaneCost(
        lanes,
        cells,
        streams,
        lut4=(placed.comb - wrapper.lut4 - decoder) / lanes,
        ff=(placed.ff - wrapper.ff) / lanes,
        decoder_lut4=decoder / lanes,
        fmax_hz=placed.fmax_hz,
        seed=seed,
    )


@dataclass(frozen=True)
class LaneRow:
    """A row of the table; None means that these lanes are not measured."""

    folded: LaneCost
    tree: LaneCost | None
    two_streams: LaneCost | None

    @property
    def stream_lut4(self) -> float | None:
        """LUT4 that one more stream adds to a lane."""
        return self.two_streams.lut4 - self.folded.lut4 if self.two_streams else None


def measure_row(lanes: int, seed: int = 1) -> LaneRow:
    """Measure one row of the table."""
    return LaneRow(
        measure_lanes(lanes, "ecp5", seed=seed),
        measure_lanes(lanes, "generic", seed=seed) if lanes <= TREE_LANES else None,
        measure_lanes(lanes, "ecp5", streams=2, seed=seed) if lanes <= STREAM_LANES else None,
    )
