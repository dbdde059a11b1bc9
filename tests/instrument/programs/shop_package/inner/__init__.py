"""A package in a package."""


async def deliver(to: str) -> str:
    """Return where it went."""
    return to
