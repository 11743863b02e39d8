"""An accelerator for tests: a device "chip" that computes really, on the CPU, and is as strict as CUDA.

A tensor of the chip is one of torch's own (of PrivateUse1, the device left free for other makers), and its memory
is the host's: a kernel of the chip is the CPU's kernel of the same name, on CPU tensors over the same memory (DLPack
exchanges them). As on CUDA, tensors of two devices do not meet in an operation, nor a generator and a tensor; and
`counting()` counts what makes a host wait for its device. There is nothing to enter: it works in every thread.
Import it at the top of a test's file: autograd asks once, at the first backward pass, which devices there are.
"""

import ctypes
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._decomp.decompositions import gru_impl, lstm_impl
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

import inkwash

CPU = torch.device("cpu")
INKWASH, TORCH = (str(Path(package.__file__).parent) for package in (inkwash, torch))
DLPACK_CPU, DLPACK_CHIP, DLPACK_DEVICE = 1, 12, 8  # kDLCPU, kDLExtDev, and where a DLManagedTensor names its device
aten, KEY = torch.ops.aten, torch._C.DispatchKey


# --- what is counted


class Counts:
    """What the host and the chip had to do with each other, each with the line of inkwash (or of the test).

    copies        between the two, for which the host waits: .to, .cpu(), torch.tensor(device=), a CPU index...
    async_copies  those with non_blocking=True: the host goes on (with pinned memory, which is not asked for here)
    syncs         other waits of the host: .item(), .tolist(), bool(), boolean-mask indexing, nonzero...
    """

    def __init__(self) -> None:
        self.places: list[tuple[str, str]] = []

    def count(self, kind: str) -> int:
        return sum(kind == noted for noted, _ in self.places)

    copies = property(lambda self: self.count("copy"))
    async_copies = property(lambda self: self.count("async copy"))
    syncs = property(lambda self: self.count("sync"))

    def __repr__(self) -> str:
        return "\n".join(f"{kind} at {place}" for kind, place in self.places) or "no copies, no syncs"


counted: list[Counts] = []


@contextmanager
def counting() -> Iterator[Counts]:
    """Counts in all threads, for as long as the block lasts."""
    counts = Counts()
    counted.append(counts)
    try:
        yield counts
    finally:
        counted.remove(counts)


def note(kind: str) -> None:
    if counted:
        place = caller()
        for counts in counted:
            counts.places.append((kind, place))


def caller() -> str:
    """file:line of the innermost frame in inkwash, else of the innermost outside of torch and this file."""
    frame, found = sys._getframe(1), ""
    while frame:
        file = frame.f_code.co_filename
        place = f"{Path(file).name}:{frame.f_lineno}"
        if file.startswith(INKWASH):
            return place
        if not found and not file.startswith((TORCH, __file__)):
            found = place
        frame = frame.f_back
    return found or "a backward pass"


# --- tensors and generators


pointer = ctypes.pythonapi.PyCapsule_GetPointer
pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]


def on(device: int, tensor: Tensor) -> Tensor:
    """A tensor of the other device in the same memory."""
    if tensor.is_conj() or tensor.is_neg():
        raise NotImplementedError("the chip has no lazy conjugates: call resolve_conj before it gets there")
    capsule = torch._C._to_dlpack(tensor)
    ctypes.c_int32.from_address(pointer(capsule, b"dltensor") + DLPACK_DEVICE).value = device
    return torch._C._from_dlpack(capsule)


def on_host(tensor: Tensor) -> Tensor:
    """One that is empty may grow (out=), which memory of another's cannot."""
    return on(DLPACK_CPU, tensor) if tensor.numel() else torch.empty(tensor.shape, dtype=tensor.dtype)


def is_chip(value: Any) -> bool:
    return isinstance(value, Tensor) and value.device.type == "chip"


class Generators(type(torch._C.Generator)):
    """That of the class Generator, of which all generators of torch's own class are instances, as before."""

    def __instancecheck__(cls, value: Any) -> bool:
        return isinstance(value, torch._C.Generator)


class Generator(torch._C.Generator, metaclass=Generators):
    """torch.Generator, which may be of the chip: it then draws what one of the CPU with its seed draws."""

    def __new__(cls, device: Any = "cpu") -> Any:
        if torch.device(device).type != "chip":
            return torch._C.Generator(device)
        generator = super().__new__(cls, CPU)  # what a kernel gets is another Python object of the same generator
        generators.add(generator._cdata)
        weakref.finalize(generator, generators.discard, generator._cdata)
        return generator

    device = property(lambda self: CHIP)


generators: set[int] = set()  # of the chip
inside = threading.local()  # inside.kernel: this thread computes for the chip, whose generators the CPU then takes


def check_generators(values: Iterable[Any], device: str) -> None:
    for value in values:
        if isinstance(value, torch._C.Generator):
            found = "chip" if value._cdata in generators else "cpu"
            if found != device:
                raise RuntimeError(f"Expected a '{device}' device type for generator but found '{found}'")


# --- kernels

# Operations for whose result the host waits, since its shape or its value is asked for.
SYNCS = {
    "_local_scalar_dense", "nonzero", "masked_select", "_unique", "_unique2", "unique_dim", "unique_consecutive",
    "unique_dim_consecutive", "equal", "bincount",
}  # fmt: skip
# Not elementwise by torch's own tag, but CPU tensors without dimensions may take part all the same.
SCALARS = {"fill_", "fill", "masked_fill_", "masked_fill", "linspace", "logspace"}
INDEXING = {"index", "_unsafe_index", "_index_put_impl_"}


def waits(name: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    if name in INDEXING:
        masks = any(is_chip(index) and index.dtype in (torch.bool, torch.uint8) for index in args[1])
        # x[mask] = number is done by masked_fill
        return masks and not (name == "_index_put_impl_" and args[2].numel() == 1 and not (*args, False)[3])
    if name in ("masked_fill", "masked_fill_"):
        return is_chip(args[2])  # CUDA reads the value
    if func is aten.repeat_interleave.Tensor:
        return kwargs.get("output_size") is None
    return name in SYNCS


def check_devices(name: str, func: Any, args: tuple[Any, ...], tensors: list[Tensor]) -> None:
    """What CUDA says of tensors that lie elsewhere."""
    strangers = [tensor for tensor in tensors if not is_chip(tensor)]
    if name in INDEXING and is_chip(args[0]):
        indices = [tensor for tensor in args[1] if tensor is not None and not is_chip(tensor)]
        strangers = [tensor for tensor in strangers if not any(tensor is index for index in indices)]
        moved = indices + [tensor for tensor in strangers if not tensor.ndim]
        for _ in moved:
            note("copy")  # CUDA moves them
        strangers = [tensor for tensor in strangers if tensor.ndim]
    elif name in INDEXING and strangers and strangers[0] is args[0]:
        raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
    elif torch.Tag.pointwise in func.tags or name in SCALARS:
        for _ in strangers if name == "where" else ():
            note("copy")
        strangers = [tensor for tensor in strangers if tensor.ndim]
    if strangers:
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, chip:0 and cpu! "
            f"(aten::{name})"
        )


def on_chip(func: Any) -> Callable[..., Any]:
    """The kernel of the chip: the CPU's, on the same memory."""
    name = func.overloadpacket.__name__
    tensor_arguments = [i for i, argument in enumerate(func._schema.arguments) if str(argument.type) == "Tensor"]

    def kernel(*args: Any, **kwargs: Any) -> Any:
        leaves = tree_leaves((args, kwargs))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        check_devices(name, func, args, tensors)
        check_generators(leaves, "chip")
        if waits(name, func, args, kwargs):
            note("sync")
        known: dict[int, tuple[Tensor, Tensor]] = {}

        def lower(value: Any) -> Any:
            if is_chip(value):
                lowered = on_host(value)
                known[id(lowered)] = lowered, value
                return lowered
            return CPU if isinstance(value, torch.device) else value

        def lift(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            if id(value) in known:  # in place, or out=
                lowered, original = known[id(value)]
                if lowered.shape != original.shape:  # out=, which was empty
                    original.data = on(DLPACK_CHIP, lowered)
                return original
            return on(DLPACK_CHIP, value)

        # a number in the place of a tensor, as x + 1 has it: another overload of the same name takes it
        plain = all(isinstance(args[i], Tensor) for i in tensor_arguments if i < len(args))
        overload = func if plain else func.overloadpacket
        outside, inside.kernel = not getattr(inside, "kernel", False), True
        try:
            result = overload(*tree_map(lower, args), **tree_map(lower, kwargs))
        finally:
            inside.kernel = not outside
        return tree_map(lift, result)

    return kernel


def copy(target: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    """copy_ where one of the two, or both, lie on the chip."""
    if is_chip(target) != is_chip(source) and source.numel():
        note("async copy" if non_blocking else "copy")
    lowered = (on_host(tensor) if is_chip(tensor) else tensor for tensor in (target, source))
    aten.copy_(*lowered)
    return target


def to_copy(run: Callable[..., Any]) -> Callable[..., Any]:
    """`run` pins the memory of a copy to the host for which it need not wait: here there is none to pin."""

    def kernel(
        tensor: Tensor, *, dtype: Any = None, device: Any = None, non_blocking: bool = False, **rest: Any
    ) -> Any:
        if device != CPU or not non_blocking:
            return run(tensor, dtype=dtype, device=device, non_blocking=non_blocking, **rest)
        note("async copy")
        return on(DLPACK_CPU, tensor).to(dtype or tensor.dtype, copy=True)

    return kernel


def resize(tensor: Tensor, size: list[int], *, memory_format: Any = None) -> Tensor:
    if tensor.shape != torch.Size(size):
        if tensor.numel():
            raise NotImplementedError("aten::resize_ of what is not empty: the chip cannot")
        tensor.data = torch.empty(size, dtype=tensor.dtype, device=CHIP, memory_format=memory_format)
    return tensor


def on_cpu(run: Callable[..., Any]) -> Callable[..., Any]:
    """The CPU's own kernel, `run`, but for generators of the chip."""

    def kernel(*args: Any, **kwargs: Any) -> Any:
        if not getattr(inside, "kernel", False):
            check_generators((*args, *kwargs.values()), "cpu")
        return run(*args, **kwargs)

    frames = torch._C._dynamo.eval_frame  # torch.compile, of others, has nothing to look for in it
    skip = frames._FrameExecStrategy(frames._FrameAction.SKIP, frames._FrameAction.SKIP)
    frames.set_code_exec_strategy(kernel.__code__, skip)
    return kernel


def autocast(func: Any, dtype: Callable[[], torch.dtype]) -> Callable[..., Any]:
    """The operation with its float tensors in another type, as CUDA's autocast has it."""

    def kernel(*args: Any, **kwargs: Any) -> Any:
        def cast(value: Any) -> Any:
            return value.to(dtype()) if is_chip(value) and value.is_floating_point() else value

        with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(KEY.AutocastPrivateUse1)):
            return func(*tree_map(cast, args), **tree_map(cast, kwargs))

    return kernel


# The operations that CUDA's autocast computes in fewer bits, and in float32 (those a network here may meet).
FEWER_BITS = """
    _convolution conv1d conv2d conv3d conv_tbc conv_transpose1d conv_transpose2d.input conv_transpose3d.input
    convolution prelu addmm addmv addr matmul einsum mm mv linear addbmm baddbmm bmm chain_matmul linalg_multi_dot
    gru_cell lstm_cell rnn_tanh_cell rnn_relu_cell _thnn_fused_lstm_cell _thnn_fused_gru_cell
    scaled_dot_product_attention
"""
FLOAT32 = """
    acos asin cosh erfinv exp expm1 log log10 log2 log1p reciprocal rsqrt sinh tan pow.Tensor_Scalar
    pow.Tensor_Tensor pow.Scalar softplus layer_norm native_layer_norm group_norm cosine_similarity
    poisson_nll_loss cosine_embedding_loss nll_loss nll_loss2d hinge_embedding_loss kl_div l1_loss smooth_l1_loss
    huber_loss mse_loss margin_ranking_loss multilabel_margin_loss soft_margin_loss triplet_margin_loss
    binary_cross_entropy_with_logits dist pdist cdist renorm logsumexp softmax.int log_softmax.int prod cumprod
    cumsum sum sum.dim_IntList norm.Scalar norm.ScalarOpt_dim cross_entropy_loss
"""


# --- the device


class Chip(_DummyBackendModule):
    """torch.chip"""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16]

    def manual_seed_all(self, seed: int) -> None:
        """Nothing to do: without a generator the chip draws from the CPU's stream, to agree with it."""

    def get_rng_state(self, device: Any = None) -> Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: Tensor, device: Any = None) -> None:
        torch.set_rng_state(state)

    def synchronize(self, device: Any = None) -> None:
        note("sync")


def operation(name: str) -> Any:
    packet, _, overload = name.removeprefix("aten::").partition(".")
    return getattr(getattr(aten, packet), overload or "default")


def install() -> tuple[torch.library.Library, ...]:
    _setup_privateuseone_for_python_backend("chip", backend_module=Chip())
    library, others = torch.library.Library("aten", "IMPL"), torch.library.Library("_", "IMPL")
    others.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")

    def put(name: str, kernel: Callable[..., Any], key: str = "PrivateUse1") -> None:
        library.impl(name.removeprefix("aten::"), kernel, key)

    def inner(name: str, key: str) -> Callable[..., Any]:
        return partial(torch.library.get_kernel(name, key).call_boxed, torch._C.DispatchKeySet(getattr(KEY, key)))

    special = {"copy_": copy, "resize_": resize, "_to_copy": to_copy(inner("aten::_to_copy", "PrivateUse1"))}
    special |= {name: on_chip(operation(name)) for name in ("convolution", "convolution_backward")}
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    for name in torch._C._dispatch_get_all_op_names():
        if not name.startswith("aten::") or not has(name, "CPU") or name.removeprefix("aten::") in special:
            continue
        func = operation(name)
        put(name, inner(name, "CPU") if func.is_view else on_chip(func))  # a view asks for no memory
        if any(str(argument.type) == "Optional[Generator]" for argument in func._schema.arguments):
            put(name, on_cpu(inner(name, "CPU")), "CPU")
    for name, kernel in special.items():
        put(name, kernel)
    # Those in C++ would call kernels that only CUDA has.
    put("lstm.input", lstm_impl, "AutogradPrivateUse1")
    put("gru.input", gru_impl, "AutogradPrivateUse1")
    for name in FEWER_BITS.split():
        put(name, autocast(operation(name), lambda: torch.get_autocast_dtype("chip")), "AutocastPrivateUse1")
    for name in FLOAT32.split():
        put(name, autocast(operation(name), lambda: torch.float32), "AutocastPrivateUse1")
    # There is no memory to pin, and nothing is gained by it.
    put("_pin_memory", lambda tensor, device=None: tensor.clone(), "CPU")
    return library, others


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # kernels of the CPU that draw are registered a second time
    LIBRARIES = install()
CHIP = torch.device("chip", 0)
torch.Generator = Generator
inner_apply, inner_deepcopy, inner_tolist = nn.Module._apply, Tensor.__deepcopy__, Tensor.tolist


def apply(module: nn.Module, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """As with CUDA, and other than with most devices, a module's parameters stay the same objects when it moves."""
    with torch.no_grad():
        moves = any(is_chip(fn(torch.empty(0, device=p.device))) != is_chip(p) for p in module.parameters())
    if not moves:
        return inner_apply(module, fn, recurse)
    before = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        return inner_apply(module, fn, recurse)
    finally:
        torch.__future__.set_swap_module_params_on_conversion(before)


def deepcopy(tensor: Tensor, memo: dict[int, Any]) -> Tensor:
    """Storages of the chip cannot be copied; tensors can."""
    if not is_chip(tensor) or isinstance(tensor, nn.Parameter):
        return inner_deepcopy(tensor, memo)
    return memo.setdefault(id(tensor), tensor.detach().clone().requires_grad_(tensor.requires_grad))


def tolist(tensor: Tensor) -> Any:
    """A wait like .item(), whatever copies it takes."""
    if not is_chip(tensor):
        return inner_tolist(tensor)
    note("sync")
    return inner_tolist(on(DLPACK_CPU, tensor.detach()))


nn.Module._apply, Tensor.__deepcopy__, Tensor.tolist = apply, deepcopy, tolist
