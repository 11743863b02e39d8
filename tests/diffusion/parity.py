"""Our samplers beside the schedulers of diffusers: same network, betas, times and noise, in one run.

    python -m tests.diffusion.parity

takes a few seconds, prints a Markdown table and writes docs/results/parity.json. It needs diffusers and scipy.

Network and sample are those of diffusers' own tests: output = x t / (t + 1), t the time that the network is told. A
difference is the largest |ours - theirs| over the largest |theirs|.

Both sides count in float64 as far as diffusers can. Its cumulative products of float32, which lose up to 3e-4 of the
least 1 - alpha^2, are made anew from its own betas. What stays float32 costs about 1e-7: noise levels and times as it
rounds them, and the state where a step casts it.

Two conventions. The Euler family of diffusers walks x / alpha: its network is shown `scale_model_input` of that,
which is our x, while its step sets out from x / alpha itself. And a noise level between two entries of the table lies
at an index linear in log(sigma / alpha) for diffusers, in sigma / alpha for us: `between` is theirs.
"""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from inkwash.diffusion import (
    Denoiser,
    Gaussian,
    Grid,
    ModelCall,
    NoiseLevel,
    Prediction,
    ancestral,
    betas,
    consistency,
    ddim,
    ddim_inversion,
    deis,
    dpm2,
    dpm_solver_2m,
    dpmpp_2m,
    dpmpp_2m_sde,
    dpmpp_2s,
    dynamic_threshold,
    edm_schedule,
    euler,
    euler_ancestral,
    flow_heun,
    heun,
    karras,
    leading,
    lms,
    quarter_log_sigma,
    rectified_flow,
    sample,
    scaled_linear,
    static_threshold,
    trailing,
    uniform,
    unipc,
    zero_terminal_snr,
)

RESULT = Path(__file__).parents[2] / "docs" / "results" / "parity.json"
BOUND = 1e-5
SIZE = 1000  # entries of a table of betas
SD = Gaussian(scaled_linear())
LINEAR = Gaussian(betas(np.linspace(1e-4, 0.02, SIZE)))
SAMPLE = (torch.arange(768, dtype=torch.float64) / 768).reshape(3, 8, 8, 4).permute(3, 0, 1, 2)


def dummy(x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
    time = time.reshape(-1, *[1] * (x.ndim - 1))
    return x * time / (time + 1)


class Draws:
    """Torch's generator in place of our Noise: what diffusers draws from the same seed."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.generator, self.dtype = torch.Generator().manual_seed(0), dtype

    def normal(self) -> torch.Tensor:
        return torch.randn(SAMPLE.shape, generator=self.generator, dtype=self.dtype)

    def between(self, a: float, b: float) -> torch.Tensor:
        return self.normal()


def index(t: NoiseLevel) -> float:
    """The time as a network trained on the table is told it."""
    return SIZE * t.t - 1


def between(process: Gaussian, whole: bool = False) -> Callable[[NoiseLevel], float]:
    """`index` as diffusers finds it from a noise level; `whole`: rounded, as some of its schedulers do."""
    known = [math.log(process.at((i + 1) / SIZE).edm_sigma) for i in range(SIZE)]

    def time(t: NoiseLevel) -> float:
        found = float(np.interp(math.log(t.edm_sigma), known, np.arange(SIZE)))
        return round(found) if whole else found

    return time


def entries(process: Gaussian, steps: int) -> Grid:
    """Whole indices from the noisiest entry to the cleanest: "linspace" with final_sigmas_type "sigma_min"."""
    return Grid(process, (np.linspace(SIZE - 1, 0, steps + 1).round() + 1) / SIZE)


def spaced(process: Gaussian, steps: int, size: int = SIZE) -> Grid:
    """`steps` indices from the noisiest entry to the cleanest, then clean data: "linspace" of the Euler family."""
    return Grid(process, [*((np.linspace(size - 1, 0, steps) + 1) / size), 0.0])


def levels(process: Gaussian, steps: int) -> Grid:
    """Karras levels between the ends of the table, then clean data."""
    return karras(process, steps, sigma_max=math.inf, sigma_min=process.at(1 / SIZE).edm_sigma)


def cut(grid: Grid, first: int | None, end: int | None = None) -> Grid:
    """A part of a grid."""
    return Grid(grid.process, [point.t for point in grid.levels[first:end]])


def ours(denoise: Callable, sampler: Callable, grid: Grid, x: torch.Tensor, noise: Draws | None) -> torch.Tensor:
    """`sample` from x; with other noise than ours, the driver's loop by hand."""
    if noise is None:
        return sample(denoise, x.shape[1:], sampler, grid, range(len(x)), x=x)
    walk, reply = sampler(x, grid, noise), None
    try:
        while True:
            request = walk.send(reply)
            reply = denoise(request.x, request.t, None) if isinstance(request, ModelCall) else request.x
    except StopIteration as stop:
        return stop.value


UNSCALED = {"EulerDiscrete", "EulerAncestralDiscrete", "HeunDiscrete", "KDPM2Discrete", "LMSDiscrete"}


class Case(NamedTuple):
    """A scheduler of diffusers with its settings, and our sampler on the grid that says the same."""

    scheduler: str
    settings: str
    config: dict[str, Any]
    sampler: Callable
    grid: Grid
    predicts: Any = "eps"
    time: Callable[[NoiseLevel], float] = index
    guide: Callable = lambda denoise: denoise
    noise: torch.dtype | None = None
    spacing: dict[str, Any] | None = None  # of set_timesteps; None: 10 steps
    options: dict[str, Any] | None = None  # of step
    calls: int | None = None  # how many of its times are visited
    scale: float = 1.0  # of the sample

    @property
    def name(self) -> str:
        return f"{self.scheduler}, {self.settings}"

    def theirs(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The state that diffusers sets out from, and where it arrives."""
        import diffusers

        scheduler = getattr(diffusers, f"{self.scheduler}Scheduler")(**self.config)
        if hasattr(scheduler, "betas"):
            scheduler.alphas_cumprod = torch.cumprod(1 - scheduler.betas.double(), 0)
        scheduler.set_timesteps(**self.spacing or {"num_inference_steps": 10})
        for name in {"sigmas", "sigmas_interpol"} & vars(scheduler).keys():
            setattr(scheduler, name, getattr(scheduler, name).double())
        options = {**(self.options or {}), **({"generator": Draws(self.noise).generator} if self.noise else {})}
        seen = getattr(scheduler, "scale_model_input", lambda x, t: x)
        x = start = SAMPLE * self.scale * float(getattr(scheduler, "init_noise_sigma", 1.0))
        for t in scheduler.timesteps[: self.calls]:
            x = scheduler.step(dummy(seen(x, t), t), t, x, **options).prev_sample
        return start, x

    def difference(self) -> float:
        start, expected = self.theirs()
        denoise = self.guide(Denoiser(dummy, self.grid.process, self.predicts, c_noise=self.time))
        x = start * self.grid[0].alpha if self.scheduler in UNSCALED else start
        found = ours(denoise, self.sampler, self.grid, x, Draws(self.noise) if self.noise else None)
        return float((found - expected).abs().max() / expected.abs().max())


TABLE = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}
LATENT = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
FREE = {**TABLE, "clip_sample": False}
TO_ZERO = {**TABLE, "timestep_spacing": "trailing"}
TO_ENTRY = {**TABLE, "final_sigmas_type": "sigma_min", "lower_order_final": False}
KARRAS = {**TABLE, "use_karras_sigmas": True}
FORMS = {"eps": {"prediction_type": "epsilon"}, "v": {"prediction_type": "v_prediction"}}


def larger(denoise: Callable) -> Callable:
    """The larger of DDPM's two variances."""
    return lambda x, t, condition: Prediction(denoise(x, t, condition).x0, 1.0)


def ddpm_cases() -> Iterator[Case]:
    grids = {"leading": leading, "trailing": trailing}
    for (steps, spacing), form in product([(1000, "leading"), (50, "leading"), (50, "trailing")], FORMS):
        config = {**TABLE, **FORMS[form], "timestep_spacing": spacing}
        grid, settings = grids[spacing](LINEAR, steps), f"{steps} steps, {spacing}, {form}, "
        shared = {"noise": torch.float64, "spacing": {"num_inference_steps": steps}}
        small, large = ({**config, "variance_type": f"fixed_{size}"} for size in ("small", "large"))
        yield Case("DDPM", settings + "fixed_small", small, ancestral, grid, form, guide=static_threshold, **shared)
        # Theirs adds noise in each step from an index above 0, even in the one to clean data with which a trailing
        # grid ends; DDPM's algorithm 2 and ours do not. "fixed_small" makes that noise 1e-10.
        if spacing == "trailing":
            settings, grid, shared = settings + "without the last step, ", cut(grid, 0, -1), {**shared, "calls": -1}
        guide = lambda denoise: larger(static_threshold(denoise))  # noqa: E731
        yield Case("DDPM", settings + "fixed_large", large, ancestral, grid, form, guide=guide, **shared)
    last = {"noise": torch.float64, "spacing": {"timesteps": [1, 0]}, "guide": static_threshold}
    yield Case("DDPM", "the last two of 1000 steps", TABLE, ancestral, Grid(LINEAR, [0.002, 0.001, 0.0]), **last)


def ddim_cases() -> Iterator[Case]:
    grids = {"leading": leading(LINEAR, 10), "trailing": trailing(LINEAR, 10)}
    for spacing, form, eta in product(grids, FORMS, [0.0, 0.5, 1.0]):
        config = {**FREE, **FORMS[form], "timestep_spacing": spacing}
        sampler, settings = partial(ddim, eta=eta), f"{spacing}, {form}, eta {eta:g}"
        yield Case("DDIM", settings, config, sampler, grids[spacing], form, noise=torch.float64, options={"eta": eta})
    # By itself theirs keeps the noise that belonged to the unclipped prediction; ours makes it anew.
    clipped = {"guide": static_threshold, "scale": 20.0, "options": {"use_clipped_model_output": True}}
    yield Case("DDIM", "leading, clipped", TABLE, ddim, grids["leading"], **clipped)
    yield Case("DDIM", "leading, scaled_linear", {**FREE, **LATENT}, ddim, leading(SD, 10))
    yield Case(
        "DDIM", "leading, steps_offset 1", {**FREE, **LATENT, "steps_offset": 1}, ddim, leading(SD, 10, 1000, 1)
    )
    config = {**FREE, **FORMS["v"], "timestep_spacing": "trailing", "rescale_betas_zero_snr": True}
    zero = Gaussian(betas(zero_terminal_snr(np.linspace(1e-4, 0.02, SIZE))))
    yield Case("DDIM", "trailing, v, zero terminal SNR", config, ddim, trailing(zero, 10), "v")
    # With v theirs is another rule: it reads the answer, asked for at t, with the alpha and sigma of s.
    yield Case("DDIMInverse", "leading", FREE, ddim_inversion, grids["leading"])


def euler_cases() -> Iterator[Case]:
    plain, rough, told = spaced(LINEAR, 10), levels(LINEAR, 10), between(LINEAR)
    yield Case("EulerDiscrete", "linspace, eps", TABLE, euler, plain)
    yield Case("EulerDiscrete", "linspace, v", {**TABLE, **FORMS["v"]}, euler, plain, "v")
    yield Case("EulerDiscrete", "Karras", KARRAS, euler, rough, time=told)
    yield Case("EulerAncestralDiscrete", "linspace", TABLE, euler_ancestral, plain, noise=torch.float64)
    yield Case("HeunDiscrete", "linspace", TABLE, heun, plain)
    yield Case("HeunDiscrete", "Karras", KARRAS, heun, rough, time=told)
    yield Case("KDPM2Discrete", "linspace", TABLE, dpm2, plain, time=told)
    yield Case("LMSDiscrete", "order 4, linspace", TABLE, lms, plain)
    yield Case("LMSDiscrete", "order 4, Karras", KARRAS, lms, rough, time=told)


def log_snr_cases() -> Iterator[Case]:
    end, zero = entries(LINEAR, 10), trailing(LINEAR, 10)
    rough, told = levels(LINEAR, 10), between(LINEAR, whole=True)
    multi, single, pc, exponential = "DPMSolverMultistep", "DPMSolverSinglestep", "UniPCMultistep", "DEISMultistep"
    yield Case(multi, "order 1, linspace", {**TO_ENTRY, "solver_order": 1}, euler, end)
    yield Case(multi, "order 2, trailing", TO_ZERO, dpmpp_2m, zero)
    yield Case(multi, "order 2, Karras", KARRAS, dpmpp_2m, rough, time=told)
    threshold = {"thresholding": True, "dynamic_thresholding_ratio": 0.87, "sample_max_value": math.inf}
    guide = partial(dynamic_threshold, quantile=0.87)
    config = {**TO_ENTRY, **threshold}
    yield Case(multi, "order 2, linspace, dynamic threshold", config, dpmpp_2m, end, guide=guide, scale=20.0)
    yield Case(multi, "in eps, order 2, linspace", {**TO_ENTRY, "algorithm_type": "dpmsolver"}, dpm_solver_2m, end)
    sde = {"algorithm_type": "sde-dpmsolver++"}
    yield Case(multi, "SDE, order 2, linspace", {**TO_ENTRY, **sde}, dpmpp_2m_sde, end, noise=torch.float32)
    yield Case(multi, "SDE, order 2, trailing", {**TO_ZERO, **sde}, dpmpp_2m_sde, zero, noise=torch.float32)
    config = {**KARRAS, "lower_order_final": True}
    yield Case(single, "order 2, Karras", config, dpmpp_2s, rough, time=told)
    for form in FORMS:
        config = {**TO_ENTRY, **FORMS[form]}
        yield Case(multi, f"order 2, linspace, {form}", config, dpmpp_2m, end, form)
        yield Case(single, f"order 2, linspace, {form}", config, dpmpp_2s, end, form)
        for order in [1, 2, 3]:
            config = {**TO_ENTRY, **FORMS[form], "solver_order": order}
            sampler, settings = partial(unipc, order=order), f"order {order}, bh2, {{}}, {form}"
            easing = {"lower_order_final": True}  # the paper's algorithm, and ours
            yield Case(pc, settings.format("linspace"), {**config, **easing}, sampler, end, form)
            config = {**TO_ZERO, **FORMS[form], "solver_order": order}
            yield Case(pc, settings.format("trailing"), config, sampler, zero, form)
            config = {**TABLE, **FORMS[form], "solver_order": order, "lower_order_final": False}
            sampler = partial(deis, order=order)
            yield Case(exponential, f"order {order}, linspace, {form}", config, sampler, end, form)


def boundary(denoise: Callable) -> Callable:
    """The consistency model c_skip x + c_out x_0 that LCM makes of a network, with its own constants."""

    def model(x: torch.Tensor, t: NoiseLevel, condition: Any) -> Prediction:
        scaled = 10 * index(t)
        skip, out = 0.25 / (scaled**2 + 0.25), scaled / math.sqrt(scaled**2 + 0.25)
        return Prediction(skip * x + out * denoise(x, t, condition).x0)

    return model


def lcm_grid(steps: int) -> Grid:
    """LCM's times: of the 50 indices 19, 39, ..., 999, from the last down, every (50 / steps)-th, then clean data."""
    places = np.floor(np.linspace(0, 50, steps, endpoint=False)).astype(int)
    return Grid(SD, [*((50 - places) / 50), 0.0])


def consistency_cases() -> Iterator[Case]:
    for steps, form in product([2, 4, 10], FORMS):
        config, spacing = {**LATENT, **FORMS[form]}, {"num_inference_steps": steps}
        grid, settings = lcm_grid(steps), f"{steps} steps, {form}"
        shared = {"guide": boundary, "noise": torch.float64, "spacing": spacing}
        yield Case("LCM", settings, config, consistency, grid, form, **shared)


def other_cases() -> Iterator[Case]:
    """Rectified flow, and EDM."""
    for shift in [1.0, 3.0]:
        process = Gaussian(rectified_flow(shift))
        shared = {"predicts": "flow", "time": lambda t: SIZE * t.sigma}
        flow = partial(Case, "FlowMatchEulerDiscrete", config={"shift": shift}, sampler=euler, **shared)
        # By itself it spaces the levels between its ends, both shifted already, and shifts once more.
        own = Grid(process, [*np.linspace(1, process.at(1 / SIZE).sigma, 10), 0.0])
        yield flow(f"shift {shift:g}, its own levels", grid=own)
        spacing = {"sigmas": np.linspace(1, 0.1, 10)}
        yield flow(f"shift {shift:g}, uniform", grid=uniform(process, 10), spacing=spacing)
        name = "FlowMatchHeunDiscrete"
        yield Case(name, f"shift {shift:g}, its own levels", {"shift": shift}, flow_heun, own, **shared)
    grid = karras(Gaussian(edm_schedule()), 10)
    # The network's t = log(sigma) / 4 comes to -0.973 here, where t / (t + 1) makes 36 times as much of its rounding.
    edm = {"predicts": "edm", "time": quarter_log_sigma}
    yield Case("EDMEuler", "Karras", {}, euler, grid, **edm)
    yield Case("EDMDPMSolverMultistep", "order 2, Karras", {}, dpmpp_2m, grid, **edm)


KINDS = ddpm_cases, ddim_cases, euler_cases, log_snr_cases, other_cases, consistency_cases
CASES = {case.name: case for cases in KINDS for case in cases()}


def measure() -> dict[str, Any]:
    torch.set_num_threads(1)
    return {
        "command": "python -m tests.diffusion.parity",
        "environment": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("numpy", "torch", "diffusers", "scipy")},
            "machine": platform.machine(),
            "threads": 1,
        },
        "bound": BOUND,
        "rows": [
            {
                "diffusers": f"{case.scheduler}Scheduler",
                "settings": case.settings,
                "ours": getattr(case.sampler, "func", case.sampler).__name__,
                "largest relative difference": float(f"{case.difference():.2e}"),
            }
            for case in CASES.values()
        ],
    }


def table(report: dict[str, Any]) -> str:
    """The report as a Markdown table."""
    lines = ["| diffusers | settings | ours | largest relative difference |", "|---|---|---|---:|"]
    for row in report["rows"]:
        *cells, difference = row.values()
        lines.append(f"| {' | '.join(cells)} | {difference:.1e} |")
    return "\n".join(lines)


if __name__ == "__main__":
    report = measure()
    RESULT.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(table(report))
    print(f"\n{RESULT}")
