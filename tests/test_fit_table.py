"""The CSV reader: what people write is read exactly, and everything else is refused in one line."""

import io
import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scaling_lib.errors import InputError
from scaling_lib.fit._headings import SYNONYMS, recognise
from scaling_lib.fit.table import parse_table, read_table, table_from_arrays

PLAIN = "N,D,loss\n1e6,2e7,4.5\n2e6,4e7,4.1\n4e6,8e7,3.8\n"


def message(text, **options):
    """Return the one line with which ``text`` is refused."""
    with pytest.raises(InputError) as caught:
        parse_table(text, **options)
    assert "\n" not in str(caught.value)
    assert "\r" not in str(caught.value)
    return str(caught.value)


def test_a_plain_table_is_read_and_its_flop_follow():
    t = parse_table(PLAIN)
    assert t.n_params.tolist() == [1e6, 2e6, 4e6]
    assert t.n_tokens.tolist() == [2e7, 4e7, 8e7]
    assert np.allclose(t.flops, 6 * t.n_params * t.n_tokens)
    assert t.loss.tolist() == [4.5, 4.1, 3.8]
    assert t.derived == ("C",)
    assert t.loss_unit == "nats per token"
    assert len(t.select(t.loss < 4.2)) == 2


def test_tokens_follow_from_flop_and_size_from_both():
    t = parse_table("Model Size,Training FLOP,loss\n1e6,1.2e14,4.5\n")
    assert t.n_tokens[0] == pytest.approx(2e7)
    t = parse_table("tokens,flops,loss\n2e7,1.2e14,4.5\n")
    assert t.n_params[0] == pytest.approx(1e6)


@pytest.mark.parametrize(
    "text",
    [
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        PLAIN.replace(",", "|"),
        PLAIN.replace("\n", "\r\n"),
        "\ufeff" + PLAIN,
        "# runs of May\n\n" + PLAIN,
        PLAIN.replace("\n", "\n\n"),
        PLAIN.replace(",", " , "),
        PLAIN.replace("\n", ",\n"),
        PLAIN.replace("N,D,loss", '"N","D","loss"'),
        'n_params,tokens,val_loss\n"1,000,000","20,000,000",4.5\n2_000_000,4e7,4.1\n4e6,80 000 000,3.8\n',
        "Params (M);Tokens (millions);loss [nats/token]\n1;20;4.5\n2;40;4.1\n4;80;3.8\n",
        "params,tokens,loss\n1M,20M,4.5 nats\n2 M,0.04B,4.1 nats\n4m,80 million tokens,3.8 nats\n",
        "note,loss,D,N\nx,4.5,2e7,1e6\n,4.1,4e7,2e6\ny,3.8,8e7,4e6\n",
        "N,D,loss,unit\n1e6,2e7,4.5,nats\n2e6,4e7,4.1,nats per token\n4e6,8e7,3.8,nat\n",
    ],
)
def test_the_same_runs_in_other_dress(text):
    t = parse_table(text)
    assert np.allclose(t.n_params, [1e6, 2e6, 4e6])
    assert np.allclose(t.n_tokens, [2e7, 4e7, 8e7])
    assert t.loss.tolist() == [4.5, 4.1, 3.8]
    assert t.loss_unit == "nats per token"


def test_preferred_columns_and_how_to_choose_others():
    text = "n_params,n_params_non_embedding,tokens,train_loss,val_loss,bits_per_byte\n9e6,1e6,2e7,4,5,1.5\n"
    t = parse_table(text)
    assert (t.n_params[0], t.loss[0]) == (1e6, 5)
    assert t.columns["N"] == "n_params_non_embedding"
    t = parse_table(text, columns={"N": "n_params", "loss": "bits_per_byte"})
    assert (t.n_params[0], t.loss[0], t.loss_unit) == (9e6, 1.5, "bits per byte")


def test_groups_and_labels_are_kept():
    t = parse_table("model,trunk,N,loss\na,t1,1e6,4\nb,t1,2e6,3\n")
    assert t.labels.tolist() == ["a", "b"]
    assert t.groups.tolist() == ["t1", "t1"]
    assert t.n_tokens is None
    with pytest.raises(InputError, match="no D column; the table gives N, loss"):
        t.get("D")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["empty"]),
        ("\n\n# only a comment\n", ["empty"]),
        ("N,D,loss\n", ["no rows"]),
        ("N,D,perplexity\n1,2,3\n", ["no loss column", "'perplexity'", "'N'"]),
        ("width,loss\n1,2\n", ["no column for N, D or C", "'width'"]),
        ("1e6,2e7,4.5\n2e6,4e7,4.1\n", ["no loss column", "'1e6'"]),
        ("N,params,loss\n1,2,3\n", ["'N' and 'params' both mean N"]),
        (PLAIN.replace("4.1", "nan"), ["row 2 (line 3)", "'loss'", "not a finite number"]),
        (PLAIN.replace("4.1", "inf"), ["row 2", "'loss'"]),
        (PLAIN.replace("4.1", ""), ["row 2", "'loss'", "empty"]),
        (PLAIN.replace("4.1", "diverged"), ["row 2", "'loss'", "'diverged'"]),
        (PLAIN.replace("4.1", "0"), ["row 2", "'loss'", "above zero"]),
        (PLAIN.replace("4.1", "1e400"), ["row 2", "'loss'", "finite"]),
        (PLAIN.replace("2e6", "-2e6"), ["row 2", "'N'", "above zero"]),
        (PLAIN.replace("2e6", "1e200"), ["row 2", "'N'", "outside"]),
        (PLAIN.replace("2e6", "2 furlongs"), ["row 2", "'N'", "unknown unit"]),
        (PLAIN.replace("2e6", "2,000,000"), ["row 2", "5 cells under 3 headings", "quotes"]),
        (PLAIN.replace("2e6,", ""), ["row 2", "2 cells under 3 headings"]),
        ('N;D;loss\n1e6;2e7;"4,5"\n', ["row 1", "'loss'", "decimal point"]),
        (
            "N,D,loss\n1e6,2e7,4.5 nats\n2e6,4e7,1.1 bpb\n",
            ["row 2", "'loss'", "nats per token (row 1)", "pooled"],
        ),
        ("N,loss (bpb),unit\n1,2,nats\n", ["row 1", "bits per byte (the heading)", "pooled"]),
        ("N,loss,unit\n1,2,nats\n1,2,bits per byte\n", ["row 2", "'unit'", "pooled"]),
        ("N,C,loss\n1e6,1e15,3\n1e25,1e15,3\n", ["row 2", "D from C = 6 N D", "outside"]),
        ("N,loss,unit\n1,2,dB\n", ["row 1", "'unit'", "'dB'"]),
        ('N,loss\n1,"2\n3,4\n', ["valid CSV"]),
        ("N,loss\n1,2\x003\n", ["row 1"]),
        ("N,loss\n1," + "9" * 200_000 + "\n", ["valid CSV"]),
        ('N,loss\n1,"2\n\r3"\n', ["row 1", "'loss'"]),
    ],
)
def test_what_cannot_be_read_is_refused_by_row_and_column(text, words):
    told = message(text)
    for word in words:
        assert word in told, told


def test_too_many_rows_are_refused_without_reading_them_all():
    """Ten million rows, made on the fly: the reader stops at its limit, so the source is hardly consumed."""
    taken = itertools.count()

    def lines():
        yield "N,D,loss\n"
        for i in range(10_000_000):
            next(taken)
            yield f"{i + 1},{i + 2},3.0\n"

    with pytest.raises(InputError, match=r"row 1001 .* more than 1,000 rows"):
        read_table(lines(), max_rows=1000)
    assert next(taken) == 1001


def test_files_that_are_no_tables(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_table(tmp_path / "missing.csv")
    with pytest.raises(InputError, match="cannot be read"):
        read_table(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        read_table("a\0b")
    (tmp_path / "x.csv").write_bytes(b"\xff\xfeN\x00")
    with pytest.raises(InputError, match="not UTF-8"):
        read_table(tmp_path / "x.csv")
    good = tmp_path / "good.csv"
    good.write_text(PLAIN)
    assert len(read_table(good)) == len(read_table(str(good))) == len(read_table(io.StringIO(PLAIN))) == 3


def test_columns_that_are_not_there():
    assert "no column is named 'size'" in message(PLAIN, columns={"N": "size"})
    assert "unknown role 'X'" in message(PLAIN, columns={"X": "N"})
    assert "2 columns are named 'N'" in message("N,N,loss\n1,2,3\n", columns={"N": "N"})


def test_every_synonym_means_what_it_says():
    for role, ranks in SYNONYMS.items():
        for name in itertools.chain(*ranks):
            for text in (name, name.upper(), name.replace(" ", "_"), name.replace(" ", "-")):
                assert recognise(text).role == role


def test_arrays_get_the_same_checks():
    t = table_from_arrays([4.0, 3.0], n_params=[1e6, 2e6], n_tokens=[2e7, 4e7], labels=["a", "b"])
    assert t.flops.tolist() == [1.2e14, 4.8e14]
    for bad in (
        {"n_params": [1e6]},
        {"n_params": [1e6, -1]},
        {"n_params": [1e6, np.inf]},
        {"n_params": ["a", "b"]},
        {"n_params": [[1e6, 2e6]]},
        {"n_params": [1e6, 2e6], "labels": ["a"]},
    ):
        with pytest.raises(InputError) as caught:
            table_from_arrays([4.0, 3.0], **bad)
        assert "\n" not in str(caught.value)


def trusted(text):
    """Read ``text``: a table whose every number is finite and positive, or one line that refuses it."""
    try:
        t = parse_table(text, max_rows=50)
    except InputError as error:
        told = str(error)
        t = None
    if t is None:
        assert told
        assert told.isprintable()  # one line, no control characters
        return None
    for array in (t.loss, t.n_params, t.n_tokens, t.flops):
        if array is not None:
            assert array.shape == (len(t),)
            assert np.all(np.isfinite(array) & (array > 0))
    return t


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text(max_size=200))
@example("N,loss\n١,٢\n")
@example("N,loss\n1\u2028,2\n")
def test_any_text_is_read_or_refused(text):
    trusted(text)


CELL = st.one_of(
    st.floats().map(repr),
    st.integers().map(str),
    st.sampled_from(
        ["1.5B", "2 M", "1,000", '"1,000"', "1e9 nats", "1.1 bpb", "", " ", "nan", "-", '"', "'", "1e", "_1"]
    ),
    st.text(alphabet="0123456789.,eE+-_ BMkT'\"\u00a0\u0661", max_size=8),
)
HEAD = st.sampled_from(
    ["N", "D", "C", "loss", "tokens (B)", "loss (bpb)", "unit", "group", "val_loss", "x", "", "N (kg)"]
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.lists(HEAD, min_size=1, max_size=5),
    st.lists(st.lists(CELL, max_size=5), max_size=4),
    st.sampled_from(",;\t|"),
)
def test_any_table_is_read_or_refused(heads, rows, mark):
    trusted("\n".join([mark.join(heads), *(mark.join(r) for r in rows)]))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(*[st.floats(1e-6, 1e19)] * 2, st.floats(1e-3, 1e3)),
        min_size=1,
        max_size=8,
    )
)
def test_what_is_written_is_read_back_exactly(rows):
    t = trusted("n_params,n_tokens,loss\n" + "".join(f"{n!r},{d!r},{y!r}\n" for n, d, y in rows))
    assert list(zip(t.n_params.tolist(), t.n_tokens.tolist(), t.loss.tolist(), strict=True)) == rows
