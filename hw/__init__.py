"""The gateware, which is written in Amaranth and computes the network."""
