"""What is wrong with a data set, found before hours are spent on it."""
