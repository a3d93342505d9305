"""Text on standard output as a machine writes it, turn by turn or all at once, and what it took."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from lutern.cli.models import Network
from lutern.cli.output import plain_console
from lutern.cli.progress import progress_bar
from lutern.cli.repairs import repairs_shown, session_of
from lutern.firmware.conversations import Dialogue, Piece, Sampling, converse
from lutern.firmware.host_weights import line_tokens_per_s
from lutern.firmware.serial_port import BAUD
from lutern.firmware.session import Machine, Run
from lutern.measure.cycles import token_cycles
from lutern.model_ref.chat import Chat
from lutern.model_ref.text_stream import Writing
from lutern.model_ref.tokenizer import Tokenizer
from lutern.sim.lockstep import LockStep


@dataclass(frozen=True)
class Style:
    """How a text goes on: at most ``count`` tokens, each chosen by ``sampling``, up to a token of ``ends`` or ahead of
    a text of ``stops``; ``begin``: with the tokens that the tokenizer puts ahead of a text."""

    count: int
    sampling: Sampling
    ends: tuple[int, ...]
    stops: tuple[str, ...]
    begin: bool = True

    def write(self, tokenizer: Tokenizer, prompt: list[int], hidden: bool) -> Writing:
        """The text that goes on from a prompt; ``hidden``: without the prompt's."""
        return Writing(tokenizer, prompt, self.ends, self.stops, hidden)


@dataclass(frozen=True)
class Place:
    """Where a text is written: the model, the machine that computes it, and how the machine is reached."""

    model: Network
    machine: Machine
    where: str = "simulated"
    baud: int = BAUD


def write_texts(place: Place, tokenizer: Tokenizer, prompts: list[list[int]], style: Style, hidden: bool) -> None:
    """Print prompts and texts as they come (several: one after the other when all is done), then what it took."""
    out, alone = sys.stdout, len(prompts) == 1
    texts = [style.write(tokenizer, prompt, hidden) for prompt in prompts]
    written = ["" for _ in prompts]

    def show(which: int, new: str) -> None:
        if alone:
            out.write(new)
            out.flush()
        else:
            written[which] += new

    show(0, texts[0].take())
    runs: list[Run] = []
    start = time.monotonic()
    with repairs_shown(place.machine):
        try:
            with progress_bar("tokens", hidden=alone) as advance:
                pieces = converse(
                    place.machine,
                    prompts,
                    style.count,
                    style.sampling,
                    finished=lambda which, token: texts[which].push(token),
                )
                for piece in _kept(pieces, runs):
                    show(piece.which, texts[piece.which].take())
                    advance(sum(text.count for text in texts), style.count * len(texts))
        finally:
            for which, text in enumerate(texts):
                show(which, text.finish())
            out.write("\n" if alone else "".join(f"{text}\n" for text in written))
            out.flush()
    steps = sum(len(prompt) - 1 + text.count for prompt, text in zip(prompts, texts, strict=True))
    _show_summary(place, runs, steps, time.monotonic() - start)


def write_turns(place: Place, tokenizer: Tokenizer, turns: Iterable[str], style: Style, chat: bool) -> None:
    """Answer every turn on a line of its own. The conversation's state stays on the machine: only what is new is fed,
    unless the chat's template writes what was said in another way, or a stop text was cut off."""
    dialogue, talk = Dialogue(place.machine, style.sampling), Chat(tokenizer) if chat else None
    runs: list[Run] = []
    held: list[int] = []  # all tokens so far
    said, whole, steps, seconds = "", False, 0, 0.0
    for turn in turns:
        if talk is not None:
            tokens, goes_on = talk.ask(turn)
        else:
            said, goes_on, start = said + turn, whole, len(said)
            tokens = tokenizer.encode_body(said, start) if goes_on else tokenizer.encode_prompt(said, begin=style.begin)
        if not goes_on:
            dialogue.restart()
            held = []
        elif dialogue.pending in style.ends:
            dialogue.pending = None  # what follows says how the text goes on behind its end
            held.pop()
        held += tokens
        text = style.write(tokenizer, held, True)
        before = time.monotonic()
        with repairs_shown(place.machine):
            try:
                for piece in _kept(dialogue.turn(tokens, style.count, partial(_push, text)), runs):
                    held += piece.tokens
                    sys.stdout.write(text.take())
                    sys.stdout.flush()
            finally:
                sys.stdout.write(text.finish() + "\n")
                sys.stdout.flush()
        seconds += time.monotonic() - before
        steps += len(tokens) + text.count
        said += text.text
        whole = not isinstance(text.ended_by, str)  # the state holds what was written and nothing else
        if talk is not None:
            talk.answered(text.text, whole=whole)
    if runs:
        _show_summary(place, runs, steps, seconds)


def _push(text: Writing, which: int, token: int) -> bool:
    return text.push(token)


def _kept(pieces: Iterator[Piece], runs: list[Run]) -> Iterator[Piece]:
    """The same pieces; every run that they come from is added to ``runs`` once."""
    for piece in pieces:
        if not runs or runs[-1] is not piece.run:
            runs.append(piece.run)
        yield piece


def _show_summary(place: Place, runs: list[Run], steps: int, seconds: float) -> None:
    console = plain_console(stderr=True)
    for line in summary(place, runs, steps, seconds):
        console.print(line, style="dim", soft_wrap=True)


def summary(place: Place, runs: list[Run], steps: int, seconds: float) -> list[str]:
    """What a run took: speed here, cycles of a pass, lane use, and the speed that the cycles mean at the preset's
    clock, or the link allows where it brings the weights; the last run, which had the fewest conversations left, is not
    counted where there was another."""
    machine, model, session = place.machine, place.model, session_of(place.machine)
    trits = model.config.trits
    if session is None:
        return [f"integer model: {steps / seconds:.1f} tokens/s", *_synthetic(model)]
    config = session.config
    widest = max(len(run.tokens[0]) for run in runs)
    full = [run for run in runs if len(run.tokens[0]) == widest]
    cycles = sum(run.cycles for run in full) / len(full)
    lines = [f"{config.name}, {config.lanes} lanes, {place.where}: {steps / seconds:.1f} tokens/s ({steps} tokens)"]
    per = f"pass of {widest} tokens" if widest > 1 else "token"
    if config.memory == "host":
        bound = widest * line_tokens_per_s(session.program, place.baud)
        lines.append(
            f"{session.program.bytes_per_token:,} bytes of weights a {per} over the link: at most {bound:.3g} "
            f"tokens/s at {place.baud:,} baud"
        )
    else:
        program = session.program
        model_cycles = token_cycles(program.model_config, config, widest, embedding_bits=program.embedding_bits).cycles
        lines.append(
            f"{cycles:,.0f} cycles/{per} (cycle model {model_cycles:,}; "
            f"trits / lanes {trits / config.lanes:,.0f}: lane use {trits / config.lanes / cycles:.1%}); "
            f"{widest * config.clock_hz / cycles:,.0f} tokens/s at {config.clock_hz / 1e6:.0f} MHz"
        )
    if clipped := sum(run.saturations for run in runs):
        lines.append(f"values were clipped in {clipped} beats: the model's ranges are calibrated, not proved")
    if isinstance(machine, LockStep):
        lines.append(f"checked {machine.checked:,} values against the integer model: no difference")
    return lines + _synthetic(model)


def _synthetic(model: Network) -> list[str]:
    """The line that every figure of random weights carries."""
    return [f"synthetic weights ({model.synthetic})"] if model.synthetic else []
