"""Texts -> numbers of word pieces. Needs no torch."""

from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from inkwash.errors import UserError


def load_tokenizer(file: Path) -> Tokenizer:
    """Raises UserError for a file that is no tokenizer."""
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises nothing more special
        raise UserError(f"{file}: not a tokenizer ({error}); save the text encoder again") from None


def fitted(tokenizer: Tokenizer, length: int) -> Tokenizer:
    """The tokenizer, set to cut texts off at `length` pieces and to pad all to the longest."""
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(pad_id=tokenizer.token_to_id("[PAD]"), pad_token="[PAD]")
    return tokenizer


def tokenise(tokenizer: Tokenizer, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Piece numbers (B, L) int64 and their mask (B, L) bool, L the longest text's.

    Raises UserError for no texts or a text not a string.
    """
    if isinstance(texts, str) or not texts or not all(isinstance(text, str) for text in texts):
        raise UserError(f"texts to encode must be a list of at least one string, not {texts!r:.60}")
    rows = tokenizer.encode_batch(texts)
    return np.array([row.ids for row in rows]), np.array([row.attention_mask for row in rows], bool)
