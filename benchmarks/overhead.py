"""What a sampling step costs outside the network: ours, diffusers' and azula's, in one run.

    pip install '.[bench]' && pip install --no-deps azula
    python benchmarks/overhead.py [--steps 20] [--batch 1] [--shape 3 64 64] [--rounds 5]

It takes less than a minute, prints its tables and writes docs/results/overhead.json. Without azula its column is left
out.

All walk a float32 state (batch, *shape) down as many steps on one thread. The network is free: it returns an array
made beforehand (azula's backbone what it is given). All else that a user's loop runs is counted, first noise too:

- ours: `diffusion.sample(Denoiser(...), ...)`, whole.
- diffusers: the loop of its pipelines without gradients, `scale_model_input` and `step`. `set_timesteps`, which it
  needs before every run, and the making of our grid, which serves any number, are not counted, but stated.
- azula: a Sampler's `init` and call, with its KarrasDenoiser.

Time is this process's CPU time, divided by the steps; for Heun by the calls of the network. Contenders take turns,
round after round, in alternating order; a round is the median of three runs. The table gives the median over the
rounds (lowest to highest) and the median of the ratios within a round. Last comes the loop of the shipped picture
model, guided and clipped as it is used, beside a call of its network on the batch of two that guidance makes.
"""

import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from statistics import median
from typing import Any, NamedTuple

import diffusers
import numpy as np
import torch
from torch import Tensor

import common
import inkwash
from common import QUICK, ROOT
from inkwash import diffusion

AZULA = find_spec("azula") is not None
if AZULA:
    import azula.denoise
    import azula.noise
    import azula.sample

RESULT = ROOT / "docs" / "results" / "overhead.json"
TABLE, RUNS = 1000, 3
NAMES = ("torch", "NumPy", "diffusers", "azula")

BETAS = {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02, "num_train_timesteps": TABLE}
DDPM = diffusion.Gaussian(diffusion.betas(np.linspace(1e-4, 0.02, TABLE)))
FLOW = diffusion.Gaussian(diffusion.rectified_flow())

FLOW_ROW = "Euler on a flow"
# our sampler, their scheduler, the name of azula's sampler
ROWS: dict[str, tuple[Any, Callable[[], Any], str]] = {
    "DDIM": (
        diffusion.ddim,
        lambda: diffusers.DDIMScheduler(clip_sample=False, **BETAS),
        "DDIMSampler",
    ),
    "DPM-Solver++(2M)": (
        diffusion.dpmpp_2m,
        lambda: diffusers.DPMSolverMultistepScheduler(**BETAS),
        "xEABSampler",
    ),
    "UniPC, order 2": (
        diffusion.unipc,
        lambda: diffusers.UniPCMultistepScheduler(solver_order=2, **BETAS),
        "",
    ),
    FLOW_ROW: (
        diffusion.euler,
        diffusers.FlowMatchEulerDiscreteScheduler,
        "EulerSampler",
    ),
    "Euler": (
        diffusion.euler,
        lambda: diffusers.EulerDiscreteScheduler(**BETAS),
        "EulerSampler",
    ),
    "Heun, a call": (
        diffusion.heun,
        lambda: diffusers.HeunDiscreteScheduler(**BETAS),
        "HeunSampler",
    ),
    "DDPM": (
        diffusion.ancestral,
        lambda: diffusers.DDPMScheduler(clip_sample=False, **BETAS),
        "DDPMSampler",
    ),
    "SDE-DPM-Solver++(2M)": (
        diffusion.dpmpp_2m_sde,
        lambda: diffusers.DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++", **BETAS),
        "",
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


class Walk(NamedTuple):
    """What every contender walks."""

    steps: int
    batch: int
    shape: tuple[int, ...]

    @property
    def state(self) -> tuple[int, ...]:
        return (self.batch, *self.shape)

    def calls(self, row: str, last: int = 1) -> int:
        """Of the network; `last`: how many of them a second-order method makes in its last step."""
        return 2 * self.steps - 2 + last if ROWS[row][0] is diffusion.heun else self.steps


def our_run(walk: Walk, row: str, device: str | None, setup: Clock) -> Run:
    process, form, spacing = (
        (FLOW, "flow", diffusion.uniform) if row == FLOW_ROW else (DDPM, "eps", diffusion.trailing)
    )
    output: Any = np.random.default_rng(0).standard_normal(walk.state, np.float32)
    output = output if device is None else torch.from_numpy(output)
    clock, sampler, seeds = Clock(walk.calls(row)), ROWS[row][0], range(walk.batch)

    for _ in range(RUNS):
        setup(lambda: spacing(process, walk.steps))
    grid, denoiser = spacing(process, walk.steps), diffusion.Denoiser(lambda x, t: output, process, form)
    return lambda: clock(lambda: diffusion.sample(denoiser, walk.shape, sampler, grid, seeds, device=device))


def their_run(walk: Walk, row: str, setup: Clock) -> Run:
    scheduler, output = ROWS[row][1](), torch.randn(walk.state)
    flow = row == FLOW_ROW  # whose pipelines scale neither noise nor input
    clock = Clock(walk.calls(row))

    @torch.no_grad()
    def loop() -> None:
        x = torch.randn(walk.state)
        x = x if flow else x * scheduler.init_noise_sigma
        for t in scheduler.timesteps:
            if not flow:
                scheduler.scale_model_input(x, t)
            x = scheduler.step(output, t, x, return_dict=False)[0]

    def run() -> float:
        setup(lambda: scheduler.set_timesteps(walk.steps))
        return clock(loop)

    return run


def azula_run(walk: Walk, row: str) -> Run:
    class Identity(torch.nn.Module):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return x

    schedule = azula.noise.RectifiedSchedule() if row == FLOW_ROW else azula.noise.VPSchedule()
    make = getattr(azula.sample, ROWS[row][2])
    sampler = make(azula.denoise.KarrasDenoiser(Identity(), schedule), steps=walk.steps, silent=True)
    clock = Clock(walk.calls(row, last=2))
    return lambda: clock(lambda: sampler(sampler.init(walk.state)))


def shipped_runs(steps: int) -> tuple[Run, Run]:
    """The loop of the shipped model without its network, and a call of that network."""
    emoji = inkwash.load("emoji", runtime="torch", threads=1)
    both = emoji.condition(["a red fox", ""], ["flat", None])
    cond, uncond = ({key: value[i : i + 1] for key, value in both.items()} for i in (0, 1))
    output, times = torch.randn(2, *emoji.shape), torch.full((2,), 500.0)
    process = emoji.denoiser.process
    denoiser = diffusion.Denoiser(lambda x, t, **condition: output, process, emoji.config.parametrization)
    guided = diffusion.static_threshold(diffusion.classifier_free(denoiser, emoji.config.guidance, uncond))
    grid, loop, network = diffusion.uniform(process, steps), Clock(steps), Clock()

    def call() -> float:
        with torch.no_grad():
            return network(lambda: emoji.unet(output, times, **both))

    return (
        lambda: loop(
            lambda: diffusion.sample(guided, emoji.shape, diffusion.dpmpp_2m, grid, [0], cond, device="cpu")
        ),
        call,
    )


def measure(walk: Walk, count: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    setups = {"making our grid": Clock(), "set_timesteps": Clock()}
    contenders: dict[tuple[str, str], Run] = {}
    for row, (_, _, third) in ROWS.items():
        contenders[row, "torch"] = our_run(walk, row, "cpu", setups["making our grid"])
        contenders[row, "NumPy"] = our_run(walk, row, None, setups["making our grid"])
        contenders[row, "diffusers"] = their_run(walk, row, setups["set_timesteps"])
        if AZULA and third:
            contenders[row, "azula"] = azula_run(walk, row)
    contenders[SHIPPED, "loop"], contenders[SHIPPED, "network"] = shipped_runs(walk.steps)

    rounds: dict[str, dict[str, list[float]]] = {row: {} for row in (*ROWS, SHIPPED)}
    for i in range(count + 1):
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
            **{name: version(name) for name in ("numpy", "torch", "diffusers", *["azula"] * AZULA)},
            "machine": platform.machine(),
            "threads": 1,
        },
        "state": list(walk.state),
        "steps in a run": walk.steps,
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
    names = [name for name in NAMES if any(name in row for row in rounds.values())]
    lines = [
        f"| microseconds a step | {' | '.join(names)} | torch / diffusers | NumPy / diffusers |",
        f"|---|{'---:|' * (len(names) + 2)}",
    ]
    for row, ratios in report["ours over diffusers"].items():
        cells = [spread(rounds[row][name]) if name in rounds[row] else "" for name in names]
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


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--steps", type=int, default=4 if QUICK else 20)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--shape", type=int, nargs="+", default=[3, 64, 64], help="of one sample")
    parser.add_argument("--rounds", type=int, default=1 if QUICK else 5)
    options = parser.parse_args()
    if not AZULA:
        print("azula is not installed: its column is left out")
    report = measure(Walk(options.steps, options.batch, tuple(options.shape)), options.rounds)
    common.save(RESULT, report)
    print(tables(report))
    print(f"\n{RESULT}")


if __name__ == "__main__":
    main()
