"""Servers that are killed, stopped and cut off from their database under load."""
