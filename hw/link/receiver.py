"""Receives commands. The whole frame is stored in a buffer, and its first bytes are also stored in registers.

    line ─► Deframer ─► item (register) ─┬─► buffer (block RAM) ─► buffered_byte
                                         ├─► head (registers) ───► command.opcode, sequence, arguments
                                         └─► counters ───────────► command.byte_count, word_count, partial_word

A register separates the deframer from all logic that reads its bytes, because the placer spreads small blocks over a
large chip.

Cost: one block RAM of 1,024 bytes, some 260 registers.
"""

from typing import Any

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import data, wiring
from amaranth.utils import bits_for

from lutern.hw import protocol
from lutern.hw.link.slip import DEFRAMED, Deframer
from lutern.hw.pipeline import exceeds, new_memory
from lutern.hw.protocol import FRAME_BYTES, HEADER_BYTES, WireRecord

ARGUMENT_BYTES = max(protocol.COMMAND_BYTES.values())
"""Number of bytes of the longest record that follows an opcode and a sequence number."""
BUFFER_BYTES = 1024
WORDS_AT = HEADER_BYTES + protocol.WRITE.byte_count
"""Position in a frame at which the words of a WRITE begin."""


class Command:
    """The command in the receiver, valid from the end of its frame until ``release``.

    Members
    -------
    opcode, sequence : 8 bits each
        The header.
    arguments : ``8 * ARGUMENT_BYTES`` bits
        The bytes that follow the header. ``fields`` returns them as a record with named fields.
    byte_count : ``range(FRAME_BYTES)``
        Number of bytes of the frame without its CRC.
    word_count : ``range(FRAME_BYTES)``
        Number of whole memory words from ``WORDS_AT`` on.
    partial_word : 1 bit
        1 if bytes follow the last whole word.
    crc : 32 bits
        The CRC that came with the frame.
    """

    def __init__(self) -> None:
        head = Signal(8 * (HEADER_BYTES + ARGUMENT_BYTES))
        self.head = head
        self.opcode, self.sequence, self.arguments = head[0:8], head[8:16], head[16:]
        self.byte_count = Signal(range(FRAME_BYTES))
        self.word_count = Signal(range(FRAME_BYTES))
        self.partial_word = Signal()
        self.crc = Signal(32, name="frame_crc")

    def fields(self, record: WireRecord) -> Any:
        """Return the arguments, read as `record`."""
        return data.View(record.layout, self.arguments[: record.layout.size])


class CommandReceiver:
    """Adds the receiver to a module. The FSM of the host port drives the inputs.

    Parameters
    ----------
    m : Module
        The module to which the logic is added.
    line : stream of 8 bits, input
        Raw bytes.
    word_bytes : int
        Bytes of a memory word.

    Members
    -------
    command : Command, output
        The command.
    accept : 1 bit, input
        Accept an item from the deframer. ``accept`` must be 0 while ``has_item`` is 1.
    has_item : 1 bit, output
        A byte or the end of a frame is in ``item``.
    item : ``slip.DEFRAMED``, output
        The item that came from the deframer.
    frame_arrived : 1 bit, output
        ``item`` is the end of a good frame, so ``command`` is valid from the next cycle on.
    pointer : ``range(FRAME_BYTES)``, register
        The position of ``buffered_byte`` in the frame. ``pointer`` must be set two cycles before the byte is read.
    advance : 1 bit, input
        ``pointer`` moves to the next byte.
    buffered_byte : 8 bits, output
        The byte at ``pointer``.
    byte_index : ``range(word_bytes)``, register
        Number of bytes of an unfinished memory word, while words arrive, are written or enter a CRC. A user of
        ``buffered_byte`` must count with ``next_byte`` and must leave ``byte_index`` at 0.
    ends_word : 1 bit, output
        ``byte_index`` is the index of the last byte of a word.
    dropped_frames : 16 bits, register
        Number of damaged frames, modulo 2^16.

    Latency
    -------
    An item is in ``item`` one cycle after the deframer has delivered it, and in ``command`` one cycle later.
    """

    def __init__(self, m: Module, line: Any, word_bytes: int) -> None:
        self._m = m
        self.command = Command()
        self.accept, self.advance = Signal(name="accept"), Signal(name="advance")
        self.item, self.has_item = Signal(DEFRAMED, name="item"), Signal(name="has_item")
        self.frame_arrived: Value = self.item.end & self.item.good
        self.pointer = Signal(range(FRAME_BYTES), name="pointer")
        self.byte_index = Signal(range(word_bytes), name="byte_index")
        self.ends_word: Value = self.byte_index == word_bytes - 1
        self.dropped_frames = Signal(16, name="dropped_frames")
        self._add_deframer(line)
        self._add_buffer()

    def next_byte(self) -> None:
        """Count one byte of a memory word."""
        m = self._m
        m.d.sync += self.byte_index.eq(self.byte_index + 1)
        with m.If(self.ends_word):
            m.d.sync += self.byte_index.eq(0)

    def release(self) -> None:
        """Empty the buffer for the next frame."""
        self._m.d.sync += [self.command.byte_count.eq(0), self.command.word_count.eq(0)]

    def _add_deframer(self, line: Any) -> None:
        m, command, item = self._m, self.command, self.item
        m.submodules.deframer = deframer = Deframer()
        wiring.connect(m, wiring.flipped(line), deframer.i)
        m.d.comb += deframer.o.ready.eq(self.accept)
        m.d.sync += [item.eq(deframer.o.p), self.has_item.eq(deframer.o.valid & deframer.o.ready)]
        position = command.byte_count
        with m.If(self.has_item):
            with m.If(item.end):
                m.d.sync += [
                    self.byte_index.eq(0),
                    command.partial_word.eq(self.byte_index != 0),
                    command.crc.eq(deframer.crc),
                ]
                with m.If(~item.good):
                    m.d.sync += self.dropped_frames.eq(self.dropped_frames + 1)
                    self.release()
            with m.Else():
                m.d.sync += position.eq(position + 1)
                with m.If(~exceeds(position, HEADER_BYTES + ARGUMENT_BYTES - 1)):
                    m.d.sync += command.head.word_select(position[: bits_for(ARGUMENT_BYTES)], 8).eq(item.byte)
                with m.If(exceeds(position, WORDS_AT - 1)):
                    self.next_byte()
                    with m.If(self.ends_word):
                        m.d.sync += command.word_count.eq(command.word_count + 1)

    def _add_buffer(self) -> None:
        m = self._m
        m.submodules.buffer = buffer = new_memory(8, BUFFER_BYTES)
        store = buffer.write_port()
        fetch = buffer.read_port()
        self.buffered_byte: Value = fetch.data
        m.d.comb += [
            store.addr.eq(self.command.byte_count),
            store.data.eq(self.item.byte),
            store.en.eq(self.has_item),
            # The address is the next value of pointer, so fetch.data is always the byte at pointer.
            fetch.addr.eq(self.pointer + self.advance),
            fetch.en.eq(1),
        ]
        m.d.sync += self.pointer.eq(self.pointer + self.advance)
