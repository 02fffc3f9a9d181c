"""REDS, realistic and dynamic scenes."""
