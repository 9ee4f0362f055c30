// Draws the pictures of a page, in the colours of the theme that it has been loaded with.
const isDark = ["navy", "coal", "ayu"].some((name) => document.documentElement.classList.contains(name));
mermaid.initialize({ startOnLoad: true, securityLevel: "strict", theme: isDark ? "dark" : "default" });
