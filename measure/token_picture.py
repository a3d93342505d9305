"""Draws one token as a timing diagram, from the cycle model and without a simulation.

    token ─► phases of the cycle model ─► bar 1: all phases in order         ░ lanes wait  █ trits are taken
                                      └─► bar 2: one layer, one line per matrix

`make docs` draws the picture again each time, so the picture shows the present gateware. The picture is an SVG without
scripts or embedded fonts, and equal phases give equal bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from lutern.firmware.limits import check_fit
from lutern.firmware.schedule import phase_names
from lutern.hw.config import HwConfig
from lutern.measure.cycles import token_phases
from lutern.measure.pictures import COLOURS
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.embedding import WIDE_BITS

WIDTH, LEFT, RIGHT = 1000, 110, 30
ROW, BAR = 30, 20
LAYER = "layer 1"
"""The layer in the lower part of the picture: the first layer that comes after another layer."""


@dataclass(frozen=True)
class Span:
    """A phase: it begins at cycle ``start``, the lanes wait for ``wait`` cycles, then take ``beats`` beats of trits."""

    part: str
    name: str
    start: int
    wait: int
    beats: int

    @property
    def end(self) -> int:
        """The first cycle of the next phase."""
        return self.start + self.wait + self.beats


def spans(model_config: ModelConfig, hw_config: HwConfig) -> list[Span]:
    """Return the phases of one token, by the cycle model. Waits within a matrix are shown before its beats."""
    found: list[Span] = []
    phases = token_phases(model_config, hw_config)
    for (part, name), phase in zip(phase_names(model_config.num_hidden_layers), phases, strict=True):
        start = found[-1].end if found else 0
        found.append(Span(part, name, start, phase.cycles - phase.beats, phase.beats))
    return found


def token_picture(model_config: ModelConfig, hw_config: HwConfig) -> str:
    """Return the picture, as the text of an SVG file. Raise ``LuternError`` if the model does not fit the machine."""
    check_fit(model_config, hw_config, WIDE_BITS)
    token = spans(model_config, hw_config)
    layer = [span for span in token if span.part == (LAYER if model_config.num_hidden_layers > 1 else "layer 0")]
    height = 150 + ROW * len(layer) + 40
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(_title(token, hw_config))}" font-family="system-ui, Helvetica, Arial, sans-serif" '
        'font-size="13" fill="#1f2933">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        _text(LEFT, 22, _title(token, hw_config), weight="bold", size=15),
        *_legend(),
        *_bar(token, 62, _scale(token)),
        *_parts(token, 62, _scale(token)),
        _text(LEFT, 138, f"{layer[0].part}, matrix by matrix", weight="bold"),
        *_rows(layer, 150),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _title(token: Sequence[Span], hw_config: HwConfig) -> str:
    taken = sum(span.beats for span in token)
    return (
        f"One token on {hw_config.name}: {token[-1].end:,} cycles, in {taken:,} of them ({taken / token[-1].end:.0%}) "
        "the lanes take trits"
    )


def _scale(chosen: Sequence[Span]) -> tuple[int, float]:
    """Return the first cycle, and the pixels per cycle."""
    return chosen[0].start, (WIDTH - LEFT - RIGHT) / (chosen[-1].end - chosen[0].start)


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal", size: int = 13) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" font-size="{size}">'
        f"{escape(text)}</text>"
    )


def _rect(x: float, y: float, width: float, name: str) -> str:
    return f'<rect x="{x:.2f}" y="{y:.1f}" width="{width:.2f}" height="{BAR}" fill="{COLOURS[name]}"/>'


def _legend() -> Iterator[str]:
    for index, (name, text) in enumerate((("beats", "trits are taken"), ("barrier", "the lanes wait"))):
        x = LEFT + 150 * index
        yield f'<rect x="{x}" y="34" width="12" height="12" fill="{COLOURS[name]}"/>'
        yield _text(x + 18, 45, text)


def _bar(chosen: Sequence[Span], y: float, scale: tuple[int, float]) -> Iterator[str]:
    """Yield a bar of waits and beats, whose widths add up to the cycles."""
    first, pixels = scale
    for span in chosen:
        x = LEFT + (span.start - first) * pixels
        if span.wait:
            yield _rect(x, y, span.wait * pixels, "barrier")
        if span.beats:
            yield _rect(x + span.wait * pixels, y, span.beats * pixels, "beats")


def _parts(token: Sequence[Span], y: float, scale: tuple[int, float]) -> Iterator[str]:
    """Yield names of the layers below a bar, and a line where each layer begins."""
    yield _text(LEFT - 10, y + 15, "token", anchor="end")
    for part in dict.fromkeys(span.part for span in token):
        of_part = [span for span in token if span.part == part]
        x, end = (LEFT + (cycle - scale[0]) * scale[1] for cycle in (of_part[0].start, of_part[-1].end))
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y - 4}" y2="{y + BAR + 6}" stroke="#1f2933"/>'
        if end - x > 8 * len(part):
            yield _text((x + end) / 2, y + BAR + 18, part, anchor="middle")


def _rows(layer: Sequence[Span], top: float) -> Iterator[str]:
    """Yield one line per matrix, with the numbers of cycles in which its lanes wait and take trits."""
    scale = _scale(layer)
    for index, span in enumerate(layer):
        y = top + ROW * index
        yield _text(LEFT - 10, y + 15, span.name, anchor="end")
        yield from _bar([span], y, scale)
        x = LEFT + (span.end - scale[0]) * scale[1]
        said = f"{span.wait:,} + {span.beats:,}" if span.wait else f"{span.beats:,}"
        inside = x + 110 > WIDTH
        at = LEFT + (span.start - scale[0]) * scale[1] - 6 if inside else x + 6
        yield _text(at, y + 15, said, anchor="end" if inside else "start")
    y = top + ROW * len(layer) + 16
    yield _text(LEFT, y, f"cycle {layer[0].start:,}")
    yield _text(WIDTH - RIGHT, y, f"cycle {layer[-1].end:,}", anchor="end")


__all__ = ["Span", "spans", "token_picture"]
