"""Networks as ONNX graphs without weights, which `networks.export` writes: they are put in from the safetensors file
that torch reads, so weights ship once; and no torch is loaded."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterable
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from inkwash.errors import UserError
from inkwash.weights.files import check_weights, load_arrays
from inkwash.weights.shipped import load_json

PACKED = ".gz"  # graphs are mostly names


class Graph:
    """An ONNX graph on the weights that lie beside it, as a function of arrays; it answers with one array or a list.

    Opened when it is first called. Raises UserError, in one line, for a graph or weights that are missing or do not
    fit each other.
    """

    def __init__(self, folder: Path, threads: int | None = None, name: str = "model.onnx.gz") -> None:
        file, self.threads = folder / name, threads or default_threads()
        older = folder / name.removesuffix(PACKED)
        self.file = older if older.is_file() and not file.is_file() else file
        self.weights = next(folder.glob("*.safetensors"), folder / "model.safetensors")
        if not self.file.is_file():
            raise UserError(f"{self.file}: no such file; write it with `inkwash export`, or give --runtime torch")
        check_weights(self.weights)

    @cached_property
    def config(self) -> dict[str, Any]:
        return load_json(self.file.parent / "config.json")

    @cached_property
    def session(self) -> Any:
        import onnxruntime

        data = read_graph(self.file)
        # an autoencoder's file has two halves; a graph is given what it names
        weights = load_arrays(self.weights).items()
        arrays = {name: a for key, a in weights if (name := f"module.{key}").encode() in data}
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.log_severity_level = 3
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in arrays.values()]
        options.add_external_initializers(list(arrays), values)
        try:
            return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own kinds have no common base
            reason = str(error).splitlines()[0]
            raise UserError(
                f"{self.file} does not fit {self.weights} ({reason:.160}): run `inkwash export` again"
            ) from None

    def __call__(self, *arrays: np.ndarray) -> Any:
        names = [node.name for node in self.session.get_inputs()]
        outputs = self.session.run(None, dict(zip(names, arrays, strict=True)))
        return outputs[0] if len(outputs) == 1 else outputs


def read_graph(file: Path) -> bytes:
    """UserError for one that is broken."""
    try:
        return gzip.decompress(file.read_bytes()) if file.suffix == PACKED else file.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{file} is broken ({error}): run `inkwash export` again") from None


def graphs_in(folder: Path) -> list[Path]:
    """Packed, or as older folders have them."""
    return [file for file in folder.glob("*.onnx*") if file.name.endswith((".onnx", f".onnx{PACKED}"))]


def default_threads() -> int:
    """One, since the machine may be shared, unless the environment says otherwise; of a list, as OpenMP takes it, the
    first."""
    text = os.environ.get("OMP_NUM_THREADS") or "1"
    first = text.partition(",")[0].strip()
    if not first.isdecimal() or int(first) == 0:
        raise UserError(f"OMP_NUM_THREADS={text[:60]} in the environment: a whole number from 1 is needed")
    return int(first)


def fastest(folders: Iterable[Path], device: str, precision: str) -> str:
    """The runtime for components that lie there, if none is asked for: onnx where it can, since it is the faster."""
    possible = device == "cpu" and precision == "float32" and find_spec("onnxruntime")
    return "onnx" if possible and all(graphs_in(folder) for folder in folders) else "torch"
