"""Numbers in sentences."""


def plural(number: int, one: str, many: str = "") -> str:
    """Give the word for so many: `1 decision`, `2 decisions`.

    Args:
        number: How many.
        one: The word for one.
        many: The word for any other number; by default `one` with an s.
    """
    return one if number == 1 else many or f"{one}s"
