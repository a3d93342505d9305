"""The host's end of the link: commands, resent until their answers come.

    transact(opcode, payload) ─► frame ─► Link.write ═► gateware ═► Link.read ─► the frame with our number
                                   ▲                                    │
                                   └────── again, up to 4 times ◄───────┘ none in time

    transact_all(opcode, payloads): up to WINDOW of them under way at once, so that the line never waits for an answer

A damaged frame is dropped by whoever receives it: any damage shows as silence, and silence is answered by a resend,
which is safe (see hw/protocol.py). The gateware answers in order, so of several under way those before the one that is
answered are lost, and are sent again at once.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from lutern.firmware.slip import Frame, FrameDecoder, encode_frame
from lutern.hw.protocol import (
    CHECKSUM,
    ERROR,
    FRAME_BYTES,
    INFO,
    PAYLOAD_BYTES,
    PROTOCOL_VERSION,
    RESPONSE,
    RUN,
    ErrorCode,
    Opcode,
)
from lutern.model_ref.errors import LuternError

TRIES = 4
WINDOW = 64
"""Commands under way at once: 34 KB, more than the 19 KB that a line of 12 Mbaud carries in the 16 ms for which a USB
bridge may hold an answer back. Far less than there are sequence numbers: a late answer is never taken for another's."""
BABBLE_BYTES = 16 * FRAME_BYTES  # a line that babbles is as bad as a silent one
TIMEOUT_S = 1.0
TOKEN_TIMEOUT_S = 1.0  # more, for each token of a RUN
SILENCE_S = 0.5  # in a run whose words the host sends: a chip that lives asks for the next ones long before
CHECKSUM_BYTES_PER_S = 20_000
"""Slowest: a large simulated board, of which some 50,000 cycles pass in a second; a real one sums a byte a cycle."""

REASONS = {
    ErrorCode.UNKNOWN_OPCODE: "it does not know this command; use gateware and program of the same release",
    ErrorCode.BAD_LENGTH: "the command has the wrong length; use gateware and program of the same release",
    ErrorCode.BAD_ADDRESS: "the address is beyond the end of its memory; choose a smaller model or a larger memory",
    ErrorCode.BAD_COUNT: "the count is 0 or too large; ask for fewer at a time",
    ErrorCode.NOT_SET_UP: "no model is set up; load one first",
    ErrorCode.BAD_TOKEN: "the token is not in the vocabulary of the model that is set up; use that model's tokenizer",
    ErrorCode.NOT_AVAILABLE: "it has no hardware for this command; ask a machine that has",
    ErrorCode.BUSY: "it is in the middle of another program's run; end that program, or reset the board",
    ErrorCode.MEMORY_SILENT: "its memory does not answer; reset the board, and check the memory's clock and power",
    ErrorCode.MEMORY_DISORDER: "its memory gave words that were not asked for; reset the board, and check that it "
    "answers every job once and in order",
    ErrorCode.BAD_SETUP: "the model's addresses or its vocabulary do not fit; lay it out for this configuration",
}


class LinkError(LuternError):
    """The other end did not answer, or not sensibly."""


class SilenceError(LinkError):
    """The other end did not answer at all."""


class RefusedError(LinkError):
    """The gateware answered with an ErrorCode."""

    def __init__(self, opcode: Opcode, code: int) -> None:
        known = code in ErrorCode.__members__.values()
        reason = REASONS[ErrorCode(code)] if known else f"with error code {code}, unknown here; update this program"
        super().__init__(f"The board refused {opcode.name}: {reason}.")
        self.opcode, self.code = opcode, code


class Server(Protocol):
    """What a chip without weights asks for in the middle of a RUN: ``host_weights.HostWeights``."""

    def takes(self, frame: Frame) -> bool:
        """Whether a frame is for it."""

    def take(self, frame: Frame) -> tuple[bytes, bool]:
        """Bytes to be sent upon it, and whether it tells of progress."""

    def frames(self) -> bytes:
        """Bytes that can be sent at once."""

    def nudge(self) -> bytes:
        """Bytes to be sent after a silence."""


class Link(Protocol):
    """A way to a board: a simulated one, or a serial port."""

    def write(self, data: bytes) -> None:
        """Send all of `data`."""

    def read(self, limit: int, timeout_s: float) -> bytes:
        """At most `limit` bytes, as soon as there are any; none when `timeout_s` has passed."""


@dataclass
class _Sent:
    """A command under way: its place among all, its frame, how often it was sent."""

    index: int
    frame: bytes
    tries: int = 1


class Client:
    """Commands and their answers over a Link. `resent_count` tells how good the line is; `server` answers a chip that
    has no weights of its own, while it runs."""

    def __init__(
        self, link: Link, *, timeout_s: float = TIMEOUT_S, token_timeout_s: float = TOKEN_TIMEOUT_S, tries: int = TRIES
    ) -> None:
        self.link = link
        self.timeout_s = timeout_s
        self.token_timeout_s = token_timeout_s
        self.tries = tries
        self.resent_count = 0
        self.decoder = FrameDecoder()
        self.server: Server | None = None
        self._sequence = 0
        self._word_bytes = 0  # known when greeted
        self._is_greeted = False

    def transact(self, opcode: Opcode, payload: bytes = b"", *, timeout_s: float | None = None) -> bytes:
        """The payload of the answer to one command.

        Raises RefusedError when the gateware refuses, LinkError when no answer comes. The first command of all is INFO,
        by itself if need be: it shows that the other end speaks this version, and it keeps a RUN of an earlier program
        with the same sequence number from being taken for ours.
        """
        if len(payload) > PAYLOAD_BYTES:
            raise LinkError(
                f"{opcode.name} has {len(payload)} bytes of payload, but a frame holds {PAYLOAD_BYTES}; split it."
            )
        if not self._is_greeted:
            self._greet()
        return self._exchange(opcode, payload, self._patience(opcode, payload) if timeout_s is None else timeout_s)

    def transact_all(self, opcode: Opcode, payloads: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
        """Commands of one kind, ``WINDOW`` of them under way at once: (index, payload of the answer), as they come.

        Only for commands that may be carried out twice and in any order. Raises as ``transact`` does.
        """
        if not self._is_greeted:
            self._greet()
        source: Iterator[tuple[int, bytes | None]] = iter(enumerate(payloads))
        under_way: dict[int, _Sent] = {}  # by sequence number, in the order in which they were sent last
        heard_bytes = 0  # since the last answer
        while True:
            while len(under_way) < WINDOW and (self._sequence + 1) & 0xFF not in under_way:
                index, payload = next(source, (0, None))
                if payload is None:
                    break
                self._sequence = (self._sequence + 1) & 0xFF
                under_way[self._sequence] = _Sent(index, encode_frame(opcode, self._sequence, payload))
                self.link.write(under_way[self._sequence].frame)
            if not under_way:
                return
            data = self.link.read(2 * FRAME_BYTES, self.timeout_s)
            heard_bytes += len(data)
            if not data or heard_bytes > BABBLE_BYTES:
                self._send_again(opcode, under_way, list(under_way))
                heard_bytes = 0
            for answer in self.decoder.feed(data):
                if answer.sequence not in under_way:
                    continue  # the second answer to a command that was resent
                if answer.opcode == Opcode.ERROR and len(answer.payload) == ERROR.byte_count:
                    raise RefusedError(opcode, answer.payload[0])
                if answer.opcode == opcode | RESPONSE:
                    order = list(under_way)
                    index = under_way.pop(answer.sequence).index
                    self._send_again(opcode, under_way, order[: order.index(answer.sequence)])
                    heard_bytes = 0
                    yield index, answer.payload

    def _send_again(self, opcode: Opcode, under_way: dict[int, _Sent], numbers: list[int]) -> None:
        """Send these again, behind all others."""
        for number in numbers:
            under_way[number] = sent = under_way.pop(number)
            if sent.tries == self.tries:
                raise self._silence(opcode, self.timeout_s)
            sent.tries += 1
            self.resent_count += 1
            self.link.write(sent.frame)

    def _silence(self, opcode: Opcode, timeout_s: float) -> SilenceError:
        return SilenceError(
            f"The board did not answer {opcode.name}, asked {self.tries} times with {timeout_s:g} s of patience each; "
            "check the cable, the port and that the board runs Lutern."
        )

    def _greet(self) -> None:
        info = INFO.unpack(self._exchange(Opcode.INFO, b"", self.timeout_s))
        version = info["protocol_version"]
        if version != PROTOCOL_VERSION:
            raise LinkError(
                f"The board speaks protocol version {version}, this program version {PROTOCOL_VERSION}; "
                "use gateware and program of the same release."
            )
        self._word_bytes, self._is_greeted = info["word_bytes"], True

    def _patience(self, opcode: Opcode, payload: bytes) -> float:
        if opcode == Opcode.RUN and len(payload) >= RUN.byte_count:
            run = RUN.unpack(payload)
            return self.timeout_s + self.token_timeout_s * float(run["count"] * run["streams"])
        if opcode == Opcode.CHECKSUM and len(payload) == CHECKSUM.byte_count:
            return self.timeout_s + float(CHECKSUM.unpack(payload)["count"]) * self._word_bytes / CHECKSUM_BYTES_PER_S
        return self.timeout_s

    def _exchange(self, opcode: Opcode, payload: bytes, timeout_s: float) -> bytes:
        self._sequence = (self._sequence + 1) & 0xFF
        frame = encode_frame(opcode, self._sequence, payload)
        server = self.server if opcode == Opcode.RUN else None
        if server is not None:
            timeout_s = SILENCE_S
        tries = 0  # since anything was heard that tells of progress
        while tries < self.tries:
            self.resent_count += tries > 0
            self.link.write(frame)
            if server is not None:
                self.link.write(server.nudge() if tries else server.frames())
            tries += 1
            budget_bytes = BABBLE_BYTES
            while budget_bytes > 0 and (data := self.link.read(2 * FRAME_BYTES, timeout_s)):
                budget_bytes -= len(data)
                for answer in self.decoder.feed(data):
                    if self.server is not None and self.server.takes(answer):
                        more, has_moved = self.server.take(answer)
                        self.link.write(more)
                        if has_moved:
                            tries, budget_bytes = 1, BABBLE_BYTES
                        continue
                    if answer.sequence != self._sequence:
                        continue  # the late answer to a command that was resent
                    if answer.opcode == Opcode.ERROR and len(answer.payload) == ERROR.byte_count:
                        raise RefusedError(opcode, answer.payload[0])
                    if answer.opcode == opcode | RESPONSE:
                        return answer.payload
        raise self._silence(opcode, timeout_s)
