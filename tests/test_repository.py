"""What the files around the code say agrees: workflows, metadata, changelog, citation."""

import re
import tomllib
from pathlib import Path

import pytest

import ttc_env

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[1]
YAML = [
    *sorted((ROOT / ".github").rglob("*.yml")),
    ROOT / ".pre-commit-config.yaml",
    ROOT / "CITATION.cff",
]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

if not (ROOT / ".github").exists():
    pytest.skip("not a checkout", allow_module_level=True)


def workflow(file):
    return yaml.safe_load((ROOT / ".github/workflows" / file).read_text())["jobs"]


def commands(job):
    return [step["run"] for step in job["steps"] if "run" in step]


@pytest.mark.parametrize("path", YAML, ids=lambda path: path.name)
def test_yaml_can_be_read(path):
    assert isinstance(yaml.safe_load(path.read_text()), dict)


def test_workflows_run_what_the_script_runs():
    script = re.findall(r"^make [\w-]+$", (ROOT / ".ci/run").read_text(), flags=re.MULTILINE)
    assert script == ["make lint", "make test", "make test-all", "make docs"]
    run = [command for job in workflow("ci.yml").values() for command in commands(job)]
    assert set(script) <= set(run)
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    made = [command.split()[1] for command in run if command.startswith("make ")]
    assert set(made) <= set(targets)


def test_jobs_that_run_pytest_themselves_install_what_its_settings_need():
    for job in workflow("ci.yml").values():
        run = commands(job)
        if any("python -m pytest" in command for command in run):
            words = {
                word for command in run if "pip install" in command for word in command.split()
            }
            assert '".[dev]"' in words or {"pytest", "hypothesis"} <= words


def test_every_python_that_is_promised_is_tested():
    promised = [line.rsplit(" :: ", 1)[1] for line in PROJECT["classifiers"] if ":: 3." in line]
    assert workflow("ci.yml")["test"]["strategy"]["matrix"]["python"] == promised
    assert PROJECT["requires-python"] == f">={promised[0]}"


def test_every_job_names_a_system_and_the_job_that_it_needs():
    for file in ("ci.yml", "pages.yml", "release.yml"):
        jobs = workflow(file)
        for job in jobs.values():
            assert job["runs-on"]
            assert job.get("needs", next(iter(jobs))) in jobs
            assert all(("run" in step) != ("uses" in step) for step in job["steps"])


def test_one_repository_and_one_version_are_named_everywhere():
    home = PROJECT["urls"]["Repository"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["repository-code"] == home
    for path in [*YAML, *ROOT.glob("*.md")]:
        for url in re.findall(r"https://github\.com/ttc-env/[\w.-]+", path.read_text()):
            assert url.rstrip(".") == home, path
    assert str(citation["version"]) == ttc_env.__version__
    assert f"\n## {ttc_env.__version__} (" in (ROOT / "CHANGELOG.md").read_text()
