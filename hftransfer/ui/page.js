// Which of the six steps is shown lives in the address (#train), so that it can be linked, and back and forward work.
(() => {
  const STEPS = ["data", "model", "train", "result", "try", "publish"];
  const root = document.documentElement;

  function show() {
    const asked = location.hash.slice(1);
    const step = STEPS.includes(asked) ? asked : "data";
    const changed = root.dataset.step !== step;
    root.dataset.step = step;
    document.querySelectorAll(".steps a").forEach((link) => {
      if (link.hash.slice(1) === step) link.setAttribute("aria-current", "step");
      else link.removeAttribute("aria-current");
    });
    if (changed) window.scrollTo(0, 0);
    if (step === "data" && document.getElementById("look-later")) document.getElementById("look-now")?.click();
  }

  window.hftransfer = {
    go(step) {
      if (location.hash.slice(1) !== step) location.hash = step;
      show();
    },
    asked() {
      return [new URL(location.href).searchParams.get("run") || "", root.dataset.step];
    },
    sure(name) {
      return confirm(told.delete.replace("NAME", name));
    },
    run(name) {
      const address = new URL(location.href);
      if (name) address.searchParams.set("run", name);
      else address.searchParams.delete("run");
      if (address.href !== location.href) history.replaceState(null, "", address);
    },
  };

  const told = window.hftransferWords || {};
  root.lang = told.tag || "en";
  const spoken = ["going", "task-said"];  // what a screen reader is told when it changes: sentences, no figures
  show();
  // a link to #train would load the page anew where the address names a run: the page's base has no query
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href^='#']");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    window.hftransfer.go(link.getAttribute("href").slice(1));
  });
  window.addEventListener("hashchange", show);
  window.addEventListener("popstate", show);
  // the links appear once Gradio has drawn the page; the small words below them come with each look at the run
  let known = "";
  new MutationObserver(() => {
    const words = document.getElementById("nav-texts");
    const now = words ? words.outerHTML : "";
    spoken.forEach((name) => document.getElementById(name)?.setAttribute("aria-live", "polite"));
    const links = document.querySelectorAll(".steps a");
    if (!links.length || (now === known && links[0].dataset.known)) return;
    known = now;
    links.forEach((link) => {
      link.dataset.known = "yes";
      link.querySelector("small").textContent = words?.dataset[link.hash.slice(1)] || "";
    });
    show();
  }).observe(root, { childList: true, subtree: true });
  // cards stand in a group: the arrow keys move within it, as in a group of radio buttons
  document.addEventListener("keydown", (event) => {
    const card = event.target.closest?.("[data-pick]");
    const move = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!card || !move) return;
    const cards = [...card.parentElement.querySelectorAll("[data-pick]")];
    cards[(cards.indexOf(card) + move + cards.length) % cards.length].focus();
    event.preventDefault();
  });

  // another language is in the page's address, so that a link keeps it
  document.addEventListener("click", (event) => {
    const language = event.target.closest?.(".languages button")?.dataset.language;
    if (!language) return;
    const address = new URL(location.href);
    address.searchParams.set("lang", language);
    history.replaceState(null, "", address);
    location.reload();
  });

  // a button that copies a link: it says so for a moment
  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.("[data-copies]");
    const link = button && document.querySelector(button.dataset.copies);
    if (!link) return;
    try {
      await navigator.clipboard.writeText(link.href);
    } catch {
      window.getSelection().selectAllChildren(link);
      return;
    }
    const words = button.textContent;
    button.textContent = told.copied;
    setTimeout(() => { button.textContent = words; }, 2000);
  });

  // a box that searches what stands below it
  document.addEventListener("input", (event) => {
    const finds = event.target.dataset?.finds;
    if (!finds) return;
    const wanted = event.target.value.trim().toLowerCase();
    document.querySelectorAll(finds).forEach((one) => { one.hidden = !one.dataset.words.includes(wanted); });
  });

  // what to do next: cards that lead somewhere
  document.addEventListener("click", (event) => {
    const pick = event.target.closest?.("#next [data-pick]")?.dataset.pick || "";
    if (pick.startsWith("go:")) window.hftransfer.go(pick.slice(3));
    if (pick === "mend") document.getElementById("mending")?.scrollIntoView({ behavior: "smooth" });
  });

  // labels to mend: a key for each choice, while nothing is being typed
  document.addEventListener("keydown", (event) => {
    const button = { 1: "mend-keep", 2: "mend-change", 3: "mend-drop" }[event.key];
    if (!button || event.ctrlKey || event.metaKey || event.altKey || root.dataset.step !== "result") return;
    if (event.target.closest?.("input, textarea, [contenteditable=true]")) return;
    const found = document.getElementById(button);
    if (found?.offsetParent) found.click();
  });

  // When the app was started anew, this page talks to nobody: it loads itself again and finds the same run. While the
  // app does not answer, a line says so; runs go on without it.
  let serving = null;
  async function watchApp() {
    if (document.hidden) return;
    const banner = document.getElementById("gone");
    try {
      const answer = await fetch(new URL("gradio_api/app_id", document.baseURI), { cache: "no-store" });
      if (!answer.ok) throw new Error(String(answer.status));
      const { app_id: now } = await answer.json();
      if (serving !== null && serving !== now) location.reload();
      serving = now;
      banner?.remove();
    } catch {
      if (banner || serving === null) return;
      const line = Object.assign(document.createElement("div"), {
        id: "gone", textContent: told.gone,
      });
      line.setAttribute("role", "status");
      document.body.append(line);
    }
  }
  setInterval(watchApp, 3000);
  document.addEventListener("visibilitychange", watchApp);
  watchApp();
})();
