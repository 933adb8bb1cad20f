"use strict";
// The request as a curl command, to copy; and the clock that runs while an answer is on its way.

const quoted = (text) => `'${text.replace(/'/g, "'\\''")}'`;

/** The body that is sent, its headers, and the arguments of curl that send the same. */
function bodyOf(request) {
  if (!holdsFiles(request)) {
    const text = JSON.stringify(request);
    const type = "Content-Type: application/json";
    return { body: text, headers: { "Content-Type": "application/json" }, curl: `-H ${quoted(type)} -d ${quoted(text)}` };
  }
  const entries = formEntries(request);
  const form = new FormData();
  for (const [name, value] of entries) {
    if (typeof value === "string") form.append(name, value);
    else form.append(name, value.blob, value.name);
  }
  // --form-string takes a text as it is; -F would read one that begins with @ from a file.
  const curl = entries.map(([name, value]) =>
    (typeof value === "string" ? `--form-string ${quoted(`${name}=${value}`)}` : `-F ${quoted(`${name}=@${value.name}`)}`));
  return { body: form, headers: {}, curl: curl.join(" ") };
}

/** An answer as JSON for people to read: long data: URLs are cut. */
function readableJson(value) {
  const cut = (_, each) => (typeof each === "string" && each.length > 1000 && each.startsWith("data:")
    ? `${each.slice(0, 60)}… (${bytesInWords(each.length)} in all)` : each);
  return JSON.stringify(value, cut, 2);
}

/** The command for people to read: a key is not shown. */
function curlCommand(sent, address, key) {
  const header = key ? `-H ${quoted(`X-Api-Key: ${key}`)} ` : "";
  return `curl ${header}${sent.curl} ${quoted(address)}`.replace(/'(https?:[\w./:-]+)'$/, "$1");
}

/** Put a text into the clipboard. Browsers offer `navigator.clipboard` to pages from https and localhost alone. */
async function copyText(text) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const area = element("textarea", {});
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

/** Show a spinner with a running clock in `place`; gives the function that ends it. */
function runClock(place) {
  const start = performance.now();
  const time = element("span", {}, "0.0 s");
  const timer = setInterval(() => {
    time.textContent = `${((performance.now() - start) / 1000).toFixed(1)} s`;
  }, 100);
  place.replaceChildren(element("span", { class: "spinner" }), time);
  place.hidden = false;
  return () => {
    clearInterval(timer);
    place.hidden = true;
  };
}

/** What a refusal with status 403 means: {words, asksForKey}. API Gateway gives the reasons in its own words. */
function refusedAccess(message, key) {
  if (/token|signature|authorization/i.test(message || "")) {
    return { words: `This API takes only requests that are signed with AWS credentials, and a page cannot sign. The API said: ${message}.`, asksForKey: false };
  }
  if (message !== "Forbidden" && message) return { words: message, asksForKey: false };
  return key
    ? { words: "The API refused this key. Check the key for mistakes, and whether it belongs to this API.", asksForKey: true }
    : { words: "This API needs a key. Enter your key in the form.", asksForKey: true };
}
