"""A team of agents that copies a harbour's landing book into clean figures."""
