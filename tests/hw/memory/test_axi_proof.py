"""Proofs by induction: what a slave may rely on at the ports of ``AxiSource``, for any jobs and any delays.

    stable        VALID and the payload of AR, AW and W stay until READY. VALID does not wait for READY.
    bursts        A burst has at most BURST beats, lies within 4 KiB, is aligned, has type INCR, whole beats and ID 0.
    writes        A write has one whole beat. The n-th W is the data of the n-th AW. At most MOST_WRITES are unanswered.
    room          Every beat enters a FIFO that has room for it, so READY is always 1.
    order         No read of FETCH or STATE is offered while a write is unanswered.

The proofs assume that each job stays within its aligned block of ``BURST`` words (WordPort), that bases are constant
multiples of 4 KiB, and that the slave answers only requests. The proofs do not cover the clients of words, errors and
the reset. The bench tests these.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from amaranth.hdl import Assert, Assume, Cat, Elaboratable, Module, Mux, Signal

from lutern.hw.memory import axi
from lutern.hw.memory.axi import AXI_ADDRESS_BITS, BOUNDARY, BURST, INCR, MOST_WRITES, AxiSource, axi_shape
from lutern.hw.memory.word_source import Client
from lutern.sim.benches.axi_mutants import MUTANTS
from proofs import prove

PORT_BITS, ADDRESS_BITS, IN_FLIGHT = 64, 12, 16


class Around(Elaboratable):
    """``AxiSource`` with slaves whose inputs are free, except for the assumptions."""

    def __init__(self, block: type[AxiSource], ports: int) -> None:
        self.source = block(axi_shape(PORT_BITS * ports, ADDRESS_BITS, IN_FLIGHT, 2), ports)
        self.ports_count = ports
        names = ("arready", "awready", "wready", "rvalid", "rresp", "bvalid", "bresp")
        self.free = {name: Signal(2 * ports if name.endswith("resp") else ports, name=name) for name in names}
        job = self.source.port.job
        self.job, self.offers = Signal(len(job.payload.as_value())), Signal()
        self.bases = Signal(AXI_ADDRESS_BITS * ports)
        self.ports = [*self.free.values(), self.job, self.offers, self.bases]

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.source = source = self.source
        job = source.port.job
        page = (BOUNDARY - 1).bit_length()
        held = Signal.like(self.bases, name="bases_before")
        begun = Signal()
        m.d.sync += [held.eq(self.bases), begun.eq(1)]
        in_block = BURST.bit_length() - 1
        m.d.comb += [
            job.payload.as_value().eq(self.job),
            job.valid.eq(self.offers),
            source.bases.eq(self.bases),
            Assume(~begun | (held == self.bases)),
            Assume((job.p.length != 0) & (job.p.address[:in_block] + job.p.length <= BURST)),
            Assume(~job.p.write | (job.p.length == 1)),
            Assume(job.p.client <= Client.STATE),
        ]
        for index in range(self.ports_count):
            m.d.comb += Assume(self.bases.word_select(index, AXI_ADDRESS_BITS)[:page] == 0)
            self._add_slave(m, index)
        accepted = Signal.like(job.payload, name="accepted")
        was_accepted = Signal()
        m.d.sync += [accepted.eq(job.payload), was_accepted.eq(job.valid & job.ready)]
        self._claim_offers(m, accepted, was_accepted)
        return m

    def _add_slave(self, m: Module, index: int) -> None:
        """Add the slave of one port, and the claims for this port."""
        source = self.source

        def of(name: str) -> Any:
            return getattr(source, f"m_axi{index}_{name}")

        for name, free in self.free.items():
            m.d.comb += of(name).eq(free.word_select(index, len(of(name))))
        self._claim_stable(m, index, of)
        self._claim_bursts(m, of)
        self._claim_counts(m, index, of)

    def _claim_stable(self, m: Module, index: int, of: Any) -> None:
        payloads = {
            "ar": ("id", "addr", "len", "size", "burst", "lock", "cache", "prot", "qos"),
            "aw": ("id", "addr", "len", "size", "burst", "lock", "cache", "prot", "qos"),
            "w": ("data", "strb", "last"),
        }
        for channel, names in payloads.items():
            payload = Cat(of(channel + name) for name in names)
            before = Signal(len(payload), name=f"{channel}_before_{index}")
            waits = Signal(name=f"{channel}_waits_{index}")
            m.d.sync += [before.eq(payload), waits.eq(of(f"{channel}valid") & ~of(f"{channel}ready"))]
            m.d.comb += Assert(~waits | (of(f"{channel}valid") & (payload == before)))

    def _claim_bursts(self, m: Module, of: Any) -> None:
        beat_bytes = PORT_BITS // 8
        size = beat_bytes.bit_length() - 1
        for channel, most in (("ar", BURST), ("aw", 1)):
            offset = of(f"{channel}addr")[: (BOUNDARY - 1).bit_length()]
            beats = of(f"{channel}len") + 1
            rules = (beats <= most) & (offset + beats * beat_bytes <= BOUNDARY) & (offset[:size] == 0)
            rules &= (of(f"{channel}burst") == INCR) & (of(f"{channel}size") == size) & (of(f"{channel}id") == 0)
            m.d.comb += Assert(~of(f"{channel}valid") | rules)
        m.d.comb += Assert(~of("wvalid") | (of("wlast") & of("wstrb").all()))
        m.d.comb += Assert(of("rready") & of("bready"))

    def _claim_counts(self, m: Module, index: int, of: Any) -> None:
        """Count the beats and answers that the slave owes, and claim that this port has room for them."""
        source = self.source
        bits = range(4 * source.depth)
        asked = of("arvalid") & of("arready")
        owes = Signal(bits, name=f"owes_{index}")
        addresses, words = Signal(bits, name=f"addresses_{index}"), Signal(bits, name=f"words_{index}")
        takes_aw, takes_w = of("awvalid") & of("awready"), of("wvalid") & of("wready")
        m.d.sync += [
            owes.eq(owes + Mux(asked, of("arlen") + 1, 0) - of("rvalid")),
            addresses.eq(addresses + takes_aw - of("bvalid")),
            words.eq(words + takes_w - of("bvalid")),
        ]
        m.d.comb += [Assume(~of("rvalid") | (owes != 0)), Assume(~of("bvalid") | ((addresses != 0) & (words != 0)))]
        is_held = source.there
        held_words = Mux(is_held & ~source.held.write, source.held.length, 0)
        offered = Mux(of("arvalid"), of("arlen") + 1, 0)
        writes = source.open_writes[index]
        stored = source.beats[index].level if source.beats else 0
        m.d.comb += [
            # both channels count a write from the cycle in which it is offered
            Assert(writes == addresses + of("awvalid")),
            Assert(writes == words + of("wvalid")),
            Assert(addresses + of("awvalid") <= MOST_WRITES),
            Assert(~(is_held & source.held.write) | (writes < MOST_WRITES)),
            # each promised word is in a held job, in an offered burst, owed by the slave, in the FIFO, or at the output
            Assert(source.promised == held_words + offered + owes + stored + source.port.valid),
            Assert(source.promised <= source.depth - BURST),
        ]
        if source.beats:
            fifo = source.beats[index]
            m.d.comb += Assert(~fifo.w_en | fifo.w_rdy)

    def _claim_offers(self, m: Module, accepted: Any, was_accepted: Any) -> None:
        """Claim that all ports offer exactly the accepted jobs, two cycles after the acceptance, without waiting for
        READY."""
        source = self.source
        every = range(self.ports_count)
        valid = {
            name: Cat(getattr(source, f"m_axi{index}_{name}valid") for index in every) for name in ("ar", "aw", "w")
        }
        job, due = Signal.like(accepted, name="job_due"), Signal()
        m.d.sync += [job.eq(accepted), due.eq(was_accepted)]
        m.d.comb += [
            Assert(source.there == was_accepted),
            Assert(~was_accepted | (source.held == accepted)),
            Assert(~(was_accepted & (Cat(valid.values()) != 0))),
            Assert(~due | job.write | valid["ar"].all()),
            Assert(~due | ~job.write | (valid["aw"].all() & valid["w"].all())),
        ]
        size = (PORT_BITS // 8).bit_length() - 1
        for index in every:
            address = self.bases.word_select(index, AXI_ADDRESS_BITS) + (job.address << size)
            address = address[:AXI_ADDRESS_BITS]
            member = {name: getattr(source, f"m_axi{index}_{name}") for name in ("araddr", "arlen", "awaddr", "wdata")}
            data = job.word.word_select(index, PORT_BITS)
            with m.If(due & ~job.write):
                m.d.comb += Assert((member["araddr"] == address) & (member["arlen"] + 1 == job.length))
            with m.If(due & job.write):
                m.d.comb += Assert((member["awaddr"] == address) & (member["wdata"] == data))
        open_writes = Cat(writes != 0 for writes in source.open_writes).any()
        with m.If(due & ~job.write & (job.client != Client.STREAM)):
            m.d.comb += Assert(~open_writes)
        nothing = (source.promised == 0) & ~open_writes & ~source.there & ~Cat(valid.values()).any()
        m.d.comb += [
            Assert(source.awake | nothing),
            Assert(~source.port.idle | ((source.promised == 0) & ~open_writes & ~was_accepted & ~valid["ar"].any())),
            Assert(~(source.there & (source.promised > source.depth - BURST))),
        ]


def run_proof(block: type[AxiSource], ports: int, folder: Path) -> tuple[bool, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(axi, "QUIET_CYCLES", 2)
        return prove(Around(block, ports), folder, 5)


@pytest.mark.parametrize("ports", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_promises_to_a_slave(ports: int, tmp_path: Path) -> None:
    proved, log = run_proof(AxiSource, ports, tmp_path)
    assert proved, log[-3000:]


OF_TWO_PORTS = ("one port's answers", "no credit")
PROVED = [name for name, mutant in MUTANTS.items() if mutant.is_proved]


@pytest.mark.slow
@pytest.mark.parametrize("name", PROVED)
def test_mutant_is_not_proved(name: str, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(axi, "QUIET_CYCLES", 2)
        block = MUTANTS[name].block()
    proved, log = run_proof(block, 2 if name in OF_TWO_PORTS else 1, tmp_path)
    assert not proved and "Assert failed" in log, log[-3000:]
