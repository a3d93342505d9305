"""What a machine costs: cycles, bytes, resources, energy."""
