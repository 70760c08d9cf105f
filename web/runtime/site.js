/** The parts of the site that workers start from: Python, the wheel, the kernels that it ships. */

import { NnjitError } from "./errors.js";

/** What their addresses in site.json are relative to. */
export const siteUrl = new URL("site.json", import.meta.url);

/**
 * Addresses of the site's parts; `generator` names the compiler's version.
 * @type {Promise<{pyodide: string, wheel: string, generator: string, kernels?: string}>}
 */
export const site = fetchOrThrow(siteUrl).then((response) => response.json());
site.catch(() => {});

/**
 * A part of the site.
 * @param {URL} url
 * @returns {Promise<Response>}
 * @throws {NnjitError} when it is missing
 */
export async function fetchOrThrow(url) {
  const response = await fetch(url);
  if (!response.ok) throw new NnjitError(`${url}: the server answered ${response.status}; the site is incomplete.`);
  return response;
}
