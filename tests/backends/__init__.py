"""OTLP backends that misbehave, and what a program with the spool on makes of them."""
