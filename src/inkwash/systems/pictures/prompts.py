"""What a prompt says: weights in brackets, (word:1.3) counts more and [word] less; and emoji by their names."""

import re
from typing import Any, NamedTuple

import numpy as np

from inkwash.errors import UserError

STEP = 1.1  # what a pair of brackets without a number multiplies by
MAX_WEIGHT = 4.0
POINT = "[.,\uff0e\uff0c\u3002]"  # before the decimals of a weight
NUMBER = rf"[-+]?(?:(?:\d+{POINT}?\d*|{POINT}\d+)(?:[eE][-+]?\d+)?|nan|inf)"  # what programs write as one
# brackets, and the colon of a weight, as Chinese keyboards write them
FULL_WIDTH = re.compile(rf"[\uff08\uff09\uff3b\uff3d]|\uff1a(?=\s*{NUMBER}\s*[)\uff09])")
PLAIN = str.maketrans("\uff08\uff09\uff3b\uff3d\uff1a", "()[]:")
SKIN = re.compile(r"(medium-|)(light|medium|dark) skin tone,?")
TOKEN = re.compile(
    r"(?P<escaped>\\[()\[\]\\])|(?P<open>[(\[])"
    rf"|(?::\s*(?P<weight>{NUMBER})\s*(?=[)\]]))?(?P<close>[)\]])|.",
    re.S,
)


class Weighted(NamedTuple):
    """A prompt without its brackets, the weight of each of its characters, and the brackets that match no other."""

    text: str
    weights: np.ndarray
    unmatched: str = ""

    @property
    def unconditional(self) -> bool:
        """Whether every word of it has the weight 0: it is the empty prompt."""
        letters = [weight for sign, weight in zip(self.text, self.weights, strict=True) if sign.isalnum()]
        return bool(letters) and not any(letters)


def weigh(prompt: str) -> Weighted:
    r"""What a prompt says with what weight.

    (x) multiplies by 1.1, [x] divides by it, (x:1.3) multiplies by 1.3; within one another they multiply. \( \) \[ \]
    stand for themselves, and so does a bracket without its fellow, and the whole of (12:30) or (16:9). UserError for
    a weight, or a product of weights, that is not from 0 to 4.
    """
    tokens = [*TOKEN.finditer(FULL_WIDTH.sub(lambda sign: sign[0].translate(PLAIN), prompt))]
    partner = matches(tokens)
    text, weights, starts = "", list[float](), list[int]()
    for i, token in enumerate(tokens):
        if i not in partner:
            plain = token[0][-1] if token["escaped"] else token[0]
            text += plain
            weights += [1.0] * len(plain)
        elif token["open"]:
            starts.append(len(text))
        else:
            start = starts.pop()
            time = text[start:].isdigit() and (token["weight"] or "").isdigit()
            text += token[0][:-1] if time else ""
            weights += [1.0] * (len(text) - len(weights))
            factor = STEP if time else weight_of(token)
            weights[start:] = [weight * factor for weight in weights[start:]]
    if weights and max(weights) > MAX_WEIGHT:
        raise UserError(
            f"weights multiply to {max(weights):.3g}: choose them so that they stay from 0 to {MAX_WEIGHT:g}"
        )
    brackets = "".join(token["open"] or token["close"] or "" for i, token in enumerate(tokens) if i not in partner)
    return Weighted(text, np.array(weights), brackets)


def matches(tokens: list[re.Match[str]]) -> set[int]:
    """The numbers of the brackets that open and close one another."""
    found, opened = set(), list[int]()
    for i, token in enumerate(tokens):
        if token["open"]:
            opened.append(i)
        elif token["close"]:
            fellow = "(" if token["close"] == ")" else "["
            at = next((at for at in reversed(opened) if tokens[at]["open"] == fellow), None)
            if at is not None:
                found |= {at, i}
                del opened[opened.index(at) :]  # what was opened within it is closed by nothing
    return found


def weight_of(token: re.Match[str]) -> float:
    """What a closing bracket multiplies by."""
    if token["weight"] is None:
        return 1 / STEP if token["close"] == "]" else STEP
    weight = float(re.sub(POINT, ".", token["weight"]))
    if token["close"] == "]":
        raise UserError(f"[...:{token['weight']}]: a weight stands in round brackets, (...:{token['weight']})")
    if not 0 <= weight <= MAX_WEIGHT:
        raise UserError(f"(...:{token['weight']}): choose a weight from 0 to {MAX_WEIGHT:g}")
    return weight


def unknown_tokens(text: str, tokenizer: Any) -> tuple[list[str], bool]:
    """What of a text a tokenizer does not know, and whether it knows a word of it."""
    encoding = tokenizer.encode(text)
    pieces = zip(encoding.offsets, encoding.tokens, strict=True)
    tokens = {(text[start:end], piece != "[UNK]") for (start, end), piece in pieces if start < end}
    unknown = sorted(text for text, known in tokens if not known)
    return unknown, any(known and any(map(str.isalnum, text)) for text, known in tokens)


def emphasise(
    states: np.ndarray, mask: np.ndarray, uncond: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """States (L, D) and the pooled state (D,) of a text whose pieces have the weights w (L,).

    state_i = s + w_i (state_i - s), where s (D,) is the mean state of the empty text: a weight of 0 is that, 1 the
    plain text. pooled = sqrt(D) m / |m|, m being their mean over the real pieces, as TextEncoder pools.
    """
    weighted = np.where(mask[:, None], uncond + weights[:, None] * (states - uncond), 0).astype(np.float32)
    mean = weighted.sum(0)
    length = max(float(np.linalg.norm(mean)), 1e-12)
    return weighted, (np.sqrt(len(mean)) * mean / length).astype(np.float32)


def piece_weights(offsets: list[tuple[int, int]], weights: np.ndarray) -> np.ndarray:
    """The mean weight of the characters of each piece. The marks at the ends, which are of none but have read the
    whole text, have the mean of all weights, but 1 at most."""
    ends = min(1.0, float(weights.mean())) if len(weights) else 1.0
    return np.array([weights[a:b].mean() if a < b else ends for a, b in offsets])


def spell_emoji(prompt: str) -> str:
    """Emoji by the names that models learn, those of Unicode CLDR: "a 🦊" -> "a fox". Skin tones say nothing, and
    © ® ™ are text."""
    if prompt.isascii():
        return prompt
    import emoji

    def name(sign: str, data: dict[str, str]) -> str:
        if sign in "©®™":
            return sign
        words = SKIN.sub("", re.sub(r"[_:]+", " ", data["en"]))
        return f" {re.sub('[()]', '', words)} "  # which would be weights: O button (blood type)

    spelled = emoji.replace_emoji(prompt, name)
    return prompt if spelled == prompt else " ".join(spelled.split())
