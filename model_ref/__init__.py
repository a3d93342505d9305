"""The golden model: what is computed, in NumPy, in float and in integers.  Imports nothing else of Lutern."""
