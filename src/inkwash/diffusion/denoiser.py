"""Denoisers: `(x_t, t, condition) -> Prediction` of the clean state, from a network that may predict something else.

No sampler ever sees what the network predicts: the parametrization is how the network is wrapped.
"""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

from inkwash.diffusion import losses
from inkwash.diffusion.arrays import Array, by_field, cast, each, is_tokens, like, mask_like
from inkwash.diffusion.arrays import mask_of, merge, name_of, namespace, numpy, per_sample, split, widened
from inkwash.diffusion.categorical import Categorical
from inkwash.diffusion.errors import DiffusionError, require
from inkwash.diffusion.options import COUNT, UNIT, check
from inkwash.diffusion.parametrization import PARAMETRIZATIONS, Parametrization
from inkwash.diffusion.process import Gaussian, Prediction, Process
from inkwash.diffusion.schedule import NoiseLevel

if TYPE_CHECKING:
    import torch

Condition = Mapping[str, Array]
Denoise = Callable[[Any, Any, "Condition | None"], Any]


def thousands(t: NoiseLevel) -> Array:
    """c_noise of most networks: the time, 0 to 1000."""
    return 1000.0 * t.t


def quarter_log_sigma(t: NoiseLevel) -> Array:
    """c_noise of EDM's networks: log(sigma / alpha) / 4."""
    if isinstance(t.sigma, float):
        return -t.lambda_ / 4
    sigma = t.sigma / t.alpha
    return namespace(sigma).log(sigma) / 4


@dataclass(frozen=True)
class Denoiser:
    """A network, the process it undoes and what it predicts: a Parametrization, or the name of one.

    The network is called as `network(x, time, **condition)`, time of shape (batch,). It may be a torch module, which
    is given x in the dtype of its weights and times in float32 or better, or any function of arrays, an ONNX session
    for one. `c_noise(level)` gives the number by which the network knows a time; for one trained on a table of T
    betas that is T t - 1. A network may answer with `(output, by-products)`, the latter a dict of arrays that goes on
    as `Prediction.extra`.

    A state of named fields has dicts of processes and perhaps of parametrizations; its one network gets dicts of x
    and times and answers with a dict. Tokens are predicted by their logits, numbers by their noise unless it is said.

    A network that also learns the variance of a chain of `variance_steps` equal steps answers with twice the channels
    (axis 1): what it predicts, and v from -1 to 1, the learned variance being (v + 1) / 2 (Improved DDPM, Nichol &
    Dhariwal 2021, 2102.09672, equation 15). Its loss is theirs, L_simple + 0.001 L_vlb.

    A network of `two_times` is also told where the step leads, as `network(x, time, next_time, **condition)`: flow
    maps such as shortcut models (2410.12557) and MeanFlow (2505.13447), whose mean velocity is a "flow" that `euler`
    follows to its end.

    Raises DiffusionError for an unknown parametrization and for what is no process.
    """

    network: Callable[..., Any]
    process: Any
    parametrization: Any = None
    c_noise: Callable[[NoiseLevel], Array] = thousands
    variance_steps: int | None = None
    two_times: bool = False

    def __post_init__(self) -> None:
        named = each(self.parametrization, split(self.process))
        for name, process in split(self.process).items():
            if not isinstance(process, Process):  # to say what one with many limits is takes time
                raise DiffusionError(f"process = {process!r}: a process is needed; of a schedule, Gaussian(schedule)")
            form, known = self.form(name), ", ".join(PARAMETRIZATIONS)
            require(hasattr(form, "to_x0"), f"parametrization {form!r}: one of {known} is needed")
            logits = f"parametrization {named[name]!r}: of tokens a network predicts the logits ('x0')"
            require(not isinstance(process, Categorical) or form is PARAMETRIZATIONS["x0"], logits)
        if self.variance_steps is not None:
            check("Denoiser", vars(self), {"variance_steps": COUNT})
            single = isinstance(self.process, Gaussian)
            require(single, "variance_steps: variances are learned of a single state of numbers")

    def __hash__(self) -> int:
        return hash(self.network)  # a dict of processes has none

    def form(self, field: str = "") -> Parametrization:
        """The parametrization of a field."""
        form = each(self.parametrization, split(self.process))[field]
        if form is None:
            form = "x0" if isinstance(split(self.process)[field], Categorical) else "eps"
        named: Parametrization = PARAMETRIZATIONS.get(form, form) if isinstance(form, str) else form
        return named

    def __call__(self, x: Any, t: Any, condition: Condition | None = None) -> Any:
        """E[x_0 | x_t]: a `Prediction`, or a dict of them; `x` is (batch, ...), `condition` a dict, batch first.

        `t` is a `NoiseLevel`, a number, or an array (batch,) of times; gradients pass.
        Raises DiffusionError at alpha = 0 for a network that predicts the noise or the score.
        """
        return merge({name: prediction for name, (_, prediction) in self._answers(x, t, condition).items()})

    def _answers(self, x: Any, t: Any, condition: Condition | None) -> dict[str, tuple[Array, Prediction]]:
        """Of each field what the network answers, and the prediction made of it."""
        xs, processes, kind = split(x), split(self.process), f"condition is a {type(condition).__name__}"
        named = condition is None or isinstance(condition, Mapping)
        require(named, f"{kind}: a dict of the network's arguments is needed")
        if not xs.keys() <= processes.keys():
            raise DiffusionError(f"the denoiser is of the fields {[*processes]}, the state of {[*xs]}")
        levels = {name: _level(processes[name], level, xs[name]) for name, level in each(t, xs).items()}
        seen = {name: self._seen(name, value, levels[name]) for name, value in xs.items()}
        times = [merge({name: self._time(level, seen[name]) for name, level in levels.items()})]
        if self.two_times:
            times.append(merge({name: self._time(level.s, seen[name]) for name, level in levels.items()}))
        answers = split(self.network(merge(seen), *times, **(condition or {})))
        return {name: self._read(name, value, levels[name], answers.get(name)) for name, value in xs.items()}

    def _seen(self, field: str, x: Array, t: NoiseLevel) -> Array:
        """What the network is shown of a field: in the dtype of a torch module's weights."""
        x, c_in, torch = split(self.process)[field].postprocess(x), self.form(field).c_in, sys.modules.get("torch")
        x = x if c_in is None else x * c_in(t)
        if torch is None or not isinstance(self.network, torch.nn.Module):
            return x
        if not torch.is_tensor(x):
            raise DiffusionError('the network is of torch, the state of NumPy: give `sample` a device, "cpu" for one')
        dtype = next((p.dtype for p in self.network.parameters() if p.is_floating_point()), x.dtype)
        return x if is_tokens(x) else x.to(dtype)

    def _time(self, level: NoiseLevel | None, x: Array) -> Array:
        if level is None:
            where = "take a sampler that says where it goes (euler, consistency)"
            raise DiffusionError(f"a network of two times: {where}")
        value, xp = self.c_noise(level), namespace(x)
        dtype = xp.float64 if name_of(x.dtype) == "float64" else xp.float32
        if isinstance(value, Real):
            where = (
                f"c_noise is {value} at t = {level.t:.4g}: begin below t = 1, and end all fields of a state at once"
            )
            require(math.isfinite(value), where)
            return xp.full((len(x),), value, dtype=dtype, device=x.device)
        return cast(value, dtype).reshape(-1)

    def _read(self, field: str, x: Array, t: NoiseLevel, answer: Any) -> tuple[Array, Prediction]:
        """The network's answer in the state's dtype, logits in float32 or better, and the prediction made of it."""
        output, extra = answer if isinstance(answer, tuple) else (answer, None)
        xp, given = namespace(x), getattr(output, "shape", ())
        shape = [*split(self.process)[field].output_shape(tuple(x.shape))]
        if self.variance_steps is not None:
            shape[1] *= 2
        if namespace(output) is not xp or [*given] != shape:
            of = f" of field '{field}'" if field else ""
            raise DiffusionError(
                f"the network's answer{of} is a {type(output).__name__} of shape {tuple(given)}; for a state of "
                f"{tuple(x.shape)} one of {tuple(shape)} is needed, a {type(x).__name__}"
            )
        logits = xp.float64 if name_of(output.dtype) == "float64" else xp.float32
        output, variance = cast(output, logits if is_tokens(x) else x.dtype), None
        if self.variance_steps is not None:
            output, variance = output[:, : x.shape[1]], (output[:, x.shape[1] :] + 1) / 2
        return output, Prediction(self.form(field).to_x0(x, t, output), variance, extra)

    def _padded(self, x0: Any, mask: Any) -> dict[str, Array]:
        """The fields of a training batch in float32 or better, 0 where there is nothing, checked."""
        import torch

        padded, masks, processes = {}, each(mask, split(x0)), split(self.process)
        of = f"the denoiser is of the fields {[*processes]}, x0 of {[*masks]}"
        require(masks.keys() == processes.keys(), of)
        for name, x in split(x0).items():
            some = torch.is_tensor(x) and len(x) > 0
            require(
                some, f"data are a {type(x).__name__}: torch tensors are needed in training, of one sample at least"
            )
            own = mask_of(masks[name], x, f" of field '{name}'" if name else "")
            padded[name] = x if own is None else torch.where(mask_like(own, x), x, 0)
            processes[name].check(padded[name])
            padded[name] = widened(padded[name])
        return padded

    def draw(
        self, x0: Any, times: Any, generator: torch.Generator | None = None, mask: Any = None, eps: Any = None
    ) -> tuple[Any, Any, Any]:
        """(x_t, t, eps) of q(x_t | x_0): a training batch at `times`, (batch,) or a dict of them, best in float64.

        eps: noise of one's own (a reflow's, a minibatch coupling's, or another picture where that is the other end of
        a bridge); of tokens uniform numbers. mask: as in `loss`.
        Raises DiffusionError for data that do not belong to the process.
        """
        import torch

        states, processes = self._padded(x0, mask), split(self.process)
        noised, levels, drawn = {}, {}, dict(split(eps)) if eps is not None else {}
        for name, process in processes.items():
            clean = states[name]
            if name in drawn:
                shapes = (
                    f"eps has the shape {tuple(drawn[name].shape)}, the data {tuple(clean.shape)}: give it the same"
                )
                require(drawn[name].shape == clean.shape, shapes)
                drawn[name] = like(drawn[name], clean, torch.float32 if is_tokens(clean) else None)
            else:
                law, dtype = (torch.rand, torch.float32) if is_tokens(clean) else (torch.randn, clean.dtype)
                device = clean.device if generator is None else generator.device
                drawn[name] = law(clean.shape, generator=generator, device=device, dtype=dtype).to(clean.device)
            drawn[name] = process.project(drawn[name], each(mask, states)[name])
            levels[name] = _level(process, each(times, states)[name], clean)
            noised[name] = process.noise(clean, levels[name], drawn[name])
        return merge(noised), merge(levels), merge(drawn)

    def loss(
        self,
        x0: Any,
        condition: Condition | None = None,
        *,
        objective: losses.Objective | Mapping[str, losses.Objective] | None = None,
        weight: losses.Weight | Mapping[str, losses.Weight] = losses.unit,
        times: Any = losses.uniform_times,
        self_conditioning: float = 0.0,
        mask: Any = None,
        generator: torch.Generator | None = None,
    ) -> torch.Tensor:
        """E over t and x_t of weight(t) objective, a mean over the elements of each sample, then over samples, summed
        over fields (DDPM, algorithm 1). Each argument is one for all fields, or a dict.

        objective: None is `square` for numbers and `d3pm_bound` for tokens. times: one function draws one time for
        all fields of a sample, a dict one for each; one that draws some times more often has `reweight(t, losses)`,
        which keeps the mean. self_conditioning: how often a batch is told the network's own prediction as `previous`,
        else None (Chen et al. 2022, 2208.04202). mask: which elements there are, over the first axes of x0; the
        network is given it as `mask`, as in `sample`.

        With a generator of the data's device nothing is copied from or to the host, and nothing waits for the device;
        data that do not belong to the process end the run with a RuntimeError there, not with a DiffusionError."""
        import torch

        check("loss", {"self_conditioning": self_conditioning}, {"self_conditioning": UNIT})
        clean, laws = self._padded(x0, mask), each(times, split(x0), losses.uniform_times)
        masks = {name: mask_of(own, clean[name]) for name, own in each(mask, clean).items()}
        count = len(next(iter(clean.values())))
        own_times = isinstance(times, dict)
        drawn = {name: law(count, generator) for name, law in laws.items()} if own_times else times(count, generator)
        x, t, eps = self.draw(merge(clean), drawn, generator, mask)
        if mask is not None:
            condition = {**(condition or {}), "mask": merge(masks)}
        if self_conditioning:
            condition = {**(condition or {}), "previous": None}
            if _coin(generator) < self_conditioning:
                with torch.no_grad():
                    condition["previous"] = by_field(lambda prediction: prediction.x0, self(x, t, condition))
        total: Any = 0.0
        xs, levels, noises = split(x), split(t), split(eps)
        for name, (output, prediction) in self._answers(x, t, condition).items():
            process, form = split(self.process)[name], self.form(name)
            output = process.project(output, masks[name])
            term = losses.Term(process, form, clean[name], xs[name], levels[name], noises[name], output, prediction)
            own = each(objective, xs)[name] or (
                losses.d3pm_bound() if isinstance(process, Categorical) else losses.square
            )
            error, factor = own(term), each(weight, xs, losses.unit)[name](term.t, form)
            error = error * (per_sample(factor, error) if hasattr(factor, "shape") else factor)
            mean = _mean(error, masks[name])
            if self.variance_steps is not None:
                mean = mean + _mean(self._variance_loss(term, drawn), masks[name])
            total = total + (_reweighted(laws[name], drawn[name], mean) if own_times else mean)
        loss: torch.Tensor = (total if own_times else _reweighted(times, drawn, total)).mean()
        return loss

    def _variance_loss(self, term: losses.Term, times: Array) -> Array:
        """0.001 of the bound of the chain, from which only the variance learns."""
        steps = self.variance_steps or 1
        s = _level(term.process, (times - 1 / steps).clamp(min=5e-6), term.x0)
        x0 = term.form.to_x0(term.x, term.t, term.output.detach())
        return 0.001 * steps * variance_bound((term.x0 - x0) ** 2, term.prediction.variance, term.t, s) * (s.t > 1e-5)


def variance_bound(error: Array, variance: Array, t: NoiseLevel, s: NoiseLevel) -> Array:
    """KL(q(x_s | x_t, x_0), p(x_s | x_t)) in nats, elementwise: one term of the variational bound.

    With `error` = |x_0 - prediction|^2 the squared distance of the two means is (SNR(s) - SNR(t)) error, in units of
    q's variance, and p's variance is (sigma_t / sigma_s)^(2 variance) in the same units.
    """
    shrink = s.sigma / t.sigma
    return (shrink ** (2 * variance) * (1 + (s.snr - t.snr) * error) - 1) / 2 - variance * namespace(error).log(
        shrink
    )


def _level(process: Process, t: Any, x: Array) -> NoiseLevel:
    if t is None:
        raise DiffusionError("a field has no time: one for all, or one for each, is needed")
    if isinstance(t, NoiseLevel):
        return t
    if isinstance(t, Real):
        return process.at(float(t))
    fits = hasattr(t, "shape") and math.prod(t.shape) in (1, len(x))
    require(
        fits, f"t of shape {getattr(t, 'shape', t)} for {len(x)} samples: one for all, or one for each, is needed"
    )
    dtype = namespace(x).float64 if name_of(x.dtype) == "float64" else namespace(x).float32
    times = namespace(t).broadcast_to(t.reshape(-1), (len(x),))
    return process.at(per_sample(times, x)).map(lambda part: like(part, x, dtype))


def _coin(generator: torch.Generator | None) -> Any:
    """A uniform number that the host knows. A generator of an accelerator is not waited for: its state, which each
    draw moves on, is hashed."""
    import torch

    if generator is None or generator.device.type == "cpu":
        return torch.rand((), generator=generator)
    state = hashlib.sha256(numpy(generator.get_state()).tobytes()).digest()
    return int.from_bytes(state[:8]) / 2**64


def _reweighted(times: Any, t: Array, values: Array) -> Array:
    return times.reweight(t, values) if hasattr(times, "reweight") else values


def _mean(error: Array, mask: Any) -> Array:
    """Over the elements of each sample that there are: (batch,)."""
    if mask is None or error.ndim < mask.ndim:
        return error.reshape(len(error), -1).mean(1)
    real = mask_like(mask, error).to(error)
    return (error * real).flatten(1).sum(1) / real.flatten(1).sum(1).clamp(min=1)
