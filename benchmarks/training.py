"""Training beside denoising-diffusion-pytorch (lucidrains), on one thread, in one run.

    pip install '.[bench]' && pip install --no-deps denoising-diffusion-pytorch
    python benchmarks/training.py                  # speed, about 15 CPU minutes
    python benchmarks/training.py --quality        # speed for equal quality, about 30 more; needs data/emoji
    python benchmarks/training.py --device cuda    # how well a device is filled: see training_device.py

The first two write their halves of docs/results/training.json, the third docs/results/training-device.json. Where
torchvision cannot be imported, the four transforms
that the peer's loader uses are replaced by equivalents on Pillow; the report says so.

Speed. All contenders take turns, round after round, in alternating order; a round is STEPS whole steps of each,
loader, clipping, optimizer, averaging and log included, after one that is not counted. The figure is images
per second of this process's CPU time, and its ratio to the peer's trainer in the same round.

Quality. Both networks are trained by inkwash.training.fit on the same pictures in the same order, with the same
learning rate, warm-up and averaging, each with its own loss (the peer's default; that of our picture model), and
sampled with the same seeds, solver and number of steps. Quality is the Frechet distance in features of
EfficientNet-Lite0 to real pictures that nobody trained on. The question is after how much CPU time our network
is as good as the peer's is at the end of its run.
"""

import copy
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import common
from common import QUICK, ROOT, spread
from inkwash import diffusion
from inkwash.codecs import pixels
from inkwash.networks.unet import UNet
from inkwash.training.data import batches
from inkwash.training.fit import fit
from inkwash.training.settings import Settings
from training_peer import (
    SAMPLER_STEPS,
    SIZE,
    TABLE,
    WIDTH,
    Call,
    Clock,
    Its,
    Loss,
    load_peer,
    machine,
    peer_trainer,
    write_pictures,
)  # fmt: skip

RESULT = ROOT / "docs/results/training.json"
BATCH, STEPS = (16, 1) if QUICK else (32, 6)
SAMPLES = 16 if QUICK else 512
EVERY, MOST = (1, 1) if QUICK else (250, 1500)  # updates


class Our:
    """Our network on patches of pixels, with the loss of the shipped picture model: a rectified flow, the clean
    picture predicted, its squared error weighted by min(1 / sigma^2, 5)."""

    patch = 2

    def __init__(self) -> None:
        self.process = diffusion.Gaussian(diffusion.rectified_flow())
        self.grid = diffusion.uniform(self.process, SAMPLER_STEPS)

    def denoiser(self, network: Call) -> diffusion.Denoiser:
        return diffusion.Denoiser(network, self.process, "x0")

    def loss(self, network: Call) -> Loss:
        denoiser = self.denoiser(network)
        return lambda x0, generator: denoiser.loss(
            x0, weight=lambda t, form: (t.sigma**-2).clip(max=5.0) / form.factor(t), generator=generator
        )


def our_network() -> UNet:
    """Wide 3x3 convolutions at 16 x 16 places and fewer, attention only at the lowest level, 4 x 4."""
    channels = 3 * Our.patch**2
    return UNet(
        in_channels=channels,
        out_channels=channels,
        block_out_channels=(64, 128, 192),
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        mid_block_type="UNetMidBlock2D",
        cross_attention_dim=None,
        attention_head_dim=32,
        norm_num_groups=8,
    )


def loss_difference(peer: ModuleType, its: Its, network: nn.Module) -> float:
    """|our loss - the peer's| for its network, and the same pictures, times and noise."""
    x0, generator = torch.randn(BATCH, 3, SIZE, SIZE), torch.Generator()
    ours = its.loss(network)(x0, generator.manual_seed(1))
    index = torch.randint(TABLE, (BATCH,), generator=generator.manual_seed(1))
    noise = torch.randn(x0.shape, generator=generator)
    theirs = peer.GaussianDiffusion(network, image_size=SIZE).p_losses(x0, index, noise=noise)
    return abs(ours - theirs).item()


# --- speed ---

Contender = tuple[str, Callable[[int], float]]  # whose network; so many steps -> their CPU seconds


def our_trainer(
    network: nn.Module,
    loss: Loss,
    pictures: np.ndarray,
    patch: int,
    **options: Any,
) -> Callable[[int], float]:
    """So many steps of fit, from pictures in memory as uint8."""
    order = batches(len(pictures), BATCH)

    def run(steps: int) -> float:
        clock = Clock(steps)

        def batch(k: int) -> Tensor:
            clock()
            return torch.from_numpy(pixels.encode(pictures[order(k)], patch))

        with tempfile.TemporaryDirectory() as folder:
            fit(network, loss, batch, folder, Settings(steps=clock.total, batch_size=BATCH, **options))
        return clock.seconds

    return run


def compute(network: nn.Module, patch: int) -> dict[str, float]:
    """Parameters, and FLOP (a multiply-add is two) of a forward pass for one picture."""
    x = torch.randn(1, 3 * patch**2, SIZE // patch, SIZE // patch)
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        network(x, torch.zeros(1))  # only unfused attention is counted
    return {
        "parameters": sum(p.numel() for p in network.parameters()),
        "forward_gflop": round(counter.get_total_flops() / 1e9, 3),
    }


def speed(rounds: int) -> dict[str, Any]:
    peer, vision = load_peer()
    ways: dict[str, Its | Our] = {"its": Its(peer), "our": Our()}
    torch.manual_seed(0)
    networks = {"its": peer.Unet(dim=WIDTH, dim_mults=(1, 2, 4)), "our": our_network()}
    facts = {kind: compute(network, ways[kind].patch) for kind, network in networks.items()}
    difference = loss_difference(peer, ways["its"], networks["its"])
    pictures = np.random.default_rng(0).integers(0, 256, (512, SIZE, SIZE, 3), dtype=np.uint8)
    fast = {"channels_last": True, "precision": "bfloat16"}

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pictures(folder / "png", pictures)

        def trainer(**options: Any) -> Contender:
            return "its", peer_trainer(peer, copy.deepcopy(networks["its"]), folder / "png", BATCH, **options)

        def loop(kind: str, **options: Any) -> Contender:
            network = copy.deepcopy(networks[kind])
            return kind, our_trainer(network, ways[kind].loss(network), pictures, ways[kind].patch, **options)

        contenders = {
            "Trainer, its network": trainer(),
            "fit, its network": loop("its"),
            "fit, its network, channels_last": loop("its", channels_last=True),
            "fit, its network, compiled": loop("its", compile="default"),
            "fit, its network, channels_last, compiled": loop("its", compile="default", channels_last=True),
            "fit, our network, channels_last": loop("our", channels_last=True),
            "Trainer, its network, bfloat16": trainer(amp=True, mixed_precision_type="bf16"),
            "fit, its network, channels_last, bfloat16": loop("its", **fast),
            "fit, our network, channels_last, bfloat16": loop("our", **fast),
            "fit, our network, channels_last, bfloat16, compiled": loop("our", compile="default", **fast),
        }
        if QUICK:  # compiling takes a minute, and bfloat16 is slow on some processors
            contenders = {
                label: way for label, way in contenders.items() if not label.endswith(("compiled", "bfloat16"))
            }
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "compiled")  # an empty one: builds are timed
        builds = {}
        for label, (_, run) in contenders.items():  # not counted: this allocates, and compiles
            started, before = time.monotonic(), sum(os.times()[:4])
            run(STEPS)
            builds[label] = {"wall": time.monotonic() - started, "cpu": sum(os.times()[:4]) - before}
        taken: dict[str, list[float]] = {label: [] for label in contenders}
        for i in range(rounds):
            for label, (_, run) in list(contenders.items())[:: 1 if i % 2 == 0 else -1]:
                taken[label].append(run(STEPS))
                print(f"round {i + 1}: {label}: {STEPS * BATCH / taken[label][-1]:.1f} images/CPU-s", flush=True)

    def ratio(a: str, b: str) -> dict[str, float]:
        return spread([y / x for x, y in zip(taken[a], taken[b], strict=True)])

    first, rows = next(iter(contenders)), []
    for label, (kind, _) in contenders.items():
        rate = spread([STEPS * BATCH / seconds for seconds in taken[label]])
        row = {"row": label, "images_per_cpu_second": rate, "ratio": ratio(label, first)}
        row["gflop_per_second"] = round(3 * facts[kind]["forward_gflop"] * rate["median"], 1)
        if "compiled" in label:  # beside what the same steps take once it is built
            spent = statistics.median(taken[label]) * (STEPS + 2) / STEPS
            row["build_seconds"] = {key: round(value - spent) for key, value in builds[label].items()}
        rows.append(row)
    pairs = [(label, label.removesuffix(", compiled")) for label in contenders if "compiled" in label]
    pairs += [(label, "Trainer, its network, bfloat16") for label in contenders if label.endswith("bfloat16")][1:]
    return {
        **machine(vision),
        "setting": {"size": SIZE, "batch": BATCH, "steps_per_round": STEPS, "rounds": rounds, "threads": 1},
        "networks": facts,
        "loss_difference": difference,
        "rows": rows,
        "other_ratios": {f"{a} / {b}": ratio(a, b) for a, b in pairs},
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
    train, real = emoji(folder)
    truth = features(real)
    others = train[np.random.default_rng(1).permutation(len(train))[:SAMPLES]]
    settings = Settings(steps=1, batch_size=BATCH, learning_rate=rate, warmup=50, channels_last=True)
    half = replace(settings, precision="bfloat16")
    torch.manual_seed(0)
    its_network = peer.Unet(dim=WIDTH, dim_mults=(1, 2, 4))
    arms: dict[str, tuple[nn.Module, Its | Our, Settings]] = {
        "its network, float32": (its_network, Its(peer), settings),
        "our network, bfloat16": (our_network(), Our(), half),
        "our network, float32": (our_network(), Our(), settings),
    }
    report = work / "quality.json"
    points: dict[str, list[dict[str, Any]]] = {name: [] for name in arms}
    points |= common.load(report)

    def draw(network: nn.Module, way: Its | Our) -> np.ndarray:
        shape = 3 * way.patch**2, SIZE // way.patch, SIZE // way.patch
        denoise = diffusion.static_threshold(way.denoiser(network))
        states = [
            diffusion.sample(denoise, shape, diffusion.dpmpp_2m, way.grid, range(i, i + 64), device="cpu")
            for i in range(0, SAMPLES, 64)
        ]
        return pixels.decode(torch.cat(states).numpy(), way.patch)

    def advance(name: str, steps: int) -> dict[str, Any]:
        """Train an arm up to `steps`, or go on with it, and say how good it then is."""
        for point in points[name]:
            if point["steps"] == steps:
                return point
        network, way, settings = arms[name]
        order, started = batches(len(train), BATCH), time.process_time()
        fit(
            network,
            way.loss(network),
            lambda k: torch.from_numpy(pixels.encode(train[order(k)], way.patch)),
            work / name.replace(", ", "-").replace(" ", "-"),
            replace(settings, steps=steps),
        )
        spent = time.process_time() - started
        pictures = draw(network, way)
        found = features(pictures)
        point = {
            "steps": steps,
            "images": steps * BATCH,
            "cpu_seconds": spent + sum(p["cpu_seconds"] for p in points[name][-1:]),
            "frechet_distance": frechet_distance(found, truth),
            "of_each_half": [frechet_distance(found[i::2], truth) for i in (0, 1)],
        }
        points[name].append(point)
        common.save(report, points)
        sheet = pictures[:64].reshape(8, 8, SIZE, SIZE, 3).swapaxes(1, 2).reshape(8 * SIZE, 8 * SIZE, 3)
        Image.fromarray(sheet).save(work / f"{name}, {steps} steps.png")
        print(f"{name}: {point}", flush=True)
        return point

    goal = advance("its network, float32", EVERY)
    reached = None
    for steps in range(EVERY, MOST + 1, EVERY):
        point = advance("our network, bfloat16", steps)
        if point["frechet_distance"] <= goal["frechet_distance"]:
            reached = {
                "its": goal,
                "ours": point,  # at the latest: it is looked at every so many steps
                "cpu_time_ratio": goal["cpu_seconds"] / point["cpu_seconds"],
                "images_ratio": goal["images"] / point["images"],
            }
            break
    advance("our network, float32", EVERY)  # is it the same at equal steps?
    return {
        **machine(vision),
        "setting": {
            "training_pictures": len(train),
            "real_pictures": len(real),
            "samples": SAMPLES,
            "sampler": f"DPM-Solver++(2M), {SAMPLER_STEPS} steps",
            "learning_rate": rate,
            "batch": BATCH,
            "threads": 1,
        },
        "frechet_distance_of_training_pictures": frechet_distance(features(others), truth),
        "arms": points,
        "reached": reached,
    }


# --- the report ---


def table(speed: dict[str, Any]) -> str:
    lines = ["| one step loop, 32 x 32, batch 32 | pictures per CPU second | ratio in the same round (range) |"]
    lines.append("|---|---|---|")
    for row in speed["rows"]:
        ratio = row["ratio"]
        shown = f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})"
        lines.append(f"| {row['row']} | {row['images_per_cpu_second']['median']:.1f} | {shown} |")
    return "\n".join(lines)


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--quality", action="store_true", help="the second part instead of the first")
    parser.add_argument("--device", help="how well training fills it, instead: cpu, cuda or mps")
    parser.add_argument("--networks", nargs="+", help="with --device: these only, beside what the report has")
    parser.add_argument("--rounds", type=int, default=1 if QUICK else 5)
    parser.add_argument("--data", type=Path, default=common.emoji(), help="made by `inkwash data emoji`")
    parser.add_argument("--work", type=Path, default=ROOT / "runs/quality", help="where training can go on later")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--out", type=Path, help="of the report, if not in docs/results")
    options = parser.parse_args()
    common.needs("denoising_diffusion_pytorch", "ema_pytorch", "einops", "accelerate")
    torch.set_num_threads(1)
    if options.device:
        import training_device

        training_device.measure_all(options)
        return
    file = options.out or RESULT
    report = common.load(file)
    if options.quality:
        options.work.mkdir(parents=True, exist_ok=True)
        report["quality"] = quality(options.data, options.work, options.learning_rate)
    else:
        report["speed"] = speed(options.rounds)
        print(table(report["speed"]))
    common.save(file, report)


if __name__ == "__main__":
    main()
