"""The timing diagram: its spans equal the cycle model, its bars add up, and it is SVG that loads nothing."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from lutern.hw.presets import preset
from lutern.measure.cycles import token_cycles
from lutern.measure.pictures import COLOURS
from lutern.measure.token_picture import BAR, LEFT, RIGHT, WIDTH, spans, token_picture
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError

SVG = "{http://www.w3.org/2000/svg}"
CONFIG = ModelConfig(vocab_size=27, hidden_size=32, num_hidden_layers=2, intermediate_size=48)


@pytest.mark.parametrize("name", ["tiny", "sim-64"])
def test_spans_are_those_of_the_cycle_model(name: str) -> None:
    machine = preset(name)
    found, whole = spans(CONFIG, machine), token_cycles(CONFIG, machine)
    assert found[-1].end == whole.cycles and sum(span.beats for span in found) == whole.beats
    assert all(span.wait >= 0 for span in found)
    assert [span.name for span in found if span.part == "layer 1"] == [
        f"{name}_proj" for name in ("f", "i", "g", "o", "gate", "up", "down")
    ]


@pytest.mark.parametrize("layers", [1, 2])
def test_bars_add_up(layers: int) -> None:
    config = ModelConfig(vocab_size=27, hidden_size=32, num_hidden_layers=layers, intermediate_size=48)
    text = token_picture(config, preset("tiny"))
    root = ElementTree.fromstring(text)
    bars = [rect for rect in root.iter(f"{SVG}rect") if rect.get("height") == str(BAR)]
    assert {rect.get("fill") for rect in bars} == {COLOURS["beats"], COLOURS["barrier"]}
    # the bar of the token and the lines of its layer both cover the whole width
    widths = sum(float(rect.get("width", 0)) for rect in bars)
    assert widths == pytest.approx(2 * (WIDTH - LEFT - RIGHT), abs=0.01 * len(bars))
    assert f"{token_cycles(config, preset('tiny')).cycles:,} cycles" in text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "") and "<script" not in text


def test_a_model_that_does_not_fit_is_refused() -> None:
    large = ModelConfig(vocab_size=27, hidden_size=4096, num_hidden_layers=1, intermediate_size=4096)
    with pytest.raises(LuternError):
        token_picture(large, preset("tiny"))
