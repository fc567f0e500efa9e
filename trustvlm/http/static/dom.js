// Elements without a framework. Text is always text: nothing that a user named is ever parsed as HTML.

/** An element. Properties: `class`, `on` ({event: listener}), `style` ({"--share": 0.5} or CSS properties), `data`,
 *  true/false for boolean attributes, anything else as an attribute; null and undefined leave it out.
 *  Children: nodes, strings, numbers, lists of them; null and false leave nothing. */
export function h(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, children);
}

/** The same in SVG. */
export function svg(tag, properties = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), properties, children);
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    else if (name === "style") for (const [key, one] of Object.entries(value)) element.style.setProperty(key, one);
    else if (name === "data") Object.assign(element.dataset, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  add(element, children);
  return element;
}

function add(element, children) {
  for (const child of children) {
    if (Array.isArray(child)) add(element, child);
    else if (child !== null && child !== undefined && child !== false) element.append(child);
  }
}

/** Put these children where the element's own were. */
export function put(element, ...children) {
  element.replaceChildren();
  add(element, children);
  return element;
}

let last = 0;

/** An id that nothing else on the page has, to tie labels and descriptions to what they belong to. */
export function freshId(name) {
  last += 1;
  return `${name}-${last}`;
}

/** A function that runs `work` once, `ms` after the last call. */
export function settled(work, ms = 200) {
  let timer;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...given), ms);
  };
}
