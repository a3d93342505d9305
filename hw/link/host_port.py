"""The gateware's end of the link: it parses commands, executes one command at a time, and answers each command.

    i_rx ─► CommandReceiver ─► CommandChecks ─► Executor ─┬─ WRITE ────► o_write            memory_commands.py
            frame in a buffer  table of       FSM         ├─ CHECKSUM ─► o_read, i_read     memory_commands.py
                               handlers                   ├─ SETUP ────► setup, running     until the next WRITE ...
                                                          ├─ RUN ──────► o_feed, o_run, i_token   run.py
                                                          ├─ LOGITS ───► logits_stream ... logits_data, scale
                                                          ├─ MEMORY_TEST, PHASE, LEVEL, RECORDS, ROW, COUNTERS
    o_tx ◄─ ResponseMux ◄─────────────────────────────────┘                                 optional.py

hw/protocol.py has the formats. All these classes add their logic to one module, so the synthesis optimises them as one
block.

A WRITE of 512 bytes is executed in at most 768 cycles, and its response waits in a FIFO. On a serial line, the bytes of
the next frame that arrive meanwhile fit into the FIFO of the line. So the host may send frames without a pause.

Cost in time: a WRITE of n bytes takes n cycles to arrive, n (1 + 1 / word_bytes) cycles to be written, and some 30
cycles to be answered. A CHECKSUM takes one cycle per byte, and a RUN some 12 cycles per stream. Cost in memory: one
block RAM of 1,024 bytes, one block RAM of 128 tokens, and one word of registers.
"""

from typing import Any

from amaranth.hdl import Cat, Const, Elaboratable, Module, Signal, Value, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from lutern.hw import protocol
from lutern.hw.config import OUTSIDE
from lutern.hw.layouts import row_formats
from lutern.hw.link import optional
from lutern.hw.link.checks import Check, CommandChecks, Handler, Range
from lutern.hw.link.executor import Executor
from lutern.hw.link.memory_commands import MemoryCommands
from lutern.hw.link.receiver import CommandReceiver
from lutern.hw.link.reply import FIXED_BYTES, LOGIT_BITS
from lutern.hw.link.response import Answer, ResponseMux
from lutern.hw.link.run import Run
from lutern.hw.pipeline import constant, exceeds
from lutern.hw.protocol import HEADER_BYTES, RUN_TOKENS, ErrorCode, Opcode, fault_bits

HOST_OFFSET_BITS = 32
"""Bits of the offset in a RECORDS command."""
DROPPED_BYTES = 4
"""Bytes of INFO that are not constant, namely its last field, which is the number of dropped frames."""


class HostPort(wiring.Component):
    """Connects the host's commands to memory and decoder.

    Parameters
    ----------
    config
        Any object with the attributes that ``protocol.capability`` reads, and with ``source``, ``memory``,
        ``part_bits``, ``address_bits``, ``base_bits``, ``state``, ``top_k``, ``counters``, ``has_clock_tables``. If
        ``counters`` is true, it must also have ``counted_phases``.

    Members
    -------
    i_rx : stream of 8 bits, input
        Raw bytes from the line.
    o_tx : stream of 8 bits, output
        Raw bytes to the line.
    o_write : stream of ``protocol.write_layout``, output
        A word and its address.
    o_read : stream of ``protocol.read_layout``, output
        A request for ``count`` words. Exactly ``count`` words must come on ``i_read``.
    i_read : stream of ``8 * word_bytes`` bits, input
        The words that ``o_read`` requested.
    setup : ``protocol.SETUP_LAYOUT``, output
        The last SETUP record.
    running : 1 bit, output
        ``setup`` is valid. ``running`` falls with a WRITE, CHECKSUM, MEMORY_TEST, LEVEL or SETUP that is not refused,
        and with a RUN that fails. It rises one cycle after ``setup`` has changed.
    stopped : 1 bit, output
        ``running`` is 0. This is the register, because it resets the decoder, and an inverter before so many resets is
        slow.
    o_feed : stream of ``protocol.feed_layout``, output
        First token and state of each stream. All feeds come before ``o_run``.
    o_run : stream of ``protocol.RUN_LAYOUT``, output
        Starts a run. After it, one item for each token must come on ``i_token``.
    i_token : stream of ``protocol.TOKEN_LAYOUT``, input
        A token. The last token of the run is marked.
    status : ``protocol.STATUS``, input
        Figures of the last step, valid in the cycle of its token. `cycles` counts from the start of the step.
    logits_stream : ``protocol.STREAM_BITS`` bits, output
        Selects the stream of a logit, for a synchronous read.
    logits_address : 16 bits, output
        Selects the logit.
    logits_data : 24 bits signed, input
        The logit, one cycle after its address.
    scale : ``protocol.SCALE_LAYOUT``, input
        The scale of the stream's logits, one cycle after ``logits_stream``.
    damage : ``protocol.DAMAGE_LAYOUT``, input
        Damage of the weights that was found since SETUP. If there is damage, a RUN fails.
    fault : 2 bits (3 with memory "axi"), input, memories over a word source
        Faults of the memory: silent, out of order, or a transaction that the bus refused. A bit never falls.
    o_test : stream of ``protocol.range_layout``, output, memory "sdram", "ddr3", "port" or "axi"
        A range of words to be tested. One result must come on ``i_test``.
    i_test : stream of ``protocol.MEMORY_TEST_DONE.layout``, input, memory "sdram", "ddr3", "port" or "axi"
        The result of the test.
    o_phase : stream of 16 bits signed, output, memory "sdram"
        Steps by which the phase of the SDRAM's clock changes. The sum of all steps must come on ``i_phase``.
    i_phase : stream of 16 bits signed, input, memory "sdram"
        The sum of all steps.
    o_level : stream of ``protocol.level_layout``, output, memory "ddr3"
        A setting of read leveling. The bytes whose strobe was seen with the previous setting must come on ``i_level``.
    i_level : stream of one bit for each byte, input, memory "ddr3"
        The bytes whose strobe was seen with the previous setting.
    o_host : stream of ``protocol.host_word_layout``, output, memory "host"
        A word of a RECORDS or ROW frame.
    i_want : stream of ``protocol.WANT_LAYOUT``, input, memory "host"
        A response without a command. The payload must be stable until its last byte is taken.
    counters_address : 16 bits, output, with counters
        Selects a counter, for a synchronous read.
    counters_data : 32 bits, input, with counters
        The counter, one cycle after its address.
    counted : 16 bits, input, with counters
        Number of phases of the last token.

    Numerics
    --------
    None.

    Latency
    -------
    The first state of a command, or REPLY if it is refused, begins six cycles after the deframer has delivered the end
    of the frame. The receiver takes two of these cycles, and the checks take four. A response enters the Framer one
    cycle after REPLY begins.

    Reference
    ---------
    hw/protocol.py; docs/protocol.md.
    """

    def __init__(self, config: Any) -> None:
        self.config = config
        self.info = protocol.capability(config)
        self.has_sdram = config.memory == "sdram"
        self.has_ddr3 = config.memory == "ddr3"
        self.has_march = config.memory in OUTSIDE
        self.has_fault = self.has_march or (config.memory == "block" and config.state == "memory")
        self.has_host = config.memory == "host"
        self.has_counters = bool(config.counters)
        super().__init__(
            {
                **(optional.counters_ports() if self.has_counters else {}),
                **(optional.host_words_ports(config.word_bytes) if self.has_host else {}),
                **(optional.memory_test_ports(config) if self.has_march else {}),
                **(optional.phase_ports() if self.has_sdram else {}),
                **(optional.level_ports(config) if self.has_ddr3 else {}),
                **({"fault": In(fault_bits(config))} if self.has_fault else {}),
                "damage": In(protocol.DAMAGE_LAYOUT),
                "i_rx": In(stream.Signature(8)),
                "o_tx": Out(stream.Signature(8)),
                "o_write": Out(stream.Signature(protocol.write_layout(config))),
                "o_read": Out(stream.Signature(protocol.read_layout(config))),
                "i_read": In(stream.Signature(8 * config.word_bytes)),
                "setup": Out(protocol.SETUP_LAYOUT),
                "running": Out(1),
                "stopped": Out(1, init=1),  # type: ignore[call-arg]
                "o_feed": Out(stream.Signature(protocol.feed_layout(config))),
                "o_run": Out(stream.Signature(protocol.RUN_LAYOUT)),
                "i_token": In(stream.Signature(protocol.TOKEN_LAYOUT)),
                "status": In(protocol.STATUS),
                "logits_stream": Out(protocol.STREAM_BITS),
                "scale": In(protocol.SCALE_LAYOUT),
                "logits_address": Out(16),
                "logits_data": In(signed(LOGIT_BITS)),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.d.comb += self.running.eq(~self.stopped)
        receiver = CommandReceiver(m, self.i_rx, self.config.word_bytes)
        response = ResponseMux(m, self.o_tx, has_counters=self.has_counters, has_host=self.has_host)
        range_bits = self.config.address_bits + 1
        checks = CommandChecks(m, receiver, range_bits, HOST_OFFSET_BITS if self.has_host else range_bits)
        checks.memory_fault = self.fault if self.has_fault else None
        run = Run(m, self, receiver, checks, response, RUN_TOKENS)
        executor = Executor(m, self, receiver, checks, response, run)
        words = MemoryCommands(m, self, executor)

        handlers = executor.handlers
        handlers[Opcode.INFO] = self._info_handler(m, receiver)
        handlers[Opcode.DAMAGE] = self._damage_handler(receiver)
        handlers[Opcode.WRITE] = words.write_handler()
        if self.has_host:
            optional.add_host_words(m, self, executor, words)
        handlers[Opcode.CHECKSUM] = words.checksum_handler()
        if self.has_march:
            optional.add_memory_test(m, self, executor, words)
        else:
            optional.refuse(executor, Opcode.MEMORY_TEST, words.read_range())
        if self.has_sdram:
            optional.add_phase(m, self, executor)
        else:
            optional.refuse(executor, Opcode.PHASE)
        if self.has_ddr3:
            optional.add_level(m, self, executor)
        handlers[Opcode.SETUP] = self._setup_handler(m, executor)
        handlers[Opcode.RUN] = run.handler()
        handlers[Opcode.LOGITS] = self._logits_handler(m, executor)
        if self.has_counters:
            optional.add_counters(m, self, executor)
        executor.add_fsm()
        return m

    def _damage_handler(self, receiver: CommandReceiver) -> Handler:
        return Handler(
            Check(receiver.command.byte_count != HEADER_BYTES),
            answer=Answer(
                Cat(self.damage.count, self.damage.kind, Const(0, 6), self.damage.place),
                protocol.DAMAGE_DONE.byte_count,
            ),
        )

    def _info_handler(self, m: Module, receiver: CommandReceiver) -> Handler:
        known: Value = Const(int.from_bytes(self.info[:-DROPPED_BYTES], "little"), 8 * (len(self.info) - DROPPED_BYTES))
        if self.config.has_clock_tables:
            field = protocol.INFO.layout["clock_hz"]
            clock = constant(m, "clock_hz", self.config.clock_hz, field.width)
            known = Cat(known[: field.offset], clock, known[field.offset + field.width :])
        dropped = receiver.dropped_frames
        info = Cat(known, dropped, Const(0, 8 * DROPPED_BYTES - len(dropped)))
        return Handler(Check(receiver.command.byte_count != HEADER_BYTES), answer=Answer(info, FIXED_BYTES))

    def _setup_handler(self, m: Module, executor: Executor) -> Handler:
        """Return the handler of SETUP. `running` rises one cycle after `setup` has changed, so a running decoder and
        its readers restart."""
        config, command = self.config, executor.command
        setup = command.fields(protocol.SETUP)
        record_limit = (1 << 32) - 1 if self.has_host else config.memory_words
        is_resident = config.source == "resident"
        table_limit = config.trit_beats if is_resident else record_limit
        bad_setup = (
            (setup.record_words == 0)
            | exceeds(setup.record_words, record_limit)
            | ((setup.trit_beats != 0) != is_resident)
            | exceeds(setup.trit_beats, config.trit_beats)
            | exceeds(setup.embedding_base, table_limit - 1)
            | (setup.embedding_row_words == 0)
            | ~Cat(*[setup.embedding_bits == bits for bits in row_formats(config)]).any()
            | (setup.vocab == 0)
            | exceeds(setup.vocab, config.max_vocab)
        )

        def begin() -> None:
            m.d.sync += self.setup.eq(setup)

        def add_setup_state() -> None:
            with m.State("SETUP"):
                m.d.sync += self.stopped.eq(0)
                m.next = "REPLY"

        return Handler(
            Check(
                command.byte_count != HEADER_BYTES + protocol.SETUP.byte_count,
                refusals=((bad_setup, ErrorCode.BAD_SETUP),),
            ),
            begin=begin,
            stops_machine=True,
            needs_memory=True,
            first_state="SETUP",
            add_states=add_setup_state,
        )

    def _logits_handler(self, m: Module, executor: Executor) -> Handler:
        """Return the handler of LOGITS. Each logit is read while the response is sent."""
        config, command, response = self.config, executor.command, executor.response
        logits = command.fields(protocol.LOGITS)
        scale = Signal(protocol.LOGITS_DONE.layout)
        m.d.comb += [
            self.logits_stream.eq(logits.stream),
            self.logits_address.eq(response.item_address),
            response.long_data.eq(self.logits_data),
            scale.scale_mantissa.eq(self.scale.mantissa),
            scale.scale_exponent.eq(self.scale.exponent),
        ]
        entries = config.top_k * 2 or config.max_vocab
        bad_count = (
            (logits.count == 0)
            | exceeds(logits.count, protocol.LOGITS_COUNT)
            | exceeds(executor.checks.range.end, entries)
            | exceeds(logits.stream, config.streams - 1)
        )
        return Handler(
            Check(
                command.byte_count != HEADER_BYTES + protocol.LOGITS.byte_count,
                Range(logits.offset, logits.count),
                ((bad_count, ErrorCode.BAD_COUNT),),
            ),
            answer=Answer(
                scale.as_value(), protocol.LOGITS_DONE.byte_count, item_count=logits.count, item_offset=logits.offset
            ),
        )
