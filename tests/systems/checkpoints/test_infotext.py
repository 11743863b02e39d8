"""A1111's infotext, read as it and its kin write it, and written as they read it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inkwash.errors import UserError
from inkwash.systems.checkpoints.infotext import infotext, parse_fields, quote, read_infotext, split_infotext

WHOLE = """masterpiece, (a fox:1.2) <lora:ink:0.8>
by the sea: Steps, a: b
Negative prompt: lowres, (bad:1.3)
blurry
Steps: 28, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 5.5, Seed: 123456789, Size: 512x768, \
Model hash: 6ce0161689, Model: v1-5-pruned-emaonly, VAE hash: 735e4c3a44, VAE: vae-ft-mse.safetensors, \
Clip skip: 2, ENSD: 31337, Lora hashes: "ink: 0a1b2c3d4e5f, other: 99", TI hashes: "bad: 5e4d3c", Version: v1.10.1"""
RECIPE = {
    "prompt": "a fox", "negative": "", "seed": 3, "sampler": "euler", "steps": 20, "grid": "karras", "guidance": 7.0,
    "width": 64, "height": 48, "clip_skip": 0, "version": "0.1.0", "hash": "abcdef" * 10 + "0123",
    "model": "some/model.safetensors", "weighting": "a1111", "seed_like": None, "strength": None, "embeddings": {},
}  # fmt: skip


def fields(line):
    return read_infotext(f"a fox\nSteps: 20, {line}, Seed: 1, Version: v1.10.1")


def test_a_whole_one():
    options, notes = read_infotext(WHOLE)
    assert options == {
        "prompt": "masterpiece, (a fox:1.2) <lora:ink:0.8>\nby the sea: Steps, a: b",
        "negative": "lowres, (bad:1.3)\nblurry",
        "steps": 28, "sampler": "dpmpp_2m", "grid": "karras", "guidance": 5.5, "seed": 123456789, "width": 512,
        "height": 768, "model": "v1-5-pruned-emaonly", "clip_skip": 1, "seed_like": "a1111",
    }  # fmt: skip
    assert (
        [note.partition(":")[0] for note in notes[:2]] == ["VAE", "ENSD"] and "SDXL" in notes[2] and len(notes) == 3
    )


@pytest.mark.parametrize(
    ("line", "sampler", "grid"),
    [
        ("Sampler: DPM++ 2M Karras", "dpmpp_2m", "karras"),  # until 1.9
        ("Sampler: DPM2 Exponential", "dpm2", "exponential"),
        ("Sampler: Euler a", "euler_ancestral", "normal"),
        ("Sampler: DPM++ 2M", "dpmpp_2m", "normal"),
        ("Sampler: DPM++ 2M, Schedule type: Automatic", "dpmpp_2m", "karras"),
        ("Sampler: DPM2, Schedule type: Automatic", "dpm2", "karras"),
        ("Sampler: Euler, Schedule type: Automatic", "euler", "normal"),
        ("Sampler: Euler, Schedule type: Uniform", "euler", "normal"),
        ("Sampler: Euler, Schedule type: uniform", "euler", "uniform"),  # ours
        ("Sampler: LCM, Schedule type: SGM Uniform", "consistency", "sgm_uniform"),
        ("Sampler: DDIM", "ddim", "leading"),
        ("Sampler: dpm_solver_2m, Schedule type: trailing", "dpm_solver_2m", "trailing"),
    ],
)
def test_samplers_and_their_steps(line, sampler, grid):
    options, notes = fields(line)
    assert (options["sampler"], options["grid"], notes) == (sampler, grid, [])


@pytest.mark.parametrize(
    ("line", "note", "absent"),
    [
        ("Sampler: DPM++ 2S a Karras", "Sampler: DPM++ 2S a is not here", "sampler"),
        ("Sampler: Euler, Schedule type: Turbo", "Schedule type: Turbo is not here", "grid"),
        ("CFG scale: high", "CFG scale: 'high' is nothing", "guidance"),
        ("Size: 512", "Size: '512' is nothing", "width"),
        ("Steps : 2, Variation seed: 5", "Variation seed: 5 is not taken", "variation"),
        ("Emphasis: No norm", "Emphasis: 'No norm' is nothing", "weighting"),
        ("Denoising strength: 0.5, Hires resize: 64x64", "Denoising strength: 0.5 is of the second pass", "strength"),
        (
            "Hires upscale: 2, Hires upscaler: 4x-UltraSharp",
            "Hires upscaler: '4x-UltraSharp' is nothing",
            "hires_upscaler",
        ),
        ("Refiner: xl-refiner [7440042bbd], Steps : 1", "Refiner: xl-refiner [7440042bbd] is not taken", "refiner"),
        ("Model hash: 6ce0161689", "Model hash: 6ce0161689: the model has no name there", "model"),
        ("Sampler: UniPC", "UniPC: its steps lie near", "x"),
        ("Sampler: DPM++ SDE Karras", "sampler dpmpp_sde: its noise is another", "seed_like"),
    ],
)
def test_what_is_not_known_is_named(line, note, absent):
    options, notes = fields(line)
    assert any(found.startswith(note) for found in notes) and absent not in options


def test_choices_are_made_before_a_recipe_is_written():
    text = "{a|b} __c__\nSteps: 1, Seed: 2, Version: v1.10.1"
    assert read_infotext(text).options["prompt"] == r"\{a|b\} \__c__"
    assert read_infotext(f"{text}, Emphasis: None").options["prompt"] == "{a|b} __c__"
    assert read_infotext(infotext(RECIPE | {"prompt": r"\{a|b\}"})).options["prompt"] == r"\{a|b\}"


def test_where_a_recipe_comes_from_says_its_noise():
    sources = {"RNG: CPU": "a1111-cpu", "RNG: NV": "a1111", "Eta: 1": "a1111"}
    assert {line: fields(line).options["seed_like"] for line in sources} == sources
    assert "seed_like" not in read_infotext("a\nSteps: 1, Seed: 2, Version: inkwash 0.1").options
    comfy = read_infotext("a\nSteps: 1, Seed: 2, Version: ComfyUI").options
    assert (comfy["seed_like"], comfy["weighting"]) == ("comfyui", "comfyui")
    options, notes = fields("Denoising strength: 0.55")
    assert options["strength"] == 0.55 and notes == [
        "the picture to begin from is not in the file: give it with image"
    ]


def test_a_second_pass_and_sides_that_meet_are_taken():
    line = "Denoising strength: 0.4, Hires upscale: 1.5, Hires steps: 7, Hires upscaler: Lanczos, Tiling: True"
    options, notes = fields(f"{line}, CFG Rescale phi: 0.7")
    second = {"hires": 1.5, "hires_strength": 0.4, "hires_steps": 7, "hires_upscaler": "lanczos"}
    assert (second | {"tiling": "xy", "rescale": 0.7}).items() <= options.items() and notes == []
    written = read_infotext(infotext(RECIPE | second | {"tiling": "x", "rescale": 0.7})).options
    assert (second | {"tiling": "x", "rescale": 0.7}).items() <= written.items() and "strength" not in written
    assert "hires_steps" not in fields("Hires upscale: 2, Hires steps: 0").options


@pytest.mark.parametrize("size", ["Hires resize: 64x64", "Hires upscale: 1", "Hires upscale: nan"])
def test_a_second_pass_of_a_size_that_is_not_taken_is_none(size):
    options, notes = fields(f"{size}, Hires steps: 7, Hires upscaler: Latent, Denoising strength: 0.4")
    assert not [name for name in options if name.startswith("hires")] and "strength" not in options
    assert notes[0].startswith(size.partition(":")[0]) and len(notes) == 4


def test_values_in_quotes_and_of_json_hold_commas_and_colons():
    line = 'A b: "x, y: \\"z\\"\\n", Hashes: {"model": "a, b", "lora:c": ["d"]}, C/d-e: [f, Last: g:h'
    assert parse_fields(line) == {
        "A b": 'x, y: "z"\n', "Hashes": '{"model": "a, b", "lora:c": ["d"]}', "C/d-e": "[f", "Last": "g:h",
    }  # fmt: skip


def test_a_comma_that_no_key_follows_ends_no_value():
    options, notes = fields("Model: foo, bar, Sampler: Euler, (x) 3, Size: 64x32, [y]: 4, Clip skip: 2")
    expected = {"model": "foo, bar", "sampler": "euler", "width": 64, "height": 32, "clip_skip": 1}
    assert expected.items() <= options.items()
    assert "(x) 3 is not taken" in notes and "[y]: 4 is not taken" in notes


def test_what_extensions_write_below_the_settings_is_no_prompt():
    text = (
        "a cat\nNegative prompt: b\nSteps: 20, Sampler: Euler, Seed: 3\nTemplate: a {cat|dog}\nNegative Template: b"
    )
    options, notes = read_infotext(text)
    assert (options["prompt"], options["negative"], options["seed"]) == ("a cat", "b", 3)
    assert notes == ["Template: a {cat|dog} is not taken", "Negative Template: b is not taken"]


def test_the_steps_of_a_sampler_that_is_not_here_are_taken():
    for line in ("Sampler: DPM++ 3M SDE Exponential", "Sampler: DPM++ 3M SDE, Schedule type: Exponential"):
        options, notes = fields(line)
        assert options["grid"] == "exponential" and "DPM++ 3M SDE is not here" in notes[0]


def test_a_last_line_of_few_fields_is_of_the_prompt():
    assert split_infotext("a\nSteps: 2, b: c") == ("a\nSteps: 2, b: c", "", {})
    assert split_infotext("a\nNegative prompt: b\nc") == ("a", "b\nc", {})
    assert split_infotext("") == ("", "", {})
    assert read_infotext("a fox") == ({"prompt": "a fox", "negative": ""}, ["it says nothing beside the words"])


def test_json_is_no_prompt():
    with pytest.raises(UserError, match="JSON of another program"):
        read_infotext('{"sui_image_params": {"prompt": "a fox"}}')
    assert read_infotext("{a fox}").options["prompt"] == "{a fox}"


def test_what_is_written():
    written = infotext(
        RECIPE | {"negative": "a dog\nb", "strength": 0.5, "clip_skip": 1, "embeddings": {"x": "f" * 64}}
    )
    assert written == (
        "a fox\nNegative prompt: a dog\nb\nSteps: 20, Sampler: Euler, Schedule type: Karras, CFG scale: 7, Seed: 3, "
        "Size: 64x48, Model hash: abcdefabcd, Model: model, Denoising strength: 0.5, Clip skip: 2, "
        'TI hashes: "x: ffffffffffff", Version: inkwash 0.1.0'
    )
    assert "Model hash" not in infotext(RECIPE | {"model": "some/folder"})  # whose hash no other tool has
    assert "Model: folder-v1.5, Version" in infotext(RECIPE | {"model": "some/folder-v1.5"})
    assert "Model" not in infotext(RECIPE | {"model": None})


WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\x85\u2028\u2029"), max_size=20)


@given(
    WORDS.filter(lambda text: not text.strip().startswith("Negative prompt:")),
    WORDS,
    st.sampled_from(["euler", "dpmpp_2m", "unipc", "predictor_corrector"]),
    st.sampled_from(["karras", "uniform", "normal", "leading", "linear_quadratic", "simple"]),
    st.integers(0, 2**64 - 1),
    st.sampled_from([None, "a1111", "a1111-cpu", "comfyui"]),
    st.sampled_from(["a1111", "comfyui", "none"]),
    st.integers(0, 3),
)
def test_what_is_written_is_read_again(prompt, negative, sampler, grid, seed, seed_like, weighting, clip_skip):
    changes = {
        "prompt": prompt.strip(), "negative": negative.strip(), "sampler": sampler, "grid": grid, "seed": seed,
        "seed_like": seed_like, "weighting": weighting, "clip_skip": clip_skip,
    }  # fmt: skip
    options, _ = read_infotext(infotext(RECIPE | changes))
    found = {"seed_like": None, "weighting": "a1111", "clip_skip": 0} | options
    assert {key: found[key] for key in changes} == changes


@given(st.text(max_size=30).filter(lambda text: text == text.strip() and text and "\n" not in text))
def test_a_value_in_quotes_is_read_as_it_was(text):
    assert parse_fields(f"Steps: 1, A b: {quote(text)}, Seed: 2") == {"Steps": "1", "A b": text, "Seed": "2"}


@given(st.text(st.sampled_from('aA,: "{}[]\\\n5'), max_size=60))
def test_no_text_is_an_error(text):
    read_infotext(f"a{text}")
    read_infotext(f"{text}\nSteps: 1, Seed: {text.strip()}, Size: 1x{text}")
