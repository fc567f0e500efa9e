import { h, put } from "./dom.js";

export const title = "Search";

export async function show(root, { space }) {
  put(root, h("h1", {}, "Search"), h("p", {}, space.name));
}
