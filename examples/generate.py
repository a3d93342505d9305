"""Lets the simulated board write a story, and compares every value with the integer model.

    .venv/bin/python examples/generate.py [MODEL [MACHINE]]    default: demo, on the machine that simulates it fastest

MODEL is a shipped model, a checkpoint folder or an image. MACHINE is a preset, such as stream-x16.
"""

import sys

import lutern

model = lutern.load(sys.argv[1] if len(sys.argv) > 1 else "demo")
with model.simulate(sys.argv[2] if len(sys.argv) > 2 else None, check=True) as machine:
    for piece in machine.generate("once upon a time", tokens=60, seed=3):
        print(piece, end="", flush=True)
    took = machine.figures
print(
    f"\n{machine.config.name}: {took.cycles:,.0f} cycles a token, {took.tokens_per_second:,.0f} tokens/s at its clock"
)
print(f"{machine.checked:,} values equal the integer model's")
