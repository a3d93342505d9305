"""What a training run can be told; every field has a default that trains the demo's shape."""

from __future__ import annotations

from dataclasses import dataclass

from lutern.model_ref.errors import LuternError


@dataclass(frozen=True)
class TrainOptions:
    """Options of one training run.

    Parameters
    ----------
    hidden_size, num_hidden_layers, intermediate_size: shape of the model.
    steps: optimiser steps, the cosine schedule's length.
    batch: crops a step.
    sequence_length: characters a crop; the state is zero at its start.
    learning_rate: AdamW's, at the top of the schedule.
    warmup_steps: steps from zero to the top.
    weight_decay: AdamW's, on matrices only.
    dropout: share of embedding, mixer outputs and last hidden vector that is zeroed while training; needless with
        teachers that write enough text.
    gradient_clip: largest norm of the gradient.
    teachers: float networks trained first and distilled into the model; 0 trains on the text alone.
    teacher_hidden_size, teacher_num_hidden_layers, teacher_intermediate_size, teacher_steps, teacher_batch,
    teacher_learning_rate, teacher_weight_decay, teacher_dropout: the same for the teachers.
    synthetic_characters: text that the teachers write for the model to read.  It lies in the device's memory with
        a half-precision probability for each token of the vocabulary: 80 bytes a character for 38 tokens.
    synthetic_share: share of the crops taken from that text.
    label_weight: on the given text, the weight of the true next character beside the teachers' probabilities.
    seed: of everything random.
    device: "cpu", "cuda", or "auto" for a GPU where there is one.
    compile: let torch.compile fuse the network; None means on a GPU only.
    save_every: steps between two saves of what ``resume`` needs.
    validate_every: steps between two validations.
    resume: go on from the last save in the output folder.
    """

    hidden_size: int = 256
    num_hidden_layers: int = 4
    intermediate_size: int = 256
    steps: int = 10_000
    batch: int = 32
    sequence_length: int = 1024
    learning_rate: float = 8e-3
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
    synthetic_characters: int = 64_000_000
    synthetic_share: float = 0.7
    label_weight: float = 0.2
    seed: int = 1
    device: str = "auto"
    compile: bool | None = None
    save_every: int = 1_000
    validate_every: int = 1_000
    resume: bool = False

    def __post_init__(self) -> None:
        for name in (
            "steps",
            "batch",
            "sequence_length",
            "teacher_steps",
            "teacher_batch",
            "save_every",
            "validate_every",
        ):
            if getattr(self, name) < 1:
                raise LuternError(f"training: {name} is {getattr(self, name)}, but wants at least 1.")
        not_negative = ("weight_decay", "warmup_steps", "teachers", "teacher_weight_decay", "synthetic_characters")
        for name in (*not_negative, "seed"):
            if getattr(self, name) < 0:
                raise LuternError(f"training: {name} is {getattr(self, name)}, but must not be negative.")
        for name in ("dropout", "teacher_dropout", "synthetic_share", "label_weight"):
            if not 0 <= getattr(self, name) < 1:
                raise LuternError(f"training: {name} is {getattr(self, name)}, but wants a share from 0 to below 1.")
        for name in ("learning_rate", "teacher_learning_rate", "gradient_clip"):
            if not getattr(self, name) > 0:
                raise LuternError(f"training: {name} is {getattr(self, name)}, but must be above 0.")
        if self.device not in ("auto", "cpu", "cuda"):
            raise LuternError(f"training: device is {self.device!r}, but wants cpu, cuda or auto.")
