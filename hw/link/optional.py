"""Commands that only some machines have. Two functions add the ports, checks, states and answer of a command.

    memory "sdram", "ddr3", "port" or "axi"     MEMORY_TEST ─► o_test ... i_test
    memory "sdram"                              PHASE ─► o_phase ... i_phase
    memory "ddr3"                               LEVEL ─► o_level ... i_level
    memory "host"                               RECORDS, ROW ─► o_host
                                                i_want ─► WANT, between two received bytes
    with counters                               COUNTERS ─► counters_address ... counters_data, counted

A function `..._ports` returns the members that a command adds to `HostPort`. A function `add_...` adds the command to
the table of commands.
"""

from typing import Any

from amaranth.hdl import Const, Module, Signal, signed
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from lutern.hw import protocol
from lutern.hw.link.checks import Check, Handler, Range
from lutern.hw.link.executor import Executor
from lutern.hw.link.memory_commands import MemoryCommands
from lutern.hw.link.response import Answer
from lutern.hw.pipeline import exceeds
from lutern.hw.protocol import HEADER_BYTES, ErrorCode, Opcode

STEP_BITS = 16
"""Number of bits of the number of steps in a PHASE command."""


def memory_test_ports(config: Any) -> dict[str, Any]:
    """Return the members that MEMORY_TEST adds to `HostPort`, for a machine whose memory is outside the chip."""
    return {
        "o_test": Out(stream.Signature(protocol.range_layout(config))),
        "i_test": In(stream.Signature(protocol.MEMORY_TEST_DONE.layout)),
    }


def phase_ports() -> dict[str, Any]:
    """Return the members that PHASE adds to `HostPort`, for a machine whose memory is SDRAM."""
    return {"o_phase": Out(stream.Signature(signed(STEP_BITS))), "i_phase": In(stream.Signature(signed(STEP_BITS)))}


def add_memory_test(m: Module, port: Any, executor: Executor, words: MemoryCommands) -> None:
    """Add MEMORY_TEST, which sends a range to the march test. Registers store the result until the answer is sent.

    Parameters
    ----------
    m : Module
        The module to which the logic is added.
    port
        The `HostPort`, for its members.
    executor : Executor
        The FSM to which the states are added.
    words : MemoryCommands
        The logic of WRITE and CHECKSUM, which the command shares.
    """
    command = executor.command
    test = command.fields(protocol.MEMORY_TEST)
    tested = Signal(protocol.MEMORY_TEST_DONE.layout)
    m.d.comb += [port.o_test.p.first.eq(test.first), port.o_test.p.count.eq(test.count)]

    def add_test_state() -> None:
        with m.State("TEST"):
            m.d.comb += [port.o_test.valid.eq(1), port.i_test.ready.eq(1)]
            m.d.sync += tested.eq(port.i_test.payload)
            with m.If(port.i_test.valid):
                m.next = "REPLY"
            executor.checks.refuse_on_fault("REPLY")

    executor.handlers[Opcode.MEMORY_TEST] = Handler(
        Check(
            command.byte_count != HEADER_BYTES + protocol.MEMORY_TEST.byte_count,
            words.read_range(),
            words.read_refusals(),
        ),
        stops_machine=True,
        needs_memory=True,
        first_state="TEST",
        add_states=add_test_state,
        answer=Answer(tested.as_value(), protocol.MEMORY_TEST_DONE.byte_count),
    )


def add_phase(m: Module, port: Any, executor: Executor) -> None:
    """Add PHASE, which sends steps. A register stores the sum of all steps until the answer is sent.

    Parameters
    ----------
    m : Module
        The module to which the logic is added.
    port
        The `HostPort`, for its members.
    executor : Executor
        The FSM to which the states are added.
    """
    command = executor.command
    phase = command.fields(protocol.PHASE)
    place = Signal(signed(STEP_BITS))
    m.d.comb += port.o_phase.payload.eq(phase.steps)

    def add_phase_states() -> None:
        with m.State("PHASE"):
            m.d.comb += port.o_phase.valid.eq(1)
            with m.If(port.o_phase.ready):
                m.next = "PHASE_DONE"
        with m.State("PHASE_DONE"):
            m.d.comb += port.i_phase.ready.eq(1)
            m.d.sync += place.eq(port.i_phase.payload)
            with m.If(port.i_phase.valid):
                m.next = "REPLY"

    executor.handlers[Opcode.PHASE] = Handler(
        Check(command.byte_count != HEADER_BYTES + protocol.PHASE.byte_count),
        first_state="PHASE",
        add_states=add_phase_states,
        answer=Answer(place, protocol.PHASE_DONE.byte_count),
    )


def level_ports(config: Any) -> dict[str, Any]:
    """Return the members that LEVEL adds to `HostPort`, for a machine whose memory is DDR3."""
    byte_count = protocol.level_bytes(config)
    return {
        "o_level": Out(stream.Signature(protocol.level_layout(byte_count))),
        "i_level": In(stream.Signature(byte_count)),
    }


def add_level(m: Module, port: Any, executor: Executor) -> None:
    """Add LEVEL, which sends a setting. Until the answer is sent, a register stores which strobes were seen with the
    previous setting.

    Parameters
    ----------
    m : Module
        The module to which the logic is added.
    port
        The `HostPort`, for its members.
    executor : Executor
        The FSM to which the states are added.
    """
    command = executor.command
    level = command.fields(protocol.LEVEL)
    seen = Signal(protocol.LEVEL_DONE.layout)
    m.d.comb += [getattr(port.o_level.p, name).eq(level[name]) for name in ("byte", "delay", "slip")]

    def add_level_states() -> None:
        with m.State("LEVEL"):
            m.d.comb += port.o_level.valid.eq(1)
            with m.If(port.o_level.ready):
                m.next = "LEVEL_DONE"
        with m.State("LEVEL_DONE"):
            m.d.comb += port.i_level.ready.eq(1)
            m.d.sync += seen.burst_seen.eq(port.i_level.payload)
            with m.If(port.i_level.valid):
                m.next = "REPLY"

    beyond = (
        exceeds(level.byte, protocol.level_bytes(port.config) - 1)
        | exceeds(level.delay, protocol.LEVEL_DELAYS - 1)
        | exceeds(level.slip, protocol.LEVEL_SLIPS - 1)
    )
    executor.handlers[Opcode.LEVEL] = Handler(
        Check(
            command.byte_count != HEADER_BYTES + protocol.LEVEL.byte_count, refusals=((beyond, ErrorCode.BAD_COUNT),)
        ),
        stops_machine=True,
        first_state="LEVEL",
        add_states=add_level_states,
        answer=Answer(seen.as_value(), protocol.LEVEL_DONE.byte_count),
    )


def refuse(executor: Executor, opcode: Opcode, items: Range | None = None) -> None:
    """Add a command that the machine refuses as not available.

    Parameters
    ----------
    executor : Executor
        The FSM, for its table of commands.
    opcode : Opcode
        The command.
    items : Range | None
        The range that the command names; None if it names no range.
    """
    refusals = ((Const(1), ErrorCode.NOT_AVAILABLE),)
    wrong_length = executor.command.byte_count != HEADER_BYTES + protocol.COMMAND_BYTES[opcode]
    executor.handlers[opcode] = Handler(Check(wrong_length, items, refusals))


def host_words_ports(word_bytes: int) -> dict[str, Any]:
    """Return the members that RECORDS, ROW and WANT add to `HostPort`, for a machine whose words come from the host."""
    return {
        "o_host": Out(stream.Signature(protocol.host_word_layout(word_bytes))),
        "i_want": In(stream.Signature(protocol.WANT_LAYOUT)),
    }


def add_host_words(m: Module, port: Any, executor: Executor, words: MemoryCommands) -> None:
    """Add RECORDS and ROW, which send words to `o_host` and have no response.

    The function also adds WANT, which is a response without a command.

    Parameters
    ----------
    m : Module
        The module to which the logic is added.
    port
        The `HostPort`, for its members.
    executor : Executor
        The FSM to which the states are added.
    words : MemoryCommands
        The logic of WRITE and CHECKSUM, which the command shares.
    """
    command, range_ = executor.command, executor.checks.range
    executor.brings_host_words = command.opcode.matches(Opcode.RECORDS, Opcode.ROW)
    executor.want_valid, executor.want_sequence = port.i_want.valid, port.i_want.p.sequence
    m.d.comb += [
        port.o_host.p.row.eq(command.opcode == Opcode.ROW),
        port.o_host.p.place.eq(range_.first),
        port.o_host.p.last.eq(range_.is_empty),
        port.o_host.p.sequence.eq(command.sequence),
        port.o_host.p.word.eq(words.word),
        port.i_want.ready.eq(executor.want_taken),
    ]
    check = Check(words.wrong_length_of_words(), words.written_range())
    executor.handlers[Opcode.RECORDS] = Handler(
        check,
        first_state="COLLECT",
        add_states=lambda: words.add_word_states(port.o_host, "RELEASE"),
        answer=Answer(port.i_want.p.want.as_value(), protocol.WANT.byte_count),
    )
    executor.handlers[Opcode.ROW] = Handler(check, first_state="COLLECT")


def counters_ports() -> dict[str, Any]:
    """Return the members that COUNTERS adds to `HostPort`, for a machine with counters."""
    return {"counters_address": Out(16), "counters_data": In(32), "counted": In(16)}


def add_counters(m: Module, port: Any, executor: Executor) -> None:
    """Add COUNTERS, which returns counters of the last token. The counters are read synchronously, like logits.

    Parameters
    ----------
    m : Module
        The module to which the logic is added.
    port
        The `HostPort`, for its members.
    executor : Executor
        The FSM to which the states are added.
    """
    command, response, config = executor.command, executor.response, port.config
    wanted = command.fields(protocol.COUNTERS)
    m.d.comb += port.counters_address.eq(response.item_address)
    with m.If(response.opcode == Opcode.COUNTERS):
        m.d.comb += response.long_data.eq(port.counters_data)
    bad_count = (
        (wanted.count == 0)
        | exceeds(wanted.count, protocol.COUNTERS_COUNT)
        | exceeds(executor.checks.range.end, protocol.COUNTER_STRIDE * config.counted_phases)
    )
    executor.handlers[Opcode.COUNTERS] = Handler(
        Check(
            command.byte_count != HEADER_BYTES + protocol.COUNTERS.byte_count,
            Range(wanted.offset, wanted.count),
            ((bad_count, ErrorCode.BAD_COUNT),),
        ),
        answer=Answer(
            port.counted, protocol.COUNTERS_DONE.byte_count, item_count=wanted.count, item_offset=wanted.offset
        ),
    )
