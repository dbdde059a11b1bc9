"""Functions that another module has under its own name too."""


def assemble(*parts: str) -> str:
    """Return the parts as one."""
    return " ".join(parts)


def part(name: str) -> str:
    """Return a part."""
    return name


def __getattr__(name: str) -> str:
    if name == "late":
        return name
    message = f"no {name}"
    raise AttributeError(message)
