// Image files on their way to the service, some at a time: a request has an end, a folder of photographs has none.

const MOST_FILES = 16;
const MOST_BYTES = 12 * 2 ** 20;

/** Files, or what has a `size` of bytes, in groups that are small enough for a request each; one that is not is alone in its. */
export function* groups(items, size = (file) => file.size, most = MOST_FILES) {
  let group = [];
  let bytes = 0;
  for (const item of items) {
    if (group.length && (group.length === most || bytes + size(item) > MOST_BYTES)) {
      yield group;
      [group, bytes] = [[], 0];
    }
    group.push(item);
    bytes += size(item);
  }
  if (group.length) yield group;
}

/** A form with these images and fields ({name: value}; null ones are left out). */
export function formOf(files, fields = {}) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) if (value !== null && value !== "") form.append(name, value);
  for (const file of files) form.append("images", file, file.name);
  return form;
}

