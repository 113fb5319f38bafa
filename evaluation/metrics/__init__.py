"""Every metric: `table.py` lists them, the other files measure them."""
