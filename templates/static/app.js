// The pages work without this script. With it, times are in the reader's zone, usernames copy at a
// press, one-time links need no press, files drop anywhere and show how far they are, previews change
// in place, a button that works says so, and the console says when its numbers are old.
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

  // What comes in is made local before it is compared with what is there, so that nothing flickers.
  document.addEventListener("htmx:before:swap", (event) => {
    for (const task of event.detail.tasks) localize(task.fragment);
  });

  document.addEventListener("htmx:config:request", (event) => {
    const { sourceElement, sourceEvent, request } = event.detail.ctx;
    if (sourceEvent.type === "every" && document.hidden) event.preventDefault();
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

  document.querySelector("form[data-submit]")?.requestSubmit();
})();
