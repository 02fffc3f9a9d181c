"""The small sets that the field scores on."""
