"""hw/memory/readers.py: addresses of more than 24 bits, which no memory on the chip needs."""

from __future__ import annotations

from typing import Any

import pytest
from amaranth.sim import Simulator

from lutern.hw.config import HwConfig
from lutern.hw.memory.readers import Fetcher
from lutern.hw.presets import preset

VAST = preset("stream-x32").with_(name="vast", memory_words=(1 << 32) - 1)
"""A machine whose memory uses addresses of 32 bits up to the last but one."""


def fetched(config: HwConfig, count: int, *, host: int, **inputs: dict[str, int]) -> list[int]:
    """Return the addresses of the first ``count`` words that the Fetcher requests."""
    fetcher = Fetcher(config, stages=0)
    found: list[int] = []

    async def bench(context: Any) -> None:
        context.set(fetcher.host, host)
        context.set(fetcher.granted, 1)
        for name, values in inputs.items():
            port = getattr(fetcher, name)
            for field, value in values.items():
                context.set(port[field] if name == "setup" else port.payload[field], value)
            if name != "setup":
                context.set(port.valid, 1)
        for _ in range(4):
            await context.tick()
            if context.get(fetcher.owns):
                break
        for name in inputs:
            if name != "setup":
                context.set(getattr(fetcher, name).valid, 0)
        while context.get(fetcher.owns) and len(found) < count:
            found.append(context.get(fetcher.address))
            await context.tick()

    simulator = Simulator(fetcher)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return found


@pytest.mark.parametrize(("base", "token"), [(1 << 24, 0), ((1 << 32) - 513 * 32_000, 31_999), (1 << 31, 65_535)])
def test_a_row_beyond_24_bits(base: int, token: int) -> None:
    setup = {"embedding_base": base, "embedding_stride": 512, "embedding_row_words": 3}
    row = base + token * 512
    found = fetched(VAST, 9, host=0, setup=setup, i_start={"token": token})
    assert found == [row, row + 1, row + 2], f"base {base}, token {token}"


def test_the_host_reads_beyond_24_bits() -> None:
    first = (1 << 32) - 4
    assert fetched(VAST, 9, host=1, i_read={"address": first, "count": 3}) == [first, first + 1, first + 2]
    assert len(fetched(VAST, 9, host=1, i_read={"address": 0, "count": VAST.memory_words})) == 9
    whole = preset("stream-x32")  # 2^19 words, so a count needs one bit more than an address
    assert len(fetched(whole, 9, host=1, i_read={"address": 0, "count": whole.memory_words})) == 9
