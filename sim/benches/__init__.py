"""Cocotb benches. Each block has one module, which the block's test runs with ``lutern.sim.runner.run_bench``."""
