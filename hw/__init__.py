"""How is it computed: the gateware, in Amaranth."""
