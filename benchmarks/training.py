"""Training beside denoising-diffusion-pytorch (lucidrains), on one thread, in one run.

    pip install --no-deps denoising-diffusion-pytorch ema-pytorch einops scipy accelerate
    pip install tqdm packaging psutil pyyaml
    python benchmarks/training.py              # speed, about 15 CPU minutes
    python benchmarks/training.py --quality    # speed for equal quality, about 30 more; needs data/emoji

Each part writes its half of docs/results/training.json. Where torchvision cannot be imported, the four transforms
that the peer's loader uses are replaced by equivalents on Pillow; the report says so.

Speed. All contenders take turns, round after round, in alternating order; a round is STEPS whole steps of each,
loader, clipping, optimizer, averaging and log included, after one that is not counted. The figure is images
per second of this process's CPU time, and its ratio to the peer's trainer in the same round.

Quality. Both networks are trained by inkwash.training.fit with the same loss (the peer's), data, order and
settings, and sampled with the same seeds, so that nothing but the network differs. Quality is the Frechet
distance in features of EfficientNet-Lite0 to real pictures that nobody trained on.
"""

import argparse
import copy
import json
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from inkwash import diffusion
from inkwash.codecs import pixels
from inkwash.networks.unet import UNet
from inkwash.training import Settings, batches, fit
from inkwash.weights.files import atomic

SIZE, BATCH, STEPS = 32, 32, 8
PATCH = 2  # of our network: it works at 16 x 16 places
TABLE = 1000
SAMPLES, SAMPLER_STEPS = 512, 12
PEER_QUALITY_STEPS, QUALITY_EVERY, MOST = 300, 150, 1500  # updates


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
    try:
        from denoising_diffusion_pytorch import denoising_diffusion_pytorch as peer
    except ImportError as error:
        sys.exit(f"{error}: see the two pip commands at the top of this file")
    peer.cpu_count = lambda: 0  # its loader's workers: their time would not be counted
    return peer, vision


def our_network() -> UNet:
    """Wide 3x3 convolutions on patches of pixels, attention only at the lowest level, 4 x 4 places."""
    return UNet(
        in_channels=3 * PATCH**2,
        out_channels=3 * PATCH**2,
        block_out_channels=(64, 128, 192),
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        mid_block_type="UNetMidBlock2D",
        cross_attention_dim=None,
        attention_head_dim=32,
        norm_num_groups=8,
    )


class Objective:
    """The peer's default loss in our terms: v-prediction, sigmoid table of 1,000 betas, weight alpha^2."""

    def __init__(self, peer: ModuleType) -> None:
        table = peer.sigmoid_beta_schedule(TABLE).numpy()
        self.process = diffusion.Gaussian(diffusion.betas(table))

    def denoiser(self, network: Callable[..., Tensor]) -> diffusion.Denoiser:
        return diffusion.Denoiser(network, self.process, "v", lambda t: TABLE * t.t - 1)

    def loss(self, network: Callable[..., Tensor]) -> Callable[[Tensor, torch.Generator], Tensor]:
        denoiser = self.denoiser(network)

        def times(count: int, generator: torch.Generator | None) -> Tensor:
            return (torch.randint(TABLE, (count,), generator=generator) + 1) / TABLE

        return lambda x0, generator: denoiser.loss(
            x0, weight=lambda t, _form: t.alpha**2, times=times, generator=generator
        )

    def difference(self, diffuser: nn.Module) -> float:
        """|our loss - the peer's| for the same pictures, times and noise."""
        x0 = torch.randn(BATCH, 3, SIZE, SIZE)
        generator = torch.Generator()
        ours = self.loss(diffuser.model)(x0, generator.manual_seed(1))
        index = torch.randint(TABLE, (BATCH,), generator=generator.manual_seed(1))
        noise = torch.randn(x0.shape, generator=generator)
        return abs(ours - diffuser.p_losses(x0, index, noise=noise)).item()


# --- speed ---


class Clock:
    """CPU time at each call; `seconds` is that of STEPS steps after the first."""

    def __init__(self) -> None:
        self.stamps: list[float] = []

    def __call__(self) -> None:
        self.stamps.append(time.process_time())

    @property
    def seconds(self) -> float:
        assert len(self.stamps) == STEPS + 2
        return self.stamps[-1] - self.stamps[1]


def peer_trainer(peer: ModuleType, network: nn.Module, folder: Path, **options: Any) -> Callable[[], float]:
    """A round of its Trainer, with its own loader on a folder of PNG files."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)  # it allows one precision in a process
    diffuser = peer.GaussianDiffusion(network, image_size=SIZE)
    trainer = peer.Trainer(
        diffuser,
        str(folder / "png"),
        train_batch_size=BATCH,
        train_num_steps=0,
        save_and_sample_every=10**9,
        calculate_fid=False,
        results_folder=str(folder / "peer"),
        **options,
    )
    data = trainer.dl

    def run() -> float:
        clock = Clock()

        def loader() -> Iterator[Tensor]:
            while True:
                clock()
                yield next(data)

        trainer.dl = loader()
        trainer.train_num_steps += STEPS + 2
        trainer.train()
        return clock.seconds

    return run


def our_trainer(
    network: nn.Module,
    objective: Objective,
    pictures: np.ndarray,
    patch: int = 1,
    call: Callable[..., Tensor] | None = None,
    **options: Any,
) -> Callable[[], float]:
    """A round of fit, from pictures in memory as uint8."""
    order, loss = batches(len(pictures), BATCH), objective.loss(network if call is None else call)

    def run() -> float:
        clock = Clock()

        def batch(k: int) -> Tensor:
            clock()
            return pixels.encode(pictures[order(k)], patch)

        with tempfile.TemporaryDirectory() as folder:
            fit(network, loss, batch, folder, Settings(steps=STEPS + 2, batch_size=BATCH, **options))
        return clock.seconds

    return run


def compute(network: nn.Module, channels: int, size: int) -> dict[str, float]:
    """Parameters, and FLOP (a multiply-add is two) of a forward pass for one picture."""
    x = torch.randn(1, channels, size, size)
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        network(x, torch.zeros(1))  # only unfused attention is counted
    return {
        "parameters": sum(p.numel() for p in network.parameters()),
        "forward_gflop": round(counter.get_total_flops() / 1e9, 3),
    }


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def speed(rounds: int) -> dict[str, Any]:
    peer, vision = load_peer()
    objective = Objective(peer)
    torch.manual_seed(0)
    theirs, ours = peer.Unet(dim=64, dim_mults=(1, 2, 4)), our_network()
    networks = {"peer's": compute(theirs, 3, SIZE), "ours": compute(ours, 3 * PATCH**2, SIZE // PATCH)}
    difference = objective.difference(peer.GaussianDiffusion(theirs, image_size=SIZE))
    pictures = np.random.default_rng(0).integers(0, 256, (512, SIZE, SIZE, 3), dtype=np.uint8)
    fast = {"channels_last": True, "precision": "bfloat16"}

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "png").mkdir()
        for i, picture in enumerate(pictures):
            Image.fromarray(picture).save(folder / "png" / f"{i}.png")

        def trainer(**options: Any) -> Callable[[], float]:
            return peer_trainer(peer, copy.deepcopy(theirs), folder, **options)

        def same(compiled: bool = False, **options: Any) -> Callable[[], float]:
            network = copy.deepcopy(theirs)
            call = torch.compile(network) if compiled else None
            return our_trainer(network, objective, pictures, call=call, **options)

        def suited(compiled: bool = False, **options: Any) -> Callable[[], float]:
            network = copy.deepcopy(ours)
            call = torch.compile(network) if compiled else None
            return our_trainer(network, objective, pictures, PATCH, call, **options)

        contenders = {
            "Trainer, its network, float32": trainer(),
            "Trainer, its network, bfloat16": trainer(amp=True, mixed_precision_type="bf16"),
            "fit, its network, float32": same(),
            "fit, its network, float32, channels_last": same(channels_last=True),
            "fit, its network, float32, torch.compile": same(compiled=True),
            "fit, its network, bfloat16, channels_last": same(**fast),
            "fit, our network, float32, channels_last": suited(channels_last=True),
            "fit, our network, bfloat16, channels_last": suited(**fast),
            "fit, our network, bfloat16, channels_last, torch.compile": suited(compiled=True, **fast),
        }
        builds = {}
        for label, run in contenders.items():  # nothing is counted yet: this allocates, and compiles
            before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
            cpu = time.process_time()
            seconds = run()
            if "compile" in label:
                after = resource.getrusage(resource.RUSAGE_CHILDREN)
                builds[label] = {
                    "wall": round(time.monotonic() - started - seconds, 1),
                    "cpu": round(
                        time.process_time()
                        - cpu
                        - seconds
                        + sum(getattr(after, k) - getattr(before, k) for k in ("ru_utime", "ru_stime")),
                        1,
                    ),
                }
        taken: dict[str, list[float]] = {label: [] for label in contenders}
        for i in range(rounds):
            for label, run in list(contenders.items())[:: 1 if i % 2 == 0 else -1]:
                taken[label].append(run())
                print(f"round {i + 1}: {label}: {STEPS * BATCH / taken[label][-1]:.1f} images/CPU-s", flush=True)

    rows = []
    first = next(iter(taken.values()))
    for label, seconds in taken.items():
        network = networks["ours" if "our network" in label else "peer's"]
        rate = spread([STEPS * BATCH / s for s in seconds])
        row = {
            "row": label,
            "images_per_cpu_second": rate,
            "ratio_to_first": spread([a / b for a, b in zip(first, seconds, strict=True)]),
            "gflop_per_second": 3 * network["forward_gflop"] * rate["median"],
        }
        if label in builds:
            row["build_seconds"] = builds[label]
        rows.append(row)
    ratios = {
        f"{a} / {b}": spread([y / x for x, y in zip(taken[a], taken[b], strict=True)])
        for a, b in [
            ("fit, its network, float32, torch.compile", "fit, its network, float32"),
            ("fit, its network, bfloat16, channels_last", "Trainer, its network, bfloat16"),
            ("fit, our network, bfloat16, channels_last", "Trainer, its network, bfloat16"),
            (
                "fit, our network, bfloat16, channels_last, torch.compile",
                "fit, our network, bfloat16, channels_last",
            ),
        ]
    }
    return {
        **machine(vision),
        "setting": {"size": SIZE, "batch": BATCH, "steps_per_round": STEPS, "rounds": rounds, "threads": 1},
        "networks": networks,
        "loss_difference": difference,
        "rows": rows,
        "ratios": ratios,
    }


# --- quality ---


def emoji(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Pictures to learn from, and held-out ones of the test split: uint8 (N, SIZE, SIZE, 3)."""
    from inkwash.systems.pictures import emoji_data

    data = emoji_data.load(folder)
    white = pixels.on_white(data.pictures)
    half = white.reshape(len(white), SIZE, 2, SIZE, 2, 3).mean((2, 4))  # of 64 x 64
    small = (half + 0.5).astype(np.uint8)
    test = np.random.default_rng(0).permutation(np.flatnonzero(data.split == "test"))[:SAMPLES]
    return small[data.split == "train"], small[test]


def quality(folder: Path, work: Path, rate: float) -> dict[str, Any]:
    from inkwash.systems.pictures.metrics import features, frechet_distance

    peer, vision = load_peer()
    objective = Objective(peer)
    train, real = emoji(folder)
    truth = features(real)
    others = train[np.random.default_rng(1).permutation(len(train))[:SAMPLES]]
    settings = Settings(steps=1, batch_size=BATCH, learning_rate=rate, warmup=50, channels_last=True)
    torch.manual_seed(0)
    arms = {
        "its network, float32": (peer.Unet(dim=64, dim_mults=(1, 2, 4)), 1, settings),
        "our network, bfloat16": (our_network(), PATCH, replace(settings, precision="bfloat16")),
        "our network, float32": (our_network(), PATCH, settings),
    }
    result: dict[str, Any] = {
        **machine(vision),
        "setting": {
            "training_pictures": len(train),
            "real_pictures": len(real),
            "samples": SAMPLES,
            "sampler": f"DPM-Solver++(2M), {SAMPLER_STEPS} steps",
            "features": "EfficientNet-Lite0",
            "learning_rate": rate,
            "batch": BATCH,
            "threads": 1,
        },
        "other_training_pictures": frechet_distance(features(others), truth),
        "arms": {name: [] for name in arms},
    }
    report = work / "quality.json"
    if report.exists():
        result["arms"] |= json.loads(report.read_text())["arms"]

    def draw(network: nn.Module, patch: int) -> np.ndarray:
        shape = 3 * patch**2, SIZE // patch, SIZE // patch
        denoise = diffusion.static_threshold(objective.denoiser(network))
        grid = diffusion.trailing(objective.process, SAMPLER_STEPS, TABLE)
        states = [
            diffusion.sample(denoise, shape, diffusion.dpmpp_2m, grid, range(i, i + 64), device="cpu")
            for i in range(0, SAMPLES, 64)
        ]
        return pixels.decode(torch.cat(states), patch)

    def advance(name: str, steps: int) -> float:
        """Train the arm up to `steps` (or go on), and note its distance; returns it."""
        network, patch, settings = arms[name]
        points = result["arms"][name]
        for point in points:
            if point["steps"] == steps:
                return point["frechet_distance"]
        order, started = batches(len(train), BATCH), time.process_time()
        fit(
            network,
            objective.loss(network),
            lambda k: pixels.encode(train[order(k)], patch),
            work / name.replace(", ", "-").replace(" ", "-"),
            replace(settings, steps=steps),
        )
        spent = time.process_time() - started
        pictures = draw(network, patch)
        found = features(pictures)
        halves = [frechet_distance(found[i::2], truth) for i in (0, 1)]
        point = {
            "steps": steps,
            "images": steps * BATCH,
            "cpu_seconds": spent + (points[-1]["cpu_seconds"] if points else 0.0),
            "frechet_distance": frechet_distance(found, truth),
            "of_each_half": halves,
        }
        points.append(point)
        save(report, result)
        sheet = pictures[:64].reshape(8, 8, SIZE, SIZE, 3).swapaxes(1, 2).reshape(8 * SIZE, 8 * SIZE, 3)
        Image.fromarray(sheet).save(work / f"{name}-{steps}.png")
        print(f"{name}: {point}", flush=True)
        return point["frechet_distance"]

    goal = advance("its network, float32", PEER_QUALITY_STEPS)
    for steps in range(PEER_QUALITY_STEPS, MOST + 1, QUALITY_EVERY):
        if advance("our network, bfloat16", steps) <= goal:
            break
    advance("our network, float32", PEER_QUALITY_STEPS)

    its, points = result["arms"]["its network, float32"][0], result["arms"]["our network, bfloat16"]
    result["reached"] = None
    if points[-1]["frechet_distance"] <= goal:
        last = points[-1]
        result["reached"] = {
            "frechet_distance": goal,
            "its_cpu_seconds": its["cpu_seconds"],
            "our_cpu_seconds_at_most": last["cpu_seconds"],
            "ratio_at_least": its["cpu_seconds"] / last["cpu_seconds"],
            "its_images": its["images"],
            "our_images_at_most": last["images"],
        }
    return result


# --- the report ---


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


def save(path: Path, report: dict[str, Any]) -> None:
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(report, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quality", action="store_true", help="the second part instead of the first")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data", type=Path, default=Path("data/emoji"), help="made by `inkwash data emoji`")
    parser.add_argument("--work", type=Path, default=Path("runs/quality"), help="where training can go on later")
    parser.add_argument("--learning-rate", type=float, default=4e-4)
    parser.add_argument("--out", type=Path, default=Path("docs/results/training.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    report = json.loads(options.out.read_text()) if options.out.exists() else {}
    if options.quality:
        options.work.mkdir(parents=True, exist_ok=True)
        report["quality"] = quality(options.data, options.work, options.learning_rate)
    else:
        report["speed"] = speed(options.rounds)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    save(options.out, report)


if __name__ == "__main__":
    main()
