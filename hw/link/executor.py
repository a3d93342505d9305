"""The FSM of the host port, which executes one command at a time. Each command adds its own states to the FSM.

    ┌─► RECEIVE ─► DECODE ─► ADD ─► CHECK ─► BEGIN ─┬───────── states of the command ──────┬─► REPLY ─┐
    │    ▲   │                                      └──────────── refused ─────────────────┼─► REPLY ─┤
    │    │   ▼                                                      (no response)          ▼          ▼
    │   NOTIFY: the response of a RUN, or a WANT                                        RELEASE ◄─────┘
    └──────────────────────────────────────────────────────────────────────────────────────┘

A command is executed only after its whole frame has arrived with a correct CRC. While a command is executed, the
receiver accepts the first bytes of the next frame, then stalls. A RUN is the exception, because it executes in the
background, and its response is sent between two received bytes (NOTIFY). hw/memory/host.py shows the states of a RUN.
"""

from typing import Any

from amaranth.hdl import Const, Module, Mux, Signal, Value

from lutern.hw.link.checks import CommandChecks, Handler
from lutern.hw.link.receiver import WORDS_AT, CommandReceiver
from lutern.hw.link.response import ResponseMux
from lutern.hw.link.run import Run
from lutern.hw.protocol import Opcode


class Executor:
    """Adds the FSM to a module.

    Parameters
    ----------
    m : Module
        The module to which the logic is added.
    port
        The `HostPort`.
    receiver, checks, response, run
        The objects whose logic the FSM controls.

    Members
    -------
    handlers : dict
        The commands of the machine. The table must be complete before `add_fsm` is called.
    begin_resets : list of registers
        Registers of the commands that the state BEGIN sets to 0.
    is_notifying : 1 bit, output
        A RUN's response or a WANT is being sent.
    notifies_run : 1 bit, register
        The response that NOTIFY sends is a RUN's response, not a WANT.
    want_valid : 1 bit, input
        A WANT must be sent.
    want_sequence : 8 bits, input
        The sequence number of the WANT; None on machines that send no WANT.
    want_taken : 1 bit, output
        The WANT has been sent.
    brings_host_words : 1 bit, input
        The command is RECORDS or ROW.

    Latency
    -------
    BEGIN follows three cycles after the first cycle in which the command is complete.
    """

    def __init__(
        self, m: Module, port: Any, receiver: CommandReceiver, checks: CommandChecks, response: ResponseMux, run: Run
    ) -> None:
        self.m, self.port, self.run = m, port, run
        self.receiver, self.checks, self.response = receiver, checks, response
        self.command = receiver.command
        self.handlers: dict[Opcode, Handler] = {}
        self.begin_resets: list[Signal] = [run.feed_byte, run.feed_index]
        self.is_notifying, self.notifies_run = Signal(name="is_notifying"), Signal(name="notifies_run")
        self.want_valid: Value = Const(0)
        self.want_sequence: Value | None = None
        self.want_taken = Signal(name="want_taken")
        # 1 in the states DECODE to BEGIN. In them a RUN is compared with the RUN in progress, which must not change.
        self._is_checking = Signal(name="is_checking")
        self.brings_host_words: Value = Const(0)

    def add_fsm(self) -> None:
        """Add the FSM, and the logic that depends on its states."""
        m, run = self.m, self.run
        with m.FSM():
            self._add_receive()
            self.checks.add_states(self.handlers, lambda: run.compare(self.brings_host_words))
            self._add_begin()
            for handler in self.handlers.values():
                if handler.add_states is not None:
                    handler.add_states()
            self._add_reply()
        run.add_background(self._is_checking)
        self._add_response()

    def _add_receive(self) -> None:
        m, receiver, run = self.m, self.receiver, self.run
        with m.State("RECEIVE"):
            m.d.comb += receiver.accept.eq(~receiver.has_item & ~run.is_finished & ~self.want_valid)
            m.d.sync += [receiver.pointer.eq(WORDS_AT), self.checks.error.eq(0), self.notifies_run.eq(run.is_finished)]
            with m.If(receiver.has_item):
                with m.If(receiver.frame_arrived):
                    m.d.sync += self._is_checking.eq(1)
                    m.next = "DECODE"
            with m.Elif(run.is_finished | self.want_valid):
                m.next = "NOTIFY"
                # A WANT has no error, even if the last run has one. Without WANT, only a run that ends is notified.
                with m.If(run.is_failed if self.want_sequence is None else run.is_failed & run.is_finished):
                    m.d.sync += self.checks.error.eq(run.failure)

    def _add_begin(self) -> None:
        m = self.m
        with m.State("BEGIN"):
            m.d.sync += [register.eq(0) for register in (self._is_checking, *self.begin_resets)]
            m.next = "REPLY"
            with m.If(self.checks.error == 0), m.Switch(self.command.opcode):
                for opcode, handler in self.handlers.items():
                    with m.Case(opcode):
                        if handler.stops_machine:
                            m.d.sync += self.port.stopped.eq(1)
                        if handler.first_state is not None:
                            m.next = handler.first_state
                        if handler.begin is not None:
                            handler.begin()

    def _add_reply(self) -> None:
        m, receiver, response = self.m, self.receiver, self.response
        with m.State("REPLY"):
            m.d.comb += response.valid.eq(1)
            with m.If(response.ready):
                m.next = "RELEASE"
        with m.State("RELEASE"):
            receiver.release()
            m.next = "RECEIVE"
        with m.State("NOTIFY"):
            m.d.comb += [self.is_notifying.eq(1), response.valid.eq(1)]
            with m.If(response.ready):
                m.next = "RECEIVE"
                m.d.comb += self.want_taken.eq(~self.notifies_run)
                with m.If(self.notifies_run):
                    m.d.sync += self.run.is_finished.eq(0)

    def _add_response(self) -> None:
        m, run, response, command = self.m, self.run, self.response, self.command
        notified = Mux(self.notifies_run, Opcode.RUN, Opcode.RECORDS)
        sequence: Value = run.sequence
        if self.want_sequence is not None:
            sequence = Mux(self.notifies_run, run.sequence, self.want_sequence)
        m.d.comb += [
            response.opcode.eq(Mux(self.is_notifying, notified, command.opcode)),
            response.sequence.eq(Mux(self.is_notifying, sequence, command.sequence)),
        ]
        answers = {opcode: handler.answer for opcode, handler in self.handlers.items() if handler.answer is not None}
        response.add_answers(self.checks.error, answers)
