"""What people look for at the top of a run's folder: its configuration, final masks, network, and what was printed."""
