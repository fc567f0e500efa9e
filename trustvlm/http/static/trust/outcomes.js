// What an evaluation says at a threshold. A position is how many of a rule's distinct thresholds are passed: 0 accepts nothing,
// the last one everything. Counts and bounds are the service's own.

const NOTHING = { threshold: null, accepted: 0, errors: 0, risk_bound: 1 };

/** A rule of an evaluation, with its positions. */
export function ruleView(evaluation, name) {
  const rule = evaluation.rules.find((one) => one.rule === name);
  const trust = rule.items.map((item) => item.trust ?? -Infinity);
  return {
    rule, evaluation, trust, last: rule.thresholds.length,
    at: (position) => (position ? rule.thresholds[position - 1] : NOTHING),
    coverage: (position) => (position ? rule.thresholds[position - 1].accepted / evaluation.images : 0),
  };
}

/** The position that accepts what this threshold does. */
export function positionOf(view, threshold) {
  if (threshold === null || threshold === undefined) return 0;
  return view.rule.thresholds.filter((one) => (one.threshold ?? -Infinity) >= threshold).length;
}

/** The position whose coverage is nearest to a share of the images. */
export function nearest(view, coverage) {
  let [low, high] = [0, view.last];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (view.coverage(middle) < coverage) low = middle + 1; else high = middle;
  }
  return low > 0 && coverage - view.coverage(low - 1) < view.coverage(low) - coverage ? low - 1 : low;
}

/** The loosest position whose observed risk is no more than this. */
export function loosest(view, risk) {
  for (let position = view.last; position > 0; position -= 1) {
    const { accepted, errors } = view.at(position);
    if (errors <= risk * accepted) return position;
  }
  return 0;
}

/** The places of the items that are accepted at one of two positions only. */
export function between(view, one, other) {
  const [strict, loose] = [Math.min(one, other), Math.max(one, other)];
  if (strict === loose) return [];
  const floor = view.at(loose).threshold ?? -Infinity;
  const ceiling = strict ? view.at(strict).threshold ?? -Infinity : Infinity;
  return view.trust.flatMap((value, place) => (value >= floor && value < ceiling ? [place] : []));
}

/** Whether a calibration scores as this rule of the evaluation does, so that its threshold lies on the rule's curve. */
export function sameRule(rule, calibration) {
  if (!calibration || calibration.rule !== rule.rule) return false;
  const names = Object.keys(rule.params);
  return names.length === Object.keys(calibration.params).length && names.every((name) => rule.params[name] === calibration.params[name]);
}

/** The probability of being right that a calibration gives a trust: between its knots a straight line, beyond them constant. */
export function probabilityOf({ knots }, trust) {
  const place = knots.findIndex(([x]) => x >= trust);
  if (place <= 0) return (place ? knots.at(-1) : knots[0])?.[1] ?? null;
  const [[x0, y0], [x1, y1]] = [knots[place - 1], knots[place]];
  return y0 + ((trust - x0) / (x1 - x0)) * (y1 - y0);
}
