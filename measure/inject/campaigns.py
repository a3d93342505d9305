"""Lists the campaigns by name, with the machine and the model that each campaign uses by default."""

from __future__ import annotations

from lutern.hw.config import HwConfig
from lutern.hw.presets import preset
from lutern.measure.inject.campaign import Campaign, Settings
from lutern.measure.inject.chip import Codes, Control, ResidentWeights, Setup, State
from lutern.measure.inject.line import Bytes, Kill
from lutern.measure.inject.memory import Bits, Refresh, Row, Weights
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError

CAMPAIGNS: dict[str, type[Campaign]] = {
    "link": Bytes,
    "weights": Weights,
    "bits": Bits,
    "state": State,
    "codes": Codes,
    "control": Control,
    "setup": Setup,
    "kill": Kill,
    "refresh": Refresh,
    "row": Row,
}
SMALL_MACHINE: HwConfig = preset("tiny").with_(
    name="tiny-streamed", source="streamed", memory="port", rows=5, memory_words=1 << 12, gain_fifo_words=128
)
SMALL_MODEL = ModelConfig(vocab_size=20, hidden_size=32, num_hidden_layers=3, intermediate_size=48)
"""A model with random weights, whose record stream has two blocks."""


def campaign_of(name: str, config: HwConfig) -> type[Campaign]:
    """Return the campaign with this name for a machine; raise ``LuternError`` if there is none."""
    if name not in CAMPAIGNS:
        raise LuternError(f"there is no campaign {name}; choose one of {', '.join(CAMPAIGNS)}.")
    is_resident = name == "weights" and config.source == "resident"
    return ResidentWeights if is_resident else CAMPAIGNS[name]


def open_campaign(settings: Settings) -> Campaign:
    """Return a campaign whose outcomes can be computed."""
    return campaign_of(settings.campaign, settings.config)(settings)


__all__ = ["CAMPAIGNS", "SMALL_MACHINE", "SMALL_MODEL", "campaign_of", "open_campaign"]
