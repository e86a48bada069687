"""The script of a response's page: pick tokens of the response, colour the prompt by their scores, fold what is weak.

Plain JavaScript without a library. It reads the numbers from a JSON element, writes text by `textContent` only, and
loads nothing.
"""

SCRIPT = r"""
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("amortex").textContent);
  const root = document.querySelector(".amortex.live");
  const find = (selector) => root.querySelector(selector);
  const said = find(".said"), list = find(".top"), picks = [...said.querySelectorAll(".t")];
  const sources = [];
  for (const one of root.querySelectorAll(".w[data-s]")) sources[one.dataset.s] = one;

  // The scores: one row of 16-bit integers per token, each with its own scale.
  const bytes = Uint8Array.from(atob(data.cells), (c) => c.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  const cell = (token, source) => view.getInt16(2 * (token * data.n + source), true) * data.scales[token];
  const isGiven = (a, b) => a === data.span[0] && b === data.span[1];

  function scoresOf(a, b) {
    if (isGiven(a, b)) return data.scores;
    const sums = new Array(data.n).fill(0);
    for (let token = a; token < b; token++) {
      for (let source = 0; source < data.n; source++) sums[source] += cell(token, source);
    }
    return sums;
  }

  const short = (value) => String(Number(value.toPrecision(3))).replace("-", "\u2212");
  const signed = (value) => (value > 0 ? "+" : "") + short(value);
  const largestOf = (values) => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);

  function colour(element, strength, kinds) {
    const depth = Math.abs(strength), side = strength > 0 ? data.for : data.against;
    element.style.background = depth ? `rgba(${side.join(",")},${depth.toFixed(3)})` : "";
    for (const kind of ["for", "against", "zero", "strong", "full"]) element.classList.remove(kind);
    if (!kinds) return;
    element.classList.add(strength > 0 ? "for" : strength < 0 ? "against" : "zero");
    if (depth > data.strong) element.classList.add("strong");
    if (depth > data.full) element.classList.add("full");
  }

  // Folding: long prompts keep windows around their strongest sources; a click on a gap opens it.
  const signs = "\\u0e00-\\u0eff\\u3040-\\u30ff\\u3400-\\u9fff";
  const word = new RegExp(`[${signs}]|(?:(?![${signs}])[\\p{L}\\p{N}_])+(?:[\u0027\u2019][\\p{L}\\p{N}_]+)*`, "gu");
  const wordsIn = (text) => (text.match(word) || []).length;
  const cutStart = new RegExp(`^.*(?=.{${data.context}})\\S*`), cutEnd = new RegExp(`(?<=^.{${data.context}})\\S*.*$`);
  const parts = [], around = [];
  root.querySelectorAll(".message .heat").forEach((heat, message) => {
    const whole = heat.textContent;
    let start = 0;
    for (const element of heat.children) {
      const own = element.textContent, end = start + own.length, source = element.dataset.s;
      parts.push({ element, message, words: wordsIn(own), source });
      if (source !== undefined) {
        const before = whole.slice(0, start).split("\n").pop(), after = whole.slice(end).split("\n")[0];
        around[source] = own.length > data.context ? ["", own, ""] : [before.replace(cutStart, "\u2026"), own,
          after.replace(cutEnd, "\u2026")];
      }
      start = end;
    }
  });
  const total = parts.reduce((sum, part) => sum + part.words, 0);
  const context = 8, close = 8;

  function fold(scores) {
    for (const gap of root.querySelectorAll("button.gap")) gap.remove();
    for (const part of parts) part.element.classList.remove("away");
    if (data.words === null || total <= 1.2 * data.words) return;
    const strength = (part) => (part.source === undefined ? -1 : Math.abs(scores[part.source]));
    const order = parts.map((_, i) => i).sort((i, j) => strength(parts[j]) - strength(parts[i]));
    const kept = new Set();
    let shown = 0;
    const near = (centre) => {
      const window = [centre];
      for (const step of [-1, 1]) {
        let words = 0;
        for (let i = centre + step; parts[i] && parts[i].message === parts[centre].message; i += step) {
          words += parts[i].words;
          if (words > context) break;
          window.push(i);
        }
      }
      return window.filter((i) => !kept.has(i));
    };
    const least = 0.03 * largestOf(scores);
    for (const centre of order) {
      if (kept.size && strength(parts[centre]) < least) break;
      const window = near(centre), words = window.reduce((sum, i) => sum + parts[i].words, 0);
      if (kept.size && shown + words > data.words) continue;
      window.forEach((i) => kept.add(i));
      shown += words;
    }
    for (let i = 0; i < parts.length; i++) {
      if (kept.has(i)) continue;
      const run = [];
      for (; i < parts.length && !kept.has(i) && (!run.length || parts[i].message === run[0].message); i++) {
        run.push(parts[i]);
      }
      i--;
      const words = run.reduce((sum, part) => sum + part.words, 0);
      if (words <= close) continue;
      const gap = document.createElement("button");
      gap.type = "button";
      gap.className = "gap";
      gap.textContent = `\u2026 ${words.toLocaleString("en")} words \u2026`;
      gap.addEventListener("click", () => {
        for (const part of run) part.element.classList.remove("away");
        gap.remove();
      });
      run[0].element.before(gap);
      for (const part of run) part.element.classList.add("away");
    }
  }

  function strongest(scores, most) {
    const order = scores.map((_, i) => i).sort((i, j) => scores[j] - scores[i]);
    const rows = order.slice(0, data.top).filter((i) => scores[i] > 0 && sources[i]).map((i) => {
      const row = document.createElement("li"), bar = document.createElement("span");
      const number = document.createElement("span"), what = document.createElement("span");
      row.dataset.s = i;
      bar.className = "bar";
      bar.style.width = `${(100 * scores[i]) / most}%`;
      bar.style.background = `rgb(${data.for.join(",")})`;
      number.className = "number";
      number.textContent = signed(scores[i]);
      what.className = "what";
      what.dir = "auto";
      const [before, own, after] = around[i].map((part) => part.replace(/\s+/g, " "));
      const bold = document.createElement("b");
      bold.textContent = own;
      what.append(before, bold, after);
      row.append(bar, number, what);
      return row;
    });
    if (!rows.length) {
      const none = document.createElement("li");
      none.className = "none";
      none.textContent = `No ${data.level} of the prompt speaks for it.`;
      rows.push(none);
    }
    list.replaceChildren(...rows);
  }

  let picked = data.span;

  function show(a, b) {
    picked = [a, b];
    const scores = scoresOf(a, b), most = largestOf(scores);
    sources.forEach((element, i) => {
      colour(element, most ? scores[i] / most : 0, true);
      element.title = signed(scores[i]);
    });
    picks.forEach((pick, k) => {
      colour(pick, 0, false);
      pick.classList.toggle("in", data.groups[k][0] < b && a < data.groups[k][1]);
    });
    said.classList.toggle("whole", b - a === data.logp.length);
    let logp = 0;
    for (let token = a; token < b; token++) logp += data.logp[token];
    const given = isGiven(a, b), n = b - a, all = data.logp.length;
    const count = n === all ? `all ${all} tokens` : `${n} of ${all} tokens`;
    find(".headline").textContent = given ? data.headline : `log-probability ${short(logp)} nats, ${count}`;
    find(".more-facts").textContent = given ? data.facts : `${data.by} \u00b7 the sum of the tokens\u2019 scores`;
    find(".meaning").textContent = most
      ? `full colour: |score| ${short(most)}, the largest ${data.level}; none at zero`
      : `no ${data.level} has a score other than zero`;
    find("button.all").disabled = n === all;
    find("button.given").disabled = given;
    strongest(scores, most);
    fold(scores);
  }

  // Picking: a click, a drag, or the arrow keys (with shift: further).
  let from = null, to = null;
  const at = (event) => {
    const over = document.elementFromPoint(event.clientX, event.clientY);
    return over && over.classList.contains("t") ? Number(over.dataset.k) : null;
  };
  const pick = (k, l) => {
    [from, to] = [k, l];
    show(data.groups[Math.min(k, l)][0], data.groups[Math.max(k, l)][1]);
  };
  let dragging = false;
  said.addEventListener("pointerdown", (event) => {
    const k = at(event);
    if (k === null || event.button) return;
    dragging = true;
    said.classList.add("dragging");
    pick(event.shiftKey && from !== null ? from : k, k);
  });
  document.addEventListener("pointermove", (event) => {
    const k = dragging ? at(event) : null;
    if (k !== null && k !== to) pick(from, k);
  });
  for (const ending of ["pointerup", "pointercancel"]) {
    document.addEventListener(ending, () => {
      dragging = false;
      said.classList.remove("dragging");
    });
  }
  said.tabIndex = 0;
  said.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const first = picks.findIndex((one) => one.classList.contains("in"));
    const next = Math.min(picks.length - 1, Math.max(0, (to === null ? first : to) + step));
    pick(event.shiftKey ? (from === null ? first : from) : next, next);
  });
  find("button.all").addEventListener("click", () => { [from, to] = [null, null]; show(0, data.logp.length); });
  find("button.given").addEventListener("click", () => { [from, to] = [null, null]; show(...data.span); });

  // A source under the pointer lights up the words of the response that it speaks for.
  let lit = false;
  root.addEventListener("pointerover", (event) => {
    const mouse = event.pointerType === "mouse" && !dragging;
    const source = mouse ? event.target.closest(".w[data-s], .top li[data-s]") : null;
    if (!source && !lit) return;
    lit = Boolean(source);
    const values = picks.map((_, k) => {
      if (!source) return 0;
      let sum = 0;
      const [first, end] = data.groups[k];
      for (let token = first; token < end; token++) sum += cell(token, Number(source.dataset.s));
      return sum;
    });
    const most = largestOf(values);
    picks.forEach((one, k) => colour(one, most ? 0.75 * values[k] / most : 0, false));
  });

  // A row of the list leads to its place in the prompt.
  list.addEventListener("click", (event) => {
    const row = event.target.closest("li[data-s]");
    if (!row) return;
    const source = sources[row.dataset.s];
    source.scrollIntoView({ behavior: "smooth", block: "center" });
    source.classList.add("flash");
    setTimeout(() => source.classList.remove("flash"), 1200);
  });

  show(...picked);
})();
"""
