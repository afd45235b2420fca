"""How well a text keeps to a required length.

S_l of LongWriter (arXiv 2408.07055, section 4.1), with required length l and actual length l' in words:

    l' >  l    100 * max(0, 1 - (l'/l - 1) / 3)      zero from four times the length on
    l' <= l    100 * max(0, 1 - (l/l' - 1) / 2)      zero up to a third of it

Too short weighs more than too long. LongWriter-V (arXiv 2502.14834) prints the same formula; its code gives the
arguments in the other order, which swaps the two slopes.

The range reward of LongWriter-Zero (arXiv 2506.18841) is for a length that is known as a range only.
"""

from godwit.base.errors import GodwitError
from godwit.rewards import Compat

FLOOR_WORDS = 2
"""LongWriter-V's code counts a shorter text as this long."""


def length_score(actual: int, required: int, *, compat: Compat = "paper") -> float:
    """S_l, from 0 to 100.

    Args:
        actual: words written (`text.words.count_words`). 0 gives 0, where the released code divides by zero.
        required: words asked for, at least 1.
        compat: "code" is LongWriter-V's: slope 1/2 for long texts, 1/3 for short ones (LongWriter's is the paper's).
    """
    if required < 1 or actual < 0:
        raise GodwitError(
            f"length of {actual} words for {required} required; lengths are counts, the required one >= 1"
        )
    if compat == "code":
        actual = max(actual, FLOOR_WORDS)
    if actual == 0:
        return 0.0
    excess, slope = (actual / required - 1, 3) if actual > required else (required / actual - 1, 2)
    if compat == "code":
        slope = 5 - slope  # 3 and 2 change places
    return 100 * max(0.0, 1 - excess / slope)


def range_reward(actual: int, low: int, high: int, longest: int) -> float:
    """LongWriter-Zero's length reward, from 0 to 1.

    1 inside [low, high]; actual/low below it; (longest - actual)/(longest - high) above it, 0 from `longest` on.

    Args:
        longest: the most words a text can have (there: what fits into 14,000 tokens); more than `high`.
    """
    if not 0 < low <= high < longest or actual < 0:
        raise GodwitError(
            f"range reward of {actual} words for {low}..{high} of at most {longest}: want 0 < low <= high < longest"
        )
    if actual < low:
        return actual / low
    return 1.0 if actual <= high else max(0.0, (longest - actual) / (longest - high))
