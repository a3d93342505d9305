"""Computes the golden model in NumPy, with float and with integer numbers. This package imports no other package of
Lutern."""
