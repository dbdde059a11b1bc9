"""A small multi-agent program that turns a lighthouse's log into an index one can trust."""
