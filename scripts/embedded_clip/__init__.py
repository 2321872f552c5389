"""Steps of the embedded checkpoint's build; `scripts/embedded_clip/build.py` runs them in order."""
