"""The CSV reader: what people write is read exactly, and everything else is refused in one line."""

import gzip
import io
import itertools
import os
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scaling_lib.errors import InputError
from scaling_lib.fit.backtests import choose_law
from scaling_lib.fit.headings import recognise
from scaling_lib.fit.table import parse_table, read_table, table_from_arrays

PLAIN = "N,D,loss\n1e6,2e7,4.5\n2e6,4e7,4.1\n4e6,8e7,3.8\n"


def message(text, **options):
    """Return the one line with which ``text`` is refused."""
    with pytest.raises(InputError) as caught:
        parse_table(text, **options)
    assert str(caught.value).isprintable()  # one line, no control characters
    return str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        PLAIN.replace(",", "|"),
        PLAIN.replace("\n", "\r\n"),
        "\ufeff" + PLAIN,
        '# runs of "May\n\n' + PLAIN,
        PLAIN.replace("\n", "\n\n"),
        PLAIN.replace(",", " , "),
        PLAIN.replace("\n", ",\n"),
        PLAIN.replace("N,D,loss", '"N","D","loss"'),
        'n_params,tokens,val_loss\n"1,000,000","20,000,000",4.5\n2_000_000,4e7,4.1\n4e6,80 000 000,3.8\n',
        "Params (M);Tokens (millions);loss [nats/token]\n1;20;4.5\n2;40;4.1\n4;80;3.8\n",
        "params,tokens,loss\n1M,20M,4.5 nats\n2 M,0.04B,4.1 nats\n4m,80 million tokens,3.8 nats\n",
        "note,loss,D,N\nx,4.5,2e7,1e6\n,4.1,4e7,2e6\ny,3.8,8e7,4e6\n",
        "N,D,loss,unit\n1e6,2e7,4.5,nats\n2e6,4e7,4.1,nats per token\n4e6,8e7,3.8,nat\n",
        "Model Size,Training FLOP,loss\n1e6,1.2e14,4.5\n2e6,4.8e14,4.1\n4e6,1.92e15,3.8\n",
        "tokens,flops,loss\n2e7,1.2e14,4.5\n4e7,4.8e14,4.1\n8e7,1.92e15,3.8\n",
        "N;D;loss\n1.000.000;20.000.000;4,5\n2.000.000;40 000 000;4,1\n4000000,0;8e7;3,8\n",
        "   N        D  loss \n 1e6      2e7   4.5\n 2e6  4e7 4.1\n   4e6  8e7  3.8  \n",
        "# made by hand\n\n# " + PLAIN,
        "# N;D;loss\n1e6;2e7;4,5\n2e6;4e7;4,1\n4e6;8e7;3,8\n",
        "#N\tD\tloss\n" + PLAIN.replace(",", "\t").partition("\n")[2],
        "#params,# tokens,val/loss\n" + PLAIN.partition("\n")[2],
        "sep=;\n" + PLAIN.replace(",", ";"),
        "|N|D|loss|\n|---|--:|:-:|\n|1e6|2e7|4.5|\n|2e6|4e7|4.1|\n|4e6|8e7|3.8|\n",
        "params (B),tokens (B),loss\n0.001,0.020,4.5\n0.002,0.040,4.1\n0.004,0.080,3.8\n",
        "flops_budget,params_lm_head,params_transformer,params_total,tokens_trained,val_loss\n"
        "1.2e14,3e5,1e6,2e6,2e7,4.5\n4.8e14,3e5,2e6,4e6,4e7,4.1\n1.92e15,3e5,4e6,8e6,8e7,3.8\n",
    ],
)
def test_the_same_runs_in_other_dress(text):
    t = parse_table(text)
    assert np.allclose(t.n_params, [1e6, 2e6, 4e6])
    assert np.allclose(t.n_tokens, [2e7, 4e7, 8e7])
    assert np.allclose(t.flops, 6 * t.n_params * t.n_tokens)
    assert t.loss.tolist() == [4.5, 4.1, 3.8]
    assert t.loss_unit == "nats per token"
    assert len(t.derived) + ("flops_budget" in text) == 1


def test_preferred_columns_and_how_to_choose_others():
    text = "n_params,n_params_non_embedding,tokens,train_loss,val_loss,bits_per_byte,note\n9e6,1e6,2e7,4,5,1.5,x\n"
    t = parse_table(text)
    assert (t.n_params[0], t.loss[0], t.columns["N"], t.ignored[-1]) == (1e6, 5, "n_params_non_embedding", "note")
    t = parse_table(text, columns={"N": "n_params", "loss": "bits_per_byte"})
    assert (t.n_params[0], t.loss[0], t.loss_unit) == (9e6, 1.5, "bits per byte")
    assert "named 'size'" in message(PLAIN, columns={"N": "size"})
    assert "'X'" in message(PLAIN, columns={"X": "N"})
    assert "2 columns" in message("N,N,loss\n1,2,3\n", columns={"N": "N"})


def test_groups_and_labels_are_kept_unless_there_is_one_group():
    t = parse_table("model,trunk,N,loss\na,t1,1e6,4\nb,t1,2e6,3\nc,t2,2e6,3\n")
    assert (t.labels.tolist(), t.groups.tolist(), t.n_tokens) == (["a", "b", "c"], ["t1", "t1", "t2"], None)
    one = t.select(t.groups == "t1")
    assert (len(one), one.groups, "'t1'" in one.notes[-1]) == (2, None, True)
    with pytest.raises(InputError, match="no D column"):
        t.get("D")


REFUSED = {
    "": "empty",
    "\n\n# only a comment\n": "empty",
    "N,D,loss\n": "no rows",
    "N,D,perplexity\n1,2,3\n": r"loss=ln\(perplexity\)",
    "width,loss\n1,2\n": "N, D or C.*'width'",
    "1e6,2e7,4.5\n2e6,4e7,4.1\n": "no loss column.*'1e6'",
    "N,params,loss\n1,2,3\n": "'N' and 'params'",
    **{PLAIN.replace("4.1", bad): "line 3.*'loss'" for bad in ("nan", "inf", "", "diverged", "0", "1e400")},
    **{PLAIN.replace("2e6", bad): "line 3.*'N'" for bad in ("-2e6", "1e200", "2 furlongs")},
    "# c\n\n" + PLAIN.replace("2e6", "2,000,000"): "line 5.*5 cells.*quotes",
    PLAIN.replace("2e6,", ""): "line 3.*2 cells",
    "N,D,loss\n1.000,2e7,4.5\n2.500,4e7,4.1\n": "line 2.*'N' is '1.000'.*thousands",
    "N,D,loss\n1e6,20000.000,4.5\n2e6,40000.000,4.1\n": "line 2.*'D' is '20000.000'.*thousands",
    "N,D,loss\n1.000.000,2e7,4.5\n": "line 2.*'N' is '1.000.000'.*without a point",
    'N,D,loss\n1e6,2e7,4.5\n2e6,"4,5",4.1\n': "line 3.*'D' is '4,5'.*decimal point",
    '{"N": 1e6, "loss": 4.5}\n{"N": 2e6, "loss": 4}\n': "JSON",
    '[\n {"N": 1e6}\n]\n': "JSON",
    "N,D,loss\n1e6,2e7,4.5,oops\n": "line 2 has 4 cells.*'oops'",
    "parameters (total),D,loss\n1,2,3\n": r"--columns 'N=parameters \(total\)'",
    "参数量,train_loss_x\n1,2\n": "'参数量', 'train_loss_x'",
    "N,D,loss\n1,2,14.5\n": "too much for nats",
    "N,D,loss\n1e6,2e7,4.5 nats\n2e6,4e7,1.1 bpb\n": "nats per token.*line 2.*bits per byte.*line 3",
    "N,loss (bpb),unit\n1,2,nats\n": r"bits per byte \(the heading\).*line 2",
    "N,loss,unit\n1,2,nats\n1,2,bits per byte\n": "line 3.*'unit'",
    "N,loss,unit\n1,2,dB\n": "line 2.*'unit'.*'dB'",
    "N,C,loss\n1e6,1e15,3\n1e25,1e15,3\n": "row 2, D from C = 6 N D",
    'N,loss\n1,"2\n3,4\n': "valid CSV",
    "N,loss\n1,2\x003\n": "line 2",
    "N,loss\n1," + "9" * 200_000 + "\n": "valid CSV",
    'N,loss\n1,"2\n\r3"\n': "line 4.*'loss'",
    "params_active_precise,tokens,loss\n1e6,2e7,4.5\n": "--columns N=",
    "n,tok_tokens_seen_x,loss\n1e6,2e7,4.5\n": "--columns D=",
    "tokens,FLOPs_total_x,loss\n1e6,2e7,4.5\n": "--columns C=",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_cannot_be_read_is_refused_by_line_and_column(text):
    assert re.search(REFUSED[text], told := message(text)), told


def test_too_many_rows_are_refused_without_reading_them_all():
    """Ten million rows, made on the fly: the reader stops at its limit, so the source is hardly consumed."""
    taken = itertools.count()

    def lines():
        yield "N,D,loss\n"
        for i in range(10_000_000):
            next(taken)
            yield f"{i + 1},{i + 2},3.0\n"

    with pytest.raises(InputError, match=r"line 1002: more than 1,000 rows"):
        read_table(lines(), max_rows=1000)
    assert next(taken) == 1001


def test_files_that_are_no_tables(tmp_path):
    for missing in (tmp_path / "missing.csv", tmp_path, "a\0b"):
        with pytest.raises(InputError, match="cannot be read"):
            read_table(missing)
    latin = PLAIN.replace("loss", "Verlust, größer").encode("latin-1")
    packed, unmarked = gzip.compress(PLAIN.encode()), PLAIN.encode("utf-16-le")
    for content, told in ((latin, "byte 15.*iconv -f"), (packed, "binary"), (unmarked, "binary")):
        (tmp_path / "x.csv").write_bytes(content)
        with pytest.raises(InputError, match=told):
            read_table(tmp_path / "x.csv")
    for name in ("[a]*?.csv", "表 格.csv", os.fsdecode(b"na\xefve.csv"), "a'b\"c\nd.csv"):
        (tmp_path / name).write_bytes(PLAIN.encode("utf-16"))
        t = read_table(str(tmp_path / name))
        assert t.loss.tolist() == [4.5, 4.1, 3.8]
        assert t.source == f"{tmp_path}/" + name.replace("\n", "\\n").replace("\udcef", "\\udcef")
    for odd in (None, 5, b"x.csv", io.BytesIO(PLAIN.encode())):
        with pytest.raises(InputError, match="a path or a file"):
            read_table(odd)
    if Path("/dev/zero").exists():
        with pytest.raises(InputError, match="100 MB"):
            read_table("/dev/zero")


HEADINGS = {
    "N": "n, Params, num_params, model_size, size, parameter-count, total params, n_params_non_embedding",
    "D": "d, tokens, n_tokens, train_tokens, tokens seen, dataset size",
    "C": "c, FLOPs, training_flops, compute, train compute",
    "loss": "loss, L, val_loss, eval/loss, C4 Eval Loss, cross-entropy loss, bpb, bits per byte, train loss",
    "unit": "unit, loss unit",
    "group": "group, trunk",
    "label": "run_id, run, name, model",
}


def test_headings_that_people_have():
    for role, headings in HEADINGS.items():
        for heading in headings.split(", "):
            assert recognise(heading).role == role, heading
    assert [recognise(h).multiple for h in ("params_m", "tokens_in_billions", "Tokens (B)")] == [1e6, 1e9, 1e9]
    assert not any(recognise(h) for h in ("tokens_per_second", "N (kg)", "width", ""))


def test_perplexities_become_losses_only_when_told():
    text = "N,D,val_ppl\n1e6,2e7,90\n2e6,4e7,60\n"
    assert "loss=ln(val_ppl)" in message(text)
    assert "loss=ln(val_ppl)" in message(text, columns={"loss": "val_ppl"})
    t = parse_table(text, columns={"loss": "ln(val_ppl)"})
    assert t.loss == pytest.approx(np.log([90, 60]))
    assert "loss=ln(loss)" in message(text.replace("val_ppl", "loss"))  # 90 nats would be no loss
    assert parse_table(text.replace("val_ppl", "loss"), columns={"loss": "loss"}).loss[0] == 90
    assert "above zero" in message(text.replace("60", "0.5"), columns={"loss": "ln(val_ppl)"})


def test_experiments_are_not_pooled_and_one_can_be_picked():
    text = "N,D,loss,experiment\n" + "".join(f"{n}e6,2e7,{9 - n},{e}\n" for n in (1, 2, 4) for e in ("a", "b"))
    assert "'experiment' is 'a', 'b'" in message(text)
    assert "--where experiment=b" in message(text.replace(",a\n", ",\n"))
    t = parse_table(text, where=["experiment=B"])
    assert t.n_params.tolist() == [1e6, 2e6, 4e6]
    assert len(parse_table(text, where=["experiment!=a", "N>=2M"])) == 2
    assert "holds 'a', 'b'" in message(text, where=["experiment=c"])
    assert "'x'" in message(text, where=["x=c"])
    assert "no condition" in message(text, where=["x"])
    assert len(parse_table(text.replace(",b\n", ",a\n"))) == 6  # one experiment, two seeds


SCAN = [(n, d, rate, 1 + n**-0.1 + d**-0.1 + rate) for n in (1e6, 2e6) for d in (1e8, 2e8) for rate in (0.1, 0.2, 0.3)]


def scan(head, swap=False):
    rows = [f"{n},{d},{loss},{loss if swap else rate}" for n, d, rate, loss in SCAN]
    return "\n".join([head, *rows]) + "\n"


def test_settings_that_were_tried_are_no_seeds():
    assert "'lr'" in message(scan("N,D,loss,lr"))
    best = parse_table(scan("N,D,loss,lr"), rows="best")
    assert best.loss.tolist() == [loss for _, _, rate, loss in SCAN if rate == 0.1]
    assert len(parse_table(scan("N,D,loss,lr"), where=["lr=0.2"])) == 4
    assert len(parse_table(scan("N,D,loss,lr"), rows="all")) == 12
    assert "'what_is_this'" in message(scan("N,D,loss,what_is_this"))  # few values, again and again: a setting
    assert len(parse_table(scan("N,D,loss,seed"))) == 12
    assert len(parse_table(scan("N,D,loss,train_loss", swap=True))) == 12  # what came out of a run is no setting
    assert "unknown" in message(scan("N,D,loss,lr"), rows="first")


def test_checkpoints_of_one_training_are_asked_about():
    rows = [(name, n, d, 5 - d / 1e9) for name, n in (("a", 1e6), ("b", 2e6)) for d in (1e8, 2e8, 4e8)]
    text = "run,N,D,loss\n" + "".join(f"{name},{n},{d},{y}\n" for name, n, d, y in rows)
    assert "up to 3 rows each" in message(text)
    assert parse_table(text, rows="last").n_tokens.tolist() == [4e8, 4e8]
    assert parse_table(text, columns={"group": "run"}).groups.tolist() == ["a"] * 3 + ["b"] * 3
    assert len(parse_table(text, rows="all")) == 6
    assert len(parse_table(text.replace("a,1e", "x,1e", 1).replace("run", "note"))) == 6
    assert "label=" in message(PLAIN, rows="last")
    assert len(parse_table("run,N,loss\na,1e6,4\na,1e6,3.9\nb,2e6,3.5\nb,2e6,3.4\n")) == 4  # seeds: one length each


def test_a_law_of_one_variable_refuses_runs_that_differ_in_another():
    n, d = (a.ravel() for a in np.meshgrid(np.geomspace(1e6, 1e8, 5), np.geomspace(1e8, 1e10, 5)))
    loss = 1.5 + 30 / n**0.2 + 100 / d**0.3
    both = table_from_arrays(loss, n_params=n, n_tokens=d)
    assert choose_law(both, "auto").name == "chinchilla"
    for law, name in (("power_n", "D differs"), ("power_d", "N differs")):
        with pytest.raises(InputError, match=name):
            choose_law(both, law)
    with pytest.raises(InputError, match="name what else differs"):
        choose_law(table_from_arrays(loss, n_tokens=d), "auto")
    ladder = table_from_arrays(loss[:5], n_params=n[:5], n_tokens=d[:5])
    assert choose_law(ladder, "power_n").name == "power_n"
    seeds = np.exp(0.02 * np.random.default_rng(0).standard_normal(25))
    assert choose_law(table_from_arrays((2 + 100 / d**0.3) * seeds, n_tokens=d), "auto").name == "power_d"


def test_a_budget_that_contradicts_its_runs_is_named():
    text = "N,D,C,loss\n" + "".join(
        f"{n}e6,2e7,{c},{9 - n}\n" for n, c in ((1, "1.2e14"), (2, "2.4e14"), (4, "4.8e17"))
    )
    (note,) = parse_table(text).notes
    assert re.search(r"1 to 1e\+03 times.*row 3 has C = 4.8e\+17 where 6 N D = 4.8e\+14", note)
    assert not parse_table(text.replace("e17", "e14")).notes
    lengths = ("1.2e14", "4.8e14", "1.92e15")
    assert not parse_table("D,C,loss\n" + "".join(f"2e7,{c},{i + 1}\n" for i, c in enumerate(lengths))).notes


@pytest.mark.parametrize(
    "name", ["chinchilla_scalefit", "cs336_isoflop", "farseer", "gemstones", "marin_comma", "misfitting"]
)
def test_public_tables_are_read_whole(name):
    folder = os.environ.get("SCALING_LIB_DATA")
    if not folder:
        pytest.skip("SCALING_LIB_DATA names no folder: that public tables are read is not checked")
    path = Path(folder) / "zoo" / f"{name}.csv"
    t = read_table(path)
    assert len(t) == len(path.read_text().splitlines()) - 1
    assert choose_law(t).name == "chinchilla"


def test_arrays_are_checked_too():
    t = table_from_arrays([4.0, 3.0], n_params=[1e6, 2e6], n_tokens=[2e7, 4e7], labels=["a", "b"])
    assert t.flops.tolist() == [1.2e14, 4.8e14]
    for bad in ({"n_params": [1e6]}, {"n_params": [1e6, np.inf]}, {"n_params": [1e6, 2e6], "labels": ["a"]}):
        with pytest.raises(InputError):
            table_from_arrays([4.0, 3.0], **bad)


def trusted(text):
    """Read ``text``: a table whose every number is finite and positive, or one line that refuses it."""
    try:
        t, told = parse_table(text, max_rows=50), "read"
    except InputError as error:
        t, told = None, str(error)
    assert told.isprintable()  # one line, no control characters
    if t is None:
        return None
    for array in t.given.values():
        assert array.shape == (len(t),)
        assert np.all(np.isfinite(array) & (array > 0))
    return t


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
TABLE = st.tuples(
    st.lists(HEAD, min_size=1, max_size=5), st.lists(st.lists(CELL, max_size=5), max_size=4), st.sampled_from(",;\t|")
).map(lambda t: "\n".join(t[2].join(row) for row in [t[0], *t[1]]))


@settings(max_examples=500, deadline=None, derandomize=True)
@given(st.one_of(st.text(max_size=200), TABLE))
@example("N,loss\n١,٢\n")
@example("N,loss\n1\u2028,2\n")
def test_any_text_is_read_or_refused(text):
    trusted(text)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.tuples(*[st.floats(1e-6, 1e19)] * 2, st.floats(1e-3, 13.0)), min_size=1, max_size=8))
def test_what_is_written_is_read_back_exactly(rows):
    t = trusted("n_params,n_tokens,loss\n" + "".join(f"{n:.17e},{d:.17e},{y!r}\n" for n, d, y in rows))
    assert list(zip(t.n_params.tolist(), t.n_tokens.tolist(), t.loss.tolist(), strict=True)) == rows
