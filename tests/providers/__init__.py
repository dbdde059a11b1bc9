"""A local server that speaks the providers' HTTP, and tests of their real clients against it."""
