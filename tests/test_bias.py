"""The bias of parabolas against the published figures, and what an offset or a drift does to a known exponent."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest

from scaling_lib.errors import InputError
from scaling_lib.show.bias import (
    BUDGETS,
    bias_table,
    made_law,
    parabola_bias,
    plot_bias,
    plot_one_parabola,
    sizes_tried,
)

mpl.use("agg")

# Percent error of D* at 1e24 FLOP on centred grids of 2x, 4x, 8x and 16x, no noise [arXiv 2603.22339].
STUDY = {
    (0.31, 0.31): (0.0, 0.0, 0.0, 0.0),
    (0.34, 0.28): (-0.327, -1.301, -2.903, -5.100),
    (0.465, 0.155): (-1.675, -6.498, -13.910, -23.116),
}


def optimum(c: np.ndarray, alpha: float, beta: float) -> np.ndarray:
    """N*(C) in closed form [Hoffmann et al. 2022, equation 4]."""
    return (alpha * 406.4 / (beta * 410.7)) ** (1 / (alpha + beta)) * (c / 6) ** (beta / (alpha + beta))


@pytest.mark.parametrize("exponents", list(STUDY))
def test_centred_grids_err_as_published(exponents: tuple[float, float]) -> None:
    law = made_law(*exponents)
    for width, percent in zip((2, 4, 8, 16), STUDY[exponents], strict=True):
        found = parabola_bias(law, width)
        assert abs(100 * found.d_error - percent) <= 5.1e-4, width
        assert (1 + found.n_error) * (1 + found.d_error) == pytest.approx(1)  # C = 6 N D
        assert found.true_a == pytest.approx(exponents[1] / sum(exponents), abs=1e-6)


def test_the_table_prints_the_published_figures() -> None:
    text = bias_table({"steep": made_law(0.465, 0.155)}, (2, 16))
    assert "-1.675%" in text
    assert "-23.116%" in text
    assert text.splitlines()[0].split() == ["2x", "16x"]


def test_the_sizes_tried_lie_where_the_design_says() -> None:
    n, c, loss = sizes_tried(made_law(0.34, 0.28), 4.0, offset=1.0, drift=0.5, points=5)
    shape = (len(BUDGETS), 5)
    n, c, loss = n.reshape(shape), c.reshape(shape), loss.reshape(shape)
    assert np.allclose(c, BUDGETS[:, None])
    shift = 2.0 ** (1.0 + 0.5 * (np.log10(BUDGETS) - 19))
    assert np.allclose(n[:, 2], optimum(BUDGETS, 0.34, 0.28) * shift, rtol=1e-6)
    assert np.allclose(n[:, 4] / n[:, 2], 4)
    assert np.allclose(n[:, 2] / n[:, 0], 4)
    assert np.allclose(loss, 1.69 + 406.4 / n**0.34 + 410.7 / (c / (6 * n)) ** 0.28)


def test_an_offset_moves_the_optimum_and_a_drift_bends_the_exponent() -> None:
    law = made_law(0.31, 0.31)
    left, right = parabola_bias(law, 4, -1.5), parabola_bias(law, 4, 1.5)
    assert left.a == pytest.approx(0.5, abs=1e-6)
    assert right.a == pytest.approx(0.5, abs=1e-6)
    assert left.n_error == pytest.approx(-0.0280, abs=1e-4)  # a mirror: the law is symmetric in ln N
    assert right.d_error == pytest.approx(left.n_error, rel=1e-4)
    drifted = parabola_bias(law, 4, drift=0.8)
    assert drifted.a == pytest.approx(0.506, abs=1e-3)
    assert drifted.d_error == pytest.approx(-0.070, abs=1e-3)
    assert drifted.found.flags == ("ok",) * 5, "no flag warns of it"


def test_a_grid_beside_the_optimum_is_refused_and_its_points_are_gaps_in_the_figure() -> None:
    law = made_law(0.31, 0.31)
    with pytest.raises(InputError, match="0 of 5 budgets"):
        parabola_bias(law, 4, 3.0)
    axes = plot_bias({"even": law}, (0.0, 1.0, 3.0), "offset")
    y = axes.lines[0].get_ydata()
    assert np.isnan(y[2])
    assert y[1] == pytest.approx(100 * parabola_bias(law, 4, 1.0).d_error)


def test_the_figures_draw_the_errors_and_one_parabola() -> None:
    law = made_law(0.465, 0.155)
    axes = plot_bias({"steep": law}, (2, 4, 8, 16))
    assert np.allclose(axes.lines[0].get_ydata(), STUDY[(0.465, 0.155)], atol=6e-4)
    assert [t.get_text() for t in axes.get_xticklabels()] == ["2x", "4x", "8x", "16x"]
    one = plot_one_parabola(law, 16)
    lines = {line.get_label(): line for line in one.lines}
    assert lines["true optimum"].get_xdata()[0] == pytest.approx(optimum(np.array(1e19), 0.465, 0.155), rel=1e-6)
    assert lines["parabola's"].get_xdata()[0] > lines["true optimum"].get_xdata()[0]
    n = lines["sizes tried"].get_xdata()
    u = np.log(n)
    fit = np.polyfit(u, lines["sizes tried"].get_ydata(), 2)  # an independent parabola
    assert lines["parabola's"].get_xdata()[0] == pytest.approx(np.exp(-fit[1] / (2 * fit[0])), rel=1e-6)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: made_law(0.0, 0.3), "alpha"),
        (lambda: parabola_bias(made_law(0.3, 0.3), 1.0), "width"),
        (lambda: plot_bias({}, (1.0,), "height"), "vary"),
    ],
)
def test_bad_input_is_one_line(call, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)
