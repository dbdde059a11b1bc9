"""Events under load, under attack and at the end of a process: each once, or counted as lost."""
