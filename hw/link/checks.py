"""A table of the valid commands: for each opcode the rule for its length, its range of items and the rules for its
values.

    cycle  DECODE            ADD                  CHECK                      BEGIN
           opcode, length,   end of the range     range and values           the command is executed or refused
           range registers   (first + count)      ─► error (register)

`HostPort` fills one table of `Handler`, with an entry for each opcode that the machine accepts. The states in this file
and in `executor.py` read the table. The result of all comparisons is the register `error`, which stores the first
reason to refuse the command.
"""

from collections.abc import Callable
from dataclasses import dataclass

from amaranth.hdl import Module, Signal, Value

from lutern.hw.link.receiver import CommandReceiver
from lutern.hw.link.response import Answer
from lutern.hw.protocol import ErrorCode, Opcode


@dataclass(frozen=True)
class Range:
    """The items that a command names: addresses, tokens, logits or counters.

    Parameters
    ----------
    first, count : Value
        The first item, and the number of items.
    overflows : Value | None
        1 if first or count has bits that do not fit into the range registers. None if no bits can be lost, or if lost
        bits do not matter.
    """

    first: Value
    count: Value
    overflows: Value | None = None


@dataclass(frozen=True)
class Check:
    """The rules of one command.

    Parameters
    ----------
    wrong_length : Value
        1 if the frame has a wrong length. Read in the first cycle in which the command is complete.
    range : Range | None
        The items that the command names; None if the command names no items.
    refusals : tuple[tuple[Value, ErrorCode], ...]
        Conditions and error codes, read two cycles after `wrong_length`, when `CommandRange` contains `range`. The
        error is the code of the first true condition.
    data_at : int | None
        Position of the data in the frame; None for `receiver.WORDS_AT`.
    """

    wrong_length: Value
    range: Range | None = None
    refusals: tuple[tuple[Value, ErrorCode], ...] = ()
    data_at: int | None = None


@dataclass(frozen=True)
class Handler:
    """The rules, the states and the answer of the port for one opcode.

    Parameters
    ----------
    check : Check
        The rules of the command.
    begin : Callable[[], None] | None
        Adds statements to the state BEGIN. The statements run if the command is not refused.
    stops_machine : bool
        The command sets `running` to 0.
    needs_memory : bool
        The command is refused if the memory has a fault.
    first_state : str | None
        The state that follows BEGIN; None for REPLY.
    add_states : Callable[[], None] | None
        Adds the states of the command to the FSM. The last state continues with REPLY, which sends `answer`, or with
        RELEASE, which sends no response.
    answer : Answer | None
        The response; None for a response of header bytes only.
    """

    check: Check
    begin: Callable[[], None] | None = None
    stops_machine: bool = False
    needs_memory: bool = False
    first_state: str | None = None
    add_states: Callable[[], None] | None = None
    answer: Answer | None = None


class CommandRange:
    """Stores the range of the command that is checked or executed.

    Parameters
    ----------
    m : Module
        The module that uses the registers.
    bits : int
        Bits of an address, wide enough for the address after the last address.
    first_bits : int
        Bits of ``first``: as many as ``bits``, or more on machines whose offsets are longer than addresses.

    Members
    -------
    first : ``first_bits`` bits, register
        The first item that is left. The number rises while the command is executed.
    count : ``bits`` bits, register
        Number of items that are left.
    is_empty : 1 bit, register
        No item is left.
    end : ``bits`` + 1 bits, register
        The number of the last item + 1.
    overflows : 1 bit, register
        First or count of the command has bits that do not fit into these registers.
    """

    def __init__(self, m: Module, bits: int, first_bits: int) -> None:
        self._m = m
        self.first = Signal(first_bits, name="range_first")
        self.count = Signal(bits, name="range_count")
        self.is_empty = Signal(name="range_is_empty")
        self.end = Signal(bits + 1, name="range_end")
        self.overflows = Signal(name="range_overflows")

    def load(self, wanted: Range) -> None:
        """Load the range of a command. `add` must follow in the next cycle.

        Parameters
        ----------
        wanted : Range
            The range of the command.
        """
        self._m.d.sync += [self.first.eq(wanted.first), self.count.eq(wanted.count)]
        if wanted.overflows is not None:
            self._m.d.sync += self.overflows.eq(wanted.overflows)

    def add(self) -> None:
        """Compute `end` and `is_empty`."""
        self._m.d.sync += [self.end.eq(self.first + self.count), self.is_empty.eq(self.count == 0)]

    def count_down(self) -> None:
        """Subtract 1 from `count`, for an item that was handled."""
        self._m.d.sync += [self.count.eq(self.count - 1), self.is_empty.eq(self.count == 1)]


class CommandChecks:
    """Adds the states DECODE, ADD and CHECK to an FSM.

    Parameters
    ----------
    m : Module
        The module to which the logic is added.
    receiver : CommandReceiver
        The receiver that stores the command.
    bits, first_bits : int
        Widths, as in `CommandRange`.

    Members
    -------
    range : CommandRange
        The range of the command.
    error : ErrorCode, register
        The reason for which the command is refused; 0 while there is no reason.
    memory_fault : 2 or 3 bits, input
        Faults of the memory: silent, out of order, or a transaction that the bus refused. None for a memory that
        reports no faults.

    Latency
    -------
    ``error`` is valid from the third cycle after the state DECODE.
    """

    def __init__(self, m: Module, receiver: CommandReceiver, bits: int, first_bits: int) -> None:
        self._m, self._receiver = m, receiver
        self.range = CommandRange(m, bits, first_bits)
        self.error = Signal(ErrorCode, name="error")
        self.memory_fault: Value | None = None

    def refuse(self, code: ErrorCode) -> None:
        """Refuse the command with `code` as the response."""
        self._m.d.sync += self.error.eq(code)

    def refuse_on_fault(self, next_state: str) -> None:
        """Add statements to a state that waits for the memory. If the memory has a fault, these statements end the
        command with the fault as response.

        Parameters
        ----------
        next_state : str
            The state that follows after a fault.
        """
        if self.memory_fault is not None:
            with self._m.If(self.memory_fault.any()):
                self._refuse_first(self.fault_refusals())
                self._m.next = next_state

    def fault_refusals(self) -> tuple[tuple[Value, ErrorCode], ...]:
        """Return the conditions and error codes of the memory's faults."""
        fault = self.memory_fault
        codes = ErrorCode.MEMORY_SILENT, ErrorCode.MEMORY_DISORDER, ErrorCode.MEMORY_REFUSED
        return () if fault is None else tuple(zip(fault, codes, strict=False))

    def add_states(self, handlers: dict[Opcode, Handler], in_decode: Callable[[], None]) -> None:
        """Add the states DECODE, ADD and CHECK. `error` is valid in the state BEGIN, which follows them.

        Parameters
        ----------
        handlers : dict[Opcode, Handler]
            The commands of the machine.
        in_decode : Callable[[], None]
            Adds further statements to DECODE.
        """
        m = self._m
        with m.State("DECODE"):
            m.next = "ADD"
            in_decode()
            with m.Switch(self._receiver.command.opcode):
                for opcode, handler in handlers.items():
                    with m.Case(opcode):
                        self._decode(handler.check)
                with m.Default():
                    self.refuse(ErrorCode.UNKNOWN_OPCODE)
        with m.State("ADD"):
            self.range.add()
            m.next = "CHECK"
        with m.State("CHECK"):
            m.next = "BEGIN"
            with m.If(self.error == 0), m.Switch(self._receiver.command.opcode):
                for opcode, handler in handlers.items():
                    with m.Case(opcode):
                        refusals = handler.check.refusals
                        if handler.needs_memory:
                            refusals = (*self.fault_refusals(), *refusals)
                        self._refuse_first(refusals)

    def _decode(self, check: Check) -> None:
        m = self._m
        with m.If(check.wrong_length):
            self.refuse(ErrorCode.BAD_LENGTH)
        if check.range is not None:
            self.range.load(check.range)
        if check.data_at is not None:
            m.d.sync += self._receiver.pointer.eq(check.data_at)

    def _refuse_first(self, refusals: tuple[tuple[Value, ErrorCode], ...]) -> None:
        m = self._m
        for index, (condition, code) in enumerate(refusals):
            with m.Elif(condition) if index else m.If(condition):
                self.refuse(code)
