"""Evaluation: restoring clips, scores, tables and pictures."""
