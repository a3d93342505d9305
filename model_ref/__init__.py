"""The golden model: the network in NumPy, in float and in integers.  It imports nothing else of Lutern."""
