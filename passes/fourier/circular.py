"""When part of a circular convolution is a linear one: the proof by ranges of indices, for one axis.

Let ``x[i]``, ``0 ≤ i < S``, sit at the point ``i`` of ``N``, and the taps, running backwards, at ``c - j``,
``0 ≤ j < K`` (in the order of ``torch.nn.functional``). The circular convolution is then ::

    y[u] = Σ w[j] · x[i]   over all i, j with   i - j + c ≡ u  (mod N)

``i - j + c`` takes the values ``c - K + 1 … c + S - 1`` and no others. If of all the ranges ``[a, b) + m·N`` only one
meets these, then ``y[a:b]`` has no wrapped term, and with ``l = c - (a + m·N)`` ::

    y[a + t] = Σ_j w[j] · x[t + j - l],        0 ≤ t < b - a

which is a correlation with ``l`` zeros in front of ``x`` and ``r = (b - a) - S - l + K - 1`` behind it.
"""

from __future__ import annotations

from dataclasses import dataclass

from tzwc.passes.fourier.fourier_calls import Declined

__all__ = ["LinearPart", "linear_part"]


@dataclass(frozen=True)
class LinearPart:
    """A correlation of parts of the input and the taps, zeros around the result.

    Attributes:
        x: first and one past the last element of the input that is used.
        taps: the same for the taps, in the order of ``torch.nn.functional``.
        padding: zeros before and after this part of the input, none negative and none beyond ``K - 1``.
        outside: zeros before and after the correlation, where no tap meets the input.
    """

    x: tuple[int, int]
    taps: tuple[int, int]
    padding: tuple[int, int]
    outside: tuple[int, int]


def linear_part(length: int, kernel: int, points: int, shift: int, begin: int, end: int) -> LinearPart:
    """``y[begin:end]`` as a linear convolution.

    Args:
        length, kernel, points, shift: `S`, `K`, `N` and `c` of the module.
        begin, end: `a` and `b`, with ``end - begin <= points``.

    Raises:
        Declined: a wrapped term is read, or nothing is.
    """
    lowest, highest = shift - kernel + 1, shift + length - 1
    first = -((end - 1 - lowest) // points)  # the least m with end - 1 + m·N >= lowest
    turns = [m for m in range(first, first + 2) if begin + m * points <= highest]
    if not turns:
        raise Declined("what is read of the circular convolution is zero")
    if len(turns) > 1 and length + kernel - 1 <= points:
        raise Declined("what is read runs over the end of the linear convolution and on at its beginning")
    if len(turns) > 1:
        raise Declined(
            f"the convolution is circular: {length} values and {kernel} taps on {points} points wrap around into "
            "what is read"
        )
    before = shift - (begin + turns[0] * points)
    out = end - begin
    start, stop = 0, length
    from_tap = max(before - (out - 1), 0)  # earlier taps meet only the zeros in front
    to_tap = min(length + before, kernel)  # later ones only those behind
    before -= from_tap
    if before < 0:
        start, before = -before, 0
    taps, values = to_tap - from_tap, stop - start
    after = out - values - before + taps - 1
    if after < 0:
        stop, after = stop + after, 0
    zeros = (max(before - taps + 1, 0), max(after - taps + 1, 0))
    padding = (before - zeros[0], after - zeros[1])
    return LinearPart((start, stop), (from_tap, to_tap), padding, zeros)
