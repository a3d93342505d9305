"""The second implementation of the protocol against the first one, the document, and recordings with damaged frames."""

from __future__ import annotations

import random
import re
import struct
from pathlib import Path

import pytest

from lutern.firmware.link_dump import ANSWERS, COMMANDS, ERRORS, HEAD, NAMES, Deframer, Shape, crc32c, describe, dump
from lutern.firmware.slip import FrameDecoder, encode_frame
from lutern.hw import protocol
from lutern.hw.presets import preset
from lutern.hw.protocol import ErrorCode, Opcode, WireRecord, capability
from lutern.model_ref.errors import LuternError
from lutern.sim.chip_model import FAULTS

DOCUMENT = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
RECORDS = {opcode: getattr(protocol, opcode.name, None) for opcode in Opcode if opcode != Opcode.ERROR}
DONE = {opcode: getattr(protocol, f"{opcode.name}_DONE", None) for opcode in RECORDS}
DONE |= {Opcode.INFO: protocol.INFO, Opcode.RECORDS: protocol.WANT}
RECORDS[Opcode.INFO] = None


def of(shape: Shape) -> tuple[tuple[str, ...], int]:
    names, layout = shape.names_and_format()
    return tuple(names), struct.calcsize(layout)


def of_record(record: WireRecord | None) -> tuple[tuple[str, ...], int]:
    return (record.names, record.byte_count) if record is not None else ((), 0)


@pytest.mark.parametrize("opcode", RECORDS, ids=lambda opcode: opcode.name)
def test_tables_agree(opcode: Opcode) -> None:
    """Names, order and lengths of all fields agree, and the document names all fields."""
    assert NAMES[opcode] == opcode.name and f"| 0x{opcode:02X} | {opcode.name} |" in DOCUMENT
    assert of(COMMANDS[opcode]) == of_record(RECORDS[opcode])
    if opcode != Opcode.ROW:
        assert of(ANSWERS[opcode]) == of_record(DONE[opcode])
    text = " ".join(DOCUMENT.split())
    for shape in (COMMANDS[opcode], ANSWERS.get(opcode, Shape())):
        for field in filter(None, re.split(r",\s*", shape.fields)):
            assert field in text, f"docs/protocol.md lacks {field} of {opcode.name}"


def test_error_codes_agree() -> None:
    assert {code.value: code.name for code in ErrorCode}.items() <= ERRORS.items()
    assert all(f"| {code} | {name} |" in DOCUMENT for code, name in ERRORS.items())


def test_limits_agree() -> None:
    """The numbers in the document and in the two implementations agree."""
    assert f"version {protocol.PROTOCOL_VERSION}." in DOCUMENT
    assert f"payload, 0 to {protocol.PAYLOAD_BYTES} bytes" in DOCUMENT
    assert f"more than {protocol.FRAME_BYTES} bytes" in DOCUMENT
    assert (protocol.INFO.byte_count, protocol.SETUP.byte_count, protocol.FEED.byte_count) == (51, 41, 11)
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(range(256)) * 2) == protocol.crc32c(bytes(range(256)) * 2)


@pytest.mark.parametrize("seed", range(20))
def test_both_decoders_find_the_same_damaged_frames(seed: int) -> None:
    """Both decoders find the same frames and drop the same number of frames, for any damage and any split of the
    bytes."""
    draw = random.Random(seed)
    line = bytearray()
    for number in range(60):
        frame = bytearray(encode_frame(draw.choice((2, 0x82, 5)), number, draw.randbytes(draw.choice((0, 9, 60, 520)))))
        if draw.random() < 0.5:
            draw.choice(FAULTS)(frame, draw.randrange(len(frame)), draw)
        line += frame
    line += draw.randbytes(2000) + b"\xc0" + encode_frame(1, 1)
    first, second = FrameDecoder(), Deframer()
    frames = first.feed(bytes(line))
    found, damaged = [], 0
    while line:
        size = draw.randint(1, 300)
        for body, fault in second.feed(bytes(line[:size])):
            damaged += bool(fault)
            if not fault:
                found.append((body[0], body[1], body[2:]))
        del line[:size]
    assert found == [tuple(frame) for frame in frames], f"seed {seed}"
    assert damaged == first.dropped_count > 0, f"seed {seed}"


def test_dump_of_a_recording() -> None:
    info = capability(preset("tiny"))
    lost = bytearray(encode_frame(Opcode.CHECKSUM, 2, struct.pack("<II", 5, 7)))
    lost[6] ^= 1
    lines = [
        HEAD,
        "0.000100 = 3000000",
        f"0.000200 > {encode_frame(Opcode.INFO, 1).hex()}",
        f"0.001000 < {encode_frame(0x81, 1, info)[:30].hex()}",
        f"0.001100 < {encode_frame(0x81, 1, info)[30:].hex()}",
        f"0.002000 > {lost.hex()}",
        f"1.002000 > {encode_frame(Opcode.CHECKSUM, 2, struct.pack('<II', 5, 7)).hex()}",
        f"1.003000 < {encode_frame(0x83, 2, bytes([1, 2, 3, 4])).hex()}",
        f"2.000000 > {encode_frame(Opcode.LEVEL, 3, bytes([1, 2, 3])).hex()}",
        f"2.000100 < {encode_frame(0xFF, 3, bytes([12])).hex()}",
        f"3.000000 > {encode_frame(Opcode.RUN, 4, bytes(5)).hex()}",
        f"3.000100 < {encode_frame(0xA0, 4, bytes(5)).hex()}",
    ]
    *said, summary = dump(lines)
    assert said[0] == "    0.000100 = 3,000,000 baud"
    assert said[1] == "    0.000200 >   1 INFO"
    assert said[2].startswith("    0.001100 <   1 INFO protocol_version=") and "hw_digest=" in said[2]
    assert re.fullmatch(r"    0\.002000 > damaged: CRC \w{8}, \w{8} wanted, 14 bytes", said[3])
    assert said[4:] == [
        "    1.002000 >   2 CHECKSUM address=5 count=7",
        "    1.003000 <   2 CHECKSUM crc=04030201",
        "    2.000000 >   3 LEVEL byte=1 delay=2 slip=3",
        "    2.000100 <   3 ERROR RUN_TOO_LONG",
        "    3.000000 >   4 RUN of a wrong length, 5 bytes",
        "    3.000100 <   4 unknown opcode 0xA0, 5 bytes",
    ]
    assert summary == "to the board: 4 frames, 0 of them sent again, 1 damaged; from the board: 4 frames, 0 damaged"


def test_a_resend_is_named() -> None:
    frame = encode_frame(Opcode.WRITE, 7, bytes(4 + 512)).hex()
    said = list(dump([HEAD, f"0 > {frame}", f"1 > {frame}"]))
    assert said[1] == "    1.000000 >   7 WRITE address=0 + 512 bytes of words (again)"
    assert said[2].startswith("to the board: 2 frames, 1 of them sent again, 0 damaged;")


@pytest.mark.parametrize(
    "line", ["", "x > c0", "0 ! c0", "0 > c", "0 > c0 c0", "0 = x", "0 = -5", "nan > c0", "-1 > c0", "0 >"]
)
def test_invalid_recordings(line: str) -> None:
    with pytest.raises(LuternError, match=r"^line \d is .*; give a file written by --record\.$"):
        list(dump([HEAD, line] if line else ["something else"]))


@pytest.mark.parametrize("opcode", range(256))
def test_any_payload_is_described(opcode: int) -> None:
    draw = random.Random(opcode)
    for to_board in (True, False):
        for size in (0, 1, 3, 4, 8, 51, 520):
            assert "\n" not in describe(bytes([opcode, 1]) + draw.randbytes(size), to_board)
