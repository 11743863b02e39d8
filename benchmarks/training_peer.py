"""denoising-diffusion-pytorch (lucidrains), beside which trainings are measured, and the clock of both."""

import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from common import QUICK
from inkwash import diffusion

SIZE = 32
TABLE = 1000
WIDTH = 16 if QUICK else 64  # of the peer's network
SAMPLER_STEPS = 2 if QUICK else 12


def now(device: str) -> float:
    """Seconds: of this process's CPU time; on another device the wall's, once all is done that it was asked to do."""
    if device == "cpu":
        return time.process_time()
    torch.accelerator.synchronize()
    return time.perf_counter()


class Clock:
    """Called as each of `total` steps begins: whether that step is needed still. `seconds` is what `steps` of them
    took, after the first ones."""

    def __init__(self, steps: int, device: str = "cpu") -> None:
        self.device, self.called = device, 0
        self.first = 1 if device == "cpu" else 5  # a step that plans and allocates; a device queues a few more
        self.last = self.first + steps
        self.total = self.last + 1
        self.stamps: list[float] = []

    def __call__(self) -> bool:
        if self.called in (self.first, self.last):
            self.stamps.append(now(self.device))
        self.called += 1
        return self.called <= self.last

    @property
    def seconds(self) -> float:
        first, last = self.stamps
        return last - first


Call = Callable[..., Tensor]  # a network, compiled or not
Loss = Callable[[Tensor, torch.Generator], Tensor]


def without_torchvision() -> None:
    """Put the few functions that the peer takes from torchvision in its place, on Pillow."""
    vision, transforms, utils = (ModuleType(f"torchvision{n}") for n in ("", ".transforms", ".utils"))

    def compose(steps: list[Callable[[Any], Any]]) -> Callable[[Any], Any]:
        def run(x: Any) -> Any:
            for step in steps:
                x = step(x)
            return x

        return run

    def to_tensor(picture: Image.Image) -> Tensor:
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous().float().div(255)

    transforms.Compose = compose
    transforms.Lambda = lambda function: function
    transforms.Resize = lambda size: lambda x: x if x.size == tuple(size) else x.resize(size)
    transforms.CenterCrop = lambda size: lambda x: ImageOps.fit(x, size)
    transforms.RandomHorizontalFlip = lambda: lambda x: ImageOps.mirror(x) if torch.rand(()) < 0.5 else x
    transforms.ToTensor = lambda: to_tensor
    vision.transforms, vision.utils = transforms, utils
    sys.modules |= {m.__name__: m for m in (vision, transforms, utils)}


def load_peer() -> tuple[ModuleType, str]:
    try:
        import torchvision  # noqa: F401

        vision = "torchvision " + version("torchvision")
    except (ImportError, RuntimeError):  # a wheel built for another torch raises RuntimeError
        without_torchvision()
        vision = "stubs on Pillow"
    from denoising_diffusion_pytorch import denoising_diffusion_pytorch as peer

    return peer, vision


class Its:
    """The peer's default loss in our terms: v-prediction, a sigmoid table of 1,000 betas, weight alpha^2."""

    patch = 1

    def __init__(self, peer: ModuleType) -> None:
        self.process = diffusion.Gaussian(diffusion.betas(peer.sigmoid_beta_schedule(TABLE).numpy()))
        self.grid = diffusion.trailing(self.process, SAMPLER_STEPS, TABLE)

    def denoiser(self, network: Call) -> diffusion.Denoiser:
        return diffusion.Denoiser(network, self.process, "v", lambda t: TABLE * t.t - 1)

    def loss(self, network: Call) -> Loss:
        denoiser = self.denoiser(network)

        def times(count: int, generator: torch.Generator) -> Tensor:
            return (torch.randint(TABLE, (count,), generator=generator, device=generator.device) + 1) / TABLE

        return lambda x0, generator: denoiser.loss(
            x0, weight=lambda t, _form: t.alpha**2, times=times, generator=generator
        )


def write_pictures(folder: Path, pictures: np.ndarray) -> None:
    """As PNG files, from which its loader reads."""
    folder.mkdir()
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{i}.png")


def peer_trainer(
    peer: ModuleType, network: nn.Module, pictures: Path, batch: int, device: str = "cpu", **options: Any
) -> Callable[[int], float]:
    """So many steps of its Trainer, with its own loader on a folder of PNG files -> seconds, by the `Clock`."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)  # it allows one precision in a process
    if device == "cpu":
        os.environ["ACCELERATE_USE_CPU"] = "true"
        peer.cpu_count = lambda: 0  # its loader's workers: their time would not be counted
    trainer = peer.Trainer(
        peer.GaussianDiffusion(network, image_size=SIZE),
        str(pictures),
        train_batch_size=batch,
        train_num_steps=0,
        save_and_sample_every=10**9,
        calculate_fid=False,
        results_folder=str(pictures.parent / "peer"),
        **options,
    )
    data = trainer.dl

    def run(steps: int) -> float:
        clock = Clock(steps, device)

        def loader() -> Iterator[Tensor]:
            while True:
                clock()
                yield next(data)

        trainer.dl = loader()
        trainer.train_num_steps += clock.total
        trainer.train()
        return clock.seconds

    return run


def machine(vision: str) -> dict[str, Any]:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    names = ("torch", "numpy", "denoising-diffusion-pytorch", "ema-pytorch", "accelerate")
    return {
        "machine": {
            "cpu": facts.get("model name", platform.processor()),
            "family_model": [facts.get("cpu family"), facts.get("model")],
            "avx512_bf16": "avx512_bf16" in facts.get("flags", ""),
            "cores": os.cpu_count(),
        },
        "load_average": os.getloadavg(),
        "versions": {
            "python": platform.python_version(),
            **{n: version(n) for n in names},
            "torchvision": vision,
        },
    }
