// A trained run beside the exact equilibrium, from `scripts.report.run_content`.
"use strict";

const TrainedRun = (() => {
  const { short, percent, several, lines, heat, table } = Charts;
  const whole = (x) => x.toLocaleString("en");

  function show(root, content) {
    root.innerHTML = `
      <section class="first">
        <h2>Do learners reach the equilibrium?</h2>
        <p class="say">Compute that users get, in doublings above the social optimum: 0 is the
          optimum. The band is where exact equilibria lie. Lines are interquartile means over
          ${content.seeds} seeds with 95% bands.</p>
        <div data-part="play"></div>
      </section>
      <section>
        <h2>How much could anyone still gain?</h2>
        <p class="say">Relative regret: the part of its best profit that a provider forgoes,
          weighted by users. Zero is an equilibrium.</p>
        <div data-part="regret"></div>
      </section>
      <section>
        <h2>Who gets what, as they learn</h2>
        <p class="say">USD per 1000 users.</p>
        <div data-part="split"></div>
      </section>
      <section>
        <h2>Regret of every provider</h2>
        <p class="say">Evaluations from left to right; dark is far from a best reply.</p>
        <div data-part="heat"></div>
      </section>
      <section>
        <h2>Seed by seed</h2>
        <div data-part="final"></div>
      </section>`;
    const part = (name) => root.querySelector(`[data-part="${name}"]`);
    const after = (i) => `after ${whole(content.step[i])} rounds`;
    const steps = content.step.map((s) => Math.max(s, 0.5));
    const last = steps[steps.length - 1];
    const axis = {
      kind: "log",
      low: 0.5,
      high: last,
      label: "rounds that each provider has played",
      format: whole,
    };
    const low = content.band[0],
      high = content.band[1];
    const single = high - low < 1e-9;
    const learned = { name: content.learner, colour: "var(--s0)", x: steps };
    lines(
      part("play"),
      [
        {
          ...learned,
          y: content.overcompute.value,
          low: content.overcompute.low,
          high: content.overcompute.high,
        },
      ],
      {
        height: 320,
        x: axis,
        y: { label: "doublings of compute above the optimum" },
        bands: [
          {
            low,
            high,
            colour: "var(--providers)",
            text: single ? "exact equilibrium" : "exact equilibria",
          },
        ],
        lines: [
          {
            at: 0,
            colour: "var(--optimum)",
            text: Math.abs(low) < 0.02 && single ? "" : "social optimum",
            dash: "none",
          },
          { at: content.random, colour: "var(--lost-ink)", text: "random play" },
        ],
        say: (s, i) =>
          several(after(i), `${short(s.y[i])} doublings above the optimum`),
        label:
          `Compute under ${content.learner}: ends ${short(content.overcompute.value.at(-1))} ` +
          `doublings above the optimum; exact equilibria lie from ${short(low)} to ${short(high)}.`,
      },
    );
    const floor = content.floor;
    const raised = (list) => list.map((x) => Math.max(x, floor));
    lines(
      part("regret"),
      [
        {
          ...learned,
          y: raised(content.regret.value),
          low: raised(content.regret.low),
          high: raised(content.regret.high),
        },
      ],
      {
        height: 260,
        x: axis,
        y: {
          kind: "log",
          low: floor,
          high: 1,
          label: `relative regret (${short(floor)}: that, or less)`,
          format: percent,
        },
        say: (s, i) =>
          several(after(i), `relative regret ${percent(content.regret.value[i])}`),
        label: `Relative regret: ${content.step
          .map((s, i) => `${s}: ${percent(content.regret.value[i])}`)
          .filter((_, i) => i % 10 === 0)
          .join("; ")}`,
      },
    );
    const thousand = (list) => list.map((x) => 1000 * x);
    lines(
      part("split"),
      [
        { name: "users", colour: "var(--users)", x: steps, y: thousand(content.users) },
        {
          name: "providers",
          colour: "var(--providers)",
          x: steps,
          y: content.welfare.map((w, i) => 1000 * (w - content.users[i])),
        },
        {
          name: "lost",
          colour: "var(--lost-ink)",
          dash: "5 4",
          x: steps,
          y: content.welfare.map((w) => 1000 * (content.first_best - w)),
        },
      ],
      {
        height: 240,
        x: axis,
        y: { zero: true, label: "USD per 1000 users" },
        say: (s, i) =>
          several(`${s.name}: ${s.y[i].toFixed(2)} USD per 1000 users`, after(i)),
        label:
          "What users keep, providers earn, and what is lost of the most possible, over training",
      },
    );
    heat(part("heat"), content.regret_of, {
      rows: content.providers,
      columns: content.step.map(whole),
      xLabel: "rounds played",
      digits: false,
      say: (i, j) =>
        several(
          content.providers[i],
          after(j),
          `relative regret ${percent(content.regret_of[i][j])}`,
        ),
      label: "Relative regret of every provider at every evaluation, mean over seeds",
    });
    table(
      part("final"),
      content.final.columns,
      content.final.rows.map((row) => row.map((x) => (typeof x === "number" ? short(x) : x))),
      "Numbers of the last evaluation",
    );
    part("final").querySelector("details").open = true;
  }

  return { show };
})();
