"""The server: its API, guard, live feed and listeners."""
