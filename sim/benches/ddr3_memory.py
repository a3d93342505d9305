"""Bench of the DDR3 memory: the test cases of the memories on the chip, with a part whose rules are checked."""

from typing import Any

import cocotb
from cocotb.triggers import FallingEdge

from lutern.sim.benches import memory as memory_bench
from lutern.sim.ddr3 import Rule
from lutern.sim.streams import to_int


class Bench(memory_bench.Bench):
    """Fails at the first broken rule of the part, or at the first fault of the source."""

    patience = 2000  # a word that is written to another page takes about 20 cycles

    def __init__(self, dut: Any, pause: str | None = None) -> None:
        super().__init__(dut, pause)
        dut.i_test__valid.value, dut.o_test__ready.value = 0, 0
        cocotb.start_soon(self._watch())

    async def _watch(self) -> None:
        while True:
            await FallingEdge(self.dut.clk)
            error = Rule(to_int(self.dut.error))
            assert error == Rule.NONE, f"rule {error.name} is broken, seed {self.seed}"
            assert not to_int(self.dut.fault), f"the source reports fault {to_int(self.dut.fault)}, seed {self.seed}"


memory_bench.Bench = Bench  # type: ignore[misc]
host_reads_what_it_wrote = memory_bench.host_reads_what_it_wrote
rows_go_first = memory_bench.rows_go_first
a_large_table = memory_bench.a_large_table
writes_while_reading = memory_bench.writes_while_reading
stops_and_resets_in_mid_row = memory_bench.stops_and_resets_in_mid_row
