"""Many runs that share what is equal: grids, seeds, means and deviations."""
