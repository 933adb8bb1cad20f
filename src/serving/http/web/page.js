"use strict";
// The page makes its form from the OpenAPI document, sends the request, and shows the answer or the error.

(() => {
  const at = (id) => document.getElementById(id);
  // The address of the API. It may have a stage or a mapped path in front, with or without a slash at its end.
  const base = location.origin + location.pathname.replace(/\/*$/, "/");
  let fields = [];
  let asking = false;

  for (const name of ["docs", "health"]) at(name).href = base + name;
  at("openapi").href = `${base}openapi.json`;

  function refuse(message, code) {
    at("problem").replaceChildren(element("p", {}, message), ...(code ? [element("p", { class: "code" }, code)] : []));
    at("problem").hidden = false;
  }

  /** Show the message of an answer with an error status, and mark the fields that it names. */
  function showRefusal(status, body) {
    const error = body && body.error;
    if (status === 403) {
      const said = body && body.message;
      const { words, asksForKey } = refusedAccess(said, at("api-key").value);
      refuse(words, `403 ${said || ""}`.trim());
      at("key").hidden = at("key").hidden && !asksForKey;
      if (asksForKey) at("api-key").focus();
      return;
    }
    refuse(error ? error.message : (body && body.message) || "This page cannot read the answer of the server.", `${status}${error ? ` ${error.code}` : ""}`);
    const problems = (error && error.details && error.details.problems) || [];
    let first;
    for (const problem of problems) {
      const field = fields.find((each) => each.name === problem.field.split(".")[0]);
      if (!field) continue;
      field.mark(problem.message);
      if (field.optional) at("more").open = true;
      first = first || field;
    }
    if (first) first.input.focus();
  }

  function showTerminal(sent, body) {
    const key = at("api-key").value;
    at("json").textContent = readableJson(body);
    at("curl").textContent = curlCommand(sent, `${base}predict`, key && "YOUR_KEY");
    at("copy").onclick = async () => {
      await copyText(curlCommand(sent, `${base}predict`, key));
      at("copy").textContent = "Copied";
      setTimeout(() => at("copy").replaceChildren("Copy the curl command"), 2000);
    };
    at("raw").hidden = false;
  }

  /** Show a streamed answer while it arrives. An error after its beginning leaves the pieces before it. */
  async function showStream(answer, start) {
    at("result").replaceChildren();
    at("result").classList.remove("waiting");
    at("status").textContent = "The answer arrives";
    const streamed = await followStream(answer, start, at("result"), at("stop"));
    const { kind, error, reason, finish_reason: finished } = streamed.ending;
    if (kind === "error") refuse(error ? error.message : "The model failed in the middle of its answer.", error && error.code);
    if (kind === "broken") refuse("The answer broke off. Its connection ended before its last piece.", reason);
    const ended = kind === "stopped" ? "stopped by you" : finished && finished !== "stop" && `ended by ${finished}`;
    at("pace").textContent = [streamed.pace, ended].filter(Boolean).join(", ");
    at("pace").hidden = !at("pace").textContent;
    if (document.activeElement === document.body) at("ask").focus(); // the button to stop has gone
    return streamed;
  }

  async function ask() {
    const request = readRequest(fields);
    if (request === undefined) return;
    const sent = bodyOf(request);
    at("problem").hidden = true;
    at("result").classList.add("waiting");
    at("status").textContent = "Waiting for the answer";
    const headers = { ...sent.headers };
    if (at("api-key").value) headers["X-Api-Key"] = at("api-key").value;
    const stopClock = runClock(at("clock"));
    headers.Accept = ACCEPTED_ANSWERS;
    at("pace").hidden = true;
    const start = performance.now();
    try {
      const answer = await fetch(`${base}predict`, { method: "POST", headers, body: sent.body });
      const streamed = isStream(answer) && (await showStream(answer, start));
      const body = streamed ? JSON.stringify(streamed.pieces) : await answer.text();
      const spent = performance.now() - start;
      let value;
      try {
        value = JSON.parse(body);
      } catch {
        value = undefined;
      }
      if (!streamed) at("result").replaceChildren();
      if (streamed) {
        at("status").textContent = endingWords(streamed);
      } else if (answer.ok && value !== undefined) {
        at("result").replaceChildren(show(value));
        at("status").textContent = `Answered in ${milliseconds(spent)}: ${JSON.stringify(value).slice(0, 300)}`;
      } else {
        at("status").textContent = "";
        showRefusal(answer.status, value);
      }
      showReceipt(spent, readServerTiming(answer.headers.get("Server-Timing")), answer.headers.get("X-Model-Version"), streamed);
      showTerminal(sent, value);
    } catch (error) {
      at("status").textContent = "";
      at("result").replaceChildren();
      at("receipt").hidden = true;
      at("raw").hidden = true;
      refuse("No answer arrived. Check the network connection, and check that the function is deployed.", String(error.message || error));
    }
    stopClock();
    at("result").classList.remove("waiting");
  }

  at("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    if (asking) return;
    asking = true;
    at("ask").setAttribute("aria-disabled", "true");
    await ask();
    asking = false;
    at("ask").removeAttribute("aria-disabled");
  });

  /** If this page was the first request of an environment, its own answer has the phases of that start. */
  function showOwnStart(header) {
    const [page] = performance.getEntriesByType("navigation");
    const own = ((page && page.serverTiming) || []).map(({ name, duration, description }) => ({ name, duration, description }));
    showStart([...own, ...readServerTiming(header)], "A new environment started for this page.");
  }

  async function start() {
    try {
      const answer = await fetch(`${base}openapi.json`);
      if (!answer.ok) throw new Error(`GET openapi.json answered ${answer.status}`);
      showOwnStart(answer.headers.get("Server-Timing"));
      const documents = await answer.json();
      let schema = documents.paths["/predict"].post.requestBody.content["application/json"].schema;
      // Where the API also takes a list of requests, the form is for one request.
      if (schema.oneOf && schema.oneOf[0].$ref) schema = schema.oneOf[0];
      const sentences = (resolved(schema, documents).schema.description || "").split("\n\n")[0].replace(/\s+/g, " ");
      const [first, rest] = sentences.match(/^(.*?[.!?])(?:\s+(.*))?$/)?.slice(1) || [sentences, ""];
      if (first) at("title").textContent = first.replace(/\.$/, "");
      at("lead").textContent = rest || "";
      at("lead").hidden = !rest;
      fields = makeFields(schema, documents);
      at("fields").replaceChildren(...fields.filter((each) => !each.optional).map((each) => each.place));
      at("options").replaceChildren(...fields.filter((each) => each.optional).map((each) => each.place));
      at("more").hidden = fields.every((each) => !each.optional);
      if (fields.length && fields.every((each) => each.optional)) at("more").open = true;
      at("ask").hidden = false;
      at("loading").hidden = true;
    } catch (error) {
      at("loading").hidden = true;
      refuse("The form could not be loaded. Reload the page to try again.", String(error.message || error));
    }
  }

  start();
})();
