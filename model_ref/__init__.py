"""Computes the golden model in NumPy, with float and with integer numbers. It imports no other package of Lutern."""
