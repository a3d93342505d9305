"""Identifies the machine at the other end of a link, and loads a model into it.

INFO ─► identify ─► HwConfig ─► lay_out ─► DDR3: reads leveled ─► Session, which loads the program
"""

from __future__ import annotations

from lutern.firmware.axi_port import AxiPort
from lutern.firmware.identify import identify
from lutern.firmware.leveling import level_reads
from lutern.firmware.link import Client
from lutern.firmware.loader import Progress
from lutern.firmware.program import lay_out
from lutern.firmware.session import Session
from lutern.hw.config import HwConfig
from lutern.hw.presets import PRESETS, preset
from lutern.hw.protocol import INFO, Opcode
from lutern.model_ref.quantise import IntegerWeights


def machine_of(client: Client, *among: HwConfig) -> HwConfig:
    """Return the machine of a chip. The machine must be one of ``among``, or one of the presets if ``among`` is empty;
    otherwise ``LuternError`` is raised."""
    return identify(INFO.unpack(client.transact(Opcode.INFO)), among or PRESETS.values())


def open_session(
    client: Client, weights: IntegerWeights, machine: str | HwConfig | None = None, progress: Progress | None = None
) -> Session:
    """Open a session with the chip at the other end. If ``machine`` is given, refuse any other machine.

    The reads of DDR3 are leveled first, because a reset clears their settings. Leveling overwrites a few words. After
    that, the host loads only the words that the memory does not contain, including the overwritten words. The memory
    of a machine with AXI4 must have room for all words. If the port can reach this memory, the host writes the words
    into it directly, otherwise over the link.
    """
    among = [preset(machine)] if isinstance(machine, str) else [machine] if machine is not None else []
    return load_session(client, machine_of(client, *among), weights, progress)


def load_session(
    client: Client, hw_config: HwConfig, weights: IntegerWeights, progress: Progress | None = None
) -> Session:
    """Open a session with a chip that is known to be the machine ``hw_config``."""
    program = lay_out(weights, hw_config)
    if hw_config.memory == "ddr3":
        level_reads(client, hw_config)
    door = client.link.reach(program) if isinstance(client.link, AxiPort) else None
    return Session(client, program, progress=progress, door=door)


__all__ = ["load_session", "machine_of", "open_session"]
