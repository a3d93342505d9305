"""Estimates a machine, and makes its bitstream or its Verilog. No function in this module needs a connected board.

machine, model ─► estimate ─► Estimate      cycles, bytes, tokens/s, resources
machine, board ─► build ────► Build         a bitstream, its clocks and its report
machine ────────► verilog ──► text          one Verilog file for any toolchain
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lutern.api import Progress, no_progress
from lutern.api.models import Model, load
from lutern.boards.board import Board
from lutern.boards.catalog import find_board
from lutern.firmware.serial_port import BAUD
from lutern.hw.config import HwConfig
from lutern.hw.presets import PRESETS, preset
from lutern.measure.cluster import workers
from lutern.measure.dram import CHOOSES
from lutern.measure.estimate import Estimate
from lutern.measure.estimate import estimate as estimate_machine
from lutern.measure.fits import check_chip, check_model
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.embedding import WIDE_BITS
from lutern.model_ref.errors import LuternError

if TYPE_CHECKING:
    from lutern.boards.build import Build

MODULE = "lutern"
"""The name of the top module in Verilog."""


def estimate(
    model: Model | ModelConfig | str,
    machine: str | HwConfig = "",
    *,
    board: str = "",
    streams: int = 1,
    share: float = 1.0,
    embedding_bits: int | None = None,
) -> Estimate:
    """Estimate a machine with a model by computation. Nothing is simulated or synthesised.

    Parameters
    ----------
    model : Model, ModelConfig or str
        A model, a name that ``load`` opens, or a shape, such as ``lutern.PUBLISHED["1.3b"]``.
    machine : str or HwConfig
        A preset's name, or your own machine. Default: the board's machine, or sim-64 if no board is given.
    board : str
        The name of a board, which determines the clock, memory and link of the machine.
    streams : int
        Number of tokens that a pass decodes, 1 to the machine's ``streams``.
    share : float
        Average number of words per cycle from a memory at a port: above 0, at most 1.
    embedding_bits : int
        Bits of an element of the embedding table, 16 or 12; default: the model's own, or 16 for a shape.

    Returns
    -------
    Estimate
        ``cycles`` (None if the link limits the speed) and ``bytes_read``: the values of one pass.
        ``tokens_per_second``: the rate of all streams together at the machine's clock. ``bound``: the most tokens/s
        that lanes or memory allow. ``share``: ``tokens_per_second`` / ``bound``. ``resources``: LUT, flip-flops, block
        RAMs and multipliers of an ECP5. docs/measuring.md says which figures are exact.

    Raises
    ------
    LuternError
        The machine does not hold the model (the message names each limit), or ``streams`` or ``share`` is out of
        range.
    """
    if isinstance(model, str):
        model = load(model)
    model_config = model if isinstance(model, ModelConfig) else model.config
    bits = embedding_bits or (WIDE_BITS if isinstance(model, ModelConfig) else model.embedding_bits)
    found_board = find_board(board) if board else None
    config = _machine_of(machine, found_board)
    if not 0 < streams <= config.streams:
        raise LuternError(
            f"{streams} streams were asked for, but {config.name} decodes 1 to {config.streams} at a time; give such a "
            "number, or choose a machine with more streams."
        )
    if not 0 < share <= 1:
        raise LuternError(f"the share is {share}; give a number above 0 and at most 1.")
    if share != 1 and (config.memory not in CHOOSES or config.source != "streamed"):
        raise LuternError(f"a share is for a machine with a port for memory, {config.name} has none; leave out share.")
    baud = found_board.baud(config) if found_board else BAUD
    return estimate_machine(model_config, config, streams=streams, baud=baud, embedding_bits=bits, share=share)


def _machine_of(machine: str | HwConfig, board: Board | None) -> HwConfig:
    if board:
        return board.config(machine)
    return machine if isinstance(machine, HwConfig) else preset(machine or "sim-64")


def build(
    board: str,
    machine: str | HwConfig = "",
    *,
    seeds: int = 1,
    model: Model | str | None = None,
    counters: bool = False,
    clock_hz: int = 0,
    memory_clock_hz: int = 0,
    placement: str | Path = "",
    progress: Progress | None = None,
    scheduler: str = "",
) -> Build:
    """Build a bitstream for a board: synthesis, place and route, report. Needs the extra ``build``.

    Parameters
    ----------
    board : str
        One of ``lutern.BOARDS``.
    machine : str or HwConfig
        A preset's name, or your own machine. Default: the board's machine.
    seeds : int
        Number of seeds with which the design is placed and routed. The fastest result is kept. Each seed takes minutes
        to an hour of one core.
    model : Model or str
        A model that the machine must hold. This is checked before the build.
    counters : bool
        Build the counters that ``Machine.count`` reads.
    clock_hz, memory_clock_hz : int
        Clocks of the machine and of the DDR3 controller. 0 means the preset's clock.
    placement : str or Path
        ``placement.json`` of an earlier build. Block RAMs and multipliers are placed as in this build.
    progress : Progress
        Called for each step.
    scheduler : str
        Address of a Dask scheduler, whose workers place and route the seeds (extra ``explore``). If no address is
        given, this computer places and routes all seeds.

    Returns
    -------
    Build
        ``bitstream``: the file. ``folder``: the folder that also contains report, manifest, floorplan and
        placement.
        ``best.met``: whether every clock of the best route reaches its target. ``best.clocks``: the clocks of this
        route in Hz. ``best.used``: the cells that this route uses. ``seconds``: the time of each step. Results of an
        earlier build are used again.

    Raises
    ------
    LuternError
        There is no such board, the chip is too small for the estimated machine, the model does not fit, the placement
        is not for this FPGA or machine, or a tool is missing or fails (the message names the log of the tool). A clock
        that misses its target raises no error, so check ``best.met``.
    """
    from lutern.boards.build import build as build_plan
    from lutern.boards.build import make_plan
    from lutern.boards.placement import read_placement
    from lutern.measure.seeds import spread_seeds

    if seeds < 1:
        raise LuternError(f"{seeds} seeds were asked for; give 1 or more.")
    found, report = find_board(board), progress or no_progress
    config = found.config(machine, clock_hz, memory_clock_hz).with_(counters=counters)
    described = None
    if model is not None:
        model = load(model) if isinstance(model, str) else model
        check_model(model.config, model.name, found, machine, model.embedding_bits)
        described = {"name": model.name, "digest": model.config.digest}
    check_chip(config, found)
    sites = read_placement(Path(placement), found.fpga) if placement else None
    report("plan", 0, seeds + 2)
    plan = make_plan(found, config, sites)

    def told(done: int, total: int, what: str) -> None:
        report(what, done, total)

    if not scheduler:
        return build_plan(plan, range(1, seeds + 1), told, described)
    with workers(scheduler=scheduler) as crew:
        return build_plan(plan, range(1, seeds + 1), told, described, spread_seeds(crew))


def verilog(machine: str | HwConfig = "sim-64") -> str:
    """Return the Verilog of a machine as one text: module lutern, with clk, rst, and the bytes of the link (rx, tx).

    Machines axi-... and hbm-... have AXI4 masters (m_axi0_...) and, for the link, an AXI4-Lite slave (s_axi_...).
    If the text gives no contents for a memory, the memory starts with zeros, which an FPGA's bitstream loads. The
    conversion takes seconds to a minute. Raises LuternError if there is no such preset.
    """
    from lutern.hw.top import AxiTop, Top
    from lutern.sim.convert import convert_rtlil, convert_verilog

    config = (preset(machine) if isinstance(machine, str) else machine).with_(debug_tap=False)
    top = AxiTop(config) if config.memory == "axi" else Top(config)
    origin = f"--preset {config.name}" if config.name in PRESETS else f"of machine {config.name}"
    return f"// lutern verilog {origin}\n{convert_verilog(convert_rtlil(top, name=MODULE))}"


__all__ = ["MODULE", "build", "estimate", "verilog"]
