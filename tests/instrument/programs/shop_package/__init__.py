"""A package with a target in its own module, and one further in."""


def open_shop(name: str) -> str:
    """Return the name."""
    return name
