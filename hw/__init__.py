"""The gateware, written in Amaranth: how the network is computed."""
