"""Implements the command `lutern`: parses the options, calls the other packages, and prints the results."""
