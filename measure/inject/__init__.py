"""Campaigns of faults on the simulated board, and what became of each fault."""
