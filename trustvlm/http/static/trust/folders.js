// A folder of labelled images, chosen or dropped: one sub-folder a label, as `trustvlm evaluate` takes it (docs/folders.md).

// What systems and programs make beside images: SYSTEM_NAMES of trustvlm/reading/images.py, which a test compares.
const SYSTEM = [
  "@eaDir", "@Recycle", "@Recently-Snapshot", "@__thumb", "@tmp", "@Syno*", "#recycle", "#snapshot", "~snapshot",
  "$RECYCLE.BIN", "RECYCLE.BIN", "RECYCLER", "RECYCLED", "System Volume Information", "FOUND.[0-9][0-9][0-9]",
  "Thumbs.db", "ehthumbs.db", "desktop.ini", "__MACOSX", "Network Trash Folder", "Temporary Items",
  "TheVolumeSettingsFolder", "Icon\r", "iPod Photo Cache", "lost+found", "__pycache__", "CVS", "*.lrdata",
  "*.lrcat-data", "*.photoslibrary", "*.aplibrary", "*.cocatalog", "CaptureOne"
];
const PART = "(train|training|trn|test|testing|tst|val|valid|validation|validate|dev|eval|evaluation|holdout|held[-_ ]?out)([-_ ]?(set|split|data|images|imgs|\\d+))*";
const [isPart, mayBePart] = [new RegExp(`^${PART}$`, "i"), new RegExp(`^\\w+[-_ ]${PART}$`, "i")];
const system = new RegExp(`^(${SYSTEM.map((name) => name.replace(/[.$+()|\\^{}]/g, "\\$&").replaceAll("*", ".*")).join("|")})$`, "i");
const suffixes = /\.(jpe?g|jpe|jfif|png|webp|gif|bmp|dib|tiff?|p[pgbn]m|hei[cf]|avif)$/i;

/** What an <input webkitdirectory> chose: {images: [{file, folder}], leftOut: number of files, parts: names of a data set's parts}. */
export const chosenFolder = (files) => labelled([...files].map((file) => ({ file, path: file.webkitRelativePath.split("/").slice(1) })));

/** The same of a drop: of one folder with sub-folders, or of folders that are the labels themselves. */
export async function droppedFolders(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter((entry) => entry?.isDirectory);
  const found = [];
  for (const entry of entries) await collect(entry, [entry.name], found);
  const above = entries.length === 1 && found.some(({ path }) => path.length > 2);
  return labelled(above ? found.map(({ file, path }) => ({ file, path: path.slice(1) })) : found);
}

function labelled(files) {
  const images = files.filter(({ file, path }) => path.length > 1 && isImage(file) && !path.some((name) => name.startsWith(".") || system.test(name)))
    .map(({ file, path }) => ({ file, folder: path[0], deep: path.length > 2, key: path.join("/") }))
    .sort((one, other) => (one.key < other.key ? -1 : 1));
  return { images, leftOut: files.length - images.length, parts: partsOf(images) };
}

/** The folders that are parts of a data set; a train among other labels is one of them. */
function partsOf(images) {
  const deep = new Map();
  for (const image of images) deep.set(image.folder, (deep.get(image.folder) ?? 0) + (image.deep ? 1 : -1));
  const names = [...deep.keys()];
  const named = names.filter((name) => isPart.test(name));
  const divided = names.filter((name) => (isPart.test(name) || mayBePart.test(name)) && deep.get(name) > 0);
  return named.length === names.length || divided.length ? [...new Set([...named, ...divided])] : [];
}

const isImage = (file) => file.type.startsWith("image/") || suffixes.test(file.name);

const fileOf = (entry) => new Promise((resolve, reject) => entry.file(resolve, reject));

/** The files below a folder, each with the names of the folders that lead to it. */
async function collect(folder, path, found) {
  for (const entry of await children(folder)) {
    if (entry.isFile) found.push({ file: await fileOf(entry), path: [...path, entry.name] });
    else await collect(entry, [...path, entry.name], found);
  }
}

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
