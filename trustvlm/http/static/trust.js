import { h, put } from "./dom.js";

export const title = "Trust";

export async function show(root, { space }) {
  put(root, h("h1", {}, "Trust"), h("p", {}, space.name));
}
