"""What SECURITY.md says of the code."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "SECURITY.md"
FILES = {
    path.relative_to(ROOT).as_posix(): ast.parse(path.read_text())
    for part in ("ttc_env", "agents", "baselines", "scripts")
    for path in sorted((ROOT / part).rglob("*.py"))
}
RUNS = {"eval", "exec", "__import__"}  # what runs a text
READS = {"pickle.load", "pickle.loads", "os.system", "os.popen", "yaml.load", "marshal.loads"}
UNSAFE = {"allow_pickle": True, "weights_only": False, "trust_remote_code": True, "shell": True}
PICKLES = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
CONNECTS = {"socket", "http", "ftplib", "requests", "httpx", "aiohttp", "urllib.request"}

if not PAGE.exists():
    pytest.skip("not a checkout", allow_module_level=True)


def executes(tree):
    """Calls that run what they are given, as texts."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        given = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
        if (
            name in RUNS | READS
            or any(given.get(word, not value) is value for word, value in UNSAFE.items())
            or (name.endswith("torch.load") and given.get("weights_only") is not True)
        ):
            yield ast.unparse(node)


def importers(modules):
    """The files that import one of these modules, or a part of one."""
    found = set()
    for path, tree in FILES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or "", *(f"{node.module}.{a.name}" for a in node.names)]
            else:
                continue
            if any(name == m or name.startswith(f"{m}.") for name in names for m in modules):
                found.add(path)
    return found


def test_nothing_that_is_read_is_executed():
    # `check_env` copies an environment that it has made itself
    assert {path for path, tree in FILES.items() if any(executes(tree))} == {"ttc_env/testing.py"}
    assert list(executes(FILES["ttc_env/testing.py"])) == ["pickle.loads(pickle.dumps(env))"]
    assert importers(PICKLES) == {"ttc_env/testing.py"}


@pytest.mark.parametrize(
    "text",
    [
        "eval(answer)",
        "pickle.load(file)",
        "np.load(path, allow_pickle=True)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "subprocess.run(text, shell=True)",
    ],
)
def test_the_test_finds_what_executes(text):
    assert list(executes(ast.parse(text)))


def test_other_programs_and_connections_are_those_that_the_page_names():
    named = set(re.findall(r"`((?:ttc_env|agents|baselines|scripts)/\w+\.py)`", PAGE.read_text()))
    assert importers({"subprocess", "pty"}) == named
    assert importers(CONNECTS) == {"ttc_env/measure/backends/openai_server.py"}
