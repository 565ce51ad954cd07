/**
 * The version of stored data. Each store records it beside its data, migrates data of earlier releases, and refuses
 * data of later ones: guessing at their format could lose it.
 *
 * @module
 */

/** The stored data has a version that this release does not know. */
class NewerSchemaError extends Error {
  readonly code = "NewerSchema";

  /**
   * @param what what was opened
   * @param found its version
   * @param known the newest version that this release knows
   */
  constructor(what: string, found: string, known: number) {
    super(
      `NewerSchema: ${what} has version ${found}, but this release knows only ${known} and older: run a newer release`,
    );
    this.name = "NewerSchemaError";
  }
}

/** Whether an error says that stored data is of a later release. An RPC passes on only its message. */
export function isNewerSchema(error: unknown): boolean {
  return error instanceof Error && error.message.startsWith("NewerSchema:");
}

/**
 * Checks the stored version and returns it. The first release stored none, which is version 1.
 *
 * @throws NewerSchemaError
 */
export function storedVersion(what: string, written: string | undefined, known: number): number {
  if (written === undefined) return 1;
  const version = Number(written);
  if (Number.isInteger(version) && version >= 1 && version <= known) return version;
  throw new NewerSchemaError(what, written, known);
}
