"""The ways to make a sentence, and what each learns.

- continuous: words are vectors that are learned with the model, and noise is added to them; gradients can steer it.
  Diffusion-LM (Li et al. 2022, 2205.14217), as published or with what CDCD (Dieleman et al. 2022, 2211.15089) learns.
- masked: words give way to a mask. MDLM (Sahoo et al. 2024, 2406.07524).
- autoregressive: the plain autoregressive model, one word after the other; the baseline, and the judge of fluency.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from inkwash import diffusion
from inkwash.systems.language.networks import AutoregressiveModel, ContinuousDenoiser, MaskedDenoiser
from inkwash.systems.language.vocabulary import END, PAD
from inkwash.training.fit import Loss

NETWORKS = {"continuous": ContinuousDenoiser, "masked": MaskedDenoiser, "autoregressive": AutoregressiveModel}
FIRST = 1 / 2000  # of the paper's 2,000 steps the last one down, whose target is the word vector itself


def denoiser(network: Any) -> diffusion.Denoiser:
    """Of a network of the first two engines, with its process."""
    if isinstance(network, ContinuousDenoiser):
        return diffusion.Denoiser(network, diffusion.Gaussian(diffusion.sqrt()), "x0")
    process = diffusion.Categorical.masked(diffusion.rectified_flow(), network.config["symbols"] - 1)
    return diffusion.Denoiser(network, process)


def loss(network: Any) -> Loss:
    """What a network learns from batches {"words": (B, L), "source": (B, S), "source_mask": (B, S)}, the last two
    perhaps missing."""
    if isinstance(network, ContinuousDenoiser):
        return continuous_loss(network) if network.config["improved"] else paper_loss(network)
    return masked_loss(network) if isinstance(network, MaskedDenoiser) else autoregressive_loss(network)


def condition_of(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """What the network is told besides."""
    return {key: value for key, value in batch.items() if key != "words"}


def continuous_loss(network: ContinuousDenoiser) -> Loss:
    """The cross-entropy of p(w | x_t, known) at uniform times, x_0 the word vectors (CDCD, 2211.15089), a mean over
    words that are not known (`hints`); every other batch, drawn by chance, sees the network's own prediction.
    """
    model = denoiser(network)

    def value(batch: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        words = batch["words"]
        known = hints(words, generator)
        unknown = known < 0
        entropy = diffusion.symbols_cross_entropy(words)
        return model.loss(
            network.embeddings[words],
            condition_of(batch) | {"known": known},
            objective=lambda term: entropy(term) * unknown * (unknown.numel() / unknown.sum().clamp(min=1)),
            self_conditioning=0.5,
            generator=generator,
        )

    return value


def hints(words: Tensor, generator: torch.Generator) -> Tensor:
    """Words that are told in training, (B, L), -1 where not. Of eight sentences four are told nothing of, two their
    length, one the beginning, and one a random share of its words, with its length every other time."""
    batch, length = words.shape

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=words.device)

    kind, share = 8 * uniform(batch, 1), uniform(batch, 1)
    ends = (words == END) | (words == PAD)
    beginning = torch.arange(length, device=words.device) < 1 + share**2 * length
    some = (uniform(batch, length) < share) & ~ends
    told = ends & (kind < 2.5)
    told |= some & (kind >= 2) & (kind < 3)
    told |= beginning & ~ends & (kind >= 3) & (kind < 4)
    return words.masked_fill(~told, -1)


def paper_loss(network: ContinuousDenoiser) -> Loss:
    """Diffusion-LM's loss (2205.14217, section 4.2): with x_0 ~ N(EMB(w), sigma_0^2),

        |f(x_t, t) - x_0|^2 + |mean of q(x_T | x_0)|^2 - log p(w | x_0),

    each a mean over elements; in the first step up from the data the target is EMB(w). On the schedule `sqrt`, which
    ends in noise alone, the second term is zero.
    """
    model = denoiser(network)
    start, end = model.process.at(0.0), model.process.at(1.0)

    def value(batch: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        words = batch["words"]
        clean = network.embeddings[words]
        noised = clean + start.sigma * torch.randn(clean.shape, generator=generator, device=clean.device)
        times = diffusion.uniform_times(len(words), generator)
        x0 = torch.where((times < FIRST).to(clean.device)[:, None, None], clean, noised)
        squared = model.loss(x0, condition_of(batch), times=lambda *_: times, generator=generator)
        rounding = F.cross_entropy(network.rounded(noised).flatten(0, 1), words.flatten())
        return squared + (end.alpha * x0).square().mean() + rounding

    return value


def masked_loss(network: MaskedDenoiser) -> Loss:
    """MDLM's bound: the cross-entropy of masked words, over the share that is masked."""
    model = denoiser(network)

    def value(batch: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        return model.loss(
            batch["words"],
            condition_of(batch),
            objective=diffusion.cross_entropy,
            weight=lambda t, form: 1 / t.t,
            generator=generator,
        )

    return value


def autoregressive_loss(network: AutoregressiveModel) -> Loss:
    """-log p(word | the words before it), a mean over words and [END]."""

    def value(batch: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        words = batch["words"]
        logits = network(words, **condition_of(batch))[:, : words.shape[1]]
        return F.cross_entropy(logits.flatten(0, 1), words.flatten(), ignore_index=PAD)

    return value
