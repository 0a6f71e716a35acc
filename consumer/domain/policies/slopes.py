"""What the features of a signal tell of an arm's reward: a linear regression on the arm's sums.

Source: Bishop, Pattern Recognition and Machine Learning (2006), sections 3.3 (Bayesian linear
regression) and 3.4 (weighing models by their evidence); Li et al. (2010), A contextual-bandit approach to
personalized news article recommendation (a regression an arm, and its upper confidence bound).
"""

from collections.abc import Sequence
from math import log, sqrt
from typing import NamedTuple, Self

from consumer.domain.features import FEATURES, Features, FeatureSums

_COUNT = len(FEATURES)
_Z = _COUNT + 1
_PRODUCTS = _Z * (_Z + 1) // 2
_ROWS = [number * _Z - number * (number - 1) // 2 for number in range(_Z)]
"""Where each row of the triangle begins, at its diagonal."""


class Shift(NamedTuple):
    """What a signal's features do to the mean reward of an arm."""

    mean: float
    """Added to it [deviations of a reward]."""
    variance: float
    """Added to its own [the same, squared], at least 0."""
    parts: list[float]
    """Of the mean, feature by feature."""


class Slopes(NamedTuple):
    """What is believed of an arm's slopes, one for each feature."""

    centre: list[float]
    """Mean features of its rewards: there nothing is added."""
    means: list[float]
    """Mean slope [deviations of a reward for a change of 1]."""
    inverse: list[list[float]]
    """Rows of a lower triangle whose square, it transposed times itself, is the slopes' covariance."""
    log_evidence: float
    """How much better the rewards were foretold with slopes than without."""

    @classmethod
    def of_sums(cls, sums: FeatureSums, deviation: float, width: float) -> Self:
        """Regress rewards on features, both about their means: what is common to all is no slope.

        Args:
            sums: Of the arm (`features.fold_features`).
            deviation: Of one reward [R], above 0.
            width: How far slopes are believed to be from 0 [deviations of a reward], above 0.
        """
        size = range(_COUNT)
        ridge = 1.0 / (width * width)
        if not sums:
            inverse = [[0.0] * row + [width] for row in size]
            return cls([0.0] * _COUNT, [0.0] * _COUNT, inverse, 0.0)
        weight, total = sums[0], sums[_PRODUCTS]
        centre = [value / weight for value in sums[1:_Z]]
        common = [
            (value - one * total) / deviation
            for value, one in zip(sums[_PRODUCTS + 1 :], centre, strict=True)
        ]
        # Cholesky's factor of the precision, row by row
        factor: list[list[float]] = []
        log_evidence = 0.0
        for row in size:
            made: list[float] = []
            for column in range(row):
                spread = (
                    sums[_ROWS[column + 1] + row - column] - weight * centre[row] * centre[column]
                )
                upper = factor[column]
                for one, other in zip(made, upper, strict=False):
                    spread -= one * other
                made.append(spread / upper[column])
            # rounding may leave a feature that never changes a little less than nothing
            square = max(0.0, sums[_ROWS[row + 1]] - weight * centre[row] ** 2) + ridge
            for one in made:
                square -= one * one
            made.append(sqrt(max(square, 0.5 * ridge)))
            factor.append(made)
            log_evidence -= log(width * made[row])
        inverse = _inverse(factor)
        half = [sum(a * b for a, b in zip(row, common, strict=False)) for row in inverse]
        means = [
            sum(inverse[row][column] * half[row] for row in range(column, _COUNT))
            for column in size
        ]
        log_evidence += 0.5 * sum(value * value for value in half)
        return cls(centre, means, inverse, log_evidence)

    def shift(self, features: Features) -> Shift:
        """Give what a signal with such features adds to the mean reward."""
        away = [one - usual for one, usual in zip(features, self.centre, strict=True)]
        parts = [slope * one for slope, one in zip(self.means, away, strict=True)]
        variance = 0.0
        for row in self.inverse:
            projected = 0.0
            for one, other in zip(row, away, strict=False):
                projected += one * other
            variance += projected * projected
        return Shift(sum(parts), variance, parts)


def _inverse(factor: Sequence[Sequence[float]]) -> list[list[float]]:
    """Invert a lower triangle, given and returned as rows up to the diagonal."""
    found: list[list[float]] = []
    for row, values in enumerate(factor):
        diagonal = values[row]
        made = []
        for column in range(row):
            whole = 0.0
            for step in range(column, row):
                whole += values[step] * found[step][column]
            made.append(-whole / diagonal)
        found.append([*made, 1.0 / diagonal])
    return found
