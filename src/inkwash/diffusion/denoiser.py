"""Denoisers: `(x_t, t, condition) -> Prediction` of the clean state, from a network that may predict something else.

No sampler ever sees what the network predicts: the parametrization is how the network is wrapped.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from inkwash.diffusion.arrays import (
    Array,
    by_field,
    cast,
    each,
    is_tokens,
    like,
    linear_combination,
    mask_like,
    merge,
    namespace,
    per_sample,
    split,
)
from inkwash.diffusion.categorical import Categorical
from inkwash.diffusion.errors import DiffusionError
from inkwash.diffusion.losses import (
    LossAware,
    Objective,
    Term,
    Weight,
    d3pm_bound,
    square,
    uniform_times,
    unit,
)
from inkwash.diffusion.options import COUNT, POSITIVE, UNIT, check, maker
from inkwash.diffusion.process import Prediction, Process
from inkwash.diffusion.schedule import NoiseLevel

if TYPE_CHECKING:
    import torch

Condition = Mapping[str, Array]
Denoise = Callable[[Any, Any, "Condition | None"], Any]


class Parametrization(NamedTuple):
    """What a network predicts of x_t = alpha x_0 + sigma eps.

    `to_x0(x, t, output)` turns the output into x_0, `target(x0, eps, t)` is what the output should be, `factor(t)` is
    the squared error of the output for a unit squared error of x_0, and the network sees `c_in(t) x_t` (None: x_t).
    """

    to_x0: Callable[[Array, NoiseLevel, Array], Array]
    target: Callable[[Array, Array, NoiseLevel], Array]
    factor: Callable[[NoiseLevel], Array]
    c_in: Callable[[NoiseLevel], Array] | None = None


@maker(data_std=POSITIVE)
def edm(data_std: float = 0.5) -> Parametrization:
    """The preconditioning of EDM (Karras et al. 2022, 2206.00364, table 1), for any alpha and sigma.

    With d = data_std and m^2 = alpha^2 d^2 + sigma^2, the variance of x_t: the network sees x_t / m, and
    x_0 = (alpha d^2 / m^2) x_t + (sigma d / m) output. Input and target have variance 1 at every t, and an error of
    the network fades with the noise. At alpha = 1 it is EDM's own; weight `unit` is then EDM's.
    """
    d = data_std

    def total(t: NoiseLevel) -> Array:  # m^2
        return (t.alpha * d) ** 2 + t.sigma**2

    return Parametrization(
        to_x0=lambda x, t, out: linear_combination(
            [x, out], [t.alpha * d**2 / total(t), t.sigma * d / total(t) ** 0.5]
        ),
        target=lambda x0, eps, t: (t.sigma * x0 - (t.alpha * d**2) * eps) / (d * total(t) ** 0.5),
        factor=lambda t: total(t) / (t.sigma * d) ** 2,
        c_in=lambda t: total(t) ** -0.5,
    )


PARAMETRIZATIONS = {
    # the noise (DDPM, 2006.11239); at alpha = 0 it says nothing of x_0
    "eps": Parametrization(
        to_x0=lambda x, t, out: linear_combination([x, out], [1 / t.alpha, -t.sigma / t.alpha]),
        target=lambda x0, eps, t: eps,
        factor=lambda t: t.snr,
    ),
    # the clean state itself
    "x0": Parametrization(
        to_x0=lambda x, t, out: out,
        target=lambda x0, eps, t: x0,
        factor=lambda t: 1.0,
    ),
    # v = alpha eps - sigma x_0 (progressive distillation, 2202.00512)
    "v": Parametrization(
        to_x0=lambda x, t, out: linear_combination(
            [x, out], [t.alpha / (t.alpha**2 + t.sigma**2), -t.sigma / (t.alpha**2 + t.sigma**2)]
        ),
        target=lambda x0, eps, t: t.alpha * eps - t.sigma * x0,
        factor=lambda t: ((t.alpha**2 + t.sigma**2) / t.sigma) ** 2,
    ),
    # the score, grad log p(x_t) = -eps / sigma (Score SDE, 2011.13456); like eps, nothing at alpha = 0
    "score": Parametrization(
        to_x0=lambda x, t, out: linear_combination([x, out], [1 / t.alpha, t.sigma**2 / t.alpha]),
        target=lambda x0, eps, t: eps / -t.sigma,
        factor=lambda t: (t.alpha / t.sigma**2) ** 2,
    ),
    # u = eps - x_0, the velocity of a rectified flow (2209.03003)
    "flow": Parametrization(
        to_x0=lambda x, t, out: linear_combination(
            [x, out], [1 / (t.alpha + t.sigma), -t.sigma / (t.alpha + t.sigma)]
        ),
        target=lambda x0, eps, t: eps - x0,
        factor=lambda t: ((t.alpha + t.sigma) / t.sigma) ** 2,
    ),
    "edm": edm(),
}


def thousands(t: NoiseLevel) -> Array:
    """c_noise of most networks: the time, 0 to 1000."""
    return 1000.0 * t.t


def quarter_log_sigma(t: NoiseLevel) -> Array:
    """c_noise of EDM's networks: log(sigma / alpha) / 4."""
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
        each(self.parametrization, split(self.process))
        for name, process in split(self.process).items():
            if not isinstance(process, Process):
                raise DiffusionError(f"process = {process!r}: a process is needed; of a schedule, Gaussian(schedule)")
            form = self.form(name)
            if not hasattr(form, "to_x0"):
                known = ", ".join(PARAMETRIZATIONS)
                raise DiffusionError(f"parametrization {form!r}: one of {known} is needed")
            if isinstance(process, Categorical) and form is not PARAMETRIZATIONS["x0"]:
                named = each(self.parametrization, split(self.process))[name]
                raise DiffusionError(f"parametrization {named!r}: of tokens a network predicts the logits ('x0')")
        if self.variance_steps is not None:
            check("Denoiser", {"variance_steps": self.variance_steps}, {"variance_steps": COUNT})
        if self.variance_steps is not None and isinstance(self.process, dict):
            raise DiffusionError("variance_steps: variances are learned of a single state of numbers")

    def form(self, field: str = "") -> Parametrization:
        """The parametrization of a field."""
        form = self.parametrization
        if isinstance(form, dict):
            form = form.get(field)
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
        xs, processes = split(x), split(self.process)
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
            raise DiffusionError(
                "a network of two times: take a sampler that says where it goes (euler, consistency)"
            )
        value = self.c_noise(level)
        dtype = namespace(x).float64 if "float64" in str(x.dtype) else namespace(x).float32
        if isinstance(value, (int, float)):
            return namespace(x).full((x.shape[0],), value, dtype=dtype, device=x.device)
        return cast(value, dtype).reshape(-1)

    def _read(self, field: str, x: Array, t: NoiseLevel, answer: Any) -> tuple[Array, Prediction]:
        output, extra = answer if isinstance(answer, tuple) else (answer, None)
        shape, given = list(split(self.process)[field].output_shape(tuple(x.shape))), getattr(output, "shape", ())
        if self.variance_steps is not None:
            shape[1] *= 2
        if namespace(output) is not namespace(x) or list(given) != shape:
            of = f" of field '{field}'" if field else ""
            raise DiffusionError(
                f"the network's answer{of} is a {type(output).__name__} of shape {tuple(given)}; for a state of "
                f"{tuple(x.shape)} one of {tuple(shape)} is needed, a {type(x).__name__}"
            )
        output, variance = _float_like(output, x), None
        if self.variance_steps is not None:
            output, variance = output[:, : x.shape[1]], (output[:, x.shape[1] :] + 1) / 2
        return output, Prediction(_to_x0(self.form(field), x, t, output), variance, extra)

    def draw(
        self, x0: Any, times: Any, generator: torch.Generator | None = None, mask: Any = None, eps: Any = None
    ) -> tuple[Any, Any, Any]:
        """(x_t, t, eps) of q(x_t | x_0): a training batch at `times`, (batch,) or a dict of them, float64 on the CPU.

        eps: noise of one's own (a reflow's, a minibatch coupling's, or another picture where that is the other end of
        a bridge); of tokens uniform numbers. mask: as in `loss`.
        Raises DiffusionError for data that do not belong to the process.
        """
        import torch

        if split(x0).keys() != split(self.process).keys():
            raise DiffusionError(f"the denoiser is of the fields {[*split(self.process)]}, x0 of {[*split(x0)]}")
        states, noised, levels, drawn = _padded(x0, mask), {}, {}, dict(split(eps)) if eps is not None else {}
        for name, process in split(self.process).items():
            clean = states[name]
            if not torch.is_tensor(clean):
                raise DiffusionError(f"data are a {type(clean).__name__}: torch tensors are needed in training")
            process.check(clean)
            if name not in drawn:
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
        objective: Objective | Mapping[str, Objective] | None = None,
        weight: Weight | Mapping[str, Weight] = unit,
        times: Any = uniform_times,
        self_conditioning: float = 0.0,
        mask: Any = None,
        generator: torch.Generator | None = None,
    ) -> torch.Tensor:
        """E over t and x_t of weight(t) objective, a mean over the elements of each sample, then over samples, summed
        over fields (DDPM, algorithm 1). Each argument is one for all fields, or a dict.

        objective: None is `square` for numbers and `d3pm_bound` for tokens. times: one function draws one time for
        all fields of a sample, a dict one for each; a `LossAware` estimates the same mean with fewer draws.
        self_conditioning: how often a batch is told the network's own prediction as `previous`, else None (Chen et
        al. 2022, 2208.04202). mask: which elements there are, over the first axes of x0."""
        import torch

        check("loss", {"self_conditioning": self_conditioning}, {"self_conditioning": UNIT})
        names, masks = _padded(x0, mask), each(mask, split(x0))
        if isinstance(times, dict):
            own_times = each(times, names, uniform_times)
            drawn: Any = {name: own_times[name](len(x), generator) for name, x in names.items()}
        else:
            drawn = times(len(next(iter(names.values()))), generator)
        x, t, eps = self.draw(x0, drawn, generator, mask)
        if self_conditioning:
            condition = {**(condition or {}), "previous": None}
            device = None if generator is None else generator.device
            if torch.rand((), generator=generator, device=device) < self_conditioning:
                with torch.no_grad():
                    condition["previous"] = by_field(lambda prediction: prediction.x0, self(x, t, condition))
        total: Any = 0.0
        xs, levels, noises = split(x), split(t), split(eps)
        for name, (output, prediction) in self._answers(x, t, condition).items():
            process, form = split(self.process)[name], self.form(name)
            output = process.project(output, masks[name])
            term = Term(process, form, names[name], xs[name], levels[name], noises[name], output, prediction)
            own = each(objective, names)[name] or (d3pm_bound() if isinstance(process, Categorical) else square)
            error, factor = own(term), each(weight, names, unit)[name](term.t, form)
            error = error * (per_sample(factor, error) if hasattr(factor, "shape") else factor)
            if self.variance_steps is not None:  # only the variance learns from the bound
                earlier = (each(drawn, names)[name] - 1 / self.variance_steps).clamp(min=5e-6)
                s, clean = _level(process, earlier, term.x0), _to_x0(form, term.x, term.t, output.detach())
                bound = variance_bound((term.x0 - clean) ** 2, prediction.variance, term.t, s)
                error = error + 0.001 * self.variance_steps * bound * (s.t > 1e-5)
            losses, law = _mean(error, masks[name]), each(times, names, uniform_times)[name]
            if isinstance(times, dict) and isinstance(law, LossAware):
                losses = law.reweight(drawn[name], losses)
            total = total + losses
        if isinstance(times, LossAware):
            total = times.reweight(drawn, total)
        loss: torch.Tensor = total.mean()
        return loss


def variance_bound(error: Array, variance: Array, t: NoiseLevel, s: NoiseLevel) -> Array:
    """KL(q(x_s | x_t, x_0), p(x_s | x_t)) in nats, elementwise: one term of the variational bound.

    With `error` = |x_0 - prediction|^2 the squared distance of the two means is (SNR(s) - SNR(t)) error, in units of
    q's variance, and p's variance is (sigma_t / sigma_s)^(2 variance) in the same units.
    """
    shrink = s.sigma / t.sigma
    return (shrink ** (2 * variance) * (1 + (s.snr - t.snr) * error) - 1) / 2 - variance * namespace(error).log(
        shrink
    )


def _padded(x0: Any, mask: Any) -> dict[str, Array]:
    """The fields of a state, 0 where there is nothing."""
    masks = each(mask, split(x0))
    return {
        n: x if masks[n] is None else namespace(x).where(mask_like(masks[n], x), x, 0) for n, x in split(x0).items()
    }


def _level(process: Process, t: Any, x: Array) -> NoiseLevel:
    if t is None:
        raise DiffusionError("a field has no time: one for all, or one for each, is needed")
    if isinstance(t, NoiseLevel):
        return t
    if isinstance(t, (int, float)):
        return process.at(float(t))
    dtype = namespace(x).float32 if is_tokens(x) else x.dtype
    return process.at(per_sample(t, x)).map(lambda part: like(part, x, dtype))


def _to_x0(form: Parametrization, x: Array, t: NoiseLevel, output: Array) -> Array:
    if isinstance(t.alpha, float):
        nothing = t.alpha == 0 and form.factor(t) == 0
    else:
        nothing = bool(((t.alpha == 0) & (form.factor(t) == 0)).any())
    if nothing:
        time = t.t if isinstance(t.t, float) else t.t.max().item()
        raise DiffusionError(
            f"at t = {time:.4g} there is noise alone, and what this network predicts says nothing of what is clean: "
            "begin the grid at a smaller t, or train a network that predicts v"
        )
    return form.to_x0(x, t, output)


def _float_like(output: Array, x: Array) -> Array:
    """The network's answer in the state's own dtype, whatever the network computes in; logits in float32 or more."""
    dtype = x.dtype
    if is_tokens(x):
        dtype = output.dtype if "float64" in str(output.dtype) else namespace(output).float32
    return output if output.dtype == dtype else cast(output, dtype)


def _mean(error: Array, mask: Any) -> Array:
    """Over the elements of each sample that there are: (batch,)."""
    if mask is None or error.ndim < mask.ndim:
        return error.reshape(len(error), -1).mean(1)
    real = mask_like(mask, error).to(error)
    return (error * real).flatten(1).sum(1) / real.flatten(1).sum(1).clamp(min=1)
