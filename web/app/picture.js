/** A picture as a model's input: scaled to cover the input's height and width, then normalised. */

import { fill } from "./fills.js";
import { kindOf } from "./tensors.js";

/** @typedef {import("./tensors.js").Tensor} Tensor */

/**
 * Where the channels are, when the shape can hold a picture.
 * @typedef {{ order: "NCHW" | "NHWC", channels: number, height: number, width: number }} PictureLayout
 */

/** Per-channel mean and deviation that trained models commonly expect, of values between 0 and 1. */
export const NORMALISATIONS = {
  imagenet: {
    title: "ImageNet's",
    mean: [0.485, 0.456, 0.406],
    std: [0.229, 0.224, 0.225],
  },
  half: { title: "−1 to 1", mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5] },
  unit: { title: "0 to 1", mean: [0, 0, 0], std: [1, 1, 1] },
  byte: { title: "0 to 255", mean: [0, 0, 0], std: [1 / 255, 1 / 255, 1 / 255] },
};

/**
 * @param {(number | string)[]} shape declared
 * @param {number[]} dims now
 * @returns {PictureLayout | null}
 */
export function pictureLayout(shape, dims) {
  if (dims.length !== 4) return null;
  const [, second = 0, third = 0, last = 0] = dims;
  const isChannels = (/** @type {number} */ size) => size === 1 || size === 3;
  if (isChannels(second) && typeof shape[1] === "number")
    return { order: "NCHW", channels: second, height: third, width: last };
  if (isChannels(last)) return { order: "NHWC", channels: last, height: second, width: third };
  return isChannels(second) ? { order: "NCHW", channels: second, height: third, width: last } : null;
}

/**
 * @param {Blob} file
 * @param {string} type
 * @param {number[]} dims the batch is filled with copies
 * @param {PictureLayout} layout
 * @param {keyof typeof NORMALISATIONS} normalisation applied to floating-point inputs; integers get bytes
 * @returns {Promise<Tensor>}
 */
export async function drawPicture(file, type, dims, layout, normalisation) {
  const { order, channels, height, width } = layout;
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    throw new Error("The browser cannot read this file as a picture.");
  }
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error("The browser gives no canvas to draw the picture on.");
  context.imageSmoothingQuality = "high";
  const scale = Math.max(width / bitmap.width, height / bitmap.height);
  const [w, h] = [bitmap.width * scale, bitmap.height * scale];
  context.drawImage(bitmap, (width - w) / 2, (height - h) / 2, w, h);
  bitmap.close();
  const pixels = context.getImageData(0, 0, width, height).data;
  const { mean, std } = kindOf(type) === "float" ? NORMALISATIONS[normalisation] : NORMALISATIONS.byte;
  const plane = height * width;
  return fill(type, dims, (index) => {
    const place = index % (plane * channels);
    const channel = order === "NCHW" ? Math.floor(place / plane) : place % channels;
    const at = 4 * (order === "NCHW" ? place % plane : Math.floor(place / channels));
    const byte = channels === 1 ? luminance(pixels, at) : (pixels[at + channel] ?? 0);
    return (byte / 255 - (mean[channel] ?? 0)) / (std[channel] ?? 1);
  });
}

/**
 * Rec. 601 luma of an RGBA pixel.
 * @param {Uint8ClampedArray} pixels
 * @param {number} at
 */
function luminance(pixels, at) {
  return 0.299 * (pixels[at] ?? 0) + 0.587 * (pixels[at + 1] ?? 0) + 0.114 * (pixels[at + 2] ?? 0);
}
