// Image files on their way to the service, some at a time: a request has an end, a folder of photographs has none.

const MOST_FILES = 16;
const MOST_BYTES = 12 * 2 ** 20;

/** Files in groups that are small enough for a request each; a file that is not small enough is alone in its group. */
export function* groups(files) {
  let group = [];
  let bytes = 0;
  for (const file of files) {
    if (group.length && (group.length === MOST_FILES || bytes + file.size > MOST_BYTES)) {
      yield group;
      [group, bytes] = [[], 0];
    }
    group.push(file);
    bytes += file.size;
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

