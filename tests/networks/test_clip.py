"""CLIP's text encoder against transformers' on the same weights."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from inkwash.errors import UserError
from inkwash.networks.clip import CLIPTextEncoder, load_clip, save_clip

WEIGHTS = "model.safetensors"
END = 59
SMALL = {
    "vocab_size": 60,
    "hidden_size": 24,
    "intermediate_size": 40,
    "projection_dim": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 3,
    "bos_token_id": 58,
    "eos_token_id": END,
}
# as SD 1's and SDXL's first, as SD 2's, as SDXL's second, and as written since eos_token_id is right
KINDS = {
    "CLIP-L": ("CLIPTextModel", {"hidden_act": "quick_gelu", "eos_token_id": 2}),
    "OpenCLIP-H": ("CLIPTextModel", {"hidden_act": "gelu", "eos_token_id": 2}),
    "OpenCLIP-bigG": ("CLIPTextModelWithProjection", {"hidden_act": "gelu", "eos_token_id": 2}),
    "right eos": ("CLIPTextModelWithProjection", {"layer_norm_eps": 1e-3}),
}


def tokens() -> torch.Tensor:
    """Texts that end at 6, at 76, and twice, as where the end fills what follows; one has a token of the number 2."""
    ids = torch.randint(3, 58, (3, 77), generator=torch.Generator().manual_seed(1))
    ids[:, 0], ids[0, 3] = 58, 2
    ids[0, 6], ids[0, 7:], ids[1, 76], ids[2, 9:] = END, 0, END, END
    return ids


def theirs_of(name: str):
    transformers = pytest.importorskip("transformers")
    kind, changes = KINDS[name]
    torch.manual_seed(0)
    theirs = getattr(transformers, kind)(transformers.CLIPTextConfig(**SMALL | changes)).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return theirs


@pytest.mark.parametrize("name", KINDS)
@torch.no_grad()
def test_equals_transformers_and_each_opens_what_the_other_saves(name, tmp_path):
    theirs = theirs_of(name)
    theirs.save_pretrained(tmp_path / "theirs")
    ours, ids = load_clip(tmp_path / "theirs"), tokens()
    expected = theirs(ids, output_hidden_states=True)
    found = ours(ids)
    torch.testing.assert_close(found.states, expected.last_hidden_state, rtol=0, atol=1e-5)
    if "Projection" in KINDS[name][0]:
        torch.testing.assert_close(found.text_embeds, expected.text_embeds, rtol=0, atol=1e-5)
    else:
        torch.testing.assert_close(found.pooled, expected.pooler_output, rtol=0, atol=1e-5)
        assert found.text_embeds is None
    for skip in range(4):
        skipped = ours(ids, clip_skip=skip, final_norm=False)
        if skip:  # the last state that transformers shows has passed the norm in one version, and not in another
            torch.testing.assert_close(skipped.states, expected.hidden_states[-1 - skip], rtol=0, atol=1e-5)
        assert torch.equal(skipped.pooled, found.pooled)

    save_clip(ours, tmp_path / "ours")
    reopened = type(theirs).from_pretrained(tmp_path / "ours", dtype=torch.float32).eval()
    again = load_clip(tmp_path / "ours")(ids)
    torch.testing.assert_close(reopened(ids).last_hidden_state, again.states, rtol=0, atol=1e-5)
    config = {"bos_token_id", "eos_token_id", "hidden_act", "layer_norm_eps", "projection_dim"}
    assert all(getattr(reopened.config, key) == getattr(theirs.config, key) for key in config)


@torch.no_grad()
def test_skipping_layers_is_the_encoder_without_them_and_the_final_norm_is_the_last_thing():
    """What transformers 5 has no pipeline to compare with: reckoned by a shorter encoder of the same weights."""
    torch.manual_seed(0)
    whole, ids = CLIPTextEncoder(**SMALL).eval(), tokens()
    short = CLIPTextEncoder(**SMALL | {"num_hidden_layers": 2}).eval()
    short.load_state_dict({key: value for key, value in whole.state_dict().items() if key in short.state_dict()})
    assert torch.equal(whole(ids, clip_skip=2).states, short(ids).states)
    bare = whole(ids, clip_skip=2, final_norm=False).states
    assert torch.equal(torch.nn.functional.layer_norm(bare, (24,)), short(ids).states)  # a new norm is 1 and 0
    assert (bare - short(ids).states).abs().max() > 0.1


@pytest.mark.parametrize("eos, ends", [(2, (6, 76, 9)), (END, (6, 76, 9)), (57, (0, 0, 0))])
@torch.no_grad()
def test_the_pooled_state_is_the_one_where_the_text_ends(eos, ends):
    torch.manual_seed(0)
    encoder, ids = CLIPTextEncoder(**SMALL | {"eos_token_id": eos}).eval(), tokens()
    ids[ids == 57] = 5  # a text without an end is pooled at its first token, as it is there
    found = encoder(ids)
    for i, end in enumerate(ends):
        torch.testing.assert_close(found.pooled[i], found.states[i, end], rtol=0, atol=1e-6)


@torch.no_grad()
def test_where_eos_is_2_a_new_token_of_a_higher_number_ends_the_text_and_else_it_does_not():
    torch.manual_seed(0)
    ids = tokens()
    ids[1, 20] = 60  # a token that textual inversion has added
    wrong = CLIPTextEncoder(**SMALL | {"eos_token_id": 2, "vocab_size": 61}).eval()
    right = CLIPTextEncoder(**SMALL | {"vocab_size": 61}).eval()
    right.load_state_dict(wrong.state_dict())
    states = right(ids).states
    torch.testing.assert_close(wrong(ids).pooled[1], states[1, 20], rtol=0, atol=1e-6)
    torch.testing.assert_close(right(ids).pooled[1], states[1, 76], rtol=0, atol=1e-6)


@torch.no_grad()
def test_no_token_is_seen_before_its_place():
    torch.manual_seed(0)
    encoder, ids = CLIPTextEncoder(**SMALL).eval(), tokens()
    before = encoder(ids).states
    ids[:, 40:] = 7
    after = encoder(ids).states
    torch.testing.assert_close(after[:, :40], before[:, :40], rtol=0, atol=1e-6)
    assert (after[:, 40:] - before[:, 40:]).abs().amax((1, 2)).min() > 0.1
    torch.testing.assert_close(encoder(ids[:, :40]).states, before[:, :40], rtol=0, atol=1e-6)


@pytest.mark.parametrize("spelling", ["with prefix", "without prefix", "with position_ids"])
@torch.no_grad()
def test_both_spellings_of_the_names_are_read(spelling, tmp_path):
    theirs = theirs_of("CLIP-L")
    theirs.save_pretrained(tmp_path)
    bare = {key.removeprefix("text_model."): value for key, value in load_file(tmp_path / WEIGHTS).items()}
    named = {key if spelling == "without prefix" else f"text_model.{key}": value for key, value in bare.items()}
    if spelling == "with position_ids":  # as transformers did until 4.31
        named["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    save_file(named, tmp_path / WEIGHTS)
    ids = tokens()
    expected = theirs(ids).last_hidden_state
    torch.testing.assert_close(load_clip(tmp_path)(ids).states, expected, rtol=0, atol=1e-5)


def test_what_is_saved_has_the_prefix_that_every_version_of_transformers_reads(tmp_path):
    save_clip(CLIPTextEncoder(**SMALL, projection=True), tmp_path)
    names = load_file(tmp_path / WEIGHTS).keys()
    assert [name for name in names if not name.startswith("text_model.")] == ["text_projection.weight"]


def test_a_mistake_is_an_error_of_one_line(tmp_path):
    with pytest.raises(UserError, match="unknown hidden_act 'relu'"):
        CLIPTextEncoder(hidden_act="relu")
    with pytest.raises(UserError, match="num_attention_heads 7 does not divide hidden_size 512"):
        CLIPTextEncoder(num_attention_heads=7)
    with pytest.raises(UserError, match="eos_token_id is one number, not None"):
        CLIPTextEncoder(eos_token_id=None)
    encoder = CLIPTextEncoder(**SMALL)
    for skip in (-1, 4):
        with pytest.raises(UserError, match=rf"clip_skip {skip}: this text encoder has 4 layers; give 0 to 3"):
            encoder(tokens(), clip_skip=skip)
    with pytest.raises(ValueError, match="78 tokens: this text encoder takes 77"):
        encoder(torch.zeros(1, 78, dtype=torch.int64))
    with pytest.raises(UserError, match=r"config\.json: no such file; the folder of a CLIPTextEncoder"):
        load_clip(tmp_path)

    save_clip(encoder, tmp_path)
    file = tmp_path / "config.json"
    config = json.loads(file.read_bytes())
    file.write_text(json.dumps(config | {"model_type": "t5"}))
    with pytest.raises(UserError, match=r"config\.json: model_type 't5'"):
        load_clip(tmp_path)
    file.write_text(json.dumps(config | {"architectures": ["CLIPTextModelWithProjection"]}))
    with pytest.raises(UserError, match=r"model\.safetensors lacks text_projection\.weight"):
        load_clip(tmp_path)
