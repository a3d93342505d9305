"""From an answer to the line: the parts of a response are chosen by opcode, serialised, framed and queued.

    answers (table) ─► multiplexer ─► Reply ─► register ─► Framer ─► FIFO ─► line

A byte takes two cycles at the register between Reply and Framer; a line needs tens.
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
"""Bytes of responses that wait for the line: one to a WRITE, with every byte escaped."""
LONG_ANSWER_BYTES = 1024
"""The same of machines that ask the host for words while others are on the way."""


@dataclass(frozen=True)
class Answer:
    """What the response to one opcode is made of: `fixed`, of `byte_count` bytes, then `item_count` items of a memory
    from `item_offset` on; None for no items, and from the first on."""

    fixed: Value
    byte_count: int
    item_count: Value | None = None
    item_offset: Value | None = None


class ResponseMux:
    """Adds the response multiplexer to a module.

    Parameters
    ----------
    m
        The module that gets the logic.
    line : stream of 8 bits, output
        Raw bytes.
    has_counters
        Long items have the 32 bits of a counter, not the 24 of a logit.
    has_host
        Words come from the host: a longer FIFO.

    Members
    -------
    valid : 1 bit, input
        Send the response of ``opcode``, which must stay until ``ready``.
    ready : 1 bit, output
        The last byte of the response has left towards the Framer.
    opcode : 8 bits, input
        The command that is answered.
    sequence : 8 bits, input
        Its sequence number.
    item_address : 16 bits, output
        Names an item of the response, for a synchronous read.
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

        # A register between the choice of the next byte and its escaping, for data and ready.
        held = Signal(FRAMED)
        is_held = Signal()
        m.d.comb += [framer.i.p.eq(held), framer.i.valid.eq(is_held), reply.o.ready.eq(~is_held)]
        with m.If(~is_held):
            m.d.sync += [held.eq(reply.o.p), is_held.eq(reply.o.valid)]
        with m.Elif(framer.i.ready):
            m.d.sync += is_held.eq(0)

    def add_answers(self, error: Value, answers: dict[Opcode, Answer]) -> None:
        """The multiplexer: `error` when it is not 0, else the answer of `opcode`; without one, header bytes only."""
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
