"""Bench of the AXI4 word source against the memory model of cocotbext-axi, with a memory at each port.

    jobs (random, by the rules of WordPort) ─► AxiSource ─► m_axi0_* ... ─► AxiSlave ─► Region (bytes)
    words in order, for the right client ◄─────┘            └─► Rules: checks of what a slave may rely on

``axi_surroundings.py`` contains the surroundings of the source, and describes the parameters of the bench.
"""

from __future__ import annotations

from typing import Any

import cocotb
from cocotb.triggers import ClockCycles

from lutern.hw.memory.axi import BURST, MOST_WRITES
from lutern.hw.memory.word_source import Client
from lutern.sim.benches.axi_surroundings import WORDS, Bench
from lutern.sim.streams import start, to_int


@cocotb.test()
async def words_come_in_order(dut: Any) -> None:
    """Random reads and writes of all clients return the right words, with random pauses."""
    bench = Bench(dut)
    bench.pause(bench.parameters["pause"])
    await start(dut)
    for _ in range(bench.parameters["jobs"]):
        client = bench.draw.choice(list(Client))
        address = bench.draw.randrange(WORDS)
        if client is Client.STREAM:  # the record stream reads only the lower half, which this test does not write
            address //= 2
            length = bench.draw.randrange(1, BURST - address % BURST + 1)
            await bench.job(address, length, client)
        elif bench.draw.random() < 0.5:
            address = WORDS // 2 + address // 2
            await bench.job(address, 1, client, bench.draw.getrandbits(8 * bench.word_bytes))
        else:
            address = WORDS // 2 + address // 2
            length = bench.draw.randrange(1, BURST - address % BURST + 1)
            await bench.job(address, length, client)
        if bench.draw.random() < 0.1:
            await ClockCycles(dut.clk, bench.draw.randrange(30))
    await bench.settle()
    assert min(rules.bursts for rules in bench.rules) > 0 and min(rules.writes for rules in bench.rules) > 0
    assert not to_int(dut.bus_error) and not to_int(dut.bus_errors), (
        f"the bus must not report an error, seed {bench.seed}"
    )
    for index, region in enumerate(bench.regions):
        wanted = b"".join(
            word.to_bytes(bench.word_bytes, "little")[index * bench.port_bytes : (index + 1) * bench.port_bytes]
            for word in bench.words
        )
        assert bytes(region.bytes) == wanted, f"the memory at port {index} holds other words, seed {bench.seed}"


@cocotb.test()
async def a_word_a_cycle(dut: Any) -> None:
    """If the memory does not pause, a word comes in every cycle after the first word."""
    bench = Bench(dut)
    await start(dut)
    bursts = 24
    for burst in range(bursts):
        await bench.job(burst * BURST % WORDS, BURST)
    await bench.settle()
    took = bench.came[-1] - bench.came[0] + 1
    bench.require(took == bursts * BURST, f"{bursts * BURST} words took {took} cycles")


@cocotb.test()
async def latency(dut: Any) -> None:
    """The numbers of cycles from a job to ARVALID, and from RVALID to the word, equal the documented latencies."""
    bench = Bench(dut)
    await start(dut)
    await bench.job(5, 1)
    accepted = bench.cycle
    await bench.until(lambda: all(bench.valid("ar")), "no ARVALID")
    bench.require(bench.cycle - accepted == 2, f"ARVALID rose {bench.cycle - accepted} cycles after the job")
    await bench.until(lambda: all(bench.valid("r")), "no RVALID")
    answered, wanted = bench.cycle, 3 if bench.ports > 1 else 1
    await bench.settle()
    bench.require(bench.came[0] - answered == wanted, f"the word came {bench.came[0] - answered} cycles after RVALID")


@cocotb.test()
async def valid_waits_for_no_ready(dut: Any) -> None:
    """All VALID signals of a job rise and stay 1 without any READY. AW and W also do not wait for each other."""
    bench = Bench(dut)
    await start(dut)
    for names, held in (("ar", "ar"), ("aw w", "aw w"), ("w", "w"), ("aw", "aw")):
        bench.hold(held)
        await ClockCycles(dut.clk, 2)
        await bench.job(1, 1, Client.FETCH, None if "ar" in names else 77)
        await ClockCycles(dut.clk, 20)
        for name in names.split():
            bench.require(all(bench.valid(name)), f"{name.upper()}VALID waits for a READY, {held} held")
        bench.require(not to_int(dut.port__job__ready), "a job is accepted while another one is offered")
        bench.hold(held, False)
        await bench.settle()


@cocotb.test()
async def a_slow_port(dut: Any) -> None:
    """While one port delivers no data, the source requests only words for which the FIFOs of the other
    ports have room."""
    bench = Bench(dut)
    await start(dut)
    await bench.wake()
    for port in range(bench.ports):
        bench.hold("r", port=port)
        jobs = cocotb.start_soon(run_jobs(bench, 30))
        await ClockCycles(dut.clk, 600)
        bench.require(not to_int(dut.port__idle), "idle, though words are awaited")
        held = len(bench.expected)
        bench.require(
            held == bench.depth - BURST, f"{held} words asked for, but {bench.depth} - {BURST} words must be requested"
        )
        bench.hold("r", False, port)
        await jobs
        await bench.settle()


async def run_jobs(bench: Bench, count: int) -> None:
    """Request full bursts of the record stream."""
    for burst in range(count):
        await bench.job(burst * BURST % WORDS, BURST)


@cocotb.test()
async def reads_wait_for_writes(dut: Any) -> None:
    """While no write is answered, the source accepts MOST_WRITES writes. The only reads that it accepts are reads of
    the record stream."""
    bench = Bench(dut)
    await start(dut)
    bench.hold("b", port=bench.ports - 1)
    for place in range(MOST_WRITES):
        await bench.job(WORDS // 2 + place, 1, Client.STATE, bench.draw.getrandbits(8 * bench.word_bytes))
    last = cocotb.start_soon(bench.job(WORDS // 2 + MOST_WRITES, 1, Client.STATE, 5))
    await ClockCycles(dut.clk, 100)
    bench.require(not last.done(), f"{MOST_WRITES + 1} writes are accepted, and none is answered")
    bench.hold("b", False)
    await last
    await bench.settle()
    bench.hold("b", port=bench.ports - 1)
    await bench.job(WORDS // 2, 1, Client.FETCH, 6)
    await bench.job(0, BURST)
    await bench.until(lambda: not bench.expected, "words did not come")
    for client in (Client.FETCH, Client.STATE):
        read = cocotb.start_soon(bench.job(WORDS // 2, 1, client))
        await ClockCycles(dut.clk, 50)
        bench.require(not read.done(), f"a read of {client.name} is accepted before a write is answered")
        bench.hold("b", False)
        await read
        await bench.settle()
        bench.hold("b", port=bench.ports - 1)
        await bench.job(WORDS // 2, 1, Client.FETCH, 7)
    bench.hold("b", False)
    await bench.settle()


@cocotb.test()
async def a_write_waits_for_reads(dut: Any) -> None:
    """The source accepts a write only after the words of earlier reads have come. Reads of the record stream do not
    delay a write."""
    bench = Bench(dut)
    await start(dut)
    bench.hold("r", port=bench.ports - 1)
    await bench.job(0, 4)
    await bench.job(WORDS // 2, 1, Client.STATE, 8)
    await bench.job(4, 2)
    await bench.until(lambda: all(rules.writes == rules.answers == 1 for rules in bench.rules), "no answer")
    await bench.job(WORDS // 2, 2, Client.STATE)
    write = cocotb.start_soon(bench.job(WORDS // 2 + 1, 1, Client.STATE, 9))
    await ClockCycles(dut.clk, 50)
    bench.require(not write.done(), "a write is accepted before the words of a read have come")
    bench.hold("r", False)
    await write
    await bench.settle()


@cocotb.test()
async def beats_of_before_a_reset(dut: Any) -> None:
    """If the machine is reset during bursts and the bus is not reset, the source drops late beats and late errors."""
    bench = Bench(dut, resets_bus=False)
    await start(dut)
    bench.regions[0].broken.add(4 * bench.port_bytes)
    await bench.job(8, 1)
    await bench.settle()
    for held in (False, True):
        bench.hold("r")
        bench.ignores = True
        for burst in range(2):
            await bench.job(burst * BURST, BURST)
        await bench.until(lambda: not any(bench.valid("ar")), "a burst is not requested")
        bench.hold("r", held)
        await ClockCycles(dut.clk, 8)
        dut.rst.value = 1
        await ClockCycles(dut.clk, 3)
        bench.expected.clear()
        bench.ignores = False
        dut.rst.value = 0
        late = cocotb.start_soon(bench.job(9, 7))
        await ClockCycles(dut.clk, bench.parameters["quiet"] // 2)
        bench.hold("r", False)
        await ClockCycles(dut.clk, bench.parameters["quiet"] // 2 + 60)
        bench.require(late.done() != held, "the first job did not wait for enough cycles after the last late beat")
        await late
        await bench.settle()
    bench.require(not to_int(dut.bus_errors), "an error of a job before the reset is counted")


@cocotb.test()
async def a_refused_transaction_is_named(dut: Any) -> None:
    """If a port answers a read or a write with SLVERR, the fault stays 1. Each such answer is counted, up to the
    largest count."""
    bench = Bench(dut)
    await start(dut)
    bench.ignores = True
    most = (1 << bench.parameters["error_bits"]) - 1

    def require_errors(errors: int) -> None:
        named, wanted = (to_int(dut.bus_error), to_int(dut.bus_errors)), (errors > 0, min(errors, most))
        bench.require(named == wanted, f"(bus_error, bus_errors) is {named}, not {wanted}")

    for count, port in enumerate(bench.regions):
        port.broken.add(3 * bench.port_bytes)
        for errors, word in ((2 * count, 5), (2 * count + 1, None)):
            await bench.job(0, 2)
            await bench.settle()
            require_errors(errors)
            await bench.job(3, 1, Client.FETCH, word)
            await bench.settle()
            await ClockCycles(dut.clk, 3)
            require_errors(errors + 1)
        port.broken.clear()
