"""What does it cost: cycles, bytes, energy."""
