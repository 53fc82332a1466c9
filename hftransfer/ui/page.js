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

  const REST = 150;  // milliseconds without a change after which the form is at rest
  let resting = null, editions = 0;
  const said = {};
  const written = (form) => JSON.stringify(form.map((one) => (one === "" || one?.length === 0 ? null : one ?? null)));
  window.hftransfer = {
    go(step) {
      if (location.hash.slice(1) !== step) location.hash = step;
      show();
    },
    asked() {
      return [new URL(location.href).searchParams.get("run") || "", root.dataset.step];
    },
    // what a message was said of, and whether the form is another one since: empty is empty, however it is written
    saidOf(name, form) {
      said[name] = written(form);
      return [];
    },
    stale(name, form) {
      if (!(name in said) || said[name] === written(form)) return false;
      delete said[name];
      return true;
    },
    // a new edition for each of so many handlers, once the form is at rest; nothing to a call that another one followed
    settled(many) {
      if (resting) {
        clearTimeout(resting.timer);
        resting.answer([]);
      }
      return new Promise((answer) => {
        const timer = setTimeout(() => {
          resting = null;
          editions += 1;
          answer(Array(many).fill(String(editions)));
        }, REST);
        resting = { timer, answer };
      });
    },
    // a file that a button asks for is handed over once it is written, and forgotten: the next click writes it anew
    writing(id) {
      document.getElementById(id)?.setAttribute("aria-busy", "true");
      return [];
    },
    written(id, file) {
      document.getElementById(id)?.removeAttribute("aria-busy");
      if (file?.url) Object.assign(document.createElement("a"), { href: file.url, download: file.orig_name || "" }).click();
      return null;
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
  // each widget of the form is called something in a configuration: its title says what
  let keys = null;
  function nameKeys() {
    keys ??= JSON.parse(document.getElementById("config-keys")?.dataset.keys || "null");
    for (const [id, key] of Object.entries(keys || {})) {
      const label = document.querySelector(`#${id} [data-testid=block-info], #${id} label`);
      if (label && label.title !== key) label.title = key;
    }
  }
  // Gradio names each radio button apart: of one name they are one stop of the Tab key, and arrows move among them
  function joinRadios() {
    for (const group of document.querySelectorAll(".segmented"))
      group.querySelectorAll("input[type=radio]").forEach((one, _, all) => {
        if (one.name !== all[0].name) one.name = all[0].name;
      });
  }
  // Gradio calls each message "Error", in English: ours are of what is not there yet
  function nameRefusals() {
    for (const title of document.querySelectorAll("[data-testid=toast-body] .toast-title.error"))
      for (const words of title.childNodes)
        if (words.nodeType === Node.TEXT_NODE && words.data.trim() === "Error") words.data = `${told.refused} `;
  }
  // the links appear once Gradio has drawn the page; the small words below them come with each look at the run
  let known = "";
  new MutationObserver(() => {
    const words = document.getElementById("nav-texts");
    const now = words ? words.outerHTML : "";
    nameKeys();
    nameRefusals();
    joinRadios();
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

  // Train pressed while rows are still read waits for them: what a task is guessed to be is part of what is trained
  let pressed = null;
  const reading = () => document.querySelector("#data-said .progress.waiting");
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("#train-now");
    if (!button || !reading()) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    button.setAttribute("aria-busy", "true");
    pressed = button;
  }, true);
  setInterval(() => {
    if (!pressed || reading()) return;
    const button = pressed;
    pressed = null;
    button.removeAttribute("aria-busy");
    if (document.querySelector("#data-rows table") && !document.querySelector("#panel-data .note.bad")) button.click();
  }, 200);

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

  // labels to mend: a key for each choice, while nothing is being typed; none before the next row is there to be seen
  const asked = { words: "", at: 0 };
  document.addEventListener("keydown", (event) => {
    const button = { 1: "mend-keep", 2: "mend-change", 3: "mend-drop" }[event.key];
    if (!button || event.ctrlKey || event.metaKey || event.altKey || root.dataset.step !== "result") return;
    if (event.target.closest?.("input, textarea, [contenteditable=true]")) return;
    const found = document.getElementById(button);
    const words = document.getElementById("mend-row")?.textContent;
    if (!found?.offsetParent || (asked.words === words && Date.now() - asked.at < 3000)) return;
    Object.assign(asked, { words, at: Date.now() });
    found.click();
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
