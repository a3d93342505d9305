"""Checks the gateware: cocotb benches, models of buses and memories, the simulated board."""
