"""Lengths of transforms: long enough that no wrapped term is read, and of a kind that FFT libraries are fast for."""

from __future__ import annotations

from functools import lru_cache

__all__ = ["good_size", "is_good", "minimal_size"]


@lru_cache(maxsize=4096)
def good_size(minimum: int, *, even: bool = True) -> int:
    """The smallest ``n ≥ minimum`` whose prime factors are 2, 3 and 5 (and, when ``even``, which 2 divides).

    FFT libraries have code for these factors; an even length is what a real transform halves.
    """
    n = max(minimum, 2 if even else 1)
    while not (is_good(n) and not (even and n % 2)):
        n += 1
    return n


def is_good(n: int) -> bool:
    """Whether 2, 3 and 5 are the only prime factors of ``n``."""
    for prime in (2, 3, 5):
        while n % prime == 0:
            n //= prime
    return n == 1


def minimal_size(length: int, reach: int, first: int, last: int) -> int:
    """The shortest circular convolution in which the elements ``first`` to ``last`` of the linear one are right.

    The linear convolution of ``length`` and ``reach`` elements has ``length + reach - 1``; element ``v + n`` of it is
    added to element ``v`` of a circular one of length ``n``. For ``padding="same"`` the result is
    ``max(length + reach // 2, reach)``.
    """
    full = length + reach - 1
    return max(length, reach, full - max(first, 0), min(last, full - 1) + 1)
