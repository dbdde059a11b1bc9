"""Tests of the folds, and a builder of signals for them."""
