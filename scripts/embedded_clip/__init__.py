"""Steps of the embedded checkpoint's build; `scripts/build_embedded_clip.py` runs them in order."""
