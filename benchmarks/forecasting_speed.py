"""TimeGrad here and in pytorch-ts, its authors' code, in turns on the same shapes: CPU time of a step of training,
and of drawing the paper's five windows whole.

    pip install '.[bench]' && pip install --no-deps pytorchts==0.6.0
    python benchmarks/forecasting_speed.py --data exchange_rate_nips.tar.gz --model RUN/model

Of pytorch-ts only the network and its diffusion are used (they need torch alone). `--model` is a faithful forecaster
that has a table: `inkwash train` with mode = "faithful", then `inkwash tune RUN/model --data DATA --steps 6`.
"""

import importlib.util
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import common
from common import QUICK, ROOT
from inkwash.systems.series import metrics, simulate
from inkwash.systems.series.data import Series, read_rolling_archive
from inkwash.systems.series.evaluate import truths
from inkwash.systems.series.model import Forecaster
from inkwash.systems.series.networks import TimeGrad
from inkwash.systems.series.train import default_settings, fit_forecaster

BATCH, LENGTH, DIMS, INPUTS, ROUNDS = 64, 60, 8, 28, 1 if QUICK else 7


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--data", type=Path, required=not QUICK)
    parser.add_argument("--model", type=Path, required=not QUICK)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--out", type=Path, default=ROOT / "docs/results/forecasting-speed.json")
    args = parser.parse_args()
    common.needs("pts")
    torch.set_num_threads(1)
    torch.manual_seed(0)

    rivals = {"inkwash": ours("faithful"), "inkwash, improved": ours("improved"), "pytorch-ts": theirs()}
    training = {name: statistics.median(times) for name, times in turns(rivals).items()}

    forecaster = fitted() if QUICK else Forecaster.load(args.model)
    series, starts, horizon = windows() if QUICK else read_rolling_archive(args.data)
    truth, drawn = truths(series, starts, horizon), {}
    for sampler, steps in (("ancestral", 4),) if QUICK else (("ancestral", 100), ("tuned", args.steps)):
        found = []
        for seed in range(1 if QUICK else 3):
            clock = time.process_time()
            paths = forecaster.paths(series, starts, horizon, 100, seed, sampler, steps)
            seconds = time.process_time() - clock
            found.append({"cpu_seconds": seconds, **metrics.scores(paths, truth)})
        drawn[f"{sampler}, {steps} steps"] = found
    levels = 4 if QUICK else 100
    theirs_whole = their_drawing(100 * len(starts), horizon, levels)
    ours_whole = statistics.median(run["cpu_seconds"] for run in drawn[f"ancestral, {levels} steps"])
    report = {
        "training step, CPU seconds (median)": training,
        "training ratio": training["pytorch-ts"] / training["inkwash"],
        "training ratio, improved": training["pytorch-ts"] / training["inkwash, improved"],
        "five windows x 100 paths x 30 steps": drawn,
        "the same by pytorch-ts, 100 levels, CPU seconds": theirs_whole,
        "drawing ratio": theirs_whole / ours_whole,
        "noise network, 100 rows, CPU seconds (median)": calls(),
    }
    common.save(args.out, report)
    print(json.dumps(report, indent=1))


def windows() -> tuple[Series, list[int], int]:
    """For a quick run, in the place of the exchange rates."""
    return simulate.vector_autoregression(200).series, [190, 195], 5


def fitted() -> Forecaster:
    """For a quick run: it has learned next to nothing."""
    series, _, horizon = windows()
    return fit_forecaster(series, horizon, mode="faithful", settings=replace(default_settings("faithful"), steps=2))


def part(name: str) -> Any:
    """A file of pytorch-ts, without its package, which needs old versions of what it imports."""
    root = Path(importlib.util.find_spec("pts").submodule_search_locations[0])  # type: ignore[union-attr, index]
    spec = importlib.util.spec_from_file_location(name.rpartition("/")[2], root / f"{name}.py")
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


def theirs() -> Callable[[], None]:
    network = part("model/time_grad/epsilon_theta").EpsilonTheta(target_dim=DIMS, cond_length=100)
    rnn = torch.nn.GRU(INPUTS, 40, 2, dropout=0.1, batch_first=True)
    projection = torch.nn.Linear(40, 100)
    betas = torch.linspace(1e-4, 0.1, 100)
    kept = torch.cumprod(1 - betas, 0)

    def noised(x: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        n = torch.randint(0, 100, (BATCH * LENGTH,))
        eps = torch.randn_like(x)
        alpha = kept[n].sqrt()[:, None, None]
        x = alpha * x + (1 - kept[n]).sqrt()[:, None, None] * eps
        return torch.nn.functional.mse_loss(network(x, n, hidden), eps)

    return step(
        [network, rnn, projection],
        lambda inputs, x: noised(x.reshape(-1, 1, DIMS), projection(rnn(inputs)[0]).reshape(-1, 1, 100)),
    )


def their_drawing(rows: int, horizon: int, levels: int) -> float:
    """CPU seconds of paths: at each step the recurrent network and its diffusion's own loop, all rows at once."""
    network = part("model/time_grad/epsilon_theta").EpsilonTheta(target_dim=DIMS, cond_length=100)
    diffusion = part("modules/gaussian_diffusion").GaussianDiffusion(network, input_size=DIMS, diff_steps=levels)
    rnn, projection = torch.nn.GRU(INPUTS, 40, 2, batch_first=True), torch.nn.Linear(40, 100)
    x, state, features = torch.zeros(rows, 1, DIMS), torch.zeros(2, rows, 40), torch.zeros(rows, 1, INPUTS - DIMS)
    clock = time.process_time()
    with torch.no_grad():
        for _ in range(horizon):
            hidden, state = rnn(torch.cat([x, features], dim=2), state)
            x = diffusion.sample(cond=projection(hidden))
    return time.process_time() - clock


def ours(mode: str) -> Callable[[], None]:
    """The improved mode reads longer windows, 90 steps, and is told more of each."""
    from inkwash import diffusion
    from inkwash.systems.series import transforms
    from inkwash.systems.series.train import paper_times

    improved = mode == "improved"
    times = diffusion.logit_normal() if improved else paper_times
    context, lags = (60, [1, 2, 5, 10]) if improved else (30, [1, 2])
    config = transforms.Config([str(i) for i in range(DIMS)], "B", 30, context, lags, mode)
    network = TimeGrad(DIMS, config.inputs, noise="dense" if improved else "dilated")
    denoiser = Forecaster(network, config).denoiser
    assert isinstance(denoiser, diffusion.Denoiser)
    return step(
        [network],
        lambda inputs, x: denoiser.loss(
            x.reshape(-1, DIMS), {"hidden": network.encode(inputs)[0].flatten(0, 1)}, times=times
        ),
        config.inputs,
        context + 30,
    )


def step(
    modules: list[torch.nn.Module], loss: Callable[..., torch.Tensor], inputs: int = INPUTS, length: int = LENGTH
) -> Callable[[], None]:
    optimizer = torch.optim.Adam([p for module in modules for p in module.parameters() if p.requires_grad])

    def once() -> None:
        optimizer.zero_grad()
        loss(torch.randn(BATCH, length, inputs), torch.randn(BATCH, length, DIMS)).backward()
        optimizer.step()

    return once


def calls() -> dict[str, float]:
    """One call of each noise network as in sampling."""
    own, other = TimeGrad(DIMS, INPUTS).eval(), part("model/time_grad/epsilon_theta").EpsilonTheta(DIMS, 100).eval()
    x, hidden, n = torch.randn(100, DIMS), torch.randn(100, 100), torch.full((100,), 50)

    def ten(call: Callable[[], Any]) -> Callable[[], None]:
        def run() -> None:
            with torch.no_grad():
                for _ in range(10):
                    call()

        return run

    both = {
        "inkwash": ten(lambda: own(x, n.float(), hidden)),
        "pytorch-ts": ten(lambda: other(x[:, None], n, hidden[:, None])),
    }
    return {name: statistics.median(times) / 10 for name, times in turns(both).items()}


def turns(rivals: dict[str, Callable[[], None]]) -> dict[str, list[float]]:
    """CPU seconds of each in turns, the first round left out."""
    found: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(ROUNDS + 1):
        for name, run in rivals.items():
            clock = time.process_time()
            run()
            found[name].append(time.process_time() - clock)
    return {name: times[1:] for name, times in found.items()}


if __name__ == "__main__":
    main()
