"""Starts the app: `python app.py`, then open http://127.0.0.1:7860. A Hugging Face Space starts it so, too."""

from lsn_app.server import main

if __name__ == "__main__":
    main()
