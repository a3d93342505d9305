"""This package is the host side: it brings weights and tokens to the chip."""
