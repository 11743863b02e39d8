"""Texts -> the token numbers that CLIP's text encoders take (Radford et al. 2021, 2103.00020)."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE

from inkwash.errors import UserError
from inkwash.weights.files import save_json
from inkwash.weights.shipped import FOLDER

MERGES = FOLDER / "clip-tokenizer" / "merges.txt.gz"  # of OpenAI's CLIP
LENGTH = 77  # tokens of a text, with its two marks
START, END = "<|startoftext|>", "<|endoftext|>"
ROLES = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
# Pairs are merged within one of these: an English ending, a word, a digit, a run of other signs.
WORD = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


class CLIPTokenizer:
    """Byte pair encoding of texts in lower case, with the numbers of transformers' CLIPTokenizer.

    vocabulary  piece -> number; the last piece of a word ends in "</w>"
    merges      pairs of pieces, the first to be merged first
    roles       the tokens that begin, end and fill a text, and the one for what the vocabulary does not have
    added       what is looked for in a text before its words are: those, and what else a folder names
    """

    def __init__(
        self,
        vocabulary: dict[str, int],
        merges: list[tuple[str, str]],
        roles: Mapping[str, str] = ROLES,
        added: Sequence[AddedToken] | None = None,
        length: int = LENGTH,
    ) -> None:
        self.length = length
        self.tokenizer = Tokenizer(BPE(vocabulary, merges, unk_token=roles["unk_token"], end_of_word_suffix="</w>"))
        self.tokenizer.normalizer = normalizers.Sequence(
            [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
        )
        words = pre_tokenizers.Split(Regex(WORD), behavior="removed", invert=True)
        to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False)
        self.tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, to_bytes])
        for token in roles.values():
            if token not in vocabulary:
                raise UserError(f"the vocabulary of this CLIP tokenizer lacks {token!r}")
        self.tokenizer.add_tokens([to_token(role) for role in roles.values()] if added is None else list(added))
        self.start, self.end, self.pad = (vocabulary[roles[role]] for role in ("bos_token", "eos_token", "pad_token"))

    @classmethod
    def load(cls, folder: str | Path) -> CLIPTokenizer:
        """From tokenizer.json, or vocab.json and merges.txt, and the settings beside them, of any version.

        They are followed to the letter: where "!" fills texts, as in Stable Diffusion 2 and the second encoder of
        SDXL, a "!" in a text becomes that token, too, and not the one for a "!" at the end of a word. UserError for
        what is missing or broken.
        """
        folder = Path(folder)
        try:
            whole = read(folder, "tokenizer.json")
            if whole:
                vocabulary = whole["model"]["vocab"]
                pairs = whole["model"]["merges"]
                merges = [tuple(pair.split(" ") if isinstance(pair, str) else pair) for pair in pairs]
            elif (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
                vocabulary, merges = BPE.read_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
            else:
                raise UserError(f"{folder}: no tokenizer; it holds tokenizer.json, or vocab.json and merges.txt")
            settings = read(folder, "tokenizer_config.json")
            roles, added = special_tokens(folder, settings, whole.get("added_tokens", []))
            length = settings.get("model_max_length", LENGTH)
            return cls(vocabulary, merges, roles, added, length if length < 10**6 else LENGTH)  # 10^30: not known
        except UserError:
            raise
        except Exception as error:  # the tokenizers package raises nothing narrower
            raise UserError(f"{folder}: the tokenizer is broken ({error}); fetch or save it again") from None

    @classmethod
    def shipped(cls, fill: str = END) -> CLIPTokenizer:
        """That of CLIP, for files that hold none. fill: what follows a text, "!" in Stable Diffusion 2 and in the
        second encoder of SDXL; in a text it is a "!" like any other."""
        merges = [
            (line.split()[0], line.split()[1]) for line in gzip.decompress(MERGES.read_bytes()).decode().splitlines()
        ]
        letters = byte_letters()
        pieces = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges), START, END]
        vocabulary = {piece: number for number, piece in enumerate(pieces)}
        return cls(vocabulary, merges, ROLES | {"pad_token": fill}, [to_token(START), to_token(END)])

    def save(self, folder: str | Path) -> None:
        """Writes what transformers, and `load`, read: vocab.json, merges.txt, and the special tokens.

        The token that fills is special there, in a text too: see `load`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer.model.save(str(folder))
        named = {"bos_token": self.start, "eos_token": self.end, "pad_token": self.pad}
        roles = {role: self.tokenizer.id_to_token(number) for role, number in named.items()}
        added = {
            str(number): {"content": token.content, "special": token.special}
            | {flag: getattr(token, flag) for flag in ("lstrip", "normalized", "rstrip", "single_word")}
            for number, token in self.tokenizer.get_added_tokens_decoder().items()
        }
        settings = {
            "tokenizer_class": "CLIPTokenizer",
            "model_max_length": self.length,
            "added_tokens_decoder": added,
        }
        save_json(folder / "tokenizer_config.json", settings | roles | {"unk_token": self.tokenizer.model.unk_token})

    def encode(self, text: str) -> list[int]:
        """The tokens of a text, as many as it has, without marks. UserError for what is no text."""
        if not isinstance(text, str):
            raise UserError(f"a text to encode must be a string, not {text!r:.60}")
        try:
            ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        except TypeError:
            raise UserError(f"not a text, half a character is missing: {text!r:.60}") from None
        return ids

    def tokenize(self, texts: Sequence[str]) -> np.ndarray:
        """B texts -> (B, length) int64: start, tokens, end, and from there on what fills.

        Of a longer text the first length - 2 tokens are taken; `encode` tells how many there are.
        """
        ids = np.full((len(texts), self.length), self.pad)
        for row, text in zip(ids, texts, strict=True):
            tokens = [self.start, *self.encode(text)[: self.length - 2], self.end]
            row[: len(tokens)] = tokens
        return ids


def byte_letters() -> list[str]:
    """A letter for each byte, in CLIP's order: first those that print as Latin-1, as themselves, then the others,
    from letter 256 on."""
    printed = [byte for byte in range(256) if chr(byte).isprintable() and byte not in (0x20, 0xA0)]
    return [*map(chr, printed), *(chr(256 + i) for i in range(256 - len(printed)))]


def special_tokens(
    folder: Path, settings: dict[str, Any], declared: list[dict[str, Any]]
) -> tuple[dict[str, str], list[AddedToken]]:
    """The token of each role, and all that are looked for in a text.

    Where transformers has put them: until 4.33 special_tokens_map.json and added_tokens.json, then the
    `added_tokens_decoder` of tokenizer_config.json, since 5 the `added_tokens` of tokenizer.json, here `declared`. Of
    two that are spelled alike the later counts.
    """
    named = settings
    if "added_tokens_decoder" in settings:
        numbered = {int(number): to_token(token) for number, token in settings["added_tokens_decoder"].items()}
    else:
        named = settings | read(folder, "special_tokens_map.json")
        numbered = {number: AddedToken(token) for token, number in read(folder, "added_tokens.json").items()}
        numbered |= {token["id"]: to_token(token) for token in declared}
    values = ROLES | {role: named[role] for role in ROLES if named.get(role) is not None}
    others = named.get("extra_special_tokens") or named.get("additional_special_tokens") or []
    others = list(others.values() if isinstance(others, dict) else others)
    added = [numbered[number] for number in sorted(numbered)]
    seen = {token.content for token in added}
    added += [token for token in map(to_token, [*values.values(), *others]) if token.content not in seen]
    return {role: to_token(value).content for role, value in values.items()}, added


def to_token(value: str | dict[str, Any]) -> AddedToken:
    """From its text alone or with flags: with `normalized` it is found in the text in lower case, else as it is."""
    if isinstance(value, str):
        return AddedToken(value, special=True)
    return AddedToken(**{key: flag for key, flag in value.items() if key not in ("__type", "id")})


def read(folder: Path, name: str) -> dict[str, Any]:
    """The content of a JSON file; none if it is not there."""
    path = folder / name
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
