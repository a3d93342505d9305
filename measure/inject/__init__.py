"""Injects faults into the simulated board, in campaigns, and counts their outcomes."""
