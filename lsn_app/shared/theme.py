"""How the app looks: the Gradio theme, and the colours that plots and verdict cards share."""

import gradio as gr

from lsn_core.shipped import ASSETS_DIR

CSS_FILE = ASSETS_DIR / "app.css"

# Okabe and Ito's palette, told apart with every common kind of colour blindness.
KNOWN = "#0072B2"
UNKNOWN = "#D55E00"
NEGATIVES = ("#E69F00", "#009E73", "#CC79A7", "#56B4E9")
NEUTRAL = "#7f8794"

_SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")


def build_theme() -> gr.themes.Base:
    """A plain theme with fonts of the system only: the page asks no other server for anything."""
    return gr.themes.Soft(primary_hue="blue", secondary_hue="orange", neutral_hue="slate", font=_SANS, font_mono=_MONO)
