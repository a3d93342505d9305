"""Is it right: cocotb benches, models of buses and memories, the simulated board."""
