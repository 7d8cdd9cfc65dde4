// Names that screen readers need, and code that keyboards can scroll. The theme replaces pages without loading
// them anew, and says so by document$.
document$.subscribe(() => {
  document.querySelector(".md-search")?.setAttribute("aria-label", "Search");
  const wide = ".highlight-ipynb, .jp-OutputArea-output, .md-typeset__scrollwrap";
  for (const block of document.querySelectorAll(wide)) {
    block.setAttribute("tabindex", "0");
  }
});
