"""Answers of a wrong length in frames with a correct CRC, as from a chip of another release or another design."""

from __future__ import annotations

import struct

import pytest

from lutern.firmware.link import Client, LinkError
from lutern.firmware.link_answers import answer_bytes, check_version
from lutern.firmware.link_dump import ANSWERS, ERROR
from lutern.firmware.slip import FrameDecoder, encode_frame
from lutern.hw.presets import preset
from lutern.hw.protocol import COUNTERS, LOGITS, RESPONSE, RUN, Opcode, capability

INFO_BYTES = capability(preset("tiny"))
ANSWERED = [opcode for opcode in Opcode if opcode not in (Opcode.RECORDS, Opcode.ROW, ERROR)]
COMMANDS = {
    Opcode.RUN: RUN.pack(count=3, temperature=0, streams=2, chained=0) + bytes(22),
    Opcode.LOGITS: LOGITS.pack(stream=0, offset=0, count=6),
    Opcode.COUNTERS: COUNTERS.pack(offset=0, count=6),
}


class Chip:
    """A chip that answers INFO correctly, and every other command with ``payload``."""

    def __init__(self, payload: bytes) -> None:
        self.payload, self.decoder, self.answers = payload, FrameDecoder(), b""

    def write(self, data: bytes) -> None:
        for frame in self.decoder.feed(data):
            payload = INFO_BYTES if frame.opcode == Opcode.INFO else self.payload
            self.answers += encode_frame(frame.opcode | RESPONSE, frame.sequence, payload)

    def read(self, limit: int, timeout_s: float) -> bytes:
        data, self.answers = self.answers[:limit], self.answers[limit:]
        return data


@pytest.mark.parametrize("opcode", ANSWERED, ids=lambda opcode: opcode.name)
def test_lengths(opcode: Opcode) -> None:
    """The host expects the lengths that the second implementation of the protocol has, and accepts no other length."""
    command = COMMANDS.get(opcode, b"")
    _, layout = ANSWERS[opcode].names_and_format()
    rest = ANSWERS[opcode].rest
    wanted = answer_bytes(opcode, command)
    assert wanted == struct.calcsize(layout) + (6 * rest[1] if rest else 0)
    if opcode == Opcode.INFO:
        return
    assert Client(Chip(bytes(wanted))).transact(opcode, command) == bytes(wanted)
    for size in {0, wanted - 1, wanted + 1, wanted + 2} - {wanted, -1}:
        with pytest.raises(
            LinkError, match=rf"answered {opcode.name} with {size} bytes, but {wanted} are expected; use"
        ):
            Client(Chip(bytes(size))).transact(opcode, command)


def test_many_commands_at_once() -> None:
    with pytest.raises(LinkError, match="answered WRITE with 3 bytes, but 4 are expected"):
        list(Client(Chip(bytes(3))).transact_all(Opcode.WRITE, [bytes(8)] * 3))


@pytest.mark.parametrize("info", [b"", b"\x05", b"\x05\x00", b"\x05\x00" + bytes(100)])
def test_another_version_is_reported_for_any_length(info: bytes) -> None:
    with pytest.raises(LinkError, match=rf"speaks protocol version {5 if info else 0}, but this program speaks v"):
        check_version(info)
