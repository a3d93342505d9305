"""The gateware, written in Amaranth, which computes the network."""
