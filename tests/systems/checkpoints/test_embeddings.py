"""Textual inversion out of files as other tools write them, beside diffusers' loader on the same vectors."""

import pytest
import torch
from safetensors.torch import save_file

from inkwash.errors import UserError
from inkwash.systems.checkpoints.conditioning import used_embeddings
from inkwash.systems.checkpoints.embeddings import load_embedding
from inkwash.systems.checkpoints.stable_diffusion import StableDiffusion
from tests.networks.test_stable_diffusion import folders  # noqa: F401
from tests.systems.checkpoints.test_conditioning import encoded
from tests.systems.checkpoints.test_stable_diffusion import both  # noqa: F401

WIDTHS = {"text_encoder": 12, "text_encoder_2": 20}  # of the tiny networks


def vectors(count, width=12, seed=0):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def fresh(both):  # noqa: F811
    """A model of a family without embeddings."""

    def make(family):
        model = both(family)[1]
        return StableDiffusion(model.components, model.noise)

    return make


@pytest.mark.parametrize(
    ("name", "tensors", "word"),
    [
        ("ink.safetensors", {"emb_params": vectors(3)}, "ink"),  # A1111
        ("ink.safetensors", {"<ink-style>": vectors(3)}, "ink"),  # diffusers
        ("learned_embeds.safetensors", {"<ink-style>": vectors(3).half()}, "<ink-style>"),
        ("ink.safetensors", {"<ink-style>": vectors(1)[0]}, "ink"),
    ],
)
def test_each_form_is_read(fresh, tmp_path, name, tensors, word):
    save_file(tensors, tmp_path / name)
    found = load_embedding(tmp_path / name, fresh("sd1").components)
    assert found.name == word
    expected = next(iter(tensors.values())).float().reshape(-1, 12)
    assert (
        torch.equal(found.vectors["text_encoder"], expected) and found.vectors["text_encoder"].dtype == torch.float32
    )


def test_a_word_stands_for_its_vectors_as_in_diffusers(both, fresh, tmp_path):  # noqa: F811
    theirs, model = both("sd1")[0], fresh("sd1")
    save_file({"emb_params": vectors(3)}, tmp_path / "inkstyle.safetensors")
    model.add_embedding(tmp_path / "inkstyle.safetensors")
    save_file({"inkstyle": vectors(3)}, tmp_path / "theirs.safetensors")
    plain = encoded(model, "a red fox").context
    theirs.load_textual_inversion(str(tmp_path / "theirs.safetensors"))
    try:
        expected, _ = theirs.encode_prompt("a fox in inkstyle", "cpu", 1, False)
    finally:
        theirs.unload_textual_inversion()
    torch.testing.assert_close(encoded(model, "a fox in inkstyle").context, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(encoded(model, "a red fox").context, plain)  # nothing of it stays


def test_sdxl_has_vectors_for_both_encoders(fresh, tmp_path):
    model = fresh("sdxl")
    one, other = vectors(2), vectors(2, 20)
    save_file({"clip_l": one, "clip_g": other}, tmp_path / "ink.safetensors")
    model.add_embedding(tmp_path / "ink.safetensors")
    found = encoded(model, "the ink").context[0]
    start = 1 + len(model.components["tokenizer"].encode("the"))
    for name, rows in (("text_encoder", one), ("text_encoder_2", other)):
        encoder, tokenizer = model.components[name], model.components[name.replace("text_encoder", "tokenizer")]
        embeddings = encoder.text_model.embeddings
        ids = torch.from_numpy(tokenizer.tokenize(["the"]))
        ids = torch.cat([ids[:, :start], torch.zeros(1, 2, dtype=ids.dtype), ids[:, start:-2]], 1)
        x = embeddings.token_embedding(ids)
        x[0, start : start + 2] = rows
        x = x + embeddings.position_embedding.weight
        for layer in list(encoder.text_model.encoder["layers"])[:-1]:
            x = layer(x)
        part = found[:, :12] if name == "text_encoder" else found[:, 12:]
        torch.testing.assert_close(part, x[0], rtol=1e-4, atol=1e-5)


def test_how_a_word_is_called(fresh, tmp_path):
    model = fresh("sd1")
    for name, count in (("ink", 2), ("ink wash", 3), ("long", 70)):
        save_file({"emb_params": vectors(count, seed=count)}, tmp_path / f"{name}.safetensors")
        model.add_embedding(tmp_path / f"{name}.safetensors")
    used = lambda prompt, weighting="a1111": [*used_embeddings(model, [prompt], weighting, 10)]  # noqa: E731
    assert used("an Ink Wash of (ink:1.2)") == ["ink", "ink wash"]  # of two the longer; case does not count
    assert used("inks and [the:long:0.9]") == ["long"] and used("a fox") == []
    assert used("ink, (embedding:ink.safetensors:1.2), embedding:Long, b", "comfyui") == ["ink", "long"]
    with pytest.raises(UserError, match="unknown embedding 'inc': did you mean ink"):
        used("an embedding:inc", "comfyui")
    assert encoded(model, "the cats the cats long").context.shape[1] == 77
    assert encoded(model, "the cats " * 10 + "long").context.shape[1] == 154  # its vectors are not parted
    weights = [encoded(model, text).context for text in ("the ink", "the (ink:1.5)", "the")]
    assert not any(torch.equal(weights[i], weights[k]) for i, k in ((0, 1), (0, 2), (1, 2)))


@pytest.mark.parametrize(
    ("name", "tensors", "message"),
    [
        (
            "a.safetensors",
            {"emb_params": vectors(2, 768)},
            r"for SD 1 \(width 768\); this checkpoint is another family",
        ),
        ("a.safetensors", {"emb_params": vectors(2, 1024)}, r"for SD 2 \(width 1024\)"),
        (
            "a.safetensors",
            {"clip_l": vectors(2, 768), "clip_g": vectors(2, 1280)},
            r"for SDXL \(width 768 and 1280\)",
        ),
        ("a.safetensors", {"clip_l": vectors(2), "clip_g": vectors(3, 20)}, "its shapes are"),
        ("a.safetensors", {"emb_params": vectors(76)}, "not 1 to 75 vectors"),
        ("a.safetensors", {"emb_params": vectors(4).view(2, 2, 12)}, "its shapes are"),
        ("a.safetensors", {"emb_params": vectors(2) / 0}, "not finite"),
        ("a.safetensors", {"emb_params": torch.ones(2, 12, dtype=torch.int32)}, "whole numbers are no vectors"),
        ("a.safetensors", {"lora_a": vectors(2), "lora_b": vectors(2)}, "no embedding of a word"),
        ("a.pt", {"emb_params": vectors(2)}, "a pickle, which can run code, is not opened"),
    ],
)
def test_what_is_no_embedding_of_this_checkpoint(fresh, tmp_path, name, tensors, message):
    save_file(tensors, tmp_path / name)
    with pytest.raises(UserError, match=message):
        load_embedding(tmp_path / name, fresh("sd1").components)
