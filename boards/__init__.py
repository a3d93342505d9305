"""Where does it run: pins, clocks, memories, bitstreams."""
