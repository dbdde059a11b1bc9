"""What a machine that loses its power leaves on its disk, made from a record of system calls."""
