// A job from its beginning to its end, which a person may stop.

import { jobEnd, may, post } from "./api.js";

/** Begin a job with a POST and wait for what it finds. `told(job)` hears of its progress. When `signal` aborts, the service is
 *  asked to stop it, where the key may; the page waits for it no longer. */
export async function runJob(where, json, { told = () => {}, signal }) {
  const job = await post(where, { json, signal });
  try {
    return await jobEnd(job, told, signal);
  } catch (error) {
    if (error.name === "AbortError" && may("write")) post(`v1/jobs/${job.id}/cancel`).catch(() => {}); // it may have ended meanwhile
    throw error;
  }
}
