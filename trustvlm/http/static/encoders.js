// What a space's encoders can take, as their specs say.

const imageTower = (spec) => /^\s*(open_clip|timm):/.test(spec);

/** Whether photographs can become support images: the verifier has an image tower. */
export const takesImages = (space) => imageTower(space.verifier === "same" ? space.classifier : space.verifier);

/** Whether photographs can be scored: both encoders have one. */
export const scoresImages = (space) => imageTower(space.classifier) && takesImages(space);

/** Whether a label's name is enough: the classifier has a text tower. */
export const takesNames = (space) => /^\s*open_clip:/.test(space.classifier);
