"""The memories in block RAM, which store words, trits and embedding rows of a model. hw/memory/readers.py contains the
readers.

    resident   words: operations, gains ──► FIFO ─► o_words, one word per cycle    host ─► i_write
               trits: beats in parts ─► FIFOs ─► o_trits, one beat per cycle       host ─► i_read ─► o_read
                      embedding rows ──────► o_row
    streamed   words: records and rows ───► o_words and o_row, together one word per cycle

Every token reads the same words and beats in the same order. So two readers repeat these words and beats endlessly and
read ahead. Only the row of the embedding table depends on the token, and reads of a row have priority.

After configuration the memory is empty, and the host sends its content over the link. While ``running`` is 0, the
memory serves the host and the readers are in reset. The readers start when ``running`` rises, and drop their words when
``running`` falls.
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
from lutern.hw.pipeline import FIFO_BITS, join_streams, new_memory, read_register


def _add_fetcher(m: Module, memory: Any, stages: int, steps: int = 1) -> tuple[Fetcher, Value]:
    """Connect the reader for rows and for the host to the ports of ``memory``.

    Return the reader and the data input of its FIFO.
    """
    serving = Signal()  # ``running`` one cycle ago. A change drops all requests from before the change
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


def _fifo_bits(config: HwConfig) -> int:
    """Return the number of bits of a beat that share one FIFO. If there are several FIFOs, each holds whole parts,
    because neighbouring parts may be at two ends of the chip."""
    if config.beat_bits <= FIFO_BITS:
        return FIFO_BITS
    return FIFO_BITS // config.word_bits * config.word_bits or FIFO_BITS


def _add_reader(m: Module, name: str, reader: Any, stopped: Value, count: Value, o: Any) -> Any:
    """Add a reader that drives the stream ``o``. The reader is in reset while ``stopped`` is 1."""
    m.submodules[name] = ResetInserter(stopped)(reader)
    m.d.comb += reader.count.eq(count)  # a count of 2^n reads as 0 if addresses have n bits
    join_streams(m, reader.o, o)
    return reader


class ResidentMemory(wiring.Component):
    """Stores beats of trits in one memory, and words of operations and gains in a second memory.

    The block RAMs of the trits are spread over the chip, and the lanes read all of them in every cycle. All other
    accesses use the second port of these block RAMs (hw/memory/trit_parts.py), so they do not wait for the lanes. A "█"
    is a register:

        reader ─► address █─► █─► banks █─► █─► (one bank █) ─► FIFOs ─► o_trits
        fetcher, i_write ─► █─► █─► 2nd port █─► a part █─► three parts █─► word, in ``side_steps`` ─► FIFO ─► o_row

    A word is written in chunks as wide as a block RAM, one chunk in each cycle, and ``i_write`` is not ready in these
    cycles. Writes have priority over reads, and a read returns the data of all writes that were accepted before it.

    The host addresses a part of a beat as ``TRIT_MEMORY | beat << part_bits | part``, and a word of operations or gains
    by its number. The host reads 0 from a part that a beat does not have, and a write to such a part has no effect. The
    last part stores only the bits that the beat has. A part that stores all bits of a word is called a full part. The
    row of token k begins in part 0 of beat ``embedding_base + k * embedding_stride``, and is stored in the full parts
    of each beat.

    Parameters
    ----------
    config : HwConfig
        A machine with source "resident".

    Members
    -------
    i_write : stream of ``protocol.write_layout``, input
        {address, word}: a word from the host.
    i_read : stream of ``protocol.read_layout``, input
        {address, count}: a request of the host, only while ``running`` is 0.
    o_read : stream of words, output
        Exactly ``count`` words for each request.
    running : 1 bit, input
        The machine runs: rows and the record stream are read.
    setup : ``protocol.SETUP_LAYOUT``, input
        The last SETUP record, constant from the cycle before ``running`` rises.
    i_start : stream of ``layouts.token_payload``, input
        {token, stream}: a request for the row of a token.
    o_row : stream of words, output
        The ``embedding_row_words`` words of the token's row.
    o_words : stream of words, output
        The words 0 to ``record_words`` - 1, repeated endlessly.
    o_trits : stream of beats, output
        The beats 0 to ``trit_beats`` - 1, repeated endlessly.

    Numerics
    --------
    None.

    Latency
    -------
    ``latency`` = 5 cycles from ``running`` to the first word, and ``trit_latency`` to the first beat. Then a word and a
    beat come in every cycle. A row takes ``row_latency`` cycles from the token to its first word, and a request of the
    host takes ``read_latency``. Then a word follows every ``side_steps`` cycles.

    Reference
    ---------
    None.
    """

    latency = 5

    def __init__(self, config: HwConfig) -> None:
        full_parts(config)
        self.config = config
        self.trit_latency = self.trit_latency_of(config)
        self.row_latency = self.row_latency_of(config)
        self.read_latency = self.row_latency - 1
        super().__init__({**memory_members(config), "o_trits": Out(stream.Signature(config.beat_bits))})

    @staticmethod
    def trit_latency_of(config: HwConfig) -> int:
        """Return ``trit_latency`` of a machine."""
        return 3 + beat_stages(config)

    @staticmethod
    def row_latency_of(config: HwConfig) -> int:
        """Return ``row_latency`` of a machine."""
        return 7 + side_steps(config)

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        config = self.config
        steps = side_steps(config)
        # A separate register, because it resets the readers. An inverter before so many resets would be slow.
        stopped = Signal(init=1)
        m.d.sync += stopped.eq(~self.running)
        fetcher, fetched = _add_fetcher(m, self, stages=TritParts.side_stages, steps=steps)
        words = _add_reader(
            m,
            "words",
            ReaderAhead(config.word_bits, ceil_log2(config.memory_words), stages=2),
            stopped,
            self.setup.record_words,
            self.o_words,
        )
        trits = _add_reader(
            m,
            "trits",
            ReaderAhead(config.beat_bits, ceil_log2(config.trit_beats), beat_stages(config), _fifo_bits(config)),
            stopped,
            self.setup.trit_beats,
            self.o_trits,
        )
        # The machine may restart one cycle before the readers, and in this cycle it must not receive old words.
        m.d.comb += [self.o_words.valid.eq(words.o.valid & ~stopped), self.o_trits.valid.eq(trits.o.valid & ~stopped)]
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

        # The port of the words serves the host while the machine does not run. Reading a word takes as many cycles as
        # reading a word of the trits.
        asked = registers(m, Mux(stopped, registers(m, asked, 2), words.address), 1)
        found = _memory(
            m, "memory", config.word_bits, config.memory_words, write=(address, word, writes & ~of_trits), address=asked
        )
        record_word = Signal.like(found, name="record_word", reset_less=True)  # block RAMs and their choice are slow
        m.d.sync += record_word.eq(found)
        m.d.comb += words.data.eq(record_word)
        of_trits, step = registers(m, fetcher.address[TRIT_MEMORY_BIT], 4), registers(m, fetcher.step, 4)
        shown = registers(m, Mux(of_trits, 0, found.word_select(step, len(parts.word))), 1)
        kept = Signal(config.word_bits - len(parts.word), reset_less=True)  # the bits of all steps except the last step
        m.d.comb += fetched.eq(Cat(kept, parts.word | shown))
        m.d.sync += kept.eq(fetched[len(parts.word) :])
        return m


class StreamedMemory(wiring.Component):
    """Stores operations, gains, trits and embedding rows in one memory of words, in block RAM.

    A controller of external memory may replace this memory. The controller must answer every request, in order.
    ``o_words`` and ``o_row`` may pause at any time, and the words per second limit the tokens per second. The
    controller may rely on three facts. A row is requested while no word of ``o_words`` is accepted, because the lanes
    wait for the row. The records repeat, so they can be prefetched in bursts. Requests of the host and of the readers
    never overlap.

    The two readers share the port, so each word of a row delays the record stream by one cycle. A change from one
    reader to the other loses no cycle.

    Addresses count words. The row of token k begins at word ``embedding_base + k * embedding_stride``.

    Parameters
    ----------
    config : HwConfig
        A machine with source "streamed" and memory "block".

    Members
    -------
    i_write : stream of ``protocol.write_layout``, input
        {address, word}: a word from the host.
    i_read : stream of ``protocol.read_layout``, input
        {address, count}: a request of the host, only while ``running`` is 0.
    o_read : stream of words, output
        Exactly ``count`` words for each request.
    running : 1 bit, input
        The machine runs: rows and the record stream are read.
    setup : ``protocol.SETUP_LAYOUT``, input
        The last SETUP record, constant from the cycle before ``running`` rises.
    i_start : stream of ``layouts.token_payload``, input
        {token, stream}: a request for the row of a token.
    o_row : stream of words, output
        The ``embedding_row_words`` words of the token's row.
    o_words : stream of words, output
        The words 0 to ``record_words`` - 1, repeated endlessly.

    Numerics
    --------
    None.

    Latency
    -------
    ``latency`` = 2 cycles from ``running`` to the first word. ``row_latency`` = 4 from a token to the first word of its
    row, and ``read_latency`` = 3 from a host's request to the first word. Then a word follows in each cycle.

    Reference
    ---------
    None.
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
        words = _add_reader(m, "words", repeater, ~self.running, self.setup.record_words, self.o_words)
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
    """Return the address, word and enable of the host's writes. These signals come from registers, because each of them
    is connected to every block RAM."""
    address = Signal(len(i_write.payload.address), name="write_address", reset_less=True)
    word = Signal(len(i_write.payload.word), name="write_word", reset_less=True)
    writes = Signal()
    m.d.comb += i_write.ready.eq(1)
    m.d.sync += [address.eq(i_write.payload.address), word.eq(i_write.payload.word), writes.eq(i_write.valid)]
    return address, word, writes


def _written_in_chunks(m: Module, i_write: Any, bits: int) -> tuple[Value, ...]:
    """Return the address, word and enable of the host's writes from registers, and whether a write is in progress.

    The word shifts down by ``bits`` in each cycle.
    """
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
    """Add a block RAM, and return the word at ``address``, one cycle later. ``write`` is (address, word, enable).

    No block uses a word that is read while it is written. ``no_rw_check`` tells this to the synthesis.
    """
    m.submodules[name] = memory = new_memory(bits, depth, attrs={"no_rw_check": 1})
    port = memory.write_port()
    m.d.comb += [ours.eq(theirs) for ours, theirs in zip((port.addr, port.data, port.en), write, strict=True)]
    return read_register(m, memory, address, enable)


__all__ = ["ResidentMemory", "StreamedMemory"]
