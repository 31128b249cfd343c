"use strict";
// Lists the utterances, of which the page holds the data. Texts are inserted as text, never as HTML.
(() => {
  // Only tables that are wider than the window need the keyboard to scroll.
  const scrolled = document.querySelectorAll(".scroll");
  const setStops = () => scrolled.forEach((each) => { each.tabIndex = each.scrollWidth > each.clientWidth ? 0 : -1; });
  addEventListener("resize", setStops);
  document.addEventListener("toggle", setStops, true);
  setStops();

  const holder = document.getElementById("data");
  if (!holder) return;
  const data = JSON.parse(holder.textContent);
  const PAGE = 50;
  const NAMES = { S: "substituted", D: "deleted", I: "inserted" };
  const PLAYABLE = /\.(wav|flac|mp3|ogg|oga|opus|m4a|aac|webm)(#|$)/i;
  const byId = (id) => document.getElementById(id);
  const list = byId("list"), more = byId("more"), status = byId("status"), errorFilter = byId("error-filter");
  const controls = ["search", "speaker", "kind", "differ", "order"].map(byId).filter(Boolean);

  // A row: ID, number of the speaker, seconds, and for each experiment the columns of its alignment.
  const utterances = data.utterances.map(([id, speaker, seconds, alignments], place) => {
    const counts = alignments.map(count);
    const known = counts.filter(Boolean);
    const errors = known.map((each) => each.errors);
    return {
      id, seconds, alignments, counts, place,
      speaker: speaker < 0 ? "" : data.speakers[speaker],
      words: known[0].words,
      errors: errors.reduce((sum, each) => sum + each, 0),
      difference: Math.max(...errors) - Math.min(...errors),
    };
  });

  function count(columns) {
    if (!columns) return null;
    const counts = { words: 0, errors: 0, S: 0, D: 0, I: 0 };
    for (const column of columns) {
      if (typeof column === "string") {
        counts.words += column.split(" ").length;
      } else {
        counts[column[0]] += 1;
        counts.errors += 1;
        if (column[0] !== "I") counts.words += 1;
      }
    }
    return counts;
  }

  const recognized = (columns) => (columns || []).map((c) => (typeof c === "string" ? c : c[2])).filter(Boolean).join(" ");
  const everything = (columns) => (columns || []).map((c) => (typeof c === "string" ? c : `${c[1]} ${c[2]}`)).join(" ");

  // Filters and order

  let error = null; // [operation, reference, hypothesis] of a confusion that was chosen
  let found = [], listed = 0;

  const FILTERS = {
    search: (text) => {
      const wanted = text.trim().toLowerCase();
      return (each) => each.id.toLowerCase().includes(wanted)
        || ` ${each.alignments.map(everything).join(" ")} `.toLowerCase().includes(wanted);
    },
    speaker: (name) => (each) => each.speaker === name,
    kind: (kind) => (each) => (kind === "C" ? each.errors === 0 : kind === "E" ? each.errors > 0
      : each.counts.some((counts) => counts && counts[kind] > 0)),
    differ: (how) => (each) => (how === "words"
      ? new Set(each.alignments.map(recognized)).size > 1
      : each.counts[how] && each.counts.every((counts, other) => other === Number(how)
        || (counts && counts.errors > each.counts[how].errors))),
  };
  const ORDERS = {
    errors: (a, b) => b.errors - a.errors,
    rate: (a, b) => b.errors / Math.max(b.words, 0.5) - a.errors / Math.max(a.words, 0.5),
    difference: (a, b) => b.difference - a.difference,
    length: (a, b) => (b.seconds ?? b.words) - (a.seconds ?? a.words),
    id: (a, b) => (a.id < b.id ? -1 : 1),
  };

  function update() {
    const wanted = controls.filter((control) => FILTERS[control.id] && control.value.trim());
    const tests = wanted.map((control) => FILTERS[control.id](control.value));
    if (error) tests.push((each) => each.alignments.some((columns) => (columns || []).some(isError)));
    const order = ORDERS[byId("order").value];
    found = utterances.filter((each) => tests.every((test) => test(each)));
    found.sort((a, b) => order(a, b) || a.place - b.place);
    listed = 0;
    list.replaceChildren();
    errorFilter.hidden = !error;
    if (error) {
      const clear = make("button", "", "Show all");
      clear.type = "button";
      clear.addEventListener("click", () => { error = null; update(); byId("search").focus(); });
      errorFilter.replaceChildren("Only utterances with ", showError(error), " ", clear);
    }
    show();
  }

  const isError = (column) => typeof column !== "string" && column.every((part, place) => part === error[place]);

  function show() {
    const next = found.slice(listed, listed + PAGE);
    list.append(...next.map(item));
    listed += next.length;
    more.hidden = listed >= found.length;
    const all = found.length === utterances.length ? "" : ` of ${utterances.length.toLocaleString("en")}`;
    status.textContent = found.length === 0 ? "No utterance fits these filters."
      : `${found.length.toLocaleString("en")}${all} utterance${found.length === 1 && !all ? "" : "s"}`
        + (listed < found.length ? `, the first ${listed.toLocaleString("en")} shown` : "");
    return next.length;
  }

  // Elements

  function make(name, className, ...children) {
    const element = document.createElement(name);
    if (className) element.className = className;
    element.append(...children);
    return element;
  }

  const word = (name, text) => make(name, "", make("bdi", "", text));

  function showError([operation, reference, hypothesis]) {
    const element = make("span", `error ${operation}`, make("span", "hidden", `${NAMES[operation]}: `));
    if (operation !== "I") element.append(word("del", reference));
    if (operation === "S") element.append(make("span", "arrow", "→"));
    if (operation !== "D") element.append(word("ins", hypothesis));
    return element;
  }

  function marker(number) {
    const space = "http://www.w3.org/2000/svg";
    const drawing = document.createElementNS(space, "svg");
    const use = document.createElementNS(space, "use");
    drawing.setAttribute("class", "badge");
    drawing.setAttribute("viewBox", "-7 -7 14 14");
    drawing.setAttribute("aria-hidden", "true");
    use.setAttribute("href", `#marker${number}`);
    use.setAttribute("class", `marker s${number}`);
    drawing.append(use);
    return drawing;
  }

  function item(each) {
    const facts = make("div", "facts", make("span", "id", each.id));
    if (each.speaker && each.speaker !== each.id) facts.append(make("bdi", "", each.speaker));
    if (each.seconds !== null) facts.append(make("span", "", `${each.seconds.toFixed(1)} s`));
    facts.append(...audio(each));
    const words = make("div", "words");
    each.alignments.forEach((columns, number) => {
      const experiment = data.experiments[number], counts = each.counts[number];
      const text = make("div", "text");
      text.dir = "auto";
      for (const column of columns || []) text.append(typeof column === "string" ? column : showError(column), " ");
      if (!columns) text.append(make("i", "", "not in this experiment"));
      const tally = make("span", "tally", counts ? `${counts.errors} / ${counts.words}` : "");
      if (counts) tally.title = `${counts.errors} errors, ${counts.words} words`;
      const which = make("div", "which", make("span", "", marker(experiment.number), experiment.letter), tally);
      if (!experiment.letter) which.replaceChildren(tally);
      words.append(which, text);
    });
    return make("li", "utterance", facts, words);
  }

  // Audio

  const player = new Audio();
  let playing = null;

  function stop() {
    player.pause();
    if (playing) playing.textContent = "▶ Play";
    playing = null;
  }
  player.addEventListener("ended", stop);
  player.addEventListener("pause", stop);

  function audio(each) {
    const inside = data.audio[each.place], address = data.links[each.place];
    if (!inside && !address) return [];
    if (!inside && !PLAYABLE.test(address)) {
      const anchor = make("a", "", "Audio file");
      anchor.href = address;
      anchor.setAttribute("aria-label", `Audio file of ${each.id}`);
      return [anchor];
    }
    const button = make("button", "play", "▶ Play");
    button.type = "button";
    button.setAttribute("aria-label", `Play ${each.id}`);
    button.addEventListener("click", () => {
      const again = playing === button;
      stop();
      if (again) return;
      player.src = inside ? `data:audio/mpeg;base64,${inside}` : address;
      player.play().then(() => { playing = button; button.textContent = "■ Stop"; })
        .catch(() => { button.textContent = "Audio cannot be played"; button.disabled = true; });
    });
    return [button];
  }

  // Names of speakers and errors in the tables above choose utterances.

  function choose(cell, label, action) {
    const button = make("button", "find", ...cell.childNodes);
    button.type = "button";
    button.title = label;
    button.addEventListener("click", () => {
      action();
      update();
      byId("utterances").scrollIntoView();
      byId("search").focus({ preventScroll: true });
    });
    cell.replaceChildren(button);
  }

  function clearFilters() {
    error = null;
    for (const control of controls) if (control.id !== "order") control.value = "";
  }

  for (const cell of document.querySelectorAll("[data-speaker]")) {
    choose(cell, "List the utterances of this speaker", () => {
      clearFilters();
      byId("speaker").value = cell.dataset.speaker;
    });
  }
  for (const cell of document.querySelectorAll("[data-kind]")) {
    choose(cell, "List the utterances with this error", () => {
      clearFilters();
      error = [cell.dataset.kind, cell.dataset.reference, cell.dataset.hypothesis];
    });
  }

  byId("filters").hidden = false;
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  for (const control of controls) control.addEventListener("input", update);
  more.addEventListener("click", () => {
    const before = listed;
    show();
    // The keyboard goes on where the list did.
    const first = list.children[before];
    first.tabIndex = -1;
    first.focus();
  });
  update();
})();
