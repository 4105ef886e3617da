"""Divisors of integers: into how many equal parts a number can be split."""


def largest_divisor(number: int, *, at_most: int) -> int:
    """The largest divisor of `number` that does not exceed `at_most` (at least 1)."""
    return max(d for d in range(1, max(1, at_most) + 1) if number % d == 0)
