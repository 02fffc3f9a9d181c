"""Vimeo-90K septuplets."""
