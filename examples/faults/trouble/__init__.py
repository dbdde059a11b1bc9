"""Every kind of trouble that a program of agents has, made for real."""
