"""The golden model: the network in NumPy, in float and in integers.  Imports nothing else of Lutern."""
