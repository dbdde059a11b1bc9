"""The process of the zoo: `python -m tests.backends.beasts`, spoken to by `tests.backends.zoo`."""
