// Gradio calls every place for files and every picture of a gallery alike; here they get names that tell them apart.
() => {
  const label = (button) => button.closest(".block")?.querySelector("[data-testid=block-label]")?.textContent.trim() ?? "";
  const text = (button) => button.textContent.replace(/\s+/g, " ").trim();

  function name() {
    waiting = false;
    for (const button of document.querySelectorAll("button[aria-label^='Click to upload'], button[aria-label^='Thumbnail ']")) {
      const said = text(button);
      if (!said) continue;
      const where = button.matches(".thumbnail-item") ? "" : label(button);
      button.setAttribute("aria-label", where ? `${where}: ${said}` : said);
    }
  }

  let waiting = false;
  new MutationObserver(() => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(name);
  }).observe(document.body, { childList: true, subtree: true, attributeFilter: ["aria-label"] });
  name();
}
