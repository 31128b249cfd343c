// Wide tables scroll within the page; with this, the keyboard can scroll them too.
addEventListener("load", () => {
  for (const box of document.querySelectorAll(".md-typeset__scrollwrap")) box.tabIndex = 0;
});
