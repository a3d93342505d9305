"""Measures and estimates the costs of a machine: cycles, bytes, resources, energy."""
