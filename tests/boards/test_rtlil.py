"""Amaranth's RTLIL without the zeros of memories, and with its clocks in one order."""

import gc
import re
from threading import Event, Thread

from amaranth.back import rtlil
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from lutern.boards.rtlil import brief_and_ordered, without_zero_memories

DOMAINS = "tick", "memory", "sync", "f", "b", "e", "a", "d", "c"


class Memories(wiring.Component):
    """A memory of zeros and a memory with a value, and a register in each of ``DOMAINS``."""

    address: In(4)
    value: Out(8)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for name, rows in (("zeros", []), ("values", [0, 0, 5])):
            memory = m.submodules[name] = Memory(shape=8, depth=16, init=rows)
            port = memory.read_port()
            m.d.comb += port.addr.eq(self.address)
            m.d.sync += self.value.eq(self.value ^ port.data)
        for domain in DOMAINS:
            m.d[domain] += Signal(name=f"register_{domain}").eq(self.address[0])
        return m


def test_memories_of_zeros() -> None:
    """Initial values that are all 0 are left out, and all else is as Amaranth writes it."""
    with brief_and_ordered():
        text = rtlil.convert(Memories())
    assert text.count("$meminit_v2") == 2
    brief = without_zero_memories(text)
    assert brief.count("$meminit_v2") == 1
    values = next(line for line in brief.splitlines() if "connect \\DATA 128'" in line)
    assert int(values.split("'")[1], 2) == 5 << 16

    ports = re.compile(r"^  wire width 1 input \d+ .*\n", re.MULTILINE)
    whole = rtlil.convert(Memories())
    assert len(whole) > len(text)
    assert ports.sub("", without_zero_memories(whole)) == ports.sub("", brief)


def test_order_of_clocks() -> None:
    with brief_and_ordered():
        text = rtlil.convert(Memories())
    found = re.findall(r"^  wire width 1 input \d+ +\\(\w*clk)$", text, re.MULTILINE)
    assert found == ["clk", *(f"{name}_clk" for name in sorted(DOMAINS) if name != "sync")]


def test_the_collector_pauses() -> None:
    """The garbage collector runs again after the block, but not if it was off before."""
    assert gc.isenabled()
    with brief_and_ordered():
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.disable()
    try:
        with brief_and_ordered():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_threads_take_turns() -> None:
    """A second thread waits for the first, and at the end Amaranth is as it was."""
    before = rtlil.ModuleEmitter.emit_memory
    begun = Event()

    def convert() -> None:
        with brief_and_ordered():
            begun.set()

    thread = Thread(target=convert)
    with brief_and_ordered():
        thread.start()
        assert not begun.wait(0.2)
    thread.join()
    assert begun.is_set() and rtlil.ModuleEmitter.emit_memory is before
