"use strict";
(() => {
  const form = document.getElementById("filter");
  const words = document.getElementById("words");
  const shown = document.getElementById("shown");
  const all = document.getElementById("open");
  const buttons = [...form.querySelectorAll("[data-status]")];
  const clauses = [...document.querySelectorAll("tr.clause")].map((row) => {
    const drill = row.nextElementSibling;
    return { row, drill, details: row.querySelector("details"), cases: [...drill.querySelectorAll(".cases tbody tr")] };
  });

  // The text of a row, read once and only when something is searched for.
  const texts = new Map();
  const text = (node) => {
    if (!texts.has(node)) texts.set(node, node.textContent.toLowerCase());
    return texts.get(node);
  };

  function filter() {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const statuses = buttons.filter((b) => b.getAttribute("aria-pressed") === "true").map((b) => b.dataset.status);
    const has = (node, before = "") => wanted.every((word) => before.includes(word) || text(node).includes(word));
    const selector = statuses.map((status) => `td > .s.${status}`).join(",");
    let clauseCount = 0, caseCount = 0;
    for (const { row, drill, cases } of clauses) {
      const title = text(row.querySelector("summary"));
      let left = 0;
      for (const one of cases) {
        const fits = has(one, title) && (!selector || one.querySelector(selector) !== null);
        one.hidden = !fits;
        left += fits;
      }
      const empty = cases.length === 0 && !selector && wanted.every((word) => title.includes(word));
      const fits = left > 0 || empty;
      row.hidden = drill.hidden = !fits;
      clauseCount += fits;
      caseCount += left;
    }
    for (const group of document.querySelectorAll(".matrix > tbody")) {
      group.hidden = !group.querySelector("tr.clause:not([hidden])");
    }
    const whole = !wanted.length && !statuses.length;
    shown.textContent = whole ? "" : `${clauseCount} of ${clauses.length} clauses, ${caseCount} entries`;
  }

  function reveal() {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    const details = target.matches("details") ? target : target.querySelector("details");
    if (details && target.matches("details, tr.clause")) details.open = true;
    target.scrollIntoView();
  }

  for (const { row, details } of clauses) {
    row.addEventListener("click", (event) => {
      if (event.target.closest("summary, a") || String(getSelection())) return;
      details.open = !details.open;
    });
  }
  for (const button of buttons) {
    button.addEventListener("click", () => {
      button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
      filter();
    });
  }
  all.addEventListener("click", () => {
    const open = all.textContent === "Open all";
    for (const { row, details } of clauses) if (!row.hidden) details.open = open;
    all.textContent = open ? "Close all" : "Open all";
  });
  words.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", reveal);
  form.hidden = false;
  filter();
  reveal();
})();
