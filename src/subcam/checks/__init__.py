"""What may come in: the values of settings, and the arrays that a person hands to a function."""
