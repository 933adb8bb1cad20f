"use strict";
// Fields that hold more than text: files with a preview, and tables of numbers that take what a spreadsheet copies.
// A widget is {input, elements, fill(value), read(), isEmpty()}: `input` gets the focus, `elements` stand in the form.

/** A file that was read: its data: URL, its name and its Blob. */
function heldFile(url, name, blob) {
  return { url, name, blob };
}

/** The bytes of a data: URL. */
function blobOf(url) {
  const [head, encoded] = url.split(",");
  const bytes = Uint8Array.from(atob(encoded), (character) => character.charCodeAt(0));
  return new Blob([bytes], { type: head.replace(/^data:/, "").replace(/;.*$/, "") });
}

function readAsUrl(file) {
  return new Promise((done, failed) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result);
    reader.onerror = () => failed(reader.error);
    reader.readAsDataURL(file);
  });
}

function bytesInWords(count) {
  return count < 1000 ? `${count} bytes` : count < 1e6 ? `${Math.round(count / 1000)} kB` : `${(count / 1e6).toFixed(1)} MB`;
}

/** A picture, a player, or a link to save it: whatever shows this data: URL. */
function preview(url, name) {
  if (/^data:image\//.test(url)) return element("img", { class: "picture", src: url, alt: name });
  if (/^data:audio\//.test(url)) return element("audio", { controls: true, src: url, "aria-label": name });
  return element("a", { href: url, download: name }, `Save ${name}`);
}

/** A field for one file: a picker that files can be dropped on, with a preview. */
function fileWidget(id, known) {
  const accept = known.mediaTypes.includes("*/*") ? undefined : known.mediaTypes.join(",");
  const input = element("input", { id, type: "file", accept });
  const shown = element("div", { class: "preview" });
  const drop = element("div", { class: "drop" }, input, element("p", { class: "help" }, "Choose a file, or drop one here."), shown);
  let held = null;

  function hold(file) {
    held = file;
    shown.replaceChildren(...(file ? [preview(file.url, file.name), element("p", { class: "help" }, `${file.name}, ${bytesInWords(file.blob.size)}`)] : []));
    drop.dispatchEvent(new Event("held"));
  }

  async function take(files) {
    if (files.length) hold(heldFile(await readAsUrl(files[0]), files[0].name, files[0]));
  }

  input.addEventListener("change", () => (input.files.length ? take(input.files) : hold(null)));
  for (const kind of ["dragenter", "dragover"]) {
    drop.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.add("over");
    });
  }
  for (const kind of ["dragleave", "drop"]) drop.addEventListener(kind, () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    take(event.dataTransfer.files);
  });
  return {
    input,
    elements: [drop],
    fill(value) {
      const isUrl = typeof value === "string" && value.startsWith("data:");
      const name = isUrl ? `example.${value.slice(5, value.indexOf(";")).split("/")[1]}` : "";
      hold(isUrl ? heldFile(value, name, blobOf(value)) : null);
    },
    read: () => held,
    isEmpty: () => held === null,
  };
}

/** Text as a spreadsheet copies it, or as CSV has it: lines of cells. */
function cellsOf(text) {
  const lines = text.replace(/\r\n?/g, "\n").replace(/\n+$/, "").split("\n");
  const between = text.includes("\t") ? "\t" : text.includes(";") ? ";" : text.includes(",") ? "," : /\s+/;
  return lines.map((line) => line.trim().split(between).map((cell) => cell.trim()));
}

const MOST_ROWS_SHOWN = 50;

/** A field for a 2-D array: a table with a place to paste into. `columns` is null where any number is taken. */
function tableWidget(id, columns) {
  let rows = [[]];
  const place = element("div", { class: "cells", id, tabindex: "-1", role: "group" });
  const note = element("p", { class: "help" });
  const more = element("button", { type: "button", class: "small" }, "Add a row");
  const width = () => columns || Math.max(1, ...rows.map((row) => row.length));

  function draw() {
    const names = Array.from({ length: width() }, (_, index) => element("th", { scope: "col" }, String(index + 1)));
    place.replaceChildren(element("table", {},
      element("thead", {}, element("tr", {}, element("th", {}), ...names)),
      element("tbody", {}, ...rows.slice(0, MOST_ROWS_SHOWN).map((row, at) =>
        element("tr", {}, element("th", { scope: "row" }, String(at + 1)), ...names.map((_, column) => cell(row, at, column)))))));
    const hidden = rows.length - MOST_ROWS_SHOWN;
    note.textContent = hidden > 0 ? `${rows.length} rows. The last ${hidden} are not shown.` : "Cells from a spreadsheet can be pasted here.";
  }

  function cell(row, at, column) {
    const input = element("input", { type: "text", inputmode: "decimal", autocomplete: "off", "aria-label": `Row ${at + 1}, column ${column + 1}` });
    input.value = row[column] ?? "";
    input.addEventListener("input", () => {
      row[column] = input.value;
    });
    input.addEventListener("paste", (event) => {
      const text = event.clipboardData.getData("text");
      const found = cellsOf(text);
      if (found.length === 1 && found[0].length === 1) return;
      event.preventDefault();
      paste(found, at, column);
    });
    return element("td", {}, input);
  }

  function paste(found, top, left) {
    found.forEach((cells, down) => {
      const row = (rows[top + down] ??= []);
      cells.forEach((text, right) => {
        if (!columns || left + right < columns) row[left + right] = text;
      });
    });
    draw();
  }

  more.addEventListener("click", () => {
    rows.push([]);
    draw();
  });
  draw();
  return {
    input: place,
    elements: [place, more, note],
    fill(value) {
      rows = Array.isArray(value) && value.length ? value.map((row) => row.map(String)) : [[]];
      draw();
    },
    /** Rows without any text are left out. A cell that is no number is sent as it is: the function refuses it. */
    read() {
      const filled = rows.filter((row) => row.some((text) => (text ?? "") !== ""));
      return filled.map((row) => Array.from({ length: columns ? Math.max(row.length, 0) : row.length }, (_, at) => KINDS.number.read(row[at] ?? "")));
    },
    isEmpty: () => rows.every((row) => row.every((text) => (text ?? "") === "")),
  };
}

/** The number of columns of a 2-D array of numbers, null where any number is taken; undefined if it is none. */
function columnsOf(schema, documents) {
  const lists = schema["x-array"] ? schema.anyOf[0] : schema;
  if (lists.type !== "array" || !lists.items || lists.prefixItems) return undefined;
  const inner = resolved(lists.items, documents);
  if (inner.nullable || inner.schema.type !== "array" || !inner.schema.items || inner.schema.prefixItems) return undefined;
  const { schema: number, nullable } = resolved(inner.schema.items, documents);
  if (nullable || !["number", "integer"].includes(number.type)) return undefined;
  const { minItems, maxItems } = inner.schema;
  return maxItems !== undefined && maxItems === minItems ? maxItems : null;
}

/** Whether the request holds files. */
function holdsFiles(request) {
  return isRecord(request) && Object.values(request).some((value) => isRecord(value) && value.blob instanceof Blob);
}

/** A request with files as a form (RFC 7578): [[name, text or file]]. */
function formEntries(request) {
  return Object.entries(request)
    .filter(([, value]) => value !== null)
    .map(([name, value]) => [name, isRecord(value) && value.blob ? value : typeof value === "string" ? value : JSON.stringify(value)]);
}
