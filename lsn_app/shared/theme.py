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
    """A plain theme with fonts of the system only: the page asks no other server for anything.

    Its own colours of links, labels, hints and pressed buttons are darker than Gradio's: at least 4.5 to 1 on what is
    behind them (WCAG AA).
    """
    soft = gr.themes.Soft(primary_hue="blue", secondary_hue="orange", neutral_hue="slate", font=_SANS, font_mono=_MONO)
    return soft.set(
        background_fill_primary="*neutral_50",  # Soft's own, which `set` would forget
        link_text_color="*primary_700",
        link_text_color_hover="*primary_800",
        link_text_color_visited="*primary_700",
        link_text_color_active="*primary_700",
        link_text_color_dark="*primary_400",
        link_text_color_hover_dark="*primary_300",
        link_text_color_visited_dark="*primary_400",
        link_text_color_active_dark="*primary_400",
        block_title_text_color="*primary_700",
        block_label_text_color="*primary_700",
        block_info_text_color="*neutral_600",
        body_text_color_subdued="*neutral_600",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_hover_dark="*primary_700",
        button_secondary_background_fill_hover_dark="*neutral_600",
        checkbox_label_background_fill_selected="*primary_600",
    )
