/**
 * What published models have beside them, as Hugging Face lays it out: a tokeniser (tokenizer.json, tokenizer_config.json) and
 * the names of classes (`id2label` in config.json). Fetched when first asked for; a model without them loses nothing. Where the
 * site knows what lies beside a model, nothing else is asked for: each vain request would be an error in the console.
 */

/**
 * The part of @huggingface/tokenizers that the page uses.
 * @typedef {{
 *   encode: (text: string) => { ids: number[] },
 *   decode: (ids: number[]) => string,
 *   token_to_id: (token: string) => number | undefined,
 *   id_to_token: (id: number) => string | undefined,
 *   get_vocab: () => Map<string, number>,
 * }} Tokenizer
 */

/** @typedef {{ tokenizer: Tokenizer, size: number, pad: number, mask: number | null }} Vocabulary with the ids of special tokens */

export class Companions {
  /** @type {Promise<Vocabulary | null> | null} */
  #vocabulary = null;
  /** @type {Promise<string[] | null> | null} */
  #labels = null;
  /** The tokeniser, once something has asked for it and it is there. @type {Vocabulary | null} */
  known = null;

  /**
   * @param {string | File} source of the model
   * @param {File[]} files chosen with it
   * @param {() => string[] | null} [listed] names of all JSON files beside the model; null where nobody knows
   */
  constructor(source, files, listed = () => null) {
    this.source = source;
    this.files = files;
    this.listed = listed;
  }

  /**
   * The tokeniser beside the model; null where there is none.
   * @throws {Error} when it is there and cannot be used
   */
  vocabulary() {
    this.#vocabulary ??= this.#find();
    return this.#vocabulary;
  }

  /**
   * Take the tokeniser from a file from now on.
   * @param {File} file tokenizer.json
   */
  takeTokenizer(file) {
    this.#vocabulary = readJson(file).then((json) => this.#make(json, {}));
    this.#vocabulary.catch(() => (this.#vocabulary = null));
  }

  /**
   * What the elements of a row of scores stand for: classes of the model, or tokens once its tokeniser is in use.
   * @param {number} width of the row
   * @returns {Promise<((index: number) => string) | null>}
   */
  async names(width) {
    const labels = await this.#classes();
    if (labels?.length === width) return (index) => labels[index] ?? "";
    // Vocabularies are often padded to a multiple of something.
    if (!this.known || width < this.known.size || width > this.known.size + 1024) return null;
    const { tokenizer } = this.known;
    return (index) => tokenizer.decode([index]) || (tokenizer.id_to_token(index) ?? "");
  }

  /** @returns {Promise<string[] | null>} */
  #classes() {
    this.#labels ??= this.#read("config.json").then(
      (config) => {
        const names = config?.["id2label"];
        return names && typeof names === "object" ? Object.values(names).map(String) : null;
      },
      () => null, // A file that is no JSON names nothing.
    );
    return this.#labels;
  }

  async #find() {
    const json = await this.#read("tokenizer.json");
    return json && this.#make(json, (await this.#read("tokenizer_config.json")) ?? {});
  }

  /**
   * @param {Record<string, any>} json
   * @param {Record<string, any>} config
   * @returns {Promise<Vocabulary>}
   */
  async #make(json, config) {
    if (!json["model"]) throw new Error("This is no tokenizer.json: it has no “model”.");
    const { Tokenizer } = await import(new URL("../../vendor/tokenizers.min.js", import.meta.url).href);
    /** @type {Tokenizer} */
    const tokenizer = new Tokenizer(json, config);
    const idOf = (/** @type {(string | undefined)[]} */ names) =>
      names.map((name) => name && tokenizer.token_to_id(name)).find((id) => typeof id === "number");
    const special = (/** @type {string} */ key) => config[key]?.content ?? config[key];
    this.known = {
      tokenizer,
      size: tokenizer.get_vocab().size,
      pad: json["padding"]?.["pad_id"] ?? idOf([special("pad_token"), "[PAD]", "<pad>"]) ?? 0,
      mask: idOf([special("mask_token"), "[MASK]", "<mask>"]) ?? null,
    };
    return this.known;
  }

  /**
   * A JSON file among the chosen ones, or beside the model's address, or a folder above it (models lie in `onnx/` there).
   * @param {string} name
   * @returns {Promise<Record<string, any> | null>}
   */
  async #read(name) {
    if (typeof this.source !== "string") {
      const file = this.files.find((each) => each.name === name);
      return file ? readJson(file) : null;
    }
    const address = new URL(this.source, location.href);
    if (!address.protocol.startsWith("http") || this.listed()?.includes(name) === false) return null;
    const folders = /\/onnx\/[^/]*$/.test(address.pathname) ? ["../", "./"] : ["./"];
    for (const folder of folders) {
      const beside = new URL(folder + name, address);
      beside.search = address.search;
      try {
        const response = await fetch(beside);
        if (response.ok) return await response.json();
      } catch {
        // Nothing answers there, or something that is not JSON: as if there were no such file.
      }
    }
    return null;
  }
}

/**
 * @param {File} file
 * @returns {Promise<Record<string, any>>}
 */
async function readJson(file) {
  try {
    return JSON.parse(await file.text());
  } catch {
    throw new Error(`${file.name} is not a JSON file.`);
  }
}
