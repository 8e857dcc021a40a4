"""Quality: measured on pictures and on sets of them."""
