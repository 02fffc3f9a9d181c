"""Reading, degrading and writing clips."""
