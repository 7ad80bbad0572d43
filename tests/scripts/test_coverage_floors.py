"""`make coverage`: the package reaches its floor, the game all of its lines and branches."""

import json

import pytest

from scripts import coverage_floors


def summary(lines, branches):
    return {
        "summary": {
            "covered_lines": lines,
            "num_statements": 10,
            "covered_branches": branches,
            "num_branches": 4,
        }
    }


def run(tmp_path, files, floor="50"):
    path = tmp_path / "coverage.json"
    path.write_text(json.dumps({"files": files}))
    return coverage_floors.main([str(path), "--floor", floor])


@pytest.mark.parametrize(
    ("game", "other", "status"),
    [
        ((10, 4), (10, 4), 0),
        ((10, 4), (1, 1), 0),
        ((9, 4), (10, 4), 1),  # a line of the game
        ((10, 3), (10, 4), 1),  # a branch of the game
        ((10, 4), (0, 0), 0),  # half of all
        ((10, 4), (9, 4), 0),
    ],
)
def test_the_game_needs_everything_and_the_package_its_floor(tmp_path, game, other, status):
    files = {"ttc_env/game/a.py": summary(*game), "ttc_env/b.py": summary(*other)}
    assert run(tmp_path, files) == status


def test_lines_and_branches_are_told_apart_and_counted_together(tmp_path, capsys):
    files = {"ttc_env/game/a.py": summary(10, 4), "ttc_env/b.py": summary(8, 0)}
    assert run(tmp_path, files, "78") == 0  # 22 of 28
    assert run(tmp_path, files, "79") == 1
    first, second = capsys.readouterr().out.splitlines()[:2]
    assert " 90.00% of lines,  50.00% of branches,  78.57% of both: at least 78%" in first
    assert "100.00% of both: at least 100%" in second


def test_a_report_without_the_game_or_without_branches_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no file under ttc_env/game/"):
        run(tmp_path, {"ttc_env/b.py": summary(10, 4)})
    without = summary(10, 4)
    del without["summary"]["num_branches"]
    with pytest.raises(ValueError, match="--branch"):
        run(tmp_path, {"ttc_env/game/a.py": without})
