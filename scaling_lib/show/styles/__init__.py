"""Matplotlib style sheets, used by dotted name: ``plt.style.context("scaling_lib.show.styles.blog")``."""
