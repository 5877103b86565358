"""Readers: one file for each layout of a data set, each returns an `ImageSet`."""
