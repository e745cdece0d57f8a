// The pages work without this script. With it, times are in the reader's zone, usernames copy at a
// press, one-time links need no press, files drop anywhere and show how far they are, previews change
// in place, a button that works says so, and the console's numbers are new, or said to be old.
(() => {
  "use strict";

  const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
  const format = (at, date) => {
    const now = new Date();
    const options = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
    if (date) return new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "long", year: "numeric" }).format(at);
    if (at.toDateString() !== now.toDateString()) Object.assign(options, { day: "numeric", month: "short" });
    if (at.getFullYear() !== now.getFullYear()) options.year = "numeric";
    return new Intl.DateTimeFormat("en-GB", options).format(at);
  };
  const localize = (root) => {
    for (const time of root.querySelectorAll("time[datetime]")) {
      const at = new Date(time.dateTime);
      time.title = full.format(at);
      time.textContent = format(at, "date" in time.dataset);
    }
  };
  localize(document);

  // What comes in is made local before it is compared with what is there, so that nothing flickers, and what was
  // unfolded stays so.
  document.addEventListener("htmx:before:swap", (event) => {
    for (const { fragment } of event.detail.tasks) {
      localize(fragment);
      for (const details of fragment.querySelectorAll("details[id]")) details.open ||= Boolean(document.getElementById(details.id)?.open);
    }
  });

  document.addEventListener("htmx:config:request", (event) => {
    const { sourceElement, sourceEvent, request } = event.detail.ctx;
    if (sourceEvent.type === "every" && (document.hidden || (sourceElement === live && streaming()))) event.preventDefault();
    if (sourceElement.matches("[role=search]")) for (const [name, value] of [...request.body]) if (value === "") request.body.delete(name);
  });

  // A session that has ended redirects to the sign-in page: that is a page, not a part of this one.
  document.addEventListener("htmx:before:response", (event) => {
    const { raw } = event.detail.ctx.response;
    if (!raw.redirected) return;
    event.preventDefault();
    location.assign(raw.url);
  });

  // A preview is written into its frame: a frame that is led elsewhere flickers, forgets how far it was read, and
  // is a step of its own for the back button.
  document.addEventListener("htmx:after:swap", async () => {
    const frame = document.querySelector("[data-preview] iframe");
    const address = frame?.parentElement.dataset.preview;
    if (!frame || address === (frame.dataset.shown ?? frame.getAttribute("src"))) return;
    frame.dataset.shown = address;
    const response = await fetch(address);
    const page = await response.text();
    if (response.ok && frame.dataset.shown === address) frame.contentDocument.documentElement.innerHTML = page;
  });

  const lost = (is) => document.querySelectorAll("[data-lost]").forEach((e) => e.toggleAttribute("hidden", !is));
  document.addEventListener("htmx:error", () => lost(true));
  document.addEventListener("htmx:after:request", (event) => lost(event.detail.ctx.response.status >= 400));

  // What changes comes by itself while somebody looks. As long as it cannot, the page asks for it every few seconds, and
  // so finds out whether the server or the session has gone.
  const live = document.querySelector("[data-stream]");
  let stream;
  const streaming = () => stream?.readyState === EventSource.OPEN || live?.querySelector("[aria-busy]");
  const listen = () => {
    if (!live || document.hidden || (stream && stream.readyState !== EventSource.CLOSED)) return;
    stream = new EventSource(`${live.dataset.stream}?shown=${live.dataset.shown}`);
    stream.addEventListener("open", () => lost(false));
    stream.addEventListener("state", ({ data, lastEventId }) => {
      live.dataset.shown = lastEventId;
      htmx.swap({ text: data, sourceElement: live, target: live, swap: "innerMorph" });
    });
    stream.addEventListener("ended", () => location.reload());
    stream.addEventListener("error", () => { if (stream.readyState === EventSource.CLOSED) setTimeout(listen, 30_000); });
  };
  document.addEventListener("visibilitychange", () => (document.hidden ? stream?.close() : listen()));
  addEventListener("pagehide", () => stream?.close());
  addEventListener("pageshow", listen);

  if (navigator.clipboard) {
    for (const button of document.querySelectorAll("[data-copy]")) {
      const before = button.innerHTML;
      button.hidden = false;
      button.addEventListener("click", async () => {
        try {
          await navigator.clipboard.writeText(button.dataset.copy);
          button.textContent = "Copied";
        } catch {
          getSelection().selectAllChildren(button.previousElementSibling);
        }
        setTimeout(() => { button.innerHTML = before; }, 2000);
      });
    }
  }

  // A button that takes long says that it works, and works once.
  const busy = (button, is) => {
    if (is) button.dataset.words = button.textContent;
    button.textContent = is ? `${button.dataset.busy} …` : button.dataset.words;
    button.disabled = is;
    button.ariaBusy = is ? "true" : null;
  };
  const relax = () => document.querySelectorAll("[data-words][aria-busy]").forEach((button) => busy(button, false));
  addEventListener("pageshow", relax);

  // A file goes up as soon as it is chosen, or dropped anywhere on the page.
  const send = (form, button) => {
    const say = (words) => {
      form.querySelector("[role=alert]").textContent = words;
      relax();
      bar.parentElement.hidden = true;
    };
    const bar = form.querySelector("progress");
    const file = form.querySelector("[type=file]");
    if (file.files[0].size > Number(form.dataset.upload)) return say(form.dataset.tooLarge);
    const request = new XMLHttpRequest();
    request.open("POST", form.action);
    request.responseType = "document";
    request.upload.addEventListener("progress", ({ loaded, total }) => {
      bar.value = loaded / total;
      bar.nextElementSibling.textContent = `${Math.floor((100 * loaded) / total)} %`;
    });
    request.addEventListener("load", () => {
      const main = request.response?.querySelector("main");
      if (request.status < 400 || !main) return location.assign(request.responseURL);
      localize(main);
      document.querySelector("main").replaceWith(main);
      window.htmx?.process(main);
      (main.querySelector("[aria-invalid]") ?? main).focus();
    });
    request.addEventListener("error", () => say("The connection was lost. Choose the file again."));
    const body = new FormData(form);
    busy(button, true);
    bar.parentElement.hidden = false;
    request.send(body);
  };

  document.addEventListener("submit", (event) => {
    const form = event.target;
    const button = event.submitter ?? form.querySelector("[data-busy]");
    if (!button?.dataset.busy) return;
    if ("upload" in form.dataset) {
      event.preventDefault();
      if (!button.disabled) send(form, button);
    } else busy(button, true);
  });
  document.addEventListener("change", ({ target }) => {
    if (target.type === "file" && target.files.length > 0) target.form.requestSubmit();
  });
  for (const type of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(type, (event) => {
      const form = document.querySelector("form[data-upload]");
      if (!form || !event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      form.classList.toggle("over", type === "dragover");
      if (type !== "drop" || event.dataTransfer.files.length === 0) return;
      form.querySelector("[type=file]").files = event.dataTransfer.files;
      form.requestSubmit();
    });
  }

  // Rows of a list: "/" searches, j and k go from client to client, x selects, Enter opens, "?" tells of it.
  const rows = () => [...document.querySelectorAll("[data-rows] tbody tr")];
  const ticks = () => [...document.querySelectorAll("[data-rows] tbody [type=checkbox]")];
  const tally = () => {
    const ticked = ticks().filter((tick) => tick.checked).length;
    const place = document.querySelector("[data-ticked]");
    if (place) place.textContent = ticked ? `${ticked} selected` : "";
    const page = document.querySelector("[data-tick-page]");
    if (!page) return;
    page.hidden = false;
    page.checked = ticked > 0 && ticked === ticks().length;
  };
  tally();
  document.addEventListener("htmx:after:swap", tally);
  addEventListener("pageshow", tally);
  let last;
  document.addEventListener("click", ({ target, shiftKey }) => {
    if (target.matches("[data-close]")) target.closest("dialog").close();
    if (target.matches("[data-tick-page]")) for (const tick of ticks()) tick.checked = target.checked;
    const all = ticks();
    const [from, to] = [all.indexOf(last), all.indexOf(target)].sort((a, b) => a - b);
    if (all.includes(target)) {
      if (shiftKey && from >= 0) for (const tick of all.slice(from, to + 1)) tick.checked = target.checked;
      last = target;
    }
    tally();
  });
  document.addEventListener("keydown", (event) => {
    const { key, target } = event;
    const typing = target.matches("input:not([type=checkbox]), select, textarea, [contenteditable]");
    if (typing || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const list = rows();
    const at = list.findIndex((row) => row.contains(document.activeElement));
    const actions = {
      "/": () => document.querySelector("[role=search] [type=search]")?.focus(),
      "?": () => document.querySelector("#keys")?.showModal(),
      j: () => list[Math.min(at + 1, list.length - 1)]?.querySelector("th a").focus(),
      k: () => list[Math.max(at - 1, 0)]?.querySelector("th a").focus(),
      x: () => list[at]?.querySelector("[type=checkbox]")?.click(),
    };
    if (!Object.hasOwn(actions, key)) return;
    event.preventDefault();
    actions[key]();
  });

  document.querySelector("form[data-submit]")?.requestSubmit();
})();
