"""Networks for mobile phones."""
