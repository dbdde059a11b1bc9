"""Tests of checkpoints: on real repositories, made by git itself."""
