"""Instances of every component of the gateware, for tests that loop over all components.

A component has several instances if its members or its latency depend on the machine. Nothing is elaborated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from amaranth.lib import wiring

from lutern.hw.activation import Sigmoid
from lutern.hw.code_memory import CodeMemory
from lutern.hw.counters import Counters
from lutern.hw.decoder import Decoder
from lutern.hw.gains import GainJoin, GainSupply
from lutern.hw.gate_memory import GateMemory
from lutern.hw.glu import Glu
from lutern.hw.head import Head
from lutern.hw.lane import Adder, Lane
from lutern.hw.link.axi_lite import AxiControl
from lutern.hw.link.crc import Crc32c
from lutern.hw.link.host_port import HostPort
from lutern.hw.link.reply import Reply
from lutern.hw.link.slip import Deframer, Framer
from lutern.hw.link.uart import Uart
from lutern.hw.memory import source_shape, timings_for
from lutern.hw.memory.axi import AxiSource
from lutern.hw.memory.block import ResidentMemory, StreamedMemory
from lutern.hw.memory.block_source import BlockSource
from lutern.hw.memory.burst_reader import BurstReader
from lutern.hw.memory.ddr3_clocks import Ddr3Clocks, Ddr3Start
from lutern.hw.memory.ddr3_controller import Ddr3Controller
from lutern.hw.memory.ddr3_init import Ddr3Init
from lutern.hw.memory.ddr3_levels import Ddr3Levels, HostLevels
from lutern.hw.memory.ddr3_phy import Ddr3Phy
from lutern.hw.memory.host import HostMemory
from lutern.hw.memory.machine_side import MachineSide
from lutern.hw.memory.march_test import MemoryTest
from lutern.hw.memory.readers import Fetcher, ReaderAhead, Repeater
from lutern.hw.memory.sdram_controller import SdramController
from lutern.hw.memory.sdram_phase import PhaseStepper
from lutern.hw.memory.source_side import SourceSide
from lutern.hw.memory.source_watch import SourceWatch
from lutern.hw.memory.trit_parts import TritParts
from lutern.hw.memory.word_source import Client, PortSource
from lutern.hw.memory.words import WordMemory
from lutern.hw.mlgru import Mlgru
from lutern.hw.norm.quantiser import Quantiser
from lutern.hw.norm.rms_norm import RmsNorm
from lutern.hw.norm.scalar import NormScalar
from lutern.hw.norm.short_float import FloatAdder, LeadingBits
from lutern.hw.norm.statistics import NormStatistics
from lutern.hw.pipeline.credits import CreditFifo
from lutern.hw.pipeline.skid import Skid
from lutern.hw.presets import preset
from lutern.hw.residual import Residual
from lutern.hw.results import ResultsControl
from lutern.hw.router import BeatAssembler, GroupUnpacker, RecordRouter
from lutern.hw.row_widener import RowWidener
from lutern.hw.scale import SumScale
from lutern.hw.sequencer import Sequencer
from lutern.hw.signature import SignatureCheck, WordCheck
from lutern.hw.state_dma import StateDma
from lutern.hw.ternary import TernaryUnit
from lutern.hw.top import AxiTop, SerialTop, Top
from lutern.hw.top_k import TopK
from lutern.hw.weight_check import WeightCheck

TINY = preset("tiny").with_(counters=True)
STREAMED = TINY.with_(source="streamed")
STATE = STREAMED.with_(state="memory")
SDRAM, DDR3, PORT, AXI, HOST = (preset(name) for name in ("sdram-x16", "ddr3-x16", "stream-x64", "axi-x256", "host"))
MACHINES = (TINY, STREAMED, STATE, SDRAM, DDR3, PORT, AXI, HOST)
"""Machines with every source, every kind of state and every kind of memory."""
RESULTS = [TINY.with_(rows=8, columns=8, codes_per_cycle=8, results_per_cycle=results) for results in (1, 2, 4, 8)]
COLUMNS = [TINY.with_(columns=columns) for columns in (2, 4, 8, 16, 32, 64)]
WIDTHS = [TINY.with_(max_width=width) for width in (64, 128)]
"""Machines whose codes are in LUTs, and in block RAM."""
SHAPE: Any = source_shape(PORT)
AXI_SHAPE: Any = source_shape(AXI)
SDRAM_PART: Any = timings_for(SDRAM)
DDR3_PART: Any = timings_for(DDR3)

FACTORIES: dict[type[wiring.Component], Callable[[], list[Any]]] = {
    Sigmoid: lambda: [Sigmoid(TINY)],
    CodeMemory: lambda: [CodeMemory(config) for config in WIDTHS],
    Counters: lambda: [Counters(TINY)],
    Decoder: lambda: [Decoder(config) for config in (TINY, STATE)],
    GainJoin: lambda: [GainJoin(TINY)],
    GainSupply: lambda: [GainSupply(TINY)],
    GateMemory: lambda: [GateMemory(TINY)],
    Glu: lambda: [Glu(TINY)],
    Head: lambda: [Head(config) for config in RESULTS],
    Adder: lambda: [Adder(8, 8, 9, cells=False)],
    Lane: lambda: [Lane(8, 9, cells=False)],
    Mlgru: lambda: [Mlgru(config) for config in (TINY, STATE)],
    Residual: lambda: [Residual(TINY)],
    ResultsControl: lambda: [ResultsControl(TINY)],
    BeatAssembler: lambda: [BeatAssembler(STREAMED)],
    GroupUnpacker: lambda: [GroupUnpacker(TINY, (1, 2, 4))],
    RecordRouter: lambda: [RecordRouter(TINY)],
    RowWidener: lambda: [RowWidener(STREAMED)],
    SumScale: lambda: [SumScale(TINY)],
    Sequencer: lambda: [Sequencer(config) for config in (TINY, STATE)],
    SignatureCheck: lambda: [SignatureCheck(32), SignatureCheck(824)],
    WordCheck: lambda: [WordCheck(1024)],
    StateDma: lambda: [StateDma(STATE)],
    TernaryUnit: lambda: [TernaryUnit(config) for config in COLUMNS],
    AxiTop: lambda: [AxiTop(AXI)],
    SerialTop: lambda: [SerialTop(config, 8) for config in MACHINES],
    Top: lambda: [Top(config) for config in MACHINES],
    TopK: lambda: [TopK(TINY.with_(top_k=4))],
    WeightCheck: lambda: [WeightCheck(config) for config in (TINY, STREAMED)],
    AxiControl: lambda: [AxiControl(2)],
    Crc32c: lambda: [Crc32c()],
    HostPort: lambda: [HostPort(config) for config in MACHINES],
    Reply: lambda: [Reply()],
    Deframer: lambda: [Deframer()],
    Framer: lambda: [Framer()],
    Uart: lambda: [Uart(8)],
    AxiSource: lambda: [AxiSource(AXI_SHAPE, AXI.memory_ports)],
    ResidentMemory: lambda: [ResidentMemory(TINY)],
    StreamedMemory: lambda: [StreamedMemory(STREAMED)],
    BlockSource: lambda: [BlockSource(32, 12, 1 << 12)],
    BurstReader: lambda: [BurstReader(SHAPE, Client.FETCH, 16)],
    Ddr3Clocks: lambda: [Ddr3Clocks()],
    Ddr3Start: lambda: [Ddr3Start()],
    Ddr3Controller: lambda: [Ddr3Controller(DDR3_PART)],
    Ddr3Init: lambda: [Ddr3Init(DDR3_PART)],
    Ddr3Levels: lambda: [Ddr3Levels(2)],
    HostLevels: lambda: [HostLevels(2)],
    Ddr3Phy: lambda: [Ddr3Phy(DDR3_PART)],
    HostMemory: lambda: [HostMemory(HOST)],
    MachineSide: lambda: [MachineSide(STATE, SHAPE)],
    MemoryTest: lambda: [MemoryTest(PORT)],
    Fetcher: lambda: [Fetcher(TINY, 1)],
    ReaderAhead: lambda: [ReaderAhead(8, 4, 1)],
    Repeater: lambda: [Repeater(8, 4)],
    SdramController: lambda: [SdramController(SDRAM_PART)],
    PhaseStepper: lambda: [PhaseStepper()],
    SourceSide: lambda: [SourceSide(SHAPE, 16)],
    SourceWatch: lambda: [SourceWatch(SHAPE)],
    TritParts: lambda: [TritParts(TINY)],
    PortSource: lambda: [PortSource(SHAPE)],
    # The members of the source become members of WordMemory, too. BlockSource adds none, because it has only ``port``.
    WordMemory: lambda: [WordMemory(STATE, BlockSource(32, 12, 1 << 12, 2))],
    Quantiser: lambda: [Quantiser(TINY)],
    RmsNorm: lambda: [RmsNorm(config) for config in RESULTS],
    NormScalar: lambda: [NormScalar(TINY)],
    FloatAdder: lambda: [FloatAdder()],
    LeadingBits: lambda: [LeadingBits(32)],
    NormStatistics: lambda: [NormStatistics(TINY)],
    CreditFifo: lambda: [CreditFifo(8)],
    Skid: lambda: [Skid(8)],
}
"""Functions that make the instances of each component."""
