"""Tests of the command line: on real files, as processes of their own."""
