"""What the features of a signal tell of an arm's reward: a linear regression on the arm's sums.

Source: Bishop, Pattern Recognition and Machine Learning (2006), sections 3.3 (Bayesian linear
regression) and 3.4 (weighing models by their evidence); Li et al. (2010), A contextual-bandit approach to
personalized news article recommendation (a regression an arm, and its upper confidence bound).
"""

from collections.abc import Sequence
from math import log, sqrt
from operator import mul
from typing import NamedTuple, Self

from consumer.domain.features import FEATURES, PRODUCTS, FeatureSums
from schemas.sums import total

_COUNT = len(FEATURES)
_Z = _COUNT + 1
_DIAGONAL = [number * _Z - number * (number - 1) // 2 for number in range(_Z)]
"""Where each row of the triangle of products begins."""


class Design(NamedTuple):
    """What is known of slopes from the features alone, whatever the rewards were."""

    weight: float
    """Rewards behind it [1], older ones in part."""
    centre: list[float]
    """Mean features."""
    inverse: list[list[float]]
    """Rows of a lower triangle; it transposed times itself is the covariance of the slopes."""
    log_volume: float
    """Logarithm of what is left of the volume in which the slopes were believed to lie."""

    @classmethod
    def of_products(cls, products: Sequence[float], width: float) -> Self:
        """Work it out from the sums of products.

        Args:
            products: First part of an arm's sums (`features.fold_features`); empty: no rewards.
            width: How far slopes are believed to be from 0 [deviations of a reward], above 0.
        """
        size = range(_COUNT)
        if not products or not products[0]:  # all that there was may have been forgotten
            return cls(0.0, [0.0] * _COUNT, [[0.0] * row + [width] for row in size], 0.0)
        ridge = 1.0 / (width * width)
        weight = products[0]
        centre = [value / weight for value in products[1:_Z]]
        # Cholesky's factor of the precision, row by row; features are taken about their means
        factor: list[list[float]] = []
        log_volume = 0.0
        for row in size:
            made: list[float] = []
            for column in range(row):
                common = products[_DIAGONAL[column + 1] + row - column]
                common -= weight * centre[row] * centre[column]
                upper = factor[column]
                made.append((common - _dot(made, upper)) / upper[column])
            # rounding may leave a feature that never changes a little less than nothing
            square = max(0.0, products[_DIAGONAL[row + 1]] - weight * centre[row] ** 2) + ridge
            made.append(sqrt(max(square - _dot(made, made), 0.5 * ridge)))
            factor.append(made)
            log_volume -= log(width * made[row])
        return cls(weight, centre, _inverse(factor), log_volume)

    def variance(self, away: Sequence[float]) -> float:
        """Give how unsure it is what features so far from usual add [deviations of a reward, squared]."""
        projected = [_dot(row, away) for row in self.inverse]
        return _dot(projected, projected)


class Slopes(NamedTuple):
    """What is believed of an arm's slopes, one for each feature."""

    design: Design
    means: list[float]
    """Mean slope [deviations of a reward for a change of 1]."""
    log_evidence: float
    """How much better the rewards were foretold with slopes than without."""

    @classmethod
    def of_sums(cls, sums: FeatureSums, deviation: float, design: Design) -> Self:
        """Regress rewards on features, both about their means: what is common to all is no slope.

        Args:
            sums: Of the arm (`features.fold_features`); empty: no rewards.
            deviation: Of one reward [R], above 0.
            design: Of the same sums.
        """
        if not design.weight:
            return cls(design, [0.0] * _COUNT, 0.0)
        total = sums[PRODUCTS]
        common = [
            (value - one * total) / deviation
            for value, one in zip(sums[PRODUCTS + 1 :], design.centre, strict=True)
        ]
        half = [_dot(row, common) for row in design.inverse]
        means = [0.0] * _COUNT
        for value, row in zip(half, design.inverse, strict=True):
            for column, one in enumerate(row):
                means[column] += one * value
        return cls(design, means, design.log_volume + 0.5 * _dot(half, half))


def _dot(one: Sequence[float], other: Sequence[float]) -> float:
    """Multiply vectors; the longer one is cut to the length of the shorter."""
    return total(map(mul, one, other))


def _inverse(factor: Sequence[Sequence[float]]) -> list[list[float]]:
    """Invert a lower triangle, given and returned as rows up to the diagonal."""
    columns: list[list[float]] = []  # of the inverse, from the diagonal down
    for first, values in enumerate(factor):
        column = [1.0 / values[first]]
        for row in factor[first + 1 :]:
            column.append(-_dot(row[first:], column) / row[first + len(column)])
        columns.append(column)
    return [[columns[n][row - n] for n in range(row + 1)] for row in range(len(factor))]
