"""How do weights and tokens reach the chip: the host side."""
