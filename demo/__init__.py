"""The whole loop on the cartoon world: `python -m demo`, and the training of its judge."""
