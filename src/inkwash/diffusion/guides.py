"""Guides: functions from a denoiser to a denoiser. And hooks, which may change the state after a step.

On a state of named fields each works field by field, where it has a meaning; `on` gives one to a single field.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from itertools import product
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from inkwash.diffusion.arrays import Array, by_field, each, is_tokens, like, merge, namespace, norm, per_sample, split
from inkwash.diffusion.arrays import quantile as quantile_of
from inkwash.diffusion.denoiser import Condition, Denoise
from inkwash.diffusion.errors import DiffusionError, require
from inkwash.diffusion.noise import Noise
from inkwash.diffusion.options import COUNT, NOT_NEGATIVE, POSITIVE, REAL, UNIT, Bound, Range, maker
from inkwash.diffusion.process import Prediction, Process
from inkwash.diffusion.samplers import StepResult
from inkwash.diffusion.schedule import NoiseLevel

if TYPE_CHECKING:
    import torch

F = TypeVar("F", bound=Callable[..., Any])
Hook = Callable[[Any, Any], Any]
LogProbability = Callable[[Any, Any, "Condition | None"], "torch.Tensor"]


def trained_process(denoise: Any) -> Any:
    """The process of a denoiser, through guides; None of a function that names none."""
    while isinstance(denoise, Bound):
        denoise = denoise.arguments.get("denoise")
    return getattr(denoise, "process", None)


def check_process(trained: Any, process: Any, of: str = "") -> None:
    """Raises DiffusionError for a denoiser that was trained on another process."""
    if trained is not None and trained != process:  # to say what they are takes time
        was = f"the denoiser{of} was trained on {trained!r}, and the grid is of {process!r}"
        raise DiffusionError(f"{was}; make the grid of the denoiser's process")


@maker()
def on(field: str, apply: Callable[..., Any]) -> Callable[..., Any]:
    """A guide or a hook for one field of many: `on("kind", partial(static_threshold, limit=2.0))(denoise)`, or among
    the hooks `on("place", hook)`. The guide sees that field alone; the others stand beside it."""

    def applied(*args: Any) -> Any:
        if len(args) == 1:
            return _on_field(args[0], field, apply)
        steps, noises = args
        require(field in split(noises), f"on: the state has no field '{field}'")
        changed = apply(steps[field], noises[field]) if field in steps else None
        return None if changed is None else {field: changed}

    return applied


@maker()
def _on_field(denoise: Denoise, field: str, apply: Callable[[Denoise], Denoise]) -> Denoise:
    def guided(x: Any, t: Any, condition: Condition | None) -> Any:
        require(isinstance(x, dict) and field in x, f"on: the state has no field '{field}'")
        answers: dict[str, Prediction] = {}
        levels = each(t, x)

        def alone(part: Array, level: NoiseLevel, condition: Condition | None) -> Prediction:
            times, xp = len(part) // len(x[field]), namespace(part)  # guides may ask for a batch twice
            others = {name: xp.concatenate([value] * times) for name, value in x.items()}
            answers.update(denoise({**others, field: part}, {**levels, field: level}, condition))
            return answers[field]

        own, xp = apply(alone)(x[field], levels[field], condition), namespace(x[field])
        rest = by_field(lambda part: rows(part, slice(len(x[field]))), answers)
        if xp is not np and not xp.is_grad_enabled():  # the guide may have had gradients of its own
            rest = by_field(detached, rest)
        return {**rest, field: own}

    return guided


def rows(prediction: Prediction, part: slice) -> Prediction:
    """The prediction of a part of the batch."""
    return Prediction(*(None if a is None else by_field(lambda values: values[part], a) for a in prediction))


def x0_guide(tokens: bool = False, **ranges: Any) -> Callable[[F], Any]:
    """Makes a guide of a function (x_0, t, options...) that only maps the clean prediction: of numbers, or of
    `tokens`, their logits. Fields of the other kind stay as they are; where there is no other, it refuses."""

    def decorate(f: F) -> Any:
        def guide(denoise: Denoise, *args: Any, **options: Any) -> Denoise:
            def guided(x: Any, t: Any, condition: Condition | None) -> Any:
                answers, levels = split(denoise(x, t, condition)), each(t, split(x))
                meant = [name for name, state in split(x).items() if is_tokens(state) == tokens]
                if not meant:
                    single(next(iter(split(x).values())), f.__name__, tokens)
                for name in meant:
                    x0 = f(answers[name].x0, levels[name], *args, **options)
                    answers[name] = answers[name]._replace(x0=x0)
                return merge(answers)

            return guided

        functools.update_wrapper(guide, f)
        signature = inspect.signature(f)
        first = inspect.Parameter("denoise", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        options = [*signature.parameters.values()][2:]
        guide.__signature__ = signature.replace(parameters=[first, *options])  # type: ignore[attr-defined]
        return maker(**ranges)(guide)

    return decorate


def single(x: Any, name: str, tokens: bool | None = None) -> None:
    """Raises DiffusionError for a state of named fields, and for tokens or numbers where the other is meant."""
    one = not isinstance(x, dict)
    require(one, f"{name} is for a single state: give it to one field, on('{next(iter(split(x)))}', ...)")
    wanted, given = ("tokens", "numbers") if tokens else ("numbers", "tokens")
    require(tokens is None or is_tokens(x) == tokens, f"{name}: a guide of {wanted}, given {given}")


def within(t: Any, interval: tuple[float, float]) -> bool:
    """Whether all times of a state lie there."""
    return all(interval[0] <= level.t <= interval[1] for level in split(t).values())


@maker(scale=REAL, interval=Range(0, 1, pair=True), rescale=UNIT)
def classifier_free(
    denoise: Denoise,
    scale: float,
    uncond: Condition,
    interval: tuple[float, float] = (0.0, 1.0),
    rescale: float = 0.0,
) -> Denoise:
    """x_0(uncond) + scale (x_0(condition) - x_0(uncond)), from one call on a batch of both; of tokens the same of
    logits.

    `uncond` has the keys and shapes of the condition (a batch of 1 will do): the empty caption, or a negative prompt.
    The driver's own, `mask` and `previous`, it need not have.
    Only times within `interval` are guided (Kynkäänniemi et al. 2024, 2404.07724); outside it, and at scale 1, the
    network is called once. `rescale` moves each sample's standard deviation back towards that of x_0(condition), all
    the way at 1 (Lin et al. 2024, 2305.08891, equation 16). Ho & Salimans 2022, 2207.12598; guiding the clean mean or
    the noise is the same.

    Raises DiffusionError for a condition that `uncond` does not fit.
    """

    def guided(x: Any, t: Any, condition: Condition | None) -> Any:
        if scale == 1 or not within(t, interval):
            return denoise(x, t, condition)
        return by_field(mixed, x, *both(denoise, x, t, condition, uncond))

    def mixed(x: Array, cond: Prediction, free: Prediction) -> Prediction:
        xp, x0 = namespace(x), beyond(cond.x0, free.x0, scale, is_tokens(x))
        if rescale and not is_tokens(x):
            std, wanted = _std(x0), _std(cond.x0)
            spread = std > 1e-5 * norm(x0)  # less is a constant, up to rounding
            x0 = x0 * xp.where(spread, rescale * wanted / xp.where(spread, std, 1) + (1 - rescale), 1)
        return cond._replace(x0=x0)

    return guided


def beyond(a: Array, b: Array, scale: float, tokens: bool) -> Array:
    """b + scale (a - b); of tokens' logits what both say where they agree, since both may be -inf."""
    if not tokens:
        return b + scale * (a - b)
    xp, same = namespace(a), a == b
    return xp.where(same, a, b + scale * (xp.where(same, 0, a) - xp.where(same, 0, b)))


def both(denoise: Denoise, x: Any, t: Any, condition: Condition | None, uncond: Condition) -> tuple[Any, Any]:
    """The predictions with `condition` and with `uncond`, from one call on a batch of both."""

    def twice(a: Array, b: Array) -> Array:
        if a is None:  # the mask of a field that has none
            return None
        if b is None:
            raise KeyError
        xp = namespace(a)
        return xp.concatenate([a, xp.broadcast_to(like(b, a), a.shape)])

    joined: dict[str, Any] = {}
    given = uncond if isinstance(uncond, Mapping) else {}
    for key, value in (condition or {}).items():
        other = given.get(key, value if key in ("previous", "mask") else None)
        try:
            joined[key] = None if value is None else by_field(twice, value, {} if other is None else other)
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError):
            wanted = f"'{key}' of the condition's shape, {tuple(getattr(value, 'shape', ()))}"
            raise DiffusionError(f"guidance: uncond needs {wanted}, or one that broadcasts to it") from None
    fits = given is uncond and given.keys() <= joined.keys()
    require(fits, f"guidance: uncond must be a dict of the condition's keys, {[*joined]}")
    n = len(next(iter(split(x).values())))
    answers = denoise(by_field(lambda a: twice(a, a), x), t, joined)
    return by_field(lambda a: rows(a, slice(n)), answers), by_field(lambda a: rows(a, slice(n, None)), answers)


@maker(scale=REAL, interval=Range(0, 1, pair=True))
def autoguidance(
    denoise: Denoise, weak: Denoise, scale: float, interval: tuple[float, float] = (0.0, 1.0)
) -> Denoise:
    """x_0(weak) + scale (x_0 - x_0(weak)): away from the mistakes of a smaller or less trained guiding model.

    Karras et al. 2024, 2406.02507, equation 3. Outside `interval`, and at scale 1, the weak model is not called.
    """
    ours, theirs = trained_process(denoise), trained_process(weak)
    one = ours is None or theirs is None or ours == theirs
    require(one, "autoguidance: both denoisers must be of one process, and so of one schedule")

    def mixed(x: Array, good: Prediction, bad: Prediction) -> Prediction:
        return good._replace(x0=beyond(good.x0, bad.x0, scale, is_tokens(x)))

    def guided(x: Any, t: Any, condition: Condition | None) -> Any:
        good = denoise(x, t, condition)
        return good if scale == 1 or not within(t, interval) else by_field(mixed, x, good, weak(x, t, condition))

    return guided


@maker(scale=REAL, eta=REAL, norm_threshold=Range(0, above=True), momentum=REAL)
def adaptive_projected(
    denoise: Denoise,
    scale: float,
    uncond: Condition,
    eta: float = 0.0,
    norm_threshold: float = 15.0,
    momentum: float = -0.5,
) -> Denoise:
    """Adaptive projected guidance: strong guidance without burnt colours (Sadat et al. 2025, 2410.02416, algorithm
    1).

    The direction x_0(condition) - x_0(uncond), plus `momentum` times the last one, is shortened to the length
    `norm_threshold` in each sample, and its part along x_0(condition) counts `eta` times; x_0(condition) + (scale -
    1) of it is the prediction. It remembers the last direction: make a new guide for each call of `sample`."""
    running: Any = 0.0

    def guided(x: Array, t: NoiseLevel, condition: Condition | None) -> Prediction:
        nonlocal running
        single(x, "adaptive_projected", tokens=False)
        cond, free = both(denoise, x, t, condition, uncond)
        running = cond.x0 - free.x0 + momentum * running
        direction = running * namespace(x).clip(norm_threshold / (norm(running) + 1e-12), None, 1)
        inner = per_sample((direction * cond.x0).reshape(len(x), -1).sum(1), x)
        parallel = inner / (norm(cond.x0) ** 2 + 1e-12) * cond.x0
        prediction: Prediction = cond._replace(x0=cond.x0 + (scale - 1) * (direction - parallel + eta * parallel))
        return prediction

    return guided


@maker(scale=POSITIVE)
def analytic_variance(
    denoise: Denoise, sigmas: Sequence[float], errors: Sequence[float], scale: float = 1.0
) -> Denoise:
    """Gives each step of `ancestral` its likeliest variance, that of q(x_s | x_t) over all x_0 that x_t may come from
    (Analytic-DPM, Bao et al. 2022, 2201.06503, theorem 1).

    errors: the denoiser's mean squared error of eps at the noise levels sigma / alpha `sigmas`, which increase;
    between them it is interpolated in log sigma. With e the error, a = alpha_t / alpha_s and v, the noise added
    between s and t, as in `Gaussian.transition`, the variance is v (sigma_s^2 / sigma_t^2 + e (1 / a^2 -
    sigma_s^2 / sigma_t^2)): without e, what `ancestral` draws, chains of few steps end with too little variance.
    scale: of the standard deviation; below 1 samples are more regular, and less diverse (the noise scale of models of
    proteins)."""
    require(len(sigmas) == len(errors) > 0, "analytic_variance: an error for each noise level is needed")

    def guided(x: Array, t: NoiseLevel, condition: Condition | None) -> Prediction:
        single(x, "analytic_variance", tokens=False)
        prediction: Prediction = denoise(x, t, condition)
        if t.s is None or not t.s.sigma or not t.alpha:
            return prediction
        error = float(np.interp(math.log(t.edm_sigma), np.log(sigmas), errors))
        shrink = (t.s.sigma / t.sigma) ** 2
        ratio = scale**2 * (shrink + error * ((t.s.alpha / t.alpha) ** 2 - shrink))
        place = 0 * x.reshape(len(x), -1)[:, 0] + (1 - math.log(ratio) / math.log(shrink))
        return prediction._replace(variance=per_sample(place, x))

    return guided


@maker(scale=REAL)
def classifier(denoise: Denoise, log_prob: LogProbability, scale: float = 1.0) -> Denoise:
    """x_0 + scale (sigma^2 / alpha) grad log p(y | x_t): classifier guidance, in each field of numbers.

    `log_prob(x, t, condition)` is the classifier's log-probability of what is asked for, (batch,). ADM (Dhariwal &
    Nichol 2021, 2105.05233), algorithm 2, where the same is said of eps. At alpha = 0 nothing is seen, and nothing is
    guided.

    Raises DiffusionError for a state that is no torch tensor: NumPy and ONNX have no gradients.
    """

    def guided(x: Any, t: Any, condition: Condition | None) -> Any:
        slopes = gradient(lambda z: log_prob(z, t, condition), x, "classifier")
        return shifted(denoise(x, t, condition), t, slopes, scale)

    return guided


def shifted(prediction: Any, t: Any, slopes: dict[str, Array], scale: float = 1.0) -> Any:
    """x_0 + scale (sigma^2 / alpha) slope in each field that has a slope and alpha > 0."""
    answers = split(prediction)
    levels = each(t, answers)
    for name, slope in slopes.items():
        level = levels[name]
        if level.alpha:
            x0 = answers[name].x0 + (scale * level.sigma**2 / level.alpha) * slope
            answers[name] = answers[name]._replace(x0=x0)
    return merge(answers)


@maker()
def dps(
    denoise: Denoise, operator: Callable[[Any], torch.Tensor], y: torch.Tensor, variance: Callable[[Any], float]
) -> Denoise:
    """The posterior given a measurement y = A x_0 + noise: x_0 + (sigma^2 / alpha) grad log N(y; A x_0(x_t),
    variance).

    `operator` is A, batch in and batch out, `variance(t)` that of y given x_t, of each element. That of the
    measurement's noise alone is DPS (Chung et al. 2023, 2209.14687; a constant is its step size); with that of A x_0
    given x_t added it is PiGDM (Song et al. 2023) and exact for Gaussian data. The gradient runs through the
    denoiser.

    Raises DiffusionError for a state that is no torch tensor.
    """

    def guided(x: Any, t: Any, condition: Condition | None) -> Any:
        if all(level.alpha == 0 for level in split(t).values()):
            return denoise(x, t, condition)
        seen: list[Any] = []

        def log_prob(z: Any) -> torch.Tensor:
            seen.append(denoise(z, t, condition))
            guess = operator(by_field(lambda a: a.x0, seen[0]))
            off: torch.Tensor = like(y, guess) - guess
            shapes = f"dps: y has the shape {tuple(np.shape(y))}, A x_0 {tuple(guess.shape)}"
            require(off.shape == guess.shape, f"{shapes}: give y that shape, or one that broadcasts to it")
            return (off**2).reshape(len(guess), -1).sum(1) / (-2 * variance(t))

        slopes = gradient(log_prob, x, "dps")
        return shifted(seen[0] if graphed(x) else by_field(detached, seen[0]), t, slopes)

    return guided


def detached(prediction: Prediction) -> Prediction:
    """The prediction without its graph."""
    return Prediction(*(None if a is None else by_field(lambda part: part.detach(), a) for a in prediction))


def graphed(x: Any) -> bool:
    """Whether a state of torch has a graph that is to be kept (`gradients` of `sample`)."""
    return any(value.requires_grad and namespace(value).is_grad_enabled() for value in split(x).values())


def gradient(f: Callable[[Any], torch.Tensor], x: Any, name: str) -> dict[str, torch.Tensor]:
    """The gradient of f(x).sum() in each field of numbers that f looks at, with gradients on within this call
    only; the gradient at a state with a graph has one itself."""
    fields = split(x)
    for value in fields.values():
        needs_torch(value, name)
    import torch

    graph = graphed(x)
    with torch.enable_grad():
        numbers = {n: v for n, v in fields.items() if not is_tokens(v)}
        require(numbers, f"{name}: tokens have no gradients")
        free = {n: v if graph and v.requires_grad else v.detach().requires_grad_() for n, v in numbers.items()}
        value = f(merge({**fields, **free})).sum()
        require(
            getattr(value, "requires_grad", False),
            f"{name}: its score has no gradient; keep it in torch and detach nothing",
        )
        slopes = torch.autograd.grad(value, [*free.values()], allow_unused=True, create_graph=graph)
    return {n: slope for n, slope in zip(free, slopes, strict=True) if slope is not None}


def needs_torch(x: Array, name: str) -> None:
    """Raises DiffusionError for a NumPy array."""
    torch = not isinstance(x, np.ndarray)
    require(torch, f"{name} needs gradients: bring a torch network and tensors (`sample`: a device)")


def _std(x: Array) -> Array:
    flat = x.reshape(len(x), -1)
    return per_sample(norm(flat - flat.mean(1)[:, None]), x)


@x0_guide(limit=POSITIVE)
def static_threshold(x0: Array, t: NoiseLevel, limit: float = 1.0) -> Array:
    """Clips the clean prediction to [-limit, limit] (Imagen, 2205.11487, section 2.3)."""
    return namespace(x0).clip(x0, -limit, limit)


@x0_guide(quantile=UNIT, limit=POSITIVE)
def dynamic_threshold(x0: Array, t: NoiseLevel, quantile: float = 0.995, limit: float = 1.0) -> Array:
    """Clips each sample to its own s = max(limit, quantile of |x_0|), then divides by s / limit.

    Imagen (Saharia et al. 2022, 2205.11487), section 2.3: strong guidance without washed-out colours.
    """
    xp = namespace(x0)
    reach = per_sample(xp.clip(quantile_of(abs(x0).reshape(len(x0), -1), quantile), limit, None), x0)
    return xp.clip(x0, -reach, reach) * (limit / reach)


@x0_guide(until=UNIT)
def rounding(x0: Array, t: NoiseLevel, table: Array, allowed: Array | None = None, until: float = 1.0) -> Array:
    """The clean prediction, moved to the nearest row of `table` (symbols, dim) at each position, at times t <= until.

    The clamping trick of Diffusion-LM (Li et al. 2022, 2205.14217, section 4.2): states are (batch, positions...,
    dim), and the table holds the vectors of words. `allowed`, true where a symbol may stand, broadcasts to (batch,
    positions..., symbols); where it leaves one, that symbol is known.
    """
    table = like(table, x0)
    return x0 if t.t > until else table[nearest(x0, table, allowed)]


@x0_guide(tokens=True)
def allowed_symbols(x0: Array, t: NoiseLevel, allowed: Array) -> Array:
    """Forbids symbols: those whose `allowed` is false have no probability. It broadcasts to (batch, positions...,
    symbols)."""
    return namespace(x0).where(like(allowed, x0, namespace(x0).bool), x0, -np.inf)


def nearest(x: Array, table: Array, allowed: Array | None = None) -> Array:
    """The row of `table` nearest to each vector, argmin |x - row|^2; see `rounding`."""
    scores = x @ table.T - (table**2).sum(-1) / 2
    if allowed is not None:
        scores = namespace(x).where(like(allowed, x, namespace(x).bool), scores, -np.inf)
    return scores.argmax(-1)


@maker(scale=REAL)
def token_gradient(denoise: Denoise, table: Array, log_prob: LogProbability, scale: float) -> Denoise:
    """Tokens steered by a classifier of their vectors, `table` (symbols, dim): logits + scale g table, with g the
    gradient of log p(y | x_t) in the vector at each position.

    The change of log p(y | x_t) that each symbol would make there, to first order (Schiff et al. 2024, 2412.10193;
    Vignac et al. 2022, 2209.14734). `log_prob` as in `classifier`, of vectors.

    Raises DiffusionError for a state that is no torch tensor.
    """

    def guided(x: Array, t: NoiseLevel, condition: Condition | None) -> Prediction:
        single(x, "token_gradient", tokens=True)
        prediction: Prediction = denoise(x, t, condition)
        slope = gradient(lambda z: log_prob(z, t, condition), table[x], "token_gradient")[""]
        return prediction._replace(x0=prediction.x0 + scale * slope @ table.T)

    return guided


@maker(size=COUNT, overlap=Range(0, whole=True))
def tiled(denoise: Denoise, size: int, overlap: int) -> Denoise:
    """A state (batch, channels, spatial...) larger than the network's own, by windows of `size` along each spatial
    axis that overlap by at least `overlap`; where they do, their clean predictions are averaged with weights that
    fall towards a window's edge (MultiDiffusion, Bar-Tal et al. 2023, 2302.08113).

    What a condition holds of the state's spatial shape is cut along; variances and by-products are averaged alike,
    those without that shape over all windows. Raises DiffusionError for overlap >= size.
    """
    require(overlap < size, f"tiled: overlap = {overlap} must be smaller than size = {size}")

    def starts(n: int) -> list[int]:
        return [*range(0, max(n - size, 0), size - overlap), max(n - size, 0)]

    def guided(x: Array, t: NoiseLevel, condition: Condition | None) -> Prediction:
        single(x, "tiled", tokens=False)
        spatial, answers = tuple(x.shape[2:]), []
        require(spatial, f"tiled: a state (batch, channels, spatial...) is needed, not {tuple(x.shape)}")
        windows = [(..., *(slice(a, a + size) for a in corner)) for corner in product(*map(starts, spatial))]
        places = [np.arange(min(n, size)) for n in spatial]  # in a window
        weight = like(reduce(np.multiply.outer, [np.minimum(np.minimum(k, k[::-1]), overlap) + 1 for k in places]), x)
        for window in windows:

            def cut(value: Any, window: Any = window) -> Any:
                return value[window] if tuple(getattr(value, "shape", ())[2:]) == spatial else value

            answers.append(denoise(x[window], t, {key: cut(value) for key, value in (condition or {}).items()}))

        def blended(*values: Any) -> Any:
            if values[0] is None:
                return None
            if values[0].shape[2:] != weight.shape:  # of a whole window
                return sum(values) / len(values)
            total, share = (like(np.zeros((*values[0].shape[:2], *spatial)), values[0]) for _ in range(2))
            for value, window in zip(values, windows, strict=True):
                total[window] += weight * value
                share[window] += weight
            return total / share

        return Prediction(
            *(None if part[0] is None else by_field(blended, *part) for part in zip(*answers, strict=True))
        )

    return guided


@maker(lr=NOT_NEGATIVE, lambda_=REAL, updates=COUNT, t_min=UNIT)
def gradient_control(
    log_prob: LogProbability, lr: float, lambda_: float, updates: int = 3, t_min: float = 0.0
) -> Hook:
    """After each step, `updates` steps uphill on lambda log p(x_s | x_t) + log p(y | x_s), each of length `lr` in
    every element: x + lr sign(gradient).

    Diffusion-LM (Li et al. 2022, 2205.14217, section 5.1): a new Adagrad for each step, which is that sign. Steps to
    s <= t_min are left alone. It needs a sampler with noise.
    """

    def climb(step: StepResult, noise: Noise) -> Array | None:
        single(step, "gradient_control")
        x, transition = step.x, step.transition
        if step.s.t <= t_min or transition is None:
            return None

        def height(z: torch.Tensor) -> torch.Tensor:
            fluent: torch.Tensor = transition.log_prob(z).flatten(1).sum(1)
            return lambda_ * fluent + log_prob(z, step.s, None)

        for _ in range(updates):
            x = x + lr * namespace(x).sign(gradient(height, x, "gradient_control")[""])
        return x

    return climb


@maker()
def known_region(process: Any, x0: Any, mask: Any) -> Hook:
    """Inpainting: after each step, where `mask` is true the state is the known `x0`, noised to that time.

    Score SDE (2011.13456), appendix I.2; RePaint (Lugmayr et al. 2022, 2201.09865), equation 8; with the sampler
    `repaint` also its resampling. `x0` and `mask` broadcast against the state; at the end the known region is exactly
    x0. For named fields all three are dicts, of those fields of which something is known.
    """

    def paste(steps: Any, noises: Any) -> Any:
        changed, steps, noises = {}, split(steps), split(noises)
        processes, masks = each(process, noises), each(mask, noises)
        for name, value in split(x0).items():
            require(name in noises, f"known_region: the state has no field '{name}'")
            own, of = processes[name], f" of field '{name}'" if name else ""
            given = isinstance(own, Process) and masks[name] is not None
            kinds = f"a process, not a {type(own).__name__}, and a mask, not a {type(masks[name]).__name__}"
            require(given, f"known_region: x0{of} needs {kinds}")
            if name not in steps:
                continue
            x, s = steps[name].x, steps[name].s
            known, where = like(value, x), like(masks[name], x, namespace(x).bool)
            if s.sigma:
                known = own.noise(known, s, own.eps(noises[name]))
            changed[name] = own.merge(x, known, where)
        return merge(changed) if changed else None

    return paste
