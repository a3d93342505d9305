"""A chip whose answers come from a fuzzed input, and the host's calls that read these answers.

    Client ─► command ─► HostileChip ─► the input selects a correct answer, other bytes, an error, noise, or nothing

Every frame has a correct CRC, so that its content reaches the code that evaluates answers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from lutern.firmware.host_weights import HostWeights
from lutern.firmware.identify import identify
from lutern.firmware.leveling import Setting, _set_level
from lutern.firmware.link import Client
from lutern.firmware.memory_test import centre_phase, check_size, march
from lutern.firmware.program import Program, lay_out
from lutern.firmware.schedule import phase_names
from lutern.firmware.session import Feed, Session
from lutern.firmware.slip import Frame, FrameDecoder, encode_frame
from lutern.hw.config import HwConfig
from lutern.hw.presets import preset
from lutern.hw.protocol import (
    CHUNK_BYTES,
    COUNTERS,
    COUNTERS_DONE,
    DAMAGE_DONE,
    INFO,
    LEVEL_DONE,
    MEMORY_TEST_DONE,
    PHASE_DONE,
    RESPONSE,
    WANT,
    Damage,
    Opcode,
)
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.quantise import integer_weights
from lutern.model_ref.synthetic import random_checkpoint
from lutern.sim.chip_model import ModelChip

MODEL = ModelConfig(vocab_size=5, hidden_size=3, num_hidden_layers=1, intermediate_size=4)
CONFIG = preset("stream-x32").with_(name="hostile", memory_words=1 << 10, counters=True)
HOST_CONFIG = preset("host").with_(name="hostile", memory_words=1024, max_width=512, max_state=512, max_vocab=64)
ROOM_WORDS = 512
OTHERS = {
    Opcode.MEMORY_TEST: bytes(MEMORY_TEST_DONE.byte_count),
    Opcode.PHASE: bytes(PHASE_DONE.byte_count),
    Opcode.LEVEL: bytes(LEVEL_DONE.byte_count),
    Opcode.DAMAGE: DAMAGE_DONE.pack(count=1, kind=Damage.RECORDS, place=0),
    Opcode.COUNTERS: COUNTERS_DONE.pack(phases=len(phase_names(MODEL.num_hidden_layers))),
}
"""Correct answers to commands that ``ModelChip`` does not implement."""


@cache
def program(config: HwConfig) -> Program:
    """Return the memory layout of the tiny model."""
    return lay_out(integer_weights(random_checkpoint(MODEL, 1)), config)


class HostileChip:
    """A chip that decodes commands as ``ModelChip`` does. A byte of ``script`` for each command selects the answer."""

    def __init__(self, script: bytes) -> None:
        self.chip, self.decoder = ModelChip(CONFIG), FrameDecoder()
        for address, words in program(CONFIG).sections:
            self.chip.memory[address : address + len(words)] = words
        self._script, self._answers = script, b""

    def _take(self, count: int) -> bytes:
        taken, self._script = self._script[:count], self._script[count:]
        return taken

    def _byte(self) -> int:
        return (self._take(1) or b"\0")[0]

    def write(self, data: bytes) -> None:
        for frame in self.decoder.feed(data):
            kind = self._byte() & 7
            if kind == 3:
                self._answers += encode_frame(frame.opcode | RESPONSE, frame.sequence, self._take(self._byte()))
            elif kind == 4:
                self._answers += encode_frame(Opcode.ERROR, frame.sequence, self._take(self._byte() & 3))
            elif kind == 5:
                self._answers += self._take(self._byte())
            elif kind == 6:
                pass
            else:
                honest = self._honest(frame)
                self._answers += self._changed(honest) if kind == 7 else honest

    def _honest(self, frame: Frame) -> bytes:
        if frame.opcode in OTHERS:
            payload = OTHERS[Opcode(frame.opcode)]
            if frame.opcode == Opcode.COUNTERS:
                payload += bytes(4 * COUNTERS.unpack(frame.payload)["count"])
            return encode_frame(frame.opcode | RESPONSE, frame.sequence, payload)
        self.chip.write(encode_frame(*frame))
        return self.chip.read(1 << 16, 0)

    def _changed(self, honest: bytes) -> bytes:
        """Return the frame with one byte of its payload changed."""
        frames = FrameDecoder().feed(honest)
        place, value = self._byte(), self._byte()
        if not frames or not frames[0].payload:
            return honest
        opcode, sequence, payload = frames[0]
        place %= len(payload)
        return encode_frame(opcode, sequence, payload[:place] + bytes([value]) + payload[place + 1 :])

    def read(self, limit: int, timeout_s: float) -> bytes:
        data, self._answers = self._answers[:limit], self._answers[limit:]
        return data


def _session(client: Client) -> object:
    session = Session(client, program(CONFIG))
    feeds = [Feed(1), Feed(2, 1)][: session.streams]
    return session.run(feeds, 3), session.logits().real(), session.counters(), session.repairs


CALLS: tuple[Callable[[Client], object], ...] = (
    _session,
    lambda client: identify(INFO.unpack(client.transact(Opcode.INFO)), (CONFIG,)),
    lambda client: march(client, CONFIG, 0, 64).text(CONFIG.word_bytes),
    lambda client: centre_phase(client, CONFIG, 64, 2),
    lambda client: check_size(client, CONFIG),
    lambda client: _set_level(client, 0, Setting(1, 2)),
)
SCRIPTS = (b"", bytes(8) + b"\7\0\1", b"\0\3\4abcd", b"\0\4\1\x0d", bytes(4) + b"\4\1\x0d\7\2\1", b"\5\2\xc0\1\6")
"""First inputs: correct answers, a changed byte, an answer of four bytes, an error, a run that is repaired, noise."""


def read_answers(data: bytes) -> object:
    """Run the call that the first byte selects. The other bytes are the chip's script."""
    client = Client(HostileChip(data[1:]), tries=2)
    return CALLS[(data[:1] or b"\0")[0] % len(CALLS)](client)


def read_wants(data: bytes) -> object:
    """Check that the host sends only words for which the chip has room, whatever the WANT answers contain. The chip
    stores no weights."""
    weights = HostWeights(program(HOST_CONFIG), ROOM_WORDS)
    sent = len(weights.frames())
    for at in range(0, len(data), 1 + WANT.byte_count):
        part = data[at : at + 1 + WANT.byte_count]
        frame = Frame(Opcode.RECORDS | RESPONSE, part[0], part[1:])
        if weights.takes(frame):
            sent = max(sent, len(weights.take(frame)[0]))
        sent = max(sent, len(weights.nudge()))
    most = 2 * ROOM_WORDS * HOST_CONFIG.word_bytes + 4 * CHUNK_BYTES
    assert sent <= 3 * most, f"the host sent {sent:,} bytes in one answer, but must send at most {3 * most:,}"
    return sent
