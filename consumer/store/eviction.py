"""May Redis throw keys away? Then it must not hold a table."""

from typing import cast

from consumer.errors import TransientError
from consumer.store.client import RedisClient, asking


async def eviction_problem(client: RedisClient) -> tuple[bool, str]:
    """Check the server's `maxmemory-policy`.

    Returns:
        Whether it is surely wrong, and what to say; the text is empty when all is well.
    """
    try:
        with asking():
            answer = await client.config_get("maxmemory-policy")
    except TransientError as error:
        return False, f"maxmemory-policy cannot be read ({error}): make sure it is noeviction"
    policy = cast("dict[str, str]", answer).get("maxmemory-policy")
    if policy == "noeviction":
        return False, ""
    return True, f"maxmemory-policy is {policy}: it would delete parts of the table; set noeviction"
