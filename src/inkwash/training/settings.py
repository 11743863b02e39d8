"""What a training takes beside its loss and its data: the keys of a recipe's [fit] table."""

from dataclasses import dataclass
from typing import Annotated, Literal, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt

from inkwash.errors import unknown
from inkwash.training.recipe import Amount, Count, Seed, check_bounds

Decay = Annotated[float, Ge(0), Lt(1)]


@dataclass(frozen=True)
class Settings:
    """The keys of a recipe's [fit] table.

    steps               updates of the weights
    batch_size          examples in one call of the loss; an update sees batch_size * grad_accumulation
    learning_rate       of AdamW (https://arxiv.org/abs/1711.05101), reached after `warmup` steps
    lr_decay            the learning rate after that: "none" stays, "cosine" falls to 0 at the last step
    weight_decay        on matrices and kernels; never on biases, norms and other vectors
    max_grad_norm       largest norm of the gradient (inf: do not clip)
    ema_decay           of the averaged weights; in step n (from 0) it is min(ema_decay, (1 + n) / (10 + n))
    seed                of the noise, the times and dropout
    precision           "bfloat16" computes the loss under autocast; weights stay float32. CPUs without
                        bfloat16 units compute it about fifty times slower
    channels_last       memory format of convolution kernels
    threads             of torch on a CPU. 1 wherever anything else runs: two threads wait for each other by
                        spinning, and beside one busy process that costs a factor of up to forty. 2 or more
                        only for the single job of an idle machine
    micro_batch_threads micro-batches computed at once on a CPU, each in a thread of its own: with
                        grad_accumulation = 2, two cores work without waiting for each other inside every layer.
                        The bits stay the same, but for dropout; layers that keep running statistics are not for it
    compile             the module's forward by torch.compile: "default", or with CUDA graphs, "reduce-overhead"
    checkpoint_minutes  time between checkpoints
    preview_every       steps between previews
    log_every           steps between two reads of losses, for which a device is waited; log.csv has every step's
    """

    steps: Count
    batch_size: Count = 64
    learning_rate: Annotated[float, Gt(0), Le(1000)] = 3e-4
    warmup: Amount = 500
    lr_decay: Literal["none", "cosine"] = "none"
    betas: tuple[Decay, Decay] = (0.9, 0.99)
    weight_decay: Annotated[float, Ge(0), Le(1000)] = 0.01
    max_grad_norm: Annotated[float, Gt(0)] = 1.0
    grad_accumulation: Count = 1
    ema_decay: Decay = 0.9995
    seed: Seed = 0
    precision: Literal["float32", "bfloat16"] = "float32"
    channels_last: bool = False
    device: str = "cpu"
    threads: Annotated[int, Ge(1), Le(1024)] = 1
    micro_batch_threads: Annotated[int, Ge(1), Le(1024)] = 1
    compile: Literal["none", "default", "reduce-overhead"] = "none"
    checkpoint_minutes: Annotated[float, Ge(0)] = 5.0
    preview_every: Count = 1000
    log_every: Count = 1

    def __post_init__(self) -> None:
        for key, hint in get_type_hints(Settings, include_extras=True).items():
            if get_origin(hint) is Literal and getattr(self, key) not in get_args(hint):
                raise unknown(key, getattr(self, key), get_args(hint))
            check_bounds(getattr(self, key), hint, key)


# A run may be resumed with other values of these; any other change would make it a different run.
FREE = {
    "steps", "channels_last", "device", "threads", "micro_batch_threads", "compile", "checkpoint_minutes",
    "preview_every", "log_every",
}  # fmt: skip
