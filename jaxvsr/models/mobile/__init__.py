"""Networks small enough for a phone."""
