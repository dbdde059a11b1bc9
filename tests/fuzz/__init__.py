"""Inputs that nobody meant: fuzzed codecs, settings, templates, sockets, cursors and logs."""
