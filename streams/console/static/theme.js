// Before the page is drawn, so that it does not flash: the theme that this browser has chosen.
"use strict";
try {
  const chosen = localStorage.getItem("tideline-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch { /* storage is off: the system's theme */ }
