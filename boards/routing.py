"""Describes how nextpnr places and routes each machine, as data.

With the static placer, large machines have a sixth less wire than with the default placer, and nextpnr's router2 can
finish. The block RAMs of their trits are placed beforehand (``block_rams.py``), or all block RAMs, multipliers and some
flip-flops as in an earlier route (``placement.py``). Registers at the outputs of block RAMs are moved into the block
RAMs (``output_registers.py``). Smaller machines reach higher clocks with nextpnr's defaults. The slowest connections of
a routed machine can be routed again (``reroute.py``). docs/decisions/001-narrow-ways.md and 018-detours.md have the
figures.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lutern.boards.block_rams import LAYOUT, place_block_rams
from lutern.boards.board import Board, Fpga
from lutern.boards.output_registers import fold_output_registers
from lutern.boards.placement import Placement, place, read_placement
from lutern.hw.config import HwConfig

LARGE_LANES = 512
"""Least number of lanes of a large machine."""
PRESSURE = 1.1
"""nextpnr gets target clocks that are this factor above the machine's clocks. Otherwise it could stop without a
margin."""


@dataclass(frozen=True)
class Routing:
    """How a machine is placed and routed.

    placer, router
        Names of nextpnr's placer and router. An empty name selects the default.
    settings
        Further settings by their names in nextpnr, such as ``router2/currCongWeightMult``.
    prepared
        Whether block RAMs are placed, and registers are moved into them.
    pressure
        Factor by which the target clocks of nextpnr are faster.
    target_hz
        Target of nextpnr for a machine of one clock, in place of ``pressure``. The route of a machine for any clock
        then does not depend on the clock.
    rounds
        How often the slowest connections are routed again at most.
    sites
        Name of a file in ``boards/sites`` with the placement of an earlier route on the same FPGA. A placement that the
        user gives replaces it.
    """

    placer: str = ""
    router: str = ""
    settings: tuple[tuple[str, str], ...] = ()
    prepared: bool = False
    pressure: float = PRESSURE
    target_hz: int = 0
    rounds: int = 0
    sites: str = ""

    @property
    def arguments(self) -> tuple[str, ...]:
        """Arguments of nextpnr."""
        named = (("--placer", self.placer), ("--router", self.router))
        return tuple(text for option, value in named if value for text in (option, value))

    def target(self, clock_hz: float) -> float:
        """Return the target of nextpnr for a clock, in Hz."""
        return self.target_hz or self.pressure * clock_hz

    @property
    def digest_text(self) -> str:
        """The inputs of a route in addition to its arguments."""
        return json.dumps([asdict(self), LAYOUT if self.prepared else 0])

    @property
    def changes_netlist(self) -> bool:
        """Whether ``prepare`` does anything without a placement."""
        return self.prepared or bool(self.settings)

    def prepare(self, design: dict[str, Any], fpga: Fpga, placement: Placement | None) -> None:
        """Change a netlist (yosys' JSON) as these settings say, and place some of its cells."""
        if self.prepared:
            fold_output_registers(design)
        if placement:
            place(design, placement)
        elif self.prepared:
            place_block_rams(design, fpga)
        design["modules"]["top"].setdefault("settings", {}).update(self.settings)


SITES = Path(__file__).with_name("sites")
"""Folder with the files that ``Routing.sites`` names."""
SMALL = Routing()
LARGE = Routing("static", "router2", prepared=True)
ROUTINGS = {
    "resident-1024": Routing(
        "static", "router2", prepared=True, target_hz=72_000_000, rounds=4, sites="resident-1024.json"
    )
}
"""Settings of the presets that use neither SMALL nor LARGE."""


ROUTED = frozenset(
    {
        ("tiny", "LFE5U-25F", "CABGA381"),
        ("resident-85f", "LFE5U-85F", "CABGA381"),
        ("resident-1024", "LFE5U-85F", "CABGA381"),
        ("resident-25f", "LFE5U-25F", "CABGA381"),
        ("sdram-x16", "LFE5U-85F", "CABGA381"),
        ("sdram-x16", "LFE5U-25F", "CABGA381"),
        ("ddr3-x16", "LFE5U-85F", "CSFBGA285"),
        ("ddr3-x16", "LFE5UM5G-85F", "CABGA554"),
        ("ddr3-x16-25f", "LFE5U-25F", "CSFBGA285"),
    }
)
"""Presets, FPGAs and packages for which place and route reached every clock. They are the bitstreams in the table of
docs/measuring.md, and tiny, which tests/boards/test_build.py routes."""


def placement_for(config: HwConfig, board: Board) -> Placement | None:
    """Return the placement that is used for a machine if the user gives none, or None."""
    name = routing_for(config).sites
    return read_placement(SITES / name, board.fpga) if name and was_routed(config, board) else None


def was_routed(config: HwConfig, board: Board) -> bool:
    """Return whether a machine is one of ``ROUTED``, for a board with the same FPGA and package.

    A changed machine is none of them, because its name is different, or because it has counters.
    """
    return (config.name, board.fpga.name, board.package) in ROUTED and not config.counters


def routing_for(config: HwConfig) -> Routing:
    """Return how a machine is placed and routed."""
    return ROUTINGS.get(config.name) or (LARGE if config.lanes >= LARGE_LANES else SMALL)


__all__ = [
    "LARGE",
    "LARGE_LANES",
    "ROUTED",
    "ROUTINGS",
    "SITES",
    "SMALL",
    "Routing",
    "placement_for",
    "routing_for",
    "was_routed",
]
