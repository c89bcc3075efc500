"""What goes wrong while the image is made."""


class ImageError(Exception):
    """The image cannot be built; the text says why, and what to do where that is known."""
