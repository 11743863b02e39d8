"""What a training changes: weights, their averages, gradients and the optimizer's moments."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from inkwash.errors import UserError
from inkwash.training import checkpoint, distributed
from inkwash.training.settings import Settings


class TrainState:
    """Of the parameters of a module that require a gradient."""

    def __init__(self, module: nn.Module, settings: Settings) -> None:
        self.module, self.compiled = module, settings.compile != "none"
        self.trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
        if not self.trained:
            raise ValueError("the module has no parameter that requires a gradient")
        distributed.broadcast([*module.parameters(), *module.buffers()])
        self.weights: list[Tensor] = list(self.trained.values())
        self.averages = {name: p.detach().clone() for name, p in self.trained.items()}
        # All gradients one after the other, and the loss at the end: one sum over all devices. Each lies in memory as
        # its parameter does, which the fused kernel asks for, and begins at a multiple of 16 bytes, which GPUs like.
        sizes = [-(-p.numel() // 4) * 4 for p in self.weights]
        self.sums = torch.zeros(sum(sizes) + 1, device=self.weights[0].device)
        offsets = accumulate(sizes, initial=0)
        self.gradients = [
            torch.as_strided(self.sums, p.shape, p.stride(), at) for p, at in zip(self.weights, offsets, strict=False)
        ]
        kernels, vectors = [p for p in self.weights if p.ndim > 1], [p for p in self.weights if p.ndim <= 1]
        groups: list[dict[str, Any]] = [{"params": kernels}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(
            groups, betas=settings.betas, weight_decay=settings.weight_decay, fused=True
        )

    def add(self, loss: Tensor, gradients: Sequence[Tensor]) -> None:
        """Those of a micro-batch to the others of its step."""
        self.sums[-1:].add_(loss)
        torch._foreach_add_(self.gradients, list(gradients))

    @torch.no_grad()
    def step(self, learning_rate: float, max_grad_norm: float, ema_decay: float) -> Tensor:
        """Weights and averages go a step; returns the loss and the norm of its gradient, (2,) on the device."""
        distributed.all_reduce(self.sums)
        gradient, loss = self.sums[:-1], self.sums[-1:].clone()
        norm = torch.linalg.vector_norm(gradient)
        gradient.mul_((max_grad_norm / norm).clamp(max=1.0))
        for p, g in zip(self.weights, self.gradients, strict=True):
            p.grad = g
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad()  # the module goes on without gradients of ours
        self.sums.zero_()
        torch._foreach_lerp_(list(self.averages.values()), self.weights, 1 - ema_decay)
        return torch.cat([loss, norm.reshape(1)])

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint holds, by kind and name."""
        state: dict[str, Tensor] = {f"weights/{name}": p for name, p in self.trained.items()}
        state |= {f"buffers/{name}": b for name, b in self.module.named_buffers()}
        state |= {f"ema/{name}": average for name, average in self.averages.items()}
        for name, p in self.trained.items():
            state |= {f"{kind}/{name}": value for kind, value in self.optimizer.state[p].items()}
        return state

    def restore(self, path: Path) -> None:
        """Takes on what a checkpoint holds. UserError for one of another network."""
        kinds = checkpoint.load(path)
        current: dict[str, Mapping[str, Tensor]]
        current = {"weights": self.trained, "ema": self.averages, "buffers": dict(self.module.named_buffers())}
        for kind, tensors in current.items():
            saved = kinds.pop(kind, {})
            if {k: v.shape for k, v in saved.items()} != {k: v.shape for k, v in tensors.items()}:
                raise UserError(f"{path} holds the weights of another network: choose a new folder for this run")
            for name, tensor in saved.items():
                tensors[name].data.copy_(tensor)
        for kind, saved in kinds.items():
            for name, tensor in saved.items():
                p = self.trained[name]
                # moments too must lie in memory as their parameter does
                like = p if tensor.shape == p.shape else tensor
                moment = torch.empty_like(like, device=p.device, requires_grad=False)
                self.optimizer.state[p][kind] = moment.copy_(tensor)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The module with its averaged weights, for as long as the block lasts; no copies, and nothing is compiled
        for it."""
        weights = {name: p.data for name, p in self.trained.items()}
        self.use_averages()
        eager = torch.compiler.set_stance("force_eager") if self.compiled else nullcontext()
        try:
            with torch.no_grad(), eager:
                yield
        finally:
            for name, p in self.trained.items():
                p.data = weights[name]
            self.module.train()

    def use_averages(self) -> None:
        """Puts the averages in the place of the weights."""
        for name, p in self.trained.items():
            p.data = self.averages[name]
        self.module.eval()
