"""One suite a port, against the fake and the real thing."""

from tests.support.fixtures import Deploy, deploy, kafka, stack

__all__ = ["Deploy", "deploy", "kafka", "stack"]
