"""TimeGrad's paths (Rasul et al. 2021, 2101.12072): a diffusion model draws the next step, again and again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from inkwash import diffusion
from inkwash.errors import UserError, unknown
from inkwash.systems.series import combination, impute, transforms
from inkwash.systems.series.data import Series
from inkwash.systems.series.networks import TimeGrad
from inkwash.systems.torch_model import TorchModel
from inkwash.systems.tune import tuned

SAMPLERS = {
    name: diffusion.SAMPLERS[name]
    for name in ("ancestral", "ddim", "euler", "heun", "dpmpp_2m", "dpmpp_2m_sde", "unipc")
}
# before a forecast: the state, the last values, which of them were observed, covariates ahead, the scaler
History = tuple[Tensor, Tensor, Tensor, Tensor, transforms.Scaler]
MAX_ACTIVATIONS = 2**22  # about as many at once, in each layer, of all paths that are drawn together
MAX_VALUES = 2**24  # and of their values as far back as the longest lag


class Rollout(TorchModel):
    """A diffusion model of the next step of all series, drawn step by step to paths."""

    system = "series"
    network: TimeGrad

    def __init__(self, network: TimeGrad, config: transforms.Config) -> None:
        self.network, self.config = network, config
        faithful = config.mode == "faithful"
        schedule = diffusion.betas(np.linspace(1e-4, 0.1, 100)) if faithful else diffusion.rectified_flow()
        self.denoiser = diffusion.Denoiser(
            network,
            diffusion.Gaussian(schedule),
            "eps" if faithful else diffusion.edm(1.0),  # the rest has variance one
            (lambda t: 100 * t.t - 1) if faithful else (lambda t: t.t),
        )

    @classmethod
    def build(cls, facts: dict[str, Any]) -> Self:
        network, config = TimeGrad(**facts.pop("network")), transforms.Config(**facts)
        for each in (network.typical, config.stretch, config.deviation, config.inflation, config.drift):
            if len(each) not in (0, len(config.names)):
                raise ValueError(f"{len(config.names)} names, and facts of {len(each)} series")
        if strangers := config.weights.keys() - combination.EXPERTS:
            raise ValueError(f"no expert is called {min(strangers)}")
        return cls(network, config)

    def facts(self) -> dict[str, Any]:
        return asdict(self.config) | {"network": self.network.config}

    @torch.no_grad()
    def diffusion_paths(
        self,
        series: Series,
        starts: Sequence[int],
        horizon: int,
        samples: int,
        seed: int = 0,
        sampler: str | None = None,
        steps: int | None = None,
        progress: Callable[[int, int], None] | None = None,
        window: int = 0,
    ) -> np.ndarray:
        """What the diffusion model says, as `paths`.

        The noise of path p of the w-th start is that of seed `child_seed(seed, window + w, p)`: that of no two
        windows is alike. A series that ends before a start is drawn up to it first, as a gap is.

        In float64: float32 has no digits left for the changes of a series that lies far from zero."""
        config = self.config
        if min(starts) < config.history:
            raise UserError(
                f"the history has {min(starts)} steps, the model needs {config.history} before a forecast (its "
                f"context of {config.context} steps, and what its lags reach back to)"
            )
        raw = series.values.to_numpy(np.float64)
        ended = [start for start in starts if np.isnan(raw[start - 1]).any()]
        for start in ended:
            self.check_ends(transforms.last_values(raw[:start]), start, start == len(raw))
        requested, mirrored = samples, config.random_walk and not ended
        samples = -(-samples // 2) if mirrored else samples
        ahead = max(0, max(starts) + horizon - len(raw))
        covariates = self.tensor(transforms.covariates(series, config, ahead))
        filled, observed = transforms.fill_gaps(raw), self.tensor(~np.isnan(raw))
        sample_step = self.step_sampler(sampler, steps)

        reference = transforms.statistics(config, self.network, raw[: min(starts)])

        def encode(number: int, start: int) -> History:
            past = filled[None, :start]
            if start in ended:  # the steps that are missing are drawn first
                child = diffusion.child_seed(seed, "missing", window + number)
                first = max(int(transforms.last_values(raw[:start]).min()) + 1, config.history)
                past = impute.fill(self, series.before(start), samples, child, sampler, steps, first=first)
            past = past[:, -config.context - max(config.lags) :]
            return self.encode_history(self.tensor(past), observed, covariates, start, horizon, reference)

        encoded = [encode(number, start) for number, start in enumerate(starts)]
        out = np.empty((len(starts) * samples, horizon, len(config.names)))
        dims, rows_back = len(config.names), max(config.lags) + 1
        at_once = max(1, min(MAX_ACTIVATIONS // (128 + 8 * dims), MAX_VALUES // (dims * rows_back)))
        for first in range(0, len(out), at_once):
            rows = range(first, min(first + at_once, len(out)))
            histories = [path_of(encoded[row // samples], row % samples) for row in rows]
            seeds = [diffusion.child_seed(seed, window + row // samples, row % samples) for row in rows]
            report = (lambda h, first=first: progress(first * horizon + h, len(out) * horizon)) if progress else None
            out[rows.start : rows.stop] = self.unroll(histories, seeds, horizon, sample_step, reference, report)
        if progress is not None:
            progress(len(out) * horizon, len(out) * horizon)
        paths = out.reshape(len(starts), samples, horizon, len(config.names))
        if not mirrored:
            return paths
        return antithetic(paths, filled[np.array(starts) - 1], config.lower_bound)[:, :requested]

    def tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def step_sampler(self, sampler: str | None, steps: int | None) -> Callable[..., Tensor]:
        """A function from seeds, a condition, hooks and the name of their stream to steps drawn."""
        config = self.config
        sampler = config.sampler if sampler is None else sampler
        steps = config.steps if steps is None else steps
        process = self.denoiser.process
        if sampler not in (*SAMPLERS, "tuned"):
            raise unknown("sampler", sampler, [*SAMPLERS, "tuned"])
        if steps < 1:
            raise UserError(f"steps = {steps}: at least one is needed")
        rule = SAMPLERS.get(sampler)
        if rule is None:
            rule, grid = tuned(self.folder, self.hash, steps, process)
        elif config.mode == "faithful":
            grid = diffusion.trailing(process, steps, 100)
        else:
            grid = diffusion.uniform(process, steps)
        shape = (len(config.names),)

        def sample_step(seeds: list[int], condition: dict[str, Tensor], hooks: Sequence[Any], stream: str) -> Tensor:
            step: Tensor = diffusion.sample(
                self.denoiser, shape, rule, grid, seeds, condition, hooks=hooks, stream=stream, device=self.device
            )
            return step

        return sample_step

    def check_ends(self, last: np.ndarray, start: int, is_now: bool) -> None:
        """UserError for a series whose last value (D,) has no history before it from which to draw what is missing;
        before now, one that has not begun is no such series."""
        wrong = (last + 1 < self.config.history) & (is_now | (last >= 0))
        if wrong.any():
            name = self.config.names[int(wrong.argmax())]
            raise UserError(
                f"'{name}' has no value in the last {start - 1 - int(last[wrong.argmax()])} of {start} steps, and "
                f"{self.config.history} steps must lie before them: bring more of its values, or a longer table"
            )

    def path_drift(self, seeds: list[int]) -> Tensor:
        """(R, D): what the regression may be off by, as much at every step of a path."""
        config, root = self.config, self.network.root
        if not any(config.drift):
            return root.new_zeros(len(seeds), len(root))
        noise = diffusion.Noise(seeds, (len(root),), stream="drift", device=self.device)
        drift: Tensor = noise.normal() @ root.T * root.new_tensor(config.drift)
        return drift

    def encode_history(
        self,
        values: Tensor,
        observed: Tensor,
        covariates: Tensor,
        end: int,
        horizon: int,
        reference: transforms.Statistics,
    ) -> History:
        """Before a forecast from `end`: the state of the recurrent network, the last values and what of them was
        observed, the covariates of the steps to come, and the scaler; of each of the pasts in `values` (R, M, D), the
        last steps before `end` as far as the longest lag of the context reaches, or the table."""
        config, start = self.config, end - self.config.context
        max_lag, paths = max(config.lags), len(values)
        there = observed[None, start:end].expand(paths, -1, -1)
        scaler = transforms.fit_scaler(config, reference, values[:, -config.context :], there)
        nothing = values.new_full((paths, max(0, max_lag - start), values.shape[2]), torch.nan)  # before the table
        values = torch.cat([nothing, values], dim=1)
        seen = torch.cat([observed[:1].expand(max(0, max_lag - start), -1), observed[max(0, start - max_lag) : end]])
        inputs = transforms.features(
            config, reference, values, seen.expand(paths, -1, -1),
            covariates[start:end].expand(paths, -1, -1), scaler,
        )  # fmt: skip
        state = self.network.encode(inputs)[1]
        ahead = covariates[end : end + horizon].expand(paths, -1, -1)
        return state, values[:, -max_lag:], observed[end - 1 : end].expand(paths, -1, -1), ahead, scaler

    def unroll(
        self,
        histories: list[History],
        seeds: list[int],
        horizon: int,
        sample_step: Callable[..., Tensor],
        reference: transforms.Statistics,
        report: Callable[[int], None] | None = None,
        known_region: Tensor | None = None,
    ) -> np.ndarray:
        """Draws paths, a row each, step by step: (R, H, D).

        known_region: values (H, D) to hold, NaN where there are none."""
        config, net = self.config, self.network
        states, *stacked, scalers = zip(*histories, strict=True)
        state = torch.cat(states, dim=1)
        past, observed, covariates = (torch.cat(tensors) for tensors in stacked)
        means, scales, factors = zip(*scalers, strict=True)
        factor = None if factors[0] is None else torch.cat(factors)
        scaler = transforms.Scaler(torch.cat(means), torch.cat(scales), factor)
        drift = self.path_drift(seeds)
        root = transforms.predictive_root(config, net)
        out = []
        for h in range(horizon):
            # the row of the step to come, which `transforms.features` does not look at
            window = torch.cat([past, past[:, -1:]], dim=1)
            inputs = transforms.features(
                config, reference, window, observed.expand(-1, window.shape[1], -1), covariates[:, h : h + 1], scaler
            )
            hidden, state = net.encode(inputs, state)
            hooks = []
            if known_region is not None and not known_region[h].isnan().all():
                step = torch.where(known_region[h].isnan(), past[:, -1], known_region[h])
                left = transforms.residual(config, net, torch.cat([past, step[:, None]], dim=1), inputs, scaler)
                y = transforms.solve(root, left - drift[:, None])[:, 0]
                joint = transforms.joint_factor(config, net, scaler)
                hooks = [hold_known(self.denoiser.process, y, joint, ~known_region[h].isnan())]
            y = sample_step(seeds, {"hidden": hidden[:, 0]}, hooks, str(h))
            x = transforms.inverse_transform(config, net, y, past[:, -1], inputs[:, 0], scaler, drift)
            if known_region is not None:
                x = torch.where(known_region[h].isnan(), x, known_region[h])
            past = torch.cat([past[:, 1:], x[:, None]], dim=1)
            observed = torch.ones_like(observed)
            out.append(x.double())
            if report is not None:
                report((h + 1) * len(seeds))
        return torch.stack(out, dim=1).numpy(force=True)


def path_of(history: History, path: int) -> History:
    """The history of one path, where each has its own."""
    state, past, observed, covariates, scaler = history
    if len(past) == 1:
        return history
    row = slice(path, path + 1)
    factor = None if scaler.factor is None else scaler.factor[row]
    own = transforms.Scaler(scaler.mean[row], scaler.scale[row], factor)
    return state[:, row].contiguous(), past[row], observed[row], covariates[row], own


def hold_known(process: diffusion.Gaussian, y: Tensor, factor: Tensor, observed: Tensor) -> diffusion.guides.Hook:
    """The hook `known_region` for series of which some are known: x = factor y, and the `observed` (D,) are held.

    They fix a part of y, its projection P y on the rows of the factor that belong to them. The noise of y is white,
    so P y and the rest have noise of their own, and after each step P y is the known one, noised to that time.
    """
    rows = factor[..., observed, :]
    projection = (torch.linalg.pinv(rows) @ rows).to(y)

    def hook(step: Any, noise: Any) -> Tensor:
        noised = process.noise(y, step.s, process.eps(noise)) if step.s.sigma else y
        held: Tensor = step.x + ((noised - step.x)[:, None] @ projection.mT)[:, 0]
        return held

    return hook


def antithetic(paths: np.ndarray, last: np.ndarray, lower_bound: float | None) -> np.ndarray:
    """Paths (W, S, H, D) of random walks, each followed by its mirror image about the last value (W, D).

    Both are as likely, and together they have neither drift nor a crooked median by chance (antithetic variates).
    """
    images = 2 * last[:, None, None, :] - paths
    if lower_bound is not None:
        images = images.clip(lower_bound)
    both = np.stack([paths, images], axis=2)
    return both.reshape(len(paths), -1, *paths.shape[2:])
