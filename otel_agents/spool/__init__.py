"""The spool: what a program tells is in a file before it goes on, and on the wire when it can be.

A finished span becomes OTLP bytes in the thread that ends it and is appended to a segment file; so
neither a `kill -9` nor an outage of the backend loses it. See `lane.py` for the way from there.
"""
