"""Writes text to standard output while a machine generates it, for prompts or for the turns of a conversation, and
prints the figures of the run."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass

from lutern.api.figures import Figures, session_of
from lutern.api.machines import Machine
from lutern.api.models import Model
from lutern.api.writing import Style, Talk, Texts
from lutern.cli.output import plain_console
from lutern.cli.progress import progress_bar
from lutern.cli.repairs import repairs_shown
from lutern.firmware import session
from lutern.firmware.host_weights import line_tokens_per_s
from lutern.firmware.serial_port import BAUD
from lutern.measure.cycles import token_cycles
from lutern.model_ref.tokenizer import Tokenizer
from lutern.sim.lockstep import LockStep


@dataclass(frozen=True)
class Place:
    """The model that writes a text, the machine that computes the text, and how the machine is reached."""

    model: Model
    machine: session.Machine
    where: str = "simulated"
    baud: int = BAUD

    @classmethod
    def of(cls, model: Model, machine: Machine) -> Place:
        """Return the place of a ``lutern.api.machines.Machine``."""
        return cls(model, machine.machine, machine.where, getattr(machine.client.link, "baud", BAUD))


def write_texts(place: Place, tokenizer: Tokenizer, prompts: list[list[int]], style: Style, hidden: bool) -> None:
    """Print one prompt and its text while the text is generated. If there are several prompts, print their texts one
    after another when all texts are complete. Then print the figures.
    """
    out, alone = sys.stdout, len(prompts) == 1
    texts = Texts(place.machine, tokenizer, prompts, style, hidden)
    written = ["" for _ in prompts]

    def show(which: int, new: str) -> None:
        if alone:
            out.write(new)
            out.flush()
        else:
            written[which] += new

    with repairs_shown(place.machine):
        try:
            with progress_bar("tokens", hidden=alone) as advance:
                for which, new in texts.pieces():
                    show(which, new)
                    advance(texts.count, style.count * len(prompts))
        finally:
            for which, new in texts.rest():
                show(which, new)
            out.write("\n" if alone else "".join(f"{text}\n" for text in written))
            out.flush()
    show_summary(place, texts.figures())


def write_turns(place: Place, tokenizer: Tokenizer, turns: Iterable[str], style: Style, chat: bool) -> None:
    """Answer every turn with ``Talk``, each answer on a separate line."""
    talk = Talk(place.machine, tokenizer, style, chat)
    for turn in turns:
        pieces = talk.say(turn)
        with repairs_shown(place.machine):
            try:
                for new in pieces:
                    sys.stdout.write(new)
                    sys.stdout.flush()
            finally:
                sys.stdout.write(talk.rest() + "\n")
                sys.stdout.flush()
    figures = talk.figures()
    if figures is not None:
        show_summary(place, figures)


def say_step(command: str) -> None:
    """Print a command that Lutern runs for the user, on standard error."""
    plain_console(stderr=True).print(f"$ {command}", style="bold", soft_wrap=True)


def show_summary(place: Place, figures: Figures) -> None:
    """Print the figures of a run on standard error."""
    console = plain_console(stderr=True)
    for line in summary(place, figures):
        console.print(line, style="dim", soft_wrap=True)


def summary(place: Place, figures: Figures) -> list[str]:
    """Return lines with the figures of a run: speed on this computer, cycles of a pass, lane use, and the tokens/s at
    the preset's clock. If the link transfers the weights, the second line contains the transferred bytes and the most
    tokens/s that the link allows.
    """
    machine, model, opened = place.machine, place.model, session_of(place.machine)
    speed = f"{figures.tokens / figures.seconds:.1f} tokens/s"
    if opened is None:
        return [f"integer model: {speed}", *_synthetic(model)]
    config, program, widest = opened.config, opened.program, figures.streams
    lines = [f"{config.name}, {config.lanes} lanes, {place.where}: {speed} ({figures.tokens} tokens)"]
    per = f"pass of {widest} tokens" if widest > 1 else "token"
    if config.memory == "host":
        bound = widest * line_tokens_per_s(program, place.baud)
        lines.append(
            f"{program.bytes_per_token:,} bytes of weights come over the link for each {per}: at most {bound:.3g} "
            f"tokens/s at {place.baud:,} baud"
        )
    else:
        model_cycles = token_cycles(program.model_config, config, widest, embedding_bits=program.embedding_bits).cycles
        lines.append(
            f"{figures.cycles:,.0f} cycles/{per} (cycle model {model_cycles:,}; "
            f"trits / lanes {model.config.trits / config.lanes:,.0f}: lane use {figures.lane_use:.1%}); "
            f"{figures.tokens_per_second:,.0f} tokens/s at {config.clock_hz / 1e6:.4g} MHz"
        )
    if figures.saturations:
        lines.append(
            f"values were clipped in {figures.saturations} beats: the model's ranges are calibrated, not proved"
        )
    if isinstance(machine, LockStep):
        lines.append(f"checked {machine.checked:,} values against the integer model: no difference")
    return lines + _synthetic(model)


def _synthetic(model: Model) -> list[str]:
    """Return the line that marks figures of synthetic weights. For trained weights there is no line."""
    return [f"synthetic weights ({model.synthetic})"] if model.synthetic else []
