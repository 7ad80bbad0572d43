// The page: controls on one side, what the solver found on the other. It starts from a state that
// was computed when the page was built, and is live once the engine (worker.js) is ready.
"use strict";

const Explorer = (() => {
  const { html, short, percent, usd } = Charts;
  const by = (id) => document.getElementById(id);
  const prepared = JSON.parse(by("prepared").textContent);
  const catalogue = prepared.catalogue;
  const START = { ...prepared.options };
  const GUESSES = [
    ["almost nothing", 0.02],
    ["a tenth", 0.1],
    ["a third", 1 / 3],
    ["more than half", 0.6],
  ];
  let state = { ...START };
  let facts = prepared.facts;
  const view = {};

  // --- the engine -----------------------------------------------------------------------------

  const waiting = new Map();
  let count = 0,
    worker = null,
    ready;
  const engine = new Promise((resolve, reject) => {
    ready = { resolve, reject };
  });
  engine.catch(() => {});

  function startEngine() {
    const began = performance.now();
    const source = new Blob([by("worker-source").textContent], { type: "text/javascript" });
    worker = new Worker(URL.createObjectURL(source));
    worker.onmessage = ({ data }) => {
      if (data.state === "ready") {
        Explorer.seconds = (performance.now() - began) / 1000;
        tellEngine("ready", "live: the exact solver runs in this page");
        ready.resolve();
      } else if (data.state === "failed") {
        tellEngine("failed", "the solver could not start");
        fail(`The solver could not start in this browser: ${data.error}`);
        ready.reject(new Error(data.error));
      } else if (data.state) {
        tellEngine("loading", data.state);
      } else {
        const { resolve, reject } = waiting.get(data.id);
        waiting.delete(data.id);
        if (data.error) reject(new Error(data.error));
        else resolve(data.facts);
      }
    };
    const parts = {};
    document.querySelectorAll("script[data-part-of-engine]").forEach((node) => {
      parts[node.dataset.partOfEngine] = node.textContent.trim();
      node.remove();
    });
    worker.postMessage({ parts });
  }

  function tellEngine(what, text) {
    by("engine").dataset.state = what;
    by("engine").textContent = text;
  }

  // The facts for some settings (`ttc_env.report.facts.explore`), solved in the worker.
  async function solve(options) {
    await engine;
    const id = ++count;
    return new Promise((resolve, reject) => {
      waiting.set(id, { resolve, reject });
      worker.postMessage({ id, options });
    });
  }

  // --- solving what the controls say, the latest only -------------------------------------------

  let busy = false,
    again = false,
    timer = null;

  function changed(delay = 90) {
    fill();
    saveLink();
    clearTimeout(timer);
    timer = setTimeout(refresh, delay);
  }

  async function refresh() {
    if (busy) {
      again = true;
      return;
    }
    busy = true;
    document.body.classList.add("working");
    try {
      const found = await solve(state);
      fail("");
      facts = found;
      draw();
    } catch (error) {
      fail(error.message);
    }
    busy = false;
    document.body.classList.toggle("working", again);
    if (again) {
      again = false;
      refresh();
    }
  }

  function fail(text) {
    by("error").textContent = text;
    by("error").classList.toggle("hidden", !text);
    if (text) by("controls").open = true;
  }

  function draw() {
    by("answer").textContent = facts.headline;
    by("detail").textContent = facts.detail;
    Market.show(by("page"), facts, view);
    fill();
  }

  // --- controls -------------------------------------------------------------------------------

  const market = () =>
    catalogue.markets.find((m) => m.benchmark === state.benchmark && m.method === state.method) ||
    catalogue.markets[0];
  const usual = () =>
    state.curves ? { alpha: state.fileAlpha, beta: 8 / state.fileAlpha } : market();
  // Sliders run from 0 to 1 on a log scale between these ends.
  const ends = {
    alpha: () => [usual().alpha / 10, usual().alpha * 10],
    beta: () => [0.5 / usual().alpha, 1000 / usual().alpha],
  };
  const toSlider = (name, x) => {
    const [low, high] = ends[name]();
    return Math.log(x / low) / Math.log(high / low);
  };
  const fromSlider = (name, t) => {
    const [low, high] = ends[name]();
    return Number((low * (high / low) ** t).toPrecision(3));
  };
  const current = (name) => state[name] ?? usual()[name];
  const OWN = "own";

  function fill() {
    by("market").value = state.curves ? OWN : `${state.benchmark}/${state.method}`;
    by("rule").value = state.mechanism;
    for (const name of ["beta", "alpha"]) {
      by(name).value = toSlider(name, current(name));
      by(`${name}-out`).textContent =
        name === "alpha" ? `${short(current(name))} USD` : short(current(name));
      by(name).setAttribute("aria-valuetext", by(`${name}-out`).textContent);
    }
    by("margin").value = state.margin ?? 0.25;
    by("margin-out").textContent =
      state.margin === null || state.margin === undefined ? "as measured" : percent(state.margin);
    const dated = !state.curves && market().dated;
    by("date-control").classList.toggle("hidden", !dated);
    by("date").max = catalogue.dates.length;
    by("date").value = state.as_of ? catalogue.dates.indexOf(state.as_of) : catalogue.dates.length;
    by("date-out").textContent = state.as_of || "June 2026, newest of each line";
    by("date").setAttribute("aria-valuetext", by("date-out").textContent);
    fillTypes();
    const all = facts.sellers || [];
    const kept = new Set(state.providers || all);
    by("sellers-out").textContent =
      `${all.filter((name) => kept.has(name)).length} of ${all.length}`;
    if (by("sellers").dataset.names !== all.join("\n")) {
      by("sellers").dataset.names = all.join("\n");
      by("sellers").replaceChildren(
        by("sellers").querySelector("legend"),
        ...all.map((name) =>
          html(
            "label",
            {},
            html("input", { type: "checkbox", value: name, onchange: chooseSellers }),
            name,
          ),
        ),
      );
    }
    by("sellers")
      .querySelectorAll("input")
      .forEach((box) => {
        box.checked = kept.has(box.value);
      });
  }

  function chooseSellers(event) {
    const boxes = [...by("sellers").querySelectorAll("input")];
    const kept = boxes.filter((box) => box.checked).map((box) => box.value);
    if (!kept.length) {
      event.target.checked = true;
      fail("A market needs at least one provider.");
      return;
    }
    state.providers = kept.length === boxes.length ? null : kept;
    changed();
  }

  // Users of two kinds, where this version of the package knows them.
  function fillTypes() {
    by("types-control").classList.toggle("hidden", !catalogue.types);
    if (!catalogue.types) return;
    const [weight, times] = [state.second || 0, state.times ?? 1];
    by("types").value = weight;
    by("types-out").textContent = weight ? percent(weight) : "none";
    by("types-beta").value = times;
    by("types-beta").disabled = !weight;
    by("types-beta-out").textContent = `${short(10 ** times)} times`;
    state.types = weight
      ? [{ weight: 1 - weight }, { weight, beta: current("beta") * 10 ** times }]
      : null;
  }

  function controls() {
    by("market").append(
      ...catalogue.markets.map((m) =>
        html("option", { value: `${m.benchmark}/${m.method}` }, m.title),
      ),
    );
    by("market").append(
      html("option", { value: OWN, disabled: "", hidden: "" }, "Your own curves"),
    );
    by("rule").append(
      ...catalogue.rules.map((r) => html("option", { value: r.mechanism }, r.rule)),
    );
    by("market").addEventListener("change", () => {
      const [benchmark, method] = by("market").value.split("/");
      state = {
        benchmark,
        method,
        mechanism: state.mechanism,
        second: state.second,
        times: state.times,
      };
      changed(0);
    });
    by("rule").addEventListener("change", () => {
      state.mechanism = by("rule").value;
      changed(0);
    });
    for (const name of ["beta", "alpha"]) {
      by(name).addEventListener("input", () => {
        state[name] = fromSlider(name, Number(by(name).value));
        changed();
      });
    }
    by("margin").addEventListener("input", () => {
      state.margin = Number(by("margin").value);
      changed();
    });
    by("date").addEventListener("input", () => {
      state.as_of = catalogue.dates[Number(by("date").value)] || null;
      state.providers = null;
      changed();
    });
    by("types").addEventListener("input", () => {
      state.second = Number(by("types").value);
      changed();
    });
    by("types-beta").addEventListener("input", () => {
      state.times = Number(by("types-beta").value);
      changed();
    });
    by("file").addEventListener("change", () => takeFile(by("file").files[0]));
    const drop = by("drop");
    for (const kind of ["dragenter", "dragover"])
      document.addEventListener(kind, (event) => {
        event.preventDefault();
        drop.classList.add("over");
      });
    for (const kind of ["dragleave", "drop"])
      document.addEventListener(kind, (event) => {
        event.preventDefault();
        drop.classList.remove("over");
      });
    document.addEventListener("drop", (event) => takeFile(event.dataTransfer.files[0]));
    by("reset").addEventListener("click", () => {
      state = { ...START };
      by("file").value = "";
      facts = prepared.facts;
      fail("");
      draw();
      saveLink();
    });
    by("link").addEventListener("click", copyLink);
    if (matchMedia("(max-width: 860px)").matches) by("controls").open = false;
  }

  async function takeFile(file) {
    if (!file) return;
    const alpha = current("alpha");
    state = {
      curves: await file.text(),
      file: file.name,
      fileAlpha: alpha,
      alpha,
      beta: current("beta"),
      mechanism: state.mechanism,
    };
    changed(0);
  }

  // --- the link: it carries all settings but a file ---------------------------------------------

  const KEPT = [
    "benchmark",
    "method",
    "mechanism",
    "beta",
    "alpha",
    "margin",
    "as_of",
    "providers",
    "second",
    "times",
  ];
  const NUMBERS = new Set(["beta", "alpha", "margin", "second", "times"]);

  function saveLink() {
    const words = new URLSearchParams();
    for (const name of KEPT) {
      const value = state[name];
      if (value === null || value === undefined || state.curves) continue;
      if (name === "providers") value.forEach((seller) => words.append(name, seller));
      else words.set(name, value);
    }
    history.replaceState(null, "", `#${words}`);
    by("link-out").textContent = "";
  }

  function readLink() {
    const words = new URLSearchParams(location.hash.slice(1));
    if (![...words.keys()].some((name) => KEPT.includes(name))) return false;
    const found = { mechanism: "market" };
    for (const name of KEPT) {
      if (!words.has(name)) continue;
      if (name === "providers") found[name] = words.getAll(name);
      else found[name] = NUMBERS.has(name) ? Number(words.get(name)) : words.get(name);
    }
    const known =
      catalogue.markets.find(
        (m) => m.benchmark === found.benchmark && (!found.method || m.method === found.method),
      ) || catalogue.markets[0];
    state = { ...found, benchmark: known.benchmark, method: known.method };
    return true;
  }

  async function copyLink() {
    saveLink();
    if (state.curves) {
      by("link-out").textContent =
        "A link cannot carry your file; it holds everything else only for the markets above.";
      return;
    }
    try {
      await navigator.clipboard.writeText(location.href);
      by("link-out").textContent = "Copied: it opens this page with these settings.";
    } catch {
      by("link-out").textContent = "Copy the address of this page: it carries these settings.";
    }
  }

  // --- guess before you see ---------------------------------------------------------------------

  function guessing() {
    const lost = 1 - prepared.facts.equilibrium.welfare / prepared.facts.first_best;
    const nearest = GUESSES.reduce((a, b) =>
      Math.abs(b[1] - lost) < Math.abs(a[1] - lost) ? b : a,
    );
    by("layout").classList.add("guessing");
    by("results").inert = true;
    by("controls").closest("aside").inert = true;
    const reveal = (guess) => {
      by("layout").classList.remove("guessing");
      by("results").inert = false;
      by("controls").closest("aside").inert = false;
      by("guess").remove();
      by("verdict").classList.toggle("hidden", !guess);
      if (guess)
        by("verdict").textContent =
          `${guess === nearest ? "Right" : `You said ${guess[0]}`}: ${percent(lost)} is lost. ` +
          "Now change the market and see what helps.";
    };
    by("guess").addEventListener("submit", (event) => event.preventDefault());
    by("guesses").replaceChildren(
      ...GUESSES.map((guess) =>
        html("button", { type: "button", onclick: () => reveal(guess) }, guess[0]),
      ),
      html(
        "button",
        { type: "button", class: "main", onclick: () => reveal(null) },
        "Just show me",
      ),
    );
  }

  function start() {
    controls();
    draw();
    if (readLink()) {
      by("guess").remove();
      changed(0);
    } else {
      guessing();
    }
    window.addEventListener("hashchange", () => {
      if (readLink()) changed(0);
    });
    startEngine();
  }

  return { start, solve, usd };
})();

Explorer.start();
