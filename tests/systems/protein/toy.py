"""A Gaussian chain, a random walk of centred points, with its exact denoiser and its exact conditional."""

import numpy as np
import torch

from inkwash.diffusion import Prediction, ZeroCoM, karras, variance_exploding
from inkwash.progress import Note

PROCESS = ZeroCoM(variance_exploding(0.002, 30.0))
BOND = 0.38  # nm


class GaussianChain:
    """Of so many points; each step of the walk has the mean square length BOND^2."""

    process = PROCESS

    def __init__(self, points):
        walk = np.tril(np.ones((points, points)), -1)[:, : points - 1]
        centring = np.eye(points) - 1 / points
        self.points, self.covariance = points, centring @ walk @ walk.T @ centring * BOND**2 / 3
        values, self.vectors = np.linalg.eigh(self.covariance)
        self.values = np.clip(values, 0, None)

    def __call__(self, x, t, condition=None):
        """E[x_0 | x_t]."""
        gain = t.alpha * self.values / (t.alpha**2 * self.values + t.sigma**2)
        matrix = (self.vectors * gain) @ self.vectors.T
        matrix = torch.as_tensor(matrix, dtype=x.dtype) if torch.is_tensor(x) else matrix.astype(x.dtype)
        return Prediction(matrix @ x)

    def draw(self, rng):
        return (self.vectors * np.sqrt(self.values)) @ rng.standard_normal((self.points, 3))

    def given(self, motif, indices, wanted):
        """Mean and standard deviation of the `wanted` points less the motif's centre, given the motif's shape."""
        of = np.isin(np.arange(self.points), indices) / len(indices)
        part, rest = np.eye(self.points)[indices] - of, np.eye(self.points)[wanted] - of
        known = part @ self.covariance @ part.T
        gain = rest @ self.covariance @ part.T @ np.linalg.pinv(known, rcond=1e-9)
        variance = rest @ self.covariance @ rest.T - gain @ part @ self.covariance @ rest.T
        return gain @ (motif - motif.mean(0)), np.sqrt(np.diag(variance))


class ToyModel:
    """What the verbs ask of a `BackboneModel`, around a Gaussian chain."""

    hash = "0" * 64
    device = None

    def __init__(self, atoms=3, shortest=10, max_length=60):
        self.config = {"atoms": atoms, "shortest": shortest, "max_length": max_length}
        self.chains = {}

    def chain(self, points):
        return self.chains.setdefault(points, GaussianChain(points))

    @property
    def denoiser(self):
        return lambda x, t, condition=None: self.chain(x.shape[1])(x, t)

    def grid(self, steps):
        return karras(PROCESS, steps)

    def check_lengths(self, lengths):
        pass

    def sample(self, lengths, seed, steps=None, progress=None):
        atoms = self.config["atoms"]
        draw = lambda n, i: self.chain(atoms * n).draw(np.random.default_rng(seed + i))  # noqa: E731
        return [10 * draw(n, i).reshape(n, atoms, 3) for i, n in enumerate(lengths)]


class ToyContext:
    """The context of a verb: files lie where they are, and what is told is noted."""

    device = precision = runtime = threads = None

    def __init__(self, folder, model, files=None, stop_after=None):
        self.folder, self.own, self.files, self.stop_after = folder, model, files or {}, stop_after
        self.told, self.asked = [], 0

    def model(self, name):
        return self.own

    def open(self, file):
        return self.files[file]

    def tell(self, event):
        self.told.append(event)

    def notes(self):
        return [event.text for event in self.told if isinstance(event, Note)]

    def stopped(self):
        self.asked += 1
        return self.stop_after is not None and self.asked > self.stop_after
