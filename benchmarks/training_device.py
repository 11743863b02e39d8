"""How well training fills a device: what `training.py --device` measures.

The networks that ship, on an accelerator those of recipes/gpu too, are built from their recipes and trained on
random data of their shapes, without data set or weights; so is the network of denoising-diffusion-pytorch. Of each,
in float32 (TF32 on a GPU that has it) and bfloat16, compiled and not, at the batch that an update of its recipe sees,
and on an accelerator at batches four times as large until memory is full or the rate grows no more:

- examples a second of training.fit, from tables on the device. CPU time on a CPU, one thread; elsewhere the wall's,
  waiting for the device at both ends of a round and in between only where fit does.
- beside it, by turns, the plainest loop: the same network, data and loss, then backward, clip_grad_norm_, AdamW and
  ema-pytorch (by its defaults: it averages every tenth step, fit every one). TF32 and compilation are the same for
  both. The peer's network is trained by its Trainer too, from its loader.
- the share of the device's peak: the FLOP of a training step, forward and backward (a multiply-add is two; counted on
  a CPU by torch.utils.flop_counter), a second, over those of a large product of matrices in the same precision on the
  same device in the same run.
- the peak memory of fit: of the device's allocator, or on a CPU of the process. Each row has a process of its own.

The loss is the room's own where it needs no data: of the language engines and the text encoder. The U-Nets and the
forecaster have their denoiser's loss, with conditions of the right shapes; the autoencoder's is what it learns before
the discriminator has a say.
"""

import tempfile
from argparse import Namespace
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import asdict, replace
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import common
from common import QUICK, ROOT, spread
from inkwash import diffusion
from inkwash.errors import UserError
from inkwash.networks.autoencoder import Autoencoder
from inkwash.networks.text import TextEncoder
from inkwash.networks.unet import UNet
from inkwash.systems.language import engines
from inkwash.systems.language import train as language
from inkwash.systems.language.vocabulary import SPECIAL, Vocabulary
from inkwash.systems.pictures import train as pictures
from inkwash.systems.pictures import train_autoencoder, train_icons, train_text_encoder, train_upsampler
from inkwash.systems.pictures.emoji_data import STYLES
from inkwash.systems.pictures.model import SCHEDULES, Config, state_shape
from inkwash.systems.pictures.upsampler import CHANNELS, FACTOR
from inkwash.systems.series import train as series
from inkwash.systems.series.data import Series
from inkwash.systems.series.model import Forecaster
from inkwash.systems.series.networks import TimeGrad
from inkwash.systems.series.transforms import make_config
from inkwash.training.data import batches
from inkwash.training.fit import fit
from inkwash.training.memory import peak_memory_of
from inkwash.training.placement import compiled, device_of, use_tensor_cores
from inkwash.training.recipe import load_recipe, read_toml
from inkwash.training.settings import Settings
from inkwash.weights.shipped import recipes
from training_peer import SIZE, WIDTH, Clock, Its, load_peer, machine, now, peer_trainer, write_pictures

RESULT = ROOT / "docs/results/training-device.json"
PEER = "denoising-diffusion-pytorch"
NETWORKS = [
    "emoji", "upsampler", "autoencoder", "text-encoder", "e2e", "e2e-masked", "e2e-autoregressive", "exchange", PEER,
]  # fmt: skip
ROWS = 512  # examples
TEXT_WIDTH, PIECES, VOCABULARY = 384, 16, 29098  # of encoded texts, and of the tokenizer
WORDS = 838  # of E2E that come ten times
SERIES = 8  # exchange rates
SECONDS = 0.0 if QUICK else 2.0  # of a round
GROWS = 1.05  # times the rate at a quarter of the batch: less is no growth
MAKERS = {  # dense TFLOP/s: NVIDIA's data sheets
    "NVIDIA H100 80GB HBM3": {"float32": 494.7, "bfloat16": 989.4},
    "NVIDIA H200": {"float32": 494.7, "bfloat16": 989.4},
    "NVIDIA A100-SXM4-40GB": {"float32": 156.0, "bfloat16": 312.0},
    "NVIDIA A100-SXM4-80GB": {"float32": 156.0, "bfloat16": 312.0},
}

Tensors = dict[str, Tensor]
Loop = Callable[[int], float]  # so many steps -> their seconds


class Job(NamedTuple):
    """What is trained: a loss of examples that are gathered from tables (ROWS, ...)."""

    module: nn.Module
    tables: Tensors
    loss: Callable[[Tensors, torch.Generator], Tensor]


class Training(NamedTuple):
    """How it is computed."""

    network: str
    device: str
    batch: int
    precision: str
    compile: str


# --- the networks, from their recipes ---


def picture_job(recipe: pictures.Recipe) -> Job:
    vae = Autoencoder(**load("autoencoder").network).config if recipe.autoencoder else None
    config = replace(recipe.model, styles=list(STYLES))
    return unet_job(recipe, config, state_shape(config, vae), int(recipe.mean_predictor is not None), recipe.words)


def icons_job(recipe: train_icons.Recipe) -> Job:
    config = replace(recipe.model, styles=list(STYLES), style_aliases={})
    return unet_job(recipe, config, state_shape(config, None), 1 + config.reference, True)


def unet_job(recipe: Any, config: Config, shape: tuple[int, int, int], concat: int, words: bool) -> Job:
    text: Any = SimpleNamespace(config={"output": TEXT_WIDTH}) if words else None
    unet = UNet(**pictures.unet_config(recipe.network, config, shape, concat, text))
    condition = {}
    if words:
        condition["context"] = torch.randn(ROWS, PIECES, TEXT_WIDTH)
        condition["context_mask"] = torch.ones(ROWS, PIECES, dtype=torch.bool)
        condition["label"] = torch.randn(ROWS, TEXT_WIDTH + len(STYLES))
    if concat:
        condition["concat"] = torch.randn(ROWS, concat * shape[0], *shape[1:])
    denoiser = diffusion.Denoiser(unet, diffusion.Gaussian(SCHEDULES[config.schedule]()), config.parametrization)
    weight = pictures.capped_weight(recipe.weight)
    return denoiser_job(unet, denoiser, torch.randn(ROWS, *shape), condition, weight=weight)


def upsampler_job(recipe: train_upsampler.Recipe) -> Job:
    states, side = CHANNELS * FACTOR**2, recipe.crop
    derived = {"in_channels": states + CHANNELS, "out_channels": states, "cross_attention_dim": None}
    unet = UNet(**derived | {"class_embed_type": "timestep"} | recipe.network)
    condition = {"concat": torch.randn(ROWS, CHANNELS, side, side), "noise_level": torch.rand(ROWS)}
    denoiser = diffusion.Denoiser(unet, diffusion.Gaussian(diffusion.rectified_flow()), "x0")
    x0 = torch.randn(ROWS, states, side, side)
    return denoiser_job(unet, denoiser, x0, condition, weight=pictures.capped_weight(5.0))


def denoiser_job(
    module: nn.Module, denoiser: diffusion.Denoiser, x0: Tensor, condition: Tensors, **options: Any
) -> Job:
    def loss(examples: Tensors, generator: torch.Generator) -> Tensor:
        given = {key: examples[key] for key in condition}
        return denoiser.loss(examples["x0"], given, generator=generator, **options)

    return Job(module, {"x0": x0, **condition}, loss)


def autoencoder_job(recipe: train_autoencoder.Recipe) -> Job:
    autoencoder = Autoencoder(**recipe.network)

    def loss(examples: Tensors, generator: torch.Generator) -> Tensor:
        mean, log_variance = autoencoder.encode(examples["x"])
        noise = torch.empty_like(mean).normal_(generator=generator)
        reconstructed = autoencoder.decode(mean + (0.5 * log_variance).exp() * noise)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum((1, 2, 3)).mean()
        return (reconstructed - examples["x"]).abs().mean() + recipe.divergence * divergence

    return Job(autoencoder, {"x": torch.randn(ROWS, autoencoder.config["in_channels"], 32, 32)}, loss)


def text_job(recipe: train_text_encoder.Recipe) -> Job:
    network = TextEncoder(VOCABULARY, output=TEXT_WIDTH, **asdict(recipe.network))
    tables = {"ids": torch.randint(VOCABULARY, (ROWS, PIECES)), "target": torch.randn(ROWS, PIECES, TEXT_WIDTH)}
    tables["mask"] = torch.ones(ROWS, PIECES, dtype=torch.bool)
    return Job(network, tables, lambda x, _: train_text_encoder.distillation_loss(network, **x))


def language_job(recipe: language.Recipe) -> Job:
    network = language.new_network(recipe, Vocabulary([str(i) for i in range(WORDS)]), sources=True)
    tables = {
        "words": torch.randint(len(SPECIAL), len(SPECIAL) + WORDS, (ROWS, recipe.length)),
        "source": torch.randint(len(SPECIAL), len(SPECIAL) + WORDS, (ROWS, recipe.source)),
        "source_mask": torch.ones(ROWS, recipe.source, dtype=torch.bool),
    }
    return Job(network, tables, engines.loss(network))


def series_job(recipe: series.Recipe) -> Job:
    rates = pd.DataFrame(torch.randn(6000, SERIES).cumsum(0).numpy(), pd.bdate_range("1990-01-01", periods=6000))
    config = make_config(Series(rates, rates.iloc[:, :0], "B"), recipe.horizon, recipe.mode)
    net = TimeGrad(SERIES, config.inputs, noise="dilated" if config.mode == "faithful" else "dense")
    denoiser, length = Forecaster(net, config).denoiser, config.context + config.horizon

    def loss(examples: Tensors, generator: torch.Generator) -> Tensor:
        condition = {"hidden": net.encode(examples["inputs"])[0].flatten(0, 1)}
        target, observed = examples["target"].flatten(0, 1), examples["observed"].flatten(0, 1)
        times = diffusion.logit_normal()
        return denoiser.loss(target, condition, times=times, generator=generator, mask=observed)

    shape = ROWS, length, SERIES
    tables = {"target": torch.randn(shape), "observed": torch.ones(shape, dtype=torch.bool)}
    return Job(net, tables | {"inputs": torch.randn(ROWS, length, config.inputs)}, loss)


def peer_job() -> Job:
    peer, _ = load_peer()
    network = peer.Unet(dim=WIDTH, dim_mults=(1, 2, 4))
    loss = Its(peer).loss(network)
    return Job(network, {"x0": torch.randn(ROWS, 3, SIZE, SIZE)}, lambda x, generator: loss(x["x0"], generator))


JOBS: dict[str, tuple[Any, Callable[[Any], Job]]] = {  # by task
    "pictures": (pictures.Recipe, picture_job),
    "icons": (train_icons.Recipe, icons_job),
    "upsampler": (train_upsampler.Recipe, upsampler_job),
    "autoencoder": (train_autoencoder.Recipe, autoencoder_job),
    "text-encoder": (train_text_encoder.Recipe, text_job),
    "language": (language.Recipe, language_job),
    "series": (series.Recipe, series_job),
}


def load(name: str) -> Any:
    file = recipes()[name]
    return load_recipe(file, JOBS[read_toml(file)["task"]][0])


def build(name: str) -> Job:
    torch.manual_seed(0)
    return peer_job() if name == PEER else JOBS[(recipe := load(name)).task][1](recipe)


def settings_of(name: str) -> Settings:
    return Settings(steps=1, batch_size=32) if name == PEER else load(name).fit


def names(device: str) -> list[str]:
    """What is measured: the shipped ones, and on an accelerator those of recipes/gpu."""
    if device == "cpu":
        return NETWORKS
    files = recipes().items()
    return [*NETWORKS, *(name for name, file in files if name.startswith("gpu/") and read_toml(file)["task"] in JOBS)]


# --- the loops ---


class Quiet:
    """A monitor that says nothing."""

    def tell(self, event: Any) -> None:
        pass

    def stopped(self) -> bool:
        return False


class Enough(Exception):
    """Leaves a training before its checkpoint is written, which is not what is measured."""


def gather(tables: Tensors, rows: Tensor) -> Tensors:
    return {key: table[rows] for key, table in tables.items()}


def fit_loop(training: Training, settings: Settings) -> Loop:
    job, order = build(training.network), batches(ROWS, training.batch)
    tables = {key: table.to(training.device) for key, table in job.tables.items()}
    settings = replace(
        settings,
        steps=10**9,
        batch_size=training.batch,
        grad_accumulation=1,
        micro_batch_threads=1,
        threads=1,
        device=training.device,
        precision=training.precision,
        compile=training.compile,
        log_every=settings.log_every if training.device == "cpu" else max(50, settings.log_every),
        checkpoint_minutes=60.0,
    )

    def run(steps: int) -> float:
        clock = Clock(steps, training.device)

        def loss(rows: Tensor, generator: torch.Generator) -> Tensor:
            if not clock():
                raise Enough
            return job.loss(gather(tables, rows), generator)

        with tempfile.TemporaryDirectory() as folder, suppress(Enough):
            fit(job.module, loss, order, folder, settings, monitor=Quiet())
        return clock.seconds

    return run


def plain_loop(training: Training, settings: Settings) -> Loop:
    from ema_pytorch import EMA

    job, order, device = build(training.network), batches(ROWS, training.batch), torch.device(training.device)
    tables = {key: table.to(device) for key, table in job.tables.items()}
    layout = torch.channels_last if settings.channels_last else torch.preserve_format
    module, generator = job.module.to(device, memory_format=layout).train(), torch.Generator(device)
    parameters = list(module.parameters())
    optimizer = torch.optim.AdamW(
        parameters, settings.learning_rate, settings.betas, weight_decay=settings.weight_decay
    )
    ema = EMA(module, beta=settings.ema_decay)

    def step(k: int) -> None:
        examples = gather(tables, torch.from_numpy(order(k)).to(device))
        with torch.autocast(device.type, torch.bfloat16, enabled=training.precision == "bfloat16"):
            loss = job.loss(examples, generator)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm)
        optimizer.step()
        ema.update()

    def run(steps: int) -> float:
        clock, numbers = Clock(steps, training.device), count()
        with nullcontext() if training.compile == "none" else compiled(module, training.compile):
            while clock():
                torch.compiler.cudagraph_mark_step_begin()
                step(next(numbers))
        return clock.seconds

    return run


def trainer_loop(training: Training, folder: Path) -> Loop:
    peer, _ = load_peer()
    number = max(ROWS, training.batch)
    write_pictures(folder / "png", np.random.default_rng(0).integers(0, 256, (number, SIZE, SIZE, 3), dtype=np.uint8))
    half = {"amp": True, "mixed_precision_type": "bf16"} if training.precision == "bfloat16" else {}
    network = peer.Unet(dim=WIDTH, dim_mults=(1, 2, 4))
    return peer_trainer(peer, network, folder / "png", training.batch, training.device, **half)


# --- what is measured, each in a process of its own ---


def measure(training: Training, rounds: int) -> dict[str, Any] | None:
    """A row of the report; None where memory does not suffice."""
    settings = settings_of(training.network)
    try:
        with tempfile.TemporaryDirectory() as folder:
            loops = {"fit": fit_loop(training, settings)}
            seconds = loops["fit"](1)  # not counted: this allocates, and compiles
            memory = peak_memory_of(device_of(training.device))
            loops["plain loop"] = plain_loop(training, settings)
            if training.network == PEER and training.compile == "none":
                loops["Trainer"] = trainer_loop(training, Path(folder))
            for loop in list(loops.values())[1:]:
                loop(1)
            steps = 1 if QUICK else min(max(round(SECONDS / seconds), 3), 2000)
            taken: dict[str, list[float]] = {label: [] for label in loops}
            for i in range(rounds):
                for label in list(loops)[:: 1 if i % 2 == 0 else -1]:
                    taken[label].append(loops[label](steps) / steps)
    except (UserError, torch.OutOfMemoryError) as error:
        if "memory" not in str(error):
            raise
        return None
    rates = {label: spread([training.batch / second for second in taken[label]]) for label in loops}
    ratios = {
        label: spread([b / a for a, b in zip(taken["fit"], taken[label], strict=True)]) for label in list(loops)[1:]
    }
    return {
        "examples_per_second": rates,
        "fit_beside": ratios,
        "peak_memory_gb": round(memory / 1e9, 2),
        "steps_per_round": steps,
    }


def describe(name: str) -> dict[str, float]:
    """Parameters, and the FLOP of a training step for one example: a mean over steps, as some predict twice."""
    job, steps, examples = build(name), 1 if QUICK else 8, 2
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):  # only unfused attention is counted
        for k in range(steps):
            job.loss(gather(job.tables, torch.arange(examples)), torch.Generator().manual_seed(k)).backward()
    return {
        "parameters": sum(p.numel() for p in job.module.parameters()),
        "gflop": round(counter.get_total_flops() / (steps * examples * 1e9), 4),
    }


def peak(device: str, precision: str) -> float:
    """TFLOP/s of the fastest of ten products of large matrices."""
    use_tensor_cores(torch.device(device))
    size = 256 if QUICK else 2048 if device == "cpu" else 8192
    a, b = torch.randn(2, size, size, device=device, dtype=getattr(torch, precision))
    seconds = []
    for _ in range(10):
        started = now(device)
        a @ b
        seconds.append(now(device) - started)
    return 2 * size**3 / min(seconds) / 1e12


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    with ProcessPoolExecutor(1, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        return pool.submit(function, *arguments).result()


def variants(device: str, has_bfloat16: bool) -> list[tuple[str, str]]:
    """Precisions, and modes of compilation."""
    if QUICK:
        return [("float32", "none")]
    if device == "cpu":  # where compiling takes minutes, and bfloat16 without its units an hour
        return [("float32", "none"), ("float32", "default"), *([("bfloat16", "none")] if has_bfloat16 else [])]
    graphs = [("bfloat16", "reduce-overhead")] if device == "cuda" else []
    return [(precision, mode) for precision in ("float32", "bfloat16") for mode in ("none", "default")] + graphs


def measure_all(options: Namespace) -> None:
    device, file = options.device, options.out or RESULT
    _, vision = load_peer()
    facts = machine(vision)
    label = torch.cuda.get_device_name() if device == "cuda" else facts["machine"]["cpu"]
    run = alone if not QUICK else lambda function, *arguments: function(*arguments)
    report = common.load(file)
    chosen = options.networks or names(device)
    kept = [row for row in report.get(label, {}).get("rows", []) if row["network"] not in chosen]
    modes = variants(device, facts["machine"]["avx512_bf16"])
    peaks = {precision: run(peak, device, precision) for precision, _ in modes}
    report[label] = {**facts, "device": device, "peak_tflops": peaks, "maker_tflops": MAKERS.get(label), "rows": kept}
    for name in chosen:
        network, fits = run(describe, name), settings_of(name)
        first = fits.batch_size * fits.grad_accumulation
        first = first // PIECES if name.endswith("text-encoder") else first  # it counts pieces
        for precision, mode in modes:
            batch, best = 16 if QUICK else first, 0.0  # the Trainer takes no fewer
            while row := run(measure, Training(name, device, batch, precision, mode), options.rounds):
                rate = row["examples_per_second"]["fit"]["median"]
                row["share_of_peak"] = network["gflop"] * rate / 1e3 / peaks[precision]
                row = {"network": name, **network, "precision": precision, "compile": mode, "batch": batch, **row}
                report[label]["rows"].append(row)
                common.save(file, report)
                print(line(row), flush=True)
                if device == "cpu" or rate < GROWS * best:
                    break
                best, batch = rate, 4 * batch
    print(table(report))


# --- the table ---


def table(report: dict[str, Any]) -> str:
    """For each device its rows, each at the batch that was fastest."""
    return "\n\n".join(table_of(name, facts) for name, facts in report.items())


def table_of(name: str, facts: dict[str, Any]) -> str:
    best, order = dict[tuple[str, ...], dict[str, Any]](), names(facts["device"])
    for row in sorted(facts["rows"], key=lambda row: order.index(row["network"])):
        key = row["network"], row["precision"], row["compile"]
        best[key] = max(best.get(key, row), row, key=lambda row: row["examples_per_second"]["fit"]["median"])
    peaks = ", ".join(f"{value:.3g} TFLOP/s in {precision}" for precision, value in facts["peak_tflops"].items())
    if maker := facts["maker_tflops"]:
        peaks += f" (its maker: {', '.join(f'{value:.0f} in {precision}' for precision, value in maker.items())})"
    second = "CPU second" if facts["device"] == "cpu" else "second"
    lines = [f"{name}{', one thread' if facts['device'] == 'cpu' else ''}; a product of matrices: {peaks}.", ""]
    lines.append(f"| network | computed in | batch | examples a {second} | of the peak | GB | fit beside others |")
    lines.append("|---|---|---|---|---|---|---|")
    return "\n".join([*lines, *map(line, best.values())])


def line(row: dict[str, Any]) -> str:
    mode = {"none": "", "default": ", compiled", "reduce-overhead": ", CUDA graphs"}[row["compile"]]
    beside = "; ".join(
        f"{label} {ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})"
        for label, ratio in row["fit_beside"].items()
    )
    rate = row["examples_per_second"]["fit"]["median"]
    return (
        f"| {row['network']}, {row['parameters'] / 1e6:.2f} M | {row['precision']}{mode} | {row['batch']} | "
        f"{rate:.{1 if rate < 100 else 0}f} | {row['share_of_peak']:.0%} | {row['peak_memory_gb']:.1f} | {beside} |"
    )
