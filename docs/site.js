// Browsers break lines after hyphens, which tears `--flag` apart: each short word of code stays whole.
for (const code of document.querySelectorAll(".md-typeset :is(p, li, td) code, .language-bash code")) {
  const walker = document.createTreeWalker(code, NodeFilter.SHOW_TEXT);
  const texts = [];
  while (walker.nextNode()) texts.push(walker.currentNode);
  for (const text of texts) {
    if (!text.data.includes("-")) continue;
    const parts = text.data.split(/(\s+)/).map((part) => {
      if (!part.includes("-") || part.length > 40) return document.createTextNode(part);
      const span = document.createElement("span");
      span.className = "whole";
      span.textContent = part;
      return span;
    });
    text.replaceWith(...parts);
  }
}
