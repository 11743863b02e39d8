"""Weights in prompts: (word:1.3) counts more, [word] less."""

import re

import numpy as np

STEP = 1.1  # what a pair of brackets without a number multiplies by
TOKEN = re.compile(
    r"(?P<escaped>\\[()\[\]\\])|(?P<open>[(\[])|(?::\s*(?P<weight>\d+(\.\d+)?)\s*)?(?P<close>[)\]])|.", re.S
)


def weigh(prompt: str) -> tuple[str, np.ndarray]:
    r"""The prompt without its brackets, and the weight of each of its characters.

    (x) multiplies by 1.1, [x] divides by it, (x:1.3) multiplies by 1.3; within one another they multiply. \( \) \[ \]
    stand for themselves. A prompt whose brackets do not match is taken as it is, with weights of 1.
    """
    text, weights, open_brackets = "", list[float](), list[tuple[str, int]]()
    for token in TOKEN.finditer(prompt):
        if token["open"]:
            open_brackets.append((token["open"], len(text)))
        elif token["close"]:
            if not open_brackets or open_brackets[-1][0] + token["close"] not in ("()", "[]"):
                return prompt, np.ones(len(prompt))
            start = open_brackets.pop()[1]
            factor = float(token["weight"] or STEP)
            weights[start:] = [w / factor if token["close"] == "]" else w * factor for w in weights[start:]]
        else:
            text += token[0][-1]
            weights.append(1.0)
    return (prompt, np.ones(len(prompt))) if open_brackets else (text, np.array(weights))


def emphasise(
    states: np.ndarray, mask: np.ndarray, uncond: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """States (L, D) and the pooled state (D,) of a text whose pieces have the weights w (L,).

    state_i = s + w_i (state_i - s), where s (D,) is the mean state of the empty text: a weight of 0 is that, 1 the
    plain text. pooled = sqrt(D) m / |m| with m = sum_i w_i state_i over the real pieces, as TextEncoder pools.
    """
    weighted = np.where(mask[:, None], uncond + weights[:, None] * (states - uncond), 0).astype(np.float32)
    mean = (weights[:, None] * states)[mask].sum(0)
    length = max(float(np.linalg.norm(mean)), 1e-12)
    return weighted, (np.sqrt(len(mean)) * mean / length).astype(np.float32)


def piece_weights(offsets: list[tuple[int, int]], weights: np.ndarray) -> np.ndarray:
    """The mean weight of the characters of each piece; 1 for pieces of none."""
    return np.array([weights[a:b].mean() if a < b else 1.0 for a, b in offsets])
