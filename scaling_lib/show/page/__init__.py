"""One HTML file with sliders that needs no server: the explorer, the law by hand and the IsoFLOP lab."""

from scaling_lib._lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__, {"published_page": "build", "runs_page": "build", "save_page": "build"}
)
