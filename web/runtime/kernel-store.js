/**
 * What tuning found on this device, kept in the browser from one visit to the next: an IndexedDB of JSON records by key.
 * Where the browser offers none (a private window, storage refused or full) nothing is remembered, which is no error.
 */

const DATABASE = "nnjit";
const STORE = "kernels";

/** @returns {Promise<IDBDatabase>} */
function open() {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(DATABASE, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE);
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
    request.onblocked = () => reject(new Error("the database is in use by an older page"));
  });
}

/**
 * @template T
 * @param {IDBTransactionMode} mode
 * @param {(store: IDBObjectStore) => IDBRequest<T>} ask
 * @returns {Promise<T>}
 */
async function transact(mode, ask) {
  const database = await open();
  try {
    return await new Promise((resolve, reject) => {
      const transaction = database.transaction(STORE, mode);
      const request = ask(transaction.objectStore(STORE));
      transaction.oncomplete = () => resolve(request.result);
      transaction.onerror = () => reject(transaction.error);
      transaction.onabort = () => reject(transaction.error);
    });
  } finally {
    database.close();
  }
}

/**
 * The record under a key.
 * @param {string} key
 * @returns {Promise<string | null>} JSON, or null when there is none
 */
export async function recall(key) {
  try {
    return (await transact("readonly", (store) => store.get(key))) ?? null;
  } catch {
    return null;
  }
}

/**
 * Keep a record under a key, in place of an older one.
 * @param {string} key
 * @param {string} json
 */
export async function remember(key, json) {
  try {
    await transact("readwrite", (store) => store.put(json, key));
  } catch {
    // Not remembered: the next visit measures again.
  }
}
