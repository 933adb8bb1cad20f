"use strict";
// A JSON Schema becomes a form, and the filled form becomes a request.
// The function alone checks the request, so there is one set of rules.

/** The schema without its reference and without "or null": {schema, nullable}. */
function resolved(schema, documents) {
  let nullable = false;
  for (let turn = 0; turn < 32; turn += 1) {
    const alternatives = schema.anyOf || schema.oneOf;
    const some = alternatives && alternatives.filter((each) => each.type !== "null");
    if (schema["x-file"] || schema["x-array"]) break;
    if (schema.$ref) {
      const target = documents.components.schemas[schema.$ref.split("/").pop()];
      const { $ref, ...beside } = schema;
      schema = { ...target, ...beside };
    } else if (schema.allOf && schema.allOf.length === 1) {
      const { allOf, ...beside } = schema;
      schema = { ...allOf[0], ...beside };
    } else if (some && some.length === 1) {
      nullable = nullable || alternatives.length > some.length;
      const { anyOf, oneOf, ...beside } = schema;
      schema = { ...some[0], ...beside };
    } else if (Array.isArray(schema.type) && schema.type.includes("null")) {
      nullable = true;
      const types = schema.type.filter((each) => each !== "null");
      schema = { ...schema, type: types.length === 1 ? types[0] : types };
    } else {
      break;
    }
  }
  return { schema, nullable };
}

// How each kind of field shows a value as text and reads it back.
// A text that cannot be read is sent as it is: the function rejects it.
const KINDS = {
  text: { show: String, read: (text) => text },
  number: { show: String, read: (text) => (text.trim() === "" || Number.isNaN(Number(text)) ? text : Number(text)) },
  choice: { show: (value) => JSON.stringify(value), read: (text) => JSON.parse(text) },
  lines: { show: (value) => value.join("\n"), read: (text) => text.split("\n").filter((line) => line !== "") },
  numbers: { show: (value) => value.join(", "), read: (text) => text.split(/[\s,;]+/).filter(Boolean).map(KINDS.number.read) },
  json: { show: (value) => JSON.stringify(value, null, 2), read: (text) => JSON.parse(text) },
};

/** The kind of a resolved schema: "file", "table", or a name in KINDS. */
function kindOf(schema, documents) {
  if (schema["x-file"]) return "file";
  if (columnsOf(schema, documents) !== undefined) return "table";
  if (schema["x-array"]) return kindOf(schema.anyOf[0], documents);
  if (schema.enum || schema.const !== undefined || schema.type === "boolean") return "choice";
  if (schema.type === "string") return "text";
  if (schema.type === "number" || schema.type === "integer") return "number";
  if (schema.type === "array" && schema.items && !schema.prefixItems) {
    const items = resolved(schema.items, documents);
    if (items.nullable || items.schema.enum) return "json";
    if (items.schema.type === "string") return "lines";
    if (["number", "integer"].includes(items.schema.type)) return "numbers";
  }
  return "json";
}

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) made.setAttribute(attribute, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

function choiceInput(id, schema, required) {
  const values = schema.enum || (schema.const !== undefined ? [schema.const] : [true, false]);
  const options = values.map((value) =>
    element("option", { value: JSON.stringify(value) }, schema.type === "boolean" ? (value ? "yes" : "no") : String(value)));
  if (!required) options.unshift(element("option", { value: "" }, "–"));
  return element("select", { id }, ...options);
}

/** The element that a person fills in, and its list of suggestions if there is one. */
function inputs(id, kind, schema, required, example) {
  if (kind === "choice") return [choiceInput(id, schema, required)];
  const isLong = typeof example === "string" && (example.length > 60 || example.includes("\n"));
  if (kind === "lines" || kind === "json" || (kind === "text" && (schema.maxLength > 200 || isLong))) {
    return [element("textarea", { id, rows: 4, class: kind === "json" && "code", spellcheck: kind === "json" ? "false" : undefined })];
  }
  const plain = { id, type: "text", autocomplete: "off", autocapitalize: "off", spellcheck: "false" };
  const input = element("input", kind === "number" ? { ...plain, inputmode: schema.type === "integer" ? "numeric" : "decimal" } : plain);
  if (schema.default !== undefined && schema.default !== null) input.placeholder = KINDS[kind].show(schema.default);
  if (kind !== "text" || !schema.examples || schema.examples.length < 2) return [input];
  input.setAttribute("list", `${id}-suggestions`);
  return [input, element("datalist", { id: `${id}-suggestions` }, ...schema.examples.map((value) => element("option", { value })))];
}

/** The widget of a field, as files.js describes widgets. */
function widgetFor(id, kind, schema, required, documents, example) {
  if (kind === "file") return fileWidget(id, schema["x-file"]);
  if (kind === "table") return tableWidget(id, columnsOf(schema, documents));
  const [input, ...others] = inputs(id, kind, schema, required, example);
  return {
    input,
    elements: [input, ...others],
    fill(value) {
      input.value = value === null || value === undefined ? "" : KINDS[kind].show(value);
    },
    read: () => KINDS[kind].read(input.value),
    isEmpty: () => input.value === "",
  };
}

function label(name) {
  const words = name.replace(/_/g, " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}

function helpFor(kind, schema) {
  const hints = { lines: "One per line.", numbers: "Separate the numbers with commas.", json: "Write JSON." };
  return [schema.description, hints[kind]].filter(Boolean).join(" ");
}

/** One field: its element, and functions that fill, read and mark it. `name` is "" if the request is not an object. */
function makeField(name, given, required, documents, example) {
  const { schema, nullable } = resolved(given, documents);
  const kind = kindOf(schema, documents);
  const id = `field-${name || "request"}`;
  const help = helpFor(kind, schema);
  const wrong = element("p", { class: "wrong", id: `${id}-wrong`, hidden: true });
  const widget = widgetFor(id, kind, schema, required, documents, example);
  const { input } = widget;
  const described = help ? `${id}-help` : null;
  if (described) input.setAttribute("aria-describedby", described);
  if (required) input.setAttribute("aria-required", "true");
  return {
    name,
    input,
    optional: !required,
    place: element("div", { class: "field" },
      element("label", { for: id }, name ? label(name) : "Request"), ...widget.elements, wrong,
      ...(help ? [element("p", { class: "help", id: `${id}-help` }, help)] : [])),
    fill: widget.fill,
    /** The value, or undefined if an optional field is empty. Throws SyntaxError if JSON cannot be read. */
    read() {
      if (widget.isEmpty()) {
        if (!required) return undefined;
        if (nullable || kind === "file") return null;
        if (kind === "json") throw new SyntaxError("the field is empty");
      }
      return widget.read();
    },
    mark(message) {
      wrong.textContent = message || "";
      wrong.hidden = !message;
      if (message) input.setAttribute("aria-invalid", "true");
      else input.removeAttribute("aria-invalid");
      const ids = [message && wrong.id, described].filter(Boolean).join(" ");
      if (ids) input.setAttribute("aria-describedby", ids);
      else input.removeAttribute("aria-describedby");
    },
  };
}

/** The fields for a request's schema, filled with the schema's example. */
function makeFields(given, documents) {
  const { schema } = resolved(given, documents);
  const example = schema.examples && schema.examples[0];
  if (!schema.properties) {
    const field = makeField("", given, true, documents, example);
    if (example !== undefined) field.fill(example);
    return [field];
  }
  const required = schema.required || [];
  return Object.entries(schema.properties).map(([name, property]) => {
    const field = makeField(name, property, required.includes(name), documents, example && example[name]);
    if (example && name in example) field.fill(example[name]);
    return field;
  });
}

/** The request that the form holds. Marks a field that cannot be read, and gives undefined. */
function readRequest(fields) {
  const request = {};
  let failed;
  for (const field of fields) {
    field.mark(null);
    try {
      const value = field.read();
      if (field.name === "") return value;
      if (value !== undefined) request[field.name] = value;
    } catch (error) {
      field.mark(`This is not valid JSON: ${error.message}`);
      failed = failed || field;
    }
  }
  if (failed) failed.input.focus();
  return failed ? undefined : request;
}
