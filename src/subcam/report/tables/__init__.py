"""Tables 1 to 4, and their formats."""
