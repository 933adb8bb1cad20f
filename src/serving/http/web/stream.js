"use strict";
// An answer in pieces: its server-sent events are read as they arrive, and the text grows on the page.

/** What the page takes: pieces where the model makes them, else the whole answer. */
const ACCEPTED_ANSWERS = "text/event-stream, application/json;q=0.9";

function isStream(answer) {
  return answer.ok && answer.body !== null && (answer.headers.get("Content-Type") || "").startsWith("text/event-stream");
}

/** The events of a body as {name, data}, each as soon as it is complete (HTML standard, "Server-sent events"). */
async function* serverEvents(reader) {
  const decoder = new TextDecoder();
  let waiting = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    waiting += decoder.decode(value, { stream: true });
    // An event ends at an empty line. What comes after the last one waits for the rest of its event.
    const blocks = waiting.split(/\r\n\r\n|\n\n|\r\r/);
    waiting = blocks.pop();
    for (const block of blocks) {
      const lines = block.split(/\r\n|\n|\r/);
      const of = (field) => lines.filter((line) => line.startsWith(`${field}:`)).map((line) => line.slice(field.length + 1).replace(/^ /, ""));
      yield { name: of("event").pop() || "message", data: of("data").join("\n") };
    }
  }
}

/** The text of a piece: the piece itself, or its field `text`. undefined if it has none. */
function pieceText(piece) {
  if (typeof piece === "string") return piece;
  return piece !== null && typeof piece === "object" && typeof piece.text === "string" ? piece.text : undefined;
}

/** Where pieces appear: texts are joined to one, any other piece is shown below the one before. */
function pieceView(place) {
  const text = element("p", { class: "value long streamed" });
  return (piece) => {
    const found = pieceText(piece);
    if (found === undefined) place.append(show(piece));
    else {
      if (!text.isConnected) place.append(text);
      text.append(found);
    }
  };
}

/** How fast pieces came, measured here: the first one, and those after it. */
function paceOf(pieces, first, last, start) {
  if (pieces === 0) return "";
  const words = [`First piece after ${milliseconds(first - start)}`];
  if (pieces > 1 && last > first) words.push(`then ${((1000 * (pieces - 1)) / (last - first)).toFixed(1)} pieces per second`);
  return words.join(", ");
}

/**
 * Show the pieces of an answer in `place` until they end, break off, or `stop` is pressed.
 * Gives {pieces, pace, ending}. `ending` is {kind: "end" | "stopped" | "error" | "broken", ...what the function said}.
 */
async function followStream(answer, start, place, stop) {
  const reader = answer.body.getReader();
  const add = pieceView(place);
  const pieces = [];
  let first = 0;
  let last = 0;
  let ending = { kind: "broken" };
  // To cancel the reading closes the connection. The function sees that and makes no more pieces.
  const onStop = () => {
    ending = { kind: "stopped" };
    reader.cancel().catch(() => {});
  };
  stop.addEventListener("click", onStop);
  stop.hidden = false;
  try {
    for await (const { name, data } of serverEvents(reader)) {
      if (ending.kind === "stopped") break;
      const value = JSON.parse(data);
      if (name === "end" || name === "error") ending = { kind: name, ...value };
      if (name !== "message") continue;
      last = performance.now();
      first = first || last;
      pieces.push(value);
      add(value);
    }
  } catch (error) {
    if (ending.kind !== "stopped") ending = { kind: "broken", reason: String(error.message || error) };
  } finally {
    reader.cancel().catch(() => {});
    stop.removeEventListener("click", onStop);
    stop.hidden = true;
  }
  return { pieces, pace: paceOf(pieces.length, first, last, start), ending };
}

/** What readers of the screen hear at the end of a streamed answer. */
function endingWords({ pieces, ending }) {
  const counted = `${pieces.length} ${pieces.length === 1 ? "piece" : "pieces"}`;
  const text = pieces.map(pieceText).filter((each) => each !== undefined).join("");
  if (ending.kind === "stopped") return `Stopped after ${counted}: ${text.slice(0, 300)}`;
  return ending.kind === "end" ? `Answered in ${counted}: ${text.slice(0, 300)}` : "";
}
