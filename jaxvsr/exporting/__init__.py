"""Networks as files for phones and servers."""
