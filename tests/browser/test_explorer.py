"""The explorer in a real browser: the numbers of the Python that runs in it are CPython's.

`make test-browser` builds the page and runs this. Skipped where there is no browser, no driver, or
no page to open.
"""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from scripts.build_explorer import BUILD, START
from ttc_env.game.mechanisms import mechanisms
from ttc_env.report.facts import catalogue, explore

selenium = pytest.importorskip(
    "selenium", reason="selenium is not installed: run `make test-browser`"
)
PAGE = BUILD / "explorer.html"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE = 300  # seconds until the engine has started; on an idle machine it takes six


def found(names):
    return next(filter(None, map(shutil.which, names)), None)


@pytest.fixture(scope="module")
def driver():
    """A headless browser without a network, 1280 x 800."""
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    browser, helper = found(BROWSERS), found(["chromedriver"])
    if browser is None or helper is None:
        pytest.skip("no Chromium with its driver: apt-get install chromium chromium-driver")
    if not PAGE.exists():
        pytest.skip(f"no {PAGE}: make explorer")
    options = ChromeOptions()
    options.binary_location = browser
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(flag)
    options.add_argument("--window-size=1280,800")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with Chrome(options=options, service=Service(helper)) as chrome:
        chrome.execute_cdp_cmd("Network.enable", {})
        offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
        chrome.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
        chrome.set_script_timeout(PATIENCE)
        yield chrome


@pytest.fixture(scope="module")
def live(driver):
    """The page with its engine started."""
    driver.get(PAGE.as_uri())
    wait(driver, "return Explorer.seconds || document.getElementById('error').textContent")
    assert driver.find_element("id", "engine").get_attribute("data-state") == "ready"
    return driver


def wait(driver, script):
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(driver, PATIENCE).until(lambda d: d.execute_script(script))


def in_browser(driver, options):
    answer = driver.execute_async_script(
        "const [options, done] = arguments;"
        "Explorer.solve(options).then((facts) => done({facts}), (e) => done({error: e.message}));",
        options,
    )
    return answer["facts"] if "facts" in answer else answer["error"]


def random_settings(count, seed):
    """Settings that the page's controls can reach."""
    rng = np.random.default_rng(seed)
    known = catalogue()
    for _ in range(count):
        market = known["markets"][rng.integers(len(known["markets"]))]
        options = {
            "benchmark": market["benchmark"],
            "method": market["method"],
            "mechanism": str(rng.choice(mechanisms())) if rng.random() < 0.3 else "market",
            "alpha": float(market["alpha"] * 10 ** rng.uniform(-1, 1)),
            "beta": float(10 ** rng.uniform(math.log10(0.5), 3) / market["alpha"]),
        }
        if rng.random() < 0.5:
            options["margin"] = float(rng.uniform(0.01, 2))
        if market["dated"] and rng.random() < 0.7:
            options["as_of"] = str(rng.choice(known["dates"][3:]))
        try:
            names = explore(options)["sellers"]
        except ValueError:  # a rule that these curves cannot have
            options["mechanism"] = "market"
            names = explore(options)["sellers"]
        if rng.random() < 0.5:
            kept = rng.random(len(names)) < 0.7
            options["providers"] = [x for x, k in zip(names, kept, strict=True) if k] or names[:1]
        yield options


def differences(ours, theirs, where="", size=0.0):
    """Where two answers differ by more than 1e-12 of the number, or of what it is a part of: the
    first best for money (`size`), one for shares and regrets.
    """
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), where
        for key in ours:
            whole = 1.0 if key in ("share", "regret", "outside_share") else size
            yield from differences(ours[key], theirs[key], f"{where}.{key}", whole)
    elif isinstance(ours, list):
        assert len(ours) == len(theirs), where
        for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            yield from differences(a, b, f"{where}[{i}]", size)
    elif isinstance(ours, float) and isinstance(theirs, (int, float)):
        if ".percent[" in where:  # 100 (PoA - 1): compare the ratio
            ours, theirs = 1.0 + ours / 100.0, 1.0 + theirs / 100.0
        if abs(ours - theirs) > 1e-12 * max(abs(ours), abs(theirs), abs(size)):
            yield where, ours, theirs
    elif ours != theirs:
        yield where, ours, theirs


def test_a_hundred_random_settings_have_the_same_numbers_as_in_cpython(live):
    seen = set()
    for options in random_settings(100, seed=0):
        ours = explore(options)
        theirs = in_browser(live, options)
        assert isinstance(theirs, dict), (options, theirs)
        assert not list(differences(ours, theirs, size=ours["first_best"])), options
        seen.add((options["benchmark"], options["mechanism"]))
    assert len(seen) > 15


def test_the_comparison_notices_a_wrong_digit():
    ours = explore(START)
    for path, change in (
        (("equilibrium", "welfare"), 1e-11),
        (("optimum", "users"), -1e-11),
        (("first_best",), 1e-11),
    ):
        theirs = explore(START)
        place = theirs
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] *= 1.0 + change
        assert list(differences(ours, theirs, size=ours["first_best"]))


def test_errors_arrive_as_the_package_words_them(live):
    assert in_browser(live, {"benchmark": "nothing"}).startswith("benchmark 'nothing' is unknown")


def test_the_prepared_state_is_the_solvers(live):
    prepared = live.execute_script(
        "return JSON.parse(document.getElementById('prepared').textContent)"
    )
    assert prepared["options"] == START
    assert prepared["facts"] == explore(START)
    assert prepared["catalogue"] == catalogue()


def test_the_page_asks_the_network_for_nothing(live):
    fetched = live.execute_script(
        "return performance.getEntriesByType('resource').map(r => r.name)"
    )
    assert not [name for name in fetched if not name.startswith(("blob:", "data:"))]
    assert not [line for line in live.get_log("browser") if line["level"] == "SEVERE"]


def test_a_guess_shows_the_answer(driver):
    driver.get("about:blank")
    driver.get(PAGE.as_uri())
    assert "guessing" in driver.find_element("id", "layout").get_attribute("class")
    driver.find_element("xpath", "//form[@id='guess']//button[text()='a tenth']").click()
    assert "33% is lost" in driver.find_element("id", "verdict").text
    assert "33% of the possible value is lost" in driver.find_element("id", "answer").text


def test_a_link_carries_the_state_and_a_file_can_be_dropped_in(live, tmp_path):
    live.get("about:blank")
    link = "#benchmark=aime&method=reasoning&mechanism=flat_fee&beta=500&providers=R1-D-Qwen-7B"
    live.get(PAGE.as_uri() + link)
    said = explore({"benchmark": "aime", "method": "reasoning", "mechanism": "flat_fee",
                    "beta": 500.0, "providers": ["R1-D-Qwen-7B"]})  # fmt: skip
    text = "return document.getElementById('answer').textContent"
    wait(live, f"{text} === {said['headline']!r}")
    assert live.find_element("id", "rule").get_attribute("value") == "flat_fee"
    file = tmp_path / "mine.csv"
    file.write_text(
        "provider,level,accuracy,tokens,price_per_token\n"
        "one,1,0.5,100,1e-6\none,2,0.7,200,1e-6\ntwo,1,0.6,300,1e-6\n"
    )
    live.find_element("id", "file").send_keys(str(file))
    names = "return [...document.querySelectorAll('#sellers input')].map(x => x.value).join()"
    wait(live, f"{names} === 'one,two'")
    bad = Path(tmp_path / "bad.csv")
    bad.write_text("provider,level,accuracy,tokens,price_per_token\none,1,70,100,1e-6\n")
    live.find_element("id", "file").send_keys(str(bad))
    wait(live, "return document.getElementById('error').textContent.includes('accuracy')")


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_is_wider_than_the_window(driver, width):
    size = {"width": width, "height": 740, "deviceScaleFactor": 1, "mobile": width < 700}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver.get("about:blank")
    driver.get(PAGE.as_uri())
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_every_control_has_a_name(driver):
    driver.get(PAGE.as_uri())
    unnamed = driver.execute_script(
        "return [...document.querySelectorAll('input, select, button, svg[role=img]')].filter(x =>"
        " !(x.getAttribute('aria-label') || x.textContent.trim() || (x.labels && x.labels.length)))"
        ".map(x => x.outerHTML.slice(0, 80))"
    )
    assert unnamed == []
