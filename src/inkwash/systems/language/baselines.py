"""The plain autoregressive model: the baseline of diffusion, and, trained apart, the evaluator of fluency."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from inkwash.diffusion import Noise
from inkwash.systems.language.networks import WordNetwork
from inkwash.systems.language.vocabulary import END, PAD


@torch.no_grad()
def sample(
    network: WordNetwork,
    seeds: Sequence[int],
    allowed: Tensor,
    condition: dict[str, Tensor] | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """Sentences (B, L), one word after the other; at each position only of those that are allowed, (B, L, symbols).

    Where a sentence is given its words from left to right only (`allowed` leaves one), what comes later is not
    foreseen.
    """
    length, device = network.config["length"], allowed.device
    uniform = torch.from_numpy(Noise(seeds, (length,)).uniform()).to(device)
    words = torch.full((len(seeds), length), PAD, device=device)
    has_ended = torch.zeros(len(seeds), dtype=torch.bool, device=device)
    for i in range(length):
        logits = network(words[:, :i], **(condition or {}))[:, i].masked_fill(~allowed[:, i], -torch.inf)
        cumulative = (logits / temperature).softmax(-1).cumsum(-1)
        sampled = (cumulative < uniform[:, i : i + 1] * cumulative[:, -1:]).sum(-1)
        words[:, i] = torch.where(has_ended, PAD, sampled)
        has_ended |= words[:, i] == END
        if has_ended.all():
            break
    return words


@torch.no_grad()
def nll(network: WordNetwork, words: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """-log p of each sentence (B, L), [END] included, in nats, and how many words that is."""
    totals = []
    for start in range(0, len(words), 128):
        batch = words[start : start + 128]
        logits = network(batch)[:, : batch.shape[1]]
        losses = F.cross_entropy(logits.movedim(-1, 1), batch, ignore_index=PAD, reduction="none")
        totals.append(losses.sum(1))
    return torch.cat(totals).numpy(), (words != PAD).sum(1).numpy()
