"""A ferry line's ticket machines get new settings files, written by agents."""
