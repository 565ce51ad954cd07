/** The short and the long form of tests: the long one is for the hours before a release. */

/** Whether the long form was requested. */
export const FULL = process.env.GROOVEWAY_TORTURE === "full";

/**
 * The number of runs of a property: all of them in the long form, and a fifth otherwise. Every run of the tests draws
 * other values, so that the short forms of a week cover more than one long form.
 */
export function runs(all: number): number {
  return FULL ? all : Math.ceil(all / 5);
}
