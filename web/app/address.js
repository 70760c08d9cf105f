/** What people paste for a model's address, made into what can be fetched. */

/** A host that runs on this machine, where HTTP is usual. */
const LOCAL = /^(localhost|127\.|\[::1\])/;

/**
 * An address that was copied without its scheme gets one, and the pages on which Hugging Face and GitHub show a file become the
 * file. Anything else, addresses relative to this page among it, stays as it is.
 * @param {string} text
 */
export function addressOf(text) {
  const bare = text.trim();
  const isHost = /^(localhost|\[[\da-f:]+\]|[\w-]+(\.[\w-]+)+)(:\d+)?\/./i.test(bare);
  const address = isHost ? `${LOCAL.test(bare) ? "http" : "https"}://${bare}` : bare;
  return address
    .replace(/^(https:\/\/(?:www\.)?huggingface\.co\/[^/]+\/[^/]+)\/blob\//, "$1/resolve/")
    .replace(/^https:\/\/(?:www\.)?github\.com\/([^/]+\/[^/]+)\/(?:blob|raw)\//, "https://raw.githubusercontent.com/$1/");
}
