"""Checks of the gateware: cocotb benches, models of buses and memories, and the simulated board."""
