"""Text that a small probabilistic grammar generates, as examples of a data set: windows of characters and the character after each.

For language models of characters where no published text may be shipped. Words are drawn with Zipf-like frequencies and sentences have
what a recurrent network has to remember: spelling, word order, and the number of a noun, which its verb agrees with across an adjective
or a relative clause. Text and windows are a function of the seed alone.
"""

from collections.abc import Iterator

import numpy as np

ALPHABET = " abcdefghijklmnopqrstuvwxyz."
LENGTH = 20  # characters of a window
SIZES = {"train": 20_000, "test": 5_000}  # windows
SEEDS = {"train": 0, "test": 1}

# symbol: weight expansion | weight expansion ...; what stands on no left side is a word
_GRAMMAR = """
SENTENCE: 5 ONE DOES | 4 SEVERAL DO | 1 ONE DOES and SENTENCE
ONE: 6 the NOUN | 3 this NOUN | 3 the QUALITY NOUN | 1 the NOUN that DOES
SEVERAL: 6 the NOUNS | 3 these NOUNS | 3 many QUALITY NOUNS | 1 the NOUNS that DO
DOES: 3 SLEEPS | 5 SEES OBJECT | 2 SLEEPS PLACE
DO: 3 SLEEP | 5 SEE OBJECT | 2 SLEEP PLACE
OBJECT: 1 ONE | 1 SEVERAL
PLACE: 3 near OBJECT | 2 behind OBJECT | 1 without OBJECT
NOUN: 12 cat | 6 horse | 4 farmer | 3 bird | 2 judge | 2 child | 1 queen | 1 wizard
NOUNS: 12 cats | 6 horses | 4 farmers | 3 birds | 2 judges | 2 children | 1 queens | 1 wizards
QUALITY: 6 small | 3 quiet | 2 brave | 1 lazy | 1 foxy
SLEEPS: 6 sleeps | 3 waits | 2 jumps | 1 vanishes
SLEEP: 6 sleep | 3 wait | 2 jump | 1 vanish
SEES: 6 sees | 3 likes | 2 knows | 1 asks
SEE: 6 see | 3 like | 2 know | 1 ask
"""


def windows(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Examples of one part, consecutive windows of one text that do not overlap.

    Args:
        split: "train" or "test", texts of different seeds.

    Returns:
        One-hot characters, 0 or 255, as "images" uint8 ``[n, 1, LENGTH, len(ALPHABET)]``, and the characters that follow, uint8 ``[n]``.

    Example:
        >>> images, following = windows("test")
        >>> images.shape, following.shape
        ((5000, 1, 20, 28), (5000,))
    """
    n = SIZES[split]
    place = np.full(128, 255, np.uint8)
    place[np.frombuffer(ALPHABET.encode(), np.uint8)] = np.arange(len(ALPHABET))
    codes = place[np.frombuffer(text(n * LENGTH + 1, seed=SEEDS[split]).encode(), np.uint8)]
    pixels = np.eye(len(ALPHABET), dtype=np.uint8)[codes[:-1].reshape(n, 1, LENGTH)] * np.uint8(255)
    return pixels, codes[LENGTH::LENGTH].copy()


def text(n: int, *, seed: int) -> str:
    """``n`` characters of sentences.

    Example:
        >>> text(40, seed=0)
        'many quiet horses like the foxy cat. the'
    """
    random = np.random.RandomState(seed)
    rules = _rules()
    sentences: list[str] = []
    length = 0
    while length < n:
        sentences.append(" ".join(_words("SENTENCE", rules, random)) + ". ")
        length += len(sentences[-1])
    return "".join(sentences)[:n]


_Rules = dict[str, tuple[np.ndarray, list[list[str]]]]


def _rules() -> _Rules:
    """Cumulative probabilities and expansions by symbol."""
    found = {}
    for line in _GRAMMAR.strip().splitlines():
        symbol, _, right = line.partition(": ")
        expansions = [part.split() for part in right.split(" | ")]
        shares = np.cumsum([int(first) for first, *_ in expansions])
        found[symbol] = (shares / shares[-1], [rest for _, *rest in expansions])
    return found


def _words(symbol: str, rules: _Rules, random: np.random.RandomState) -> Iterator[str]:
    if symbol not in rules:
        yield symbol
        return
    shares, expansions = rules[symbol]
    for part in expansions[int(np.searchsorted(shares, random.random_sample(), side="right"))]:
        yield from _words(part, rules, random)
