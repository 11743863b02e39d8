"""Prompts of any length, with their weights and schedules, as what the U-Net is told at each of its calls."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from inkwash import diffusion
from inkwash.diffusion.process import Prediction
from inkwash.errors import UserError, unknown
from inkwash.systems.checkpoints.canvas import edit_guidance
from inkwash.systems.checkpoints.embeddings import Embedding
from inkwash.systems.checkpoints.facts import ENCODERS
from inkwash.systems.checkpoints.grammar import Sections, Segment, parse

BACKTRACK = 20  # tokens within which A1111 looks back for a comma to break at
WORD = 8  # tokens: ComfyUI breaks no piece of fewer
TWICE = ("heun", "dpm2", "dpmpp_sde", "flow_heun", "flow_midpoint", "predictor_corrector")
MARK = re.compile(r"(?:^|(?<=[\s(]))embedding:([^\s,]+)")  # how ComfyUI names an embedding


class Encoded(NamedTuple):
    """Texts as the U-Net takes them: context (B, L, D), and pooled (B, D) or None, of SDXL."""

    context: Tensor
    pooled: Tensor | None


class Token(NamedTuple):
    """A token's number, its weight, and the row of the embedding that stands in its place, if one does."""

    id: int
    weight: float = 1.0
    embedding: str | None = None
    row: int = 0


class Track(NamedTuple):
    """A prompt over all calls of the network, counted from 0: up to call ends[i] row rows[i] is the condition."""

    weight: float
    ends: tuple[int, ...]
    rows: tuple[int, ...]
    condition: dict[str, Tensor]

    def at(self, call: int) -> dict[str, Tensor]:
        row = next((row for end, row in zip(self.ends, self.rows, strict=True) if call <= end), self.rows[-1])
        return {key: value[row : row + 1] for key, value in self.condition.items()}


def tracks(
    model: Any,
    prompt: str,
    *,
    steps: int,
    sampler: Any,
    weighting: str,
    clip_skip: int,
    size: tuple[int, int],
    aesthetic: float,
    compose: bool = True,
) -> list[Track]:
    """What a model's U-Net is told of each prompt that AND joins.

    Steps are counted as A1111 counts them: by calls of the network, of which some samplers make two a step, from 0
    on, while a schedule's are counted from 1: what changes after step 3 has held for the first four calls.
    """
    found = []
    for part in parse(prompt, calls(steps, sampler), weighting, compose):
        texts = Counter(interval.sections for interval in part.intervals)
        weights = [segment.weight for text in texts for section in text for segment in section]
        if not all(map(math.isfinite, [part.weight, *weights])):
            raise UserError("a weight in the prompt is too large for a number: choose one near 1")
        encoded = encode(model, texts, weighting, clip_skip)
        if weighting == "a1111" and not prompt and not compose:
            encoded = without_negative(encoded)
        ends, rows = zip(*((each.end, [*texts].index(each.sections)) for each in part.intervals), strict=True)
        found.append(Track(part.weight, ends, rows, model.condition(encoded, size[1], size[0], aesthetic)))
    return found


def calls(steps: int, sampler: Any) -> int:
    return steps * (2 if sampler in TWICE else 1)


def without_negative(encoded: Encoded) -> Encoded:
    """Of SDXL an empty negative prompt is zeros, as in A1111 and, where none is given, diffusers; of others the empty
    text's states."""
    if encoded.pooled is None:
        return encoded
    return Encoded(torch.zeros_like(encoded.context), torch.zeros_like(encoded.pooled))


@torch.no_grad()
def encode(model: Any, texts: Counter[Sections], weighting: str, clip_skip: int) -> Encoded:
    """The texts of a schedule, and in how many of its intervals each stands: context (T, 77 K, D), and of SDXL the
    pooled state of the first chunk, which weights do not change, (T, D).

    All have as many chunks of 75 tokens as the longest, the others followed by empty ones, as in A1111.
    """
    contexts, pooled = [], None
    names = [name for name in ENCODERS if name in model.components]
    chunked = {
        name: [chunks(text, tokenizer_of(model, name), model.embeddings, weighting) for text in texts]
        for name in names
    }
    count = max(len(text) for own in chunked.values() for text in own)
    for name in names:
        rows = [chunk for text in chunked[name] for chunk in text + [[]] * (count - len(text))]
        found = states(model, name, rows, clip_skip)
        empty = states(model, name, [[]], clip_skip).states if weighting == "comfyui" else None
        weighted = weigh(found.states, rows, [*texts.values()], empty)
        contexts.append(weighted.reshape(len(texts), -1, weighted.shape[-1]))
        if model.is_xl and found.text_embeds is not None:
            pooled = found.text_embeds[::count]
    return Encoded(torch.cat(contexts, dim=-1), pooled)


def tokenizer_of(model: Any, encoder: str) -> Any:
    return model.components[encoder.replace("text_encoder", "tokenizer")]


def states(model: Any, name: str, rows: Sequence[Sequence[Token]], clip_skip: int) -> Any:
    """What an encoder makes of chunks of tokens, embeddings in their places."""
    tokenizer, encoder = tokenizer_of(model, name), model.components[name]
    ids = torch.full((len(rows), tokenizer.length), tokenizer.pad)
    for row, tokens in zip(ids, rows, strict=True):
        row[: len(tokens) + 2] = torch.tensor([tokenizer.start, *(token.id for token in tokens), tokenizer.end])
    with embedded(encoder, name, rows, model.embeddings):
        return encoder(ids.to(model.device), clip_skip=clip_skip + model.is_xl, final_norm=not model.is_xl)


@contextmanager
def embedded(
    encoder: Any, name: str, rows: Sequence[Sequence[Token]], embeddings: Mapping[str, Embedding]
) -> Iterator[None]:
    """Within it the encoder sees the vectors of embeddings where those of their tokens would be."""
    places = [
        (i, k + 1, embeddings[token.embedding].vectors[name][token.row])
        for i, tokens in enumerate(rows)
        for k, token in enumerate(tokens)
        if token.embedding is not None
    ]

    def place(_module: Any, _inputs: Any, output: Tensor) -> Tensor:
        for i, k, vector in places:
            output[i, k] = vector
        return output

    handle = encoder.text_model.embeddings.token_embedding.register_forward_hook(place)
    try:
        yield
    finally:
        handle.remove()


def weigh(found: Tensor, rows: Sequence[Sequence[Token]], times: Sequence[int], empty: Tensor | None) -> Tensor:
    """States (T K, 77, D) of T texts of K chunks, weighted. times: in how many intervals each text stands.

    With the states of the empty prompt, empty + w (state - empty), as ComfyUI does. Without, w state, and then each
    times the factor that gives chunk k of all intervals together its mean back: A1111.
    """
    if all(token.weight == 1 for tokens in rows for token in tokens):
        return found
    weights = torch.ones((*found.shape[:2], 1), device=found.device)
    for row, tokens in zip(weights, rows, strict=True):
        row[1 : len(tokens) + 1, 0] = torch.tensor([token.weight for token in tokens])
    if empty is not None:
        return torch.where(weights == 1, found, empty + weights * (found - empty))
    shares = torch.tensor(times, dtype=found.dtype, device=found.device).view(-1, 1, 1, 1) / sum(times)
    shape = (len(times), -1, *found.shape[1:])
    before, after = found.reshape(shape), (weights * found).reshape(shape)
    mean_before, mean_after = ((shares * states.mean((2, 3), keepdim=True)).sum(0) for states in (before, after))
    return (after * (mean_before / mean_after)).reshape(found.shape)


# from texts to chunks of tokens


def chunks(
    sections: Sections, tokenizer: Any, embeddings: Mapping[str, Embedding], weighting: str
) -> list[list[Token]]:
    """Sections of text as chunks of at most 75 tokens, one at least; each section begins a new one."""
    size, found = tokenizer.length - 2, list[list[Token]]()
    comma = tokenizer.encode(",")[:1] if weighting == "a1111" else []
    names = [] if weighting == "comfyui" else [(tokenizer.encode(name), name) for name in embeddings]
    names.sort(key=lambda pair: -len(pair[0]))  # of two names the longer counts
    for i, section in enumerate(sections):
        if weighting == "comfyui":
            made = divide_pieces([piece for each in section for piece in pieces(each, tokenizer, embeddings)], size)
        else:
            ids = [(tokenizer.encode(segment.text), segment.weight) for segment in section]
            made = divide_tokens([group for each in ids for group in groups(*each, names, embeddings)], size, comma)
        last = i == len(sections) - 1
        found += [] if last and found and made == [[]] else made  # nothing after the last BREAK is no chunk
    return found


def pieces(segment: Segment, tokenizer: Any, embeddings: Mapping[str, Embedding]) -> list[list[Token]]:
    """The tokens of a text of one weight, parted where "embedding:name" calls for one, as in ComfyUI."""
    (text, weight), found, end = segment, list[list[Token]](), 0
    by_lower = {name.lower(): name for name in embeddings}
    for match in MARK.finditer(text):
        name = next((name for name in (match[1], match[1].rpartition(".")[0]) if name.lower() in by_lower), None)
        if name is None:
            raise unknown("embedding", match[1], embeddings)
        found.append([Token(number, weight) for number in tokenizer.encode(text[end : match.start()])])
        found.append(rows_of(embeddings[by_lower[name.lower()]], weight))
        end = match.end()
    return [*found, [Token(number, weight) for number in tokenizer.encode(text[end:])]]


def groups(
    ids: Sequence[int], weight: float, names: Sequence[tuple[list[int], str]], embeddings: Mapping[str, Embedding]
) -> list[list[Token]]:
    """Tokens, each alone, and in place of those of an embedding's name its rows together, as in A1111."""
    found, i = list[list[Token]](), 0
    while i < len(ids):
        tokens, name = next(
            ((tokens, name) for tokens, name in names if ids[i : i + len(tokens)] == tokens), ([0], None)
        )
        found.append([Token(ids[i], weight)] if name is None else rows_of(embeddings[name], weight))
        i += len(tokens)
    return found


def rows_of(embedding: Embedding, weight: float) -> list[Token]:
    count = len(next(iter(embedding.vectors.values())))
    return [Token(0, weight, embedding.name, row) for row in range(count)]


def divide_tokens(groups: Sequence[list[Token]], size: int, comma: Sequence[int]) -> list[list[Token]]:
    """Chunks of at most `size` tokens; what follows the last comma goes into the next if that is within 20 tokens of
    the end, as A1111 breaks them. comma: its number, none for no such rule."""
    found, chunk, last = list[list[Token]](), list[Token](), None
    for group in groups:
        if group[0].embedding is None and group[0].id in comma:
            last = len(chunk)
        elif len(chunk) == size and last is not None and size - last <= BACKTRACK:
            found.append(chunk[: last + 1])
            chunk, last = chunk[last + 1 :], None
        if len(chunk) + len(group) > size:
            found.append(chunk)
            chunk, last = [], None
        chunk = chunk + group
    return [*found, chunk]


def divide_pieces(pieces: Sequence[list[Token]], size: int) -> list[list[Token]]:
    """Chunks of at most `size` tokens, in which pieces of fewer than 8 stay whole, as ComfyUI breaks them."""
    found, chunk = list[list[Token]](), list[Token]()
    for piece in pieces:
        breaks = len(piece) >= WORD
        while len(chunk) + len(piece) > size:
            room = size - len(chunk) if breaks else 0
            found.append(chunk + piece[:room])
            chunk, piece = [], piece[room:]
        chunk = chunk + piece
    return [*found, chunk]


def used_embeddings(model: Any, prompts: Sequence[str], weighting: str, steps: int) -> dict[str, str]:
    """The names of the embeddings that these prompts call for in so many steps, and their files' hashes."""
    tokenizer = next(tokenizer_of(model, name) for name in ENCODERS if name in model.components)
    parts = [part for prompt in prompts for part in parse(prompt, steps, weighting)]
    texts = {interval.sections for part in parts for interval in part.intervals}
    made = [chunk for text in texts for chunk in chunks(text, tokenizer, model.embeddings, weighting)]
    names = {token.embedding for chunk in made for token in chunk if token.embedding is not None}
    return {name: model.embeddings[name].hash for name in sorted(names)}


# guidance


def guided(
    denoise: Callable[..., Any],
    prompts: Sequence[Sequence[Track]],
    negative: Track,
    guidance: float,
    rescale: float,
    image_guidance: float | None,
    shared: Mapping[str, Tensor],
    count: Iterator[int] | None = None,
) -> tuple[Callable[..., Any], dict[str, Tensor]]:
    """The denoiser guided by each picture's prompts, and the condition to begin with.

    One prompt that does not change is classifier-free guidance, or with `image_guidance` that of a checkpoint that
    edits. shared: what else the U-Net is told, of one picture. count: the calls of the network, from 0 on, where
    other denoisers count them, too. UserError for AND in a prompt to edit by.
    """
    rows = [i for i, parts in enumerate(prompts) for _ in parts]
    parts = [track for tracks in prompts for track in tracks]
    plain = len(rows) == len(prompts) and all(track.weight == 1 for track in parts)
    if image_guidance is not None and not plain:
        raise UserError("AND in the prompt: a checkpoint that edits takes one prompt; leave it out")
    used = parts if guidance == 1 else [*parts, negative]
    lengths = {track.condition["context"].shape[1] for track in used}

    def at(call: int) -> tuple[Callable[..., Any], dict[str, Tensor]]:
        conditions, uncond = [track.at(call) | dict(shared) for track in parts], negative.at(call)
        if image_guidance is None and (not plain or len(lengths) > 1):
            weights = [track.weight for track in parts]
            return composed(denoise, conditions, weights, rows, uncond | dict(shared), guidance, rescale), {}
        joined = {key: torch.cat([condition[key] for condition in conditions]) for key in conditions[0]}
        if image_guidance is not None:
            return edit_guidance(denoise, guidance, image_guidance, uncond), joined
        return diffusion.classifier_free(denoise, guidance, uncond | dict(shared), rescale=rescale), joined

    if all(len(track.ends) == 1 for track in (*parts, negative)):
        return at(0)
    count = itertools.count() if count is None else count

    def scheduled(x: Any, t: Any, _condition: Any) -> Any:
        guide, condition = at(next(count))
        return guide(x, t, condition)

    return scheduled, {}


def composed(
    denoise: Callable[..., Any],
    conditions: Sequence[Mapping[str, Tensor]],
    weights: Sequence[float],
    rows: Sequence[int],
    uncond: Mapping[str, Tensor],
    guidance: float,
    rescale: float,
) -> Callable[..., Any]:
    """x_0(uncond) + guidance sum_i w_i (x_0(condition i) - x_0(uncond)): composition (Liu et al. 2022, 2206.01714,
    equation 11), which A1111 writes AND. rows: the picture of each condition. Conditions of one length are one call
    of the network, so that none is padded: what fills a prompt up is seen, too."""

    def guided(x: Tensor, t: Any, _condition: Any) -> Prediction:
        places = [*rows, *range(len(x))]
        found = predictions(denoise, x[places], t, [*conditions, *[uncond] * len(x)])
        cond, free = found[: len(rows)], found[len(rows) :]
        factors = torch.tensor(weights, device=x.device, dtype=x.dtype).view(-1, 1, 1, 1)
        share = factors * (cond - free[list(rows)])
        joint = free.index_add(0, torch.tensor(rows, device=x.device), share)
        if guidance == 1:
            return Prediction(joint)
        both = Prediction(torch.cat([joint, free]))
        mixed: Prediction = diffusion.classifier_free(lambda *_: both, guidance, {}, rescale=rescale)(x, t, {})
        return mixed

    return guided


def predictions(denoise: Callable[..., Any], x: Tensor, t: Any, conditions: Sequence[Mapping[str, Tensor]]) -> Tensor:
    """x_0 of each row with its own condition, those with contexts of one length in one call."""
    lengths = [condition["context"].shape[1] for condition in conditions]
    found = torch.empty_like(x)
    for length in dict.fromkeys(lengths):
        rows = [i for i, own in enumerate(lengths) if own == length]
        joined = {key: torch.cat([conditions[i][key] for i in rows]) for key in conditions[rows[0]]}
        found[rows] = denoise(x[rows], t, joined).x0.to(x.dtype)
    return found
