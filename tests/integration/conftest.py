"""Parts of the product on real servers."""

from tests.support.fixtures import Deploy, deploy, kafka, stack

__all__ = ["Deploy", "deploy", "kafka", "stack"]
