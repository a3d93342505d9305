"""Bench of the AXI4-Lite control against the master of cocotbext-axi.

AxiLiteMaster ─► s_axi_* ─► AxiControl ─► o (StreamSink)        Rules: checks of what a master may rely on
                                       ◄─ i (StreamSource)
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, RisingEdge
from cocotbext.axi import AxiLiteBus, AxiLiteMaster, AxiResp

from lutern.hw.axi_registers import (
    AXI_ADDRESS_BITS,
    BASE_AT,
    BOUNDARY,
    BUS_ERRORS_AT,
    DATA_AT,
    HAS_BYTE,
    NAME,
    NAME_AT,
    PORTS_AT,
    STATUS_AT,
)
from lutern.sim.runner import bench_parameters, bench_seed
from lutern.sim.streams import StreamSink, StreamSource, cycle_now, start, to_int

CHANNELS = ("aw", "w", "b", "ar", "r")
READY_AFTER, ANSWER_AFTER = 1, 2
"""Cycles from VALID to READY, and from VALID to the answer, as documented in hw/link/axi_lite.py."""


class Rules:
    """Checks that answers follow their requests and stay until READY, and that READY and answers come after a fixed
    number of cycles."""

    PAYLOADS = {"b": ("resp",), "r": ("resp", "data")}

    def __init__(self, dut: Any, seed: int) -> None:
        self.dut, self.seed = dut, seed
        self.latencies: dict[str, list[int]] = {"w": [], "r": []}
        self.taken = {"aw": 0, "w": 0, "ar": 0}
        self.answered = {"b": 0, "r": 0}
        cocotb.start_soon(self._watch())

    def read(self, name: str) -> int:
        return to_int(getattr(self.dut, f"s_axi_{name}"))

    def require(self, holds: object, what: str) -> None:
        assert holds, f"{what}, cycle {cycle_now()}, seed {self.seed}"

    async def _watch(self) -> None:
        held: dict[str, list[int]] = {}
        asked: dict[str, int] = {}
        while True:
            await RisingEdge(self.dut.clk)
            if to_int(self.dut.rst):
                continue
            for channel, names in self.PAYLOADS.items():
                valid = self.read(f"{channel}valid")
                payload = [self.read(channel + name) for name in names]
                if channel in held:
                    self.require(valid, f"{channel.upper()}VALID fell before {channel.upper()}READY")
                    self.require(payload == held[channel], f"{channel.upper()} changed before {channel.upper()}READY")
                held.pop(channel, None)
                owed = min(self.taken["aw"], self.taken["w"]) if channel == "b" else self.taken["ar"]
                if valid:
                    self.require(
                        self.answered[channel] < owed, f"{channel.upper()}VALID before its request is accepted"
                    )
                    if not self.read(f"{channel}ready"):
                        held[channel] = payload
                    else:
                        self.answered[channel] += 1
            if self.read("awready") or self.read("wready"):
                self.require(self.read("awvalid") and self.read("wvalid"), "READY for a write without address or data")
            self._measure("w", ("aw", "w"), "b", asked)
            self._measure("r", ("ar",), "r", asked)
            for channel in self.taken:
                self.taken[channel] += self.read(f"{channel}valid") and self.read(f"{channel}ready")

    def _measure(self, name: str, requests: tuple[str, ...], answer: str, asked: dict[str, int]) -> None:
        """Measure cycles from the first cycle in which a whole request is present and no answer waits."""
        if self.read(f"{answer}valid"):
            if name in asked:
                self.latencies[name].append(cycle_now() - asked.pop(name))
            return
        if all(self.read(f"{channel}valid") for channel in requests):
            asked.setdefault(name, cycle_now())
            ready = all(self.read(f"{channel}ready") for channel in requests)
            self.require(
                ready == (cycle_now() - asked[name] == READY_AFTER), f"READY of {requests} is {ready} in a wrong cycle"
            )


class Bench:
    """The AXI4-Lite master, the rules and the parameters of the bench."""

    def __init__(self, dut: Any) -> None:
        self.dut, self.seed, self.parameters = dut, bench_seed(), bench_parameters()
        self.draw = random.Random(self.seed)
        self.ports, self.fifo_bytes = self.parameters["ports"], self.parameters["fifo_bytes"]
        self.master = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axi"), dut.clk, dut.rst)
        for side in (self.master.write_if, self.master.read_if):
            side.log.setLevel(logging.WARNING)
        dut.bus_errors.value = 0
        self.rules = Rules(dut, self.seed)

    def require(self, holds: object, what: str) -> None:
        assert holds, f"{what}, cycle {cycle_now()}, seed {self.seed}"

    def channel(self, name: str) -> Any:
        """Return the master's end of the channel with this name."""
        side = self.master.write_if if name in ("aw", "w", "b") else self.master.read_if
        return getattr(side, f"{name}_channel")

    def pause(self, share: float) -> None:
        """Pause all channels at random, in a fraction ``share`` of the cycles."""

        def generator(seed: int) -> Iterator[bool]:
            draw = random.Random(seed)
            while True:
                yield draw.random() < share

        for number, name in enumerate(CHANNELS):
            self.channel(name).set_pause_generator(generator(self.seed + number))

    async def peek(self, address: int) -> int:
        """Read a register. The answer must be OKAY."""
        answer = await self.master.read(address, 4)
        self.require(answer.resp == AxiResp.OKAY, f"a read of {address:#x} was answered with {answer.resp.name}")
        return int.from_bytes(answer.data, "little")

    async def poke(self, address: int, value: int, wanted: AxiResp = AxiResp.OKAY, size: int = 4) -> None:
        """Write a register. The answer must be ``wanted``."""
        answer = await self.master.write(address, value.to_bytes(size, "little"))
        self.require(
            answer.resp == wanted, f"a write of {value:#x} to {address:#x} was answered with {answer.resp.name}"
        )

    async def status(self) -> tuple[int, int]:
        """Return the number of bytes for which the FIFO to the machine has room, and the number of bytes that wait for
        the host."""
        value = await self.peek(STATUS_AT)
        return value & 0xFFFF, value >> 16


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def registers(dut: Any) -> None:
    """All registers have the right values, and every invalid access is refused and changes nothing."""
    bench = Bench(dut)
    dut.i__valid.value = dut.i__payload.value = dut.o__ready.value = 0
    await start(dut)
    bench.require(await bench.peek(NAME_AT) == NAME, "register NAME is wrong")
    bench.require(await bench.peek(PORTS_AT) == bench.ports, "register PORTS is wrong")
    bench.require(await bench.status() == (bench.fifo_bytes, 0), "STATUS of an empty machine is wrong")
    for errors in (1, 0xFFFF, 0):
        dut.bus_errors.value = errors
        await ClockCycles(dut.clk, 2)
        bench.require(await bench.peek(BUS_ERRORS_AT) == errors, f"BUS_ERRORS are not {errors}")
    bases = [0] * bench.ports
    for index in bench.draw.sample(range(bench.ports), bench.ports) * 2:
        bases[index] = bench.draw.randrange(0, 1 << AXI_ADDRESS_BITS, BOUNDARY)
        at = BASE_AT + 8 * index
        await bench.poke(at, bases[index] & 0xFFFFFFFF)
        await bench.poke(at + 4, bases[index] >> 32)
        await bench.poke(at, BOUNDARY // 2, AxiResp.SLVERR)
        await bench.poke(at, 0xFFFFF001, AxiResp.SLVERR)
        await bench.poke(at + 4, 1 << AXI_ADDRESS_BITS - 32, AxiResp.SLVERR)
        await bench.poke(at + 1, 0xFF, AxiResp.SLVERR, size=1)
        await bench.poke(at + 4, 0, AxiResp.SLVERR, size=1)
        found = [
            await bench.peek(BASE_AT + 8 * k) + (await bench.peek(BASE_AT + 8 * k + 4) << 32)
            for k in range(bench.ports)
        ]
        bench.require(found == bases, f"the bases are {found}, not {bases}")
        merged = sum(base << AXI_ADDRESS_BITS * k for k, base in enumerate(bases))
        bench.require(to_int(dut.bases) == merged, f"the output bases is {to_int(dut.bases):#x}, not {merged:#x}")
    nowhere = [0x14, 0x7C, BASE_AT + 8 * bench.ports, 0x400 + NAME_AT, 0x800 + DATA_AT, 0xFFC]
    for address in (NAME_AT, STATUS_AT, BUS_ERRORS_AT, PORTS_AT, *nowhere):
        await bench.poke(address, 0, AxiResp.SLVERR)
    for address in nowhere:
        answer = await bench.master.read(address, 4)
        bench.require(answer.resp == AxiResp.SLVERR, f"a read of {address:#x} was answered with {answer.resp.name}")
    await bench.poke(DATA_AT + 1, 1, AxiResp.SLVERR, size=1)
    bench.require(await bench.status() == (bench.fifo_bytes, 0), "a refused access has changed something")


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_full_fifo(dut: Any) -> None:
    """The FIFO to the machine accepts as many bytes as STATUS shows. The next byte is answered with SLVERR and is not
    accepted."""
    bench = Bench(dut)
    sink = StreamSink(dut, "o", pause="none")
    closed = [True]
    sink.pause = iter(lambda: closed[0], None)
    source = StreamSource(dut, "i")
    await start(dut)
    sent = [bench.draw.randrange(256) for _ in range(bench.fifo_bytes)]
    for count, byte in enumerate(sent):
        bench.require(await bench.status() == (bench.fifo_bytes - count, 0), f"STATUS after {count} bytes is wrong")
        await bench.poke(DATA_AT, byte | bench.draw.getrandbits(24) << 8)  # the upper 24 bits must be ignored
    bench.require(await bench.status() == (0, 0), "STATUS of a full FIFO to the machine is wrong")
    await bench.poke(DATA_AT, 0x55, AxiResp.SLVERR)
    closed[0] = False
    bench.require(await sink.receive(len(sent), 1000) == sent, "other bytes reached the machine")
    await ClockCycles(dut.clk, 20)
    bench.require(not sink.received, "a byte that was refused reached the machine")
    back = [bench.draw.randrange(256) for _ in range(bench.fifo_bytes + 5)]
    source.queue(back)
    await ClockCycles(dut.clk, 2 * len(back))
    bench.require(
        await bench.status() == (bench.fifo_bytes, bench.fifo_bytes), "STATUS of a full FIFO to the host is wrong"
    )
    found = [await bench.peek(DATA_AT) for _ in back]
    bench.require(found == [byte | HAS_BYTE for byte in back], "other bytes reached the host")
    bench.require(not await bench.peek(DATA_AT) & HAS_BYTE, "an empty FIFO shows a byte")


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def bytes_both_ways(dut: Any) -> None:
    """Random bytes pass through DATA in both directions, with simultaneous reads and writes, and with pauses on all
    channels and streams."""
    bench = Bench(dut)
    bench.pause(bench.parameters["pause"])
    sink = StreamSink(dut, "o", pause="random", seed=bench.seed)
    source = StreamSource(dut, "i", pause="random", seed=bench.seed + 1)
    await start(dut)
    there, back = ([bench.draw.randrange(256) for _ in range(100)] for _ in range(2))
    source.queue(back)

    async def send() -> None:
        for byte in there:
            while not (await bench.status())[0]:
                pass
            await bench.poke(DATA_AT, byte, size=1 + 3 * (byte & 1))

    sending = cocotb.start_soon(send())
    found: list[int] = []
    for _ in range(40 * len(back)):
        word = await bench.peek(DATA_AT)
        found += [word & 0xFF] if word & HAS_BYTE else []
        if len(found) == len(back):
            break
    bench.require(found == back, "other bytes reached the host")
    await sending
    bench.require(await sink.receive(len(there), 1000) == there, "other bytes reached the machine")


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def address_and_data(dut: Any) -> None:
    """No write is accepted or answered before AW and W are valid, whether AW comes first, W comes first or both come
    together."""
    bench = Bench(dut)
    dut.i__valid.value = dut.i__payload.value = dut.o__ready.value = 0
    await start(dut)
    for late in ("aw", "w", ""):
        value = bench.draw.randrange(0, 1 << 32, BOUNDARY)
        if late:
            bench.channel(late).pause = True
        write = cocotb.start_soon(bench.poke(BASE_AT, value))
        await ClockCycles(dut.clk, 30)
        bench.require(write.done() != bool(late), f"the write is done: {write.done()}, but {late or 'nothing'} is late")
        if late:
            bench.require(
                not bench.rules.read("awready") and not bench.rules.read("wready"),
                f"READY rose before {late} was valid",
            )
            bench.channel(late).pause = False
        await write
        bench.require(await bench.peek(BASE_AT) == value, f"BASE is not {value:#x}, after {late or 'nothing'} was late")
    await ClockCycles(dut.clk, 5)
    for name, found in bench.rules.latencies.items():
        bench.require(
            found and set(found) == {ANSWER_AFTER},
            f"answers of {name} must take {ANSWER_AFTER} cycles, but took {found}",
        )
