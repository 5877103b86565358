"""Scores against masks."""
