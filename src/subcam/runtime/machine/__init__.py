"""The machine: what it is told, and how its memory is kept."""
