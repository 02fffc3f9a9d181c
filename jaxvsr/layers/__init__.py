"""Mathematics that two papers or more share: plain functions, and modules that own parameters."""
