"""The block RAMs of a resident machine's trits: a wide port serves the lanes, and a narrow port serves all other
accesses.

    address █─► █─► banks █─► (█) ──────────────────────► beat      all parts together, one beat per cycle
              a part  port B   one of the banks
    side: row, part, step █─► █─► port A █─► a part █─► three parts █─► word  1 / ``side_steps`` of a word per cycle
          chunk, write    █─► █─► port A                                      the width of a block RAM per cycle

In the drawing, "█" is a register, and "(█)" is a register that exists only if there are more than ``BANK_BEATS`` beats.
A beat comes from block RAMs all over the chip and goes to lanes all over the chip. The other accesses may be slower.
The host writes one chunk per cycle, and only the block RAM to which the chunk belongs stores it. Rows of the embedding
table and reads of the host use the other port and move from part to part, so no net of the trits crosses the chip. Each
part of a bank has its own address registers, and each part has its own register for the chunk.

Cost on ECP5: half a LUT4 for each bit of a beat. Each part takes a flip-flop for each bit of a step.
"""

from __future__ import annotations

from functools import reduce
from operator import or_

from amaranth.hdl import Array, Cat, Const, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from lutern.hw.config import HwConfig
from lutern.hw.layouts import ITEM_BITS
from lutern.hw.pipeline import new_memory, own_register, read_register

BANK_BEATS = 2048
"""Number of beats of a bank if ``cells`` is "ecp5". This is the depth of a block RAM that is 9 bits wide."""
NEIGHBOURS = 3
"""Number of parts whose words are joined first, because the block RAMs of these parts are adjacent
(boards/block_rams.py)."""


def chunk_bits(config: HwConfig) -> int:
    """Return how many bits the host writes per cycle: 9 if the bits of a word are a multiple of 9, otherwise 8.

    A block RAM with its greatest depth is 9 bits wide.
    """
    return 9 if config.word_bits % 9 == 0 else 8


def side_steps(config: HwConfig) -> int:
    """Return the number of cycles in which a word is read through the side port.

    A word takes two cycles if the words of a row still come as fast as their elements are used. Otherwise a word takes
    one cycle.
    """
    halves = config.word_bits % (2 * chunk_bits(config)) == 0
    return 2 if halves and config.word_bits >= 2 * ITEM_BITS * config.results_per_cycle else 1


def beat_stages(config: HwConfig) -> int:
    """Return the number of cycles from an address to its beat."""
    return 4 if config.trit_beats > BANK_BEATS else 3


def registers(m: Module, value: Value, count: int) -> Value:
    """Return ``value``, delayed by ``count`` registers."""
    for _ in range(count):
        register = Signal.like(value, name="held", reset_less=True)
        m.d.sync += register.eq(value)
        value = register
    return value


class TritParts(wiring.Component):
    """Stores ``config.trit_beats`` beats, with one memory for each part of each bank.

    If ``config.cells`` is "ecp5", a bank has ``BANK_BEATS`` beats. Otherwise there is only one bank.

    Parameters
    ----------
    config : HwConfig
        A machine with source "resident".

    Members
    -------
    address : ``ceil_log2(trit_beats)`` bits, input
        Number of a beat.
    beat : ``beat_bits``, output
        The beat, ``beat_stages`` cycles after its address.
    row : ``ceil_log2(trit_beats)`` bits, input
        The beat that is read or written through the side port.
    part : ``part_bits``, input
        The part of the beat that is read or written.
    step : bits of a step, input
        The step of the word that is read.
    chosen : 1 bit, input
        If 1, the part is read, otherwise ``word`` is 0.
    word : ``word_bits / side_steps``, output
        The bits of the step, ``side_stages`` cycles after ``row``. The bits are 0 for a part that a beat does not have.
    write : 1 bit, input
        ``chunk`` is the first chunk of a word that is written. The other chunks follow in the next cycles, in which
        ``row`` must be stable.
    chunk : ``chunk_bits``, input
        A chunk of a word.

    Numerics
    --------
    None.

    Latency
    -------
    ``beat_stages`` cycles (3 or 4) from ``address`` to ``beat``; ``side_stages`` = 4 from ``row`` to ``word``.

    Reference
    ---------
    None.
    """

    side_stages = 4

    def __init__(self, config: HwConfig) -> None:
        self.config = config
        row_bits = ceil_log2(config.trit_beats)
        self.step_bits = config.word_bits // side_steps(config)
        super().__init__(
            {
                "address": In(row_bits),
                "beat": Out(config.beat_bits),
                "row": In(row_bits),
                "part": In(config.part_bits),
                "step": In(ceil_log2(side_steps(config))),
                "chosen": In(1),
                "word": Out(self.step_bits),
                "write": In(1),
                "chunk": In(chunk_bits(config)),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        config = self.config
        cells = config.cells == "ecp5"
        depth = min(BANK_BEATS, config.trit_beats) if cells else config.trit_beats
        bank_bits, banks = ceil_log2(depth), -(-config.trit_beats // depth)
        bank = registers(m, self.address[bank_bits:], 2)
        beat, sides = [], []
        for index, first in enumerate(range(0, config.beat_bits, config.word_bits)):
            bits = min(config.word_bits, config.beat_bits - first)
            chunk = own_register(m, self.chunk, cells=cells)
            found, gated = [], []
            for number in range(banks):
                chosen = (self.part == index) & (self.row[bank_bits:] == number)
                address, row, writes, reads = (
                    own_register(m, value, cells=cells)
                    for value in (
                        self.address[:bank_bits],
                        self.row[:bank_bits],
                        chosen & self.write,
                        Cat(chosen & self.chosen & (self.step == step) for step in range(side_steps(config))),
                    )
                )
                trits, side = self._bank(
                    m,
                    f"part_{number}_{index}",
                    bits,
                    min(depth, config.trit_beats - number * depth),
                    (address, row, writes, reads.any()),
                    chunk,
                )
                found.append(registers(m, trits, 1))
                gated += self._gated(side, registers(m, reads, 1))
            if banks > 1:
                found = [registers(m, Array(found)[own_register(m, bank, cells=cells)], 1)]
            elif beat_stages(config) == 4:  # as many stages as with several banks
                found = [registers(m, found[0], 1)]
            beat.append(found[0])
            sides.append(registers(m, reduce(or_, gated), 1))
        joined = [
            registers(m, reduce(or_, sides[first : first + NEIGHBOURS]), 1)
            for first in range(0, len(sides), NEIGHBOURS)
        ]
        m.d.comb += [self.beat.eq(Cat(beat)), self.word.eq(reduce(or_, joined))]
        return m

    def _gated(self, side: Value, reads: Value) -> list[Value]:
        """Return the steps of ``side``. A step that is not read is 0."""
        steps = [side[first : first + self.step_bits] for first in range(0, len(side), self.step_bits)]
        return [Mux(reads[index], step, 0) for index, step in enumerate(steps)]

    def _bank(
        self, m: Module, name: str, bits: int, depth: int, port: tuple[Value, ...], chunk: Value
    ) -> tuple[Value, Value]:
        """Add a memory; return the trits at ``address`` and the word at ``row``, a cycle later.

        No block uses a word that is read while it is written. ``no_rw_check`` tells this to the synthesis.
        """
        address, row, writes, reads = port
        chunks = -(-bits // len(chunk))
        memory = new_memory(chunks * len(chunk), depth, attrs={"no_rw_check": 1})
        m.submodules[name] = memory
        store = memory.write_port(granularity=len(chunk))
        enables = Signal(chunks - 1) if chunks > 1 else Const(0, 0)
        if chunks > 1:
            m.d.sync += enables.eq(Cat(writes, enables))
        m.d.comb += [store.addr.eq(row), store.data.eq(chunk.replicate(chunks)), store.en.eq(Cat(writes, enables))]
        # In simulation an unused port must cost no time. The port of a block RAM has one enable for reads and writes.
        side = read_register(m, memory, row, 1 if self.config.cells == "ecp5" else reads)
        return read_register(m, memory, address)[:bits], side[:bits]


__all__ = ["BANK_BEATS", "TritParts", "beat_stages", "chunk_bits", "registers", "side_steps"]
