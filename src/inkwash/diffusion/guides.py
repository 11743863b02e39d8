"""Guides: functions from a denoiser to a denoiser. And hooks, which may change the state after a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from inkwash.diffusion.arrays import Array, cast, namespace, norm
from inkwash.diffusion.denoiser import Condition, Denoise
from inkwash.diffusion.errors import DiffusionError
from inkwash.diffusion.noise import Noise
from inkwash.diffusion.process import Gaussian, Prediction
from inkwash.diffusion.samplers import Step
from inkwash.diffusion.schedule import Point

if TYPE_CHECKING:
    import torch

Hook = Callable[[Step, Noise], Array | None]


def classifier_free(
    denoise: Denoise,
    scale: float,
    null: Condition,
    interval: tuple[float, float] = (0.0, 1.0),
    rescale: float = 0.0,
) -> Denoise:
    """clean(null) + scale (clean(condition) - clean(null)), from one call on a batch of both.

    `null` has the keys and shapes of the condition (a batch of 1 will do): the empty caption, or a negative prompt.
    Only times within `interval` are guided (Kynkäänniemi et al. 2024, 2404.07724); outside it, and at scale 1, the
    network is called once. `rescale` moves each sample's standard deviation back towards that of clean(condition),
    all the way at 1 (Lin et al. 2024, 2305.08891, equation 16). Ho & Salimans 2022, 2207.12598; guiding the clean
    mean or the noise is the same.

    Raises DiffusionError for a condition that `null` does not fit.
    """

    def guided(x: Array, t: Point, condition: Condition | None) -> Prediction:
        if scale == 1 or not interval[0] <= t.t <= interval[1]:
            return denoise(x, t, condition)
        told, untold, spread = both(denoise, x, t, condition, null)
        clean = untold + scale * (told - untold)
        if rescale:
            clean = clean * (rescale * _std(told) / _std(clean) + (1 - rescale))
        return Prediction(clean, spread)

    return guided


def both(
    denoise: Denoise, x: Array, t: Point, condition: Condition | None, null: Condition
) -> tuple[Array, Array, Array | None]:
    """The clean predictions with `condition` and with `null`, from one call on a batch of both; and the spread."""
    xp, n = namespace(x), len(x)
    told = condition or {}
    without = {**null, "previous": told.get("previous")}  # self-conditioning is no condition: both are told
    joined = {}
    for key, value in told.items():
        try:
            other = None if value is None else xp.broadcast_to(without[key], value.shape)
        except (KeyError, ValueError, RuntimeError):
            wanted = f"'{key}' of the condition's shape, {tuple(value.shape)}, or one that broadcasts to it"
            raise DiffusionError(f"guidance: the null condition needs {wanted}") from None
        joined[key] = None if value is None else xp.concatenate([value, other])
    clean, spread = denoise(xp.concatenate([x, x]), t, joined)
    return clean[:n], clean[n:], None if spread is None else spread[:n]


def autoguidance(
    denoise: Denoise, worse: Denoise, scale: float, interval: tuple[float, float] = (0.0, 1.0)
) -> Denoise:
    """clean'(worse) + scale (clean - clean'(worse)): away from the mistakes of a smaller or less trained model.

    Karras et al. 2024, 2406.02507, equation 3. Outside `interval`, and at scale 1, the worse model is not called.
    """

    def guided(x: Array, t: Point, condition: Condition | None) -> Prediction:
        good = denoise(x, t, condition)
        if scale == 1 or not interval[0] <= t.t <= interval[1]:
            return good
        bad = worse(x, t, condition).clean
        return good._replace(clean=bad + scale * (good.clean - bad))

    return guided


def adaptive_projected(
    denoise: Denoise,
    scale: float,
    null: Condition,
    parallel: float = 0.0,
    reach: float = 15.0,
    momentum: float = -0.5,
) -> Denoise:
    """Adaptive projected guidance: strong guidance without burnt colours (Sadat et al. 2025, 2410.02416, algorithm
    1).

    The direction clean(condition) - clean(null), plus `momentum` times the last one, is shortened to the length
    `reach` in each sample, and its part along clean(condition) counts `parallel` times; clean(condition) + (scale -
    1) of it is the prediction. It remembers the last direction: make a new guide for each call of `sample`.
    """
    running: Any = 0.0

    def guided(x: Array, t: Point, condition: Condition | None) -> Prediction:
        nonlocal running
        told, untold, spread = both(denoise, x, t, condition, null)
        running = told - untold + momentum * running
        direction = running * namespace(x).clip(reach / (norm(running) + 1e-12), None, 1)
        inner = (direction * told).reshape(len(x), -1).sum(1).reshape(-1, *[1] * (x.ndim - 1))
        along = inner / (norm(told) ** 2 + 1e-12) * told
        return Prediction(told + (scale - 1) * (direction - along + parallel * along), spread)

    return guided


LogProbability = Callable[["torch.Tensor", Point, "Condition | None"], "torch.Tensor"]


def classifier(denoise: Denoise, log_prob: LogProbability, scale: float = 1.0) -> Denoise:
    """clean + scale (sigma^2 / alpha) grad log p(y | x_t): classifier guidance.

    `log_prob(x, t, condition)` is the classifier's log-probability of what is asked for, (batch,). ADM (Dhariwal &
    Nichol 2021, 2105.05233), algorithm 2, where the same is said of eps. At alpha = 0 nothing is seen, and nothing is
    guided.

    Raises DiffusionError for a state that is no torch tensor: NumPy and ONNX have no gradients.
    """

    def guided(x: Array, t: Point, condition: Condition | None) -> Prediction:
        prediction = denoise(x, t, condition)
        if t.alpha == 0:
            return prediction
        slope = gradient(lambda z: log_prob(z, t, condition), x, "classifier")
        return prediction._replace(clean=prediction.clean + (scale * t.sigma**2 / t.alpha) * slope)

    return guided


def measurement(
    denoise: Denoise,
    operator: Callable[[torch.Tensor], torch.Tensor],
    y: torch.Tensor,
    variance: Callable[[Point], float],
) -> Denoise:
    """The posterior given a measurement y = A x_0 + noise: clean + (sigma^2 / alpha) grad log N(y; A clean(x_t),
    variance).

    `operator` is A, batch in and batch out, `variance(t)` that of y given x_t, of each element. That of the
    measurement's noise alone is DPS (Chung et al. 2023, 2209.14687; a constant is its step size); with
    that of A x_0 given x_t added it is PiGDM (Song et al. 2023) and exact for Gaussian data. The gradient runs
    through the denoiser.

    Raises DiffusionError for a state that is no torch tensor.
    """

    def guided(x: Array, t: Point, condition: Condition | None) -> Prediction:
        if t.alpha == 0:
            return denoise(x, t, condition)
        seen: list[Prediction] = []

        def log_prob(z: torch.Tensor) -> torch.Tensor:
            seen.append(denoise(z, t, condition))
            return ((y - operator(seen[0].clean)) ** 2).flatten(1).sum(1) / (-2 * variance(t))

        slope = gradient(log_prob, x, "measurement")
        clean, spread = seen[0]
        clean = clean.detach() + (t.sigma**2 / t.alpha) * slope
        return Prediction(clean, None if spread is None else spread.detach())

    return guided


def gradient(f: Callable[[torch.Tensor], torch.Tensor], x: Array, name: str) -> torch.Tensor:
    """The gradient of f(x).sum() at x, with gradients on within this call only."""
    needs_torch(x, name)
    import torch

    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return torch.autograd.grad(f(x).sum(), x)[0]


def needs_torch(x: Array, name: str) -> None:
    """Raises DiffusionError for a NumPy array."""
    if isinstance(x, np.ndarray):
        raise DiffusionError(f"{name} needs gradients: bring a torch network and tensors (`sample`: a device)")


def _std(x: Array) -> Array:
    flat = x.reshape(len(x), -1)
    return norm(flat - flat.mean(1)[:, None]).reshape(-1, *[1] * (x.ndim - 1))


def static_threshold(denoise: Denoise, limit: float = 1.0) -> Denoise:
    """Clips the clean prediction to [-limit, limit] (Imagen, 2205.11487, section 2.3)."""

    def clipped(x: Array, t: Point, condition: Condition | None) -> Prediction:
        prediction = denoise(x, t, condition)
        return prediction._replace(clean=namespace(x).clip(prediction.clean, -limit, limit))

    return clipped


def dynamic_threshold(denoise: Denoise, quantile: float = 0.995, limit: float = 1.0) -> Denoise:
    """Clips each sample to its own s = max(limit, quantile of |clean|), then divides by s / limit.

    Imagen (Saharia et al. 2022, 2205.11487), section 2.3: strong guidance without washed-out colours.
    """

    def clipped(x: Array, t: Point, condition: Condition | None) -> Prediction:
        xp, prediction = namespace(x), denoise(x, t, condition)
        flat = prediction.clean.reshape(len(x), -1)
        reach = cast(xp.clip(xp.quantile(abs(flat), quantile, 1), limit, None), flat.dtype)[:, None]
        return prediction._replace(clean=(xp.clip(flat, -reach, reach) * (limit / reach)).reshape(x.shape))

    return clipped


def rounding(denoise: Denoise, table: Array, allowed: Array | None = None, until: float = 1.0) -> Denoise:
    """The clean prediction, moved to the nearest row of `table` (symbols, dim) at each position, at times t <= until.

    The clamping trick of Diffusion-LM (Li et al. 2022, 2205.14217, section 4.2): states are (batch, positions...,
    dim), and the table holds the vectors of words. `allowed`, true where a symbol may stand, broadcasts to (batch,
    positions..., symbols); where it leaves one, that symbol is known.
    """

    def rounded(x: Array, t: Point, condition: Condition | None) -> Prediction:
        prediction = denoise(x, t, condition)
        if t.t > until:
            return prediction
        return prediction._replace(clean=table[nearest(prediction.clean, table, allowed)])

    return rounded


def nearest(x: Array, table: Array, allowed: Array | None = None) -> Array:
    """The row of `table` nearest to each vector, argmin |x - row|^2; see `rounding`."""
    scores = x @ table.T - (table**2).sum(-1) / 2
    return (scores if allowed is None else namespace(x).where(allowed, scores, -np.inf)).argmax(-1)


def first_order(denoise: Denoise, table: Array, log_prob: LogProbability, scale: float) -> Denoise:
    """Tokens steered by a classifier of their vectors, `table` (symbols, dim): logits + scale g table, with g the
    gradient of log p(y | x_t) in the vector at each position.

    The change of log p(y | x_t) that each symbol would make there, to first order (Schiff et al. 2024, 2412.10193;
    Vignac et al. 2022, 2209.14734). `log_prob` as in `classifier`, of vectors.

    Raises DiffusionError for a state that is no torch tensor.
    """

    def guided(x: Array, t: Point, condition: Condition | None) -> Prediction:
        prediction = denoise(x, t, condition)
        slope = gradient(lambda z: log_prob(z, t, condition), table[x], "first_order")
        return prediction._replace(clean=prediction.clean + scale * slope @ table.T)

    return guided


def ascent(log_prob: LogProbability, rate: float, fluency: float, count: int = 3, end: float = 0.0) -> Hook:
    """After each step, `count` steps uphill on fluency log p(x_s | x_t) + log p(y | x_s), each of length `rate` in
    every element: x + rate sign(gradient).

    Diffusion-LM (Li et al. 2022, 2205.14217, section 5.1): a new Adagrad for each step, which is that sign. Steps to
    s <= end are left alone. It needs a sampler with noise.
    """

    def climb(step: Step, noise: Noise) -> Array | None:
        x, law = step.x, step.transition
        if step.s.t <= end or law is None:
            return None

        def height(z: torch.Tensor) -> torch.Tensor:
            fluent: torch.Tensor = law.log_prob(z).flatten(1).sum(1)
            return fluency * fluent + log_prob(z, step.s, None)

        for _ in range(count):
            x = x + rate * namespace(x).sign(gradient(height, x, "ascent"))
        return x

    return climb


def known_region(process: Gaussian, x0: Array, mask: Array) -> Hook:
    """Inpainting: after each step, where `mask` is true the state is the known `x0`, noised to that time.

    Score SDE (2011.13456), appendix I.2; RePaint (Lugmayr et al. 2022, 2201.09865), equation 8; with the sampler
    `repaint` also its resampling. `x0` and `mask` broadcast against the state; at the end the known region is exactly
    x0.
    """

    def paste(step: Step, noise: Noise) -> Array:
        xp, device = namespace(step.x), step.x.device
        clean = xp.asarray(x0, dtype=step.x.dtype, device=device)
        known = process.noise(clean, step.s, process.eps(noise)) if step.s.sigma else clean
        return process.paste(step.x, known, xp.asarray(mask, dtype=xp.bool, device=device))

    return paste
