"""What models of one torch network share: loading and saving of weights and facts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from inkwash.errors import UserError
from inkwash.weights.files import WEIGHTS, atomic, digest, load_into, save_tensors
from inkwash.weights.graph import fastest
from inkwash.weights.shipped import describe, locate

if TYPE_CHECKING:
    from torch import nn


class TorchModel:
    """A network, whose weights lie in model.safetensors, and facts of it, in system.json beside them."""

    system: ClassVar[str]
    has_graphs: ClassVar[bool] = False  # whether `on_graphs` is there
    network: nn.Module
    runtime: str = "torch"
    folder: Path | None = None

    @classmethod
    def build(cls, facts: dict[str, Any]) -> Self:
        """The model of these facts, untrained."""
        return cls(**facts)

    def facts(self) -> dict[str, Any]:
        """What `build` takes, as JSON holds it."""
        raise NotImplementedError

    @classmethod
    def load(
        cls,
        name: str | Path,
        device: str = "cpu",
        precision: str = "float32",
        runtime: str | None = None,
        threads: int | None = None,
    ) -> Self:
        """From a shipped name or a folder. UserError, in one line, for what is missing or broken there.

        runtime: torch; of a class that has graphs also onnx, on a CPU, which is taken where graphs lie in the folder.
        """
        if precision != "float32" or runtime not in (None, "torch", "onnx" if cls.has_graphs else None):
            how = "torch or onnx" if cls.has_graphs else "torch"
            raise UserError(
                f"models of {cls.system} compute in float32, by {how}: leave out --precision and --runtime"
            )
        folder = locate(name)
        facts = describe(folder)
        if (system := facts.pop("system", None)) != cls.system:
            raise UserError(f"{folder}: a model of '{system}', not of {cls.system}")
        onnx = cls.has_graphs and (runtime or fastest([folder], device, precision)) == "onnx"
        if onnx and device != "cpu":
            raise UserError(f"runtime onnx knows the CPU only: give --runtime torch for {device}")
        try:
            model = cls.on_graphs(facts, folder, threads) if onnx else cls.build(facts)
        except UserError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{folder}: system.json is broken ({error}); save the model again") from None
        model.folder = folder
        if onnx:
            model.runtime = "onnx"
        else:
            model.place(folder / WEIGHTS, device, threads)
        return model

    @classmethod
    def on_graphs(cls, facts: dict[str, Any], folder: Path, threads: int | None) -> Self:
        """The model of these facts, its networks by ONNX Runtime, without torch."""
        raise NotImplementedError

    def place(self, weights: Path, device: str, threads: int | None) -> None:
        """Loads the weights, and moves the network to the device."""
        import torch

        if threads:
            torch.set_num_threads(threads)
        load_into(self.network, weights)
        self.network.eval().to(device)

    def __reduce__(self) -> tuple[Any, ...]:
        """What pickle keeps: the facts and the weights as they are, on the CPU, since another machine has its own."""
        weights = {name: tensor.cpu() for name, tensor in self.network.state_dict().items()}
        return restore, (type(self), self.facts(), weights, self.folder)

    def save(self, folder: str | Path) -> None:
        """Writes the weights in float16, the network's buffers as they are, and the facts."""
        if self.runtime != "torch":
            raise UserError(f"a model of {self.system} cannot be saved: load it with runtime torch")
        folder = Path(folder)
        save_tensors(folder / WEIGHTS, self.network.state_dict(), exact=dict(self.network.named_buffers()))
        with atomic(folder / "system.json") as file:
            text = json.dumps({"system": self.system} | self.facts(), indent=1, ensure_ascii=False)
            file.write_text(text + "\n", encoding="utf-8")

    @property
    def device(self) -> Any:
        """Where the network computes, as `diffusion.sample` takes it: None on graphs."""
        return None if self.runtime == "onnx" else next(self.network.parameters()).device

    def array(self, x: np.ndarray) -> Any:
        """What the network takes."""
        if self.runtime == "onnx":
            return x
        import torch

        return torch.from_numpy(np.ascontiguousarray(x)).to(self.device)

    @property
    def hash(self) -> str | None:
        """Of the weights, if they came from a folder."""
        return None if self.folder is None else digest(self.folder / WEIGHTS)


def restore(kind: type[TorchModel], facts: dict[str, Any], weights: dict[str, Any], folder: Path | None) -> Any:
    """The model that `TorchModel.__reduce__` took apart."""
    model = kind.build(facts)
    model.network.load_state_dict(weights)
    model.network.eval()
    model.folder = folder
    return model


def copy_model(source: Path, target: Path) -> None:
    """The files of a model, each whole or not there."""
    for name in (WEIGHTS, "system.json"):
        with atomic(target / name) as file:
            shutil.copyfile(source / name, file)
