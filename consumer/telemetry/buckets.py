"""Values -> how many of them a histogram's buckets hold."""

from bisect import bisect_left
from collections.abc import Sequence


def bucket_counts(upper_bounds: Sequence[float], values: Sequence[float]) -> dict[int, int]:
    """Count values by the number of their bucket, the first whose bound is not below the value.

    Args:
        upper_bounds: Of the buckets, rising; the last one is infinite.
        values: In any order.

    Returns:
        No entry for a bucket without values.
    """
    counts: dict[int, int] = {}
    for value in values:
        bucket = bisect_left(upper_bounds, value)
        counts[bucket] = counts.get(bucket, 0) + 1
    return counts
