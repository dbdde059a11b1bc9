"""Git checkpoints of a working tree, and their restore, by git's plumbing alone."""
