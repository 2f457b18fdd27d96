"""The budget game: buy runs from a shop, seal a prediction of a large one, find out. Works without torch in replay."""

from scaling_lib._lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__, {"Lab": "game", "Shop": "shop", "find_shop": "shop", "Score": "score", "open_lab": "game"}
)
