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

from amaranth.hdl import Array, Cat, Const, Elaboratable, Module, Mux, ResetInserter, Signal, Value, ValueLike
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import Out
from amaranth.utils import ceil_log2

from lutern.hw.config import HwConfig
from lutern.hw.layouts import full_parts
from lutern.hw.memory.ports import memory_members
from lutern.hw.memory.readers import FETCHED, TRIT_MEMORY_BIT, Fetcher, ReaderAhead, Repeater
from lutern.hw.pipeline import join_streams, new_memory, own_register, read_register

BANK_BEATS = 2048
"""Beats of a bank with cells "ecp5": the depth of a block RAM of 9 bits."""


def _add_fetcher(m: Module, memory: Any, stages: int) -> tuple[Fetcher, Value]:
    """The reader of rows and for the host, joined to the ports of ``memory``; and the word that its FIFO takes in."""
    serving = Signal()  # running, a cycle later: what was asked for before the change is dropped
    changes = serving ^ memory.running
    fetcher = Fetcher(memory.config, stages)
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

    Members: ``i_write`` {address, word}, always ready; ``i_read`` {address, count} answered on ``o_read`` with exactly
    ``count`` words, only while ``running`` is 0; ``i_start`` {token, stream} answered on ``o_row`` with the
    ``embedding_row_words`` words of the token's row; ``o_words`` the words 0 to ``record_words`` - 1, ``o_trits`` the
    beats 0 to ``trit_beats`` - 1, both endlessly; ``setup``, constant from the cycle before ``running`` rises.

    The host's addresses: ``TRIT_MEMORY | beat << part_bits | part`` for a part of a beat, else a word. Parts that a
    beat does not have read as 0, and writing them does nothing; of the last part only the bits that exist are kept. The
    row of token k begins in part 0 of beat ``embedding_base + k * embedding_stride`` and fills the full parts of each
    beat.

    Rows are read through the port of the trits, which come from a FIFO meanwhile. A write is done 3 cycles after it is
    accepted.

    The block RAMs of the trits lie all over the chip, and are slow. So every part of a bank (with cells "ecp5" of
    ``BANK_BEATS`` beats) has addresses and enable in registers of its own, and every part the word that is written and
    the choice of the bank. There is a register behind each bank, one behind the choice of the bank and one behind that
    of a part, all without an enable:

       reader or fetcher ─► address █─► █─► banks █─► █─► one of them █─┬─► FIFOs ─► o_trits
                                  a part  block RAM                     └─► one of its parts █─► FIFO ─► o_row, o_read

    Latency: ``trit_latency`` from ``running`` to the first beat, ``latency`` to the first word, then one each a cycle;
    ``row_latency`` from a token to the first word of its row, ``read_latency`` from a host's request to the first word,
    then one a cycle.
    """

    latency = 4
    trit_latency = 7
    row_latency = 9
    read_latency = 8

    def __init__(self, config: HwConfig) -> None:
        full_parts(config)
        self.config = config
        super().__init__({**memory_members(config), "o_trits": Out(stream.Signature(config.beat_bits))})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        config = self.config
        address, word, writes = _written(m, self.i_write)
        running = Signal()  # a register of its own: it resets the readers
        m.d.sync += running.eq(self.running)
        fetcher, chosen = _add_fetcher(m, self, stages=5)
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
            ReaderAhead(config.beat_bits, ceil_log2(config.trit_beats), stages=4),
            running,
            self.setup.trit_beats,
            self.o_trits,
        )
        # The machine may begin anew a cycle ahead of the readers: it sees nothing of what they held.
        m.d.comb += [self.o_words.valid.eq(words.o.valid & running), self.o_trits.valid.eq(trits.o.valid & running)]
        m.d.comb += trits.granted.eq(~fetcher.owns)
        trit_address = _registers(
            m, Mux(fetcher.owns, fetcher.address[config.part_bits :], trits.address)[: ceil_log2(config.trit_beats)], 1
        )
        beat = self._beats(m, trit_address, address, word, writes)
        m.d.comb += trits.data.eq(beat)

        # The words' port is the host's while nothing runs.
        asked = _registers(m, Mux(running, words.address, fetcher.address), 1)
        found = _memory(
            m,
            "memory",
            config.word_bits,
            config.memory_words,
            write=(address, word, writes & ~address[TRIT_MEMORY_BIT]),
            address=asked,
        )
        m.d.comb += [words.granted.eq(1), words.data.eq(found)]

        # rows and the host: a part of the beat, or the word
        here = _registers(m, fetcher.address, 5)
        choices = [beat[first : first + config.word_bits] for first in range(0, config.beat_bits, config.word_bits)]
        choices += [Const(0, 1)] * ((1 << config.part_bits) - len(choices))
        m.d.comb += chosen.eq(
            _registers(
                m, Mux(here[TRIT_MEMORY_BIT], Array(choices)[here[: config.part_bits]], _registers(m, found, 3)), 1
            )
        )
        return m

    def _beats(self, m: Module, trit_address: Value, address: Value, word: Value, writes: Value) -> Value:
        """The beat at ``trit_address``, four cycles later, from a memory a part and bank. The host writes ``word``."""
        config = self.config
        cells = config.cells == "ecp5"
        depth = min(BANK_BEATS, config.trit_beats) if cells else config.trit_beats
        bank_bits, banks = ceil_log2(depth), -(-config.trit_beats // depth)
        of_trits, part, row = address[TRIT_MEMORY_BIT], address[: config.part_bits], address[config.part_bits :]
        words = [
            own_register(m, word[: config.beat_bits - first], cells=cells)
            for first in range(0, config.beat_bits, config.word_bits)
        ]
        given: list[list[Value]] = [[] for _ in words]
        for number in range(banks):
            of_bank = writes & of_trits & (row[: TRIT_MEMORY_BIT - config.part_bits] >> bank_bits == number)
            for index, of_part in enumerate(given):
                own_row, own_enable, own_address = (
                    own_register(m, value, cells=cells)
                    for value in (row[:bank_bits], of_bank & (part == index), trit_address[:bank_bits])
                )
                of_part.append(
                    _registers(
                        m,
                        _memory(
                            m,
                            f"part_{number}_{index}",
                            len(words[index]),
                            min(depth, config.trit_beats - number * depth),
                            write=(own_row, words[index], own_enable),
                            address=own_address,
                        ),
                        1,
                    )
                )
        bank = _registers(m, trit_address[bank_bits:], 2)
        return _registers(m, Cat(Array(of_part)[own_register(m, bank, cells=cells)] for of_part in given), 1)


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
        m.d.comb += [words.granted.eq(~fetcher.owns), words.data.eq(found), fetched.eq(found)]
        return m


def _written(m: Module, i_write: Any) -> tuple[Signal, Signal, Signal]:
    """Address, word and enable of the host's writes, in registers: they reach every block RAM."""
    address = Signal(len(i_write.payload.address), name="write_address", reset_less=True)
    word = Signal(len(i_write.payload.word), name="write_word", reset_less=True)
    writes = Signal()
    m.d.comb += i_write.ready.eq(1)
    m.d.sync += [address.eq(i_write.payload.address), word.eq(i_write.payload.word), writes.eq(i_write.valid)]
    return address, word, writes


def _registers(m: Module, value: Value, count: int) -> Value:
    """``value`` that many cycles later."""
    for _ in range(count):
        register = Signal.like(value, name="held", reset_less=True)
        m.d.sync += register.eq(value)
        value = register
    return value


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


__all__ = ["BANK_BEATS", "ResidentMemory", "StreamedMemory"]
