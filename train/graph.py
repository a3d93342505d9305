"""Runs forward and backward as one CUDA graph, since the CPU launches a kernel more slowly than the GPU runs it.

    first call: run two ordinary steps, record one step
    every call: copy the inputs, run the recorded step again

The gradients stay in the memory in which they were recorded, and the activations of the next step use this memory
again. So a step needs no more memory than without a graph. The optimiser is not part of the graph. All inputs must have
the same shape, there must be one GPU, and gradients must have no hooks.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Loss = Callable[[Tensor, Tensor], Tensor]
WARM_UP = 2  # steps before recording, in which PyTorch and Triton allocate their buffers


class GraphedStep:
    """A training step as a graph. A call with (inputs, targets) sets every parameter's gradient and returns the
    loss."""

    def __init__(self, loss_of: Loss, parameters: list[nn.Parameter]) -> None:
        self._loss_of, self._parameters = loss_of, parameters
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, inputs: Tensor, targets: Tensor) -> Tensor:
        if self._graph is None:
            self._record(inputs, targets)
        assert self._graph is not None
        self._inputs.copy_(inputs)
        self._targets.copy_(targets)
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient  # the caller may have set the gradient to None
        self._graph.replay()
        return self._loss.clone()

    def _record(self, inputs: Tensor, targets: Tensor) -> None:
        self._inputs, self._targets = inputs.clone(), targets.clone()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                self._forget()
                self._loss_of(self._inputs, self._targets).backward()
            self._forget()
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            loss = self._loss_of(self._inputs, self._targets)
            loss.backward()
        self._loss = loss.detach()
        self._gradients = [parameter.grad for parameter in self._parameters]

    def _forget(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None


def step_by(loss_of: Loss, parameters: list[nn.Parameter], graphed: bool) -> Loss:
    """Return a function that sets every gradient and returns the loss. If ``graphed`` is set, the function runs a
    graph."""
    if graphed:
        return GraphedStep(loss_of, parameters)

    def step(inputs: Tensor, targets: Tensor) -> Tensor:
        for parameter in parameters:
            parameter.grad = None  # free the gradients before the activations are allocated
        loss = loss_of(inputs, targets)
        loss.backward()
        return loss.detach()

    return step
