/** Small helpers to build and find elements. */

/**
 * The element with an id; throws when the page lacks it or it is of another type, which is a mistake in index.html.
 * @template {HTMLElement} T
 * @param {string} id
 * @param {new (...args: any[]) => T} type
 * @returns {T}
 */
export function byId(id, type) {
  const element = document.getElementById(id);
  if (!(element instanceof type)) throw new Error(`index.html has no ${type.name} with the id ${id}`);
  return element;
}

/**
 * A new element. Properties named `on…` become listeners, `class`, `for`, `role`, `aria-…` and `data-…` attributes,
 * all others are set as properties; `style` takes an object of custom properties.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, any>} [properties]
 * @param {...(Node | string | null | undefined | false)} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style")
      for (const [key, text] of Object.entries(value)) element.style.setProperty(key, String(text));
    else if (/^(class|for|role|aria-|data-|list$|scope$)/.test(name))
      element.setAttribute(name, value === true ? "true" : String(value));
    else Object.assign(element, { [name]: value });
  }
  for (const child of children)
    if (child !== null && child !== undefined && child !== false) element.append(child);
  return element;
}

/**
 * Disable a button for as long as its work lasts. A disabled button loses the focus; it gets it back, unless the person went
 * elsewhere meanwhile.
 * @param {HTMLButtonElement} button
 * @param {boolean} disabled
 */
export function setDisabled(button, disabled) {
  if (button.disabled === disabled) return;
  if (disabled) button.toggleAttribute("data-focused", document.activeElement === button);
  button.disabled = disabled;
  if (disabled || !button.hasAttribute("data-focused")) return;
  if (document.activeElement === document.body) button.focus({ preventScroll: true });
  button.removeAttribute("data-focused");
}

/**
 * Offer a file to the person.
 * @param {string} name
 * @param {BlobPart[]} parts
 * @param {string} type
 */
export function download(name, parts, type) {
  const url = URL.createObjectURL(new Blob(parts, { type }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** Let the browser handle events and paint before the next piece of a longer computation. */
export function breathe() {
  return new Promise((resolve) => setTimeout(resolve, 0));
}
