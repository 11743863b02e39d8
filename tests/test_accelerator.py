"""The chip computes as the CPU does, refuses what CUDA refuses and counts what CUDA waits for."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from inkwash.training.fit import fit
from inkwash.training.placement import device_of, place
from inkwash.training.settings import Settings
from tests.accelerator import counting

MIXED = "Expected all tensors to be on the same device"


def on_chip(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to("chip")


def results(module, *inputs):
    """The output and all gradients of a loss, as they come to the host."""
    torch.manual_seed(5)
    inputs = [x.detach().requires_grad_() for x in inputs]
    output = module(*inputs)
    output = output[0] if isinstance(output, tuple) else output
    loss = (output * output.detach().cos()).sum()
    gradients = torch.autograd.grad(loss, [*inputs, *module.parameters()])
    assert all(value.device == inputs[0].device for value in (output, *gradients))
    return [value.detach().cpu() for value in (output, *gradients)]


class Attention(nn.Module):
    def forward(self, q, k, v):
        return functional.scaled_dot_product_attention(q, k, v, is_causal=True)


NETWORKS = {
    "linear": (lambda: nn.Linear(3, 4), [(2, 3)]),
    "convolutions": (
        lambda: nn.Sequential(
            nn.Conv2d(4, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.ConvTranspose2d(8, 4, 2, stride=2)
        ),
        [(2, 4, 6, 6)],
    ),
    "running statistics": (lambda: nn.Sequential(nn.Conv1d(4, 8, 3), nn.BatchNorm1d(8)), [(2, 4, 6)]),
    "resizing": (lambda: nn.Sequential(nn.Upsample(scale_factor=2), nn.AvgPool2d(4), nn.Flatten()), [(2, 4, 6, 6)]),
    "transformer": (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), [(2, 5, 8)]),
    "attention": (Attention, [(2, 3, 5, 4)] * 3),
    "long short-term memory": (lambda: nn.LSTM(3, 4, 2, batch_first=True), [(2, 5, 3)]),
    "gated recurrent": (lambda: nn.GRU(3, 4, 2, batch_first=True, bidirectional=True), [(2, 5, 3)]),
    "dropout": (lambda: nn.Sequential(nn.Dropout(0.3), nn.LayerNorm(8)), [(20, 8)]),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_and_their_gradients_are_those_of_the_cpu(name):
    make, shapes = NETWORKS[name]
    torch.manual_seed(0)
    module = make()
    inputs = [torch.randn(shape) for shape in shapes]
    expected = results(module, *inputs)
    found = results(deepcopy(module).to("chip"), *(x.to("chip") for x in inputs))
    for x, y in zip(found, expected, strict=True):
        torch.testing.assert_close(x, y, atol=1e-5, rtol=1e-5)


def test_embeddings_learn_by_indices():
    table = nn.Embedding(5, 3)
    copied = deepcopy(table).to("chip")
    rows = torch.tensor([[0, 4], [4, 1]])
    table(rows).square().sum().backward()
    copied(rows.to("chip")).square().sum().backward()
    assert torch.equal(copied.weight.grad.cpu(), table.weight.grad)


FACTORIES = {
    "zeros": lambda device: torch.zeros(2, 3, device=device),
    "full": lambda device: torch.full((2,), 3.5, device=device),
    "eye": lambda device: torch.eye(3, device=device),
    "arange": lambda device: torch.arange(2, 9, 3, device=device),
    "linspace": lambda device: torch.linspace(0, 1, 5, device=device),
    "tensor": lambda device: torch.tensor([[1, 2], [3, 4]], device=device),
    "strided": lambda device: torch.arange(6, device=device).as_strided((2, 2), (1, 3)),
    "like": lambda device: torch.ones_like(torch.empty(2, dtype=torch.bfloat16, device=device)),
    "grid": lambda device: torch.stack(
        torch.meshgrid(torch.arange(3, device=device), torch.arange(2, device=device))
    ),
    "complex": lambda device: torch.fft.rfft(torch.arange(6.0, device=device)),
}


@pytest.mark.parametrize("name", FACTORIES)
@pytest.mark.filterwarnings("ignore:.*indexing argument")
def test_factories(name):
    found = FACTORIES[name]("chip")
    assert found.device == torch.device("chip", 0)
    assert torch.equal(found.cpu(), FACTORIES[name]("cpu"))


def test_views_share_memory_and_operations_in_place_change_it():
    x = torch.zeros(2, 3, device="chip")
    row = x[1]
    row.add_(1).mul_(2)
    x.t()[0].fill_(7)
    x[0, 2] = 5
    assert x.tolist() == [[7, 0, 5], [7, 2, 2]]
    assert row.tolist() == [7, 2, 2]
    leaf = torch.ones(3, device="chip", requires_grad=True)
    y = leaf * 1
    y[1:].mul_(3)
    y.sum().backward()
    assert leaf.grad.tolist() == [1, 3, 3]


def test_a_module_moves_there_and_back_and_is_copied():
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    parameters, before = list(module.parameters()), {k: v.clone() for k, v in module.state_dict().items()}
    assert all(p is q for p, q in zip(module.to("chip").parameters(), parameters, strict=True))
    assert {tensor.device.type for tensor in module.state_dict().values()} == {"chip"}
    copied = deepcopy(module)
    with torch.no_grad():
        module[0].weight.zero_()
        module[1].running_mean.add_(1)
    for name, tensor in copied.cpu().state_dict().items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize("fused", [True, False])
def test_adamw(fused):
    torch.manual_seed(0)
    here = nn.Linear(3, 3)
    there = deepcopy(here).to("chip")
    x = torch.randn(4, 3)
    for module, inputs in ((here, x), (there, x.to("chip"))):
        optimizer = torch.optim.AdamW(module.parameters(), lr=0.1, fused=fused, foreach=not fused)
        for _ in range(3):
            module(inputs).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        assert {value.device for value in optimizer.state[module.weight].values() if value.ndim} == {inputs.device}
    torch.testing.assert_close(there.weight.cpu(), here.weight)


def test_autocast_computes_matrices_in_bfloat16_and_losses_in_float32():
    linear, x = nn.Linear(3, 2).to("chip"), on_chip(4, 3)
    exact = linear(x)
    with torch.autocast("chip", torch.bfloat16):
        y = linear(x)
        assert (y.dtype, y.softmax(-1).dtype) == (torch.bfloat16, torch.float32)
        loss = functional.mse_loss(y, torch.zeros(4, 2, device="chip"))
    assert loss.dtype == torch.float32
    loss.backward()
    assert linear.weight.grad.dtype == torch.float32
    torch.testing.assert_close(y.float(), exact, atol=0.02, rtol=0.02)
    assert not torch.equal(y.float(), exact)


DRAWS = {
    "randn": lambda how: torch.randn(5, **how),
    "rand": lambda how: torch.rand(5, dtype=torch.float64, **how),
    "randint": lambda how: torch.randint(100, (5,), **how),
    "randperm": lambda how: torch.randperm(9, **how),
    "normal_": lambda how: torch.empty(5, device=how["device"]).normal_(generator=how["generator"]),
    "bernoulli": lambda how: torch.bernoulli(torch.full((9,), 0.5, device=how["device"]), generator=how["generator"]),
    "multinomial": lambda how: torch.ones(9, device=how["device"]).multinomial(4, generator=how["generator"]),
}


@pytest.mark.parametrize("name", DRAWS)
def test_a_generator_draws_the_numbers_of_the_cpu_on_its_own_device_alone(name):
    def draw(device, generator):
        return DRAWS[name]({"device": device, "generator": generator})

    here, there = torch.Generator().manual_seed(7), torch.Generator("chip").manual_seed(7)
    assert (there.device.type, there.initial_seed()) == ("chip", 7)
    first, second = draw("cpu", here), draw("cpu", here)
    assert torch.equal(draw("chip", there).cpu(), first)
    assert torch.equal(draw("chip", there).cpu(), second)
    with pytest.raises(RuntimeError, match="Expected a 'chip' device type for generator but found 'cpu'"):
        draw("chip", here)
    with pytest.raises(RuntimeError, match="Expected a 'cpu' device type for generator but found 'chip'"):
        draw("cpu", there)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.compile, about itself
def test_what_is_the_cpus_is_as_it_was():
    """For the other tests of this process."""
    generator = torch.Generator().manual_seed(3)
    expected = torch.rand(5, generator=generator)
    assert type(generator) is torch._C.Generator and generator.device.type == "cpu"
    assert isinstance(generator, torch.Generator) and isinstance(torch.default_generator, torch.Generator)
    assert not isinstance(3, torch.Generator)
    assert pickle.loads(pickle.dumps(generator.manual_seed(3))).initial_seed() == 3
    torch._dynamo.reset()
    compiled = torch.compile(lambda generator: torch.rand(5, generator=generator), backend="eager")
    assert torch.equal(compiled(generator), expected)
    state = torch.get_rng_state()
    with torch.random.fork_rng():
        torch.rand(5)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_seed_of_torch_is_the_chips_too():
    torch.manual_seed(3)
    first = torch.rand(4, device="chip")
    torch.manual_seed(3)
    assert torch.equal(torch.rand(4, device="chip"), first)
    assert not torch.equal(torch.rand(4, device="chip"), first)


REFUSED = {
    "add": lambda x, y: x + y,
    "in place": lambda x, y: x.mul_(y),
    "matrix product": lambda x, y: x @ y,
    "cat": lambda x, y: torch.cat([x, y]),
    "where": lambda x, y: torch.where(x > 0, x, y),
    "index_select": lambda x, y: x.index_select(0, torch.tensor([0])),
    "embedding": lambda x, y: functional.embedding(torch.tensor([0]), x),
    "cross entropy": lambda x, y: functional.cross_entropy(x, torch.tensor([0, 1, 2])),
    "scalar in a product": lambda x, y: x.gather(0, torch.tensor(0).view(1, 1)),
    "masked_fill": lambda x, y: x.masked_fill(y > 0, 0.0),
}


@pytest.mark.parametrize("name", REFUSED)
def test_tensors_of_two_devices_do_not_meet(name):
    x, y = on_chip(3, 3), torch.ones(3, 3)
    with pytest.raises(RuntimeError, match=MIXED):
        REFUSED[name](x, y)


def test_other_things_that_cuda_refuses():
    x = on_chip(3, 3)
    with pytest.raises(RuntimeError, match=MIXED):
        torch.ones(3) + x[0, 0]
    with pytest.raises(RuntimeError, match="indices should be either on cpu"):
        torch.ones(3)[torch.arange(2, device="chip")]
    with pytest.raises(TypeError, match="can't convert chip:0 device type tensor to numpy"):
        x.numpy()
    with pytest.raises(TypeError, match="can't convert chip:0 device type tensor to numpy"):
        np.asarray(x)


def test_cpu_tensors_without_dimensions_take_part_in_elementwise_operations():
    x, two = torch.ones(2, device="chip"), torch.tensor(2.0)
    with counting() as counts:
        y = (x * two + two).clamp(max=two).lerp(x, two)
    assert y.tolist() == [0, 0]
    assert (counts.copies, counts.syncs) == (0, 0), counts
    assert torch.where(x > 5, x, two).tolist() == [2, 2]


ROWS = torch.tensor([0, 1])
MASK = torch.tensor([True, False, True])
COUNTED = {  # copies, async_copies, syncs
    "to": (lambda x: ROWS.to("chip"), (1, 0, 0)),
    "cpu": (lambda x: x.cpu(), (1, 0, 0)),
    "to a type": (lambda x: x.to(torch.float64), (0, 0, 0)),
    "to another": (lambda x: ROWS.to(x), (1, 0, 0)),
    "copy_ there": (lambda x: x.copy_(torch.ones(3, 3)), (1, 0, 0)),
    "copy_ back": (lambda x: torch.ones(3, 3).copy_(x), (1, 0, 0)),
    "copy_": (lambda x: x.copy_(x[0]), (0, 0, 0)),
    "tensor": (lambda x: torch.tensor(1.0, device="chip"), (1, 0, 0)),
    "new_tensor": (lambda x: x.new_tensor([1.0]), (1, 0, 0)),
    "as_tensor": (lambda x: torch.as_tensor(np.ones(3), device="chip"), (1, 0, 0)),
    "full": (lambda x: torch.full((), 1.0, device="chip"), (0, 0, 0)),
    "cpu index": (lambda x: x[ROWS], (1, 0, 0)),
    "list index": (lambda x: x[[0, 1]], (1, 0, 0)),
    "array index": (lambda x: x[np.array([0, 1])], (1, 0, 0)),
    "cpu index put": (lambda x: x.index_put_((ROWS,), x[0]), (1, 0, 0)),
    "slice": (lambda x: x[1:, 0], (0, 0, 0)),
    "chip index": (lambda x: x[x.argmax(0)], (0, 0, 0)),
    "number in a row": (lambda x: x.__setitem__(0, 1.0), (0, 0, 0)),
    "cpu number in where": (lambda x: torch.where(x > 0, x, torch.tensor(1.0)), (1, 0, 0)),
    "numbers": (lambda x: (1 + x) * 2 % 3 // 2 > torch.remainder(5, x), (0, 0, 0)),
    "number in where": (lambda x: torch.where(x > 0, x, 1.0), (0, 0, 0)),
    "async": (lambda x: ROWS.pin_memory().to("chip", non_blocking=True), (0, 1, 0)),
    "async back": (lambda x: x.to("cpu", non_blocking=True), (0, 1, 0)),
    "item": (lambda x: x[0, 0].item(), (0, 0, 1)),
    "float": (lambda x: float(x.sum()), (0, 0, 1)),
    "tolist": (lambda x: x.tolist(), (0, 0, 1)),
    "bool": (lambda x: 1 if x.sum() > 0 else 2, (0, 0, 1)),
    "assertion": (lambda x: torch.equal(x, x), (0, 0, 1)),
    "nonzero": (lambda x: x.nonzero(), (0, 0, 1)),
    "mask": (lambda x: x[x > 0], (0, 0, 1)),
    "cpu mask": (lambda x: x[MASK], (1, 0, 0)),
    "number under a mask": (lambda x: x.__setitem__(x > 0, 0.0), (0, 0, 0)),
    "masked_fill": (lambda x: x.masked_fill(x > 0, 0.0), (0, 0, 0)),
    "masked_fill with a tensor": (lambda x: x.masked_fill(x > 0, x.sum()), (0, 0, 1)),
    "masked_select": (lambda x: x.masked_select(x > 0), (0, 0, 1)),
    "unique": (lambda x: x.unique(), (0, 0, 1)),
    "one_hot": (lambda x: functional.one_hot(x.argmax(0)), (0, 0, 1)),
    "one_hot of a size": (lambda x: functional.one_hot(x.argmax(0), 3), (0, 0, 0)),
    "repeat_interleave": (lambda x: x.repeat_interleave(x.argmax(0), 0), (0, 0, 1)),
    "repeat_interleave to a size": (
        lambda x: x.repeat_interleave(torch.ones(3, dtype=torch.int64, device="chip"), 0, output_size=3),
        (0, 0, 0),
    ),
    "synchronize": (lambda x: torch.chip.synchronize(), (0, 0, 1)),
}


@pytest.mark.parametrize("name", COUNTED)
def test_what_is_counted(name):
    do, expected = COUNTED[name]
    x = on_chip(3, 3)
    with counting() as counts:
        do(x)
    assert (counts.copies, counts.async_copies, counts.syncs) == expected, counts
    assert all("at test_accelerator.py:" in line for line in repr(counts).splitlines() if sum(expected))


def test_counts_tell_the_line_of_inkwash():
    with counting() as counts:
        place({"rows": ROWS}, device_of("chip"))
    assert counts.copies == 1
    assert "copy at placement.py:" in repr(counts)


def test_other_threads_compute_there_and_are_counted():
    with ThreadPoolExecutor(2) as pool, counting() as counts:
        sums = list(pool.map(lambda k: (torch.ones(k, device="chip") + 1).sum().item(), range(1, 9)))
    assert sums == [2.0 * k for k in range(1, 9)]
    assert counts.syncs == 8
    assert counting_is_over(counts)


def counting_is_over(counts):
    before = len(counts.places)
    torch.ones(1, device="chip").item()
    return len(counts.places) == before


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_training_there_is_the_training_here(tmp_path, precision):
    """Noise, dropout, buffers, averages and checkpoints."""
    data = torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    trained = {}
    for device in ("cpu", "chip"):
        torch.manual_seed(0)
        layers = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Dropout(0.2), nn.Conv2d(8, 3, 3, padding=1)
        module = nn.Sequential(*layers)

        def loss(x, generator, module=module):
            noise = torch.randn(x.shape, generator=generator, device=x.device)
            return (module(x + noise) - noise).float().square().mean()

        # two starts: the second goes on from a checkpoint
        for steps in (3, 6):
            settings = Settings(steps=steps, learning_rate=1e-2, warmup=2, ema_decay=0.9, device=device)
            settings = Settings(**{**vars(settings), "precision": precision})
            fit(module, loss, lambda k: data, tmp_path / device, settings)
        assert {p.device.type for p in module.parameters()} == {device}
        trained[device] = module.cpu()(data).detach()
    tolerance = 1e-5 if precision == "float32" else 2e-2
    torch.testing.assert_close(trained["chip"], trained["cpu"], atol=tolerance, rtol=tolerance)
