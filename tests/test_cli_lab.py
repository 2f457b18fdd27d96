"""The commands lab, next and noise, as a person types them."""

import json
from pathlib import Path

import numpy as np
import pytest

from scaling_lib.cli import main
from scaling_lib.lab.ledger import read_ledger

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def table(tmp_path):
    """Nine small runs of a law."""
    rng = np.random.default_rng(3)
    n, d = (v.ravel() for v in np.meshgrid([1e6, 4e6, 1.6e7], [2e7, 8e7, 3.2e8]))
    loss = (1.5 + 90.0 / n**0.3 + 180.0 / d**0.28) * np.exp(rng.normal(0.0, 0.004, 9))
    path = tmp_path / "runs.csv"
    path.write_text("N,D,loss\n" + "".join(f"{a:.0f},{b:.0f},{c:.6f}\n" for a, b, c in zip(n, d, loss, strict=True)))
    return path


def test_a_whole_game_from_the_command_line(tmp_path, capsys):
    folder = str(tmp_path / "lab")

    def play(*words: str) -> tuple[int, str, str]:
        status = main(["lab", *words])
        out, err = capsys.readouterr()
        return status, out, err

    assert play("status", folder)[0] == 2  # none yet
    assert play("open", folder)[0] == 2  # no shop
    assert not Path(folder).exists()
    status, out, _ = play("open", folder, "--shop", "entropy-hierarchy")
    assert status == 0
    rows = [line.split() for line in out.splitlines()[2:]]
    square = [f"{size}-{length}" for size in ("2x16", "2x24", "2x32") for length in ("512k", "1.02M", "2.05M")]
    assert {row[0] for row in rows} >= set(square)
    status, out, err = play("buy", folder, *(row[0] for row in rows if row[0].startswith("2x")))
    assert (status, out, err.count("\n")) == (2, "", 1)
    status, out, _ = play("buy", folder, *square)
    assert status == 0
    assert {line.split()[0] for line in out.splitlines()[:9]} == set(square)
    status, out, _ = play("advise", folder, "2x64-8.19M")
    assert status == 0
    advised = out.splitlines()[3].split()[0]
    assert advised not in square
    assert play("buy", folder, advised)[0] == 0
    assert (
        play("buy", folder, *(line.split()[0] for line in out.splitlines()[4:] if line.split()[0] != advised))[0] == 0
    )
    status, out, _ = play("advise", folder, "2x64-8.19M")
    assert (status, out.splitlines()[1]) == (0, "no advice: nothing more can be bought")
    assert out.startswith("2x64-8.19M: ")
    for wrong in (["price", folder], ["open", folder, "--shop", "laptop"], ["hero", folder]):
        status, out, err = play(*wrong)
        assert (status, out, err.count("\n")) == (2, "", 1)
    assert play("seal", folder, "2x64-8.19M", "--loss", "2.1")[0] == 2
    assert play("seal", "--loss", "2.1", "--low", "2", "--high", "2.2", folder, "2x64-8.19M")[0] == 0
    assert play("hero", folder, "2x48-8.19M")[0] == 2  # another than the sealed one is not run, nor passed over
    status, out, _ = play("hero", folder)
    assert (status, float(out)) == (0, pytest.approx(2.1, abs=0.01))
    sealed = next(e["sha256"] for e in read_ledger(tmp_path / "lab" / "ledger.json") if e["kind"] == "seal")
    assert sealed in play("status", folder)[1]
    status, out, _ = play("score", folder)
    assert (status, out.count("fit")) == (0, 2)
    assert play("status", folder, "--shop", "laptop")[0] == 2
    ledger = tmp_path / "lab" / "ledger.json"
    ledger.write_text(ledger.read_text().replace("2.1", "2.11", 1))
    status, out, err = play("score", folder)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "by hand" in err


def test_next_prints_draws_and_obeys_the_budget(table, tmp_path, capsys):
    common = ["next", str(table), "--target", "N=1e9,D=2e10", "--budget", "1e19", "--out", str(tmp_path)]
    assert main(common) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == f"figure: {tmp_path / 'next-runs.png'}"
    assert (tmp_path / "next-runs.png").read_bytes()[:4] == b"\x89PNG"
    assert main([*common, "--max-run", "1e18", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert max(found["cost"]) <= 1e18
    assert sum(found["cost"]) <= 1e19
    assert found["width"][-1] < found["width"][0]
    for wrong in (["--target", "N=1e9"], ["--budget", "1"]):
        assert main([*common, *wrong]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)


def test_noise_of_a_folder_and_of_two_tables(tmp_path, capsys):
    assert main(["noise", str(ROOT / "results" / "seed-noise"), "--recipe", "v2", "--recipe", "wsd", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found) == 4
    assert all(c["difference"]["high"] < 0 for c in found)  # wsd is better here, at every size and length
    files = []
    for name, shift in (("a", 0.0), ("b", -0.2)):
        files.append(tmp_path / f"{name}.csv")
        rows = [f"1e6,2e7,{3.0 + shift + 0.01 * i * (-1) ** i},s{i}" for i in range(4)]
        files[-1].write_text("\n".join(["N,D,loss,group", *rows]) + "\n")
    paths = [str(f) for f in files]
    assert main(["noise", *paths]) == 0
    assert "real" in capsys.readouterr().out
    assert main(["noise", *paths, "--paired", "--json"]) == 0
    (pair,) = json.loads(capsys.readouterr().out)
    assert pair["difference"]["change"] == pytest.approx(-0.2 / 3.0, rel=1e-2)
    assert pair["seeds"] == [4]
    for wrong in (paths[:1], [*paths, "--recipe", "v1"], [str(ROOT / "results" / "paired")], [*paths, "--level", "1"]):
        assert main(["noise", *wrong]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
