"""Texts -> the states that a picture network listens to."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from inkwash.codecs.tokens import fitted, load_tokenizer, tokenise
from inkwash.errors import UserError
from inkwash.networks.text import TextEncoder
from inkwash.weights.files import atomic, load_into, write


class TextCodec:
    """A tokenizer and a text encoder: English or Chinese texts of any length -> states of unit scale.

    Lower-cased, cut into word pieces, shortened to the encoder's length (32 with both end marks).
    """

    def __init__(self, tokenizer: Tokenizer, network: TextEncoder) -> None:
        self.tokenizer = tokenizer
        self.network = network.eval()
        fitted(tokenizer, network.config["length"])

    @classmethod
    def load(cls, folder: str | Path) -> "TextCodec":
        """From config.json, tokenizer.json and model.safetensors. Raises UserError if one is missing or broken."""
        folder = Path(folder)
        for name in ("config.json", "tokenizer.json", "model.safetensors"):
            if not (folder / name).is_file():
                raise UserError(f"no text encoder in '{folder}': {name} is missing")
        try:
            network = TextEncoder(**json.loads((folder / "config.json").read_text()))
        except (ValueError, TypeError) as error:
            raise UserError(f"the text encoder in '{folder}' is broken ({error}): save it again") from None
        tokenizer = load_tokenizer(folder / "tokenizer.json")
        load_into(network, folder / "model.safetensors")  # float16 becomes float32 here
        return cls(tokenizer, network)

    def save(self, folder: str | Path) -> None:
        """Write the same three files, the weights in float16."""
        folder = Path(folder)
        with atomic(folder / "config.json") as path:
            path.write_text(json.dumps(self.network.config, indent=2) + "\n")
        with atomic(folder / "tokenizer.json") as path:
            self.tokenizer.save(str(path), pretty=False)
        write(folder / "model.safetensors", self.network.state_dict(), {"format": "pt"})

    def tokenise(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Piece numbers (B, L) and their mask (B, L), L the longest text's; on the network's device."""
        device = self.network.positions.device
        ids, mask = tokenise(self.tokenizer, texts)
        return torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)

    @torch.no_grad()
    def encode(self, texts: list[str]) -> dict[str, Tensor]:
        """B texts -> context (B, L, 384), context_mask (B, L) with True for real pieces, pooled (B, 384).

        Mean square about 1 per dimension; beyond the mask the context is 0. "" is [CLS][SEP]: a state
        like any other, fit to stand for "no text". Raises UserError for no texts or a text not a string.
        """
        ids, mask = self.tokenise(texts)
        states, pooled = self.network(ids, mask)
        return {"context": states * mask[..., None], "context_mask": mask, "pooled": pooled}
