// A folder of labelled images, chosen or dropped: one sub-folder a label, as `trustvlm evaluate` takes it.

/** [{file, folder}] of the images right inside the sub-folders of what an <input webkitdirectory> chose. */
export function chosenFolder(files) {
  const found = [];
  for (const file of files) {
    const parts = file.webkitRelativePath.split("/");
    if (parts.length === 3) found.push({ file, folder: parts[1] });
  }
  return sorted(found);
}

/** The same of a drop: of one folder with sub-folders, or of several folders that are the labels themselves. */
export async function droppedFolders(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter((entry) => entry?.isDirectory);
  const inside = await Promise.all(entries.map(children));
  const nested = inside.flat().some((entry) => entry.isDirectory);
  const labels = nested ? inside.flat().filter((entry) => entry.isDirectory) : entries;
  const found = [];
  for (const folder of labels) {
    for (const entry of await children(folder)) if (entry.isFile) found.push({ file: await fileOf(entry), folder: folder.name });
  }
  return sorted(found);
}

const sorted = (found) => found.filter(({ file, folder }) => isImage(file) && !folder.startsWith("."))
  .sort((one, other) => (one.folder + "/" + one.file.name < other.folder + "/" + other.file.name ? -1 : 1));

const isImage = (file) => file.type.startsWith("image/") && !file.name.startsWith(".");

const fileOf = (entry) => new Promise((resolve, reject) => entry.file(resolve, reject));

/** All entries of a folder: readers hand out a hundred at a time. */
async function children(folder) {
  const reader = folder.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return found;
    found.push(...some);
  }
}

/** Up to `most` of them drawn at random, in their old order; all of them where they are no more. */
export function drawn(images, most) {
  if (images.length <= most) return images;
  const places = images.map((_, place) => place);
  for (let i = 0; i < most; i += 1) {
    const other = i + Math.floor(Math.random() * (places.length - i));
    [places[i], places[other]] = [places[other], places[i]];
  }
  return places.slice(0, most).sort((one, other) => one - other).map((place) => images[place]);
}
