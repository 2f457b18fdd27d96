"""The language models: schedule, synthetic languages, corpora, model and training loop."""

from scaling_lib._lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {"GPT": "model", "generate": "model", "learning_rate": "schedule", "load_corpus": "corpus", "batch": "batches"},
)
