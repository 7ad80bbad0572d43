// A solved market as a page: what `ttc_env.report.facts.facts` found, in five pictures. The report
// calls `Market.show` once, the explorer after every change of a setting.
"use strict";

const Market = (() => {
  const { html, usd, short, percent, several, lines, bars, heat, table, key } = Charts;
  const COLOURS = [0, 1, 2, 3, 4, 5, 6, 7].map((k) => `var(--s${k})`);
  const USERS = {
    key: "users",
    text: "kept by users",
    colour: "var(--users)",
    ink: "var(--on-users)",
  };
  const PROVIDERS = {
    key: "providers",
    text: "earned by providers",
    colour: "var(--providers)",
    ink: "#201500",
  };
  const LOST = { key: "lost", text: "lost", colour: "var(--lost)", hatched: "hatch" };
  const VIEWS = [
    ["value", "Quality less price", (p, k) => p.quality[k] - p.price[k]],
    ["quality", "Quality", (p, k) => p.quality[k]],
    ["surplus", "Quality less cost", (p, k) => p.quality[k] - p.cost[k]],
  ];

  // Colours of providers: the largest shares get one each, the others are grey.
  function colours(facts) {
    const share = (facts.equilibrium || facts.optimum).share;
    const order = share.map((s, i) => [s, i]).sort((a, b) => b[0] - a[0]);
    const found = share.map(() => null);
    order.slice(0, COLOURS.length).forEach(([s, i], k) => {
      if (s > 0.01 || share.length <= COLOURS.length) found[i] = COLOURS[k];
    });
    return found;
  }

  const parts = (row, total) => [
    { ...USERS, value: row.users },
    { ...PROVIDERS, value: row.providers },
    { ...LOST, value: Math.max(total - row.welfare, 0) },
  ];

  const SECTIONS = `
    <section class="first">
      <h2>Where the value of 1000 questions goes</h2>
      <p class="say">USD per 1000 users. A full bar is the most that any rule could create:
        everybody is served by the best model at its best level of thinking.</p>
      <div data-part="split-key"></div>
      <div data-part="split"></div>
      <div data-part="split-table"></div>
    </section>
    <section data-part="curves-section">
      <h2>Why: what thinking longer brings</h2>
      <p class="say">Dots are what providers choose, rings what would be best for society.
        <span data-part="play-hint">Move the slider to watch them answer each other, one at a
        time, from the lowest level.</span></p>
      <div class="row screen" data-part="views"></div>
      <div data-part="curves"></div>
      <div class="key" data-part="curves-key"></div>
      <div class="row screen" data-part="scrubber"></div>
      <div class="two" data-part="play">
        <div><div class="chart-title">Share of users</div><div data-part="shares"></div></div>
        <div><div class="chart-title">Who gets what, USD per 1000 users</div>
          <div data-part="welfare"></div></div>
        <div><div class="chart-title">Level, from lowest to highest</div>
          <div data-part="levels"></div></div>
        <div><div class="chart-title">Potential: it rises with every move</div>
          <div data-part="potential"></div></div>
      </div>
      <div data-part="curves-table"></div>
    </section>
    <section data-part="beta-section">
      <h2>How much is lost, if users look more closely</h2>
      <p class="say">The loss at equilibrium against beta, how strongly users' choice follows value:
        far left they choose blindly, far right they never err. Measured against the best that is
        possible with the same users.</p>
      <div data-part="beta"></div>
      <div data-part="beta-table"></div>
    </section>
    <section data-part="regret-section">
      <h2>Nobody wants to move</h2>
      <p class="say">What part of its best profit a provider would give up at each level, while the
        others stay. Pale is best, dark is bad; dots mark the equilibrium.</p>
      <div data-part="regret"></div>
    </section>`;

  function show(root, facts, state = {}) {
    if (!root.querySelector("[data-part='split']")) root.innerHTML = SECTIONS;
    const part = (name) => root.querySelector(`[data-part="${name}"]`);
    showSplit(part, facts);
    showCurves(part, facts, state);
    showBeta(part, facts);
    showRegret(part, facts);
  }

  // --- rules side by side ---------------------------------------------------------------------

  function showSplit(part, facts) {
    const total = facts.first_best;
    const here = facts.equilibrium;
    const rows = [];
    if (here)
      rows.push({ name: facts.setting.rule, parts: parts(here, total), strong: true, ...here });
    else
      rows.push({ name: facts.setting.rule, note: "no pure equilibrium", strong: true, parts: [] });
    for (const rule of facts.rules) {
      if (rule.mechanism === facts.setting.mechanism || rule.note) continue;
      rows.push({ name: rule.rule, parts: parts(rule, total), ...rule });
    }
    const [first, ...others] = rows;
    others.sort((a, b) => b.welfare - a.welfare || b.users - a.users);
    rows.splice(0, rows.length, first, ...others);
    key(
      part("split-key"),
      [USERS, PROVIDERS, LOST].map((p) => ({
        text: p.text,
        colour: p.colour,
        kind: p.hatched || "box",
      })),
    );
    bars(part("split"), rows, {
      total,
      label: rows
        .filter((r) => !r.note)
        .map(
          (r) =>
            `${r.name}: users keep ${usd(r.users)}, providers earn ${usd(r.providers)}, ` +
            `lost ${usd(total - r.welfare)} USD per 1000 users.`,
        )
        .join(" "),
      say: (row, p) =>
        several(
          row.name,
          `${p.text}: ${usd(p.value)} USD per 1000 users`,
          `${percent(p.value / total)} of what is possible`,
        ),
    });
    const left = facts.rules.filter((r) => r.note).map((r) => [r.rule, r.note, "", "", ""]);
    table(
      part("split-table"),
      ["rule", "users", "providers", "lost", "equilibria"],
      [
        ...rows
          .filter((r) => !r.note)
          .map((r) => [
            r.name,
            usd(r.users),
            usd(r.providers),
            usd(total - r.welfare),
            r.equilibria ?? facts.equilibria,
          ]),
        ...left,
      ],
      "Numbers, and the rules that are left out",
    );
  }

  // --- curves, and play over time -------------------------------------------------------------

  function showCurves(part, facts, state) {
    const hues = colours(facts);
    const play = facts.play;
    const last = play ? play.level.length - 1 : 0;
    state.move = last;
    state.view = state.view || "value";
    const many = facts.providers.length > 9;
    const grid = facts.providers.reduce(
      (a, b) => (b.levels.length > a.length ? b.labels : a),
      facts.providers[0].labels,
    );
    const samples = facts.providers.every((p) => p.labels.every((text, k) => text === grid[k]));

    function drawCurves() {
      const [, , of] = VIEWS.find(([name]) => name === state.view);
      const chosen = play ? play.level[state.move] : (facts.equilibrium || facts.optimum).level;
      const series = facts.providers.map((p, i) => ({
        name: p.name,
        colour: hues[i] || "var(--quiet)",
        quiet: !hues[i],
        x: samples ? p.levels.map((_, k) => k) : p.price,
        y: p.levels.map((_, k) => 1000 * of(p, k)),
        provider: i,
        marks: [
          { at: facts.optimum.level[i], kind: "ring" },
          { at: chosen[i], kind: "dot" },
        ],
      }));
      const shown = series.filter((s) => !s.quiet);
      const lows = (shown.length ? shown : series).flatMap((s) => s.y);
      // What few users choose may lie far below; the frame is for the others.
      const least = Math.min(...lows),
        most = Math.max(...lows);
      const span = most - Math.max(least, -most) || Math.abs(most);
      const floor = { low: most - 1.06 * span, high: most + 0.06 * span };
      const x = samples
        ? {
            low: 0,
            high: grid.length - 1,
            ticks: grid.map((_, k) => k),
            format: (k) => grid[k],
            label: facts.setting.level,
          }
        : { kind: "log", label: "price of a question, USD; more effort to the right" };
      lines(part("curves"), series, {
        height: 320,
        x,
        y: { label: "USD per 1000 questions", ...floor },
        say: (s, k) => {
          const p = facts.providers[s.provider];
          return several(
            `${p.name}, ${p.labels[k]}${samples ? ` ${facts.setting.level}` : ""}`,
            `quality ${usd(p.quality[k])}, price ${usd(p.price[k])}, cost ${usd(p.cost[k])}`,
            p.accuracy && `right in ${percent(p.accuracy[k])}`,
            chosen[s.provider] === k && "chosen",
            facts.optimum.level[s.provider] === k && "best for society",
          );
        },
        label: `Quality less price by level. ${facts.providers
          .map((p, i) => {
            const best = p.labels[facts.optimum.level[i]];
            return `${p.name} chooses ${p.labels[chosen[i]]}, best for society ${best}`;
          })
          .join("; ")}.`,
      });
    }

    part("views").replaceChildren(
      ...VIEWS.map(([name, text]) => {
        const button = html(
          "button",
          {
            type: "button",
            "aria-pressed": String(name === state.view),
            onclick: () => {
              state.view = name;
              part("views")
                .querySelectorAll("button")
                .forEach((b) => b.setAttribute("aria-pressed", String(b === button)));
              drawCurves();
            },
          },
          text,
        );
        return button;
      }),
    );
    key(part("curves-key"), [
      { text: "chosen by the provider", colour: "var(--ink)", kind: "dot" },
      { text: "best for society", colour: "var(--optimum)", kind: "ring" },
      ...(many ? [{ text: "providers with few users", colour: "var(--quiet)", kind: "line" }] : []),
    ]);
    drawCurves();
    part("play").classList.toggle("hidden", !play || last === 0);
    part("scrubber").classList.toggle("hidden", !play || last === 0);
    part("play-hint").classList.toggle("hidden", !play || last === 0);
    const outcome = facts.equilibrium;
    table(
      part("curves-table"),
      ["provider", "level", "best for society", "price", "share", "profit"],
      facts.providers.map((p, i) => [
        p.name,
        outcome ? p.labels[outcome.level[i]] : "–",
        p.labels[facts.optimum.level[i]],
        outcome ? usd(outcome.price[i]) : "–",
        outcome ? percent(outcome.share[i]) : "–",
        outcome ? usd(outcome.profit[i]) : "–",
      ]),
      "Numbers at the equilibrium, USD per 1000",
    );
    if (!play || last === 0) return;

    const moves = play.level.map((_, t) => t);
    const axis = { low: 0, high: last, label: "moves made", whole: true };
    const of = (table_, i) => moves.map((t) => table_[t][i]);
    function drawPlay() {
      const each = (values, extra = {}) =>
        facts.providers.map((p, i) => ({
          name: p.name,
          colour: hues[i] || "var(--quiet)",
          quiet: !hues[i],
          x: moves,
          y: values(i),
          step: true,
          ...extra,
        }));
      lines(
        part("shares"),
        each((i) => of(play.share, i)),
        {
          height: 190,
          labels: false,
          cursor: state.move,
          x: axis,
          y: { format: percent, zero: true },
          say: (s, t) => `${s.name}\n${percent(s.y[t])} of users after ${t} moves`,
          label: "Share of users of every provider, move by move",
        },
      );
      lines(
        part("levels"),
        each((i) =>
          of(play.level, i).map(
            (k) =>
              k + 0.06 * (i - facts.providers.length / 2) * Math.min(1, 9 / facts.providers.length),
          ),
        ),
        {
          height: 190,
          labels: false,
          cursor: state.move,
          x: axis,
          y: { ticks: grid.map((_, k) => k), format: (k) => (samples ? grid[k] : k + 1) },
          say: (s, t) => `${s.name}, after ${t} moves`,
          label: "Level of every provider, move by move",
        },
      );
      const total = facts.first_best;
      lines(
        part("welfare"),
        [
          { name: "users", colour: "var(--users)", x: moves, y: play.users.map((x) => 1000 * x) },
          {
            name: "providers",
            colour: "var(--providers)",
            x: moves,
            y: play.providers.map((x) => 1000 * x),
          },
          {
            name: "lost",
            colour: "var(--lost-ink)",
            dash: "5 4",
            x: moves,
            y: play.welfare.map((x) => 1000 * (total - x)),
          },
        ],
        {
          height: 190,
          cursor: state.move,
          x: axis,
          y: { zero: true },
          say: (s, t) => `${s.name}: ${s.y[t].toFixed(2)} USD per 1000 users\nafter ${t} moves`,
          label: "What users keep, providers earn, and what is lost, move by move",
        },
      );
      if (play.potential.some((x) => x !== null)) {
        lines(part("potential"), [{ colour: "var(--ink)", x: moves, y: play.potential }], {
          height: 190,
          cursor: state.move,
          x: axis,
          y: {},
          say: (s, t) => `potential ${short(s.y[t])}\nafter ${t} moves`,
          label: "Log potential, move by move",
        });
      }
      part("potential").parentElement.classList.toggle(
        "hidden",
        play.potential.every((x) => x === null),
      );
    }
    const slider = html("input", {
      type: "range",
      min: 0,
      max: last,
      value: last,
      "aria-label": "moves made",
    });
    const told = html("output", {});
    let timer = null;
    const go = (t) => {
      state.move = t;
      slider.value = t;
      told.textContent = `${t} of ${last} moves`;
      drawCurves();
      drawPlay();
    };
    const stop = () => {
      clearInterval(timer);
      timer = null;
      button.textContent = "Play";
    };
    const button = html(
      "button",
      {
        type: "button",
        onclick: () => {
          if (timer) return stop();
          if (state.move === last) go(0);
          button.textContent = "Pause";
          timer = setInterval(
            () => (state.move < last && root_alive() ? go(state.move + 1) : stop()),
            Math.max(60, 4000 / last),
          );
        },
      },
      "Play",
    );
    const root_alive = () => document.body.contains(slider);
    slider.addEventListener("input", () => {
      if (timer) stop();
      go(Number(slider.value));
    });
    part("scrubber").replaceChildren(button, slider, told);
    go(last);
  }

  // --- loss against beta ----------------------------------------------------------------------

  function showBeta(part, facts) {
    const curve = facts.inefficiency;
    part("beta-section").classList.toggle(
      "hidden",
      !curve || curve.percent.every((x) => x === null),
    );
    if (!curve) return;
    const beta = facts.setting.beta;
    const at = curve.beta.indexOf(beta);
    // Users who choose blindly can lose many times what is left: the frame is for the rest.
    const high = Math.min(Math.max(...curve.percent), Math.max(100, 2 * (curve.percent[at] || 0)));
    lines(
      part("beta"),
      [
        {
          colour: "var(--equilibrium)",
          x: curve.beta,
          y: curve.percent,
          marks: at >= 0 ? [{ at, kind: "dot" }] : [],
        },
      ],
      {
        height: 240,
        cursor: at >= 0 ? beta : null,
        cursorText:
          at >= 0 && curve.percent[at] !== null
            ? `beta ${short(beta)}: ${short(curve.percent[at])}%`
            : null,
        x: { kind: "log", label: "beta, 1/USD" },
        y: { label: "optimal welfare above the equilibrium's, %", low: 0, high: 1.08 * high || 1 },
        say: (s, i) => `beta ${short(s.x[i])}\n${short(s.y[i])}% lost`,
        label: `Inefficiency against beta, in percent. ${
          at >= 0 ? `At beta ${short(beta)} it is ${short(curve.percent[at])}.` : ""
        }`,
      },
    );
    table(
      part("beta-table"),
      ["beta", "inefficiency, %"],
      curve.beta.map((b, i) => [short(b), short(curve.percent[i])]),
    );
  }

  function showRegret(part, facts) {
    part("regret-section").classList.toggle("hidden", !facts.regret);
    if (!facts.regret) return;
    const longest = facts.providers.reduce(
      (a, b) => (b.labels.length > a.length ? b.labels : a),
      facts.providers[0].labels,
    );
    const alike = facts.providers.every((p) => p.labels.every((text, k) => text === longest[k]));
    const grid = alike ? longest : longest.map((_, k) => String(k + 1));
    heat(part("regret"), facts.regret, {
      rows: facts.providers.map((p) => p.name),
      columns: grid,
      xLabel: alike ? facts.setting.level : "level of effort, lowest first",
      mark: (i, j) => facts.equilibrium.level[i] === j,
      say: (i, j) =>
        several(
          `${facts.providers[i].name}, ${facts.providers[i].labels[j]}`,
          `gives up ${percent(facts.regret[i][j])} of its best profit`,
        ),
      label: "Part of the best profit that each provider would give up at each level",
    });
  }

  return { show };
})();
