"""The command line: subcommands are found, errors are one line, and commands on pages work from an
installed wheel in another folder.
"""

import errno
import json
import os
import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from ttc_env import cli
from ttc_env.measure.traces import read_trace

ROOT = Path(__file__).parents[2]


def call(capsys, *arguments):
    """Exit code, standard output, standard error."""
    try:
        code = cli.main([str(a) for a in arguments])
    except SystemExit as left:
        code = left.code
    out = capsys.readouterr()
    return code, out.out, out.err


def test_every_module_is_a_subcommand_and_explains_itself(capsys):
    found = cli.commands()
    assert {"solve", "play", "measure", "estimate"} <= set(found)
    code, out, _ = call(capsys, "--help")
    assert code == 0
    for name in found:
        assert re.search(rf"^    {name}\b", out, re.MULTILINE), name
        code, text, _ = call(capsys, name, "--help")
        assert code == 0
        assert f"ttc-env {name}" in text
    assert call(capsys, "--version")[1].startswith("ttc-env ")
    assert call(capsys)[0] == 2


def test_help_loads_nothing_heavy():
    """`--help` must stay quick: what a subcommand needs is imported when it runs."""
    code = (
        "import sys\nfrom ttc_env import cli\ncli.parser()\n"
        "print(*[m for m in ('torch', 'matplotlib', 'vllm', 'transformers', 'datasets',"
        " 'math_verify', 'sympy', 'tqdm') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "", done.stdout + done.stderr


def test_solve_prints_the_solution(capsys):
    import ttc_env

    code, out, _ = call(capsys, "solve", "gsm8k", "--beta", 200)
    assert code == 0
    solution = ttc_env.solve(ttc_env.load_market("gsm8k", beta=200))
    assert f"{solution.welfare:.6g}" in out
    assert f"{solution.price_of_anarchy:.6g}" in out
    for name in solution.market.names:
        assert name in out
    code, out, _ = call(capsys, "solve", "gsm8k", "--beta", 200, "--json")
    found = json.loads(out)
    assert found["welfare"] == solution.welfare
    assert found["equilibria"] == solution.equilibria.tolist()
    assert [row["share"] for row in found["providers"]] == solution.shares.tolist()
    code, out, _ = call(capsys, "solve", "--mechanism", "auction", "--json")
    auction = ttc_env.solve(ttc_env.load_market("gsm8k"), "auction")
    found = json.loads(out)
    assert found["winner"] == auction.market.names[auction.winner]
    assert found["payment"] == auction.payment
    assert sum(found["winners"].values()) == pytest.approx(1)
    assert found["winners"][found["winner"]] > 0.5
    assert found["first_best"] == pytest.approx(auction.welfare)
    for name, (low, high) in found["bands"].items():
        assert low <= found[name] <= high
    none = call(capsys, "solve", "gsm8k", "--resamples", 0)[1]
    assert "[" not in none.split("equilibria")[1]
    assert call(capsys, "solve", "--list")[1].split()[0] == solution.market.names[0]
    two = call(capsys, "solve", "--providers", "Qwen2-7B,Llama-3-8B", "--json")[1]
    assert [row["provider"] for row in json.loads(two)["providers"]] == ["Qwen2-7B", "Llama-3-8B"]


def test_solve_and_play_carry_games_without_equilibrium(capsys):
    types = "weight=0.5 beta=1000; weight=0.5 beta=10000"
    code, out, _ = call(capsys, "solve", "--types", types)
    assert code == 0
    assert re.search(r"^equilibria +0$", out, re.MULTILINE)
    assert "no equilibrium         this game has no pure Nash equilibrium" in out
    assert "the profile of least regret: the best change gains 8.14%" in out
    found = json.loads(call(capsys, "solve", "--types", types, "--json")[1])
    assert found["welfare"] is None
    assert found["equilibria"] == []
    assert found["least_regret"]["exact"]
    assert len(found["least_regret"]["actions"]) == len(found["providers"]) == 9
    code, _, error = call(capsys, "play", "--types", types, "--policy", "equilibrium")
    assert code == 2
    assert "--policy nearest" in error
    code, out, _ = call(capsys, "play", "--types", types, "--policy", "nearest", "--quiet")
    assert code == 0
    for command in ("solve", "play"):
        code, _, error = call(capsys, command, "--mechanism", "auction", "--types", types)
        assert code == 2
        assert "no --types; these have: flat_fee, market" in error
    assert "write 'weight=0.5 beta=10" in call(capsys, "solve", "--types", "many")[2]


def test_lies_may_be_told_in_solve_and_play(capsys):
    told = ("--misreport", "over_report=2", "--fine")
    found = json.loads(call(capsys, "solve", *told, 1e-6, "--resamples", 0, "--json")[1])
    assert {row["report"] for row in found["providers"]} == {"over_report 2"}
    honest = json.loads(call(capsys, "solve", *told, 9, "--resamples", 0, "--json")[1])
    assert {row["report"] for row in honest["providers"]} == {"truth"}
    for policy in ("random", "equilibrium", "truthful"):
        assert call(capsys, "play", *told, 0, "--policy", policy, "--rounds", 1)[0] == 0
    code, _, error = call(capsys, "play", "--reserve", 1)
    assert code == 2
    assert "has no --reserve; these have: auction" in error


@pytest.mark.parametrize("mechanism", ["market", "auction"])
@pytest.mark.parametrize("policy", ["random", "equilibrium", "truthful"])
def test_play(capsys, mechanism, policy):
    arguments = ["play", "--mechanism", mechanism, "--policy", policy, "--rounds", 2, "--seed", 3]
    code, out, _ = call(capsys, *arguments)
    assert code == 0
    assert "round 1" in out
    assert "round 2" in out
    assert "earned in 2 rounds" in out
    assert call(capsys, *arguments)[1] == out  # seeded


MEASURE = ["measure", "--models", "a", "--task", "chains", "--out", "o"]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["solve", "nowhere"], "unknown"),
        (["solve", "nowhere.csv"], "nowhere.csv"),
        (["solve", "--beta", "much"], "invalid float"),
        (["solve", "--mechanism", "lottery"], "choose one of"),
        (["solve", "--providers", "nobody"], "nobody"),
        (["solve", "--resamples", "-1"], "--resamples is -1; it must be at least 0"),
        (["solve", "--seed", "-1"], "--seed is -1"),
        (["play", "--rounds", "0"], "at least 1"),
        (["play", "--seed", "-1"], "at least 0"),
        (["solve", "--types", "weight=nan"], "has no weight"),
        (["solve", "--types", "share=1"], "cannot read 'share=1'"),
        (["compare", "--out", "x\0", "--no-figure"], "null byte"),
        (["sweep", "--patience", "nan"], "must be positive"),
        (["frobnicate"], "invalid choice"),
        (["estimate", "nowhere.jsonl"], "nowhere.jsonl"),
        (["measure"], "--models is missing"),
        (["measure", "nowhere.toml"], "nowhere.toml"),
        ([*MEASURE, "--methods", "majorty"], "'majorty' is unknown"),
        ([*MEASURE, "--levels", "0"], "levels"),
        ([*MEASURE, "--levels", "one"], "whole numbers"),
        ([*MEASURE, "--limit", "-5"], "limit is -5"),
        ([*MEASURE, "--samples", "0"], "n is 0"),
        ([*MEASURE, "--batch", "0"], "batch is 0"),
        ([*MEASURE, "--prices", "nan"], "list of numbers"),
        ([*MEASURE, "--prices", "-1"], "positive"),
        ([*MEASURE, "--task-options", '{"colour": 1}'], "'colour' is unknown"),
        ([*MEASURE, "--task-options", "{"], "no JSON"),
        ([*MEASURE, "--task-options", "[1]"], "expected a JSON object"),
        ([*MEASURE, "--betas", "200,much"], "--betas is '200,much'; give numbers"),
        ([*MEASURE, "--names", "a", "b"], "one different name for each model"),
        ([*MEASURE, "--shard", "1/2", "--merge"], "give one of them"),
        (["measure", "x.toml", "--models", "a"], "give a campaign file or --models and --task"),
        ([*MEASURE, "--score", "reward"], "needs a reward model"),
        ([*MEASURE, "--reward-model", "./nowhere"], "no reward model"),
        ([*MEASURE, "--trust-remote-code"], "no --reward-model"),
        ([*MEASURE, "--names", "../x"], "file name"),
        ([*MEASURE, "--shard", "9/8"], "I/N"),
        ([*MEASURE, "--coupled"], "need budgets"),
        ([*MEASURE, "--backend-options", '{"x": 1}'], "no option 'x'"),
    ],
)
def test_what_a_user_does_wrong_is_one_line(capsys, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    code, out, err = call(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert words in err
    assert err.startswith("ttc-env")
    assert err.count("\n") == 1, err
    assert list(tmp_path.iterdir()) == []  # nothing was begun


def test_the_auctions_winner_and_missing_bands_are_in_the_table(capsys, tmp_path):
    out = call(capsys, "solve", "gsm8k", "--mechanism", "auction", "--resamples", 20)[1]
    found = json.loads(
        call(capsys, "solve", "gsm8k", "--mechanism", "auction", "--resamples", 20, "--json")[1]
    )
    lines = {line[:22].strip(): line[22:].strip() for line in out.splitlines()}
    assert lines["winner"] == found["winner"]
    told = dict(part.rsplit(" ", 1) for part in lines["wins redrawn markets"].split(", "))
    assert told == {name: f"{chance:.0%}" for name, chance in found["winners"].items()}
    mine = tmp_path / "mine.csv"
    mine.write_text("provider,level,accuracy,tokens,price_per_token\na,1,0.5,10,1e-6\n")
    code, out, _ = call(capsys, "solve", mine, "--alpha", 1)
    assert code == 0
    (line,) = [line for line in out.splitlines() if line.startswith("no bands")]
    assert "standard error" in line


def test_a_stopped_command_and_a_closed_pipe_end_quietly(capsys, monkeypatch):
    from ttc_env.cli import solve

    def stopped(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(solve, "run", stopped)
    code, out, err = call(capsys, "solve")
    assert (code, out, err) == (cli.INTERRUPTED, "", "ttc-env solve: stopped\n")
    program = [sys.executable, "-m", "ttc_env", "solve", "--list"]
    piped = subprocess.Popen(program, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    piped.stdout.close()  # as `| head` does
    _, said = piped.communicate(timeout=120)
    assert piped.returncode == 1
    assert said == b""


def test_a_shards_dry_run_says_how_much_is_its_part(capsys, tmp_path):
    words = ["measure", "--backend", "fake", "--models", "x", "--task", "chains", "--limit", 21]
    counts = []
    for shard in ("1/2", "2/2"):
        code, out, _ = call(capsys, *words, "--out", tmp_path, "--shard", shard, "--dry-run")
        assert code == 0
        counts.append(int(re.search(rf"shard {shard} would draw (\d+) questions", out)[1]))
    assert sum(counts) == 21
    assert abs(counts[0] - counts[1]) <= 1
    assert not list(tmp_path.iterdir())


def test_tracebacks_on_request():
    with pytest.raises(ValueError, match="unknown"):
        cli.main(["solve", "nowhere", "--traceback"])


def test_measure_by_options_and_by_a_file(capsys, tmp_path):
    base = ["measure", "--backend", "fake", "--models", "x/weak", "--task", "chains", "--limit", 5]
    code, out, err = call(
        capsys, *base, "--samples", 4, "--out", tmp_path / "a", "--prices", "1", "--betas", "200",
        "--alpha", "0.008",
    )  # fmt: skip
    assert code == 0, err
    assert "accuracy of one sample" in out
    assert "price_of_anarchy" in out
    text = call(capsys, "measure", "--example")[1]
    assert text == (ROOT / "ttc_env/measure/campaigns/paper.toml").read_text()
    for part in ("1/2", "2/2"):
        code, out, _ = call(capsys, *base, "--samples", 4, "--out", tmp_path / "b", "--shard", part)
        assert code == 0
        assert "--merge" in out
    code, _, err = call(capsys, *base, "--samples", 4, "--out", tmp_path / "b", "--merge")
    assert code == 0, err
    name = "traces/weak--chains--n4-t1.jsonl"
    lines = [(tmp_path / run / name).read_text().splitlines() for run in "ab"]
    assert [line for line in lines[0] if '"question"' in line] == [
        line for line in lines[1] if '"question"' in line
    ]


def test_a_full_disk_is_one_line_and_the_same_command_goes_on(capsys, tmp_path, monkeypatch):
    command = [
        "measure", "--backend", "fake", "--models", "x/weak", "--task", "chains", "--limit", 5,
        "--samples", 2, "--out", tmp_path / "a",
    ]  # fmt: skip
    sync, left = os.fsync, [4]

    def full(handle):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(handle)

    monkeypatch.setattr(os, "fsync", full)
    code, _, err = call(capsys, *command)
    told = [line for line in err.splitlines() if line.startswith("ttc-env")]
    trace = tmp_path / "a" / "traces" / "weak--chains--n2-t1.jsonl"
    assert code == 2
    assert told == [
        f"ttc-env measure: {trace}: No space left on device; make room: what is stored stays, and"
        " the same command goes on from there"
    ]
    monkeypatch.setattr(os, "fsync", sync)
    assert call(capsys, *command)[0] == 0
    assert len(read_trace(trace).records) == 5
    # curve files, too
    monkeypatch.setattr(os, "fsync", full)
    code, _, err = call(
        capsys, "estimate", trace, "--methods", "majority", "--levels", 1, "--out", tmp_path / "b"
    )
    assert code == 2
    assert f"{tmp_path / 'b' / 'chains-majority.csv'}: No space left" in err
    assert list((tmp_path / "b").iterdir()) == []
    code, _, err = call(capsys, "estimate", trace, "--levels", 1, "--out", trace)
    assert code == 2
    assert err == f"ttc-env estimate: {trace}: File exists; name another file or folder\n"


def commands_of(readme: str) -> list[str]:
    """The `ttc-env` commands in a page's shell blocks, but those that say that they download."""
    blocks = re.findall(r"```sh\n(.*?)```", readme, flags=re.DOTALL)
    lines = [line.split("    #") for block in blocks for line in block.split("\n")]
    return [
        line[0].strip()
        for line in lines
        if line[0].startswith("ttc-env ") and "download" not in "".join(line[1:])
    ]


PAGES_WITH_COMMANDS = (
    "docs/first-steps.md",
    "docs/compare-rules.md",
    "docs/many-runs.md",
    "docs/measure-your-models.md",
    "ttc_env/measure/README.md",
)


@pytest.mark.slow
def test_pages_commands_work_from_the_wheel_in_another_folder(tmp_path):
    """What follows `pip install` on these pages is in the wheel. A virtual environment sees this
    one's packages, but not the checkout.
    """
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--wheel-dir", tmp_path, ROOT], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert "ttc_env/measure/campaigns/paper.toml" in zipfile.ZipFile(wheel).namelist()
    place = tmp_path / "env"
    venv.create(place, with_pip=False)
    packages = next((place / "lib").glob("python*")) / "site-packages"
    zipfile.ZipFile(wheel).extractall(packages)
    ours = [p for p in sys.path if p.endswith("site-packages")]
    (packages / "outer.pth").write_text("\n".join(ours))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    python = str(place / "bin" / "python")
    where = subprocess.run(
        [python, "-c", "import ttc_env; print(ttc_env.__file__)"],
        capture_output=True, text=True, cwd=elsewhere, env=clean, check=True,
    )  # fmt: skip
    assert where.stdout.startswith(str(place)), where.stdout
    found = [
        command
        for page in PAGES_WITH_COMMANDS
        for command in commands_of((ROOT / page).read_text())
    ]
    assert len(found) >= 5
    script = place / "bin" / "ttc-env"
    script.write_text(
        f"#!{python}\nimport sys\nfrom ttc_env.cli import main\n"
        'if __name__ == "__main__":\n    sys.exit(main())\n'
    )
    script.chmod(0o755)
    clean["PATH"] = f"{script.parent}{os.pathsep}{clean['PATH']}"
    for command in found:
        done = subprocess.run(
            command, shell=True, capture_output=True, text=True, cwd=elsewhere, env=clean,
            timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}: {done.stderr}"
    assert (elsewhere / "runs/again/chains-pass_at_k.csv").exists()
    entry = zipfile.ZipFile(wheel).read(
        next(n for n in zipfile.ZipFile(wheel).namelist() if n.endswith("entry_points.txt"))
    )
    assert b"ttc-env = ttc_env.cli:main" in entry


def test_plot_curves(capsys, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra `plot`)")
    base = ["--backend", "fake", "--task", "chains", "--limit", 5, "--out", tmp_path]
    call(capsys, "measure", "--models", "x/weak", "x/strong", "--samples", 4, *base)
    call(capsys, "measure", "--models", "x/weak", "--samples", 1, "--budgets", "0,1,2", *base)
    files = sorted(tmp_path.glob("chains-*.csv"))
    assert len(files) == 3
    for x in ("tokens", "level"):
        for kind in ("png", "svg"):
            out = tmp_path / "deep" / f"{x}.{kind}"
            code, text, err = call(capsys, "plot-curves", *files, "--x", x, "--out", out)
            assert code == 0, err
            assert text.strip() == str(out)
            assert out.stat().st_size > 5_000
    code, _, err = call(capsys, "plot-curves", files[0], "--out", tmp_path / "x.gif")
    assert code == 2
    assert "must end in" in err
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    for entry in ("much", ""):
        (tmp_path / "text.csv").write_text(f"provider,level,accuracy,tokens\na,1,{entry},10\n")
        code, _, err = call(capsys, "plot-curves", tmp_path / "text.csv", "--out", out)
        assert code == 2
        assert "text.csv, row 1: accuracy is" in err
    code, _, err = call(capsys, "plot-curves", tmp_path / "other.csv")
    assert code == 2
    assert "'provider'" in err
