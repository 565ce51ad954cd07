/**
 * The error of the command.
 *
 * @module
 */
import type { ErrorCode, ExitName } from "./exit-codes.ts";

/** An error that the user can fix. Its message is printed as one line; the README lists its code. */
export class CommandError extends Error {
  readonly code: ErrorCode;
  /** How the command ends, if not as exit-codes.ts says for the code. */
  readonly ending: ExitName | undefined;

  constructor(code: ErrorCode, message: string, ending?: ExitName) {
    super(message);
    this.name = "CommandError";
    this.code = code;
    this.ending = ending;
  }
}
