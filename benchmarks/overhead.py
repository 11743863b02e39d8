"""What a sampling step costs outside the network: ours, diffusers' and azula's, in one run.

    pip install "diffusers>=0.36" && pip install --no-deps azula
    python benchmarks/overhead.py

It takes about a minute, prints its tables and writes docs/results/overhead.json.

All walk a float32 state (1, 3, 64, 64) down 50 steps on one thread. The network is free: it returns an array made
beforehand (azula's backbone what it is given). All else that a user's loop runs is counted, first noise included:

- ours: `diffusion.sample(Denoiser(...), ...)`, whole.
- diffusers: the loop of its pipelines without gradients, `scale_model_input` and `step`. `set_timesteps`, which it
  needs before every run, and the making of our grid, which serves any number, are not counted, but stated.
- azula: a Sampler's `init` and call, with its KarrasDenoiser.

Time is this process's CPU time, divided by the steps; for Heun by the calls of the network. Contenders take turns,
round after round, in alternating order; a round is the median of three runs. The table gives the median over the
rounds (lowest to highest) and the median of the ratios within a round. Last comes the loop of the shipped picture
model, guided and clipped as it is used, beside a call of its network on the batch of two that guidance makes.
"""

import json
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import azula.denoise
import azula.noise
import azula.sample
import diffusers
import numpy as np
import torch
from torch import Tensor

import inkwash
from inkwash import diffusion

RESULT = Path(__file__).parents[1] / "docs" / "results" / "overhead.json"
SHAPE, STEPS, TABLE = (3, 64, 64), 50, 1000
ROUNDS, RUNS = 40, 3
NAMES = ("torch", "NumPy", "diffusers", "azula")

BETAS = {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02, "num_train_timesteps": TABLE}
DDPM = diffusion.Gaussian(diffusion.betas(np.linspace(1e-4, 0.02, TABLE)))
FLOW = diffusion.Gaussian(diffusion.rectified_flow())

FLOW_ROW = "Euler on a flow"
# our sampler, their scheduler, azula's sampler
ROWS: dict[str, tuple[Any, Callable[[], Any], Any]] = {
    "DDIM": (
        diffusion.ddim,
        lambda: diffusers.DDIMScheduler(clip_sample=False, **BETAS),
        azula.sample.DDIMSampler,
    ),
    "DPM-Solver++(2M)": (
        diffusion.dpmpp_2m,
        lambda: diffusers.DPMSolverMultistepScheduler(**BETAS),
        azula.sample.xEABSampler,
    ),
    "UniPC, order 2": (
        diffusion.unipc,
        lambda: diffusers.UniPCMultistepScheduler(solver_order=2, **BETAS),
        None,
    ),
    FLOW_ROW: (
        diffusion.euler,
        diffusers.FlowMatchEulerDiscreteScheduler,
        azula.sample.EulerSampler,
    ),
    "Euler": (
        diffusion.euler,
        lambda: diffusers.EulerDiscreteScheduler(**BETAS),
        azula.sample.EulerSampler,
    ),
    "Heun, a call": (
        diffusion.heun,
        lambda: diffusers.HeunDiscreteScheduler(**BETAS),
        azula.sample.HeunSampler,
    ),
    "DDPM": (
        diffusion.ancestral,
        lambda: diffusers.DDPMScheduler(clip_sample=False, **BETAS),
        azula.sample.DDPMSampler,
    ),
    "SDE-DPM-Solver++(2M)": (
        diffusion.dpmpp_2m_sde,
        lambda: diffusers.DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++", **BETAS),
        None,
    ),
}
FIFTH = ("DDIM", "DPM-Solver++(2M)", "UniPC, order 2")  # ours is to cost at most a fifth of diffusers'
SHIPPED = "the shipped model"

Run = Callable[[], float]  # it returns its microseconds per call of the network


class Clock:
    """Runs a piece of work and keeps the microseconds of CPU time that it took, divided by `calls`."""

    def __init__(self, calls: int = 1) -> None:
        self.calls, self.taken = calls, list[float]()

    def __call__(self, work: Callable[[], Any]) -> float:
        start = time.process_time()
        work()
        self.taken.append((time.process_time() - start) / self.calls * 1e6)
        return self.taken[-1]


def our_run(row: str, device: str | None, setup: Clock) -> Run:
    process, form, spacing = (
        (FLOW, "flow", diffusion.uniform) if row == FLOW_ROW else (DDPM, "eps", diffusion.trailing)
    )
    output: Any = np.random.default_rng(0).standard_normal((1, *SHAPE), np.float32)
    output = output if device is None else torch.from_numpy(output)
    clock = Clock(2 * STEPS - 1 if diffusion.heun in ROWS[row] else STEPS)

    for _ in range(RUNS):
        setup(lambda: spacing(process, STEPS))
    grid, denoiser = spacing(process, STEPS), diffusion.Denoiser(lambda x, t: output, process, form)
    return lambda: clock(lambda: diffusion.sample(denoiser, SHAPE, ROWS[row][0], grid, [0], device=device))


def their_run(row: str, setup: Clock) -> Run:
    scheduler, output = ROWS[row][1](), torch.randn(1, *SHAPE)
    flow = row == FLOW_ROW  # whose pipelines scale neither noise nor input
    clock = Clock(2 * STEPS - 1 if diffusion.heun in ROWS[row] else STEPS)

    @torch.no_grad()
    def loop() -> None:
        x = torch.randn(1, *SHAPE)
        x = x if flow else x * scheduler.init_noise_sigma
        for t in scheduler.timesteps:
            if not flow:
                scheduler.scale_model_input(x, t)
            x = scheduler.step(output, t, x, return_dict=False)[0]

    def run() -> float:
        setup(lambda: scheduler.set_timesteps(STEPS))
        return clock(loop)

    return run


def azula_run(row: str) -> Run:
    class Identity(torch.nn.Module):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return x

    schedule = azula.noise.RectifiedSchedule() if row == FLOW_ROW else azula.noise.VPSchedule()
    sampler = ROWS[row][2](azula.denoise.KarrasDenoiser(Identity(), schedule), steps=STEPS, silent=True)
    clock = Clock(2 * STEPS if diffusion.heun in ROWS[row] else STEPS)
    return lambda: clock(lambda: sampler(sampler.init((1, *SHAPE))))


def shipped_runs() -> tuple[Run, Run]:
    """The loop of the shipped model without its network, and a call of that network."""
    emoji = inkwash.load("emoji")
    size = emoji.info.size // emoji.info.patch
    shape = (3 * emoji.info.patch**2, size, size)
    both = emoji.condition(["a red fox", ""], ["flat", None])
    told, untold = ({key: value[i : i + 1] for key, value in both.items()} for i in (0, 1))
    output, times = torch.randn(2, *shape), torch.full((2,), 500.0)
    process = emoji.denoiser.process
    denoiser = diffusion.Denoiser(lambda x, t, **condition: output, process, emoji.info.parametrization)
    guided = diffusion.static_threshold(diffusion.classifier_free(denoiser, emoji.info.guidance, untold))
    grid, loop, network = diffusion.uniform(process, STEPS), Clock(STEPS), Clock()

    def call() -> float:
        with torch.no_grad():
            return network(lambda: emoji.network(output, times, **both))

    return (
        lambda: loop(lambda: diffusion.sample(guided, shape, diffusion.dpmpp_2m, grid, [0], told, device="cpu")),
        call,
    )


def measure() -> dict[str, Any]:
    torch.set_num_threads(1)
    setups = {"making our grid": Clock(), "set_timesteps": Clock()}
    contenders: dict[tuple[str, str], Run] = {}
    for row, (_, _, third) in ROWS.items():
        contenders[row, "torch"] = our_run(row, "cpu", setups["making our grid"])
        contenders[row, "NumPy"] = our_run(row, None, setups["making our grid"])
        contenders[row, "diffusers"] = their_run(row, setups["set_timesteps"])
        if third is not None:
            contenders[row, "azula"] = azula_run(row)
    contenders[SHIPPED, "loop"], contenders[SHIPPED, "network"] = shipped_runs()

    rounds: dict[str, dict[str, list[float]]] = {row: {} for row in (*ROWS, SHIPPED)}
    for i in range(ROUNDS + 1):
        for (row, name), run in list(contenders.items())[:: 1 if i % 2 else -1]:
            taken = median(run() for _ in range(RUNS))
            if i:  # the first round warms up
                rounds[row].setdefault(name, []).append(round(taken, 2))

    def ratio(row: str, ours: str, other: str) -> float:
        return median(a / b for a, b in zip(rounds[row][ours], rounds[row][other], strict=True))

    ratios = {row: {name: ratio(row, name, "diffusers") for name in ("torch", "NumPy")} for row in ROWS}
    share = ratio(SHIPPED, "loop", "network")
    bars = {f"{row}: torch at most 1/5 of diffusers": ratios[row]["torch"] <= 1 / 5 for row in FIFTH}
    bars[f"{FLOW_ROW}: torch at most diffusers"] = ratios[FLOW_ROW]["torch"] <= 1
    bars["a guided step of the shipped model: at most 1 % of its network"] = share <= 0.01
    return {
        "command": "python benchmarks/overhead.py",
        "environment": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("numpy", "torch", "diffusers", "azula")},
            "machine": platform.machine(),
            "threads": 1,
        },
        "state": [1, *SHAPE],
        "steps in a run": STEPS,
        "runs in a round": RUNS,
        "microseconds, each round": rounds,
        "ours over diffusers": ratios,
        "the shipped model's loop over its network": share,
        "microseconds of setting up a run": {name: median(clock.taken) for name, clock in setups.items()},
        "bars met": bars,
    }


def tables(report: dict[str, Any]) -> str:
    """The report as a Markdown table, with the bars below it."""
    rounds = report["microseconds, each round"]
    lines = [
        f"| microseconds a step | {' | '.join(NAMES)} | torch / diffusers | NumPy / diffusers |",
        f"|---|{'---:|' * (len(NAMES) + 2)}",
    ]
    for row, ratios in report["ours over diffusers"].items():
        cells = [spread(rounds[row][name]) if name in rounds[row] else "" for name in NAMES]
        cells += [f"{ratio:.2f}" for ratio in ratios.values()]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    loop, network = (spread(rounds[SHIPPED][name]) for name in ("loop", "network"))
    share = report["the shipped model's loop over its network"]
    lines += ["", f"{SHIPPED}, a guided step: {loop}, {share:.2%} of its network's {network}"]
    lines += [f"{name}: {value:.0f}" for name, value in report["microseconds of setting up a run"].items()]
    lines += [f"{'met' if met else 'MISSED'}: {bar}" for bar, met in report["bars met"].items()]
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    return f"{median(values):.0f} ({min(values):.0f}-{max(values):.0f})"


if __name__ == "__main__":
    report = measure()
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(tables(report))
    print(f"\n{RESULT}")
