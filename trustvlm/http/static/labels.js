import { h, put } from "./dom.js";

export const title = "Labels";

export async function show(root, { space }) {
  put(root, h("h1", {}, "Labels"), h("p", {}, space.name));
}
