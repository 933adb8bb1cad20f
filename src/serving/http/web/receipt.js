"use strict";
// The time that an answer took: the round trip, and the phases that its Server-Timing header names
// (https://www.w3.org/TR/server-timing/).

/** `name;dur=1.5;desc="two words", ...` as [{name, duration, description}]. Durations are in milliseconds or null. */
function readServerTiming(header) {
  const metrics = [];
  // A metric ends at a comma outside of quotes.
  for (const part of (header || "").match(/(?:[^,"]|"(?:[^"\\]|\\.)*")+/g) || []) {
    const [name, ...parameters] = part.match(/(?:[^;"]|"(?:[^"\\]|\\.)*")+/g) || [];
    const metric = { name: (name || "").trim(), duration: null, description: null };
    for (const parameter of parameters) {
      const [key, ...rest] = parameter.split("=");
      const value = rest.join("=").trim().replace(/^"(.*)"$/, "$1").replace(/\\(.)/g, "$1");
      if (key.trim().toLowerCase() === "dur" && Number.isFinite(Number.parseFloat(value))) metric.duration = Number.parseFloat(value);
      if (key.trim().toLowerCase() === "desc") metric.description = value;
    }
    if (metric.name) metrics.push(metric);
  }
  return metrics;
}

function milliseconds(value) {
  if (value >= 10000) return `${(value / 1000).toFixed(1)} s`;
  return `${value >= 10 ? Math.round(value) : value >= 0.1 ? value.toFixed(1) : "less than 0.1"} ms`;
}

// The phases of a request, as serving/telemetry/receipts.py names them. Every other metric belongs to a start.
const REQUEST_PHASES = { parse: "request check", predict: "model", total: "function" };

function coloured(index) {
  return `phase-${(index % 6) + 1}`;
}

/** Show the time of one answer: `spent` is the round trip in milliseconds, and the metrics name its parts. */
function showReceipt(spent, metrics, release, streamed = false) {
  const cold = showStart(metrics, "A new environment started for this answer.");
  const found = metrics.filter((each) => each.name in REQUEST_PHASES && each.duration !== null);
  const inside = found.filter((each) => each.name !== "total");
  const known = inside.reduce((sum, each) => sum + each.duration, 0);
  const total = found.find((each) => each.name === "total");
  const parts = inside.map((each, index) => ({ label: REQUEST_PHASES[each.name], took: each.duration, look: coloured(index) }));
  if (total && total.duration > known) {
    parts.push({ label: "other work in the function", took: total.duration - known, look: coloured(inside.length) });
  }
  const outside = spent - Math.max(known, total ? total.duration : 0);
  // The header of a streamed answer left with its first piece.
  const network = [cold && "start", streamed && "later pieces", "network"].filter(Boolean).join(" and ");
  if (outside > 0) parts.push({ label: parts.length ? network : "network and function", took: outside, look: "outside" });

  document.getElementById("time").textContent = `Round trip ${milliseconds(spent)}`;
  const badge = document.getElementById("warmth");
  badge.hidden = metrics.length === 0;
  badge.textContent = cold ? "cold start" : "warm";
  badge.classList.toggle("cold", cold);
  document.getElementById("bar").replaceChildren(...parts.map((part) => {
    const piece = element("span", { class: part.look });
    piece.style.flexGrow = String(part.took);
    return piece;
  }));
  document.getElementById("phases").replaceChildren(...parts.map((part) =>
    element("li", {}, element("i", { class: part.look }), `${part.label} ${milliseconds(part.took)}`)));

  const line = document.getElementById("release");
  line.hidden = !release;
  line.querySelector("code").textContent = (release || "").slice(0, 12);
  line.title = release || "";
  document.getElementById("receipt").hidden = false;
}

/** Show the phases of a start. Gives false if these metrics have none. Phases overlap, so each has its own bar. */
function showStart(metrics, words) {
  const phases = metrics.filter((each) => !(each.name in REQUEST_PHASES) && each.duration !== null);
  if (phases.length === 0) return false;
  const longest = Math.max(...phases.map((each) => each.duration));
  document.getElementById("start-words").textContent = `${words} Its phases overlap, so they do not add up:`;
  document.getElementById("start-phases").replaceChildren(...phases
    .filter((each) => each.duration >= longest / 200)
    .map((each) => {
      const bar = element("span", { class: "row-bar" });
      bar.style.width = `${Math.max(0.5, (100 * each.duration) / longest)}%`;
      return element("li", {}, element("span", { class: "row-name" }, each.description || each.name),
        element("span", { class: "row-time" }, milliseconds(each.duration)), element("span", { class: "row", "aria-hidden": "true" }, bar));
    }));
  document.getElementById("start").hidden = false;
  return true;
}
