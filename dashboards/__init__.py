"""Grafana dashboards, alerts and recording rules, built from the vocabulary.

`python -m dashboards` writes `generated/`; with `--check` it only says what would differ. No metric
or label is spelled here: a name that the vocabulary does not have fails the build.
"""
