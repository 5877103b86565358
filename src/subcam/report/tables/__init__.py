"""Tables 1-4 and how a number is written."""
