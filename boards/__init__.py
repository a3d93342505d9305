"""This package describes where a machine runs: pins, clocks, memories and bitstreams of boards."""
