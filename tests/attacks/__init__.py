"""Attacks, each with a control that shows that it would be seen."""
