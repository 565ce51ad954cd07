/**
 * The version of what is stored. Each store writes it down beside its data, migrates what earlier releases have written,
 * and refuses what a later one has: to guess at it could lose it.
 *
 * @module
 */

/** What is stored has a version that this release does not know. */
export class NewerSchemaError extends Error {
  readonly code = "NewerSchema";

  /**
   * @param what was opened
   * @param found its version
   * @param known the newest that this release knows
   */
  constructor(what: string, found: string, known: number) {
    super(`NewerSchema: ${what} has version ${found}, and this release knows ${known} and older: run a newer one`);
    this.name = "NewerSchemaError";
  }
}

/**
 * The version that was written down: 1 is what the first release wrote, which named none.
 *
 * @throws NewerSchemaError
 */
export function storedVersion(what: string, written: string | undefined, known: number): number {
  if (written === undefined) return 1;
  const version = Number(written);
  if (Number.isInteger(version) && version >= 1 && version <= known) return version;
  throw new NewerSchemaError(what, written, known);
}
