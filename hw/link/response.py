"""Sends a response: the opcode selects the answer, which is then serialised, framed and queued.

    answers (table) ─► multiplexer ─► Reply ─► register ─► Framer ─► FIFO ─► line

A byte passes the register between Reply and Framer in two cycles. This is fast enough, because a byte takes tens of
cycles on a line.
"""

from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.utils import bits_for

from lutern.hw.link.reply import LOGIT_BITS, Reply
from lutern.hw.link.slip import FRAMED, Framer
from lutern.hw.protocol import Opcode

COUNTER_BITS = 32
ANSWER_BYTES = 32
"""Number of bytes of responses that can wait for the line. This is enough for the response to one WRITE, even if every
byte is escaped."""
LONG_ANSWER_BYTES = 1024
"""Number of bytes of responses that can wait for the line, on machines that request words from the host while other
responses wait."""


@dataclass(frozen=True)
class Answer:
    """The response to one opcode.

    Parameters
    ----------
    fixed : Value
        The fixed part.
    byte_count : int
        Number of bytes of the fixed part.
    item_count : Value | None
        Number of items that follow, which are read from a memory; None for no items.
    item_offset : Value | None
        The first item; None for item 0.
    """

    fixed: Value
    byte_count: int
    item_count: Value | None = None
    item_offset: Value | None = None


class ResponseMux:
    """Adds the response multiplexer to a module.

    Parameters
    ----------
    m : Module
        The module to which the logic is added.
    line : stream of 8 bits, output
        Raw bytes.
    has_counters : bool
        If true, long items have the 32 bits of a counter, otherwise the 24 bits of a logit.
    has_host : bool
        If true, words come from the host, so the FIFO of the responses must be longer.

    Members
    -------
    valid : 1 bit, input
        Send the response of ``opcode``, which must be stable until ``ready``.
    ready : 1 bit, output
        The last byte of the response enters the register before the Framer in this cycle.
    opcode : 8 bits, input
        The command that is answered.
    sequence : 8 bits, input
        The sequence number of the command.
    item_address : 16 bits, output
        Selects an item of the response, for a synchronous read.
    token_data : 16 bits, input
        The token at ``item_address``, one cycle later.
    long_data : signed, 24 or 32 bits, input
        The logit or counter at ``item_address``, one cycle later.

    Latency
    -------
    The first byte reaches the Framer one cycle after ``valid``.
    """

    def __init__(self, m: Module, line: Any, *, has_counters: bool, has_host: bool) -> None:
        self._m = m
        m.submodules.framer = framer = Framer()
        m.submodules.reply = reply = Reply(COUNTER_BITS if has_counters else LOGIT_BITS)
        depth = LONG_ANSWER_BYTES if has_host else ANSWER_BYTES
        m.submodules.answers = answers = SyncFIFOBuffered(width=8, depth=depth)
        wiring.connect(m, framer.o, answers.w_stream)
        wiring.connect(m, answers.r_stream, wiring.flipped(line))
        self._reply = reply
        self.valid, self.ready = reply.i.valid, reply.i.ready
        self.opcode, self.sequence = Signal(8, name="answered_opcode"), reply.i.p.sequence
        self.item_address, self.token_data, self.long_data = reply.item_address, reply.token_data, reply.long_data

        # A register between the selection of the next byte and the Framer cuts the paths of data and ready.
        held = Signal(FRAMED)
        is_held = Signal()
        m.d.comb += [framer.i.p.eq(held), framer.i.valid.eq(is_held), reply.o.ready.eq(~is_held)]
        with m.If(~is_held):
            m.d.sync += [held.eq(reply.o.p), is_held.eq(reply.o.valid)]
        with m.Elif(framer.i.ready):
            m.d.sync += is_held.eq(0)

    def add_answers(self, error: Value, answers: dict[Opcode, Answer]) -> None:
        """Add the multiplexer of the answers.

        Parameters
        ----------
        error : Value
            If ``error`` is not 0, the response is ``error``.
        answers : dict[Opcode, Answer]
            The answer of each opcode. An opcode without an answer has a response of header bytes only.
        """
        m, reply = self._m, self._reply
        m.d.comb += reply.i.p.opcode.eq(self.opcode)
        with m.If(Value.cast(error) != 0):
            m.d.comb += reply.i.p.opcode.eq(Opcode.ERROR)
            self._send(Answer(Value.cast(error), 1))
        with m.Else():
            with m.Switch(self.opcode):
                for opcode, answer in answers.items():
                    with m.Case(opcode):
                        self._send(answer)

    def _send(self, answer: Answer) -> None:
        m, reply = self._m, self._reply
        index = reply.fixed_index[: bits_for(answer.byte_count - 1)]
        m.d.comb += [
            reply.fixed_byte.eq(answer.fixed.word_select(index, 8)),
            reply.i.p.fixed_count.eq(answer.byte_count),
        ]
        if answer.item_count is not None:
            m.d.comb += reply.i.p.item_count.eq(answer.item_count)
        if answer.item_offset is not None:
            m.d.comb += reply.i.p.item_offset.eq(answer.item_offset)
