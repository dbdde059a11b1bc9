"""Models that need no network: each role's answer is computed from what its agent was told."""
