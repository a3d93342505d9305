"""WRITE moves words from the buffer to the memory, and CHECKSUM computes the CRC of words that are read back.

    buffer ─► word ─► o_write (or o_host)       state COLLECT: one byte per cycle enters the word; STORE: send the word
    o_read (state REQUEST)
    i_read ─► word ─► CRC-32C                   state SUM: one byte per cycle leaves the word

WRITE and CHECKSUM shift the register `word`. The lowest byte of `word` is the first byte.

Cost: a WRITE of n bytes takes n (1 + 1 / word_bytes) cycles, and a CHECKSUM one cycle per byte. The two commands share
one word of registers.
"""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Signal, Value

from lutern.hw import protocol
from lutern.hw.config import TRIT_MEMORY
from lutern.hw.link.checks import Check, Handler, Range
from lutern.hw.link.crc import Crc32c
from lutern.hw.link.executor import Executor
from lutern.hw.link.receiver import WORDS_AT
from lutern.hw.link.response import Answer
from lutern.hw.pipeline import exceeds
from lutern.hw.protocol import HEADER_BYTES, ErrorCode


class MemoryCommands:
    """Adds the registers and streams of WRITE and CHECKSUM to a module. The caller adds their entries to the table of
    commands.

    Parameters
    ----------
    m : Module
        The module to which the logic is added.
    port
        The `HostPort`, for its streams.
    executor : Executor
        The FSM to which the states are added.

    Members
    -------
    word : ``8 * word_bytes`` bits, register
        A word on its way to the memory or back.
    out_of_range : 1 bit, output
        Some words of the command's range are outside the memory. Valid in the state CHECK.

    Latency
    -------
    The state STORE follows ``word_bytes`` cycles after COLLECT. A CHECKSUM accepts the next word in the cycle in which
    it processes the last byte of the present word.
    """

    def __init__(self, m: Module, port: Any, executor: Executor) -> None:
        self._m, self._port, self._executor = m, port, executor
        self._receiver, self._range = executor.receiver, executor.checks.range
        self.word = Signal(8 * port.config.word_bytes, name="word")
        self.out_of_range = Signal(name="out_of_range")
        self._loaded = Signal(name="loaded")  # the word has bytes that are not in the CRC yet
        executor.begin_resets.append(self._loaded)
        self._range_bits = port.config.address_bits + 1
        self._add_limits()

    def wrong_length_of_words(self) -> Value:
        """Return the rule for the length of commands that carry words."""
        command = self._receiver.command
        return ~exceeds(command.byte_count, WORDS_AT - 1) | command.partial_word | (command.word_count == 0)

    def written_range(self) -> Range:
        """Return the range of the words that a command carries."""
        command = self._receiver.command
        address = command.fields(protocol.WRITE).address
        return Range(address, command.word_count, address[self._range_bits :].any())

    def read_range(self) -> Range:
        """Return the range of the words that a CHECKSUM or MEMORY_TEST names."""
        check, bits = self._receiver.command.fields(protocol.CHECKSUM), self._range_bits
        return Range(check.address, check.count, check.address[bits:].any() | check.count[bits:].any())

    def read_refusals(self) -> tuple[tuple[Value, ErrorCode], ...]:
        """Return the conditions and error codes for which a range to be read is refused."""
        check = self._receiver.command.fields(protocol.CHECKSUM)
        return (check.count == 0, ErrorCode.BAD_COUNT), (self.out_of_range, ErrorCode.BAD_ADDRESS)

    def add_word_states(self, output: Any, final_state: str) -> None:
        """Add the states COLLECT and STORE, which send the words of the buffer.

        Parameters
        ----------
        output
            The stream that receives the words.
        final_state : str
            The state that follows the last word.
        """
        m, receiver = self._m, self._receiver
        with m.State("COLLECT"):
            m.d.comb += receiver.advance.eq(1)
            m.d.sync += self.word.eq(Cat(self.word[8:], receiver.buffered_byte))
            receiver.next_byte()
            with m.If(receiver.ends_word):
                self._range.count_down()
                m.next = "STORE"
        with m.State("STORE"):
            m.d.comb += output.valid.eq(1)
            with m.If(output.ready):
                m.d.sync += self._range.first.eq(self._range.first + 1)
                m.next = "COLLECT"
                with m.If(self._range.is_empty):
                    m.next = final_state
            self._executor.checks.refuse_on_fault("REPLY")

    def _add_limits(self) -> None:
        m, config, overflows, end = self._m, self._port.config, self._range.overflows, self._range.end
        words = 0 if config.memory == "host" else config.memory_words
        m.d.comb += self.out_of_range.eq(overflows | exceeds(end, words))
        if config.source == "resident":
            # CHECKSUM and MEMORY_TEST have the address in the same field.
            address = self._receiver.command.fields(protocol.WRITE).address
            trits_end = TRIT_MEMORY + (config.trit_beats << config.part_bits)
            with m.If(exceeds(address, TRIT_MEMORY - 1)):
                m.d.comb += self.out_of_range.eq(overflows | exceeds(end, trits_end))

    def write_handler(self) -> Handler:
        """Return the entry of WRITE in the table of commands."""
        m, port, next_address = self._m, self._port, self._range.first
        m.d.comb += [port.o_write.p.address.eq(next_address), port.o_write.p.word.eq(self.word)]
        # With memory "host" the chip has no memory of words, so every WRITE is out of range.
        from_host = port.config.memory == "host"
        return Handler(
            Check(self.wrong_length_of_words(), self.written_range(), ((self.out_of_range, ErrorCode.BAD_ADDRESS),)),
            stops_machine=True,
            needs_memory=True,
            first_state="COLLECT",
            add_states=None if from_host else lambda: self.add_word_states(port.o_write, "REPLY"),
            answer=Answer(Cat(next_address, Const(0, 32))[:32], protocol.WRITE_DONE.byte_count),
        )

    def checksum_handler(self) -> Handler:
        """Return the entry of CHECKSUM in the table of commands."""
        m, port, command = self._m, self._port, self._receiver.command
        m.submodules.checksum = checksum = Crc32c()
        check = command.fields(protocol.CHECKSUM)
        m.d.comb += [
            port.o_read.p.address.eq(check.address),
            port.o_read.p.count.eq(check.count),
            checksum.data.eq(self.word[:8]),
        ]
        return Handler(
            Check(
                command.byte_count != HEADER_BYTES + protocol.CHECKSUM.byte_count,
                self.read_range(),
                self.read_refusals(),
            ),
            stops_machine=True,
            needs_memory=True,
            first_state="REQUEST",
            add_states=lambda: self._add_checksum_states(checksum),
            answer=Answer(checksum.crc, protocol.CHECKSUM_DONE.byte_count),
        )

    def _add_checksum_states(self, checksum: Any) -> None:
        m, port, receiver, range_, loaded = self._m, self._port, self._receiver, self._range, self._loaded
        with m.State("REQUEST"):
            m.d.comb += [port.o_read.valid.eq(1), checksum.start.eq(1)]
            with m.If(port.o_read.ready):
                m.next = "SUM"
            self._executor.checks.refuse_on_fault("REPLY")
        with m.State("SUM"):
            m.d.comb += [
                checksum.valid.eq(loaded),
                port.i_read.ready.eq((~loaded | receiver.ends_word) & ~range_.is_empty),
            ]
            with m.If(loaded):  # shifted as in COLLECT, to share the multiplexer; the byte that enters is unused
                m.d.sync += self.word.eq(Cat(self.word[8:], receiver.buffered_byte))
                receiver.next_byte()
                with m.If(receiver.ends_word):
                    m.d.sync += loaded.eq(0)
                    with m.If(range_.is_empty):
                        m.next = "REPLY"
            with m.If(port.i_read.valid & port.i_read.ready):
                m.d.sync += [self.word.eq(port.i_read.payload), loaded.eq(1)]
                range_.count_down()
            self._executor.checks.refuse_on_fault("REPLY")
