"""Reading from a run's folder what the page shows."""
