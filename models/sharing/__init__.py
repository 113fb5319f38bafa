"""Models as folders in diffusers' layout, which others load without this repository."""
