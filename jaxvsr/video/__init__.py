"""Reading and writing videos and folders of images."""
