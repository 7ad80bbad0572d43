// Rules side by side, from `ttc_env.report.comparison.read`: USD per 1000 users.
"use strict";

const Comparison = (() => {
  const { html, short, percent, several, bars, table, key } = Charts;
  const PARTS = [
    { key: "user_value", text: "kept by users", colour: "var(--users)", ink: "var(--on-users)" },
    {
      key: "provider_profit",
      text: "earned by providers",
      colour: "var(--providers)",
      ink: "#201500",
    },
    {
      key: "lost_to_compute",
      text: "lost: wrong amount of compute",
      colour: "var(--equilibrium)",
      hatched: "stripes",
    },
    {
      key: "lost_to_choice",
      text: "lost: served by a worse provider",
      colour: "var(--lost)",
      hatched: "back",
    },
    {
      key: "lost_to_exclusion",
      text: "lost: buy from nobody",
      colour: "var(--lost-ink)",
      hatched: "dots",
    },
  ];
  const two = (x) => (x === null || x === undefined ? "–" : x.toFixed(2));

  function show(root, content) {
    root.replaceChildren();
    for (const block of content.blocks) {
      const legend = html("div"),
        box = html("div"),
        numbers = html("div");
      root.append(
        html(
          "section",
          { class: content.blocks[0] === block ? "first" : null },
          html("h2", {}, block.title),
          html(
            "p",
            { class: "say" },
            "USD per 1000 users at the exact equilibrium (the worst, where there are several). " +
              "A full bar is the most that any rule could create.",
          ),
          legend,
          box,
          numbers,
        ),
      );
      key(legend, [
        ...PARTS.map((p) => ({ text: p.text, colour: p.colour, kind: p.hatched || "box" })),
        ...(block.rows.some((r) => r.learners.length)
          ? [{ text: "welfare as learners play it", colour: "var(--ink)", kind: "diamond" }]
          : []),
        ...(block.rows.some((r) => r.welfare_low !== null && r.welfare_low !== undefined)
          ? [
              {
                text: "band of welfare over redrawn accuracies",
                colour: "var(--ink)",
                kind: "line",
              },
            ]
          : []),
      ]);
      const rows = [...block.rows].sort((a, b) => (b.user_value ?? -1e9) - (a.user_value ?? -1e9));
      bars(
        box,
        rows.map((row) =>
          row.welfare === null
            ? { name: row.rule, note: "no pure equilibrium", parts: [] }
            : {
                name: row.rule,
                row,
                parts: PARTS.map((p) => ({ ...p, value: row[p.key] })),
                range:
                  row.welfare_low === null || row.welfare_low === undefined
                    ? null
                    : [row.welfare_low, row.welfare_high],
                marks: row.learners
                  .filter((l) => l.welfare !== null)
                  .map((l) => ({
                    at: l.welfare,
                    text: several(
                      `${row.rule}, played by ${l.played_by}`,
                      `welfare ${two(l.welfare)}, users keep ${two(l.user_value)}`,
                    ),
                  })),
              },
        ),
        {
          total: Math.max(...rows.map((r) => r.first_best || 0)),
          unit: 1,
          format: two,
          say: (row, p) =>
            several(
              row.name,
              `${p.text}: ${two(p.value)} USD per 1000 users`,
              `${percent(p.value / row.row.first_best)} of what is possible`,
            ),
          label: rows
            .map(
              (r) =>
                `${r.rule}: users keep ${two(r.user_value)}, providers earn ` +
                `${two(r.provider_profit)}, welfare ${two(r.welfare)} of ${two(r.first_best)}.`,
            )
            .join(" "),
        },
      );
      table(
        numbers,
        [
          "rule",
          "played by",
          "welfare",
          "users",
          "providers",
          "compute",
          "choice",
          "exclusion",
          "doublings of compute",
          "gain by lying",
        ],
        rows
          .flatMap((r) => [r, ...r.learners])
          .map((r) => [
            r.rule,
            r.played_by,
            two(r.welfare),
            two(r.user_value),
            two(r.provider_profit),
            two(r.lost_to_compute),
            two(r.lost_to_choice),
            two(r.lost_to_exclusion),
            two(r.overcompute),
            short(r.audit_gain),
          ]),
      );
    }
    const lies = content.rows.filter((r) => r.audit_gain !== null && r.certificate);
    const box = html("div");
    root.append(
      html(
        "section",
        {},
        html("h2", {}, "Does lying pay?"),
        html(
          "p",
          { class: "say" },
          "The most that a provider gains by leaving the truth, and why that is certain.",
        ),
        box,
      ),
    );
    const seen = new Map(lies.map((r) => [`${r.rule} ${r.prices}`, r]));
    table(
      box,
      ["rule", "prices", "largest gain, USD per 1000 users", "certificate"],
      [...seen.values()].map((r) => [
        r.rule,
        { neutral: "list prices", markups: "chosen" }[r.prices] || r.prices,
        short(r.audit_gain),
        r.certificate,
      ]),
      "What the auditor found",
    );
    box.querySelector("details").open = true;
  }

  return { show };
})();
