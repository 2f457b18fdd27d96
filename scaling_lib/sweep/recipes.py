"""What V1, V2 and their relatives mean, and which runs each mode consists of."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scaling_lib.config import ModelConfig, RunConfig, TrainConfig
from scaling_lib.counting import count_parameters
from scaling_lib.errors import InputError


@dataclass(frozen=True)
class Recipe:
    """How a number of steps becomes a training: shares of the steps, not step counts."""

    schedule: str
    warmup_share: float
    decay_share: float
    weight_decay: float
    long: bool  # trains for the mode's V2 steps (True) or its V1 steps
    what: str


# From V1 to V2 in one change at a time; each keeps what the one before it changed.
RECIPES: dict[str, Recipe] = {
    "v1": Recipe("constant", 0.0, 0.0, 0.0, False, "constant rate, few steps"),
    "v1-long": Recipe("constant", 0.0, 0.0, 0.0, True, "V1 for as many steps as V2"),
    "v1-warmup": Recipe("constant", 0.1, 0.0, 0.0, True, "and 10% linear warm-up"),
    "v1-cosine": Recipe("cosine", 0.1, 0.0, 0.0, True, "and cosine decay to 0"),
    "v2": Recipe("cosine", 0.1, 0.0, 0.01, True, "and weight decay 0.01: V2"),
    "wsd": Recipe("wsd", 0.1, 0.2, 0.01, True, "warm-up, constant, decay over the last 20%"),
}
STEPS_OF_THE_WAY = ("v1", "v1-long", "v1-warmup", "v1-cosine", "v2")

# Peak rate = BASE_LR * (BASE_WIDTH / d_model) ** LR_WIDTH_POWER, one rule for every mode and recipe. It rests on
# the study in results/lr-study (widths 32, 80, 168 at 1M and 4M tokens, rates a factor of 2 apart): the rule's rate has
# the lowest loss of its five in all six scans, and the optimum falls as d_model ** -1.06, standard error 0.12.
BASE_LR = 7.5e-3
BASE_WIDTH = 64
LR_WIDTH_POWER = 1.0


MOST_RUNS = 5_000  # of one sweep: more is a slip of the pen, and to plan them alone would take hours


def peak_lr(d_model: int) -> float:
    """Peak learning rate for a width: ``7.5e-3 * 64 / d_model``, as muP has it for AdamW (Yang et al. 2022)."""
    return _rounded(BASE_LR * (BASE_WIDTH / d_model) ** LR_WIDTH_POWER)


def _rounded(rate: float) -> float:
    return float(f"{rate:.3g}")


def find_recipe(name: str) -> Recipe:
    """Look a recipe up; raises ``InputError`` naming the known ones."""
    if name not in RECIPES:
        raise InputError(f"unknown recipe {name!r}; choose from {', '.join(RECIPES)}")
    return RECIPES[name]


def make_train_config(
    recipe: str,
    d_model: int,
    max_steps: int,
    batch_size: int,
    *,
    seed: int = 0,
    lr: float | None = None,
    warmup_steps: int | None = None,
    eval_tokens: int = 65_536,
) -> TrainConfig:
    """Turn a recipe into numbers for a run of ``max_steps`` updates.

    ``warmup_steps`` overrides the recipe's share: runs that share a trunk must share their warm-up.
    """
    r = find_recipe(recipe)
    if isinstance(max_steps, bool) or not isinstance(max_steps, int) or max_steps < 1:
        raise InputError(f"max_steps must be a whole number of at least 1, not {max_steps!r}")
    return TrainConfig(
        recipe=recipe,
        max_steps=max_steps,
        batch_size=batch_size,
        lr=peak_lr(d_model) if lr is None else lr,
        schedule=r.schedule,
        warmup_steps=round(r.warmup_share * max_steps) if warmup_steps is None else warmup_steps,
        decay_steps=round(r.decay_share * max_steps),
        weight_decay=r.weight_decay,
        seed=seed,
        eval_tokens=eval_tokens,
    )


@dataclass(frozen=True)
class Mode:
    """A named sweep.

    ``shapes`` are (n_layer, n_head, d_model), smallest first. ``middle`` is the index of the shape whose data
    scaling is measured, ``data_steps`` the step counts of that ladder. ``recipes`` run by default. In a
    ``grid`` mode every shape is trained for every number of ``data_steps``. ``lr_factors`` multiply the width
    rule's peak rate, ``seeds`` is how many seeds run by default.
    """

    name: str
    what: str
    shapes: tuple[tuple[int, int, int], ...]
    vocab_size: int
    seq_len: int
    batch_size: int
    steps_v1: int
    steps_v2: int
    corpus: str
    recipes: tuple[str, ...] = ("v1", "v2")
    data_steps: tuple[int, ...] = ()
    middle: int = 2
    grid: bool = False
    eval_tokens: int = 65_536
    history_points: int = 60
    lr_factors: tuple[float, ...] = (1.0,)
    seeds: int = 1

    def model(self, index: int, vocab_size: int | None = None) -> ModelConfig:
        n_layer, n_head, d_model = self.shapes[index]
        return ModelConfig(n_layer, n_head, d_model, vocab_size or self.vocab_size, self.seq_len)


_DEMO_SHAPES = ((2, 1, 16), (2, 1, 24), (2, 2, 32), (2, 3, 48), (2, 4, 64))
_LAPTOP_SHAPES = ((2, 2, 32), (2, 3, 48), (2, 4, 64), (3, 5, 80), (4, 6, 96), (4, 7, 112), (5, 8, 128), (6, 7, 168))
# Eight windows a step, not sixteen: at 2x64 the gains of the doublings fall more evenly so, one seed
# (results/lr-study/design.csv).
_LAPTOP_WINDOWS = (128, 8)
_LAPTOP_STEPS = tuple(2**k * 1_000_000 // 1024 for k in range(5))  # 1M to 16M tokens
_LARGE_SHAPES = (
    (3, 4, 256),  # 5M in all at vocabulary 10,000
    (5, 7, 336),  # 10M
    (7, 9, 432),  # 20M
    (9, 10, 640),  # 50M
    (11, 13, 832),  # 100M
    (15, 16, 1024),  # 200M
    (17, 20, 1280),  # 350M
    (20, 22, 1408),  # 490M: the nearest shape to 500M with heads of 64
)

MODES: dict[str, Mode] = {
    mode.name: mode
    for mode in (
        Mode(
            "demo", "a first law in three minutes on two CPU cores",
            _DEMO_SHAPES, 512, 64, 16, 200, 600, "python-stdlib",
            data_steps=(150, 300, 600, 1200, 2400),
        ),
        Mode(
            "laptop", "8 sizes x 5 token counts on shared trunks, two CPU cores",
            _LAPTOP_SHAPES, 1024, *_LAPTOP_WINDOWS, 1000, 3000, "python-env",
            recipes=("wsd",), data_steps=_LAPTOP_STEPS, grid=True,
            eval_tokens=131_072,
        ),
        Mode(
            "lr-study", "which peak rate suits which width: 3 sizes x 5 rates x 2 token counts",
            ((2, 2, 32), (3, 5, 80), (6, 7, 168)), 1024, *_LAPTOP_WINDOWS, 1000, 3000, "python-env",
            recipes=("wsd",), data_steps=(976, 3906), grid=True, eval_tokens=131_072,
            lr_factors=(0.25, 0.5, 1.0, 2.0, 4.0),
        ),
        Mode(
            "seed-noise", "how far runs that differ in their seed alone lie apart; wsd beside V2's cosine",
            ((2, 2, 32), (3, 5, 80)), 1024, *_LAPTOP_WINDOWS, 1000, 3000, "python-env",
            recipes=("wsd", "v2"), data_steps=(976, 1953), grid=True, eval_tokens=131_072, seeds=5,
        ),
        Mode(
            "paired", "V1's constant rate, V2's cosine and the steps between: 4 sizes x 4 token counts, paired seeds",
            _LAPTOP_SHAPES[:4], 1024, *_LAPTOP_WINDOWS, 1000, 3000, "python-env",
            recipes=STEPS_OF_THE_WAY[1:], data_steps=(244, 488, 976, 1953), grid=True, eval_tokens=131_072, seeds=3,
        ),
        Mode(
            "coverage", "a ladder of 8 tiny sizes trained anew with 40 seeds: do the intervals hold?",
            tuple((2, d // 16, d) for d in range(16, 144, 16)), 512, 32, 16, 100, 300, "python-stdlib",
            recipes=("v2",), eval_tokens=32_768, history_points=5, seeds=40,
        ),
        Mode(
            "known-entropy", "6 sizes x 5 token counts on a synthetic language whose floor E is known exactly",
            tuple((2, d // 16, d) for d in (16, 24, 32, 48, 64, 96)), 512, 64, 64, 1000, 2000, "random-walk",
            recipes=("wsd",), data_steps=(125, 250, 500, 1000, 2000), grid=True, eval_tokens=131_072,
        ),
        Mode(
            "tokenizers", "one text under two vocabularies: run it once more with --vocab-size 4096 --out FOLDER",
            _DEMO_SHAPES, 512, 128, 16, 1000, 1200, "python-stdlib",
            recipes=("wsd",), data_steps=(150, 300, 600, 1200), grid=True,
            eval_tokens=262_144, seeds=2,  # the whole validation text, so that both vocabularies are measured on it
        ),
        Mode(
            "quick", "2M to 50M parameters: a night on two CPU cores, minutes on a GPU",
            ((4, 4, 128), *_LARGE_SHAPES[:4]), 10_000, 256, 8, 1000, 3000, "python-env",
            data_steps=(375, 750, 1500, 3000, 6000), middle=1, history_points=200,
        ),
        Mode(
            "standard", "5M to 200M parameters on one GPU",
            _LARGE_SHAPES[:6], 10_000, 512, 64, 1000, 5000, "python-env",
            data_steps=(625, 1250, 2500, 5000, 10_000), middle=1, eval_tokens=524_288, history_points=200,
        ),
        Mode(
            "full", "5M to 500M parameters on one or more GPUs; give a large text with --corpus hub:ID",
            _LARGE_SHAPES, 10_000, 512, 64, 2000, 8000, "python-env",
            data_steps=(1000, 2000, 4000, 8000, 16_000), middle=2, eval_tokens=524_288, history_points=200,
        ),
    )
}  # fmt: skip


def find_mode(name: str) -> Mode:
    """Look a mode up; raises ``InputError`` naming the known ones."""
    if name not in MODES:
        raise InputError(f"unknown mode {name!r}; choose from {', '.join(MODES)}")
    return MODES[name]


def cells(
    mode: str,
    *,
    recipes: Sequence[str] | None = None,
    max_steps: int | None = None,
    corpus: str | None = None,
    vocab_size: int | None = None,
    seeds: Iterable[int] | None = None,
    lr: float | None = None,
    sizes: int | None = None,
) -> list[RunConfig]:
    """The runs of a mode, each once, cheapest first.

    A ladder mode trains every size by every recipe, and its middle size by the last recipe for every number
    of ``data_steps``; ``max_steps`` sets the length of all and scales the data ladder about it. ``sizes`` keeps
    only so many of the smallest, and the data ladder only where its model is one of them. ``seeds``: the mode's
    when None. ``lr`` takes the place of the width rule, and of the mode's multiples of it.

    Raises
    ------
    InputError
        For an unknown mode or recipe, a bad ``max_steps``, ``vocab_size`` or ``lr``, or too many seeds.
    """
    m = find_mode(mode)
    names = tuple(recipes or m.recipes)
    for name in names:
        find_recipe(name)
    if max_steps is not None and max_steps < 1:
        raise InputError(f"max_steps must be a whole number of at least 1, not {max_steps!r}")
    if sizes is not None and not 1 <= sizes <= len(m.shapes):
        raise InputError(f"mode {mode} has {len(m.shapes)} sizes: --sizes must be 1 to {len(m.shapes)}, not {sizes}")
    n_sizes = sizes or len(m.shapes)
    text = m.corpus if corpus is None else corpus
    found: dict[RunConfig, None] = {}  # a dict keeps order and drops the cell that both ladders share

    def add(index: int, recipe: str, steps: int, seed: int, warmup: int | None = None) -> None:
        model = m.model(index, vocab_size)
        for rate in [lr] if lr is not None else [_rounded(peak_lr(model.d_model) * factor) for factor in m.lr_factors]:
            train = make_train_config(
                recipe, model.d_model, steps, m.batch_size,
                seed=seed, lr=rate, warmup_steps=warmup, eval_tokens=m.eval_tokens,
            )  # fmt: skip
            found[RunConfig(model, train, text)] = None

    scale = 1.0 if max_steps is None else max_steps / (max(m.data_steps) if m.grid else m.steps_v2)
    ladder = sorted({max(1, round(steps * scale)) for steps in m.data_steps})
    for seed in range(m.seeds) if seeds is None else seeds:
        for recipe in names:
            shared = round(RECIPES[recipe].warmup_share * ladder[0]) if recipe == "wsd" and ladder else None
            for index in range(n_sizes):
                if m.grid:
                    for steps in ladder:
                        add(index, recipe, steps, seed, shared)
                else:
                    own = m.steps_v2 if RECIPES[recipe].long else m.steps_v1
                    add(index, recipe, max_steps or own, seed)
        if not m.grid and m.middle < n_sizes:
            for steps in ladder:
                add(m.middle, names[-1], steps, seed)
        if len(found) > MOST_RUNS:
            raise InputError(f"with so many seeds mode {mode} has more than {MOST_RUNS:,} runs; give fewer (--seeds)")
    return sorted(found, key=lambda c: (count_parameters(c.model).total * c.n_tokens, c.train.recipe))
