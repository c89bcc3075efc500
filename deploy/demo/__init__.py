"""The demonstration: three small images, and what is shown with them."""
