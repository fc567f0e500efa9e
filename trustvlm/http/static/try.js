import { h, put } from "./dom.js";

export const title = "Try";

export async function show(root, { space }) {
  put(root, h("h1", {}, "Try"), h("p", {}, space.name));
}
