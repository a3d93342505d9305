"""Frames on the host: published CRC values, escapes, and damage of every kind."""

import itertools
import random

import numpy as np
import pytest
from amaranth.lib.crc.catalog import CRC32_ISCSI

from lutern.firmware.slip import Frame, FrameDecoder, encode_frame
from lutern.hw.protocol import CHUNK_BYTES, CRC_BYTES, FRAME_BYTES, HEADER_BYTES, INFO, PAYLOAD_BYTES, SETUP, crc32c
from lutern.sim.chip_model import FAULTS

FRAMES_A_SEED = 200
QUICK_SEEDS, SLOW_SEEDS, ALL_SEEDS = 100, 2_500, 50_000


def test_crc_is_castagnoli() -> None:
    # RFC 3720, B.4, and the check value that catalogues of CRCs publish
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E


def test_crc_continues_and_equals_the_hardware_model() -> None:
    data = random.Random(5).randbytes(600)
    assert crc32c(data[200:], crc32c(data[:200])) == crc32c(data) == CRC32_ISCSI(8).compute(data)


def test_record_sizes() -> None:
    assert INFO.byte_count == 51
    assert SETUP.byte_count == 41
    with pytest.raises(TypeError, match=r"^the fields are .*; give "):
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
    """Bits are flipped, or a byte is lost, doubled, inserted or exchanged. The decoder returns no frame or the original
    frame."""
    generator = random.Random(seed)
    wanted = Frame(0x82, 7, generator.randbytes(generator.randint(0, 512)))
    after = Frame(0x83, 8, b"after")
    line = damage(bytearray(encode_frame(*wanted)), generator)
    decoder = FrameDecoder()
    got = decoder.feed(bytes(line) + encode_frame(*after))
    assert got[-1] == after, f"seed {seed}: the frame after the damage must be found"
    assert got[:-1] in ([], [wanted]), f"seed {seed}: a damaged frame must not be accepted"


def damage(line: bytearray, generator: random.Random) -> bytearray:
    """Damage the bytes with one fault of one of five kinds."""
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


DELIMITERS = (0xC0, 0xDB)
NEAR = bytes(byte ^ 1 << bit for byte in DELIMITERS for bit in range(8))
"""Bytes that the flip of one bit turns into END or ESC."""
SHORT = {
    "plain": bytes(range(100, 126)),
    "near": (NEAR + NEAR)[:26],
    "escaped": b"\xc0\xdb\xdb\xc0\xdc\xdd" + b"\xdb" * 4 + b"\xc0" * 4,
}


@pytest.mark.parametrize("name", SHORT)
def test_every_flip_of_one_or_two_bits_of_a_short_frame(name: str) -> None:
    """Every flip in 32 bytes on the line, and in the END bytes around them, is tried. The decoder drops the damaged
    frame and returns the next frame.

    ``near`` has bytes that become END or ESC, which splits a frame or removes a byte. ``escaped`` has pairs of bytes
    that become other pairs, or no pairs.
    """
    frame = encode_frame(2, 9, SHORT[name])
    after = encode_frame(3, 10)
    assert len(frame) == 1 + 32 + 1
    number, size = int.from_bytes(frame, "little"), len(frame)
    bits = range(8 * size)
    count = 0
    for flips in itertools.chain(((bit,) for bit in bits), itertools.combinations(bits, 2)):
        damaged = number
        for bit in flips:
            damaged ^= 1 << bit
        got = FrameDecoder().feed(damaged.to_bytes(size, "little") + after)
        assert got == [Frame(3, 10, b"")], f"bits {flips} flipped: {got}"
        count += 1
    assert count == 272 + 272 * 271 // 2


def syndromes_of_bits() -> np.ndarray:
    """Return how a flip of [byte, bit] of the longest frame changes the CRC. For a shorter frame, the last of these
    rows apply."""
    size = FRAME_BYTES - CRC_BYTES
    found = np.zeros((FRAME_BYTES, 8), np.uint32)
    empty = crc32c(bytes(size))
    for byte, bit in itertools.product(range(size), range(8)):
        flipped = bytearray(size)
        flipped[byte] = 1 << bit
        found[byte, bit] = crc32c(bytes(flipped)) ^ empty
    found[size:] = (1 << np.arange(8 * CRC_BYTES, dtype=np.uint32)).reshape(CRC_BYTES, 8)
    return found


def test_all_flips_of_up_to_five_bits_of_the_longest_frame_are_found() -> None:
    """CRC-32C is linear: flips are missed if the syndromes of their bits add up to 0.

    Each syndrome has an odd number of ones, so an odd number of syndromes never adds up to 0. No two pairs have the
    same sum, so neither two nor four syndromes add up to 0.
    """
    syndromes = syndromes_of_bits().reshape(-1)
    assert (np.bitwise_count(syndromes) & 1).all()
    first, second = np.triu_indices(len(syndromes), 1)
    sums = np.sort(syndromes[first] ^ syndromes[second])
    assert sums[0] != 0 and (sums[1:] != sums[:-1]).all()


def test_two_flips_on_the_line_of_the_longest_frame_are_found() -> None:
    """A flip of the second byte of an escape turns END into ESC, or ESC into END. This changes four bits of a byte of
    the frame.

    Two flips that keep all escapes change one or two such patterns or bits, and no two of these have the same syndrome.
    Flips that make or break an END or an ESC change the frame's length. Such flips are missed by chance, once in 2^32
    times. The tests of short frames and the samples cover these flips.
    """
    bits = syndromes_of_bits()
    turned = [bit for bit in range(8) if (DELIMITERS[0] ^ DELIMITERS[1]) >> bit & 1]
    escapes = np.bitwise_xor.reduce(bits[:, turned], axis=1)
    together = np.concatenate([bits.reshape(-1), escapes])
    assert together.all() and len(np.unique(together)) == len(together)


@pytest.mark.parametrize("alphabet", [bytes(range(256)), NEAR, b"\xc0\xdb\xdc\xdd"], ids=["any", "near", "escaped"])
@pytest.mark.parametrize("flip_count", [1, 2, 3, 4, 5])
def test_flips_on_the_line(flip_count: int, alphabet: bytes) -> None:
    """The decoder drops damaged frames of random bytes with escapes and ENDs. Some flips change the length of the
    frame."""
    draw = random.Random(flip_count)
    for _ in range(700):
        wanted = Frame(0x82, 7, bytes(draw.choices(alphabet, k=CHUNK_BYTES + 4)))
        line = bytearray(encode_frame(*wanted))
        places = draw.sample(range(8 * len(line)), flip_count)
        for place in places:
            line[place // 8] ^= 1 << place % 8
        got = FrameDecoder().feed(bytes(line) + encode_frame(3, 8))
        assert got == [Frame(3, 8, b"")], f"seed {flip_count}: bits {places}"


def fuzz_frames(seed: int) -> int:
    """Send frames over a bad line, in pieces, and return their number. The decoder must return every frame without
    damage, and no frame that was not sent."""
    draw = random.Random(seed)
    line, sent, whole = bytearray(), [], []
    for number in range(FRAMES_A_SEED):
        size = draw.choice((0, 1, 8, 9, 30, 60)) if number % 20 else draw.randrange(PAYLOAD_BYTES + 1)
        frame = Frame(draw.randrange(256), draw.randrange(256), draw.randbytes(size))
        sent.append(frame)
        raw = bytearray(encode_frame(*frame))
        before = bytes(raw)
        for _ in range(draw.choice((0, 1, 1, 1, 2, 3))):
            draw.choice(FAULTS)(raw, draw.randrange(len(raw) or 1), draw) if raw else None
        if raw == before:
            whole.append(frame)
        line += raw
    line += b"\xc0"
    decoder, got, place = FrameDecoder(), [], 0
    while place < len(line):
        size = draw.choice((1, 7, 64, 1100))
        got += decoder.feed(bytes(line[place : place + size]))
        place += size
    assert is_part(got, sent), f"seed {seed}: a frame came that was not sent"
    assert is_part(whole, got), f"seed {seed}: a whole frame did not come"
    return len(sent)


def is_part(some: list[Frame], among: list[Frame]) -> bool:
    """Return whether ``among`` contains the frames of ``some`` in this order."""
    rest = iter(among)
    return all(frame in rest for frame in some)


def test_fuzzed_frames() -> None:
    assert sum(fuzz_frames(seed) for seed in range(QUICK_SEEDS)) == 20_000


@pytest.mark.slow
def test_ten_million_frames(request: pytest.FixtureRequest) -> None:
    """Each call of this test continues with the next seeds, and starts again after the last seed."""
    cache = request.config.cache
    assert cache is not None
    first = int(cache.get("lutern/frames", QUICK_SEEDS)) % ALL_SEEDS
    for seed in range(first, first + SLOW_SEEDS):
        fuzz_frames(seed)
    cache.set("lutern/frames", first + SLOW_SEEDS)


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
