"""Computes the logits of a text by the float network, by the integer model, and by a simulated chip.

    .venv/bin/python examples/compare.py [MODEL [MACHINE]]    default: demo-small and sim-64

The integer model and the chip are equal in every bit. The float network differs from the integer model by the rounding
error. MODEL is demo, demo-small or a checkpoint folder, since an image has no float weights.
"""

import sys

import numpy as np

import lutern

model = lutern.load(sys.argv[1] if len(sys.argv) > 1 else "demo-small")
text = "once upon a time"
exact, rounded = model.logits(text, numerics="float"), model.logits(text)  # each [tokens, vocabulary]
with model.simulate(sys.argv[2] if len(sys.argv) > 2 else "sim-64") as machine:
    chip = machine.logits(text)
assert np.array_equal(chip, rounded)
error = np.sqrt(((rounded - exact) ** 2).sum() / (exact**2).sum())
same = np.mean(exact.argmax(axis=-1) == chip.argmax(axis=-1))
print(f"{machine.config.name}: {chip.size:,} logits equal the integer model's")
print(f"relative RMS error against float32 {error:.4f}; the likeliest token is the same after {same:.0%} of the tokens")
