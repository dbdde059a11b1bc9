"""Instrumentations: one file per framework, and what they share."""
