"""The one reader and the one writer of videos, images and folders of images."""
