"""Results in the formats of others: benchmark servers, labelling tools, and runtimes for networks."""
