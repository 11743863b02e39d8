"""Guides: functions from a denoiser to a denoiser. And hooks, which may change the state after a step."""

from __future__ import annotations

from collections.abc import Callable

from inkwash.diffusion.arrays import Array, cast, namespace
from inkwash.diffusion.denoiser import Condition, Denoise, Prediction
from inkwash.diffusion.noise import Noise
from inkwash.diffusion.process import Gaussian
from inkwash.diffusion.samplers import Step
from inkwash.diffusion.schedule import Point

Hook = Callable[[Step, Noise], Array | None]


def classifier_free(
    denoise: Denoise, scale: float, null: Condition, interval: tuple[float, float] = (0.0, 1.0)
) -> Denoise:
    """clean(null) + scale (clean(condition) - clean(null)), from one call on a batch of both.

    `null` has the keys and shapes of the condition (a batch of 1 will do): the empty caption, or a negative prompt.
    Only times within `interval` are guided (Kynkäänniemi et al. 2024, 2404.07724); outside it, and at scale 1, the
    network is called once. Ho & Salimans 2022, 2207.12598; guiding the clean mean or the noise is the same.
    """

    def guided(x: Array, t: Point, condition: Condition | None) -> Prediction:
        if scale == 1 or not interval[0] <= t.t <= interval[1]:
            return denoise(x, t, condition)
        xp, n = namespace(x), len(x)
        told = condition or {}
        without = {**null, "previous": told.get("previous")}  # self-conditioning is no condition: both are told
        both = {
            key: None if value is None else xp.concatenate([value, xp.broadcast_to(without[key], value.shape)])
            for key, value in told.items()
        }
        clean, variance = denoise(xp.concatenate([x, x]), t, both)
        return Prediction(clean[n:] + scale * (clean[:n] - clean[n:]), None if variance is None else variance[:n])

    return guided


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
        reach = xp.clip(xp.quantile(abs(flat), quantile, 1), limit, None)
        reach = cast(reach, flat.dtype)[:, None]
        clean = (xp.clip(flat, -reach, reach) * (limit / reach)).reshape(x.shape)
        return prediction._replace(clean=clean)

    return clipped


def known_region(process: Gaussian, x0: Array, mask: Array) -> Hook:
    """Inpainting: after each step, where `mask` is true the state is the known `x0`, noised to that time.

    Score SDE (2011.13456), appendix I.2; RePaint (Lugmayr et al. 2022, 2201.09865), equation 8, without resampling.
    `x0` and `mask` broadcast against the state; at the end the known region is exactly x0.
    """

    def paste(step: Step, noise: Noise) -> Array:
        xp, device = namespace(step.x), step.x.device
        clean = xp.asarray(x0, dtype=step.x.dtype, device=device)
        known = process.noise(clean, step.s, noise.normal()) if step.s.sigma else clean
        return xp.where(xp.asarray(mask, dtype=xp.bool, device=device), known, step.x)

    return paste
