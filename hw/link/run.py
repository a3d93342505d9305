"""The command RUN, which sends its feeds to the decoder, then executes in the background while commands are received.

    buffer ─► feed (11 bytes) ─► o_feed, once for each stream ─► o_run
    i_token ─► tokens (memory) ─► response            status ─► done (registers) ─► response

The response is kept until another command comes, so it can be sent again (`is_stored`). A command with the sequence
number and the CRC of the last RUN is a repetition of this RUN (`is_same`).

Cost: 12 cycles for each stream before the run starts, a memory of 128 tokens, and registers for a feed, for sequence
number and CRC of a RUN, and for 112 bits of figures.
"""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data
from amaranth.utils import exact_log2

from lutern.hw import protocol
from lutern.hw.link.checks import Check, CommandChecks, Handler, Range
from lutern.hw.link.receiver import CommandReceiver
from lutern.hw.link.response import Answer, ResponseMux
from lutern.hw.pipeline import exceeds, new_memory
from lutern.hw.protocol import FEED, HEADER_BYTES, RUN_DONE, RUN_TOKENS, ErrorCode

FEEDS_AT = HEADER_BYTES + protocol.RUN.byte_count
"""Position in a frame at which the feeds of a RUN begin."""
RUN_COUNT_BITS = RUN_TOKENS.bit_length()
assert FEED.byte_count == 8 + 2 + 1  # lengths are computed by shifts


class Run:
    """Adds the command RUN to a module: its handler, its feeds, its background logic and its stored response.

    Parameters
    ----------
    m : Module
        The module to which the logic is added.
    port
        The `HostPort`, for its streams and `running`.
    receiver, checks, response
        The other classes of the port.
    token_limit : int
        Largest number of tokens of a run, all streams together.

    Members
    -------
    is_busy : 1 bit, register
        The decoder executes a run.
    is_finished : 1 bit, register
        The run has ended and its response is due. The state NOTIFY, which sends the response, sets ``is_finished`` to
        0.
    is_failed : 1 bit, register
        The run ended before its last token, and ``failure`` is the response.
    failure : ErrorCode, register
        The reason of the failure: the memory has a fault, the weights are damaged, a step took longer than its limit,
        or another command stopped the machine.
    is_same : 1 bit, register
        The command is a repetition of the last RUN.
    is_stored : 1 bit, register
        The response of the last RUN is stored, and no other command has come since.
    is_resend : 1 bit, register
        The command is a repetition of the last RUN, and the response of this RUN is stored.
    sequence : 8 bits, register
        The sequence number of the last RUN.
    feed_byte, feed_index : registers
        Index of a byte in a feed, and number of the feed. The two registers must be 0 when the first feed begins.

    Latency
    -------
    ``is_same`` and ``is_resend`` are valid one cycle after `compare`. ``o_run`` is valid ``12 * streams`` cycles after
    the first cycle of the state FEED if the decoder accepts each feed without a wait.
    """

    def __init__(
        self,
        m: Module,
        port: Any,
        receiver: CommandReceiver,
        checks: CommandChecks,
        response: ResponseMux,
        token_limit: int,
    ) -> None:
        self._m, self._port, self._receiver, self._checks, self._response = m, port, receiver, checks, response
        self._arguments = receiver.command.fields(protocol.RUN)
        self._token_limit = token_limit
        self.is_busy, self.is_finished = Signal(name="is_busy"), Signal(name="is_finished")
        self.is_failed, self.failure = Signal(name="is_failed"), Signal(ErrorCode, name="failure")
        self.is_same, self.is_resend = Signal(name="is_same"), Signal(name="is_resend")
        self.is_stored = Signal(name="is_stored")
        self.sequence, self._crc = Signal(8, name="run_sequence"), Signal(32, name="run_crc")
        self.feed_byte = Signal(range(FEED.byte_count), name="feed_byte")
        self.feed_index = Signal(protocol.STREAM_BITS, name="feed_index")
        self._feed_bytes = Signal(8 * FEED.byte_count, name="feed_bytes")
        self._done = Signal(RUN_DONE.layout, name="done")
        self._connect_feed(data.View(FEED.layout, self._feed_bytes))
        run = self._arguments
        m.d.comb += [
            port.o_run.p.count.eq(run.count),
            port.o_run.p.final_stream.eq(run.streams - 1),
            port.o_run.p.chained.eq(run.chained),
            port.o_run.p.temperature.eq(run.temperature),
        ]

    def compare(self, brings_host_words: Value) -> None:
        """Add statements to the first cycle in which a command is complete.

        RECORDS and ROW bring words from the host and do not count as commands.

        Parameters
        ----------
        brings_host_words : Value
            The command is RECORDS or ROW.
        """
        m, command = self._m, self._receiver.command
        is_same = (command.sequence == self.sequence) & (command.crc == self._crc)
        m.d.sync += self.is_same.eq(is_same)
        with m.If(~brings_host_words):
            m.d.sync += [self.is_stored.eq(self.is_stored & is_same), self.is_resend.eq(self.is_stored & is_same)]

    def handler(self) -> Handler:
        """Return the entry of RUN in the table of commands."""
        done = self._done
        return Handler(
            self._check(),
            needs_memory=True,
            begin=self._begin,
            add_states=self._add_states,
            answer=Answer(done.as_value(), RUN_DONE.byte_count, item_count=done.count),
        )

    def _check(self) -> Check:
        m, run, config = self._m, self._arguments, self._port.config
        # The frame's length is compared with a register, because `streams` arrives long before the last feed.
        feeds_end = Signal(range(FEEDS_AT + 255 * FEED.byte_count + 1))
        m.d.sync += feeds_end.eq(FEEDS_AT + (run.streams << 3) + (run.streams << 1) + run.streams)
        streams = run.streams[: config.streams.bit_length()]
        token_count = sum(
            (Mux(streams[bit], run.count[:RUN_COUNT_BITS] << bit, 0) for bit in range(len(streams))), start=Const(0, 1)
        )
        is_new = ~self.is_busy & ~self.is_resend
        range_end = self._checks.range.end
        bad_count = (
            (range_end == 0)
            | exceeds(range_end, self._token_limit)
            | exceeds(run.count, self._token_limit)
            | exceeds(run.streams, config.streams)
        )
        return Check(
            self._receiver.command.byte_count != feeds_end,
            Range(Const(0), token_count),
            (
                ((self.is_busy | self.is_finished) & ~self.is_same, ErrorCode.BUSY),
                (is_new & ~self._port.running, ErrorCode.NOT_SET_UP),
                (is_new & bad_count, ErrorCode.BAD_COUNT),
            ),
            data_at=FEEDS_AT,
        )

    def _begin(self) -> None:
        m = self._m
        with m.If(self.is_busy):
            m.next = "RELEASE"
        with m.Elif(~self.is_resend):
            m.d.sync += self._done.count.eq(0)
            m.next = "FEED"

    def _add_states(self) -> None:
        """Add the states of a RUN.

        FEED reads the bytes of a feed, OFFER sends the feed to the decoder, and RUN starts the run when all feeds were
        sent.
        """
        m, port, receiver = self._m, self._port, self._receiver
        next_feed_bytes = Cat(self._feed_bytes[8:], receiver.buffered_byte)
        bad_token = Signal()
        with m.State("FEED"):
            m.d.comb += receiver.advance.eq(1)
            m.d.sync += [self._feed_bytes.eq(next_feed_bytes), self.feed_byte.eq(self.feed_byte + 1)]
            m.d.sync += bad_token.eq(data.View(FEED.layout, next_feed_bytes).token >= port.setup.vocab)
            with m.If(self.feed_byte == FEED.byte_count - 1):
                m.d.sync += self.feed_byte.eq(0)
                m.next = "OFFER"
        with m.State("OFFER"):
            m.d.comb += port.o_feed.valid.eq(1)
            with m.If(port.o_feed.ready):
                m.d.sync += self.feed_index.eq(self.feed_index + 1)
                m.next = "FEED"
                with m.If(self.feed_index == port.o_run.p.final_stream):
                    m.next = "RUN"
            with m.If(bad_token):
                m.d.comb += port.o_feed.valid.eq(0)
                self._checks.refuse(ErrorCode.BAD_TOKEN)
                m.next = "REPLY"
        with m.State("RUN"):
            m.d.comb += port.o_run.valid.eq(1)
            with m.If(port.o_run.ready):
                command = receiver.command
                m.d.sync += [
                    self.is_busy.eq(1),
                    self.is_failed.eq(0),
                    self.sequence.eq(command.sequence),
                    self._crc.eq(command.crc),
                ]
                m.next = "RELEASE"

    def _connect_feed(self, feed: Any) -> None:
        payload = self._port.o_feed.p
        self._m.d.comb += [
            payload.stream.eq(self.feed_index),
            payload.token.eq(feed.token),
            payload.state_base.eq(feed.state_base),
            payload.fresh.eq(feed.fresh),
            payload.seed.eq(feed.seed),
        ]

    def _is_too_long(self) -> Value:
        """Return whether a step takes longer than its limit.

        The decoder counts the cycles from the start of the step, and a token that arrives ends the step.
        """
        m, limit, cycles = self._m, self._port.setup.step_limit, self._port.status.cycles
        late = Signal(name="step_is_late")
        units = cycles[exact_log2(protocol.STEP_LIMIT_CYCLES) :][: len(limit)]
        m.d.sync += late.eq((units == limit) & limit.any() & self.is_busy & ~self._port.i_token.valid)
        return late

    def add_background(self, is_checking: Value) -> None:
        """Add the logic that runs in the background. This logic stores the tokens and the figures of the last step for
        the response.

        Parameters
        ----------
        is_checking : Value
            A command is being checked, and the background logic waits. This must be a register, because the path of a
            token through the decoder begins here.
        """
        m, port, done = self._m, self._port, self._done
        m.submodules.tokens = tokens = new_memory(16, self._token_limit)
        write = tokens.write_port()
        read = tokens.read_port()
        takes_token = port.i_token.valid & port.i_token.ready
        m.d.comb += [
            port.i_token.ready.eq(self.is_busy & ~is_checking),
            write.addr.eq(done.count),
            write.data.eq(port.i_token.p.token),
            write.en.eq(takes_token),
            read.addr.eq(self._response.item_address),
            read.en.eq(1),
            self._response.token_data.eq(read.data),
        ]
        with m.If(takes_token):
            m.d.sync += [
                done.count[:RUN_COUNT_BITS].eq(done.count[:RUN_COUNT_BITS] + 1),
                done.cycles.eq(port.status.cycles),
                done.beats.eq(port.status.beats),
                done.words.eq(port.status.words),
                done.saturations.eq(port.status.saturations),
            ]
            with m.If(port.i_token.p.last):
                m.d.sync += [self.is_busy.eq(0), self.is_finished.eq(1), self.is_stored.eq(1)]
        reasons = [
            *self._checks.fault_refusals(),
            (port.damage.kind != protocol.Damage.NONE, ErrorCode.WEIGHTS_DAMAGED),
            (self._is_too_long(), ErrorCode.RUN_TOO_LONG),
        ]
        failing = Signal(name="failing")
        m.d.comb += failing.eq(self.is_busy & ~is_checking & ~port.i_token.valid)
        for index, (reason, code) in enumerate(reasons):
            with (m.If if index == 0 else m.Elif)(failing & reason):
                m.d.sync += [self.failure.eq(code), self.is_failed.eq(1)]
                m.d.sync += [self.is_busy.eq(0), self.is_finished.eq(1), port.stopped.eq(1)]
        with m.If(~port.running & self.is_busy):  # another command has stopped the machine
            m.d.sync += [self.failure.eq(ErrorCode.NOT_SET_UP), self.is_failed.eq(1)]
            m.d.sync += [self.is_busy.eq(0), self.is_finished.eq(1)]
