"""The memory that a machine reads a token's numbers from; its readers are in hw/memory/readers.py.

    resident   words: operations, gains ──► FIFO ─► o_words, a word a cycle    host ─► i_write
               trits: beats in parts ─► FIFOs ─► o_trits, a beat a cycle       host ─► i_read ─► o_read
                      embedding rows ──────► o_row
    stream     words: everything           ─► o_words and o_row, together a word a cycle

Every token reads the same words and beats in the same order, so two readers repeat them endlessly and run ahead; only
the row of the embedding table depends on the token. Who asks for a row gets it at once: rows go first.

After configuration the memory is empty: everything arrives over the link. While ``running`` is 0 the memory serves the
host and the readers stand at their beginning; when it rises they start, when it falls they drop what they hold.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Elaboratable, Module, Mux, ResetInserter, Signal, Value, ValueLike
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import Out
from amaranth.utils import ceil_log2

from lutern.hw.config import HwConfig
from lutern.hw.layouts import full_parts
from lutern.hw.memory.ports import memory_members
from lutern.hw.memory.readers import FETCHED, TRIT_MEMORY_BIT, Fetcher, ReaderAhead, Repeater
from lutern.hw.memory.trit_parts import TritParts, beat_stages, registers, side_steps
from lutern.hw.pipeline import join_streams, new_memory, read_register


def _add_fetcher(m: Module, memory: Any, stages: int, steps: int = 1) -> tuple[Fetcher, Value]:
    """The reader of rows and for the host, joined to the ports of ``memory``; and the word that its FIFO takes in."""
    serving = Signal()  # running, a cycle later: what was asked for before the change is dropped
    changes = serving ^ memory.running
    fetcher = Fetcher(memory.config, stages, steps)
    fetched = SyncFIFO(width=memory.config.word_bits, depth=FETCHED)
    m.submodules.fetcher = ResetInserter(changes)(fetcher)
    m.submodules.fetched = ResetInserter(changes)(fetched)
    m.d.sync += serving.eq(memory.running)
    m.d.comb += [fetcher.host.eq(~serving), fetcher.setup.eq(memory.setup)]
    for ours, theirs in ((memory.i_read, fetcher.i_read), (memory.i_start, fetcher.i_start)):
        m.d.comb += [
            theirs.valid.eq(ours.valid),
            Value.cast(theirs.payload).eq(Value.cast(ours.payload)),
            ours.ready.eq(theirs.ready),
        ]
    m.d.comb += [
        fetched.w_en.eq(fetcher.valid),
        fetcher.taken.eq(fetched.r_en & fetched.r_rdy),
        memory.o_row.valid.eq(fetched.r_rdy & serving),
        memory.o_read.valid.eq(fetched.r_rdy & ~serving),
        memory.o_row.payload.eq(fetched.r_data),
        memory.o_read.payload.eq(fetched.r_data),
        fetched.r_en.eq(Mux(serving, memory.o_row.ready, memory.o_read.ready)),
    ]
    return fetcher, fetched.w_data


def _add_reader(m: Module, name: str, reader: Any, running: Signal, count: Value, o: Any) -> Any:
    """A reader of the port ``o``, at its beginning while not running."""
    m.submodules[name] = ResetInserter(~running)(reader)
    m.d.comb += reader.count.eq(count)  # 2^n is 0 where addresses have n bits
    join_streams(m, reader.o, o)
    return reader


class ResidentMemory(wiring.Component):
    """Beats of trits in one memory, words of operations and gains in another.

    Members: ``i_write`` {address, word}; ``i_read`` {address, count} answered on ``o_read`` with exactly ``count``
    words, only while ``running`` is 0; ``i_start`` {token, stream} answered on ``o_row`` with the
    ``embedding_row_words`` words of the token's row; ``o_words`` the words 0 to ``record_words`` - 1, ``o_trits`` the
    beats 0 to ``trit_beats`` - 1, both endlessly; ``setup``, constant from the cycle before ``running`` rises.

    The host's addresses: ``TRIT_MEMORY | beat << part_bits | part`` for a part of a beat, else a word. Parts that a
    beat does not have read as 0, and writing them does nothing; of the last part only the bits that exist are kept. The
    row of token k begins in part 0 of beat ``embedding_base + k * embedding_stride`` and fills the full parts of each
    beat.

    The block RAMs of the trits lie all over the chip, and all of them are read every cycle for the lanes. Whatever else
    is read or written goes through their other port (hw/memory/trit_parts.py), and waits for no trits:

       reader ─► address █─► █─► banks █─► █─► (one of them █) ─► FIFOs ─► o_trits
       fetcher, i_write ─► █─► █─► other port █─► a part █─► three of them █─► word, in ``side_steps`` ─► FIFO ─► o_row

    A word is written in chunks of a block RAM, one a cycle, and ``i_write`` waits so long. Writing goes first, and what
    is accepted is seen by all that is read later.

    Latency: ``trit_latency`` from ``running`` to the first beat, ``latency`` to the first word, then one each a cycle;
    ``row_latency`` from a token to the first word of its row, ``read_latency`` from a host's request to the first word,
    then one every ``side_steps`` cycles.
    """

    latency = 4

    def __init__(self, config: HwConfig) -> None:
        full_parts(config)
        self.config = config
        self.trit_latency = self.trit_latency_of(config)
        self.row_latency = self.row_latency_of(config)
        self.read_latency = self.row_latency - 1
        super().__init__({**memory_members(config), "o_trits": Out(stream.Signature(config.beat_bits))})

    @staticmethod
    def trit_latency_of(config: HwConfig) -> int:
        """``trit_latency`` of such a machine."""
        return 3 + beat_stages(config)

    @staticmethod
    def row_latency_of(config: HwConfig) -> int:
        """``row_latency`` of such a machine."""
        return 7 + side_steps(config)

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        config = self.config
        steps = side_steps(config)
        running = Signal()  # a register of its own: it resets the readers
        m.d.sync += running.eq(self.running)
        fetcher, fetched = _add_fetcher(m, self, stages=TritParts.side_stages, steps=steps)
        words = _add_reader(
            m,
            "words",
            ReaderAhead(config.word_bits, ceil_log2(config.memory_words), stages=1),
            running,
            self.setup.record_words,
            self.o_words,
        )
        trits = _add_reader(
            m,
            "trits",
            ReaderAhead(config.beat_bits, ceil_log2(config.trit_beats), stages=beat_stages(config)),
            running,
            self.setup.trit_beats,
            self.o_trits,
        )
        # The machine may begin anew a cycle ahead of the readers: it sees nothing of what they held.
        m.d.comb += [self.o_words.valid.eq(words.o.valid & running), self.o_trits.valid.eq(trits.o.valid & running)]
        m.d.comb += [trits.granted.eq(1), words.granted.eq(1)]

        m.submodules.parts = parts = TritParts(config)
        m.d.comb += [parts.address.eq(registers(m, trits.address, 1)), trits.data.eq(parts.beat)]
        address, word, writes, writing = _written_in_chunks(m, self.i_write, len(parts.chunk))
        of_trits, asked = address[TRIT_MEMORY_BIT], fetcher.address
        m.d.comb += fetcher.granted.eq(~writing)
        side = Cat(parts.chosen, parts.part, parts.step, parts.row, parts.write, parts.chunk)
        row = Mux(writing, address, asked)[config.part_bits :][: len(parts.row)]
        part = Mux(writing, address, asked)[: config.part_bits]
        given = Cat(asked[TRIT_MEMORY_BIT], part, fetcher.step, row, writes & of_trits, word[: len(parts.chunk)])
        m.d.comb += side.eq(registers(m, given, 1))

        # The words' port is the host's while nothing runs; what it reads shows when that of the parts would.
        asked = registers(m, Mux(running, words.address, registers(m, asked, 2)), 1)
        found = _memory(
            m, "memory", config.word_bits, config.memory_words, write=(address, word, writes & ~of_trits), address=asked
        )
        m.d.comb += words.data.eq(found)
        of_trits, step = registers(m, fetcher.address[TRIT_MEMORY_BIT], 4), registers(m, fetcher.step, 4)
        shown = registers(m, Mux(of_trits, 0, found.word_select(step, len(parts.word))), 1)
        kept = Signal(config.word_bits - len(parts.word), reset_less=True)  # the steps before the last one
        m.d.comb += fetched.eq(Cat(kept, parts.word | shown))
        m.d.sync += kept.eq(fetched[len(parts.word) :])
        return m


class StreamedMemory(wiring.Component):
    """One memory of words for everything, in block RAM.

    Members: as ``ResidentMemory``, without ``o_trits``; addresses are those of words, the row of token k begins at word
    ``embedding_base + k * embedding_stride``. The readers share the port: words of a row take the cycles of words of
    the record stream, and none is idle between the two.

    A controller of external memory takes the same place. It must answer every request in order and drop nothing;
    ``o_words`` and ``o_row`` may pause at any time, and tokens a second are its words a second. What it may rely on:
    the row is asked for while ``o_words`` is not taken (the lanes wait for the row), the records repeat, so they can be
    fetched ahead in bursts, and the host and the readers never overlap.

    Latency: 2 from ``running`` to the first word, then one a cycle; 4 from a token to the first word of its row, 3 from
    a host's request to the first word, then one a cycle.
    """

    latency = 2
    row_latency = 4
    read_latency = 3

    def __init__(self, config: HwConfig) -> None:
        self.config = config
        super().__init__(memory_members(config))

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        config = self.config
        address, word, writes = _written(m, self.i_write)
        fetcher, fetched = _add_fetcher(m, self, stages=0)
        repeater = Repeater(config.word_bits, config.address_bits)
        words = _add_reader(m, "words", repeater, self.running, self.setup.record_words, self.o_words)
        found = _memory(
            m,
            "memory",
            config.word_bits,
            config.memory_words,
            write=(address, word, writes),
            address=Mux(fetcher.owns, fetcher.address, words.address),
            enable=fetcher.owns | words.read,
        )
        m.d.comb += [words.granted.eq(~fetcher.owns), words.data.eq(found), fetched.eq(found), fetcher.granted.eq(1)]
        return m


def _written(m: Module, i_write: Any) -> tuple[Signal, Signal, Signal]:
    """Address, word and enable of the host's writes, in registers: they reach every block RAM."""
    address = Signal(len(i_write.payload.address), name="write_address", reset_less=True)
    word = Signal(len(i_write.payload.word), name="write_word", reset_less=True)
    writes = Signal()
    m.d.comb += i_write.ready.eq(1)
    m.d.sync += [address.eq(i_write.payload.address), word.eq(i_write.payload.word), writes.eq(i_write.valid)]
    return address, word, writes


def _written_in_chunks(m: Module, i_write: Any, bits: int) -> tuple[Value, ...]:
    """Address, word and enable of the host's writes, as ``_written``; the word goes down by ``bits`` a cycle then, and
    the last result says as long that it is not done."""
    address = Signal(len(i_write.payload.address), name="write_address", reset_less=True)
    word = Signal(len(i_write.payload.word), name="write_word", reset_less=True)
    chunks = len(word) // bits
    left, writes = Signal(range(chunks + 1)), Signal()
    accepted = i_write.valid & i_write.ready
    m.d.comb += i_write.ready.eq(left[1:] == 0)
    m.d.sync += [word.eq(word[bits:]), writes.eq(accepted)]
    with m.If(accepted):
        m.d.sync += [address.eq(i_write.payload.address), word.eq(i_write.payload.word), left.eq(chunks)]
    with m.Elif(left != 0):
        m.d.sync += left.eq(left - 1)
    return address, word, writes, left != 0


def _memory(
    m: Module, name: str, bits: int, depth: int, *, write: tuple[Value, ...], address: Value, enable: ValueLike = 1
) -> Signal:
    """A block RAM: the word at ``address``, a cycle later, of what ``write`` (address, word, enable) left there.

    Nobody uses what is read of a word while it is written, and the synthesis is told so.
    """
    m.submodules[name] = memory = new_memory(bits, depth, attrs={"no_rw_check": 1})
    port = memory.write_port()
    m.d.comb += [ours.eq(theirs) for ours, theirs in zip((port.addr, port.data, port.en), write, strict=True)]
    return read_register(m, memory, address, enable)


__all__ = ["ResidentMemory", "StreamedMemory"]
