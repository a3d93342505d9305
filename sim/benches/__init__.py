"""Cocotb benches, one module for each block: run by ``lutern.sim.runner.run_bench`` from the block's test."""
