"""Prompts as the U-Net is told them: chunks, weights, schedules and composition, beside transformers' encoders of the
same weights."""

from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inkwash import diffusion
from inkwash.codecs.clip import CLIPTokenizer
from inkwash.errors import UserError
from inkwash.systems.checkpoints.conditioning import (
    Token,
    Track,
    chunks,
    composed,
    divide_pieces,
    divide_tokens,
    encode,
    guided,
    tracks,
)
from inkwash.systems.checkpoints.grammar import parse
from tests.networks.test_stable_diffusion import folders  # noqa: F401
from tests.systems.checkpoints.test_stable_diffusion import both  # noqa: F401

CLIP, COMMA = CLIPTokenizer.shipped(), 267  # CLIP's own numbers
HOW = {"steps": 10, "sampler": "euler", "weighting": "a1111", "clip_skip": 0, "size": (64, 64), "aesthetic": 6.0}


def numbers(prompt, weighting="a1111"):
    """The tokens of a prompt's chunks."""
    (part,) = parse(prompt, 10, weighting, compose=False)
    made = chunks(part.intervals[0].sections, CLIP, {}, weighting)
    return [[token.id for token in chunk] for chunk in made]


def encoded(model, prompt, weighting="a1111", clip_skip=0, steps=10):
    (part,) = parse(prompt, steps, weighting)
    return encode(model, Counter(interval.sections for interval in part.intervals), weighting, clip_skip)


# chunks


def test_a_short_prompt_is_one_chunk_of_its_tokens():
    assert numbers("a photo of a cat") == [CLIP.encode("a photo of a cat")] and numbers("") == [[]]
    assert numbers("a BREAK photo BREAK") == [CLIP.encode("a"), CLIP.encode("photo")]
    assert numbers("a BREAK BREAK photo") == [CLIP.encode("a"), [], CLIP.encode("photo")]


@pytest.mark.parametrize(
    ("words", "sizes"),
    [
        ("cat " * 75, [75]),
        ("cat " * 76, [75, 1]),
        ("cat " * 160, [75, 75, 10]),
        ("cat " * 60 + ", " + "dog " * 20, [61, 20]),  # what follows the comma goes on together
        ("cat " * 54 + ", " + "dog " * 30, [75, 10]),  # 21 tokens before the end: too far back
        ("cat " * 55 + ", " + "dog " * 30, [56, 30]),
        ("cat " * 74 + ", " + "dog " * 5, [75, 5]),
        ("cat " * 75 + ", " + "dog " * 5, [75, 6]),  # the comma itself does not fit
        ("cat " * 60 + ", " + "dog " * 14 + ", dog", [75, 2]),  # nor does this one, and it moves nothing
    ],
)
def test_long_prompts_are_broken_at_the_last_comma_within_20_tokens(words, sizes):
    found = numbers(words)
    assert [len(chunk) for chunk in found] == sizes
    assert [token for chunk in found for token in chunk] == CLIP.encode(words)


def test_comfyui_breaks_no_short_piece_and_knows_no_comma():
    assert [len(chunk) for chunk in numbers("cat " * 60 + ", " + "dog " * 20, "comfyui")] == [75, 6]
    assert [len(chunk) for chunk in numbers("cat " * 72 + "(" + "dog " * 7 + ")", "comfyui")] == [72, 7]
    assert [len(chunk) for chunk in numbers("cat " * 72 + "(" + "dog " * 8 + ")", "comfyui")] == [75, 5]
    assert [len(chunk) for chunk in numbers("(cat) BREAK [dog]", "comfyui")] == [5]


@given(st.lists(st.integers(1, 12), max_size=40), st.integers(0, 4))
def test_no_token_is_lost_and_no_chunk_too_long(sizes, comma):
    """Groups of tokens that stay together, of which some are commas."""
    tokens = iter(range(10_000))
    groups = [[Token(next(tokens) % 5, embedding="x" if size > 1 else None) for _ in range(size)] for size in sizes]
    for made in (divide_tokens(groups, 20, [comma]), divide_pieces(groups, 20)):
        assert [token for chunk in made for token in chunk] == [token for group in groups for token in group]
        assert all(len(chunk) <= 20 for chunk in made)


# states


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
@pytest.mark.parametrize("prompt", ["", "the cats", "a red fox, 猫"])
@pytest.mark.parametrize("weighting", ["a1111", "comfyui", "none"])
def test_without_weights_a_short_prompt_is_as_it_always_was(both, family, prompt, weighting):  # noqa: F811
    model = both(family)[1]
    for clip_skip in (0, 1):
        if family == "sdxl" and clip_skip:  # two layers are all that it has
            continue
        found, expected = encoded(model, prompt, weighting, clip_skip), model.encode_prompt([prompt], clip_skip)
        assert torch.equal(found.context, expected.context)
        assert found.pooled is expected.pooled is None or torch.equal(found.pooled, expected.pooled)


def by_transformers(pipeline, tokens):
    """The states of chunks of tokens by transformers' encoder: start and end around them, end behind."""
    tokenizer = pipeline.tokenizer
    rows = torch.full((len(tokens), 77), tokenizer.eos_token_id)
    for row, chunk in zip(rows, tokens, strict=True):
        row[0] = tokenizer.bos_token_id
        row[1 : len(chunk) + 1] = torch.tensor(chunk)
    with torch.no_grad():
        return pipeline.text_encoder(rows).last_hidden_state


def test_weights_restore_the_mean_or_reach_beyond_the_empty_prompt(both):  # noqa: F811
    """By hand, in float64."""
    theirs, model = both("sd1")
    plain, heavy = (model.components["tokenizer"].encode(text) for text in ("a red", "fox"))
    (states,) = by_transformers(theirs, [plain + heavy]).double()
    (empty,) = by_transformers(theirs, [[]]).double()
    weights = torch.ones(77, 1, dtype=torch.float64)
    weights[1 + len(plain) : 1 + len(plain) + len(heavy)] = 1.3
    multiplied = states * weights
    restored = multiplied * states.mean() / multiplied.mean()
    beyond = empty + weights * (states - empty)
    for weighting, expected in (("a1111", restored), ("comfyui", beyond), ("none", None)):
        found = encoded(model, "a red (fox:1.3)", weighting).context[0].double()
        if expected is not None:
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    literal = by_transformers(theirs, [model.components["tokenizer"].encode("a red (fox:1.3)")])
    torch.testing.assert_close(encoded(model, "a red (fox:1.3)", "none").context, literal, rtol=1e-4, atol=1e-5)


def test_long_prompts_are_chunks_side_by_side(both):  # noqa: F811
    theirs, model = both("sd1")
    tokens = model.components["tokenizer"].encode("the cats " * 40)
    expected = by_transformers(theirs, [tokens[:75], tokens[75:]]).reshape(1, 154, -1)
    torch.testing.assert_close(encoded(model, "the cats " * 40).context, expected, rtol=1e-4, atol=1e-5)


def test_the_pooled_state_of_sdxl_is_that_of_the_first_chunk(both):  # noqa: F811
    model = both("sdxl")[1]
    found = encoded(model, "(the cats:1.4) BREAK a red fox")
    torch.testing.assert_close(found.pooled, model.encode_prompt(["the cats"]).pooled)
    assert found.context.shape[1] == 154


def test_texts_of_a_schedule_are_as_long_as_the_longest_and_weighted_together(both):  # noqa: F811
    """Over all five steps, of which three have the first text; each text is encoded once."""
    theirs, model = both("sd1")
    one, two, three, four = map(model.components["tokenizer"].encode, ("a", "fox", "a the", "cats"))
    found = encoded(model, "a [(fox:1.5)|the BREAK cats]", steps=5).context
    states = by_transformers(theirs, [one + two, [], three, four]).reshape(2, 2, 77, -1).double()
    weights = torch.ones(2, 2, 77, 1, dtype=torch.float64)
    weights[0, 0, 1 + len(one) : 1 + len(one + two)] = 1.5
    steps = torch.tensor([0, 1, 0, 1, 0])
    before, after = states[steps], (states * weights)[steps]
    expected = after * before.mean((0, 2, 3), keepdim=True) / after.mean((0, 2, 3), keepdim=True)
    torch.testing.assert_close(found.double(), expected[:2].reshape(2, 154, -1), rtol=1e-4, atol=1e-5)


def test_an_empty_negative_prompt_of_sdxl_is_zeros(both):  # noqa: F811
    for family, zero in (("sdxl", True), ("sd1", False)):
        model = both(family)[1]
        (negative,) = tracks(model, "", compose=False, **HOW)
        assert bool((negative.condition["context"] == 0).all()) == zero
        for prompt, compose, weighting in (("a", False, "a1111"), ("", True, "a1111"), ("", False, "comfyui")):
            (track,) = tracks(model, prompt, compose=compose, **HOW | {"weighting": weighting})
            assert (track.condition["context"] != 0).any()
    theirs, model = both("sdxl")
    (negative,) = tracks(model, "", compose=False, **HOW)
    _, expected, _, pooled = theirs.encode_prompt("a", num_images_per_prompt=1, do_classifier_free_guidance=True)
    assert torch.equal(negative.condition["context"], expected)
    assert torch.equal(negative.condition["text_embeds"], pooled)


@pytest.mark.parametrize("prompt", [f"(a:{'9' * 400})", f"a :{'9' * 400} AND b", "[a:(b:1)(c:.5):2] ((" + "(" * 9000])
def test_a_weight_beyond_all_numbers_is_refused(both, prompt):  # noqa: F811
    with pytest.raises(UserError, match="too large for a number"):
        tracks(both("sd1")[1], prompt + "x", **HOW)


# over the steps


def told(model, prompt, negative="", sampler="euler", steps=8, guidance=3.0, **options):
    """The contexts that the U-Net was shown, call by call."""
    seen, unet = [], model.components["unet"]

    class Seeing(torch.nn.Module):
        config, parameters = unet.config, unet.parameters

        def forward(self, x, time, **condition):
            seen.append(condition["context"])
            return unet(x, time, **condition)

    other = type(model)(model.components | {"unet": Seeing()}, model.noise)
    other.sample_states([prompt], [0], negative=negative, sampler=sampler, steps=steps, guidance=guidance, **options)
    return seen


@pytest.mark.parametrize(
    ("prompt", "sampler", "first"),
    [
        ("[cats:fox:3]", "euler", 4),  # as A1111 counts: after the step 3, from 0
        ("[cats:fox:0.25]", "euler", 3),
        ("[cats:fox:0.25]", "heun", 5),  # two calls a step, 16 in all, of which the last step has but one
        ("[cats:fox:3]", "heun", 4),
        ("[cats:fox:0.25]", "dpmpp_2s", 3),  # whose two calls are two steps of the grid
        ("[cats:fox:12]", "euler", 8),
    ],
)
def test_a_schedule_changes_what_the_network_is_told(both, prompt, sampler, first):  # noqa: F811
    model = both("sd1")[1]
    before, after = (model.encode_prompt([text]).context[0] for text in ("cats", "fox"))
    seen = [batch[0] for batch in told(model, prompt, sampler=sampler)]
    expected = [before if call < first else after for call in range(len(seen))]
    assert len(seen) == (15 if sampler == "heun" else 8)
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(seen, expected, strict=True))


def test_words_alternate_and_a_negative_prompt_has_a_schedule_of_its_own(both):  # noqa: F811
    model = both("sd1")[1]
    cats, fox, red = (model.encode_prompt([text]).context[0] for text in ("cats", "fox", "red"))
    seen = told(model, "[cats|fox]", negative="[red:fox:0.5]", steps=6)
    texts = [cats, cats, fox, cats, fox, cats]  # A1111's first word holds for two calls
    assert all(torch.allclose(batch[0], text, atol=1e-6) for batch, text in zip(seen, texts, strict=True))
    texts = [red] * 4 + [fox] * 2
    assert all(torch.allclose(batch[1], text, atol=1e-6) for batch, text in zip(seen, texts, strict=True))


# guidance


LEVEL = SimpleNamespace(t=0.5)


def gain(x, t, condition):
    """A denoiser whose answer is what it is told."""
    level = condition["context"].mean((1, 2)).view(-1, 1, 1, 1)
    return diffusion.Prediction(x + level)


def track(value, weight=1.0, length=77):
    return Track(weight, (9,), (0,), {"context": torch.full((1, length, 2), value)})


def test_composition_adds_what_each_prompt_says_beyond_the_negative_one():
    x = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    prompts = [[track(1.0, 1.2), track(3.0, -0.5, 154)], [track(2.0)]]
    guide, condition = guided(gain, prompts, track(0.5, length=231), 4.0, 0.0, None, {})
    shifts = [0.5 + 4.0 * (1.2 * 0.5 - 0.5 * 2.5), 0.5 + 4.0 * 1.5]
    found = guide(x, LEVEL, condition).x0
    torch.testing.assert_close(found, x + torch.tensor(shifts).view(2, 1, 1, 1))
    alone, condition = guided(gain, prompts[:1], track(0.5), 1.0, 0.0, None, {})
    torch.testing.assert_close(alone(x[:1], LEVEL, condition).x0, x[:1] + 0.5 + 1.2 * 0.5 - 0.5 * 2.5)


@pytest.mark.parametrize("rescale", [0.0, 0.7])
@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_one_prompt_of_another_length_is_guided_as_ever(guidance, rescale):
    x = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0))

    def denoise(x, t, condition):
        level = condition["context"].mean((1, 2)).view(-1, 1, 1, 1)
        return diffusion.Prediction((x + level) * level)

    cond = {"context": torch.full((2, 77, 2), 1.5)}
    short, long = ({"context": torch.full((1, length, 2), 0.5)} for length in (77, 154))
    expected = diffusion.classifier_free(denoise, guidance, short, rescale=rescale)(x, LEVEL, cond)
    rows = [{"context": cond["context"][:1]}] * 2
    found = composed(denoise, rows, [1.0, 1.0], [0, 1], long, guidance, rescale)(x, LEVEL, {})
    torch.testing.assert_close(found.x0, expected.x0)


def test_and_of_one_prompt_twice_is_twice_the_guidance(both):  # noqa: F811
    model = both("sd1")[1]
    how = {"negative": "the", "steps": 3, "sampler": "euler"}
    joined = model.sample_states(["a red fox :0.5 AND a red fox :1.5"], [0], guidance=3.0, **how)
    alone = model.sample_states(["a red fox"], [0], guidance=6.0, **how)
    torch.testing.assert_close(joined, alone, rtol=1e-4, atol=1e-3)


def test_pictures_with_and_without_schedules_are_each_their_own(both):  # noqa: F811
    model = both("sdxl")[1]
    prompts = ["[cats:fox:0.5]", "a red fox AND the cats :0.3", "the cats " * 40]
    how = {"negative": "theatre", "steps": 3, "guidance": 4.0}
    together = model.sample_states(prompts, [1, 2, 3], **how)
    for i, prompt in enumerate(prompts):
        torch.testing.assert_close(
            together[i : i + 1], model.sample_states([prompt], [i + 1], **how), rtol=1e-4, atol=1e-3
        )


def test_a_checkpoint_that_edits_takes_one_prompt():
    with pytest.raises(UserError, match="AND in the prompt"):
        guided(gain, [[track(1.0), track(2.0)]], track(0.0), 4.0, 0.0, 1.5, {})


def test_what_stands_beside_the_state_is_seen_with_every_prompt():
    beside = torch.full((1, 5, 3, 3), 2.0)
    seen = []

    def denoise(x, t, condition):
        seen.append(condition["concat"])
        return gain(x, t, condition)

    x = torch.zeros(2, 4, 3, 3)
    for prompts in ([[track(1.0)], [track(2.0)]], [[track(1.0), track(2.0)], [track(2.0)]]):
        guide, condition = guided(denoise, prompts, track(0.0), 4.0, 0.0, None, {"concat": beside})
        guide(x, LEVEL, condition)
    assert [one.shape[0] for one in seen] == [4, 5] and all((one == 2).all() for one in seen)
