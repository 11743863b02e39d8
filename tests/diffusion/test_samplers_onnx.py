"""The samplers with an ONNX session as the network, where torch cannot be imported."""

import subprocess
import sys

import pytest

CODE = """
import sys

sys.modules["torch"] = None  # whoever imports it fails

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from inkwash import diffusion as d

# tanh(0.3 x + 0.0004 time), the time told to every place
nodes = [
    helper.make_node("Mul", ["x", "gain"], ["scaled"]),
    helper.make_node("Reshape", ["time", "shape"], ["times"]),
    helper.make_node("Mul", ["times", "rate"], ["shift"]),
    helper.make_node("Add", ["scaled", "shift"], ["sum"]),
    helper.make_node("Tanh", ["sum"], ["output"]),
]
constants = [
    helper.make_tensor("gain", TensorProto.FLOAT, [], [0.3]),
    helper.make_tensor("rate", TensorProto.FLOAT, [], [0.0004]),
    helper.make_tensor("shape", TensorProto.INT64, [4], [-1, 1, 1, 1]),
]
inputs = [
    helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, 4, 4]),
    helper.make_tensor_value_info("time", TensorProto.FLOAT, ["n"]),
]
outputs = [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["n", 2, 4, 4])]
graph = helper.make_graph(nodes, "network", inputs, outputs, constants)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

process = d.Gaussian(d.cosine())
grid = d.uniform(process, 8)
onnx_denoiser = d.Denoiser(lambda x, time: session.run(None, {"x": x, "time": time})[0], process, "v")
numpy_denoiser = d.Denoiser(lambda x, time: np.tanh(0.3 * x + 0.0004 * time.reshape(-1, 1, 1, 1)), process, "v")
for sampler in (
    d.ancestral, d.ddim, d.euler, d.euler_ancestral, d.heun, d.dpm2, d.lms, d.deis, d.dpmpp_2s, d.dpmpp_2m,
    d.dpmpp_3m, d.dpmpp_2m_sde, d.unipc, d.predictor_corrector, d.repaint,
):
    made = d.sample(d.dynamic_threshold(onnx_denoiser), (2, 4, 4), sampler, grid, [1, 2])
    assert made.dtype == np.float32, sampler
    expected = d.sample(d.dynamic_threshold(numpy_denoiser), (2, 4, 4), sampler, grid, [1, 2])
    np.testing.assert_allclose(made, expected, atol=1e-4, err_msg=sampler.__name__)

try:
    d.sample(d.classifier(onnx_denoiser, lambda x, t, c: x), (2, 4, 4), d.ddim, d.uniform(process, 2, start=0.9), [1])
except d.DiffusionError as error:
    assert "gradients" in str(error), error
else:
    raise AssertionError("a guide that needs gradients must refuse an ONNX session")
"""


@pytest.mark.slow
def test_every_sampler_runs_on_an_onnx_session_without_torch():
    result = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
