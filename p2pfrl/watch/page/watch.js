"use strict";
/* The page of a run. It gets the newest state of each section by server-sent events and draws it; it asks for nothing else. */
const $ = (id) => document.getElementById(id);
const S = {};
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const VIRIDIS = ["#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725"];
const FIRE = ["#fed976", "#feb24c", "#fd8d3c", "#fc4e2a", "#e31a1c", "#bd0026", "#800026"];
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const dark = matchMedia("(prefers-color-scheme: dark)");

/* Text */
function number(v, digits = 4) {
  if (v === null || v === undefined || !isFinite(v)) return "–";
  if (Number.isInteger(v)) return v.toLocaleString("en-US");
  const size = Math.abs(v);
  return size >= 1e6 || (size < 1e-3 && size > 0) ? v.toExponential(2) : String(Number(v.toPrecision(digits)));
}
function bytes(v) {
  if (v === null || v === undefined) return "–";
  for (const [unit, size] of [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]]) if (v >= size) return (v / size).toFixed(v >= 100 * size ? 0 : 1) + " " + unit;
  return v + " B";
}
function span(s) {
  if (s === null || s === undefined) return "–";
  if (s > 0 && s < 1) return (s < 0.1 ? (1000 * s).toPrecision(2) : Math.round(1000 * s)) + " ms";
  if (s < 60) return (s < 10 ? s.toFixed(1) : Math.round(s)) + " s";
  if (s < 3600) return Math.floor(s / 60) + " min " + Math.round(s % 60) + " s";
  return Math.floor(s / 3600) + " h " + Math.round((s % 3600) / 60) + " min";
}
function clock(s, range) { return range < 1 ? s.toFixed(3) + " s" : range < 60 ? s.toFixed(1) + " s" : span(s); }
function put(id, text) { if ($(id).textContent !== text) $(id).textContent = text; }
function element(tag, text, name) {
  const e = document.createElement(tag);
  if (text !== undefined) e.textContent = text;
  if (name) e.className = name;
  return e;
}

/* What curves and the head count: rounds, or in an asynchronous run the updates of all agents by their number. */
function unitWords() { return S.run && S.run.unit === "updates" ? "updates per agent" : "round"; }

/* Head */
function drawRun() {
  const r = S.run;
  if (!r) return;
  put("name", r.name + (r.seed === null || r.seed === undefined ? "" : ", seed " + r.seed));
  document.title = (r.share !== null && r.running ? Math.floor(100 * r.share) + " % " : "") + r.name + " · p2pfrl";
  put("state", r.state || "no state");
  $("state").className = "badge " + (r.running ? "good" : /^ended/.test(r.state) ? "" : "bad");
  const facts = [r.mode, r.schedule, r.topology, r.agents && r.agents.toLocaleString("en-US") + " agents", r.directory].filter(Boolean);
  put("facts", facts.join(" · "));
  const share = r.share === null || r.share === undefined ? 0 : r.share;
  $("bar").style.width = 100 * share + "%";
  $("bar").parentElement.setAttribute("aria-valuenow", Math.round(100 * share));
  const goal = r.goals && r.goals.rounds ? " of " + number(r.goals.rounds) : "";
  const items = [[unitWords(), number(r.now.rounds) + goal]];
  if (r.running) items.push(["time left", r.left === null || r.left === undefined ? "–" : "about " + span(r.left)]);
  items.push(["wall time", span(r.wall_seconds)]);
  if (r.kind === "simulation") items.push(["virtual time", span(r.now.virtual_seconds)]);
  if (r.now.env_steps !== null && r.now.env_steps !== undefined) items.push(["steps", number(r.now.env_steps)]);
  items.push(["sent", bytes(r.bytes)]);
  if (S.messages && S.messages.in_flight !== null && S.messages.in_flight !== undefined && r.running) items.push(["in flight", number(S.messages.in_flight)]);
  for (const [key, name] of [["dropped", "lost messages"], ["late", "late messages"], ["expired", "deadlines expired"]]) if (r[key]) items.push([name, number(r[key])]);
  if (r.down && r.down.length) items.push(["down", r.down.length > 6 ? r.down.length + " agents" : r.down.join(", ")]);
  const list = $("numbers");
  list.replaceChildren(...items.map(([name, value]) => { const d = element("div"); d.append(element("dt", name), element("dd", value)); return d; }));
}

/* Graph */
let colorBy = "return", wanted = "return", replay = 0, marks = [];
function colorChoices() {
  const names = ["return", "disagreement", "round", "updates"].filter((k) => S.colors && S.colors[k] && S.colors[k].some((v) => v !== null));
  colorBy = names.includes(wanted) || !names.length ? wanted : names[0];
  const box = $("color-by");
  if (box.dataset.names !== names.join()) {
    box.dataset.names = names.join();
    box.replaceChildren(...names.map((name) => {
      const b = element("button", name);
      b.type = "button";
      b.onclick = () => { wanted = name; colorChoices(); drawGraph(); };
      b.dataset.name = name;
      return b;
    }));
  }
  for (const b of box.children) b.setAttribute("aria-pressed", b.dataset.name === colorBy);
}
function mixed(stops, t) {
  const at = Math.max(0, Math.min(1, t)) * (stops.length - 1), i = Math.min(stops.length - 2, Math.floor(at)), f = at - i;
  const a = parseInt(stops[i].slice(1), 16), b = parseInt(stops[i + 1].slice(1), 16);
  const part = (k) => Math.round(((a >> k) & 255) + f * (((b >> k) & 255) - ((a >> k) & 255)));
  return [part(16), part(8), part(0)];
}
function canvasOf(id, height) {
  const c = $(id), width = c.clientWidth || c.parentElement.clientWidth - 24, ratio = devicePixelRatio || 1;
  if (c.width !== Math.round(width * ratio) || c.height !== Math.round(height * ratio)) {
    c.width = Math.round(width * ratio); c.height = Math.round(height * ratio); c.style.height = height + "px";
  }
  const g = c.getContext("2d");
  g.setTransform(ratio, 0, 0, ratio, 0, 0);
  g.clearRect(0, 0, width, height);
  return [g, width, height];
}
function spacing(graph) {
  if (graph.spacing !== undefined) return graph.spacing;
  const found = graph.x.map((x, i) => {
    let least = 1;
    for (let j = 0; j < graph.x.length; j++) if (j !== i) least = Math.min(least, Math.hypot(x - graph.x[j], graph.y[i] - graph.y[j]));
    return least;
  }).sort((a, b) => a - b);
  return (graph.spacing = found.length ? found[Math.floor(found.length / 10)] : 1);
}
function edgeLength(graph) {
  if (graph.length !== undefined) return graph.length;
  const E = graph.edges;
  let sum = 0;
  for (let k = 0; k < E.length; k += 2) sum += Math.hypot(graph.x[E[k]] - graph.x[E[k + 1]], graph.y[E[k]] - graph.y[E[k + 1]]);
  return (graph.length = sum);
}
function struckAgents() {
  const found = new Map(), faults = (S.faults || []).filter((f) => f.struck);
  for (const f of faults) for (const a of f.agents) found.set(a, f);
  return found;
}
let flash = new Map();
function drawGraph(time) {
  const graph = S.graph;
  if (!graph) return;
  const card = $("card-graph");
  card.hidden = false;
  const wide = card.clientWidth - 24, height = Math.max(260, Math.min(wide, 560));
  const [g, width] = canvasOf("graph", height);
  const n = graph.x.length, margin = n > 60 ? 16 : 26, side = Math.min(width, height) - 2 * margin;
  const left = (width - side) / 2, top = (height - side) / 2;
  const X = (i) => left + side * graph.x[i], Y = (i) => top + side * graph.y[i];
  const colors = S.colors || {}, values = colors[colorBy] || [];
  const known = values.filter((v) => v !== null && v !== undefined);
  const low = Math.min(...known), high = Math.max(...known), stops = colorBy === "disagreement" ? FIRE : VIRIDIS;
  const at = (v) => (high > low ? (v - low) / (high - low) : 0.5);
  const agents = graph.agents, cell = graph.cell ? graph.cell * side : 0;
  const radius = cell ? 0 : Math.max(2.2, Math.min(15, 0.3 * side * spacing(graph)));
  const states = colors.states || "";
  g.strokeStyle = css("--edge");
  const E = graph.edges, many = E.length / 2;
  // Long edges that cross hide what is below them; short ones, as of a torus, do not.
  g.globalAlpha = Math.max(0.1, Math.min(0.9, 0.16 * side / Math.max(edgeLength(graph), 1e-9)));
  g.lineWidth = many > 300 ? 0.8 : 1;
  g.beginPath();
  for (let k = 0; k < E.length; k += 2) { g.moveTo(X(E[k]), Y(E[k])); g.lineTo(X(E[k + 1]), Y(E[k + 1])); }
  g.stroke();
  g.globalAlpha = 1;
  const cut = partition();
  if (cut) {
    g.strokeStyle = css("--red"); g.setLineDash([4, 3]); g.lineWidth = 1.4;
    g.beginPath();
    for (let k = 0; k < E.length; k += 2) if (E[k] < agents && E[k + 1] < agents && cut[E[k]] !== cut[E[k + 1]]) { g.moveTo(X(E[k]), Y(E[k])); g.lineTo(X(E[k + 1]), Y(E[k + 1])); }
    g.stroke(); g.setLineDash([]);
  }
  drawWaits(g, X, Y, radius);
  const byzantine = new Set(colors.byzantine || []), suspects = new Set(colors.suspects || []);
  g.font = "10.5px system-ui, 'DejaVu Sans', sans-serif"; g.textAlign = "center"; g.textBaseline = "middle";
  for (let i = 0; i < n; i++) {
    const isAgent = cell || i < agents, v = values[i], x = X(i), y = Y(i);
    const [r, green, b] = v === null || v === undefined ? [0, 0, 0] : mixed(stops, at(v));
    const isDown = states[i] === "d";
    g.fillStyle = !isAgent ? css("--ink") : v === null || v === undefined || isDown ? css("--card") : `rgb(${r},${green},${b})`;
    g.strokeStyle = isDown ? css("--red") : css("--edge");
    g.lineWidth = isDown ? 1.6 : n > 400 ? 0.4 : 0.9;
    g.beginPath();
    if (cell) { g.fillRect(x - 0.47 * cell, y - 0.47 * cell, 0.94 * cell, 0.94 * cell); continue; }
    if (isAgent) g.arc(x, y, radius, 0, 7); else g.rect(x - 6, y - 6, 12, 12);
    g.fill(); g.stroke();
    if (isDown) { const q = 0.6 * radius; g.beginPath(); g.moveTo(x - q, y - q); g.lineTo(x + q, y + q); g.moveTo(x + q, y - q); g.lineTo(x - q, y + q); g.stroke(); }
    if (byzantine.has(i) || suspects.has(i)) { g.strokeStyle = css(byzantine.has(i) ? "--red" : "--orange"); g.lineWidth = 2; g.beginPath(); g.arc(x, y, radius + 3.5, 0, 7); g.stroke(); }
    if (isAgent && n <= 64 && radius >= 7 && !isDown) { g.fillStyle = v === null || v === undefined ? css("--ink") : 0.299 * r + 0.587 * green + 0.114 * b < 128 ? "#fff" : "#1c2127"; g.fillText(i, x, y + 0.5); }
    if (!isAgent) { g.fillStyle = css("--ink"); g.fillText(graph.names[i - agents], x, y + 15); }
    else if (n <= 40 && graph.labels && graph.labels[i]) { g.fillStyle = css("--quiet"); g.fillText(graph.labels[i], x, y + radius + 8); }
  }
  if (time) drawMessages(g, X, Y, time, radius);
  const now = performance.now();
  for (const [agent, since] of flash) {
    const age = (now - since) / 2500;
    if (age > 1 || cell) { flash.delete(agent); continue; }
    if (agent < 0 || agent >= n) continue;
    g.strokeStyle = css("--red"); g.globalAlpha = 1 - age; g.lineWidth = 3;
    g.beginPath(); g.arc(X(agent), Y(agent), radius + 4 + 18 * age, 0, 7); g.stroke(); g.globalAlpha = 1;
  }
  const words = [];
  if (known.length && high === low) words.push(`${colorBy}: ${number(low, 3)}${known.length > 1 ? ", the same for all" : ""}`);
  else if (known.length) words.push(`${colorBy}: ${number(low, 3)} (${stops === FIRE ? "yellow" : "dark"}) to ${number(high, 3)} (${stops === FIRE ? "red" : "yellow"})`);
  if (byzantine.size) words.push(`red ring: Byzantine (${[...byzantine].slice(0, 12).join(", ")})`);
  if ([...suspects].some((a) => !byzantine.has(a))) words.push("orange ring: suspected");
  if (states.includes("d")) words.push("crossed: down");
  if (cut) words.push("dashed red: links that a partition cuts");
  const m = S.messages;
  if (m && m.shown && m.shown.length) words.push(`moving dots: ${m.shown.length < m.counted ? number(m.shown.length) + " of " : ""}the last ${number(m.counted)} messages, slowed down` + (m.shown.some((x) => x[4] === "lost") ? "; red ones were lost" : ""));
  if (S.waiting && Object.keys(S.waiting).length) words.push("orange arrows: who waits for whom");
  put("legend", words.join(" · "));
}
function partition() {
  let group = null;
  for (const f of S.faults || []) {
    if (!f.struck) continue;
    if (f.kind === "partition") { group = new Array(S.graph.agents).fill(-1); f.groups.forEach((members, k) => members.forEach((a) => { group[a] = k; })); }
    if (f.kind === "heal") group = null;
  }
  return S.graph.cell ? null : group;
}
function node(id) { return id >= 0 ? id : S.graph.agents + S.graph.coordinators.indexOf(id); }
function drawWaits(g, X, Y, radius) {
  if (!S.waiting || S.graph.cell) return;
  g.strokeStyle = g.fillStyle = css("--send"); g.lineWidth = 1.8;
  for (const [from, ids] of Object.entries(S.waiting)) for (const to of ids) {
    const a = node(Number(from)), b = node(to);
    if (a < 0 || b < 0 || a >= S.graph.x.length || b >= S.graph.x.length) continue;
    const dx = X(b) - X(a), dy = Y(b) - Y(a), d = Math.hypot(dx, dy) || 1, ux = dx / d, uy = dy / d;
    const ex = X(b) - ux * (radius + 3), ey = Y(b) - uy * (radius + 3);
    g.beginPath(); g.moveTo(X(a) + ux * radius, Y(a) + uy * radius); g.lineTo(ex, ey); g.stroke();
    g.beginPath(); g.moveTo(ex, ey); g.lineTo(ex - 7 * ux - 4 * uy, ey - 7 * uy + 4 * ux); g.lineTo(ex - 7 * ux + 4 * uy, ey - 7 * uy - 4 * ux); g.fill();
  }
}
function drawMessages(g, X, Y, share, radius) {
  const m = S.messages;
  if (!m || !m.shown || !m.window || S.graph.cell) return;
  const ends = m.shown.map((x) => x[1]), to = Math.max(m.window[1], ...ends), now = m.window[0] + share * (to - m.window[0]);
  const size = m.shown.length > 150 ? 2.4 : 3.2, least = 0.04 * (to - m.window[0]);
  for (const [sent, arrived, from, receiver, outcome] of m.shown) {
    const end = Math.max(arrived, sent + least);
    if (now < sent || now > end) continue;
    const a = node(from), b = node(receiver), f = (now - sent) / (end - sent || 1);
    if (a < 0 || b < 0 || a >= S.graph.x.length || b >= S.graph.x.length) continue;
    const dx = X(b) - X(a), dy = Y(b) - Y(a), d = Math.hypot(dx, dy) || 1, way = Math.max(0, d - 2 * radius), along = (radius + f * way) / d;
    const x = X(a) + along * dx, y = Y(a) + along * dy;
    g.fillStyle = css(outcome === "lost" ? "--red" : outcome === "flying" ? "--send" : "--blue");
    g.strokeStyle = css("--card"); g.lineWidth = 1;
    g.beginPath(); g.arc(x, y, size, 0, 7); g.fill(); g.stroke();
  }
}
const REPLAY = 2400;
let begun = 0, ticking = false;
function animate(now) {
  const moves = S.graph && !S.graph.cell && ((S.messages && S.messages.shown && S.messages.shown.length && S.run && S.run.running) || flash.size);
  if (!moves || document.hidden || calm.matches) { ticking = false; if (S.graph) drawGraph(calm.matches && S.run && S.run.running ? 0.5 : undefined); return; }
  if (now - replay > 40) { replay = now; drawGraph(((now - begun) % REPLAY) / REPLAY || 1e-6); }
  requestAnimationFrame(animate);
}
function move() { if (!ticking) { ticking = true; begun = performance.now(); requestAnimationFrame(animate); } }

/* Curves */
const plots = {};
function marksOf() {
  const c = S.curves.columns, times = c.virtual_seconds, rounds = c.round;
  return (S.curves.faults || []).map((t) => { const i = times.findIndex((v) => v !== null && v >= t); return i < 0 ? null : rounds[i]; }).filter((r) => r !== null);
}
function faultLines(u) {
  const g = u.ctx;
  g.save(); g.strokeStyle = css("--red"); g.globalAlpha = 0.6; g.setLineDash([4, 4]); g.lineWidth = 1;
  for (const r of marksOf()) {
    const x = Math.round(u.valToPos(r, "x", true));
    if (x < u.bbox.left || x > u.bbox.left + u.bbox.width) continue;
    g.beginPath(); g.moveTo(x, u.bbox.top); g.lineTo(x, u.bbox.top + u.bbox.height); g.stroke();
  }
  g.restore();
}
function plot(id, data, series, options = {}) {
  const box = $(id), width = box.clientWidth || box.parentElement.clientWidth - 24, key = series.map((s) => s.label).join() + unitWords() + dark.matches + !!options.log + (data[0].length < 3);
  const height = innerWidth >= 760 ? 236 : 180;
  let p = plots[id];
  if (!p || p.key !== key) {
    if (p) p.u.destroy();
    const axis = { stroke: css("--quiet"), grid: { stroke: css("--grid"), width: 1 }, ticks: { stroke: css("--line"), width: 1 }, font: "11px system-ui, 'DejaVu Sans', sans-serif" };
    const scales = { x: { time: false } };
    if (options.log) scales.y = { distr: 3 };
    const tick = (v) => (v === null ? "" : v >= 1e5 || (v > 0 && v < 1e-3) ? v.toExponential(0) : String(Number(v.toPrecision(4))));
    p = plots[id] = { key, u: new uPlot({
      width, height, scales, cursor: { y: false }, legend: { live: true },
      axes: [{ ...axis, values: (u, s) => s.map((v) => (v === null || v % 1 ? "" : v.toLocaleString("en-US"))) }, { ...axis, size: 54, values: (u, s) => s.map(tick) }],
      series: [{ label: unitWords() }, ...series], hooks: { draw: [faultLines] }, bands: options.bands,
    }, data, box) };
  } else p.u.setData(data);
  if (Math.abs(p.u.width - width) > 1) p.u.setSize({ width, height });
}
function line(label, color, more = {}) { const few = S.curves.columns.round.length < 3; return { label, stroke: css(color), width: 1.8, points: { show: few, size: 6 }, value: (u, v) => number(v), ...more }; }
function drawCurves() {
  const s = S.curves;
  if (!s) return;
  const c = s.columns, defined = (k) => c[k] && c[k].some((v) => v !== null);
  const isShown = defined("return_mean") || defined("error");
  $("card-return").hidden = !isShown;
  if (defined("return_mean")) {
    const series = [line("mean", "--blue"), line("lowest", "--edge", { width: 1 }), line("highest", "--edge", { width: 1 })], data = [c.round, c.return_mean, c.return_min, c.return_max];
    if (defined("evaluation_own")) { series.push(line("evaluation", "--orange", { width: 0, points: { show: true, size: 6, fill: css("--orange"), stroke: css("--orange") } })); data.push(c.evaluation_own); }
    const fill = dark.matches ? "rgba(86,180,233,.16)" : "rgba(0,114,178,.12)";
    plot("plot-return", data, series, { bands: [{ series: [3, 2], fill }] });
  } else if (isShown) {
    $("card-return").querySelector("h2").firstChild.textContent = "Error";
    plot("plot-return", [c.round, c.error.map((v) => (v > 0 ? v : null))], [line("error", "--blue")], { log: true });
  }
  const distance = (c.consensus_distance || []).map((v) => (v > 0 ? v : null));
  $("card-consensus").hidden = !distance.some((v) => v !== null);
  if (!$("card-consensus").hidden) {
    const series = [line("consensus distance", "--blue")], data = [c.round, distance];
    if (s.predicted.length) { series.push(line("λ₂ᵗ from the first row", "--orange", { dash: [6, 4], width: 1.4 })); data.push(floor(s.predicted, distance)); }
    put("rate", s.lambda_2 === null ? "" : "|λ₂| = " + number(s.lambda_2));
    plot("plot-consensus", data, series, { log: true });
  }
}
function floor(predicted, distance) {
  const least = Math.min(...distance.filter((v) => v !== null)) / 30;
  return predicted.map((v) => (v === null || v < least ? null : v));
}

/* Tables */
const sorted = { agents: ["agent", 1], processes: ["agents", 1] };
const WORDS = new Set(["state", "waits for", "agents", "not reached by", "refusals", "where"]);
function drawTable(id, columns, rows, show) {
  const [by, direction] = sorted[id], place = Math.max(0, columns.indexOf(by));
  const order = rows.map((row, i) => i);
  const value = (row) => (Array.isArray(row[place]) ? row[place][0] : row[place]);
  order.sort((i, j) => {
    const a = value(rows[i]), b = value(rows[j]), none = (v) => v === null || v === undefined || v === "";
    if (none(a) || none(b)) return none(a) - none(b) || i - j;
    return (a < b ? -1 : a > b ? 1 : i - j) * direction;
  });
  const head = element("tr");
  columns.forEach((name) => {
    const th = element("th", undefined, WORDS.has(name) ? "word" : ""), b = element("button", name + (name === by ? (direction > 0 ? " ▲" : " ▼") : ""));
    b.type = "button";
    b.onclick = () => { sorted[id] = [name, sorted[id][0] === name ? -sorted[id][1] : 1]; draw(id === "agents" ? "agents" : "processes"); };
    if (name === by) th.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
    th.append(b); head.append(th);
  });
  const table = $(id), body = element("tbody"), top = element("thead");
  const focused = document.activeElement && table.contains(document.activeElement) ? document.activeElement.textContent.split(" ▲")[0].split(" ▼")[0] : null;
  for (const i of order) {
    const tr = element("tr");
    columns.forEach((name, k) => { const [text, mark] = show(name, rows[i][k], rows[i]); tr.append(element("td", text, [WORDS.has(name) ? "word" : "", name === "waits for" || name === "state" && id === "processes" ? "wrap" : "", mark || ""].join(" ").trim())); });
    body.append(tr);
  }
  top.append(head);
  table.replaceChildren(top, body);
  if (focused) for (const b of head.querySelectorAll("button")) if (b.textContent.startsWith(focused)) b.focus();
}
function drawAgents() {
  const t = S.agents;
  if (!t || !t.rows.length) { $("card-agents").hidden = true; return; }
  $("card-agents").hidden = false;
  const names = { waits: "waits for" }, keep = t.columns.map((_, k) => t.rows.some((row) => row[k] !== null && row[k] !== ""));
  const columns = t.columns.filter((_, k) => keep[k]).map((name) => names[name] || name);
  const rows = t.rows.map((row) => row.filter((_, k) => keep[k]));
  drawTable("agents", columns, rows, (name, v) => {
    if (name === "bytes") return [bytes(v)];
    if (name === "absent for") return [v === null ? "" : span(v), v ? "bad" : ""];
    if (name === "lag") return [number(v), v > 1 ? "warn" : ""];
    if (name === "suspicion") return [number(v, 3), t.alarm !== null && v > t.alarm ? "bad" : ""];
    if (name === "state") return [v, v === "down" ? "bad" : ""];
    return [typeof v === "string" ? v : number(v)];
  });
  const word = (list) => list.map(([agent, v]) => `${agent} (${number(v, 3)})`).join(", ");
  const far = t.farthest || [];
  put("extremes", t.best.length ? `best return: ${word(t.best)} · worst: ${word(t.worst)}` : far.length ? `farthest from the average: ${word(far)} · nearest: ${word(t.nearest)}` : t.equal !== null && t.equal !== undefined ? `${t.nearest ? "distance from the average" : "return"}: ${number(t.equal, 3)}, the same for all` : "");
}
function drawProcesses() {
  const t = S.processes;
  if (!t || !t.rows.length) { $("card-processes").hidden = true; return; }
  $("card-processes").hidden = false;
  const keep = t.columns.map((_, k) => t.rows.some((row) => row[k] !== null && row[k] !== ""));
  drawTable("processes", t.columns.filter((_, k) => keep[k]), t.rows.map((row) => row.filter((_, k) => keep[k])), (name, v) => {
    if (name === "sent") return [bytes(v)];
    if (name === "last sign") return [v === null ? "–" : span(v) + " ago", v > 5 ? "warn" : ""];
    if (name === "behind") return [number(v), v > 1 ? "warn" : ""];
    if (name === "state") return [v, /^(running|ended)/.test(v) ? "" : "bad"];
    if (name === "not reached by") return [v, v ? "bad" : ""];
    return [typeof v === "string" ? v : number(v)];
  });
}

/* Timeline */
function drawTimeline() {
  const t = S.timeline;
  if (!t || !t.intervals.length) { $("card-timeline").hidden = true; return; }
  $("card-timeline").hidden = false;
  const ids = [...new Set(t.intervals.map((i) => i[0]))].sort((a, b) => a - b);
  const row = ids.length > 20 ? 9 : 13, [g, width, height] = canvasOf("timeline", 24 + row * ids.length);
  const from = Math.min(...t.intervals.map((i) => i[2])), to = Math.max(...t.intervals.map((i) => i[3])), left = 34;
  const X = (s) => left + (width - left - 4) * (s - from) / (to - from || 1);
  g.font = "10px system-ui, 'DejaVu Sans', sans-serif"; g.textBaseline = "middle"; g.textAlign = "right";
  ids.forEach((id, k) => {
    const y = 4 + k * row;
    g.fillStyle = css("--pale"); g.fillRect(left, y, width - left - 4, row - 3);
    if (row > 10 || k % 2 === 0) { g.fillStyle = css("--quiet"); g.fillText(id === -1 ? "c" : id < 0 ? "e" + (-2 - id) : id, left - 5, y + row / 2 - 1); }
  });
  for (const [agent, kind, start, end] of t.intervals) {
    const y = 4 + ids.indexOf(agent) * row;
    g.fillStyle = css(kind === "train" ? "--blue" : "--send");
    g.fillRect(X(start), y, Math.max(1, X(end) - X(start)), row - 3);
  }
  g.strokeStyle = css("--red"); g.lineWidth = 2;
  for (const f of S.faults || []) if (f.at >= from && f.at <= to) { g.beginPath(); g.moveTo(X(f.at), 2); g.lineTo(X(f.at), height - 18); g.stroke(); }
  g.fillStyle = css("--quiet"); g.textAlign = "left"; g.fillText(clock(from, to - from), left, height - 8);
  g.textAlign = "right"; g.fillText(clock(to, to - from), width - 4, height - 8);
  put("span", `the last ${span(to - from)} of ${S.run && S.run.kind === "peers" ? "time" : "virtual time"}` + (S.run && S.run.agents > ids.length ? `, of ${ids.length} agents` : ""));
}

/* Log */
function drawLog() {
  const items = [];
  for (const f of S.faults || []) {
    const who = f.agents.length ? " of " + (f.agents.length > 8 ? f.agents.length + " agents" : (f.agents.length > 1 ? "agents " : "agent ") + f.agents.join(", ")) : "";
    const more = Object.entries(f.more || {}).map(([k, v]) => `${k} ${v}`).join(", ");
    items.push({ at: f.at, text: f.kind + who + (more ? ", " + more : "") + (f.struck ? "" : " (later)"), name: f.struck ? "bad" : "later", when: span(f.at) });
  }
  for (const l of S.log || []) items.push({ at: l.at, text: l.text, name: /refused|lost|failed|left_behind/.test(l.what) ? "bad" : "", when: l.clock || span(l.at) });
  $("card-log").hidden = !items.length;
  items.sort((a, b) => (b.at || 0) - (a.at || 0));
  $("log").replaceChildren(...items.slice(0, 200).map((i) => { const li = element("li"); li.append(element("time", i.when), element("span", i.text, i.name)); return li; }));
}
function drawNotes() { $("notes").replaceChildren(...(S.notes || []).map((t) => element("p", t))); }
function drawProblem() { $("problem").hidden = !S.problem; put("problem", S.problem || ""); }

const DRAW = { run: [drawRun], graph: [drawGraph], colors: [colorChoices, drawGraph], messages: [drawRun, drawGraph], waiting: [drawGraph], curves: [drawCurves], agents: [drawAgents], processes: [drawProcesses], timeline: [drawTimeline], faults: [drawLog, drawTimeline, drawGraph], log: [drawLog], notes: [drawNotes], problem: [drawProblem] };
function draw(...names) { for (const f of new Set(names.flatMap((n) => DRAW[n] || []))) f(); }
function take(found) {
  const before = struckAgents(), hadFaults = S.faults !== undefined;
  Object.assign(S, found);
  if (found.faults && hadFaults) for (const [agent, f] of struckAgents()) if (before.get(agent) === undefined || before.get(agent).at !== f.at) flash.set(agent, performance.now());
  draw(...Object.keys(found));
  if (found.messages || found.graph || flash.size) move();
  drawLink();
}
let events, isConnected = null;
function drawLink() {
  const isOver = S.run && !S.run.running, text = S.closed ? (isOver ? "run is over" : "page is over") : isConnected === null ? "connecting" : !isConnected ? "connection lost" : isOver ? "" : "live";
  put("link", text);
  $("link").hidden = !text;
  $("link").className = "badge" + (S.closed || isConnected === null ? "" : !isConnected ? " bad" : " good");
}
function listen() {
  events = new EventSource("events");
  events.onopen = () => { isConnected = true; drawLink(); };
  events.onmessage = (e) => { const found = JSON.parse(e.data); take(found); if (found.closed) events.close(); };
  events.onerror = () => { isConnected = false; drawLink(); };
}
function redraw() { draw(...Object.keys(DRAW)); move(); }
addEventListener("resize", redraw);
dark.addEventListener("change", redraw);
document.addEventListener("visibilitychange", move);
listen();
