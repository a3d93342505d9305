"""The options of a training run; the default of every field trains the demo's shape."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lutern.model_ref.errors import LuternError, quoted

SCHEDULES = ("cosine", "paper")
PARALLEL = ("ddp", "fsdp")
DEFAULTS = {"hidden_size": 256, "num_hidden_layers": 4, "intermediate_size": 256, "learning_rate": 8e-3}
"""Defaults of fields that are None: of the shape if there is no ``start_from``, of the rate if it is "cosine"."""
PAPER_RATES = ((341_049_344, 4e-3), (1_298_661_376, 2.5e-3), (2_619_473_920, 1.5e-3))
"""Ternary weights of the published 370M, 1.3B and 2.7B, and the learning rates that they were trained with."""


@dataclass(frozen=True)
class TrainOptions:
    """Options of one training run.

    Parameters
    ----------
    hidden_size, num_hidden_layers, intermediate_size: shape of the model; None means that of ``start_from``, else
        ``DEFAULTS``.
    tokenizer: "character", "bpe:N" for N pieces, or a tokenizer.json or a folder with one; None means that of
        ``start_from``, else "character".
    start_from: checkpoint folder that gives the run its first weights, its shape and its tokenizer.
    separator: text between the documents of a text file.
    column: column of a data set that holds the text or the token numbers.
    steps: optimiser steps, the schedule's length.
    batch: crops a step, over all processes.
    accumulate: number of parts in which a process reads its share of the batch, one after another.
    checkpoint_activations: keep only the inputs of the layers, and compute the rest again for the gradient.
    lean: on a GPU keep less for the gradient, and compute one product of each layer again.
    parallel: how several processes share the work: "ddp" (each has the whole model) or "fsdp" (each has a part).
    sequence_length: tokens a crop; the state is zero at its start.
    schedule: "cosine" to zero; or "paper": the same, halved from the middle on, at the published learning rates.
    learning_rate: AdamW's, at the top of the schedule; None means the schedule's own.
    warmup_steps: steps from zero to the top.
    weight_decay: AdamW's, on matrices only.
    dropout: share of embedding, mixer outputs and last hidden vector that is zeroed in training; not needed if
        teachers write enough text.
    gradient_clip: largest norm of the gradient.
    teachers: float networks trained first and distilled into the model; 0 trains on the text alone.
    teacher_hidden_size, teacher_num_hidden_layers, teacher_intermediate_size, teacher_steps, teacher_batch,
    teacher_learning_rate, teacher_weight_decay, teacher_dropout: the same for the teachers.
    teacher_top: for each token the model learns this many of the teachers' largest probabilities, and one token drawn
        from all others, which represents these.
    synthetic_tokens: amount of text that the teachers write for the model. It is stored in the device's memory with the
    kept probabilities: 76 bytes a token. synthetic_share: share of the crops taken from that text. label_weight: on the
    given text, the weight of the true next token relative to the teachers' probabilities. seed: seed of everything
    random. device: "cpu", "cuda", or "auto", which means a GPU if there is one. compile: let torch.compile fuse the
    network; None means on a GPU only. save_every: steps between two saves of what ``resume`` needs. validate_every:
    steps between two validations. resume: continue from the last save in the output folder. force: replace the contents
    of the output folder.
    """

    hidden_size: int | None = None
    num_hidden_layers: int | None = None
    intermediate_size: int | None = None
    tokenizer: str | None = None
    start_from: str | None = None
    separator: str = "<|endoftext|>"
    column: str = "text"
    steps: int = 10_000
    batch: int = 32
    accumulate: int = 1
    checkpoint_activations: bool = False
    lean: bool = False
    parallel: str = "ddp"
    sequence_length: int = 1024
    schedule: str = "cosine"
    learning_rate: float | None = None
    warmup_steps: int = 300
    weight_decay: float = 0.1
    dropout: float = 0.1
    gradient_clip: float = 1.0
    teachers: int = 0
    teacher_hidden_size: int = 384
    teacher_num_hidden_layers: int = 8
    teacher_intermediate_size: int = 512
    teacher_steps: int = 2_500
    teacher_batch: int = 32
    teacher_learning_rate: float = 2e-3
    teacher_weight_decay: float = 1.0
    teacher_dropout: float = 0.25
    teacher_top: int = 16
    synthetic_tokens: int = 64_000_000
    synthetic_share: float = 0.7
    label_weight: float = 0.2
    seed: int = 1
    device: str = "auto"
    compile: bool | None = None
    save_every: int = 1_000
    validate_every: int = 1_000
    resume: bool = False
    force: bool = False

    def __post_init__(self) -> None:
        for name in (
            "steps",
            "batch",
            "accumulate",
            "sequence_length",
            "teacher_steps",
            "teacher_batch",
            "teacher_top",
            "save_every",
            "validate_every",
        ):
            if getattr(self, name) < 1:
                raise LuternError(f"training: {name} is {getattr(self, name)}, but wants at least 1.")
        not_negative = ("weight_decay", "warmup_steps", "teachers", "teacher_weight_decay", "synthetic_tokens")
        for name in (*not_negative, "seed"):
            if getattr(self, name) < 0:
                raise LuternError(f"training: {name} is {getattr(self, name)}, but must not be negative.")
        for name in ("dropout", "teacher_dropout", "synthetic_share", "label_weight"):
            if not 0 <= getattr(self, name) < 1:
                raise LuternError(f"training: {name} is {getattr(self, name)}, but wants a share from 0 to below 1.")
        for name in ("learning_rate", "teacher_learning_rate", "gradient_clip"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise LuternError(f"training: {name} is {value}, but must be above 0.")
        for name, choices in (("device", ("cpu", "cuda", "auto")), ("schedule", SCHEDULES), ("parallel", PARALLEL)):
            if getattr(self, name) not in choices:
                wanted = f"{', '.join(choices[:-1])} or {choices[-1]}"
                raise LuternError(f"training: {name} is {quoted(getattr(self, name))}, but wants {wanted}.")
        if self.resume and self.force:
            raise LuternError(
                "training: resume continues the run that is there, and force replaces it; give one of the two."
            )
        if not self.separator or not self.column:
            raise LuternError("training: separator and column must be texts of at least one character.")

    def shape(self, name: str) -> int:
        """Return ``hidden_size``, ``num_hidden_layers`` or ``intermediate_size``, or its default."""
        value = getattr(self, name)
        return int(DEFAULTS[name] if value is None else value)

    def rate(self, trits: int) -> float:
        """Return the learning rate at the top: the given one, or the schedule's own for a model of ``trits`` ternary
        weights."""
        if self.learning_rate is not None:
            return self.learning_rate
        if self.schedule == "cosine":
            return DEFAULTS["learning_rate"]
        return min(PAPER_RATES, key=lambda row: abs(math.log(trits / row[0])))[1]
