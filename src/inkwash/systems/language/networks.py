"""Transformers over words: one that denoises vectors, one that fills masks, one that predicts the next word; and a
classifier of noisy sentences. All share the same body, so that they can be compared at the same size."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inkwash.networks.layers import VectorEmbedding, sinusoidal_embedding, zero_module
from inkwash.networks.text import TransformerLayer, rotary
from inkwash.systems.language.vocabulary import START

WAVES = 128


class Body(nn.Module):
    """Vectors at positions (B, L, dim) -> states (B, L, width): up-projection, positions, time, layers.

    A source may be given: vectors (B, S, dim) with a mask (B, S), True where there is a word. They stand before the
    sentence, with positions of their own, and every position attends to them.
    """

    def __init__(
        self,
        dim: int,
        width: int,
        layers: int,
        heads: int,
        length: int,
        source: int,
        timed: bool,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.up = nn.Sequential(nn.Linear(dim, width), nn.Tanh(), nn.Linear(width, width))
        self.positions = nn.Parameter(0.02 * torch.randn(length, width))
        self.source_positions = nn.Parameter(0.02 * torch.randn(source, width))
        if timed:
            self.time = VectorEmbedding(WAVES, width)
        self.layers = nn.ModuleList(TransformerLayer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.dropout = dropout
        self.rotary_dim = width // heads if timed else 0

    def forward(
        self, x: Tensor, time: Tensor | None = None, source: tuple[Tensor, Tensor] | None = None, causal: bool = False
    ) -> Tensor:
        """States (B, L, width); `time` (B,) is 0 to 1000. If causal, a position attends to those before it."""
        length = x.shape[1]
        h, mask = self.up(x) + self.positions[:length], None
        if source is not None:
            vectors, source_mask = source
            h = torch.cat([self.up(vectors) + self.source_positions[: vectors.shape[1]], h], dim=1)
            mask = F.pad(source_mask, (0, length), value=True)[:, None, None]
        if causal:
            causal_mask = torch.ones(h.shape[1], h.shape[1], dtype=torch.bool, device=h.device).tril()
            causal_mask[:, : h.shape[1] - length] = True
            mask = causal_mask if mask is None else mask & causal_mask
        if time is not None:
            h = h + self.time(sinusoidal_embedding(time.expand(len(x)), WAVES).to(h.dtype))[:, None]
        angles = None
        if self.rotary_dim:  # a network takes long to learn by itself to attend to neighbours among noisy words
            position = torch.arange(length, device=h.device) + len(self.source_positions)
            source_position = torch.arange(h.shape[1] - length, device=h.device)
            angles = rotary(torch.cat([source_position, position]), self.rotary_dim)
        for layer in self.layers:
            h = h + F.dropout(layer(h, mask, angles) - h, self.dropout, self.training)
        states: Tensor = self.norm(h[:, h.shape[1] - length :])
        return states


class WordNetwork(nn.Module):
    """What the three engines share: word vectors (symbols, dim), learned, and the body.

    symbols: with the mask, if there is one. length: of sentences, [END] included. source: the longest that is read.
    """

    timed = True

    def __init__(
        self,
        *,
        symbols: int,
        dim: int = 16,
        width: int = 128,
        layers: int = 4,
        heads: int = 4,
        length: int = 40,
        source: int = 40,
        dropout: float = 0.0,
    ) -> None:
        config = {key: value for key, value in locals().items() if key not in ("self", "__class__")}
        super().__init__()
        self.config: dict[str, Any] = config
        self.embedding = nn.Embedding(symbols, dim)
        self.body = Body(dim, width, layers, heads, length, source, self.timed, dropout)

    @property
    def embeddings(self) -> Tensor:
        """The word vectors (symbols, dim)."""
        vectors: Tensor = self.embedding(torch.arange(self.config["symbols"], device=self.body.positions.device))
        return vectors

    def encode_source(
        self, source: Tensor | None = None, source_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor] | None:
        """The vectors of the source, and its mask."""
        return None if source is None or source_mask is None else (self.embeddings[source], source_mask)


class ContinuousDenoiser(WordNetwork):
    """Noisy word vectors -> the clean ones.

    improved: the network predicts which word it is, and the clean vector is the mean of the word vectors under
    p(w | x_t), which is what E[x_0 | x_t] is (score interpolation, CDCD, Dieleman et al. 2022, 2211.15089); word
    vectors have the length sqrt(dim), so that they cannot escape the noise by growing. Words may be given; they stand
    there clean, and marked. Otherwise the network predicts the clean vector itself, and word vectors are free, as in
    Diffusion-LM (Li et al. 2022, 2205.14217).
    """

    def __init__(self, *, improved: bool = True, **config: Any) -> None:
        super().__init__(**config)
        dim, width, symbols = (self.config[key] for key in ("dim", "width", "symbols"))
        self.config["improved"] = improved
        if improved:
            self.before = zero_module(nn.Linear(dim, dim))  # of its own last prediction, for self-conditioning
            self.given = nn.Parameter(torch.zeros(dim))  # marks words that are given
            self.out = nn.Linear(width, symbols)
        else:
            self.down = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, dim))

    @property
    def embeddings(self) -> Tensor:
        """The word vectors (symbols, dim)."""
        vectors = super().embeddings
        return F.normalize(vectors, dim=-1) * vectors.shape[1] ** 0.5 if self.config["improved"] else vectors

    def forward(
        self,
        x: Tensor,
        time: Tensor,
        previous: Tensor | None = None,
        forced: Tensor | None = None,
        allowed: Tensor | None = None,
        temperature: float = 1.0,
        **source: Any,
    ) -> Any:
        """(B, L, dim) for x (B, L, dim), time (B,) 0 to 1000, source (B, S) ids of words and its mask.

        Of an improved network: forced (B, L), the ids of words that are given, -1 elsewhere; allowed (B, L,
        symbols), true for the words that may stand at each position. The answer is then the mean under p(w | x_t,
        forced, w is allowed), with that to the power of 1 / temperature, and {"logits": its logits (B, L, symbols)}.
        """
        if not self.config["improved"]:
            return self.down(self.body(x, time, self.encode_source(**source)))
        if previous is not None:
            x = x + self.before(previous)
        if forced is not None:
            x = torch.where((forced >= 0)[..., None], self.embeddings[forced.clamp(min=0)] + self.given, x)
        logits = self.out(self.body(x, time, self.encode_source(**source))) / temperature
        if allowed is not None:
            logits = logits.masked_fill(~allowed, -torch.inf)
        return logits.softmax(-1) @ self.embeddings, {"logits": logits}

    def rounded(self, vectors: Tensor) -> Tensor:
        """Logits of each word at each position, (B, L, symbols): inner products with the word vectors."""
        return vectors @ self.embeddings.T


class MaskedDenoiser(WordNetwork):
    """Words, some of them masked -> logits of each word: the network of MDLM (Sahoo et al. 2024, 2406.07524).

    Its dim is the width: vectors are not noised here and need not be small.
    """

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self.out = nn.Linear(self.config["width"], self.config["symbols"])

    def forward(
        self, x: Tensor, time: Tensor, source: Tensor | None = None, source_mask: Tensor | None = None
    ) -> Tensor:
        """(B, L, symbols) for x (B, L) ids of words, the mask the last of them; time (B,) 0 to 1000."""
        logits: Tensor = self.out(self.body(self.embedding(x), time, self.encode_source(source, source_mask)))
        return logits


class AutoregressiveModel(WordNetwork):
    """The plain autoregressive model: log p(word | the words before it)."""

    timed = False

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self.out = nn.Linear(self.config["width"], self.config["symbols"])

    def forward(self, words: Tensor, source: Tensor | None = None, source_mask: Tensor | None = None) -> Tensor:
        """Logits (B, L + 1, symbols) of each word of `words` (B, L) and of the one that comes after them; at most
        `length` positions are answered."""
        before = self.embedding(F.pad(words, (1, 0), value=START)[:, : self.config["length"]])
        logits: Tensor = self.out(self.body(before, None, self.encode_source(source, source_mask), causal=True))
        return logits


class ClassifierNetwork(nn.Module):
    """Fields, parts of speech and constituents of noisy sentences, from word vectors (B, L, dim).

    fields: how many values each has (absent is one of them); tags, labels: how many there are (none is one of each).
    It also keeps which of the words (symbols) has which tag.
    """

    def __init__(
        self,
        *,
        dim: int,
        fields: list[int],
        tags: int,
        labels: int,
        symbols: int,
        width: int = 128,
        layers: int = 2,
        heads: int = 4,
        length: int = 40,
    ) -> None:
        config = {key: value for key, value in locals().items() if key not in ("self", "__class__")}
        super().__init__()
        self.config: dict[str, Any] = config
        self.body = Body(dim, width, layers, heads, length, 0, timed=True)
        if fields:
            self.fields = nn.Linear(2 * width, sum(fields))
        if tags:
            self.tags = nn.Linear(width, tags)
        self.first, self.last = nn.Linear(width, 32), nn.Linear(width, 32)
        if labels:
            self.labels = nn.Linear(32, labels)
        self.lexicon: Tensor
        self.register_buffer("lexicon", torch.zeros(tags, symbols, dtype=torch.bool))

    def states(self, x: Tensor, time: Tensor) -> Tensor:
        """(B, L, width), for the three heads."""
        states: Tensor = self.body(x, time)
        return states

    def field_scores(self, states: Tensor) -> list[Tensor]:
        """Logits (B, values) of each field."""
        if not self.config["fields"]:
            return []
        pooled = torch.cat([states.mean(1), states.amax(1)], dim=-1)
        return list(self.fields(pooled).split(self.config["fields"], dim=-1))

    def tag_scores(self, states: Tensor) -> Tensor:
        """Logits (B, L, tags)."""
        logits: Tensor = self.tags(states)
        return logits

    def label_scores(self, states: Tensor) -> Tensor:
        """Logits (B, L, L, labels) of what the words from the first index to the second are; those below the diagonal
        mean nothing."""
        logits: Tensor = self.labels(F.relu(self.first(states)[:, :, None] + self.last(states)[:, None]))
        return logits
