"""Pictures are complete, have the same bytes every time, and load nothing from outside."""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ElementTree

import pytest

from lutern.firmware.schedule import phase_names
from lutern.hw.presets import preset
from lutern.hw.protocol import COUNTER_NAMES
from lutern.measure import pictures
from lutern.measure.phases import Phase, Token
from lutern.measure.pictures import Bar, Roof
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError

MODEL = ModelConfig(vocab_size=37, hidden_size=32, num_hidden_layers=2, intermediate_size=48)


def token() -> Token:
    """Return a token with phases of n + 100 cycles, n of which are in a barrier."""
    phases = [
        Phase(
            part,
            name,
            {**dict.fromkeys(COUNTER_NAMES, 0), "beats": 100, "barrier": index, "words": 60 + index, "gains": 40},
        )
        for index, (part, name) in enumerate(phase_names(MODEL.num_hidden_layers))
    ]
    return Token(preset("tiny"), 1, phases)


def drawn(name: str) -> str:
    roofs = [Roof("machine A", 4.5, 3e9, 4e9, 1e9), Roof("machine B", 4.0, 5e8, 2e9, 2e8)]
    figure = {
        "timeline": lambda: pictures.timeline(token()),
        "layers": lambda: pictures.layers(token()),
        "energy": lambda: pictures.energy([Bar("row", 1.0, 0.5, 2.0), Bar("layer 0", 5.0, 3.0, 9.0)], "uJ"),
        "toggles": lambda: pictures.energy([Bar("row", 1.0)], "toggles"),
        "roofline": lambda: pictures.roofline(roofs),
    }[name]()
    return pictures.to_svg(figure, name)


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("timeline", ("layer 0", "layer 1", "gate", "cycles from choice to choice", "lanes, % of cycles")),
        ("layers", ("embeddings", "layer 1", "head", " 728", " 777", "no code of the next vector is there yet")),
        ("energy", ("layer 0", "uJ")),
        ("toggles", ("row",)),
        ("roofline", ("machine A: 75% of its bound", "machine B: 62% of its bound")),
    ],
)
def test_pictures(name: str, texts: tuple[str, ...]) -> None:
    svg = drawn(name)
    ElementTree.fromstring(svg)
    shown = re.findall(r">([^<>]+)</text>", svg)
    assert not [text for text in texts if text not in shown], shown
    assert svg == drawn(name)
    outside = [link for link in re.findall(r'(?:href|src)="([^"]*)"', svg) if not link.startswith("#")]
    assert outside == [] and "@import" not in svg


def test_ids_of_pictures_differ() -> None:
    ids = [set(re.findall(r' id="([^"]*)"', drawn(name))) for name in ("timeline", "layers", "energy", "roofline")]
    assert all(not one & other for place, one in enumerate(ids) for other in ids[place + 1 :])


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(LuternError, match=r"matplotlib, which draws, is not installed; run: .*\[report\]"):
        pictures.layers(token())
