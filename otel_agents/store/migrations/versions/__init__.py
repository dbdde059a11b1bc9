"""One module a step; steps are only ever added."""
