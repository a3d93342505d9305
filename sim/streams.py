"""Source, sink and monitor of Amaranth streams, for cocotb benches.

    StreamSource(dut, "i") ──► i__valid i__payload │ block │ o__valid o__payload ──► StreamSink(dut, "o")
                           ◄── i__ready            │       │ o__ready            ◄──
                                      StreamMonitor(dut, "i") and ("o") record transfers and check the contract

These classes drive signals directly after the rising edge. They read signals at the falling edge, when every
combinational path has settled. An item that is valid and ready at the falling edge is transferred by the next rising
edge. Cycle k is the time between rising edges k and k + 1, so the difference of the cycles of two monitors is a
latency. Payloads are flat unsigned integers, and `pack` and `unpack` convert the fields of a layout.

The contract: once valid is 1, valid and payload must not change until ready is 1. With the pause pattern "after_valid",
the sink raises ready only after valid, so a block whose valid waits for ready hangs.
"""

import itertools
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from numbers import Integral
from typing import Any, NamedTuple, NoReturn

import cocotb
from amaranth.hdl import Const
from amaranth.lib import data
from cocotb.clock import Clock
from cocotb.triggers import Event, FallingEdge, RisingEdge
from cocotb.utils import get_sim_time

PERIOD_NS = 10
PAUSES = ("none", "random", "bursty", "alternating")


class ContractError(AssertionError):
    """A stream cleared valid or changed its payload before ready was 1."""


class _Field(NamedTuple):
    offset: int
    bits: int
    is_signed: bool
    shape: Any


_fields: dict[int, tuple[data.Layout, dict[str, _Field]]] = {}
"""Layouts and their fields, for each id of a layout. The fields are cached because Amaranth computes fields slowly. The
layout is stored, too, so that no other object can have its id."""


def _fields_of(layout: data.Layout) -> dict[str, _Field]:
    known = _fields.get(id(layout))
    if known is None:
        fields = {
            str(name): _Field(field.offset, field.width, getattr(field.shape, "signed", False), field.shape)
            for name, field in layout
        }
        known = _fields[id(layout)] = layout, fields
    return known[1]


def pack(layout: data.Layout, fields: Any) -> int:
    """Return the flat integer of `fields`, which is a mapping, or a sequence for an array layout."""
    if not (isinstance(layout, data.StructLayout) and isinstance(fields, Mapping)):
        return int(Const.cast(layout.const(fields)).value)
    places, packed = _fields_of(layout), 0
    for name, value in fields.items():
        field = places[name]
        flat = int(value) if isinstance(value, Integral) else pack(field.shape, value)
        packed |= (flat & (1 << field.bits) - 1) << field.offset
    return packed


def unpack(layout: data.StructLayout, value: int) -> dict[str, int]:
    """Return the fields of a flat integer. Signed members become signed numbers, and nested layouts stay
    flat integers."""
    fields = {}
    for name, field in _fields_of(layout).items():
        raw = value >> field.offset & (1 << field.bits) - 1
        fields[name] = to_signed(raw, field.bits) if field.is_signed else raw
    return fields


def to_signed(value: int, bits: int) -> int:
    """Return the signed value of a flat integer of `bits` bits."""
    return value - (1 << bits) if value >> (bits - 1) & 1 else value


def cycle_now() -> int:
    """Return the number of rising edges so far."""
    return int(get_sim_time("ns")) // PERIOD_NS


def pauses(pattern: str, seed: int = 0, share: float = 0.5) -> Iterator[bool]:
    """Return an endless iterator with True for each cycle in which a source or sink pauses.

    "random" pauses in a fraction `share` of all cycles. "bursty" alternates between runs of 1 to 20 cycles with and
    without pause. Raises ValueError for an unknown pattern.
    """
    if pattern == "none":
        return itertools.repeat(False)
    if pattern == "alternating":
        return itertools.cycle((False, True))
    generator = random.Random(f"{pattern}-{seed}")
    if pattern == "random":
        return (generator.random() < share for _ in itertools.count())
    if pattern == "bursty":
        runs = (itertools.repeat(bool(i % 2), generator.randint(1, 20)) for i in itertools.count())
        return itertools.chain.from_iterable(runs)
    raise ValueError(f"pause pattern {pattern!r} is not one of {', '.join(PAUSES)}")


async def start(dut: Any, *, reset_cycles: int = 2) -> None:
    """Start the clock, hold reset for `reset_cycles`, and release it directly after a rising edge."""
    Clock(dut.clk, PERIOD_NS, "ns").start()
    await reset(dut, reset_cycles)


async def reset(dut: Any, cycles: int = 1) -> None:
    """Hold `rst` at 1 for `cycles` rising edges."""
    await RisingEdge(dut.clk)
    dut.rst.value = 1
    for _ in range(cycles):
        await RisingEdge(dut.clk)
    dut.rst.value = 0


class _Port:
    """The three signals of a stream. A payload without bits has no signal."""

    def __init__(self, dut: Any, prefix: str) -> None:
        self.dut, self.prefix, self.clk, self.rst = dut, prefix, dut.clk, dut.rst
        self.valid, self.ready = getattr(dut, f"{prefix}__valid"), getattr(dut, f"{prefix}__ready")
        self.payload = getattr(dut, f"{prefix}__payload", None)
        self.payload_bits = 0 if self.payload is None else len(self.payload)

    def read_payload(self) -> int:
        return 0 if self.payload is None else to_int(self.payload)

    def fires(self) -> bool:
        return bool(int(self.valid.value) and int(self.ready.value))


def to_int(signal: Any) -> int:
    """Return a port's value, of any width, as an unsigned integer."""
    value = signal.value
    return int(value) if len(signal) == 1 else int(value.to_unsigned())


class StreamSource(_Port):
    """Drives a block's input stream from a queue. While nothing is valid, the payload is random."""

    def __init__(self, dut: Any, prefix: str, *, pause: str = "none", seed: int = 0) -> None:
        super().__init__(dut, prefix)
        self.pending: deque[int] = deque()
        self.pause = pauses(pause, seed)
        self.sent_count = 0
        self._junk = random.Random(f"junk-{prefix}-{seed}")
        self._moved = Event()
        self.valid.value = 0
        cocotb.start_soon(self._drive())

    def queue(self, payloads: Iterable[int]) -> None:
        """Append payloads, which are sent in order."""
        self.pending.extend(payloads)

    async def send(self, *payloads: int) -> None:
        """Queue payloads, and wait until the block has accepted all queued payloads."""
        self.queue(payloads)
        await self.drained()

    async def drained(self) -> None:
        """Wait until the block has accepted all queued payloads."""
        while self.pending:
            self._moved.clear()
            await self._moved.wait()

    async def _drive(self) -> None:
        offered = False
        while True:
            await RisingEdge(self.clk)
            if not (offered and self.pending):  # a cleared source withdraws its offer
                offered = bool(self.pending) and not next(self.pause)
            self.valid.value = int(offered)
            if self.payload is not None:
                self.payload.value = self.pending[0] if offered else self._junk.getrandbits(self.payload_bits)
            await FallingEdge(self.clk)
            if offered and int(self.ready.value) and not int(self.rst.value):
                offered = False
                self.pending.popleft()
                self.sent_count += 1
                self._moved.set()

    def clear(self) -> None:
        """Drop all queued payloads. A bench calls this method at a reset, while `rst` is high."""
        self.pending.clear()
        self._moved.set()


class StreamSink(_Port):
    """Receives a block's output stream. `pause` is a pattern of `pauses`, or "after_valid". With "after_valid", ready
    rises only after valid."""

    def __init__(self, dut: Any, prefix: str, *, pause: str = "none", seed: int = 0) -> None:
        super().__init__(dut, prefix)
        self.received: deque[int] = deque()
        self.after_valid = pause == "after_valid"
        self.pause = pauses("none" if self.after_valid else pause, seed)
        self._moved = Event()
        self.ready.value = 0
        cocotb.start_soon(self._drive())

    async def receive(self, count: int, timeout_cycles: int = 100_000) -> list[int]:
        """Return the next `count` payloads. Raises TimeoutError if no payload comes for `timeout_cycles` cycles."""
        waited_from, seen = cycle_now(), len(self.received)
        while len(self.received) < count:
            await FallingEdge(self.clk)
            if len(self.received) > seen:
                waited_from, seen = cycle_now(), len(self.received)
            if cycle_now() - waited_from > timeout_cycles:
                raise TimeoutError(
                    f"{self.prefix}: {seen} of {count} payloads came, then nothing for {timeout_cycles} cycles"
                )
        return [self.received.popleft() for _ in range(count)]

    async def _drive(self) -> None:
        seen_valid = False
        while True:
            await RisingEdge(self.clk)
            self.ready.value = int(seen_valid if self.after_valid else not next(self.pause))
            await FallingEdge(self.clk)
            fires = self.fires() and not int(self.rst.value)
            if fires:
                self.received.append(self.read_payload())
            seen_valid = bool(int(self.valid.value)) and not fires


class StreamMonitor(_Port):
    """Records (cycle, payload) of every transfer, and raises ContractError when the stream breaks the contract.

    `on_item(cycle, payload)` is called at every transfer. The function can feed a model, or check the item with a
    Scoreboard.
    """

    def __init__(self, dut: Any, prefix: str, *, on_item: Callable[[int, int], None] | None = None) -> None:
        super().__init__(dut, prefix)
        self.items: list[tuple[int, int]] = []
        self.on_item = on_item
        cocotb.start_soon(self._watch())

    @property
    def payloads(self) -> list[int]:
        return [payload for _, payload in self.items]

    async def _watch(self) -> None:
        held: int | None = None
        while True:
            await FallingEdge(self.clk)
            if int(self.rst.value):
                held = None  # a reset may withdraw a payload
                continue
            if not int(self.valid.value):
                if held is not None:
                    self._fail(f"valid fell before {self.prefix}__ready rose")
                continue
            payload = self.read_payload()
            if held is not None and payload != held:
                self._fail(f"payload changed from {held:#x} to {payload:#x} before {self.prefix}__ready rose")
            if int(self.ready.value):
                held = None
                self.items.append((cycle_now(), payload))
                if self.on_item is not None:
                    self.on_item(cycle_now(), payload)
            else:
                held = payload

    def _fail(self, what: str) -> NoReturn:
        raise ContractError(f"cycle {cycle_now()}: {self.prefix}__{what}")


def set_ports(dut: Any, values: Mapping[str, int]) -> None:
    """Drive plain input ports by name. Negative values become two's complement."""
    for name, value in values.items():
        port = getattr(dut, name)
        port.value = value & (1 << len(port)) - 1
