"""Texts -> the states that a picture network attends to, whatever computes the encoder."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from inkwash.diffusion.arrays import Array, no_grad
from inkwash.errors import UserError
from inkwash.weights.files import atomic, load_into, save_json, save_tensors

TOKENIZER = "tokenizer.json.gz"  # in its folder
UNPACKED = "tokenizer.json"  # as older folders have it


class TextCodec:
    """A tokenizer and a text encoder: English or Chinese texts of any length -> states of unit scale.

    Lower-cased, cut into word pieces, shortened to the encoder's length (32 with both end marks).

    network   (ids, mask) -> states and pooled states, as `networks.text.TextEncoder`; its `config` has the length
    """

    def __init__(self, tokenizer: Tokenizer, network: Any) -> None:
        self.tokenizer, self.network = tokenizer, network
        tokenizer.enable_truncation(network.config["length"])
        tokenizer.enable_padding(pad_id=tokenizer.token_to_id("[PAD]"), pad_token="[PAD]")

    @classmethod
    def load(cls, folder: str | Path) -> TextCodec:
        """By torch. UserError where config.json, model.safetensors or the tokenizer is missing or broken."""
        from inkwash.networks.text import TextEncoder

        folder = Path(folder)
        for name in ("config.json", "model.safetensors"):
            if not (folder / name).is_file():
                raise UserError(f"no text encoder in '{folder}': {name} is missing")
        try:
            network = TextEncoder(**json.loads((folder / "config.json").read_text()))
        except (ValueError, TypeError) as error:
            raise UserError(f"the text encoder in '{folder}' is broken ({error}): save it again") from None
        tokenizer = load_tokenizer(folder)
        load_into(network, folder / "model.safetensors")  # float16 becomes float32 here
        return cls(tokenizer, network.eval())

    def save(self, folder: str | Path) -> None:
        """Write the same three files, the weights in float16."""
        folder = Path(folder)
        save_json(folder / "config.json", self.config)
        with atomic(folder / TOKENIZER) as path:
            path.write_bytes(gzip.compress(self.tokenizer.to_str().encode(), mtime=0))
        save_tensors(folder / "model.safetensors", self.network.state_dict(), {"format": "pt"})

    @property
    def config(self) -> dict[str, Any]:
        """Of the encoder."""
        config: dict[str, Any] = self.network.config
        return config

    def tokenize(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Piece numbers (B, L) int64 and their mask (B, L) bool, L the longest text's.

        Raises UserError for no texts or a text not a string.
        """
        if isinstance(texts, str) or not texts or not all(isinstance(text, str) for text in texts):
            raise UserError(f"texts to encode must be a list of at least one string, not {texts!r:.60}")
        encodings = self.tokenizer.encode_batch(texts)
        return np.array([encoding.ids for encoding in encodings]), np.array(
            [encoding.attention_mask for encoding in encodings], bool
        )

    def encode(self, texts: list[str], array: Callable[[np.ndarray], Array]) -> dict[str, Array]:
        """B texts -> context (B, L, 384), context_mask (B, L) with True for real pieces, pooled (B, 384).

        Mean square about 1 per dimension; beyond the mask the context is 0. "" is [CLS][SEP]: a state
        like any other, fit to stand for "no text". array: makes arrays of the network's kind.
        """
        ids, mask = map(array, self.tokenize(texts))
        with no_grad(ids):
            states, pooled = self.network(ids, mask)
        return {"context": states * mask[..., None], "context_mask": mask, "pooled": pooled}


def load_tokenizer(folder: Path) -> Tokenizer:
    """Of a text encoder's folder. Raises UserError for none, and for a file that is no tokenizer."""
    packed = (folder / TOKENIZER).exists()
    file = folder / (TOKENIZER if packed else UNPACKED)
    if not file.is_file():
        raise UserError(f"no text encoder in '{folder}': {TOKENIZER} is missing")
    try:
        content = file.read_bytes()
        return Tokenizer.from_str((gzip.decompress(content) if packed else content).decode())
    except Exception as error:  # tokenizers raises nothing more special
        raise UserError(f"{file}: not a tokenizer ({error}); save the text encoder again") from None
