"""The host's end of the link, which sends each command again until its answer arrives.

    transact(opcode, payload) ─► frame ─► Link.write ═► gateware ═► Link.read ─► the answer with the command's number
                                   ▲                                    │
                                   └─────────── send again ◄────────────┘ no answer in time

    transact_all(opcode, payloads): up to WINDOW commands in flight, so that the line never waits for an answer

The receiver drops a damaged frame, so the host sees any damage as a missing answer. If no answer arrives in time, the
host sends the command again, which is safe (see hw/protocol.py). The gateware answers in order. So when the answer to a
command arrives, all earlier commands without an answer are lost, and the host sends them again immediately.

The host gives up when two conditions hold: no answer arrived in ``TRIES`` successive tries, and the line, at its
measured error rate, cannot have lost all frames that the host sent in these tries. Then the host sends INFO, to find
out whether the board answers nothing at all, or only does not answer this command.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from lutern.firmware.line_quality import MOST_FRAMES, LineQuality
from lutern.firmware.link_answers import check_answer, check_version
from lutern.firmware.link_errors import LinkError, RefusedError, Silence, SilenceError, UnansweredError
from lutern.firmware.slip import Frame, FrameDecoder, encode_frame
from lutern.hw.protocol import CHECKSUM, ERROR, FRAME_BYTES, INFO, PAYLOAD_BYTES, RESPONSE, RUN, Opcode

TRIES = 4
HEARD_TRIES, NEW_HEARD_TRIES = 4, 2
"""If only damaged bytes arrive, the number of tries is multiplied by ``HEARD_TRIES`` for a board that has answered
before, and by ``NEW_HEARD_TRIES`` for a board that has never answered."""
WINDOW = 64
"""Largest number of commands in flight.

A USB bridge may delay an answer by 16 ms. In this time a line of 12 Mbaud transfers 19 KB. The commands of a full
window have 34 KB, so the line is not idle while the host waits. The number of sequence numbers is four times as large,
so a late answer is never mistaken for the answer to another command.
"""
BABBLE_BYTES = 16 * FRAME_BYTES  # after this many bytes without an answer, a try ends as after a time-out
TIMEOUT_S = 1.0
TOKEN_TIMEOUT_S = 1.0  # further seconds for each token of a RUN
SILENCE_S = 0.5  # for a RUN whose words the host sends; a working chip asks for the next words much earlier
CHECKSUM_BYTES_PER_S = 200_000
"""The lowest number of bytes that any board sums per second. A simulated board has this speed, because one second of a
time limit is 2 million of its cycles. A chip sums one byte per cycle, and sometimes waits for its memory.
"""
LONG_ANSWERS = (Opcode.RUN, Opcode.LOGITS, Opcode.COUNTERS)
ANSWER_BYTES = 64
"""Largest number of bytes in the frame of an answer that is not in ``LONG_ANSWERS``."""
PROBES, MOST_PROBES = 2, 8
"""After a time without an answer, ``PROBES`` INFOs are sent, but at most ``MOST_PROBES`` are in flight."""


class Server(Protocol):
    """Provides the words that a chip without weights requests during a RUN, as ``host_weights.HostWeights`` does."""

    def takes(self, frame: Frame) -> bool:
        """Return whether a frame is for the server."""

    def take(self, frame: Frame) -> tuple[bytes, bool]:
        """Return the bytes to be sent in response to a frame, and whether the frame reports progress."""

    def frames(self) -> bytes:
        """Return the bytes that can be sent now."""

    def nudge(self) -> bytes:
        """Return the bytes to be sent after a time in which the chip sent nothing."""


class Link(Protocol):
    """A connection to a board, for example a serial port or a simulated board."""

    def write(self, data: bytes) -> None:
        """Send all of `data`."""

    def read(self, limit: int, timeout_s: float) -> bytes:
        """Return at most `limit` bytes as soon as at least one has arrived, or no bytes after `timeout_s`."""


Split = Callable[[bytes, int], Iterable[bytes]]
"""A function that splits a payload. Its arguments are the payload and the largest number of bytes of words in a shorter
payload. It returns shorter payloads that together have the same effect as the given payload."""


@dataclass
class _Sent:
    """A command in flight."""

    payload: bytes
    frame: bytes
    is_probe: bool = False  # an INFO, whose answer shows that the commands before it are lost


class Client:
    """Sends commands over a Link, and returns their answers.

    quality
        The quality of the line, as measured.
    server
        Provides the words for a chip that stores no weights, during its runs.
    token_cycles
        Largest number of cycles per token; 0 if it is not known.

    If ``link`` is a simulated board, its attribute ``cycles_per_second`` is the number of cycles that count as one
    second of a time limit.
    """

    def __init__(
        self, link: Link, *, timeout_s: float = TIMEOUT_S, token_timeout_s: float = TOKEN_TIMEOUT_S, tries: int = TRIES
    ) -> None:
        self.link = link
        self.timeout_s = timeout_s
        self.token_timeout_s = token_timeout_s
        self.tries = tries
        self.quality = LineQuality()
        self.decoder = FrameDecoder()
        self.server: Server | None = None
        self.token_cycles = 0
        self._silence = Silence()
        self._sequence = 0
        self._word_bytes = self._clock_hz = 0  # known after the first INFO
        self._is_greeted = False

    @property
    def resent_count(self) -> int:
        """Number of frames that were sent again because they or their answers were lost."""
        return self.quality.lost_count

    def transact(self, opcode: Opcode, payload: bytes = b"", *, timeout_s: float | None = None) -> bytes:
        """Return the payload of the answer to one command.

        Raise RefusedError if the gateware refuses the command, and LinkError if no answer arrives. Before the first
        command, the client sends INFO, which shows that the other end uses this version of the protocol. INFO also
        protects the first RUN: an earlier program may have sent an equal RUN with the same sequence number. Without a
        command between the two RUNs, the gateware would treat the new RUN as a repetition of the earlier RUN.
        """
        if len(payload) > PAYLOAD_BYTES:
            raise LinkError(
                f"{opcode.name} has {len(payload)} bytes of payload, but a frame holds {PAYLOAD_BYTES}; split it."
            )
        if not self._is_greeted:
            self._greet()
        patience_s = self._patience(opcode, payload) if timeout_s is None else timeout_s
        return check_answer(opcode, payload, self._exchange(opcode, payload, patience_s))

    def transact_all(
        self, opcode: Opcode, payloads: Iterable[bytes], split: Split | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        """Send commands of one kind, ``WINDOW`` of them in flight; yield (payload, payload of the answer) for each.

        The commands must be such that they may be executed twice and in any order. If a bad line loses a payload,
        ``split`` divides it, and the parts are sent instead. The errors are the same as in ``transact``.
        """
        if not self._is_greeted:
            self._greet()
        source = iter(payloads)
        parts: deque[bytes] = deque()  # parts of payloads that were split
        under_way: dict[int, _Sent] = {}  # by sequence number, ordered by when each was last sent
        while True:
            while len(under_way) < WINDOW and self._has_numbers(under_way, 1 + MOST_PROBES):
                payload = parts.popleft() if parts else next(source, None)
                if payload is None:
                    break
                self._send_next(opcode, payload, under_way)
            if all(sent.is_probe for sent in under_way.values()):
                return
            data = self._read(self.timeout_s)
            if not data or self._silence.bytes > BABBLE_BYTES * (1 + self._silence.rounds):
                self._end_round(opcode, INFO.byte_count)
                self._probe(under_way)
            for answer in self.decoder.feed(data):
                if answer.sequence not in under_way:
                    self._silence.others += 1
                    continue  # the second answer to a command that was resent
                sent = under_way[answer.sequence]
                self._refuse(opcode, answer)
                if answer.opcode != (Opcode.INFO if sent.is_probe else opcode) | RESPONSE:
                    continue
                order = list(under_way)
                del under_way[answer.sequence]
                self._answered(sent.frame, answer, is_progress=not sent.is_probe)
                self._send_again(opcode, under_way, order[: order.index(answer.sequence)], parts, split)
                if not sent.is_probe:
                    yield sent.payload, check_answer(opcode, sent.payload, answer.payload)

    def _send_next(
        self, opcode: Opcode, payload: bytes, under_way: dict[int, _Sent], *, is_probe: bool = False
    ) -> None:
        self._sequence = (self._sequence + 1) & 0xFF
        frame = encode_frame(opcode, self._sequence, payload)
        under_way[self._sequence] = _Sent(payload, frame, is_probe)
        self._send(frame)

    def _has_numbers(self, under_way: dict[int, _Sent], count: int) -> bool:
        """Return whether none of the next ``count`` sequence numbers is in flight."""
        return not any((self._sequence + step) & 0xFF in under_way for step in range(1, count + 1))

    def _probe(self, under_way: dict[int, _Sent]) -> None:
        """Send INFO after a time without an answer. The answer to INFO shows that all earlier commands are lost.

        If all commands in flight were sent again instead, a slow line would be busy for longer than the time limit of
        an answer.
        """
        probes = [number for number, sent in under_way.items() if sent.is_probe]
        for number in probes[: max(0, len(probes) + PROBES - MOST_PROBES)]:
            del under_way[number]
        for _ in range(PROBES):
            if self._has_numbers(under_way, 1):
                self._send_next(Opcode.INFO, b"", under_way, is_probe=True)

    def _send_again(
        self, opcode: Opcode, under_way: dict[int, _Sent], lost: list[int], parts: deque[bytes], split: Split | None
    ) -> None:
        """Send lost commands again, or append their parts to ``parts``, to be sent later."""
        for number in lost:
            self.quality.lost(len(under_way[number].frame), is_certain=True)
        most = self.quality.chunk_bytes()
        for number in lost:
            sent = under_way.pop(number)
            pieces = [] if split is None or sent.is_probe else list(split(sent.payload, most))
            if len(pieces) > 1:
                parts.extend(pieces)
            elif not sent.is_probe:
                under_way[number] = sent
                self._send(sent.frame)

    def _send(self, frame: bytes) -> None:
        self.link.write(frame)
        self._silence.frames += 1

    def _read(self, timeout_s: float) -> bytes:
        data = self.link.read(2 * FRAME_BYTES, timeout_s)
        self._silence.bytes += len(data)
        if not data:
            self._silence.seconds += timeout_s
        return data

    def _answered(self, frame: bytes, answer: Frame, *, is_progress: bool = True) -> None:
        self.quality.answered(len(frame) + len(answer.payload) + FRAME_BYTES - PAYLOAD_BYTES)
        if is_progress:
            self._silence = Silence()

    def _refuse(self, opcode: Opcode, answer: Frame) -> None:
        """Raise ``RefusedError`` if the answer to this command is an ERROR."""
        if answer.opcode == Opcode.ERROR and len(answer.payload) == ERROR.byte_count:
            self._silence = Silence()
            raise RefusedError(opcode, answer.payload[0])

    def _end_round(self, opcode: Opcode, frame_bytes: int) -> None:
        """Count a round without an answer in time, and raise an error if the host has waited long enough."""
        silence = self._silence
        silence.rounds += 1
        exchange_bytes = frame_bytes + (FRAME_BYTES if opcode in LONG_ANSWERS else ANSWER_BYTES)
        tries = self.tries
        if silence.bytes and tries > 1:
            tries *= HEARD_TRIES if self._is_greeted else NEW_HEARD_TRIES
        enough = silence.frames >= self.quality.frames_enough(exchange_bytes)
        if silence.rounds >= tries and (enough or silence.rounds >= MOST_FRAMES):
            raise self._give_up(opcode)

    def _give_up(self, opcode: Opcode) -> SilenceError:
        silence, before, self._silence = self._silence, self.quality.text(), Silence()
        if not self._is_greeted:
            return silence.from_the_start(opcode)
        if opcode != Opcode.INFO and self._answers_info():
            return silence.of_one_command(opcode, before, self.token_cycles)
        return silence.after_answers(opcode, before)

    def _answers_info(self) -> bool:
        for _ in range(PROBES):
            self._sequence = (self._sequence + 1) & 0xFF
            self._send(encode_frame(Opcode.INFO, self._sequence))
            if self._wait(Opcode.INFO, self.timeout_s, None) is not None:
                return True
        return False

    def _greet(self) -> None:
        answer = self._exchange(Opcode.INFO, b"", self.timeout_s)
        check_version(answer)
        info = INFO.unpack(check_answer(Opcode.INFO, b"", answer))
        self._word_bytes, self._clock_hz, self._is_greeted = info["word_bytes"], info["clock_hz"], True

    def _patience(self, opcode: Opcode, payload: bytes) -> float:
        """Return how many seconds to wait for the answer to a command."""
        if opcode == Opcode.RUN and len(payload) >= RUN.byte_count:
            run = RUN.unpack(payload)
            hz = getattr(self.link, "cycles_per_second", None) or self._clock_hz
            token_s = max(self.token_timeout_s, self.token_cycles / hz if hz else 0.0)
            return self.timeout_s + token_s * float(run["count"] * run["streams"])
        if opcode == Opcode.CHECKSUM and len(payload) == CHECKSUM.byte_count:
            return self.timeout_s + float(CHECKSUM.unpack(payload)["count"]) * self._word_bytes / CHECKSUM_BYTES_PER_S
        return self.timeout_s

    def _exchange(self, opcode: Opcode, payload: bytes, patience_s: float) -> bytes:
        """Send one command until its answer arrives, and return the answer's payload.

        A RUN is sent again every ``timeout_s`` while the machine may still execute it. Sending a RUN again costs
        nothing, and so a lost RUN costs only ``timeout_s``.
        """
        self._sequence = (self._sequence + 1) & 0xFF
        frame = encode_frame(opcode, self._sequence, payload)
        server = self.server if opcode == Opcode.RUN else None
        may_run_s = 0.0
        round_s = patience_s
        if server is not None:
            round_s = SILENCE_S
        elif opcode == Opcode.RUN:
            round_s = min(self.timeout_s, patience_s)
            may_run_s = patience_s - round_s
        more = b"" if server is None else server.frames()
        while True:
            self._send(frame)
            if more:
                self.link.write(more)
            answer = self._wait(opcode, round_s, server)
            if answer is not None:
                self._answered(frame, answer)
                return answer.payload
            if may_run_s > 0:
                may_run_s -= round_s
                continue
            self._end_round(opcode, len(frame))
            self.quality.lost(len(frame), is_certain=False)
            more = b"" if server is None else server.nudge()

    def _wait(self, opcode: Opcode, timeout_s: float, server: Server | None) -> Frame | None:
        """Return the answer to the command that was sent last, or None if none arrives in time."""
        budget_bytes = BABBLE_BYTES
        while budget_bytes > 0 and (data := self._read(timeout_s)):
            budget_bytes -= len(data)
            for answer in self.decoder.feed(data):
                if self.server is not None and self.server.takes(answer):
                    more, has_moved = self.server.take(answer)
                    self.link.write(more)
                    if has_moved and server is not None:
                        self._silence, budget_bytes = Silence(), BABBLE_BYTES
                    continue
                if answer.sequence != self._sequence:
                    self._silence.others += 1
                    continue  # the late answer to a command that was resent
                self._refuse(opcode, answer)
                if answer.opcode == opcode | RESPONSE:
                    return answer
        return None


__all__ = ["Client", "Link", "LinkError", "RefusedError", "Server", "SilenceError", "UnansweredError"]
