"""Upsets of the chip: bits of its state, vectors and registers that change during a run.

    state     S of the layers and h, the vector between them
    codes     the memory of codes, which the ternary unit multiplies
    control   all registers of the chip, by the block that they are in
    setup     the register that the command SETUP filled, by field; or a second, equal SETUP during a run
    weights   if they are in block RAM: 1, 2 or 3 bits of the words, the trits or a row

The run chooses two tokens and continues a conversation, so an upset during the first token can change the second token.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from lutern.firmware.session import Session
from lutern.firmware.slip import encode_frame
from lutern.hw.protocol import SETUP, Opcode
from lutern.measure.inject.campaign import Campaign, Settings
from lutern.measure.inject.trial import SECOND, Scenario, StruckBoard
from lutern.sim.upsets import ChipMemory, Register, listed
from lutern.sim.verilate import VERILOG

Change = Callable[[StruckBoard], None]
SCENARIO = Scenario(has_past=True, count=2)
AGAIN = "SETUP again"
OTHER_SEQUENCE = 0x80
"""Sequence number of a SETUP that the session did not send."""


class ChipCampaign(Campaign):
    """A campaign that changes a board with upsets at one cycle of the run."""

    needs_upsets = True

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.registers, self.memories = listed(settings.library.with_name(VERILOG).read_text())

    def at_a_cycle(self, draw: random.Random, change: Change, where: str) -> tuple[str, str]:
        """Return the result of ``change(board)`` at a drawn cycle of the run."""
        cycles = draw.randrange(self.bench.sound(SCENARIO).cycles)  # cycles of one token; the run has two tokens
        with self.bench.board() as board:

            def begin(session: Session) -> None:
                board.strike(cycles, lambda: change(board))

            result, note = self.bench.judge(board, SCENARIO, begin)
        return result, f"{where}, cycle {cycles}. {note}".rstrip()

    def in_memory(self, draw: random.Random, memories: list[ChipMemory]) -> tuple[str, str]:
        """Change one bit in one of these memories, and return the result."""
        memory = draw.choices(memories, [each.words * each.bits for each in memories])[0]
        address, bit = draw.randrange(memory.words), draw.randrange(memory.bits)

        def change(board: StruckBoard) -> None:
            board.upset_memory(memory.number, address, 1 << bit)

        return self.at_a_cycle(draw, change, f"{memory.path} {memory.name}, word {address}, bit {bit}")


class State(ChipCampaign):
    """Upsets of S and h."""

    kinds = ("S", "h")

    def strike(self, kind: str, draw: random.Random, index: int) -> tuple[str, str]:
        """See ``Campaign``. Only words that contain a value are struck."""
        model, config = self.program.model_config, self.settings.config
        if kind == "S" and config.state == "memory":
            return self._in_words(draw)
        name = ".mlgru s_memory" if kind == "S" else ".residual memory"
        found = [each for each in self.memories if f"{each.path} {each.name}".endswith(name)]
        elements = model.hidden_size * (model.num_hidden_layers if kind == "S" else 1)
        return self.in_memory(draw, [used(each, elements // config.results_per_cycle) for each in found])

    def _in_words(self, draw: random.Random) -> tuple[str, str]:
        """Return the result of a changed bit of S, if S is in the memory next to the chip."""
        address = self.program.setup["state_base"] + draw.randrange(self.program.state_stride)
        bit = draw.randrange(self.settings.config.word_bits)

        def change(board: StruckBoard) -> None:
            word = board.peek(address, 1)
            word[0, bit // 8] ^= 1 << bit % 8
            board.poke(address, word)

        return self.at_a_cycle(draw, change, f"word {address}, bit {bit}")


class ResidentWeights(ChipCampaign):
    """Bits of the block RAM of weights, among those that the run reads.

    Half of the faults happen before the run, the other half during the run.
    """

    kinds = ("1 bit", "2 bits", "3 bits")

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._words = next(each for each in self.memories if (each.path, each.name) == ("top.memory", "memory"))
        parts = [each for each in self.memories if each.path == "top.memory" and each.name.startswith("part_")]
        # memories by bank and part of a beat
        self._parts = {tuple(map(int, each.name.split("_")[1:])): each for each in parts}

    def strike(self, kind: str, draw: random.Random, index: int) -> tuple[str, str]:
        """See ``Campaign``. All changed bits belong to the same signature."""
        scenario = Scenario(has_past=False, count=1)
        setup, config = self.program.setup, self.settings.config
        row = setup["embedding_base"] + SECOND * setup["embedding_stride"]
        row_bytes = setup["embedding_row_words"] * config.word_bytes
        where, first, count, width = draw.choices(
            [
                ("words", 0, setup["record_words"], config.word_bits),
                ("trits", 0, setup["trit_beats"], config.beat_bits),
                ("row", row, setup["embedding_stride"], 8 * row_bytes // setup["embedding_stride"]),
            ],
            [setup["record_words"] * config.word_bits, setup["trit_beats"] * config.beat_bits, 8 * row_bytes],
        )[0]
        places = [(first + bit // width, bit % width) for bit in draw.sample(range(count * width), int(kind[0]))]
        cycles = draw.choice((0, draw.randrange(self.bench.sound(scenario).cycles)))

        def change() -> None:
            for place, bit in places:
                memory, address, at = (self._words, place, bit) if where == "words" else self._in_beat(place, bit)
                board.upset_memory(memory.number, address, 1 << at)

        with self.bench.board() as board:
            result, note = self.bench.judge(
                board, scenario, lambda _: board.strike(cycles, change) if cycles else change()
            )
        return result, f"{where} {places}, cycle {cycles}. {note}".rstrip()

    def _in_beat(self, beat: int, bit: int) -> tuple[ChipMemory, int, int]:
        """Return the memory, word and bit that store a bit of a beat."""
        part, at = divmod(bit, self.settings.config.word_bits)
        beats = self._parts[0, part].words
        return self._parts[beat // beats, part], beat % beats, at


class Codes(ChipCampaign):
    """Upsets of the memory of codes."""

    kinds = ("codes",)

    def strike(self, kind: str, draw: random.Random, index: int) -> tuple[str, str]:
        """See ``Campaign``."""
        return self.in_memory(draw, [each for each in self.memories if each.path.endswith(".decoder.codes")])


class Control(ChipCampaign):
    """Upsets of registers. All bits of registers of the chip are equally likely."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._blocks: dict[str, list[Register]] = {}
        for register in self.registers:
            self._blocks.setdefault(block_of(register), []).append(register)
        self.kinds = tuple(sorted(self._blocks))

    def draw_kind(self, draw: random.Random) -> str:
        """Draw the block that is struck."""
        return draw.choices(self.kinds, [bits(self._blocks[kind]) for kind in self.kinds])[0]

    def strike(self, kind: str, draw: random.Random, index: int) -> tuple[str, str]:
        """See ``Campaign``."""
        registers = self._blocks[kind]
        register = draw.choices(registers, [each.bits for each in registers])[0]
        bit = draw.randrange(register.bits)
        where = f"{register.path} {register.name}, bit {bit}"
        return self.at_a_cycle(draw, lambda board: board.upset_register(register.first + bit), where)


class Setup(ChipCampaign):
    """Upsets of the registers that SETUP wrote, and a second SETUP at any cycle."""

    kinds = (*SETUP.names, AGAIN)

    def strike(self, kind: str, draw: random.Random, index: int) -> tuple[str, str]:
        """See ``Campaign``."""
        if kind == AGAIN:
            frame = encode_frame(Opcode.SETUP, OTHER_SEQUENCE, SETUP.pack(**self.program.setup))
            return self.at_a_cycle(draw, lambda board: board.write(frame), "sent once more")
        register = next(each for each in self.registers if (each.path, each.name) == ("top.host", "setup"))
        field = SETUP.layout[kind]
        bit = draw.randrange(field.width)
        change_at = register.first + field.offset + bit
        return self.at_a_cycle(draw, lambda board: board.upset_register(change_at), f"bit {bit} of {kind}")


def block_of(register: Register) -> str:
    """Return the block that contains a register: a block of the machine, or of the decoder."""
    return ".".join(part.partition("$")[0] for part in register.path.split(".")[1:3]) or "top"


def bits(registers: list[Register]) -> int:
    """Return the number of bits of all these registers."""
    return sum(each.bits for each in registers)


def used(memory: ChipMemory, words: int) -> ChipMemory:
    """Return the memory cut to its first ``words`` words. Only these words contain a value."""
    return ChipMemory(memory.number, min(words, memory.words), memory.bits, memory.path, memory.name)


__all__ = ["Codes", "Control", "ResidentWeights", "Setup", "State"]
