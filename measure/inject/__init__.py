"""Fault campaigns on the simulated board: what became of each injected fault."""
