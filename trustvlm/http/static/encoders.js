// What a space's encoders can take, as their specs say.

const imageTower = (spec) => /^\s*(open_clip|timm|transformers):/.test(spec);

/** Whether another classifier gives the probabilities of the labels with each query. */
export const isExternal = (space) => space.classifier.startsWith("external:");

/** Whether photographs can become support images: the verifier has an image tower. */
export const takesImages = (space) => imageTower(space.verifier === "same" ? space.classifier : space.verifier);

/** Whether photographs can be searched with: no encoder of the space needs an embedding of them. */
export const searchesImages = (space) => takesImages(space) && (imageTower(space.classifier) || isExternal(space));

/** Whether photographs alone can be scored: both encoders have an image tower. */
export const scoresImages = (space) => imageTower(space.classifier) && takesImages(space);

/** Whether the classifier reads texts: it has a text tower. */
export const readsTexts = (space) => /^\s*(open_clip|transformers):/.test(space.classifier);

/** Whether a label's name is enough: the classifier reads it, or its probabilities come with the queries. */
export const takesNames = (space) => readsTexts(space) || isExternal(space);
