"""The machine: what it is told, its cores, how its memory is kept, and its vector registers."""
