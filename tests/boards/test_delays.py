"""Delays of a routed chip, read from SDF, and the slowest path through each connection."""

from __future__ import annotations

from pathlib import Path

import pytest

from lutern.boards.delays import read_delays

HEAD = '(DELAYFILE\n  (SDFVERSION "3.0")\n  (TIMESCALE 1ps)\n'
WIRES = r"""
        (INTERCONNECT a/Q top.u\$1/A (1:2:1000) (1:2:1000))
        (INTERCONNECT b/Q top.u\$1/B (1:2:200) (1:2:200))
        (INTERCONNECT top.u\$1/F a/DI (1:2:300) (1:2:300))
        (INTERCONNECT top.u\$1/F c/M (1:2:4000) (1:2:4000))
        (INTERCONNECT b/Q d/DI (1:2:700) (1:2:700))
"""
FLIP_FLOP = """
    (CELLTYPE "TRELLIS_FF")
    (INSTANCE {})
        (IOPATH CLK Q (450:475:500) (450:475:500))
      (SETUPHOLD (posedge DI) (posedge CLK) (10:20:30) (267:285:303))
      (SETUPHOLD (posedge M) (posedge CLK) (10:20:30) (267:285:303))
"""
LUT = r"""
    (INSTANCE top.u\$1)
        (IOPATH A F (200:218:236) (200:218:236))
        (IOPATH B F (200:218:236) (200:218:236))
"""
NETS = {("a", "CLK"): 1, ("b", "CLK"): 1, ("c", "CLK"): 2, ("d", "CLK"): 1}


def test_slowest_paths(tmp_path: Path) -> None:
    """Each connection has the slowest path of its own clock. The path from `a` and `b` to `c` changes the clock."""
    file = tmp_path / "top.sdf"
    file.write_text(HEAD + WIRES + "".join(FLIP_FLOP.format(name) for name in "abcd") + LUT)
    delays = read_delays(file)
    paths = delays.paths(delays.timing(NETS, 1))
    through = 0.5 + 0.236 + 0.3 + 0.03
    assert paths == {
        ("top.u$1", "A"): pytest.approx(through + 1.0),
        ("top.u$1", "B"): pytest.approx(through + 0.2),
        ("a", "DI"): pytest.approx(through + 1.0),
        ("d", "DI"): pytest.approx(0.5 + 0.7 + 0.03),
    }
    assert delays.paths(delays.timing(NETS, 2)) == {}
