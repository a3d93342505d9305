"""The errors of the link. Each message is one sentence, which reports measured facts and no guesses."""

from __future__ import annotations

from dataclasses import dataclass

from lutern.hw.protocol import ErrorCode, Opcode
from lutern.model_ref.errors import LuternError

REASONS: dict[int, str] = {
    ErrorCode.UNKNOWN_OPCODE: "it does not know this command; use gateware and program of the same release",
    ErrorCode.BAD_LENGTH: "the command has the wrong length; use gateware and program of the same release",
    ErrorCode.BAD_ADDRESS: "the address is beyond the end of its memory; choose a smaller model or a larger memory",
    ErrorCode.BAD_COUNT: "the count is 0 or too large; ask for fewer at a time",
    ErrorCode.NOT_SET_UP: "no model is set up, or another program or a reset has stopped the model; load the "
    "model, and let one program alone use the port",
    ErrorCode.BAD_TOKEN: "the token is not in the vocabulary of the model that is set up; use that model's tokenizer",
    ErrorCode.NOT_AVAILABLE: "it has no hardware for this command; ask a machine that has",
    ErrorCode.BUSY: "it is in the middle of another program's run; end that program, or reset the board",
    ErrorCode.MEMORY_SILENT: "its memory does not answer; reset the board, and check the memory's clock and power",
    ErrorCode.MEMORY_DISORDER: "its memory gave words that were not asked for; reset the board, and check that it "
    "answers every job once and in order",
    ErrorCode.MEMORY_REFUSED: "the bus refused a read or a write of its memory (SLVERR or DECERR); check the addresses "
    "at which the words of its ports begin, and the memory there, and reset the board",
    ErrorCode.BAD_SETUP: "the model's addresses or its vocabulary do not fit; lay it out for this configuration",
    ErrorCode.RUN_TOO_LONG: "its watchdog ended the run, because a step took more cycles than the limit that "
    "SETUP gave; load the model again, and run lutern selftest if it stays so",
    ErrorCode.WEIGHTS_DAMAGED: "weights in its memory are not those that were loaded; load the model again, and run "
    "lutern selftest if it stays so",
}


class LinkError(LuternError):
    """The other end did not answer, or its answer makes no sense."""


class SilenceError(LinkError):
    """The other end did not answer. After the command, only ``heard_bytes`` bytes arrived."""

    def __init__(self, sentence: str, heard_bytes: int = 0) -> None:
        super().__init__(sentence)
        self.heard_bytes = heard_bytes


class UnansweredError(SilenceError):
    """The other end answers INFO, but not this command."""


class RefusedError(LinkError):
    """The gateware answered with an ErrorCode."""

    def __init__(self, opcode: Opcode, code: int) -> None:
        reason = REASONS.get(code, f"with error code {code}, unknown here; update this program")
        super().__init__(f"The board refused {opcode.name}: {reason}.")
        self.opcode, self.code = opcode, code


@dataclass
class Silence:
    """The events since the last answer.

    rounds
        Number of time-outs.
    frames
        Frames that were sent.
    seconds
        Seconds in which no byte came.
    bytes
        Number of bytes that came.
    others
        Number of complete frames that came as answers to other commands.
    """

    rounds: int = 0
    frames: int = 0
    seconds: float = 0.0
    bytes: int = 0
    others: int = 0

    def _measured(self, opcode: Opcode) -> str:
        if not self.bytes:
            heard = "and not a byte came back"
        elif not self.others:
            heard = f"and the {self.bytes:,} bytes that came back make no whole frame"
        else:
            heard = f"and {self.others:,} answers to other commands came back"
        frames = "1 frame was" if self.frames == 1 else f"{self.frames:,} frames were"
        return f"The board did not answer {opcode.name}: {frames} sent, {self.seconds:.3g} s passed in silence, {heard}"

    def from_the_start(self, opcode: Opcode) -> SilenceError:
        """Return the error of a board that has never answered."""
        mend = "give the port of a board that has power and a bitstream of Lutern"
        if self.bytes:
            mend = "give the rate of its gateware with --baud, or program a bitstream of Lutern"
        return SilenceError(f"{self._measured(opcode)}; {mend}.", self.bytes)

    def after_answers(self, opcode: Opcode, before: str) -> SilenceError:
        """Return the error of a board that has answered before; ``before`` describes the line up to the last answer."""
        return SilenceError(
            f"{self._measured(opcode)}; before, {before}; reset the board or plug it in again, and repeat the command: "
            "data that its memory holds already are not sent again."
        )

    def of_one_command(self, opcode: Opcode, before: str, token_cycles: int) -> UnansweredError:
        """Return the error of a board that still answers INFO.

        ``token_cycles`` is the largest number of cycles per token, or 0 if it is not known.
        """
        if opcode == Opcode.RUN:
            bound = f", though a token takes {token_cycles:,} cycles at most" if token_cycles else ""
            return UnansweredError(
                f"The board answers INFO, but its RUN did not end in {self.seconds:.3g} s{bound}: the machine stopped "
                "in the middle of it; reset the board and load the model again."
            )
        return UnansweredError(
            f"{self._measured(opcode)}, but INFO is answered; before, {before}; reset the board and repeat the command."
        )


__all__ = ["LinkError", "RefusedError", "Silence", "SilenceError", "UnansweredError"]
