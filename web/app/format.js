/** Numbers and quantities as people read them. */

/**
 * Three significant digits, without an exponent in the usual range.
 * @param {number} value
 */
export function number(value) {
  if (!Number.isFinite(value)) return String(value);
  if (Number.isInteger(value) && Math.abs(value) < 1e6) return String(value);
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-3) return value.toExponential(2);
  return String(Number(value.toPrecision(4)));
}

/** @param {number | null | undefined} value in milliseconds */
export function milliseconds(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value > 0 && value < 0.0005) return "< 0.001 ms";
  if (value >= 9999.5) return `${(value / 1000).toFixed(1)} s`;
  const digits = value >= 99.95 ? 0 : value >= 9.995 ? 1 : value >= 0.9995 ? 2 : 3;
  return `${value.toFixed(digits)} ms`;
}

/** @param {number} value in seconds */
export function seconds(value) {
  if (value < 0.95) return "less than a second";
  if (value < 90) return `${Math.round(value)} s`;
  return `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
}

/** @param {number} value in bytes */
export function bytes(value) {
  if (value < 1000) return `${value} bytes`;
  if (value < 999_500) return `${(value / 1e3).toFixed(0)} kB`;
  if (value < 999_500_000) return `${(value / 1e6).toFixed(value < 9.95e6 ? 1 : 0)} MB`;
  return `${(value / 1e9).toFixed(2)} GB`;
}

/** @param {number} value between 0 and 1 */
export function percent(value) {
  if (value > 0 && value < 0.0005) return "< 0.1 %";
  return `${(100 * value).toFixed(value < 0.0995 && value > 0 ? 1 : 0)} %`;
}

/** @param {number | null | undefined} value how many times faster */
export function times(value) {
  return value === null || value === undefined || !Number.isFinite(value) ? "–" : `${value.toFixed(2)}×`;
}

/** Whether `times` shows more than 1.00. @param {number | null | undefined} value how many times faster */
export function isFaster(value) {
  return value !== null && value !== undefined && value >= 1.005;
}

/** @param {number | null} value in GFLOP/s */
export function rate(value) {
  if (value === null) return "–";
  return value < 0.1 ? "< 0.1" : value.toFixed(value < 9.95 ? 1 : 0);
}

/** @param {readonly (number | string)[]} shape */
export function shape(shape) {
  return shape.length === 0 ? "scalar" : shape.join(" × ");
}

/**
 * @param {number} count
 * @param {string} noun
 */
export function plural(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}
