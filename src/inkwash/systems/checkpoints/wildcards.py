r"""What a prompt leaves to chance: {a|b}, and __name__ for a line of name.txt. Chosen by the picture's seed.

After a backslash they stand for themselves: \{a|b\}, \__name__.
"""

from __future__ import annotations

import re
from pathlib import Path

from inkwash.diffusion.noise import child_seed
from inkwash.errors import UserError, unknown

# the innermost choice, whose braces hold no others
CHOICE = re.compile(r"(?<!\\)\{((?:[^{}\\|]|\\.)*\|(?:[^{}\\]|\\.)*)\}", re.S)
NAME = re.compile(r"(?<![\\_])__(?!_)([\w /.-]+?)(?<!_)__(?!_)")
MAX_CHOICES = 1000  # of one prompt: files can name one another in a circle


def choose(prompt: str, seed: int, folder: Path | None = None, stream: str = "prompt") -> str:
    """The prompt with one of the texts of each {a|b}, and a line of folder/name.txt for each __name__.

    What is chosen may hold choices, too. The k-th choice is number child_seed(seed, stream, k) modulo how many there
    are. UserError for a name without a file or folder, and for what other programs read in braces: how many are
    chosen ({2$$a|b}), and how likely each is ({3::a|b}).
    """
    for k in range(MAX_CHOICES):
        choice, name = CHOICE.search(prompt), NAME.search(prompt)
        found = min(filter(None, (choice, name)), key=lambda match: match.start(), default=None)
        if found is None:
            return prompt
        texts = lines_of(found[1], folder) if found is name else options_of(found)
        chosen = texts[child_seed(seed, stream, k) % len(texts)]
        prompt = prompt[: found.start()] + chosen + prompt[found.end() :]
    raise UserError(f"the prompt has more than {MAX_CHOICES} choices: does a wildcard name itself?")


def literal(prompt: str) -> str:
    """The prompt in which what would be chosen stands for itself."""
    while CHOICE.search(prompt):
        prompt = CHOICE.sub(lambda found: rf"\{{{found[1]}\}}", prompt)
    return NAME.sub(lambda found: f"\\{found[0]}", prompt)


def options_of(found: re.Match[str]) -> list[str]:
    texts = found[1].split("|")
    if "$$" in found[1] or any(re.match(r"\s*[\d.]+::", text) for text in texts):
        raise UserError(f"{found[0][:60]}: numbers of choices and their odds are not read: write {{a|b}}")
    return texts


def lines_of(name: str, folder: Path | None) -> list[str]:
    """The lines of a file of texts, without empty ones and those that begin with #."""
    if folder is None:
        raise UserError(f"__{name}__ in the prompt: name a folder of .txt files with wildcards, or take it out")
    names = {file.relative_to(folder).with_suffix("").as_posix(): file for file in folder.rglob("*.txt")}
    if name not in names:
        raise unknown("wildcard", name, names)
    try:
        lines = [line.strip() for line in names[name].read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"wildcard {name}: its file cannot be read as UTF-8 ({error}); save it as that") from None
    if not (texts := [line for line in lines if line and not line.startswith("#")]):
        raise UserError(f"wildcard {name}: its file has no line to choose from; write one text on each")
    return texts
