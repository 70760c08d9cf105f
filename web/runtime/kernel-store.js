/**
 * What tuning found on this device and what was imported, kept in the browser from one visit to the next: an IndexedDB
 * of JSON texts under keys that are lists of strings. Where the browser offers none (a private window, storage refused
 * or full) nothing is remembered, which is no error. What the keys mean: nnjit/runtime/kernel_store.py.
 */

const DATABASE = "nnjit";
const STORE = "records";
const FORMAT = 2;

/** @returns {Promise<IDBDatabase>} */
function open() {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(DATABASE, FORMAT);
    request.onupgradeneeded = () => {
      const database = request.result;
      for (const name of database.objectStoreNames) database.deleteObjectStore(name);
      database.createObjectStore(STORE);
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
    request.onblocked = () => reject(new Error("the database is in use by an older page"));
  });
}

/**
 * Do something in one transaction: all of it or nothing.
 * @template T
 * @param {IDBTransactionMode} mode
 * @param {(store: IDBObjectStore) => () => T} ask gives what reads the result once the transaction is complete
 * @param {IDBTransactionDurability} [durability]
 * @returns {Promise<T>}
 */
async function transact(mode, ask, durability = "default") {
  const database = await open();
  try {
    return await new Promise((resolve, reject) => {
      const transaction = database.transaction(STORE, mode, { durability });
      const result = ask(transaction.objectStore(STORE));
      transaction.oncomplete = () => resolve(result());
      transaction.onerror = () => reject(transaction.error);
      transaction.onabort = () => reject(transaction.error);
    });
  } finally {
    database.close();
  }
}

/**
 * The records whose keys begin with the strings of `prefix`.
 * @param {...string} prefix
 * @returns {Promise<string>} JSON: [[key, text], …]
 */
export async function read(...prefix) {
  try {
    return await transact("readonly", (store) => {
      // An array sorts after every string: the range ends behind the last key with this beginning.
      const range = IDBKeyRange.bound(prefix, [...prefix, []]);
      const keys = store.getAllKeys(range);
      const values = store.getAll(range);
      return () => JSON.stringify(keys.result.map((key, i) => [key, values.result[i]]));
    });
  } catch {
    return "[]";
  }
}

/**
 * Keep records, in place of older ones under the same keys.
 * @param {string} entries JSON: [[key, text], …]
 * @param {IDBTransactionDurability} [durability] "strict": they outlive a crash of the machine
 * @returns {Promise<boolean>} whether they are kept
 */
export async function write(entries, durability) {
  try {
    await transact("readwrite", (store) => {
      for (const [key, text] of JSON.parse(entries)) store.put(text, key);
      return () => undefined;
    }, durability);
    return true;
  } catch {
    return false;
  }
}

/**
 * Forget one record.
 * @param {...string} key
 */
export async function remove(...key) {
  try {
    await transact("readwrite", (store) => {
      store.delete(key);
      return () => undefined;
    });
  } catch {
    // There is none, then.
  }
}
