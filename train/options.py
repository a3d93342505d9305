"""Defines the options of a training run. The defaults train the demo's shape."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lutern.model_ref.errors import LuternError, quoted

SCHEDULES = ("cosine", "paper")
PARALLEL = ("ddp", "fsdp")
DEFAULTS = {"hidden_size": 256, "num_hidden_layers": 4, "intermediate_size": 256, "learning_rate": 8e-3}
"""Defaults of fields that are None. The default shape applies if ``start_from`` is not given, and the default rate
applies if the schedule is "cosine"."""
PAPER_RATES = ((341_049_344, 4e-3), (1_298_661_376, 2.5e-3), (2_619_473_920, 1.5e-3))
"""For each of the published models 370M, 1.3B and 2.7B: its number of ternary weights, and the learning rate of its
training."""


@dataclass(frozen=True)
class TrainOptions:
    """The options of one training run.

    Parameters
    ----------
    hidden_size, num_hidden_layers, intermediate_size: shape of the model. None: the shape of ``start_from``, else
        ``DEFAULTS``.
    tokenizer: "character", "bpe:N" for N pieces, a tokenizer.json, or a folder that contains a tokenizer.json. None:
        the tokenizer of ``start_from``, else "character".
    start_from: checkpoint folder from which the run takes its first weights, its shape and its tokenizer.
    separator: text between the documents in a text file.
    column: column of a data set that contains the text or the token numbers.
    steps: number of optimiser steps, which is the length of the schedule.
    batch: number of crops per step, over all processes.
    accumulate: number of parts into which a process divides its crops of a batch. The parts are read one after another.
    checkpoint_activations: keep only the inputs of the layers, and compute all other values again for the gradient.
    lean: on a GPU, keep less for the gradient, and compute one product of each layer again.
    parallel: "ddp" (each process has the whole model) or "fsdp" (each process has a part of the model).
    sequence_length: number of tokens in a crop. The state is zero at the beginning of a crop.
    schedule: with "cosine", the learning rate follows half a cosine to zero. "paper" is the same cosine with the
        published learning rates, which are divided by two in the second half of the steps.
    learning_rate: the highest learning rate of the schedule. None: the default of the schedule.
    warmup_steps: number of steps in which the learning rate rises from zero.
    weight_decay: the weight decay of AdamW, which applies only to matrices.
    dropout: share of elements that training sets to zero, in the embedding, in the outputs of mixers and in the last
        hidden vector. Dropout is not needed if teachers write enough text.
    gradient_clip: largest norm of the gradient.
    teachers: number of float networks that are trained first and distilled into the model. 0: train on the text alone.
    teacher_hidden_size, teacher_num_hidden_layers, teacher_intermediate_size, teacher_steps, teacher_batch,
    teacher_learning_rate, teacher_weight_decay, teacher_dropout: the same options as without teacher_, but for the
        teachers.
    teacher_top: number of the teachers' largest probabilities that the model learns for each token. In addition, the
        model learns one token that is drawn from all other tokens and represents them.
    synthetic_tokens: number of tokens that the teachers write for the model. These tokens and the kept probabilities
        are stored in the device's memory, 76 bytes per token.
    synthetic_share: share of crops that are taken from the teachers' text.
    label_weight: weight of the true next token on the given text. The teachers' probabilities have the remaining weight
        (1 - label_weight).
    seed: seed of all random numbers.
    device: "cpu", "cuda", or "auto", which means a GPU if there is one.
    compile: let torch.compile fuse the network. None: only on a GPU.
    save_every: number of steps between two saves, from which ``resume`` can continue.
    validate_every: number of steps between two validations.
    resume: continue from the last save in the output folder.
    force: replace the contents of the output folder.
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
                raise LuternError(f"training: {name} is {getattr(self, name)}, but must be at least 1.")
        not_negative = ("weight_decay", "warmup_steps", "teachers", "teacher_weight_decay", "synthetic_tokens")
        for name in (*not_negative, "seed"):
            if getattr(self, name) < 0:
                raise LuternError(f"training: {name} is {getattr(self, name)}, but must not be negative.")
        for name in ("dropout", "teacher_dropout", "synthetic_share", "label_weight"):
            if not 0 <= getattr(self, name) < 1:
                raise LuternError(f"training: {name} is {getattr(self, name)}, but must be a share from 0 to below 1.")
        for name in ("learning_rate", "teacher_learning_rate", "gradient_clip"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise LuternError(f"training: {name} is {value}, but must be above 0.")
        for name, choices in (("device", ("cpu", "cuda", "auto")), ("schedule", SCHEDULES), ("parallel", PARALLEL)):
            if getattr(self, name) not in choices:
                wanted = f"{', '.join(choices[:-1])} or {choices[-1]}"
                raise LuternError(f"training: {name} is {quoted(getattr(self, name))}, but must be {wanted}.")
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
        """Return the highest learning rate: ``learning_rate``, or the default of the schedule for a model with
        ``trits`` ternary weights."""
        if self.learning_rate is not None:
            return self.learning_rate
        if self.schedule == "cosine":
            return DEFAULTS["learning_rate"]
        return min(PAPER_RATES, key=lambda row: abs(math.log(trits / row[0])))[1]
