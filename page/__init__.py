"""The page of `python app.py`: stories told, drawn and mended in a browser."""
