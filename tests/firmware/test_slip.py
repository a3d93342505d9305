"""Frames on the host: published CRC values, escapes, damage of every kind."""

import random

import pytest
from amaranth.lib.crc.catalog import CRC32_ISCSI

from lutern.firmware.slip import Frame, FrameDecoder, encode_frame
from lutern.hw.protocol import CRC_BYTES, FRAME_BYTES, HEADER_BYTES, INFO, PAYLOAD_BYTES, SETUP, crc32c


def test_crc_is_castagnoli() -> None:
    # RFC 3720, B.4, and the check value of the catalogues
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E


def test_crc_goes_on_and_equals_the_hardware_model() -> None:
    data = random.Random(5).randbytes(600)
    assert crc32c(data[200:], crc32c(data[:200])) == crc32c(data) == CRC32_ISCSI(8).compute(data)


def test_record_sizes() -> None:
    assert INFO.byte_count == 51
    assert SETUP.byte_count == 27
    with pytest.raises(TypeError, match="wanted"):
        SETUP.pack(vocab=1)


@pytest.mark.parametrize("payload", [b"", b"\xc0", b"\xdb", b"\xdb\xdc\xdb\xdd\xc0\xc0", bytes(range(256)) * 2])
def test_frames_survive_any_bytes(payload: bytes) -> None:
    frame = encode_frame(0xC0, 0xDB, payload)
    assert frame[0] == frame[-1] == 0xC0
    assert 0xC0 not in frame[1:-1]
    assert FrameDecoder().feed(frame) == [Frame(0xC0, 0xDB, payload)]


@pytest.mark.parametrize("seed", range(20))
def test_pieces_of_any_size(seed: int) -> None:
    generator = random.Random(seed)
    frames = [Frame(2, k, generator.randbytes(generator.randrange(PAYLOAD_BYTES + 1))) for k in range(20)]
    line = b"".join(encode_frame(*frame) for frame in frames)
    decoder, got = FrameDecoder(), []
    while line:
        size = generator.randint(1, 300)
        got += decoder.feed(line[:size])
        line = line[size:]
    assert (got, decoder.dropped_count) == (frames, 0), f"seed {seed}"


@pytest.mark.parametrize("seed", range(200))
def test_damage_never_gets_through(seed: int) -> None:
    """Flipped bits, a lost, a doubled, an inserted, two exchanged bytes: nothing comes, or the frame as it was."""
    generator = random.Random(seed)
    wanted = Frame(0x82, 7, generator.randbytes(generator.randint(0, 512)))
    after = Frame(0x83, 8, b"after")
    line = damage(bytearray(encode_frame(*wanted)), generator)
    decoder = FrameDecoder()
    got = decoder.feed(bytes(line) + encode_frame(*after))
    assert got[-1] == after, f"seed {seed}: out of step"
    assert got[:-1] in ([], [wanted]), f"seed {seed}: wrong bytes got through"


def damage(line: bytearray, generator: random.Random) -> bytearray:
    """One fault, of one of five kinds."""
    at = generator.randrange(len(line))
    match generator.randrange(5):
        case 0:
            for _ in range(generator.randint(1, 5)):
                line[generator.randrange(len(line))] ^= 1 << generator.randrange(8)
        case 1:
            del line[at]
        case 2:
            line.insert(at, line[at])
        case 3:
            line.insert(at, generator.randrange(256))
        case 4:
            other = min(at + generator.randint(1, 4), len(line) - 1)
            line[at], line[other] = line[other], line[at]
    return line


def test_too_short_and_too_long_are_dropped() -> None:
    decoder = FrameDecoder()
    raw = bytes(PAYLOAD_BYTES + 1)
    body = b"\x01\x02" + raw
    long = body + crc32c(body).to_bytes(CRC_BYTES, "little")
    assert len(long) == FRAME_BYTES + 1
    assert decoder.feed(b"\xc0" + long + b"\xc0") == []
    body = b"\x01"
    assert decoder.feed(b"\xc0" + body + crc32c(body).to_bytes(CRC_BYTES, "little") + b"\xc0") == []
    assert decoder.dropped_count == 2
    assert HEADER_BYTES + CRC_BYTES == 6


def test_a_babbling_line_does_not_fill_the_memory() -> None:
    decoder = FrameDecoder()
    for _ in range(100):
        decoder.feed(b"x" * 5000)
    assert len(decoder._rest) <= 2 * FRAME_BYTES
    assert decoder.feed(b"\xc0" + encode_frame(1, 2)) == [Frame(1, 2, b"")]
