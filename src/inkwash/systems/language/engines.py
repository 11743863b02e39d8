"""The ways to sample a sentence, and what each learns.

- continuous: words are vectors that are learned with the model, and noise is added to them; gradients can steer it.
  Diffusion-LM (Li et al. 2022, 2205.14217), as published or with what CDCD (Dieleman et al. 2022, 2211.15089) learns.
- masked: words are replaced by a mask. MDLM (Sahoo et al. 2024, 2406.07524).
- autoregressive: the plain autoregressive model, word by word; the baseline, and the evaluator of fluency.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from inkwash import diffusion
from inkwash.systems.language.networks import AutoregressiveModel, ContinuousDenoiser, MaskedDenoiser, WordNetwork
from inkwash.systems.language.vocabulary import END, PAD, Vocabulary
from inkwash.training.fit import Loss

NETWORKS: dict[str, Callable[..., WordNetwork]] = {
    "continuous": ContinuousDenoiser,
    "masked": MaskedDenoiser,
    "autoregressive": AutoregressiveModel,
}
LAST_STEP = 1 / 2000  # of the paper's 2,000 steps the one to t = 0, whose target is the word vector itself


def denoiser(network: WordNetwork) -> diffusion.Denoiser:
    """Of a network of the first two engines, with its process."""
    if isinstance(network, ContinuousDenoiser):
        return diffusion.Denoiser(network, diffusion.Gaussian(diffusion.sqrt()), "x0")
    process = diffusion.Categorical.masked(diffusion.rectified_flow(), network.config["symbols"] - 1)
    return diffusion.Denoiser(network, process)


def loss(network: WordNetwork) -> Loss:
    """What a network learns from batches {"words": (B, L), "source": (B, S), "source_mask": (B, S)}, the last two
    perhaps missing."""
    if isinstance(network, ContinuousDenoiser):
        return partial(continuous_loss if network.config["improved"] else paper_loss, network)
    if isinstance(network, MaskedDenoiser):
        return partial(masked_loss, network)
    return partial(autoregressive_loss, network)


def encode_sources(vocabulary: Vocabulary, sources: list[str], length: int) -> dict[str, Tensor]:
    """The condition of a network: the ids of the words of sources (N, S), and where there is one."""
    ids = torch.from_numpy(vocabulary.encode(sources, length))
    ids = ids[:, : int((ids != PAD).sum(1).max())]
    return {"source": ids, "source_mask": ids != PAD}


def condition_of(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """What the network is conditioned on."""
    return {key: value for key, value in batch.items() if key != "words"}


def continuous_loss(network: ContinuousDenoiser, batch: dict[str, Tensor], generator: torch.Generator) -> Tensor:
    """The cross-entropy of p(w | x_t, given words) at uniform times, x_0 the word vectors (CDCD, 2211.15089), a mean
    over words that are not given (`random_hints`); half of the batches, by chance, see the network's own prediction.
    """
    words = batch["words"]
    forced = random_hints(words, generator)
    free = forced < 0
    entropy = diffusion.symbols_cross_entropy(words)
    return denoiser(network).loss(
        network.embeddings[words],
        condition_of(batch) | {"forced": forced},
        objective=lambda term: entropy(term) * free * (free.numel() / free.sum().clamp(min=1)),
        self_conditioning=0.5,
        generator=generator,
    )


def random_hints(words: Tensor, generator: torch.Generator) -> Tensor:
    """Words that are given in training, (B, L), -1 where not. Of eight sentences four come without hints, two with
    their length, one with its beginning, one with some of its words (half of these with their length too)."""
    batch, length = words.shape

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=words.device)

    kind, share = 8 * uniform(batch, 1), uniform(batch, 1)
    ends = (words == END) | (words == PAD)
    beginning = torch.arange(length, device=words.device) < 1 + share**2 * length
    some = (uniform(batch, length) < share) & ~ends
    given = ends & (kind < 2.5)
    given |= some & (kind >= 2) & (kind < 3)
    given |= beginning & ~ends & (kind >= 3) & (kind < 4)
    return words.masked_fill(~given, -1)


def paper_loss(network: ContinuousDenoiser, batch: dict[str, Tensor], generator: torch.Generator) -> Tensor:
    """Diffusion-LM's loss (2205.14217, section 4.2): with x_0 ~ N(EMB(w), sigma_0^2),

        |f(x_t, t) - x_0|^2 + |mean of q(x_T | x_0)|^2 - log p(w | x_0),

    each a mean over elements; in the first step up from the data the target is EMB(w). On the schedule `sqrt`, which
    ends in noise alone, the second term is zero.
    """
    model, words = denoiser(network), batch["words"]
    start, end = model.process.at(0.0), model.process.at(1.0)
    clean = network.embeddings[words]
    noised = clean + start.sigma * torch.randn(clean.shape, generator=generator, device=clean.device)
    times = diffusion.uniform_times(len(words), generator)
    x0 = torch.where((times < LAST_STEP)[:, None, None], clean, noised)
    squared = model.loss(x0, condition_of(batch), times=lambda *_: times, generator=generator)
    rounding = F.cross_entropy(network.rounded(noised).flatten(0, 1), words.flatten())
    prior: Tensor = (end.alpha * x0).square().mean()
    return prior + squared + rounding


def masked_loss(network: MaskedDenoiser, batch: dict[str, Tensor], generator: torch.Generator) -> Tensor:
    """MDLM's bound: the cross-entropy of masked words, over the share that is masked."""
    return denoiser(network).loss(
        batch["words"],
        condition_of(batch),
        objective=diffusion.cross_entropy,
        weight=lambda t, form: 1 / t.t,
        generator=generator,
    )


def autoregressive_loss(network: WordNetwork, batch: dict[str, Tensor], generator: torch.Generator) -> Tensor:
    """-log p(word | the words before it), a mean over words and [END]."""
    words = batch["words"]
    logits = network(words, **condition_of(batch))[:, : words.shape[1]]
    return F.cross_entropy(logits.flatten(0, 1), words.flatten(), ignore_index=PAD)
