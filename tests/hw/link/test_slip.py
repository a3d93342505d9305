"""Framer and Deframer of hw/link/slip.py, compared with the frames that the host's code makes."""

from __future__ import annotations

import random
from typing import Any

import pytest
from amaranth.sim import Simulator

from lutern.firmware.slip import encode_frame
from lutern.hw.link import crc as crc_module
from lutern.hw.link import slip
from lutern.hw.protocol import FRAME_BYTES, crc32c

SEED = 1208


def frames() -> list[bytes]:
    """Return contents of frames that begin with opcode and sequence: a shortest, some with many END and ESC, random
    ones, and a long one."""
    draw = random.Random(SEED)
    found = [b"\x01\x02", b"\xc0\xdb", b"\xdb\xc0\xdc\xdd" * 5, bytes(12), b"\xff" * 12]
    found += [draw.randbytes(draw.randint(2, 40)) for _ in range(12)]
    return [*found, draw.randbytes(FRAME_BYTES - 4)]


def simulate(block: Any, bench: Any) -> None:
    simulator = Simulator(block)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def check_framer() -> None:
    """Check that the Framer makes the same bytes as the host's code."""
    framer, draw = slip.Framer(), random.Random(SEED)

    async def bench(context: Any) -> None:
        for number, content in enumerate(frames()):
            expected, sent, got = encode_frame(content[0], content[1], content[2:]), 0, b""
            while len(got) < len(expected):
                context.set(framer.i.valid, sent < len(content))
                if sent < len(content):
                    context.set(framer.i.payload, {"byte": content[sent], "last": sent == len(content) - 1})
                context.set(framer.o.ready, draw.random() < 0.8)
                came = bytes([context.get(framer.o.payload)]) if context.get(framer.o.valid & framer.o.ready) else b""
                sent += context.get(framer.i.valid & framer.i.ready)
                where = f"Framer, byte {len(got)} of frame {number}, seed {SEED}"
                assert expected.startswith(got + came), f"{where}: {came.hex()}, expected {expected[len(got)]:02x}"
                got += came
                await context.tick()

    simulate(framer, bench)


def check_deframer() -> None:
    """Check that the Deframer marks frames of the host as good, and frames with a flipped bit as not good."""
    deframer, draw, crc = slip.Deframer(), random.Random(SEED), b""

    async def take(context: Any, raw: bytes) -> tuple[bytes, list[int]]:
        """Send raw bytes. Return the bytes that leave the Deframer, and for each frame whether it was good."""
        content, goods = b"", list[int]()
        context.set(deframer.o.ready, 1)
        for byte in (*raw, None, None, None, None):
            context.set(deframer.i.valid, byte is not None)
            context.set(deframer.i.payload, byte or 0)
            taken = False
            while not taken:
                taken = byte is None or bool(context.get(deframer.i.ready))
                if context.get(deframer.o.valid):
                    item = context.get(deframer.o.payload)
                    if item["end"]:
                        goods.append(item["good"])
                        if item["good"]:
                            assert context.get(deframer.crc) == int.from_bytes(crc, "little"), (
                                "the CRC must be that of the frame"
                            )
                    else:
                        content += bytes([item["byte"]])
                await context.tick()
        return content, goods

    async def bench(context: Any) -> None:
        nonlocal crc
        for number, content in enumerate(frames()):
            raw, where = encode_frame(content[0], content[1], content[2:]), f"frame {number}, seed {SEED}"
            crc = crc32c(content).to_bytes(4, "little")
            got = await take(context, raw)
            assert got == (content, [1]), f"Deframer, {where}: {got[1]}, a whole frame is not good"
            place = draw.randrange(1, len(raw) - 1)
            flipped = raw[:place] + bytes([raw[place] ^ 1 << draw.randrange(8)]) + raw[place + 1 :]
            _, goods = await take(context, flipped + b"\xc0")
            assert goods and not any(goods), f"Deframer, {where}, byte {place} flipped: {goods}"

    simulate(deframer, bench)


def test_framer() -> None:
    check_framer()


def test_deframer() -> None:
    check_deframer()


@pytest.mark.parametrize(("name", "wrong"), [("POLYNOMIAL", 0xEDB88320), ("FIRST", 0), ("ADDED", 0)])
def test_a_wrong_crc_is_found(name: str, wrong: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test of each end fails with a wrong CRC, and names the byte or the frame."""
    monkeypatch.setattr(crc_module, name, wrong)
    with pytest.raises(AssertionError, match=r"Framer, byte \d+ of frame 0"):
        check_framer()
    with pytest.raises(AssertionError, match=r"Deframer, frame 0, .* a whole frame is not good"):
        check_deframer()
