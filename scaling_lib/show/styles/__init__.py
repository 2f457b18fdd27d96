"""Matplotlib style sheets, used by dotted name: ``plt.style.context("scaling_lib.show.styles.blog")``.

``slides`` and ``paper`` hold what differs from ``blog``: name both, blog first.
"""
