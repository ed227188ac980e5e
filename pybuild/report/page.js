// Steps that a link leads to are opened; one button opens or closes them all.
(() => {
  const steps = () => [...document.querySelectorAll("details.step")];
  const follow = () => {
    const step = document.getElementById(location.hash.slice(1));
    if (step instanceof HTMLDetailsElement) {
      step.open = true;
      step.scrollIntoView({ block: "start" });
    }
  };
  addEventListener("hashchange", follow);
  addEventListener("click", (event) => {
    const link = event.target instanceof Element && event.target.closest('a[href^="#step-"]');
    if (link && link.getAttribute("href") === location.hash) follow();
  });
  const button = document.getElementById("all");
  button.hidden = false;
  button.addEventListener("click", () => {
    const open = steps().some((step) => !step.open);
    for (const step of steps()) step.open = open;
    button.textContent = open ? "Close all" : "Open all";
  });
  addEventListener("beforeprint", () => steps().forEach((step) => (step.open = true)));
  // Where the graph is wider than its window its middle is seen first.
  for (const box of document.querySelectorAll(".scroll")) {
    box.scrollLeft = (box.scrollWidth - box.clientWidth) / 2;
  }
  follow();
})();
