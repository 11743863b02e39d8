"""Prompts as A1111's web UI reads them, and as ComfyUI does: weights, schedules, alternation, breaks, composition.

In A1111's grammar a prompt is first divided at AND, then each part is written out for the steps of its schedules,
then brackets become weights. No text is an error: a bracket without its fellow is a letter where it opens a schedule,
and where it opens a weight it counts to the end, as there. Loads no torch.
"""

from __future__ import annotations

import re
from itertools import groupby
from typing import NamedTuple

from inkwash.errors import UserError, unknown

WEIGHTINGS = ("a1111", "comfyui", "none")
STEP = 1.1  # what a pair of brackets without a number multiplies by
NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)"
ESCAPED = r"\\[()\[\]{}\\]"
EMPHASIS = re.compile(
    rf"(?P<escaped>{ESCAPED})|(?P<open>[(\[])|:\s*(?P<weight>{NUMBER})\s*\)|(?P<close>[)\]])|[^\\()\[\]:]+|.", re.S
)
SCHEDULE = re.compile(r"\\.|[()\[\]:|]|[^\\()\[\]:|]+|.", re.S)
WHEN = re.compile(rf"\s*({NUMBER}(?:[eE][+-]?\d+)?)\s*")
BREAK = re.compile(r"\s*\bBREAK\b\s*")
PART = re.compile(rf"(.*?)(?:\s*:\s*({NUMBER}))?\s*", re.S)
TAG = re.compile(r"<(lora|lyco|hypernet)\s*:([^<>]*)>", re.I)
FELLOWS = {")": "(", "]": "["}


class Segment(NamedTuple):
    """A text of one weight."""

    text: str
    weight: float = 1.0


Sections = tuple[tuple[Segment, ...], ...]  # what stands between two BREAKs; one where there is none


class Interval(NamedTuple):
    """What holds until a step, counted from 1, that one included."""

    end: int
    sections: Sections


class Part(NamedTuple):
    """One of the prompts that AND joins, with its weight, over all steps."""

    weight: float
    intervals: tuple[Interval, ...]


class Adapter(NamedTuple):
    """<lora:name:text_encoder:unet>: an adapter and how strong it is in each; one number is of both."""

    name: str
    text_encoder: float
    unet: float


def parse(prompt: str, steps: int, weighting: str = "a1111", compose: bool = True) -> list[Part]:
    """What a prompt says at each of so many steps.

    weighting: "a1111" reads A1111's grammar; "comfyui" its own, weights in round brackets alone; "none" takes every
    sign as it stands. compose: whether AND divides it, which it does not in a negative prompt.
    UserError for another weighting.
    """
    if weighting not in WEIGHTINGS:
        raise unknown("weighting", weighting, WEIGHTINGS)
    if weighting != "a1111":
        sections = ((Segment(prompt),),) if weighting == "none" else (comfyui_emphasis(prompt),)
        return [Part(1.0, (Interval(steps, sections),))]
    return [
        Part(weight, tuple(Interval(end, emphasis(text)) for end, text in schedule(part, steps)))
        for part, weight in (divide(prompt) if compose else [(prompt, 1.0)])
    ]


def take_adapters(prompt: str) -> tuple[str, list[Adapter]]:
    """A prompt without its tags <lora:name:0.8>, and those. A weight left out is 1; <lora:name:te=0.5:unet=0.8> names
    them. UserError for a tag of something else, or that says more."""
    found = []
    for kind, content in TAG.findall(prompt):
        tag = f"<{kind}:{content}>"[:60]
        if kind.lower() == "hypernet":
            raise UserError(f"{tag} in the prompt: hypernetworks cannot be drawn with; take it out")
        name, *values = (value.strip() for value in content.split(":"))
        named = dict(value.split("=", 1) for value in values if "=" in value)
        numbers = [value for value in values if "=" not in value]
        strengths = [*numbers, *named.values()]
        whole = name and len(numbers) <= 2 and named.keys() <= {"te", "unet"}
        if not whole or not all(re.fullmatch(NUMBER, value) for value in strengths):
            raise UserError(f"{tag} in the prompt: write <lora:name:0.8>, or two numbers, of text encoder and U-Net")
        text_encoder = float(named.get("te", numbers[0] if numbers else 1.0))
        unet = float(named.get("unet", numbers[1] if len(numbers) > 1 else text_encoder))
        found.append(Adapter(name, text_encoder, unet))
    return TAG.sub("", prompt), found


def divide(prompt: str) -> list[tuple[str, float]]:
    """The texts that AND joins and their weights, as in "a cat :1.2 AND a dog"; a prompt without AND has none."""
    texts = re.split(r"\bAND\b", prompt)
    if len(texts) == 1:
        return [(prompt, 1.0)]
    matched = [PART.fullmatch(text) for text in texts]
    return [(match[1], float(match[2] or 1)) for match in matched if match is not None]


def schedule(prompt: str, steps: int) -> list[tuple[int, str]]:
    """The text of each run of steps and the last of them: [from:to:when], [to:when], [from::when], [a|b|c].

    when: with a point a share of the steps, else a step. What changes at step 3 changes after it.
    """
    _, ends = write_out(prompt, steps, steps)
    texts = [(end, write_out(prompt, end, steps)[0]) for end in sorted(ends | {steps})]
    return [list(run)[-1] for _, run in groupby(texts, key=lambda pair: pair[1])]


def write_out(prompt: str, step: int, steps: int) -> tuple[str, set[int]]:
    """The prompt at one step, counted from 1, and the steps after which it may change."""
    ends, frames = set[int](), [[""]]  # texts and signs between them, of each open bracket; of the whole at first
    for token in SCHEDULE.findall(prompt):
        frame = frames[-1]
        if token in ("(", "["):
            frames.append([token, ""])
        elif token in FELLOWS and frame[0] == FELLOWS[token]:
            frames.pop()
            frames[-1][-1] += close(frame, token, step, steps, ends)
        elif token in FELLOWS:  # closes nothing: what is open around it stays open
            frames = [["".join(map("".join, frames)) + token]]
        elif token in (":", "|") and len(frames) > 1:
            frame += [token, ""]
        else:
            frame[-1] += token
    return "".join(map("".join, frames)), ends


def close(frame: list[str], bracket: str, step: int, steps: int, ends: set[int]) -> str:
    """What a pair of brackets says at a step; adds to `ends` those after which it may change."""
    texts, signs = frame[1::2], frame[2::2]
    number = WHEN.fullmatch(texts[-1])
    if bracket == "]" and number and signs in ([":"], [":", ":"]):
        value = float(number[1]) * (steps if "." in number[1] else 1)
        when = int(max(0.0, min(value, float(steps))))
        ends |= {when} - {0}
        before, after = ["", *texts[:-1]][-2:]
        return before if step <= when else after
    if bracket == "]" and signs and set(signs) == {"|"}:
        ends |= set(range(1, steps + 1))
        return texts[(step - 1) % len(texts)]
    return "".join(frame) + bracket


def emphasis(text: str) -> Sections:
    r"""Brackets as weights: (x) multiplies by 1.1, [x] divides by it, (x:1.3) multiplies by 1.3, one within another
    multiply; \( \) \[ \] \{ \} \\ stand for themselves. BREAK divides."""
    pieces: list[tuple[str, float] | None] = []  # None: BREAK
    opened: dict[str, list[int]] = {"(": [], "[": []}

    def multiply(start: int, factor: float) -> None:
        pieces[start:] = [piece and (piece[0], piece[1] * factor) for piece in pieces[start:]]

    for token in EMPHASIS.finditer(text):
        closes = ")" if token["weight"] else token["close"]
        if token["open"]:
            opened[token["open"]].append(len(pieces))
        elif closes and opened[FELLOWS[closes]]:
            factor = float(token["weight"]) if token["weight"] else STEP if closes == ")" else 1 / STEP
            multiply(opened[FELLOWS[closes]].pop(), factor)
        else:
            first, *others = [token[0][1:]] if token["escaped"] else BREAK.split(token[0])
            pieces.append((first, 1.0))
            for other in others:
                pieces += [None, (other, 1.0)]
    for start in opened["("]:
        multiply(start, STEP)
    for start in opened["["]:
        multiply(start, 1 / STEP)
    sections = [list(run) for broken, run in groupby(pieces, key=lambda piece: piece is None) if not broken]
    return tuple(join([piece for piece in section if piece]) for section in sections) or ((Segment(""),),)


def join(pieces: list[tuple[str, float]]) -> tuple[Segment, ...]:
    """Pieces of text and weight, those of one weight together."""
    runs = groupby((piece for piece in pieces if piece[0]), key=lambda piece: piece[1])
    return tuple(Segment("".join(text for text, _ in run), weight) for weight, run in runs) or (Segment(""),)


def comfyui_emphasis(text: str) -> tuple[Segment, ...]:
    r"""(x) multiplies by 1.1; (x:1.3) is 1.3, whatever stands around it; \( \) stand for themselves, and so does
    every other sign, and a bracket without its fellow."""
    tokens = re.findall(r"\\[()]|[()]|[^\\()]+|.", text, re.S)
    fellows, opened = dict[int, int](), list[int]()
    for i, token in enumerate(tokens):
        if token == "(":
            opened.append(i)
        elif token == ")" and opened:
            fellows[opened.pop()] = i
    numbers = {}  # of the texts that end in one, right before they are closed
    for start, end in fellows.items():
        found = re.fullmatch(rf"(.*):\s*({NUMBER})\s*", tokens[end - 1], re.S)
        if found and (found[1] or end - start > 2):  # (:1.3) has no text to weigh
            numbers[end - 1] = found
    weights, pieces, closing = [1.0], list[tuple[str, float]](), set(fellows.values())
    for i, token in enumerate(tokens):
        if i in fellows:
            number = numbers.get(fellows[i] - 1)
            weights.append(float(number[2]) if number else weights[-1] * STEP)
        elif i in closing:
            weights.pop()
        elif i in numbers:
            pieces.append((numbers[i][1], weights[-1]))
        else:
            pieces.append((token[1:] if token in (r"\(", r"\)") else token, weights[-1]))
    return join(pieces)
