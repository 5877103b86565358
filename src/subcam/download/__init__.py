"""Published data sets, from their sites to a folder that a run reads."""
