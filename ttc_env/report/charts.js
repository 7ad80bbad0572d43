// Charts for the report and the explorer: lines, split bars, heat maps, tables. No dependencies,
// because a report must be written and opened where there is no network.
//
// Every chart is drawn into a <div> by a function of its width, and drawn again when the width
// changes. It has a text for screen readers, is read point by point with the arrow keys, and its
// numbers stand in a table below it.
"use strict";

const Charts = (() => {
  const SVG = "http://www.w3.org/2000/svg";

  function svg(tag, attributes = {}, ...children) {
    const node = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value !== null && value !== undefined) node.setAttribute(name, value);
    }
    node.append(...children);
    return node;
  }

  function html(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else if (value !== null && value !== undefined) node.setAttribute(name, value);
    }
    node.append(...children);
    return node;
  }

  // --- numbers ------------------------------------------------------------------------------

  // USD per 1000 users, from USD per user.
  function usd(x) {
    if (x === null || x === undefined) return "–";
    const amount = 1000 * x;
    const digits = Math.abs(amount) >= 1000 ? 0 : 2;
    return amount.toLocaleString("en", {
      minimumFractionDigits: digits,
      maximumFractionDigits: digits,
    });
  }

  function short(x) {
    if (x === null || x === undefined) return "–";
    const size = Math.abs(x);
    if (size >= 1e4 || (size < 1e-3 && size > 0)) {
      return x.toExponential(1).replace(/\.0e/, "e").replace("e+", "e");
    }
    return String(Number(x.toPrecision(3)));
  }

  // A text of several lines, for what is shown of a point.
  const several = (...lines) => lines.filter(Boolean).join("\n");

  function percent(x) {
    if (x === null || x === undefined) return "–";
    const p = 100 * x;
    return (Math.abs(p) >= 10 || p === 0 ? p.toFixed(0) : p.toPrecision(2)) + "%";
  }

  // --- scales -------------------------------------------------------------------------------

  // A scale maps numbers to pixels. kind: "linear", "log", or "points" (equal steps, 0, 1, 2, ...).
  function scale(kind, low, high, from, to) {
    const f = kind === "log" ? Math.log : (x) => x;
    if (kind === "log") low = Math.max(low, 1e-300);
    const span = f(high) - f(low) || 1;
    const at = (x) =>
      from + ((f(Math.max(x, kind === "log" ? low : -Infinity)) - f(low)) / span) * (to - from);
    at.low = low;
    at.high = high;
    at.kind = kind;
    return at;
  }

  function ticks(kind, low, high, most = 6) {
    if (kind === "log") {
      const first = Math.ceil(Math.log10(low) - 1e-9),
        last = Math.floor(Math.log10(high) + 1e-9);
      const step = Math.max(1, Math.ceil((last - first + 1) / most));
      const found = [];
      for (let k = first; k <= last; k += step) found.push(10 ** k);
      return found;
    }
    const raw = (high - low) / Math.max(1, most - 1) || 1;
    const unit = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 2.5, 5, 10].map((s) => s * unit).find((s) => s >= raw * 0.999);
    const found = [];
    for (
      let k = Math.ceil(low / step - 1e-9);
      found.length < 40 && k * step <= high + 1e-9 * step;
      k++
    ) {
      found.push(Number((k * step).toPrecision(12)));
    }
    return found;
  }

  function extent(values, pad = 0) {
    const known = values.filter((x) => x !== null && x !== undefined && Number.isFinite(x));
    if (!known.length) return [0, 1];
    let low = Math.min(...known),
      high = Math.max(...known);
    if (low === high) {
      low -= Math.abs(low) * 0.1 || 1;
      high += Math.abs(high) * 0.1 || 1;
    }
    return [low - pad * (high - low), high + pad * (high - low)];
  }

  // Moves places apart, downwards or upwards, so that labels of this height do not overlap.
  function apart(places, height, top, bottom) {
    const order = places.map((y, i) => [y, i]).sort((a, b) => a[0] - b[0]);
    for (let k = 1; k < order.length; k++)
      order[k][0] = Math.max(order[k][0], order[k - 1][0] + height);
    const over = order.length ? order[order.length - 1][0] - bottom : 0;
    if (over > 0) {
      order[order.length - 1][0] -= over;
      for (let k = order.length - 2; k >= 0; k--)
        order[k][0] = Math.min(order[k][0], order[k + 1][0] - height);
    }
    const found = [];
    for (const [y, i] of order) found[i] = Math.max(y, top);
    return found;
  }

  // --- one chart in its box -----------------------------------------------------------------

  let frames = 0; // clip paths need names
  const drawings = new WeakMap();
  const watcher = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      const drawing = drawings.get(target);
      if (drawing && Math.abs(drawing.width - target.clientWidth) > 1) drawing.draw();
    }
  });

  // Draws `picture(width) -> { node, points, label }` in `box`, now and whenever the width changes.
  // points: [{ x, y, text, on }] are what pointer and arrow keys read; `on(true|false)` highlights.
  function put(box, picture) {
    box.classList.add("chart");
    const draw = () => {
      const width = Math.max(box.clientWidth, 240);
      const { node, points = [], label = "" } = picture(width);
      node.setAttribute("role", "img");
      node.setAttribute("aria-label", label);
      const tip = html("div", { class: "tip", "aria-live": "polite" });
      box.replaceChildren(node, tip);
      drawings.set(box, { draw, width: box.clientWidth });
      if (points.length) readable(box, node, tip, points);
    };
    draw();
    watcher.observe(box);
  }

  function readable(box, node, tip, points) {
    let current = null;
    const show = (point) => {
      if (current === point) return;
      if (current && current.on) current.on(false);
      current = point;
      tip.style.opacity = point ? 1 : 0;
      if (!point) return;
      if (point.on) point.on(true);
      tip.textContent = point.text;
      const left = Math.min(Math.max(point.x + 12, 0), box.clientWidth - tip.offsetWidth);
      tip.style.left = `${left}px`;
      tip.style.top = `${Math.max(point.y - tip.offsetHeight - 10, -8)}px`;
    };
    node.addEventListener("pointermove", (event) => {
      const frame = node.getBoundingClientRect();
      const x = event.clientX - frame.left,
        y = event.clientY - frame.top;
      let best = null,
        least = 60 ** 2;
      for (const point of points) {
        const away = (point.x - x) ** 2 + (point.y - y) ** 2;
        if (away < least) {
          best = point;
          least = away;
        }
      }
      show(best);
    });
    node.addEventListener("pointerleave", () => show(null));
    node.setAttribute("tabindex", "0");
    node.addEventListener("blur", () => show(null));
    node.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (event.key === "Escape") show(null);
      if (!step) return;
      event.preventDefault();
      const at = current ? points.indexOf(current) + step : 0;
      show(points[(at + points.length) % points.length]);
    });
  }

  // Axes, grid and titles. x and y: { kind, low, high, label, ticks, format }.
  function frame(width, height, margin, x, y) {
    const node = svg("svg", { viewBox: `0 0 ${width} ${height}`, height });
    const sx = scale(x.kind || "linear", x.low, x.high, margin.left, width - margin.right);
    const sy = scale(y.kind || "linear", y.low, y.high, height - margin.bottom, margin.top);
    const axis = svg("g", { class: "axis" });
    const floor = height - margin.bottom;
    const room = (width - margin.left - margin.right) / 62;
    for (const t of x.ticks || ticks(sx.kind, x.low, x.high, Math.max(2, Math.min(8, room)))) {
      if (sx(t) < margin.left - 1 || sx(t) > width - margin.right + 1) continue;
      axis.append(
        svg("line", { x1: sx(t), x2: sx(t), y1: floor, y2: floor + 5 }),
        svg(
          "text",
          { x: sx(t), y: floor + 18, "text-anchor": "middle", class: "soft" },
          (x.format || short)(t),
        ),
      );
    }
    for (const t of y.ticks || ticks(sy.kind, y.low, y.high, Math.max(2, (height - 60) / 40))) {
      axis.append(
        svg("line", {
          class: "grid",
          x1: margin.left,
          x2: width - margin.right,
          y1: sy(t),
          y2: sy(t),
        }),
        svg(
          "text",
          { x: margin.left - 7, y: sy(t) + 4, "text-anchor": "end", class: "soft" },
          (y.format || short)(t),
        ),
      );
    }
    axis.append(
      svg("path", { d: `M${margin.left} ${floor}H${width - margin.right}`, fill: "none" }),
      svg(
        "text",
        {
          x: (margin.left + width - margin.right) / 2,
          y: height - 3,
          "text-anchor": "middle",
          class: "soft",
        },
        x.label || "",
      ),
      svg("text", { x: 0, y: 12, class: "soft" }, y.label || ""),
    );
    const id = `frame-${++frames}`;
    const clip = svg(
      "clipPath",
      { id },
      svg("rect", {
        x: margin.left - 8,
        y: margin.top - 8,
        width: width - margin.left - margin.right + 16,
        height: floor - margin.top + 16,
      }),
    );
    const inside = svg("g", { "clip-path": `url(#${id})` });
    node.append(svg("defs", {}, clip), axis, inside);
    return { node, inside, sx, sy };
  }

  // Lines. series: [{ name, colour, x, y, dash, quiet, low, high, marks: [{ at, kind }] }], where
  // low and high are a band and a mark is a "dot" or a "ring" at an index.
  // options: { x, y, height, bands: [{ low, high, colour, text }], lines: [{ at, colour, text }],
  //            cursor, label, say(series, i) }
  function lines(box, series, options) {
    put(box, (width) => {
      const named = series.filter((s) => s.name && !s.quiet && options.labels !== false);
      const longest = Math.max(
        0,
        ...[
          ...named.map((s) => s.name),
          ...(options.lines || []).map((l) => l.text || ""),
          ...(options.bands || []).map((l) => l.text || ""),
        ].map((t) => t.length),
      );
      const margin = {
        top: 24,
        bottom: 40,
        left: 50,
        right: longest ? Math.min(18 + 7.4 * longest, width * 0.34) : 14,
      };
      const height = options.height || 260;
      const ys = series.flatMap((s) => [...s.y, ...(s.low || []), ...(s.high || [])]);
      for (const band of options.bands || []) ys.push(band.low, band.high);
      for (const line of options.lines || []) ys.push(line.at);
      const [low, high] = extent(ys, options.y.kind === "log" ? 0 : 0.05);
      const [left, right] = extent(series.flatMap((s) => s.x));
      const x = { low: left, high: right, ...options.x };
      if (x.whole)
        x.ticks = ticks(
          "linear",
          x.low,
          x.high,
          Math.max(2, Math.min(8, (width - margin.left - margin.right) / 50)),
        ).filter(Number.isInteger);
      const y = { low: options.y.zero ? Math.min(0, low) : low, high, ...options.y };
      const { node, inside, sx, sy } = frame(width, height, margin, x, y);
      const points = [],
        tags = [];
      const seen = (value) =>
        value >= y.low - 1e-9 * Math.abs(y.low) && value <= y.high * (1 + 1e-9) + 1e-300;
      const edge = width - margin.right;
      for (const band of options.bands || []) {
        const thick = Math.max(sy(band.low) - sy(band.high), 7);
        inside.append(
          svg("rect", {
            x: margin.left,
            width: edge - margin.left,
            y: (sy(band.low) + sy(band.high)) / 2 - thick / 2,
            height: thick,
            fill: band.colour,
            opacity: 0.32,
          }),
        );
        if (band.text)
          tags.push({
            y: (sy(band.low) + sy(band.high)) / 2,
            text: band.text,
            colour: band.colour,
          });
      }
      for (const line of options.lines || []) {
        inside.append(
          svg("line", {
            x1: margin.left,
            x2: edge,
            y1: sy(line.at),
            y2: sy(line.at),
            stroke: line.colour,
            "stroke-width": 1.5,
            "stroke-dasharray": line.dash || "5 4",
          }),
        );
        if (line.text) tags.push({ y: sy(line.at), text: line.text, colour: line.colour });
      }
      const shapes = [];
      for (const s of [...series].sort((a, b) => (b.quiet ? 1 : 0) - (a.quiet ? 1 : 0))) {
        const group = svg("g");
        const known = s.x.map((_, i) => i).filter((i) => s.y[i] !== null && s.y[i] !== undefined);
        if (s.low) {
          const up = known.map((i) => `${sx(s.x[i])} ${sy(s.high[i])}`);
          const down = [...known].reverse().map((i) => `${sx(s.x[i])} ${sy(s.low[i])}`);
          group.append(
            svg("path", { d: `M${[...up, ...down].join("L")}Z`, fill: s.colour, opacity: 0.18 }),
          );
        }
        const path = s.step
          ? known
              .map((i, k) => (k ? `H${sx(s.x[i])}V${sy(s.y[i])}` : `M${sx(s.x[i])} ${sy(s.y[i])}`))
              .join("")
          : `M${known.map((i) => `${sx(s.x[i])} ${sy(s.y[i])}`).join("L")}`;
        const stroke = svg("path", {
          d: known.length ? path : "",
          fill: "none",
          stroke: s.colour,
          "stroke-width": s.quiet ? 1.2 : 2.4,
          "stroke-dasharray": s.dash,
          "stroke-linejoin": "round",
          opacity: s.quiet ? 0.75 : 1,
        });
        group.append(stroke);
        shapes.push(group);
        for (const mark of s.marks || []) {
          if (s.y[mark.at] === null || s.y[mark.at] === undefined || !seen(s.y[mark.at])) continue;
          const ring = mark.kind === "ring";
          group.append(
            svg("circle", {
              cx: sx(s.x[mark.at]),
              cy: sy(s.y[mark.at]),
              r: ring ? 6.5 : s.quiet ? 3.4 : 5,
              fill: ring ? "none" : s.colour,
              stroke: ring ? "var(--optimum)" : "var(--paper)",
              "stroke-width": ring ? 2.2 : 1.2,
            }),
          );
        }
        for (const i of known.filter((k) => seen(s.y[k]))) {
          points.push({
            x: sx(s.x[i]),
            y: sy(s.y[i]),
            text: options.say ? options.say(s, i) : `${s.name}\n${short(s.x[i])}: ${short(s.y[i])}`,
            on: (yes) => {
              stroke.setAttribute("stroke-width", yes ? 4 : s.quiet ? 1.2 : 2.4);
              for (const other of shapes)
                other.setAttribute("opacity", yes && other !== group ? 0.35 : 1);
            },
          });
        }
        if (s.name && !s.quiet && options.labels !== false && known.length) {
          tags.push({ y: sy(s.y[known[known.length - 1]]), text: s.name, colour: s.colour });
        }
        inside.append(group);
      }
      apart(
        tags.map((t) => t.y),
        15,
        margin.top,
        height - margin.bottom,
      ).forEach((place, i) => {
        node.append(
          svg(
            "text",
            { x: edge + 10, y: place + 4, style: `fill:${tags[i].colour};font-weight:600` },
            fit(tags[i].text, margin.right - 10),
          ),
        );
      });
      if (options.cursor !== undefined && options.cursor !== null) {
        const at = sx(options.cursor);
        node.append(
          svg("line", {
            x1: at,
            x2: at,
            y1: margin.top - 4,
            y2: height - margin.bottom,
            stroke: "var(--ink)",
            "stroke-width": 1.5,
            "stroke-dasharray": options.cursorText ? "4 3" : null,
          }),
        );
        if (options.cursorText) {
          const last = at > width * 0.6;
          node.append(
            svg(
              "text",
              {
                x: at + (last ? -6 : 6),
                y: margin.top + 4,
                "text-anchor": last ? "end" : "start",
                "font-weight": 600,
              },
              options.cursorText,
            ),
          );
        }
      }
      return { node, points, label: options.label };
    });
  }

  // A text cut to a width in pixels.
  function fit(text, width) {
    const most = Math.max(3, Math.floor(width / 7.4));
    return text.length > most ? `${text.slice(0, most - 1)}…` : text;
  }

  // Horizontal bars of parts. rows: [{ name, parts: [{ value, colour, hatched: a pattern }],
  // strong, note: a text in place of the bar, marks: [{ at, text }], range: [low, high] }].
  // options: { total, unit: what one tick's 1 is, format, label, say(row, part) }
  function bars(box, rows, options) {
    put(box, (width) => {
      const narrow = width < 560;
      const left = narrow
        ? 0
        : Math.min(18 + 7.3 * Math.max(...rows.map((r) => r.name.length)), width * 0.34);
      const step = narrow ? 50 : 38,
        tall = 24,
        top = 4;
      const height = top + rows.length * step + 26;
      const total =
        options.total ||
        Math.max(
          ...rows.map((r) => r.parts.reduce((sum, p) => sum + Math.max(p.value || 0, 0), 0)),
        );
      const below = Math.min(0, ...rows.flatMap((r) => r.parts.map((p) => p.value || 0)));
      const sx = scale("linear", below, total, left, width - 4);
      const node = svg("svg", { viewBox: `0 0 ${width} ${height}`, height });
      node.append(patterns());
      const points = [];
      rows.forEach((row, k) => {
        const y = top + k * step + (narrow ? 18 : 0);
        node.append(
          svg(
            "text",
            {
              x: narrow ? 0 : left - 10,
              y: narrow ? y - 5 : y + tall / 2 + 4,
              "text-anchor": narrow ? "start" : "end",
              style: row.strong ? "font-weight:700" : "",
            },
            fit(row.name, narrow ? width : left - 6),
          ),
        );
        if (row.note) {
          node.append(
            svg(
              "text",
              { x: left + 4, y: y + tall / 2 + 4, class: "soft", "font-style": "italic" },
              fit(row.note, width - left),
            ),
          );
          return;
        }
        let sum = 0;
        for (const part of row.parts) {
          const value = part.value || 0;
          const from = sx(value >= 0 ? sum : sum + value),
            to = sx(value >= 0 ? sum + value : sum);
          sum += value;
          if (to - from < 0.3) continue;
          const bar = svg("rect", {
            x: from,
            y,
            width: to - from,
            height: tall,
            fill: part.hatched ? `url(#${part.hatched})` : part.colour,
            stroke: row.strong ? "var(--ink)" : "none",
            "stroke-width": 1,
          });
          node.append(bar);
          const text = (options.format || usd)(value);
          if (to - from > 8 + 7.5 * text.length) {
            node.append(
              svg(
                "text",
                {
                  x: (from + to) / 2,
                  y: y + tall / 2 + 4.5,
                  "text-anchor": "middle",
                  class: part.hatched ? "halo" : "",
                  style: `fill:${part.ink || "var(--ink)"};font-weight:600;pointer-events:none`,
                },
                text,
              ),
            );
          }
          points.push({
            x: (from + to) / 2,
            y: y + tall / 2,
            text: options.say ? options.say(row, part) : `${row.name}\n${part.key}: ${text}`,
            on: (yes) => bar.setAttribute("opacity", yes ? 0.75 : 1),
          });
        }
        if (row.range) {
          node.append(
            svg("line", {
              x1: sx(row.range[0]),
              x2: sx(row.range[1]),
              y1: y + tall - 3,
              y2: y + tall - 3,
              stroke: "var(--ink)",
              "stroke-width": 2.5,
            }),
          );
        }
        for (const mark of row.marks || []) {
          const shape = svg("path", {
            d: diamond(sx(mark.at), y + tall / 2),
            fill: "var(--paper)",
            stroke: "var(--ink)",
            "stroke-width": 1.5,
          });
          node.append(shape);
          points.push({
            x: sx(mark.at),
            y: y + tall / 2,
            text: mark.text,
            on: (yes) => shape.setAttribute("fill", yes ? "var(--ink)" : "var(--paper)"),
          });
        }
      });
      const floor = top + rows.length * step;
      const unit = options.unit || 1000;
      for (const t of ticks("linear", unit * below, unit * total, narrow ? 4 : 6)) {
        node.append(
          svg(
            "text",
            {
              x: sx(t / unit),
              y: floor + 16,
              "text-anchor": t === 0 && !below ? "start" : "middle",
              class: "soft",
            },
            short(t),
          ),
        );
      }
      return { node, points, label: options.label };
    });
  }

  const diamond = (x, y) => `M${x} ${y - 6}L${x + 6} ${y}L${x} ${y + 6}L${x - 6} ${y}Z`;

  // Fills that are told apart without colour.
  function patterns() {
    const pattern = (id, turn, colour, mark) =>
      svg(
        "pattern",
        {
          id,
          width: 7,
          height: 7,
          patternUnits: "userSpaceOnUse",
          patternTransform: `rotate(${turn})`,
        },
        svg("rect", { width: 7, height: 7, fill: "var(--card)" }),
        mark(colour),
      );
    const bar = (fill) => svg("rect", { width: 2.4, height: 7, fill });
    return svg(
      "defs",
      {},
      pattern("hatch", 45, "var(--lost)", bar),
      pattern("stripes", 45, "var(--equilibrium)", bar),
      pattern("back", -45, "var(--lost)", bar),
      pattern("dots", 0, "var(--lost-ink)", (fill) =>
        svg("circle", { cx: 3.5, cy: 3.5, r: 1.4, fill }),
      ),
    );
  }

  // A heat map: rows of cells from 0 (blank) to 1 (full). options: { columns, rows, label,
  // say(i, j), mark(i, j) }; null is no cell.
  function heat(box, values, options) {
    put(box, (width) => {
      const longest = Math.max(...options.rows.map((name) => name.length));
      const left = Math.min(16 + 7.2 * longest, width * 0.4),
        top = 22,
        step = options.rows.length > 24 ? 17 : 23;
      const many = options.columns.length;
      const cell = (width - left - 2) / many;
      const node = svg("svg", {
        viewBox: `0 0 ${width} ${top + step * values.length + 22}`,
        height: top + step * values.length + 22,
      });
      const points = [];
      const every = Math.ceil(many / Math.max(1, Math.floor((width - left) / 46)));
      options.columns.forEach((name, j) => {
        if (j % every) return;
        node.append(
          svg(
            "text",
            { x: left + (j + 0.5) * cell, y: 14, "text-anchor": "middle", class: "soft" },
            name,
          ),
        );
      });
      values.forEach((row, i) => {
        node.append(
          svg(
            "text",
            { x: left - 8, y: top + i * step + step / 2 + 4, "text-anchor": "end" },
            fit(options.rows[i], left - 6),
          ),
        );
        row.forEach((value, j) => {
          if (value === null) return;
          const x = left + j * cell,
            y = top + i * step;
          const rect = svg("rect", {
            x: x + 0.5,
            y: y + 0.5,
            width: Math.max(cell - 1, 0.6),
            height: step - 1,
            style: `fill:rgba(var(--heat),${(0.04 + 0.9 * value).toFixed(3)})`,
            stroke: "var(--line)",
            "stroke-width": many > 20 ? 0 : 0.6,
          });
          node.append(rect);
          if (options.mark && options.mark(i, j)) {
            node.append(
              svg("circle", {
                cx: x + cell / 2,
                cy: y + step / 2,
                r: 5,
                fill: "var(--ink)",
                stroke: "var(--paper)",
              }),
            );
          } else if (cell > 44 && options.digits !== false) {
            node.append(
              svg(
                "text",
                {
                  x: x + cell / 2,
                  y: y + step / 2 + 4,
                  "text-anchor": "middle",
                  style: `fill:var(${value > 0.55 ? "--paper" : "--soft"});pointer-events:none`,
                },
                percent(value),
              ),
            );
          }
          points.push({
            x: x + cell / 2,
            y: y + step / 2,
            text: options.say(i, j),
            on: (yes) => rect.setAttribute("stroke", yes ? "var(--ink)" : "var(--line)"),
          });
        });
      });
      node.append(
        svg(
          "text",
          { x: left, y: top + step * values.length + 16, class: "soft" },
          options.xLabel || "",
        ),
      );
      return { node, points, label: options.label };
    });
  }

  // The numbers of a chart, for those who would rather read or copy them.
  function table(box, columns, rows, summary = "Numbers") {
    const head = html("tr", {}, ...columns.map((c) => html("th", { scope: "col" }, c)));
    const body = rows.map((row) =>
      html(
        "tr",
        {},
        ...row.map((cell) =>
          html(
            "td",
            { class: typeof cell === "string" && /[a-z]{4}/.test(cell) ? "text" : null },
            cell === null || cell === undefined ? "–" : String(cell),
          ),
        ),
      ),
    );
    box.replaceChildren(
      html(
        "details",
        { class: "numbers" },
        html("summary", {}, summary),
        html(
          "div",
          { class: "wide" },
          html("table", {}, html("thead", {}, head), html("tbody", {}, ...body)),
        ),
      ),
    );
  }

  // A legend. items: [{ text, colour, kind: "box" | "line" | "dash" | "dot" |
  // "ring" | "diamond", or a pattern }]
  function key(box, items) {
    box.classList.add("key");
    box.replaceChildren(
      ...items.map(({ text, colour, kind }) => {
        const sign = svg("svg", { width: 18, height: 14, "aria-hidden": "true" });
        if (kind === "line" || kind === "dash")
          sign.append(
            svg("line", {
              x1: 0,
              x2: 18,
              y1: 7,
              y2: 7,
              stroke: colour,
              "stroke-width": 3,
              "stroke-dasharray": kind === "dash" ? "5 3" : null,
            }),
          );
        else if (kind === "dot") sign.append(svg("circle", { cx: 9, cy: 7, r: 5, fill: colour }));
        else if (kind === "ring")
          sign.append(
            svg("circle", {
              cx: 9,
              cy: 7,
              r: 5,
              fill: "none",
              stroke: colour,
              "stroke-width": 2.4,
            }),
          );
        else if (kind === "diamond")
          sign.append(
            svg("path", {
              d: diamond(9, 7),
              fill: "var(--paper)",
              stroke: colour,
              "stroke-width": 1.5,
            }),
          );
        else if (["hatch", "stripes", "back", "dots"].includes(kind))
          sign.append(
            patterns(),
            svg("rect", { width: 18, height: 14, fill: `url(#${kind})`, stroke: "var(--lost)" }),
          );
        else sign.append(svg("rect", { width: 18, height: 14, fill: colour }));
        return html("span", {}, sign, text);
      }),
    );
  }

  return { svg, html, usd, short, percent, several, lines, bars, heat, table, key };
})();
