"""Each kind's arithmetic on a matrix of 4 x 6 by hand, and beside LyCORIS' own functions."""

import numpy as np
import pytest
import torch

from inkwash.networks.weight_changes import Change, kind_of, rank_of

W = np.arange(24.0).reshape(4, 6) / 10 - 1
SCALE = 1.5  # alpha 3 of rank 2


def change(kind, weight=W, scale=SCALE, norm="changed", **parts):
    own = {name: torch.tensor(part, dtype=torch.float32) for name, part in parts.items()}
    found = Change(kind, own, scale).delta("weight", torch.tensor(weight, dtype=torch.float32), norm)
    return found.numpy()


def numbers(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def test_lora_is_b_a_times_alpha_by_rank():
    down = [[1, 0, 2, 0, 0, 1], [0, 1, 0, -1, 3, 0]]
    up = [[1, 0], [0, 2], [1, 1], [-1, 0]]
    expected = [
        [1.5, 0, 3, 0, 0, 1.5],
        [0, 3, 0, -3, 9, 0],
        [1.5, 1.5, 3, -1.5, 4.5, 1.5],
        [-1.5, 0, -3, 0, 0, -1.5],
    ]
    np.testing.assert_array_equal(change("LoRA", down=down, up=up), expected)
    kernels = {"down": np.array(down)[..., None, None], "up": np.array(up)[..., None, None]}
    np.testing.assert_array_equal(change("LoRA", **kernels), expected)  # written as of a convolution
    assert change("LoRA", W[..., None, None], down=down, up=up).shape == (4, 6, 1, 1)


def test_locon_goes_through_the_rank_at_each_place_of_the_kernel():
    up, down, mid = numbers(4, 2, 1, 1), numbers(2, 6, 3, 2), numbers(2, 2, 3, 2)
    kernel = np.zeros((4, 6, 3, 2))
    expected = np.zeros_like(kernel)
    for o, i, h, w in np.ndindex(kernel.shape):
        expected[o, i, h, w] = SCALE * sum(up[o, r, 0, 0] * down[r, i, h, w] for r in range(2))
    np.testing.assert_allclose(change("LoRA", kernel, up=up, down=down), expected, atol=1e-5)
    flat = down[:, :, :1, :1]
    for o, i, h, w in np.ndindex(kernel.shape):
        pairs = [(p, q) for p in range(2) for q in range(2)]
        expected[o, i, h, w] = SCALE * sum(up[o, p, 0, 0] * mid[p, q, h, w] * flat[q, i, 0, 0] for p, q in pairs)
    np.testing.assert_allclose(change("LoRA", kernel, up=up, down=flat, mid=mid), expected, atol=1e-5)


def test_loha_is_a_product_of_products_place_by_place():
    a, b, c, d = numbers(4, 2), numbers(2, 6), numbers(4, 2, seed=1), numbers(2, 6, seed=1)
    parts = {"hada_w1_a": a, "hada_w1_b": b, "hada_w2_a": c, "hada_w2_b": d}
    np.testing.assert_allclose(change("LoHa", **parts), SCALE * (a @ b) * (c @ d), atol=1e-5)
    kernel = np.zeros((4, 3, 2, 1))  # its kernels lie in a row
    np.testing.assert_allclose(change("LoHa", kernel, **parts).reshape(4, 6), SCALE * (a @ b) * (c @ d), atol=1e-5)


def test_loha_with_cores():
    cores = [numbers(2, 2, 3, 1, seed=n) for n in (1, 2)]
    a, b = ([numbers(2, size, seed=n) for n in (1, 2)] for size in (4, 6))
    expected = np.zeros((4, 6, 3, 1))
    for o, i, h, w in np.ndindex(expected.shape):
        halves = [a[n][:, o] @ cores[n][:, :, h, w] @ b[n][:, i] for n in (0, 1)]
        expected[o, i, h, w] = SCALE * halves[0] * halves[1]
    parts = {f"hada_w{n}_{name}": x[n - 1] for n in (1, 2) for name, x in (("a", a), ("b", b))}
    found = change("LoHa", expected, **parts, hada_t1=cores[0], hada_t2=cores[1])
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("first", ["whole", "factored"])
@pytest.mark.parametrize("second", ["whole", "factored"])
def test_lokr_is_a_kronecker_product(first, second):
    w1_a, w1_b, w2_a, w2_b = numbers(2, 1), numbers(1, 2), numbers(2, 1, seed=1), numbers(1, 3)
    w1, w2 = w1_a @ w1_b, w2_a @ w2_b
    expected = np.block([[SCALE * w1[i, k] * w2 for k in range(2)] for i in range(2)])
    parts = {"lokr_w1": w1} if first == "whole" else {"lokr_w1_a": w1_a, "lokr_w1_b": w1_b}
    parts |= {"lokr_w2": w2} if second == "whole" else {"lokr_w2_a": w2_a, "lokr_w2_b": w2_b}
    np.testing.assert_allclose(change("LoKr", **parts), expected, atol=1e-5)
    both = (first, second) == ("whole", "whole")
    assert rank_of("LoKr", {name: torch.tensor(part) for name, part in parts.items()}) == (None if both else 1)


def test_lokr_of_kernels():
    w1, w2_a, w2_b = numbers(2, 2), numbers(2, 1), numbers(1, 3, 3, 2)
    core, a, b = numbers(2, 2, 3, 2), numbers(2, 2), numbers(2, 3)
    wide, small = np.einsum("or,rihw->oihw", w2_a, w2_b), np.einsum("pqhw,po,qi->oihw", core, a, b)
    for w2, parts in (
        (wide, {"lokr_w2": wide}),
        (wide, {"lokr_w2_a": w2_a, "lokr_w2_b": w2_b}),
        (wide, {"lokr_w2_a": w2_a, "lokr_w2_b": w2_b.reshape(1, -1)}),
        (small, {"lokr_t2": core, "lokr_w2_a": a, "lokr_w2_b": b}),
    ):
        expected = np.zeros((4, 6, 3, 2))
        for o, i in np.ndindex(4, 6):
            expected[o, i] = SCALE * w1[o // 2, i // 3] * w2[o % 2, i % 3]
        np.testing.assert_allclose(change("LoKr", expected, lokr_w1=w1, **parts), expected, atol=1e-5)


def test_dora_by_output_and_by_input_with_both_norms():
    down, up = numbers(2, 6), numbers(4, 2)
    total = W + SCALE * up @ down
    by_output, by_input = np.array([1.0, 2, 3, 4])[:, None], np.arange(1.0, 7)[None]
    lengths = np.sqrt((total**2).sum(1, keepdims=True)), np.sqrt((total**2).sum(0, keepdims=True))
    parts = {"down": down, "up": up}
    for magnitude in ({"dora_scale": by_output}, {"lora_magnitude_vector": by_output[:, 0]}):
        expected = by_output * total / lengths[0] - W
        np.testing.assert_allclose(change("LoRA", **parts, **magnitude), expected, atol=1e-5)
        expected = by_output * total / np.sqrt((W**2).sum(1, keepdims=True)) - W
        np.testing.assert_allclose(change("LoRA", norm="original", **parts, **magnitude), expected, atol=1e-5)
    for norm in ("changed", "original"):  # ComfyUI has one norm for these
        found = change("LoRA", norm=norm, **parts, dora_scale=by_input)
        np.testing.assert_allclose(found, by_input * total / lengths[1] - W, atol=1e-5)


def test_dora_of_kernels_as_peft_writes_it():
    down, up, kernel, m = numbers(2, 6, 3, 3), numbers(4, 2, 1, 1), numbers(4, 6, 3, 3), np.arange(1.0, 5)
    total = kernel + SCALE * np.einsum("or,rihw->oihw", up[..., 0, 0], down)
    expected = (m / np.sqrt((total**2).sum((1, 2, 3))))[:, None, None, None] * total - kernel
    found = change("LoRA", kernel, down=down, up=up, lora_magnitude_vector=m.reshape(1, 4, 1, 1))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_magnitude_that_a_weight_has_changes_nothing():
    none = {"down": np.zeros((1, 6)), "up": np.zeros((4, 1))}
    own = np.sqrt((W**2).sum(1, keepdims=True))
    np.testing.assert_allclose(change("LoRA", **none, dora_scale=own), 0, atol=1e-6)
    empty = change("LoRA", np.zeros((4, 6)), **none, dora_scale=own)  # no direction to stretch
    np.testing.assert_array_equal(empty, np.zeros((4, 6)))


def test_differences_are_taken_as_they_are():
    np.testing.assert_allclose(change("difference", scale=1.0, diff=W / 2), W / 2)
    bias = Change("", {"diff_b": torch.ones(4)}, 1.0)
    assert bias.delta("weight", torch.zeros(4, 6)) is None
    assert torch.equal(bias.delta("bias", torch.zeros(4)), torch.ones(4))


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        ({"down", "up", "alpha"}, "LoRA"),
        ({"diff_b"}, ""),
        ({"diff", "diff_b"}, "difference"),
        ({"alpha"}, None),
        ({"alpha", "diff_b"}, None),
        ({"down", "up", "diff"}, None),
        ({"hada_w1_a", "lokr_w1"}, None),
        ({"dora_scale"}, None),
    ],
)
def test_parts_are_of_one_kind_or_of_none(names, kind):
    assert kind_of(names) == kind


def lycoris(name):
    pytest.importorskip("lycoris")
    return pytest.importorskip(f"lycoris.functional.{name}")


@pytest.mark.parametrize("core", [False, True])
def test_loha_is_that_of_lycoris(core):
    theirs = lycoris("loha")
    weight = torch.randn(4, 6, 3, 3) if core else torch.randn(4, 6)
    w1d, w1u, w2d, w2u, t1, t2 = parts = [
        None if part is None else torch.randn_like(part) for part in theirs.weight_gen(weight, 2, tucker=core)
    ]
    names = {"hada_w1_a": w1u, "hada_w1_b": w1d, "hada_w2_a": w2u, "hada_w2_b": w2d, "hada_t1": t1, "hada_t2": t2}
    own = {name: part for name, part in names.items() if part is not None}
    expected = theirs.diff_weight(*parts, gamma=SCALE, backend="torch")
    torch.testing.assert_close(Change("LoHa", own, SCALE).delta("weight", weight), expected)


@pytest.mark.parametrize("options", [{}, {"decompose_both": True}, {"tucker": False}, {"full_matrix": True}])
@pytest.mark.parametrize("shape", [(16, 24), (16, 24, 3, 3)])
def test_lokr_is_that_of_lycoris(shape, options):
    theirs = lycoris("lokr")
    weight = torch.randn(shape)
    options = options | {"tucker": options.get("tucker", True) and len(shape) > 2}
    parts = [
        None if part is None else torch.randn_like(part) for part in theirs.weight_gen(weight, 1, factor=4, **options)
    ]
    keys = ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2")
    own = {name: part for name, part in zip(keys, parts, strict=True) if part is not None}
    expected = theirs.kron_weight(*parts, scale=SCALE, backend="torch").reshape(shape)
    torch.testing.assert_close(Change("LoKr", own, SCALE).delta("weight", weight), expected)


@pytest.mark.parametrize("core", [False, True])
def test_locon_is_that_of_lycoris(core):
    theirs, weight, up = lycoris("locon"), torch.randn(4, 6, 3, 3), torch.randn(4, 2, 1, 1)
    down, mid = (torch.randn(2, 6, 1, 1), torch.randn(2, 2, 3, 3)) if core else (torch.randn(2, 6, 3, 3), None)
    own = {"down": down, "up": up} | ({"mid": mid} if core else {})
    expected = theirs.diff_weight(down, up, mid, gamma=SCALE, backend="torch")
    torch.testing.assert_close(Change("LoRA", own, SCALE).delta("weight", weight), expected)


@pytest.mark.parametrize("by_output", [True, False])
@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 3, 3)])
def test_dora_is_that_of_lycoris(shape, by_output):
    theirs = lycoris("general")
    weight, delta = torch.randn(shape), torch.randn(shape)
    magnitude = torch.rand([size if axis == (not by_output) else 1 for axis, size in enumerate(shape)])
    expected = theirs.weight_decompose(weight + delta, magnitude, 1, by_output, backend="torch") - weight
    found = Change("difference", {"diff": delta, "dora_scale": magnitude}, 1.0).delta("weight", weight)
    torch.testing.assert_close(found, expected)
