"""The numbers that our documents state outside of their tables, by the names of ``tools/facts.py``.

``test_markdown.py`` fills each template in and looks for the result in the document; a decimal number that neither a
template nor ``GIVEN`` covers fails too. So when a result changes, the test says which number to write, and where.
"""

from __future__ import annotations

HELD_OUT = "{laptop.wsd_grid.held_out.error:.1%}"
LINE = "{laptop.wsd_grid.held_out.line:.1%}"
LEARNED = "{laptop_learned.wsd_grid.held_out.error:.1%}"
LEARNED_LINE = "{laptop_learned.wsd_grid.held_out.line:.1%}"
HELD, CELLS = "{laptop.wsd_grid.held_out.held}", "{laptop.wsd_grid.held_out.cells}"
N_LAW = ("alpha = {laptop.wsd_N.alpha:.2f}", "E = {laptop.wsd_N.E:.2f}", "{laptop.wsd_N.verdict}")
DEMO_ALPHA = "alpha = {v1_to_v2.v2_N.alpha:.2f}"
WALK = ("{entropy_walk.true_floor:.3f}", "E = {entropy_walk.joint_floor:.3f}")
HIERARCHY = ("{entropy_hierarchy.true_floor:.3f}", "{entropy_hierarchy.joint_floor:.3f}")
TEN_THOUSAND = ("{vocabulary_10000.first:.2f}", "{vocabulary_10000.lowest:.2f}", "{ln.v10000:.2f}")
FIVE_MILLION = ("{loss[quick][3x256 v2 3000]:.2f}", "{loss[quick][3x256 v2 6000]:.2f}")
PYTHIA = ("{pythia.non_embedding:.1%}", "{pythia.total:.1%}")
LUCK = "{rate_near_zero.v2_N.r2:.2f}"

FRONT = (
    *N_LAW, *WALK, HELD_OUT, LINE, "{change.large.all:+.2f}", "{change.large.v1_long:+.2f}",
    "{change.large.v1_cosine:+.2f}", "{gpt4:.2f}", "{vocabulary_10000.first:.2f}",
)  # fmt: skip
GUIDE = (
    *TEN_THOUSAND, *FIVE_MILLION, HELD_OUT, LINE, LUCK, "{loss[quick][3x256 v1 1000]:.2f}", "{gpt3:.2f}", "{gpt4:.2f}",
    "{ln.v512:.2f}", "{ln.v1024:.2f}", "{v1_to_v2.seed_noise:.2%}",
)  # fmt: skip
CLAIMS: dict[str, tuple[str, ...]] = {
    "README_V2.md": (*FRONT, *HIERARCHY, f"{HELD} of {CELLS} intervals hold", "| {entropy_walk.joint_verdict} |"),
    "README_V2.zh.md": (*FRONT, f"{CELLS} 个区间包住 {HELD} 个"),
    "EXPERIMENT_GUIDE_V2.md": GUIDE,
    "docs/EXPERIMENT_GUIDE.zh.md": GUIDE,
    "docs/CURRENT_STATUS.md": (LEARNED, *HIERARCHY),
    "docs/Scaling_Law_Presentation.md": (
        *N_LAW, *WALK, *HIERARCHY, *TEN_THOUSAND, HELD_OUT, LINE, LEARNED, LEARNED_LINE, DEMO_ALPHA,
        f"{HELD} of {CELLS} intervals hold", "{laptop.wsd_grid.held_out.median_half_width:.1%}", LUCK,
        "{change.large.v1_long:+.3f}", "{change.large.v1_warmup:+.3f}", "{change.large.v1_cosine:+.3f}",
        "{change.small.v1_cosine:+.3f}", "beta = {laptop.wsd_D.beta:.2f}", "{v1_to_v2.seed_noise:.2%}",
        "{coverage.hidden_1.held} of {coverage.hidden_1.trials} held at {coverage.hidden_1.span:.1f}x",
        "{coverage.hidden_2.held} of {coverage.hidden_2.trials} at {coverage.hidden_2.span:.1f}x",
        "{coverage.hidden_3.held} of {coverage.hidden_3.trials} at {coverage.hidden_3.span:.1f}x",
        "{pythia.non_embedding:+.1%}", "{pythia.total:+.1%}", "{gpt3:.2f}", "{gpt4:.2f}", "{ln.v512:.2f}",
        "{ln.v1024:.2f}",
    ),
    "docs/blog_post.md": (
        *N_LAW, *WALK, *TEN_THOUSAND, *FIVE_MILLION, *PYTHIA, HELD_OUT, LINE, LEARNED, LEARNED_LINE,
        DEMO_ALPHA, LUCK, f"{HELD} of {CELLS} intervals hold", "{change.large.v1_long:+.2f}",
        "{change.large.v1_cosine:+.2f}", "{change.small.v1_cosine:+.2f}", "{gpt3:.2f}", "{gpt4:.2f}",
        "{coverage.hidden_1.held} of {coverage.hidden_1.trials} times",
        "{coverage.hidden_3.held} of {coverage.hidden_3.trials} times at {coverage.hidden_3.span:.1f} times",
    ),
    "docs/EXPERIMENT_SUMMARY.md": (),
    "docs/lab_instructor.md": (),
    "CONTRIBUTING.md": (),
    "UPDATE_LOG.md": (),
}  # fmt: skip

# Decimal numbers that state no result of ours: versions of Python, settings, units, and what others published or hoped.
PYTHON = {"3.11", "3.12", "3.13", "3.14"}
OLD_NOTES = {"9.22", "3.8", "3.0", "2.5", "2.0", "1.9", "0.95"}
RULE = {"7.5"}  # thousandths: the peak rate
GIVEN: dict[str, set[str]] = {
    "README_V2.md": {"1.582", "2.8"},  # Pythia: a published loss, a size
    "README_V2.zh.md": {"1.582", "2.8", "2.5", "9.9"},
    "EXPERIMENT_GUIDE_V2.md": OLD_NOTES | RULE | {"0.01", "0.9", "1.0", "18.9", "2.52", "2.1", "5.0", "10.2"},
    "docs/EXPERIMENT_GUIDE.zh.md": OLD_NOTES | RULE | {"0.01", "0.9", "1.0"},
    "docs/CURRENT_STATUS.md": OLD_NOTES,
    "docs/Scaling_Law_Presentation.md": OLD_NOTES | {"0.73", "0.50", "2.8", "0.3", "0.6"},
    "docs/blog_post.md": OLD_NOTES | {"0.3", "0.01", "5.9"},
    "UPDATE_LOG.md": RULE | {"6.2"},
}
