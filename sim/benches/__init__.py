"""Cocotb benches, one module for each block; the block's test runs it with ``lutern.sim.runner.run_bench``."""
