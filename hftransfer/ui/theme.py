"""How the pages look: one accent colour, light and dark, the system's own fonts; nothing is loaded from elsewhere."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

ACCENT = gr.themes.Color(
    name="accent",
    c50="#eff6fb", c100="#dcebf5", c200="#bcd9ea", c300="#8fbfdb", c400="#5b9fc6", c500="#3a82ad", c600="#2a6a94",
    c700="#235878", c800="#1e4963", c900="#1a3c52", c950="#102838",
)  # fmt: skip
NEUTRAL = gr.themes.Color(
    name="neutral",
    c50="#f7f8fa", c100="#eef0f3", c200="#e1e5ea", c300="#cbd2da", c400="#98a3b0", c500="#66727f", c600="#4b5663",
    c700="#37414d", c800="#232b35", c900="#171d25", c950="#10151b",
)  # fmt: skip
FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
MONOSPACE = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "Liberation Mono", "monospace")
PLACE = Path(__file__).parent


def theme() -> gr.themes.Base:
    """Return the theme: Gradio's own widgets in our colours."""
    base = gr.themes.Base(
        primary_hue=ACCENT,
        secondary_hue=ACCENT,
        neutral_hue=NEUTRAL,
        font=list(FONTS),
        font_mono=list(MONOSPACE),
        radius_size=gr.themes.sizes.radius_lg,
        spacing_size=gr.themes.sizes.spacing_lg,
        text_size=gr.themes.sizes.text_md,
    )
    return base.set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        body_text_color="*neutral_800",
        body_text_color_dark="*neutral_100",
        body_text_color_subdued="*neutral_500",
        body_text_color_subdued_dark="*neutral_400",
        background_fill_primary="#ffffff",
        background_fill_primary_dark="*neutral_900",
        background_fill_secondary="*neutral_50",
        background_fill_secondary_dark="*neutral_950",
        border_color_primary="*neutral_200",
        border_color_primary_dark="*neutral_800",
        block_background_fill="transparent",
        block_background_fill_dark="transparent",
        block_border_width="0px",
        block_shadow="none",
        block_padding="0px",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_label_border_width="0px",
        block_label_text_color="*neutral_600",
        block_label_text_color_dark="*neutral_300",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
        block_title_text_weight="550",
        block_info_text_color="*neutral_500",
        block_info_text_color_dark="*neutral_400",
        block_info_text_size="*text_sm",
        layout_gap="20px",
        form_gap_width="16px",
        input_background_fill="#ffffff",
        input_background_fill_dark="*neutral_900",
        input_border_color="*neutral_300",
        input_border_color_dark="*neutral_700",
        input_border_color_focus="*primary_500",
        input_border_color_focus_dark="*primary_400",
        input_border_width="1px",
        input_shadow="none",
        input_shadow_focus="0 0 0 3px color-mix(in srgb, *primary_500 22%, transparent)",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_700",
        button_primary_text_color="#ffffff",
        button_primary_border_color="transparent",
        button_secondary_background_fill="#ffffff",
        button_secondary_background_fill_dark="*neutral_800",
        button_secondary_background_fill_hover="*neutral_100",
        button_secondary_background_fill_hover_dark="*neutral_700",
        button_secondary_border_color="*neutral_300",
        button_secondary_border_color_dark="*neutral_700",
        button_secondary_text_color="*neutral_800",
        button_secondary_text_color_dark="*neutral_100",
        button_border_width="1px",
        button_large_text_weight="550",
        button_large_padding="10px 22px",
        button_large_text_size="*text_md",
        button_small_text_size="*text_sm",
        button_transform_hover="none",
        button_transition="background-color .15s, border-color .15s",
        checkbox_label_background_fill="#ffffff",
        checkbox_label_background_fill_dark="*neutral_900",
        checkbox_label_background_fill_selected="*primary_50",
        checkbox_label_background_fill_selected_dark="*primary_950",
        checkbox_label_border_color="*neutral_300",
        checkbox_label_border_color_dark="*neutral_700",
        checkbox_label_border_width="1px",
        checkbox_label_border_color_selected="*primary_500",
        checkbox_label_text_color_selected="*primary_800",
        checkbox_label_text_color_selected_dark="*primary_100",
        checkbox_label_shadow="none",
        table_border_color="*neutral_200",
        table_border_color_dark="*neutral_800",
        color_accent="*primary_600",
        color_accent_soft="*primary_50",
        color_accent_soft_dark="*primary_950",
        link_text_color="*primary_700",
        link_text_color_dark="*primary_300",
    )


def head() -> str:
    """Return what stands in the page's head: our styles and the few lines of script that switch between the steps."""
    css, *scripts = ((PLACE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js", "bring.js"))
    return f"<style>{css}</style>" + "".join(f"<script>{script}</script>" for script in scripts)
