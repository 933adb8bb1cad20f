"use strict";
// Shows any JSON answer: texts as texts, vectors as strips of colour, objects as a list of fields.

const isNumbers = (value) => Array.isArray(value) && value.length > 0 && value.every((each) => typeof each === "number");
const isTexts = (value) => Array.isArray(value) && value.length > 0 && value.every((each) => typeof each === "string");
const isRecord = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
const isScalar = (value) => value === null || typeof value !== "object";
const LONG_TEXT = 48;
const FEW_NUMBERS = 8;
// A wider array is shown as strips of colour, and a longer one up to here.
const MOST_COLUMNS = 16;
const MOST_ROWS = 200;
const isLong = (value) => typeof value === "string" && (value.length > LONG_TEXT || value.includes("\n"));

function show(value) {
  if (typeof value === "string" && /^data:[\w.+-]+\/[\w.+-]+;base64,/.test(value)) return preview(value, "answer");
  if (isScalar(value)) return element("p", { class: isLong(value) ? "value long appear" : "value appear" }, value === null ? "none" : String(value));
  if (isTexts(value)) return texts(value);
  if (isNumbers(value)) return value.length > FEW_NUMBERS ? strip(value) : element("p", { class: "value appear" }, value.join(", "));
  if (Array.isArray(value) && value.length > 0 && value.every((each) => isNumbers(each) && each.length === value[0].length && each.length <= MOST_COLUMNS)) {
    return grid(value);
  }
  if (Array.isArray(value) && value.length > 0 && value.every(isNumbers)) {
    return element("ol", { class: "vectors" }, ...value.map((each) => element("li", {}, show(each))));
  }
  if (Array.isArray(value) && value.length > 0 && value.every((each) => isRecord(each) && Object.values(each).every(isScalar))) {
    return table(value);
  }
  if (isRecord(value) && Object.keys(value).length > 0) {
    return element("dl", {}, ...Object.entries(value).flatMap(([name, each]) =>
      [element("dt", {}, label(name)), element("dd", {}, show(each))]));
  }
  return element("pre", {}, JSON.stringify(value, null, 2));
}

/** A list of texts. Each text appears a moment after the text before it. */
function texts(values) {
  return element("ol", { class: values.some(isLong) ? "texts long" : "texts" }, ...values.map((each, index) => {
    const item = element("li", { class: "appear" }, each);
    item.style.animationDelay = `${Math.min(index * 70, 1400)}ms`;
    return item;
  }));
}

/** Numbers as a strip of colour: blue is below zero, orange is above zero, strong colour is far from zero. */
function strip(numbers) {
  const canvas = element("canvas", { width: numbers.length, height: 1, role: "img", "aria-label": `${numbers.length} numbers` });
  const context = canvas.getContext("2d");
  const largest = Math.max(...numbers.map(Math.abs)) || 1;
  numbers.forEach((number, index) => {
    const strength = Math.sqrt(Math.abs(number) / largest);
    context.fillStyle = `hsl(${number < 0 ? 195 : 22} 90% 50% / ${Math.round(100 * strength)}%)`;
    context.fillRect(index, 0, 1, 1);
  });
  const first = numbers.slice(0, 3).map((each) => Number(each.toPrecision(4))).join(", ");
  return element("figure", { class: "appear" }, canvas, element("figcaption", {}, `${numbers.length} numbers: ${first}, …`));
}

/** A 2-D array of few columns as a table. */
function grid(rows) {
  const body = rows.slice(0, MOST_ROWS).map((row) => element("tr", {}, ...row.map((each) => element("td", { class: "number" }, String(Number(each.toPrecision(6)))))));
  const rest = rows.length - MOST_ROWS;
  return element("div", { class: "appear" }, element("table", {}, element("tbody", {}, ...body)),
    ...(rest > 0 ? [element("p", { class: "help" }, `${rest} more rows are in the JSON below.`)] : []));
}

function table(rows) {
  const names = [...new Set(rows.flatMap(Object.keys))];
  return element("table", {},
    element("thead", {}, element("tr", {}, ...names.map((name) => element("th", { scope: "col" }, label(name))))),
    element("tbody", {}, ...rows.map((row) =>
      element("tr", {}, ...names.map((name) => element("td", {}, name in row ? String(row[name]) : ""))))));
}
