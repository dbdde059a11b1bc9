"""State as folds over signals: pure, and indifferent to repeats and disorder."""
