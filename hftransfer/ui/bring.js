// Folders, several files and what is pasted become the one file that an upload is: a zip, packed here, or a table.
(() => {
  const MOST = 65535, LARGEST = 4 * 2 ** 30 - 2 ** 20;  // entries and bytes of a zip without its later extensions
  const told = window.hftransferWords || {};
  const TABLE = Array.from({ length: 256 }, (_, n) => {
    for (let bit = 0; bit < 8; bit += 1) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
    return n >>> 0;
  });

  function checksum(bytes) {
    let found = 0xffffffff;
    for (const byte of bytes) found = TABLE[(found ^ byte) & 255] ^ (found >>> 8);
    return (found ^ 0xffffffff) >>> 0;
  }

  // numbers of so many bytes each, the least first
  function numbers(...pairs) {
    const bytes = new Uint8Array(pairs.reduce((sum, [, size]) => sum + size, 0));
    let at = 0;
    for (const [value, size] of pairs)
      for (let place = 0; place < size; place += 1) bytes[at++] = Math.floor(value / 2 ** (8 * place)) & 255;
    return bytes;
  }

  // files by their names, stored as they are
  async function packed(found) {
    const parts = [], index = [];
    let at = 0, held = 0;
    for (const [name, file] of found) {
      const called = new TextEncoder().encode(name);
      const crc = checksum(new Uint8Array(await file.arrayBuffer()));
      const about = [[20, 2], [0x800, 2], [0, 2], [0, 2], [0x21, 2], [crc, 4], [file.size, 4], [file.size, 4],
        [called.length, 2], [0, 2]];
      const head = numbers([0x04034b50, 4], ...about);
      index.push(numbers([0x02014b50, 4], [20, 2], ...about, [0, 2], [0, 2], [0, 2], [0, 4], [at, 4]), called);
      parts.push(head, called, file);
      at += head.length + called.length + file.size;
    }
    for (const part of index) held += part.length;
    const end = numbers([0x06054b50, 4], [0, 2], [0, 2], [found.length, 2], [found.length, 2], [held, 4], [at, 4], [0, 2]);
    return new Blob([...parts, ...index, end]);
  }

  function hand(file) {
    const input = document.querySelector("#upload input[type=file]");
    if (!input) return;
    const bag = new DataTransfer();
    bag.items.add(file);
    input.files = bag.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  }

  // [name, file] each: one alone goes as it is, several as a zip called after the folder that holds them
  async function bring(found, alone = true) {
    const kept = found.filter(([name]) => !name.split("/").some((part) => part.startsWith(".")));
    if (!kept.length) return;
    if (kept.length === 1 && alone) return hand(kept[0][1]);
    if (kept.length > MOST || kept.reduce((sum, [, file]) => sum + file.size, 0) > LARGEST) return alert(told.large);
    const folders = new Set(kept.map(([name]) => (name.includes("/") ? name.split("/")[0] : "")));
    const called = folders.size === 1 && !folders.has("") ? [...folders][0] : "files";
    hand(new File([await packed(kept)], `${called}.zip`, { type: "application/zip" }));
  }

  async function within(entry, above = "") {
    const name = above + entry.name;
    if (entry.isFile) return [[name, await new Promise((done, failed) => entry.file(done, failed))]];
    const reader = entry.createReader(), found = [];
    for (;;) {  // a browser lists a hundred at a time
      const some = await new Promise((done, failed) => reader.readEntries(done, failed));
      if (!some.length) return found;
      for (const one of some) found.push(...(await within(one, `${name}/`)));
    }
  }

  window.hftransferBring = () => {
    const input = Object.assign(document.createElement("input"), { type: "file", webkitdirectory: true });
    input.addEventListener("change", () => {
      bring([...input.files].map((file) => [file.webkitRelativePath || file.name, file]), false);
    });
    input.click();
  };

  document.addEventListener("drop", async (event) => {
    if (!event.target.closest?.("#upload")) return;
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    const files = [...event.dataTransfer.files];
    const folder = entries.some((entry) => entry.isDirectory);
    if (!folder && files.length < 2) return;  // one file is Gradio's
    event.preventDefault();
    event.stopImmediatePropagation();
    if (!folder) return bring(files.map((file) => [file.name, file]));
    const found = [];
    for (const entry of entries) found.push(...(await within(entry)));
    return bring(found, false);
  }, true);

  document.addEventListener("paste", (event) => {
    if (document.documentElement.dataset.step !== "data" || !document.getElementById("upload")?.offsetParent) return;
    if (event.target.closest?.("input, textarea, [contenteditable=true]")) return;
    const files = [...event.clipboardData.files], text = event.clipboardData.getData("text/plain");
    if (files.length) bring(files.map((file) => [file.name, file]));
    else if (text.trim().includes("\n")) hand(new File([text], text.includes("\t") ? "pasted.tsv" : "pasted.csv"));
  });
})();
