"""This package is the host side, which sends weights and tokens to the chip."""
