"""The server: JSON API, live feed, health, console, and the listeners that carry them."""
