"use strict";
(() => {
  const panels = JSON.parse(document.getElementById("panels").textContent);
  const panel = document.getElementById("panel");
  const all = selector => [...document.querySelectorAll(selector)];
  // Text goes in as textContent only: names in a run are the user's, and are never read as HTML.
  const add = (parent, tag, text) => {
    const made = parent.appendChild(document.createElement(tag));
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const list = (parent, tag, items) => {
    const made = add(parent, tag);
    items.forEach(item => add(made, "li", item));
  };

  const choose = id => {
    const chosen = panels[id];
    if (!chosen || !panel) return;
    panel.replaceChildren();
    add(add(panel, "h3", chosen.kind + " "), "code", chosen.id);
    const facts = add(panel, "dl");
    for (const [what, value] of chosen.facts) {
      const row = add(facts, "div");
      add(row, "dt", what);
      add(row, "dd", value);
    }
    if (chosen.failed) {
      add(panel, "h4", "Failed");
      add(panel, "p", chosen.failed);
    }
    add(panel, "h4", "Model");
    add(panel, "p", chosen.spec);
    add(panel, "h4", "Recipe");
    const steps = add(panel, "ol");
    for (const step of chosen.steps) {
      const item = add(steps, "li");
      add(item, "strong", step.name);
      if (step.settings.length) list(item, "ul", step.settings.map(([name, text]) => `${name}: ${text}`));
    }
    add(panel, "h4", "Notes");
    if (chosen.notes.length) list(panel, "ul", chosen.notes);
    else add(panel, "p", "No layer was left alone.");
    panel.scrollTop = 0;
    all(".mark[data-id]").forEach(mark => mark.classList.toggle("chosen", mark.dataset.id === id));
  };

  all("svg.frontier").forEach(svg => {
    const tip = svg.parentElement.querySelector(".tip");
    const marks = [...svg.querySelectorAll(".mark[data-id]")].sort((a, b) => a.dataset.x - b.dataset.x);
    let shown = null;
    const show = mark => {
      if (shown) shown.classList.remove("near");
      shown = mark;
      tip.hidden = !mark;
      if (!mark) return;
      mark.classList.add("near");
      tip.textContent = mark.getAttribute("aria-label");
      const scale = svg.clientWidth / svg.viewBox.baseVal.width;
      const x = mark.dataset.x * scale, y = mark.dataset.y * scale;
      tip.style.left = Math.max(0, Math.min(x + 12, svg.clientWidth - tip.offsetWidth)) + "px";
      tip.style.top = (y > tip.offsetHeight + 16 ? y - tip.offsetHeight - 14 : y + 16) + "px";
    };
    const nearest = event => {
      const box = svg.getBoundingClientRect(), scale = box.width / svg.viewBox.baseVal.width;
      const away = mark => Math.hypot(mark.dataset.x * scale - event.clientX + box.left, mark.dataset.y * scale - event.clientY + box.top);
      const best = marks.reduce((a, b) => (away(b) < away(a) ? b : a), marks[0]);
      return best && away(best) < 26 ? best : null;
    };
    svg.addEventListener("pointermove", event => show(nearest(event)));
    svg.addEventListener("pointerleave", () => show(null));
    svg.addEventListener("click", event => {
      const mark = nearest(event) || event.target.closest(".mark[data-id]");
      if (mark) choose(mark.dataset.id);
    });
    marks.forEach((mark, at) => {
      mark.addEventListener("focus", () => show(mark));
      mark.addEventListener("blur", () => show(null));
      mark.addEventListener("keydown", event => {
        const to = { ArrowRight: at + 1, ArrowUp: at + 1, ArrowLeft: at - 1, ArrowDown: at - 1, Home: 0, End: marks.length - 1 }[event.key];
        if (to !== undefined && marks[to]) {
          marks.forEach(other => other.setAttribute("tabindex", -1));
          marks[to].setAttribute("tabindex", 0);
          marks[to].focus();
        } else if (event.key === "Enter" || event.key === " ") choose(mark.dataset.id);
        else return;
        event.preventDefault();
      });
    });
  });

  all("[data-pick]").forEach(button => button.addEventListener("click", () => {
    choose(button.dataset.pick);
    if (panel) panel.scrollIntoView({ block: "center" });
  }));
  addEventListener("beforeprint", () => all("details").forEach(details => (details.open = true)));
})();
